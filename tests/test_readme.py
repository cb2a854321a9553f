import re
from pathlib import Path

import pandas as pd

from ihtjax import SweepConfig, load, sweep
from ihtjax.solvers.registry import solver_named

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_first_two_blocks_are_the_two_commands():
    first = re.findall(r"```(\w*)\n(.*?)```", README, re.S)[:2]
    assert [language for language, _ in first] == ["bash", "bash"]
    assert all(len(text.splitlines()) <= 2 for _, text in first)
    assert first[0][1].endswith("ihtjax sweep\n") and first[1][1].endswith("-m pytest\n")


def test_the_library_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = [block for block in blocks("python") if "solve(" in block]
    assert len([line for line in example.splitlines() if line]) <= 10
    exec(example, {})
    out = capsys.readouterr().out
    assert "True" in out and "-2." in out
    assert len(load("results/torch_linear")) == 800


def test_every_column_is_explained(small_run):
    section = README.split("## What the columns say")[1].split("\n\n")
    explained = set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in section[1].splitlines())))
    assert explained == set(pd.read_parquet(small_run / "trials").columns)
    assert set(pd.read_parquet(small_run / "curves").columns) <= set(re.findall(r"`(\w+)`", section[2]))


def test_the_solver_of_ones_own_runs_beside_iht(tmp_path):
    (example,) = [block for block in blocks("python") if "(Solver)" in block]
    exec(example, mine := {"__name__": "mine"})
    config = SweepConfig(levels=(3,), trials=4, steps=50, step_size=0.5, curve_points=0)
    run = sweep(config, tmp_path / "run", solver=[solver_named("iht"), mine["Momentum"](beta=0.8)])
    assert sorted(load(run).method.unique()) == ["gd", "iht", "momentum:beta=0.8"]

"""What somebody meets who uses the program for the first time, on a table of their own."""

import dataclasses
import html
import re
import shlex

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from conftest import Notes
from ihtjax import InputError, SweepConfig, build_atlas, load, sweep
from ihtjax.cli import commands
from ihtjax.paper import page
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import claims
from ihtjax.problems.table import load_table
from ihtjax.study.atlas import describe
from ihtjax.study.plots import draw_atlas
from ihtjax.study.summaries import render_gaps
from ihtjax.sweeps import progress
from ihtjax.sweeps.single import run_trial


def call(*argv):
    return CliRunner().invoke(commands.cli, [str(word) for word in argv])


@pytest.fixture(scope="module")
def own(tables, tmp_path_factory):
    """A run of another table than Iris, under a name that a shell would split."""
    data = tmp_path_factory.mktemp("my own") / "wine & co.csv"
    data.write_bytes(tables["wine"].read_bytes())
    config = SweepConfig(
        data=str(data),
        target="kind",
        levels=(2, 4),
        trials=4,
        steps=40,
        step_size=0.4,
        curve_points=0,
        audit=True,
        seed=9,
    )
    return sweep(config, tmp_path_factory.mktemp("runs") / "own", batch=16)


def test_the_report_ends_with_a_command_that_reproduces_a_row_of_the_run(own):
    text = html.unescape(page.render(Evidence(own), claims(own), []))
    program, *argv = shlex.split(re.search(r"ihtjax trial [^<]*", text)[0])
    seeds = {name: int(argv[argv.index(f"--{name}") + 1]) for name in ("s", "data-seed", "init-seed", "support-seed")}
    assert program == "ihtjax" and "--audit" in argv
    (row,) = load(own, s=seeds["s"], data_seed=seeds["data-seed"], method="iht").itertuples()
    assert (row.init_seed, row.support_seed) == (seeds["init-seed"], seeds["support-seed"])
    done = call(*argv)
    assert done.exit_code == 0 and f"training loss {row.train_loss:.6g} nats" in done.stdout
    assert f"margin of (8)                       {row.ht_margin:.3e}" in done.stdout


def test_a_report_compares_with_other_runs_of_the_same_data_alone(own, small_run):
    show = progress.Silent()
    with pytest.raises(InputError, match="others: .* is a run of other data, expected one of the data of "):
        page.judged(small_run, [own], show)
    with pytest.raises(InputError, match="others: .* is the run itself, expected another run of the same data"):
        page.judged(small_run, [small_run / ".." / small_run.name], show)


@pytest.mark.parametrize(
    ("standardize", "names"), [("train", "columns 'one', 'zero' are"), ("none", "column 'zero' is")]
)
def test_constant_columns_are_named_where_the_data_is(tables, tmp_path, standardize, names):
    frame = pd.read_csv(tables["wine"])[["alcohol", "ash", "kind"]].assign(one=0.1, zero=0)
    frame.to_csv(tmp_path / "a.csv", index=False)
    config = SweepConfig(
        data=str(tmp_path / "a.csv"), target="kind", levels=(15,), trials=2, steps=20, curve_points=0, dense=False,
        step_size=0.1, standardize=standardize,
    )  # fmt: skip
    sweep(config, tmp_path / "run", show=(notes := Notes()))
    assert notes.lines[1].startswith(f"note: {names} constant: ") and "never move, yet count among" in notes.lines[1]
    # It says the truth: these weights end where they began, all others don't.
    ends = run_trial(config, 15, 1, 2, 3).result
    W, W0 = (theta[:12].reshape(3, 4) for theta in (ends.theta, ends.theta0))
    still = [j for j in range(4) if np.allclose(W[:, j], W0[:, j], rtol=0, atol=1e-6)]
    assert still == ([2, 3] if standardize == "train" else [3])


def test_a_run_that_holds_more_than_was_asked_for_says_so(small, run):
    def said(**changed):
        sweep(dataclasses.replace(small, **changed), run, show=(notes := Notes()))
        return [line for line in notes.lines if "holds more" in line]

    assert said() == []
    whole = [f"{run} holds more: 20 trials, levels 3,7; all are kept"]
    assert said(trials=10) == whole and said(levels=(3,)) == whole and len(load(run)) == 60


def test_a_trial_says_at_which_tolerance_it_is_ht_stable():
    seeds = "--s 3 --data-seed 1 --init-seed 2 --support-seed 3 --steps 20 --n-monte 10 --curve-points 8".split()
    assert call("trial", *seeds, "--ht-tol", 10).stdout.endswith("HT-stable at ht_tol = 10: yes\n")
    assert call("trial", *seeds, "--ht-tol", 1e-9).stdout.endswith("HT-stable at ht_tol = 1e-09: no\n")


def test_verify_advises_on_what_is_there(run):
    (run / "trials" / "mine.txt").touch()
    assert call("verify", run).stderr == "move foreign files away\n"
    (run / "trials" / "mine.txt").unlink()
    next((run / "trials").glob("iht-*")).unlink()
    again = "ihtjax sweep, with the options that made the run, computes what is damaged or missing"
    assert call("verify", run).stderr == f"{again}\n"
    (run / "trials" / "mine.txt").touch()
    assert call("verify", run).stderr == f"{again}; move foreign files away\n"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("atlas --s 2 --data-seed 1", "--step-size: missing, expected a number, one gamma for all starts, such as a "),
        ("atlas --s 2 --data-seed 1 --step-size certified", "--step-size: got 'certified', expected a number, one ga"),
        ("atlas --s 2 --data-seed 1 --step-size 0.5 --csv no/a.csv", "--csv: cannot write no/a.csv; name a file in a"),
        ("atlas --s 2 --data-seed 1 --step-size 0.5 --csv RUN", "--csv: cannot write "),
        ("figures RUN --only fig09,fig99", "--only: got 'fig99', expected names among fig01, fig02, fig06, fig07"),
        ("figures RUN --only fig03", "--only: got 'fig03', which is schematic or a photograph in the paper, expected"),
    ],
)
def test_wrong_options_get_one_line_before_the_work(small_run, monkeypatch, capsys, argv, says):
    monkeypatch.setattr("ihtjax.study.atlas.run_starts", None)
    with pytest.raises(SystemExit):
        commands.main([str(small_run) if word == "RUN" else word for word in argv.split()])
    err = capsys.readouterr().err
    assert err.startswith(f"ihtjax: error: {says}") and err.count("\n") == 1 and "0.686" not in err


def test_the_help_of_atlas_says_that_it_needs_a_step_size():
    text = " ".join(call("atlas", "--help").stdout.split())
    assert "--step-size FLOAT one gamma for all starts [required]" in text


@pytest.mark.parametrize(("command", "estimates"), [("atlas", False), ("restarts", True)])
def test_commands_of_many_starts_offer_no_option_on_which_nothing_hangs(command, estimates):
    text = call(command, "--help").stdout
    assert "--stop-loss " in text and ("--n-monte " in text) == estimates
    assert not any(option in text for option in ("--audit", "--ht-tol", "--curve-points"))


SHARED = "--n-monte 10 --curve-points 8".split()  # as `small`
FEW_STARTS = "--data-seed 5 --starts 8 --steps 20 --step-size 0.5 --plot PLOT".split()


@pytest.mark.parametrize(
    "argv",
    [
        ["atlas", "--s", "2", *FEW_STARTS, "--csv", "CSV"],
        ["restarts", "--levels", "2", *FEW_STARTS],
        [*"trial --s 3 --data-seed 1 --init-seed 2 --support-seed 3 --steps 20".split(), *SHARED, "--plot", "PLOT"],
        "figures RUN --only fig01,fig09".split(),
    ],
)
def test_a_reader_that_goes_early_costs_no_file(run, tmp_path, monkeypatch, argv):
    def gone(text):
        raise BrokenPipeError

    monkeypatch.setattr(commands, "echo", gone)
    files = {"PLOT": tmp_path / "a.png", "CSV": tmp_path / "a.csv", "RUN": run}
    done = call(*[files.get(word, word) for word in argv])
    assert isinstance(done.exception, BrokenPipeError)
    wanted = [files[word] for word in argv if word in ("PLOT", "CSV")]
    wanted = wanted or [run / "figures" / f"{name}.png" for name in ("fig01", "fig09")]
    assert all(path.stat().st_size > 500 for path in wanted)


def test_the_atlas_adds_up_to_its_picture():
    config = SweepConfig(step_size=0.6, steps=50, curve_points=0)
    found = build_atlas(config, 4, 5, starts=40)
    text = describe(found, config)

    def number(line):
        return int(re.search(line.replace("N", r"([\d,]+)"), text)[1].replace(",", ""))

    four = ["N  with an HT", "N  with a minimiser that", "N  with a full", "N  without a minimiser"]
    counts = [number(line) for line in four]
    assert sum(counts) == number("N supports:") == 1365 and min(counts) > 0
    assert number("holds on N of") + number("does not on N") == counts[3]
    legend = [line.get_text() for line in draw_atlas(found, config).axes[0].get_legend().get_texts()]
    shown = [int(re.search(r"\(([\d,]+)\)", label)[1].replace(",", "")) for label in legend if "(" in label]
    assert sorted(shown) == sorted(counts)
    assert number("N  with fewer than 4 nonzero") + found.points.landings.sum() == number("N starts, which") == 40
    assert "ht_stable False: " in text and max(map(len, text.splitlines())) <= 80


def test_summary_says_which_triples_have_no_certificate(small, run):
    def last(*argv):
        return call(*argv).stdout.splitlines()[-1]

    assert "certificate" not in call("summary", run).stdout
    call("oracle", run, "--trials", 15, "--levels", 3, "--no-enumerate")
    assert last("summary", run) == f"20 triples have no certificate yet of some levels or solvers: ihtjax oracle {run}"
    call("oracle", run, "--no-enumerate")
    assert "no certificate yet" not in call("summary", run).stdout
    sweep(dataclasses.replace(small, trials=30), run)
    assert last("summary", run) == f"10 triples have no certificate yet: ihtjax oracle {run}"


def test_a_gap_below_1e_9_is_printed_as_zero(small_run):
    cells = dict.fromkeys("certified open refuted best_support within_0.001 within_0.01 within_0.1".split(), 0.5)
    cells |= {"attained": 1.0, "heads_for_stable": 1.0, "ht_stable": 1.0, "method": "iht", "s": 3, "trials": 2}
    row = cells | {"gap": 8.2e-14, "support_gap": -8.3e-16, "optimization_gap": 2.5e-9}
    assert render_gaps(pd.DataFrame([row])).splitlines()[-1].split()[1:4] == ["0", "0", "2.5e-09"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("--trials 1000", "trials: got 1000, expected a whole number from 1 to 20; extend the sweep first"),
        ("--levels 4", "levels: got 4, expected levels of this run, 3, 7, 15 (dense)"),
    ],
)
def test_the_oracle_says_what_the_run_holds(small_run, argv, says):
    assert str(call("oracle", small_run, *argv.split()).exception) == says


def test_reading_certificates_that_are_not_there_names_the_command(small_run):
    with pytest.raises(InputError, match=f"no finished certificates yet; go on with ihtjax oracle {small_run}$"):
        load(small_run, "certificates")


def test_a_missing_value_is_named_by_its_row_and_its_line(tables, tmp_path):
    rows = [*range(3), "", *range(6)]
    text = "\n".join(["a,kind", "", *(f'{a},"{"x" if i % 2 else "y"}"' for i, a in enumerate(rows))])
    (tmp_path / "a.csv").write_text(text)
    where = r"column 'a' has no value in data row 4 \(line 6 of the file\); fill or drop"
    with pytest.raises(InputError, match=where):
        load_table(str(tmp_path / "a.csv"), "kind")
    pd.read_csv(tmp_path / "a.csv").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column 'a' has no value in data row 4; fill or drop"):
        load_table(str(tmp_path / "a.parquet"), "kind")

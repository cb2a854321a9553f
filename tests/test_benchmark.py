import datetime
import json
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from ihtjax import SweepConfig
from ihtjax.cli.commands import main
from ihtjax.study import benchmark
from ihtjax.study.benchmark import bench, flop_per_lane_step, render
from ihtjax.sweeps.engine import make_problem


def test_bench_reports_rates_and_parts_that_add_up():
    found = bench(
        SweepConfig(levels=(3, 7), trials=500, steps=20, n_monte=10, curve_points=8), batches=(16, 256), repeats=2
    )
    json.dumps(found)
    assert [(row["batch"], row["s"]) for row in found["throughput"]] == [(16, 7), (256, 7), (256, 3)]
    for row in found["throughput"]:
        rate = row["lane_steps_per_second"]
        assert 0 < rate["low"] <= rate["median"] <= rate["high"]
    sweep = found["sweep"]
    assert sweep["lane_steps"] == 3 * 500 * 20
    parts = dict(sweep["seconds"])
    assert parts.pop("total") == pytest.approx(sum(parts.values()), abs=0.01)
    assert sum(sweep["share"].values()) == pytest.approx(1, abs=0.01)
    assert found["compile_seconds"] > 0.1 and found["peak_memory_bytes"] > 5e7
    text = render(found)
    assert "ns/lane-step" in text and "monte carlo" in text and "GFLOP/s" in text
    assert max(map(len, text.splitlines())) <= 100
    # What was timed stands beside what was made of it.
    for row in found["throughput"]:
        rates = [row["batch"] * found["steps_per_call"] * found["cores"] / seconds for seconds in row["seconds"]]
        assert len(rates) == 2
        assert row["lane_steps_per_second"]["median"] == pytest.approx(sum(rates) / 2, rel=1e-3)
        assert row["flop_per_second"] == pytest.approx(7200 * row["lane_steps_per_second"]["median"])
    timed = sweep["timed_seconds"]
    assert [len(seconds) for seconds in timed.values()] == [3, 1, 2, 2, 3]
    matmul = found["matmul"]
    assert matmul["flop_per_second"]["high"] == pytest.approx(
        2 * matmul["size"] ** 3 / min(matmul["seconds"]), rel=1e-3
    )
    # And what it was timed on, and with.
    assert found["cpu"] and found["device"] in text and found["cpu"] in text
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(found["date"])
    assert 0 <= age.total_seconds() < 600


def test_the_flop_of_a_step_are_those_of_its_matrix_products():
    """Against XLA's own count of the two products."""
    problem = make_problem(SweepConfig())
    X, R, W = (np.zeros(shape, np.float32) for shape in ((120, 5), (120, 3), (3, 5)))
    counted = jax.jit(lambda X, R, W: (X @ W.T, R.T @ X)).lower(X, R, W).compile().cost_analysis()
    counted = counted[0] if isinstance(counted, list) else counted
    assert flop_per_lane_step(problem) == counted["flops"] == 7200


def test_the_commit_is_that_of_the_checkout_and_of_no_other_repository(tmp_path, monkeypatch):
    here = Path(benchmark.__file__).parent
    head = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode == 0:
        assert benchmark.commit().removesuffix("-dirty") == head.stdout.strip()
    # Installed into an environment inside somebody's repository, which doesn't track it.
    for command in ("init", "-c user.name=a -c user.email=a@b commit --allow-empty -m first"):
        subprocess.run(["git", "-C", tmp_path, *command.split()], check=True, capture_output=True)
    copy = shutil.copy(benchmark.__file__, tmp_path / "benchmark.py")
    monkeypatch.setattr(benchmark, "__file__", str(copy))
    assert benchmark.commit() is None
    subprocess.run(["git", "-C", tmp_path, "add", "benchmark.py"], check=True)
    subprocess.run(
        ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "second"],
        check=True,
        capture_output=True,
    )
    assert len(benchmark.commit()) == 40
    (tmp_path / "benchmark.py").write_text("changed")
    assert benchmark.commit().endswith("-dirty")
    monkeypatch.setenv("PATH", "")
    assert benchmark.commit() is None


@pytest.mark.parametrize("argv", ["bench --repeats 0", "bench --levels 99", "bench --data nothing.csv"])
def test_bench_refuses_in_one_line(capsys, argv):
    with pytest.raises(SystemExit) as exit:
        main(argv.split())
    _, err = capsys.readouterr()
    assert exit.value.code == 2 and err.startswith("ihtjax: error: ") and err.count("\n") == 1

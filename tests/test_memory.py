"""Batches and units are no larger than memory: what they need, what there is, and what becomes of those that don't fit.

Nothing here takes the memory that it speaks of: what is free is faked.
"""

import dataclasses
import re

import jax
import numpy as np
import pytest
from test_cli import call
from test_sweep import assert_identical

from ihtjax import InputError, SweepConfig, load, sweep
from ihtjax.solvers.iht import IHT
from ihtjax.sweeps import memory
from ihtjax.sweeps.engine import make_engine, make_problem, run_block
from ihtjax.sweeps.memory import (
    GROUP_FILES,
    Need,
    Room,
    fitting_engine,
    fitting_engines,
    group_memory,
    groups,
    machine_memory,
)
from ihtjax.sweeps.plan import plan
from ihtjax.sweeps.store.run import RunDirectory
from tests.conftest import Notes


@pytest.fixture(autouse=True)
def two_workers(monkeypatch):
    monkeypatch.setattr(memory, "workers", lambda: 2)
    monkeypatch.setattr("ihtjax.sweeps.runner.workers", lambda: 2)


@pytest.fixture
def free(monkeypatch):
    """Make so many bytes free for batches."""

    def fake(count):
        monkeypatch.setattr(memory, "host_memory", lambda: count / memory.SHARE_OF_FREE)

    return fake


@pytest.fixture
def large(wide):
    return SweepConfig(problem=wide, levels=(5,), trials=4, steps=2, step_size=0.5, curve_points=0, dense=False)


def bytes_of(config, batch):
    """What the compiler says that a batch takes while it runs."""
    while_it_runs, _ = make_engine(make_problem(config), IHT(), config, batch).run.memory()
    return while_it_runs


def test_a_batch_takes_at_least_what_passes_between_its_programs():
    config = SweepConfig(curve_points=30, n_monte=3, steps=50)
    problem = make_problem(config)
    engine = make_engine(problem, IHT(), config, 64)
    result, curve = run_block(engine, np.zeros((3, 64), np.uint32), 3)
    views = 64 * 4 * (2 * 150 + 2 * 8)  # weights of training and test rows, their means and scales
    results = sum(a.nbytes for a in jax.tree.leaves((result, curve)))
    while_it_runs, left = engine.run.memory()
    assert while_it_runs >= views + result.theta.nbytes + results and left >= results


def test_a_default_batch_is_halved_until_each_worker_has_one(large, tmp_path, free):
    assert bytes_of(large, 32) > 32 * 200_000 * 4
    free(1.5 * bytes_of(large, 32))
    run = sweep(large, tmp_path / "run", show=(notes := Notes()))
    batch = RunDirectory(run).record()["batch"]
    assert batch in (2, 4, 8, 16) and 2 * bytes_of(large, batch) < 1.5 * bytes_of(large, 32)
    assert f"memory holds 2 batches of {batch} trials at a time" in notes.lines
    assert len(load(run, columns=["s"])) == 4
    # The run keeps it when there is more.
    free(1e12)
    sweep(dataclasses.replace(large, trials=5), run)
    assert RunDirectory(run).record()["batch"] == batch and len(load(run, columns=["s"])) == 5


def test_a_batch_that_does_not_fit_gets_a_line_with_one_that_does(large, tmp_path, free, capsys):
    free(bytes_of(large, 32) / 2)
    options = "--levels 5 --trials 4 --steps 2 --step-size 0.5 --curve-points 0 --no-dense --batch".split()
    argv = ("sweep", tmp_path / "run", "--problem", large.problem, *options)
    code, _, err = call(capsys, *argv, 32)
    says = r"--batch: 32 at a time need ([\d,]+) MB of memory, expected at most ([\d,]+) MB, 80% of .*; take (\d+), or"
    needs, there, fits = (int(number.replace(",", "")) for number in re.search(says, err).groups())
    assert code == 2 and not (tmp_path / "run").exists()
    needed = bytes_of(large, 32) / 1e6
    assert there == round(needed / 2) and needed < needs < 3 * needed
    code, _, _ = call(capsys, *argv, fits)
    assert code == 0 and RunDirectory(tmp_path / "run").record()["batch"] == fits < 32


def test_nothing_that_fits_gets_a_line(large, free):
    free(1e6)
    for batch in (None, 1):
        with pytest.raises(InputError, match="^batch: 1 at a time need .* MB of memory, .*; not even 1 would fit"):
            fitting_engine(make_problem(large), IHT(), large, batch)


def test_a_batch_that_was_asked_for_runs_alone_where_two_do_not_fit(small, small_run, tmp_path, free):
    """Bits depend on lanes, not on how many batches run at a time."""
    batch = RunDirectory(small_run).record()["batch"]
    free(1.7 * bytes_of(small, batch))
    run = sweep(small, tmp_path / "run", batch=batch, show=(notes := Notes()))
    assert f"memory holds 1 batch of {batch} trials at a time" in notes.lines
    assert_identical(run, small_run)


def test_a_default_batch_stays_what_it_is_where_it_fits(small, small_run, free):
    free(1e9)
    engines, flights = fitting_engines(make_problem(small), {"iht": IHT()}, small, None)
    assert (engines["iht"].batch, flights) == (RunDirectory(small_run).record()["batch"], 2)


@pytest.mark.parametrize(
    "room, flights",
    [(Room(0, 25), 2), (Room(0, 24), 1), (Room(0, 15), 1), (Room(0, 14), 0), (Room(0, 1e9), 2)],
)
def test_on_a_cpu_all_is_taken_from_the_host(room, flights):
    need = Need(batch=9, results=1, unit=5)
    assert need.flights(room, most=2) == flights


@pytest.mark.parametrize(
    "room, flights",
    [(Room(18, 7), 2), (Room(17, 7), 1), (Room(18, 6), 1), (Room(8, 7), 0), (Room(18, 5), 0)],
)
def test_a_device_has_memory_of_its_own(room, flights, monkeypatch):
    monkeypatch.setattr(memory, "platform", lambda: "gpu")
    assert Need(batch=9, results=1, unit=5).flights(room, most=2) == flights


def test_the_largest_batch_that_fits():
    need = Need(batch=100, results=0, unit=10)  # of 100 lanes
    fitting = {free: need.largest_batch(100, Room(0, free), 1) for free in (75, 74, 42, 41, 12, 11, 10.5)}
    assert fitting == {75: 64, 74: 64, 42: 32, 41: 16, 12: 2, 11: 1, 10.5: 0}
    assert need.largest_batch(100, Room(0, 75), 2) == 32


# Units.


@pytest.mark.parametrize("steps", [1, 300, 1000, 10_000, 10**8])
@pytest.mark.parametrize("n, batch, precision", [(15, 256, "float32"), (15, 256, "float64"), (650, 32, "float32")])
def test_units_of_small_networks_are_as_they_were(n, batch, precision, steps):
    config = SweepConfig(levels=(5,), trials=200_000, steps=steps, precision=precision, dense=False)
    rows = max(1, round(min(65_536, max(1, 20_000_000 / steps)) / batch)) * batch
    assert plan(config, ["iht"], n, [], [], batch)[0].stop == min(rows, 200_000)


def test_units_of_large_networks_hold_what_memory_does():
    config = SweepConfig(levels=(5,), trials=5000, steps=10, dense=False)

    def parameters(theta):
        unit = plan(dataclasses.replace(config, theta=theta), ["iht"], 200_000, [], [], 32)[0]
        return (unit.stop - unit.start) * 200_000

    assert 2**25 < parameters("all") * 2 < 2**28
    assert 1.8 < parameters("end") / parameters("all") < 2.2
    assert parameters("none") == 5000 * 200_000


# What there is.


@pytest.mark.parametrize("version", [0, 1])
def test_the_memory_that_a_control_group_leaves(tmp_path, version):
    limit, used, droppable = GROUP_FILES[version]
    (tmp_path / limit).write_text("8000\n")
    (tmp_path / used).write_text("5000\n")
    (tmp_path / "memory.stat").write_text(f"anon 4000\n{droppable} 700\n")
    assert group_memory(tmp_path) == 3700
    (tmp_path / limit).write_text("max\n")
    assert group_memory(tmp_path) == float("inf") == group_memory(tmp_path / "none")


@pytest.mark.parametrize("line, top", [("0::/a/b", ""), ("4:memory:/a/b", "memory")])
def test_groups_around_a_group_bound_it_too(tmp_path, line, top):
    (tmp_path / "mine").write_text(f"9:cpu:/c\n{line}\n")
    found = groups(tmp_path / "mine", tmp_path)
    assert found == [tmp_path / top / "a" / "b", tmp_path / top / "a", tmp_path / top]
    assert groups(tmp_path / "none") == []


def test_the_memory_that_the_machine_has(tmp_path):
    (tmp_path / "info").write_text("MemTotal:  24000000 kB\nMemAvailable:   2000 kB\nHugePages_Total:       0\n")
    assert machine_memory(tmp_path / "info") == 2000 * 1024
    assert machine_memory(tmp_path / "none") == float("inf")

import shutil
import sys
from pathlib import Path

import jax
import matplotlib
import pandas as pd
import pytest
from sklearn import datasets

from benchmarks.formats import as_format_2, relist
from ihtjax import SweepConfig, sweep
from ihtjax.sweeps import progress
from ihtjax.sweeps.store.records import place, places
from ihtjax.sweeps.store.run import RunDirectory

matplotlib.use("Agg")

BOWL = """
import jax.numpy as jnp

from ihtjax.problems.base import Problem


class Bowl(Problem):
    names = [f"t{i}" for i in range(200_000)]

    def loss(self, theta, view):
        return jnp.sum((theta - 1) ** 2) / 2
"""


def unlist(run_dir, unit):
    """Make the index forget a unit."""
    relist(run_dir, lambda entries: entries.remove(next(e for e in entries if e["unit"] == unit.record)))


def forget(run_dir, unit):
    """Make a finished unit one that was never computed."""
    run = RunDirectory(run_dir)
    for key in places(unit, run.units()[unit]):
        (run.path / key).unlink()
    unlist(run_dir, unit)


def curves_of(run_dir, unit):
    """Where a unit's curves lie."""
    return run_dir / place(unit, "curves", RunDirectory(run_dir).units()[unit])


def copy_unit(source, run_dir, unit, table):
    """Copy a unit's file of a table from another run."""
    (run_dir / table).mkdir(exist_ok=True)
    key = place(unit, table, RunDirectory(source).units()[unit])
    return Path(shutil.copy(source / key, run_dir / key))


def as_it_is(run_dir):
    return run_dir


# What lists a run's units: the index of format 3, or the manifest of format 2.
EITHER = pytest.mark.parametrize("convert", [as_it_is, as_format_2], ids=["index", "manifest"])


def is_of_index(problem):
    """Whether something is wrong with what lists a run's units."""
    return problem.path == "manifest.json" or problem.path.startswith("_log")


class Notes(progress.Silent):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.fixture
def uncached(monkeypatch):
    """Processes that the test starts compile for themselves what others have compiled before."""
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")


@pytest.fixture
def compilations():
    """What JAX compiles while the test runs."""
    events = []

    def listen(event, *_, **__):
        if "backend_compile" in event:
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="module")
def optimized():
    """What a module's tests compile is optimised as it is for users, also in processes that they start."""
    name = "jax_disable_most_optimizations"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(name.upper())
        jax.config.update(name, False)
        jax.clear_caches()  # they don't tell what is optimised from what isn't
        yield
    jax.config.update(name, True)


@pytest.fixture(scope="session")
def small():
    """A configuration that compiles and runs in seconds."""
    return SweepConfig(levels=(3, 7), trials=20, steps=300, n_monte=10, curve_points=8)


@pytest.fixture(scope="session")
def small_run(small, tmp_path_factory):
    return sweep(small, tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture
def run(small_run, tmp_path):
    """A copy that a test may harm."""
    return shutil.copytree(small_run, tmp_path / "run")


@pytest.fixture
def format_2(run):
    """The same as versions of format 2 left it."""
    return as_format_2(run)


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """Paths of other people's tables as CSV, by name; the class column is "kind"."""
    folder = tmp_path_factory.mktemp("tables")
    paths = {}
    for name in ("wine", "breast_cancer"):
        data = getattr(datasets, f"load_{name}")()
        frame = pd.DataFrame(data.data, columns=[c.replace(" ", "_") for c in data.feature_names])
        frame["kind"] = data.target_names[data.target]
        paths[name] = folder / f"{name}.csv"
        frame.to_csv(paths[name], index=False)
    return paths


@pytest.fixture
def wide(tmp_path, monkeypatch):
    """The name of a problem of 200,000 parameters."""
    (tmp_path / "bowl.py").write_text(BOWL)
    monkeypatch.chdir(tmp_path)
    yield "bowl:Bowl"
    sys.modules.pop("bowl", None)

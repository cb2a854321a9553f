import json
import shutil
import sys

import matplotlib
import pandas as pd
import pytest
from sklearn import datasets

from ihtjax import SweepConfig, sweep
from ihtjax.sweeps import progress
from ihtjax.sweeps.store.records import with_checksum
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


def forget(run_dir, unit):
    """Make a finished unit one that was never computed."""
    run = RunDirectory(run_dir)
    units = run.units()
    for table in units.pop(unit)["files"]:
        (run.path / unit.path(table)).unlink()
    run.write_units(units)


def edit(run_dir, name, change):
    """Change a record and give it the right checksum, as somebody would who means harm."""
    content = json.loads((run_dir / name).read_text())
    del content["sha256"]
    change(content)
    (run_dir / name).write_bytes(with_checksum(content))


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

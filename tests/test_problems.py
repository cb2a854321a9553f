"""Problems of a user's own through the command line, and certified steps of linear models."""

import dataclasses
import importlib
import inspect
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import ihtjax
from ihtjax import InputError, SweepConfig, load, sweep, trial_inputs
from ihtjax.cli.commands import main
from ihtjax.exact.bounds import linear_step_size
from ihtjax.problems.base import Problem
from ihtjax.sweeps import engine
from ihtjax.sweeps.certified import certified_steps
from ihtjax.sweeps.engine import make_problem, problem_named
from ihtjax.sweeps.store.run import RunDirectory
from tests.test_sweep import assert_identical

SOURCE = '''
"""Two problems: a linear spline with a knot at each feature's mean, and a quadratic that has no rows."""

import jax.numpy as jnp
import numpy as np

from ihtjax.problems.base import Problem
from ihtjax.problems.losses import LOSSES
from ihtjax.problems.supervised import Supervised
from ihtjax.problems.table import load_table

KNOT = 0.0


class Spline(Supervised):
    """Each feature adds slope x + bend max(x, 0)."""

    def parameter_names(self):
        return [f"{part}_{feature}" for part in ("slope", "bend") for feature in self.table.feature_names]

    def outputs(self, theta, X):
        slope, bend = theta.reshape(2, -1)
        return (X @ slope + jnp.maximum(X - KNOT, 0) @ bend)[:, None]


class Quadratic(Problem):
    """1/2 |A theta - b|^2."""

    names = [f"t{i}" for i in range(1, 7)]

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.A, self.b = rng.normal(size=(9, 6)).astype("f4"), rng.normal(size=9).astype("f4")

    def loss(self, theta, view):
        return jnp.sum((self.A @ theta - self.b) ** 2) / 2


class Numbered(Quadratic):
    names = (1, 2)


class Nameless(Problem):
    def loss(self, theta, view):
        return 0


def spline():
    return Spline(load_table("heights.csv", "height"), LOSSES["squared"])


quadratic, numbered, nameless, nothing = Quadratic(), Numbered(), Nameless(), {"a": 1}
'''
assert len(SOURCE.splitlines()) < 60


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a user's module and table; what was imported of another test is forgotten."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    height = X @ [1, 0, -2] + 3 * np.maximum(X[:, 1], 0) + 0.1 * rng.normal(size=60)
    pd.DataFrame(X, columns=list("abc")).assign(height=height).to_csv(tmp_path / "heights.csv", index=False)
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget()


def forget():
    problem_named.cache_clear()
    for name in ("mine", "torn", "raises"):
        sys.modules.pop(name, None)


def call(capsys, *argv):
    """Exit code and output of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in argv])
    return ended.value.code or 0, capsys.readouterr()


OPTIONS = "--steps 300 --n-monte 5 --curve-points 4 --batch 32".split()


# A sweep of one, whole or interrupted.


def test_a_sweep_of_ones_own_problem_that_is_killed_resumes_to_the_same_bits(folder, capsys):
    """With kill -9 once a first unit is there; the dense baseline and five levels."""
    command = "sweep {} --problem mine:spline --trials 200 --steps 2000 --n-monte 20 --curve-points 4 --batch 64"
    package = os.pathsep.join([str(Path(ihtjax.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "ihtjax", *command.format("killed").split()],
        env=os.environ | {"PYTHONPATH": package},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(folder.glob("killed/trials/*.parquet")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 1 <= len(list(folder.glob("killed/trials/*.parquet"))) < 6
    for run in ("killed", "whole"):
        code, said = call(capsys, *command.format(run).split())
        assert code == 0 and "1,200 trials in" in said.out
    assert_identical(folder / "killed", folder / "whole")
    assert call(capsys, "verify", "killed")[0] == 0
    frame = load(folder / "killed")
    assert (frame.status == "ok").all() and frame.test_r2.notna().all()
    # The target was made of four of the six terms.
    assert frame[frame.s == 5].train_r2.median() > 0.99 > frame[frame.s == 1].train_r2.max()


@pytest.mark.parametrize("name, metric", [("spline", "train_r2"), ("quadratic", None)])
def test_more_trials_and_levels_extend_a_run_of_ones_own_problem(folder, capsys, name, metric):
    sweep_of = ["sweep", "--problem", f"mine:{name}", *OPTIONS]
    assert call(capsys, *sweep_of, "run", "--trials", 20, "--levels", 2)[0] == 0
    code, said = call(capsys, *sweep_of, "run", "--trials", 40, "--levels", "2,4")
    assert code == 0 and f"mine:{name}, 300 steps" in said.out
    assert call(capsys, *sweep_of, "at-once", "--trials", 40, "--levels", "2,4")[0] == 0
    assert_identical(folder / "run", folder / "at-once")
    code, said = call(capsys, "verify", "run")
    assert code == 0 and "all whole" in said.out
    code, said = call(capsys, "summary", "run")
    assert code == 0 and f"mine:{name}" in said.out
    frame = load("run")
    assert len(frame) == 3 * 40 and {name for name in frame if name.startswith("train_")} - {"train_loss"} == (
        {metric} if metric else set()
    )
    assert frame.test_loss.isna().all() == (name == "quadratic")


def test_a_quadratic_without_rows_ends_where_numpy_ends(folder, capsys):
    call(
        capsys, "sweep", "run", "--problem", "mine:quadratic", "--trials", 20, "--levels", "2,4", "--no-dense", *OPTIONS
    )
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(9, 6)), rng.normal(size=9)
    for row in load("run").itertuples():
        theta = row.theta0.astype(float)
        assert (theta != 0).sum() == row.s
        for _ in range(300):
            v = theta - row.step_size * A.T @ (A @ theta - b)
            theta = np.where(np.argsort(np.argsort(-np.abs(v))) < row.s, v, 0)
        assert row.train_loss == pytest.approx(np.sum((A @ theta - b) ** 2) / 2, rel=1e-4)
    with pytest.raises(InputError, match="^problem: mine:quadratic has no rows of a table"):
        trial_inputs(SweepConfig(problem="mine:quadratic"), 2, 0, 0, 0)


# What makes it another problem.


@pytest.mark.parametrize(
    "name, before, after",
    [
        ("spline", "X @ slope", "2 * X @ slope"),
        ("spline", "KNOT = 0.0", "KNOT = 0.5"),
        ("spline", 'LOSSES["squared"]', 'LOSSES["huber"]'),
        ("spline", 'LOSSES["squared"])', 'LOSSES["squared"], standardize="all")'),
        ("quadratic", "** 2) / 2", "** 2)"),
        ("quadratic", "seed=0", "seed=1"),
    ],
)
def test_a_run_is_not_resumed_with_another_problem(folder, capsys, name, before, after):
    config = SweepConfig(problem=f"mine:{name}", levels=2, trials=2, steps=10, n_monte=2, curve_points=0, dense=False)
    record = engine.content(config, make_problem(config))
    forget()
    assert engine.content(config, make_problem(config)) == record
    forget()
    assert before in SOURCE
    (folder / "mine.py").write_text(SOURCE.replace(before, after))
    assert engine.content(config, make_problem(config)) != record


def test_a_changed_problem_is_refused_by_name(folder, capsys):
    command = ["sweep", "run", "--problem", "mine:quadratic", "--levels", 2, "--trials", 5, "--no-dense", *OPTIONS]
    assert call(capsys, *command)[0] == 0
    files = {path: path.read_bytes() for path in Path("run").rglob("*.*")}
    forget()
    (folder / "mine.py").write_text(SOURCE.replace("** 2) / 2", "** 2)"))
    code, said = call(capsys, *command)
    assert code == 2 and said.err.count("\n") == 1
    changed = "problem is another one, or the file that it stands in has changed"
    assert f"run holds another configuration: {changed}; give all options of that run again" in said.err
    assert files == {path: path.read_bytes() for path in Path("run").rglob("*.*")}
    assert len(RunDirectory("run").units()) == 1


class Holding(Problem):
    names = ("t",)

    def __init__(self, held):
        self.held = held

    def loss(self, theta, view):
        return theta[0]


def test_fingerprints_are_of_what_attributes_hold():
    frames = [pd.DataFrame({"a": np.arange(3000.0) + k}) for k in (0, 1)]
    held = [*frames, np.arange(3000), np.arange(3000) + (np.arange(3000) == 1500), {"b", "a"}, ["a", "b"], None, 1, "1"]
    fingerprints = [Holding(its).fingerprint for its in held]
    assert len(set(fingerprints)) == len(held)
    assert Holding(frames[0].copy()).fingerprint == fingerprints[0]
    with pytest.raises(InputError, match="^problem: attribute 'held' holds .*can't be pickled"):
        Holding(inspect.currentframe()).fingerprint  # noqa: B018


# What is refused, in one line.


@pytest.mark.parametrize(
    "flags, says",
    [
        (["mine:spline", "--init", "torch_linear"], "--init: got 'torch_linear' beside a problem"),
        (["mine:spline", "--data", "heights.csv"], "--data: got 'heights.csv' beside a problem"),
        (["mine:spline", "--target", "height"], "--target: got 'height' beside a problem"),
        (["mine:spline", "--loss", "huber"], "--loss: got 'huber' beside a problem"),
        (["mine:spline", "--standardize", "none"], "--standardize: got 'none' beside a problem"),
        (["mine:spline", "--precision", "float64"], "--precision: got 'float64', but the problem mine:spline is of"),
        (["mine:spline", "--levels", "7"], "--levels: got 7, expected at most 6"),
        (["mine:quadratic", "--step-size", "certified"], "--step-size: 'certified' needs a bound"),
        (["absent:spline"], "--problem: got 'absent:spline', which can't be imported"),
        (["torn:spline"], "--problem: got 'torn:spline', which can't be imported"),
        (["raises:spline"], "--problem: got 'raises:spline', which can't be imported (ZeroDivisionError"),
        (["mine:absent"], "--problem: got 'mine:absent', which can't be imported"),
        (["mine:nothing"], "--problem: got {'a': 1}, expected a Problem"),
        (["mine:numbered"], "--problem: got names (1, 2), expected a text for each parameter"),
        (["mine:nameless"], "--problem: got names (), expected a text for each parameter"),
        (["mine"], "--problem: got 'mine', expected module:name"),
        (["mine.py:spline:x"], "--problem: got 'mine.py:spline:x', expected module:name"),
    ],
)
def test_what_is_no_problem_or_does_not_go_with_one_is_refused_in_one_line(folder, capsys, flags, says):
    (folder / "torn.py").write_text("def spline(:\n")
    (folder / "raises.py").write_text("spline = 1 / 0\n")
    code, said = call(capsys, "sweep", "run", "--problem", *flags)
    assert code == 2 and said.err.count("\n") == 1 and says in said.err
    assert not Path("run").exists()


# Certified steps.


def test_certified_steps_of_diabetes_never_let_the_loss_rise(tmp_path):
    """500 trials of 1,000 steps at levels 3 and 8, in float64."""
    config = SweepConfig(
        **{"data": "sklearn:diabetes", "levels": (3, 8), "trials": 500, "steps": 1000, "step_size": "certified"},
        **{"curve_points": 0, "precision": "float64", "dense": False, "audit": True},
    )
    frame = load(sweep(config, tmp_path / "run"))
    assert len(frame) == 1000 and (frame.n_rises == 0).all() and (frame.status == "ok").all()
    assert frame.lipschitz_estimate.isna().all() and (frame.step_size > 0).all()


@pytest.mark.parametrize("loss", ["squared", "huber"])
@pytest.mark.parametrize("s", [2, 3])
def test_the_certified_step_is_one_over_the_largest_sparse_eigenvalue(loss, s):
    """By brute force over all supports of 2s of the eleven parameters."""
    config = SweepConfig(data="sklearn:diabetes", loss=loss, precision="float64", step_size="certified")
    found = certified_steps(make_problem(config), np.array([5, 9, 5], np.uint32), s)
    assert found[0] == found[2] != found[1]
    for i, seed in enumerate((5, 9)):
        X = trial_inputs(config, 1, seed, 0, 0)["X_train"]
        A = np.column_stack([X, np.ones(len(X))])
        H = A.T @ A / len(A)
        largest = max(np.linalg.norm(H[np.ix_(S, S)], 2) for S in itertools.combinations(range(11), 2 * s))
        assert found[i] == pytest.approx(1 / largest, rel=1e-12) and found[i] <= 1 / largest
        assert linear_step_size(X, 0.25, s) == pytest.approx(4 / largest, rel=1e-12)


@pytest.mark.parametrize(
    "body, said",
    [
        ("    pass", "can't be made .*abstract"),
        ("    def loss(self, theta, view):\n        return theta", "JAX can't trace it .*scalar"),
        ("    def loss(self, theta):\n        return theta.sum()", "JAX can't trace it .*positional"),
        ("    def loss(self, theta, view):\n        return np.sum(np.asarray(theta))", "JAX can't trace it"),
    ],
)
def test_what_is_wrong_with_a_problem_of_ones_own_is_one_line(body, said, tmp_path, monkeypatch, capsys):
    name = tmp_path.name  # another one for each case
    source = f"import numpy as np\nimport ihtjax\n\nclass Mine(ihtjax.Problem):\n    names = ['a', 'b']\n\n{body}\n"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    code, (_, err) = call(capsys, "sweep", "run", "--problem", f"{name}:Mine", "--trials", 2, "--steps", 5)
    assert code == 2 and "Traceback" not in err
    assert re.search(said, err.splitlines()[-1]) and "solver" not in err.splitlines()[-1].split("JAX")[0]
    assert not (tmp_path / "run").exists()


def test_a_problem_that_cannot_be_hashed_is_refused(tmp_path):
    @dataclasses.dataclass
    class Mine(Problem):
        names: tuple = ("a", "b")

        def loss(self, theta, view):
            return (theta**2).sum()

    with pytest.raises(InputError, match="^problem: .*Mine can't be hashed .*eq=False"):
        sweep(SweepConfig(trials=2, steps=5), tmp_path / "run", problem=Mine())


class Target(Problem):
    """(1/2) |theta - y|^2."""

    names = ("a", "b", "c")

    def __init__(self):
        self.y = np.float32([3, 1, 1])

    def loss(self, theta, view):
        return ((theta - self.y) ** 2).sum() / 2


def test_a_problem_that_was_changed_is_compiled_anew(tmp_path):
    config = SweepConfig(levels=(1,), trials=2, steps=30, step_size=0.5, curve_points=0, dense=False)
    problem, best = Target(), []
    for name, y in (("one", [3, 1, 1]), ("other", [1, 1, -5])):
        problem.y = np.float32(y)
        best += [np.stack(load(sweep(config, tmp_path / name, problem=problem)).theta)[0]]
    np.testing.assert_allclose(best, [[3, 0, 0], [0, 0, -5]], atol=1e-5)


def test_a_file_edited_after_its_import_does_not_pass_for_what_runs(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    config = SweepConfig(problem="mine:quadratic")
    record = engine.content(config, make_problem(config))
    (folder / "mine.py").write_text(SOURCE.replace("** 2) / 2", "** 2)"))
    problem_named.cache_clear()  # the module stays imported
    assert engine.content(config, make_problem(config)) == record
    importlib.reload(sys.modules["mine"])
    problem_named.cache_clear()
    assert engine.content(config, make_problem(config)) != record


def test_two_parameters_of_one_name_are_refused(tmp_path):
    class Twice(Problem):
        names = ["a", "b", "a"]

        def loss(self, theta, view):
            return (theta**2).sum()

    with pytest.raises(InputError, match="two parameters called 'a'"):
        sweep(SweepConfig(trials=2, steps=5), tmp_path / "run", problem=Twice())


DRAWN = """
import jax
import jax.numpy as jnp
from jax import random

from ihtjax.problems.base import Problem
from ihtjax.solvers.base import Solver


class Counts(Problem):
    names = ["a", "b", "c"]

    def split(self, key):
        return random.poisson(key, 3.0, (3,)).astype("f4"), None

    def draw(self, key, shape):
        keys = jnp.stack([key, random.key(7)])
        return random.normal(keys[0], shape) + random.normal(keys[1], shape)

    def loss(self, theta, view):
        return jnp.sum((theta - view) ** 2) / 2


class Shaken(Solver):
    name = "shaken"

    def init(self, objective, theta0, s, key):
        return super().init(objective, theta0 + 0 * random.poisson(key, 1.0, (3,)), s, key)

    def step(self, objective, state, s, k):
        return state._replace(theta=objective.threshold(state.theta - objective.gradient(state.theta), s))
"""


def test_ones_own_problem_and_solver_draw_by_keys_of_jaxs_own(tmp_path, monkeypatch):
    """Some functions of jax.random take no others, and keys of two kinds can't be mixed."""
    (tmp_path / "drawn.py").write_text(DRAWN)
    monkeypatch.chdir(tmp_path)
    config = SweepConfig(problem="drawn:Counts", solver="drawn:Shaken", levels=(2,), trials=3, steps=2, n_monte=4)
    rows = load(sweep(config, "run"), method="shaken")
    key = engine.draws.stream(engine.draws.DATA, np.uint32(rows.data_seed[0]))
    with engine.draws.settings("float32"):
        counts = np.asarray(jax.random.poisson(key, 3.0, (3,)))
    kept = np.sort(counts)[1:]
    assert np.sort(rows.theta[0])[1:].tolist() == pytest.approx(kept.tolist(), abs=1e-5)

"""Solvers by name, several in a run, and one of a user's own, from its file to the comparison."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import ihtjax
from ihtjax import InputError, Solver, SweepConfig, certify_run, load, sweep, trial_inputs
from ihtjax.solvers.base import Iterate
from ihtjax.solvers.gd import GD
from ihtjax.solvers.iht import IHT
from ihtjax.solvers.registry import check_solver, method, solver_named, specification
from ihtjax.study.summaries import uncertified
from ihtjax.sweeps.executors import Threads
from ihtjax.sweeps.store.run import RunDirectory
from tests.conftest import Notes
from tests.reference import gradient, hard_threshold
from tests.test_cli import call
from tests.test_sweep import assert_identical

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
VECTORS = ["theta", "theta0"]
FAST = SweepConfig(levels=(3, 7), trials=30, steps=200, step_size=0.5, curve_points=8)


@dataclass(frozen=True)
class Named(IHT):
    """IHT under another name, with options of each type."""

    name = "named"
    rounds: int = 3
    rate: float = 0.5
    careful: bool = False
    rule: str = "plain"


@dataclass(frozen=True)
class Scaled(IHT):
    """IHT with a step size that a helper scales."""

    name = "scaled"
    factor = 1.0

    def step(self, objective, state, s, k):
        return super().step(objective._replace(step_size=self.factor * objective.step_size), state, s, k)


@dataclass(frozen=True)
class Tenth(Scaled):
    name = "tenth"
    factor = 0.1


@dataclass(frozen=True)
class Loose(IHT):
    """Gradient descent that forgets to threshold."""

    name = "loose"

    def step(self, objective, state, s, k):
        return state._replace(theta=state.theta - objective.step_size * objective.gradient(state.theta))


class Shuffled:
    """Yields items in another order, and some of them twice."""

    def run(self, work, items):
        items = list(items)
        for item in [*reversed(items), *items[::3]]:
            yield item, work(item)


@pytest.fixture
def outside(monkeypatch):
    """As in a shell in the folder of the user's files."""
    monkeypatch.chdir(EXPERIMENTS)
    monkeypatch.syspath_prepend(str(EXPERIMENTS))


@pytest.mark.parametrize(
    "solver, text",
    [
        (IHT(), "iht"),
        (Named(), f"{__name__}:Named"),
        (Named(rate=0.25, careful=True), f"{__name__}:Named:rate=0.25,careful=true"),
        (Named(rounds=5, rule="other"), f"{__name__}:Named:rounds=5,rule=other"),
    ],
    ids=str,
)
def test_a_solvers_text_finds_it_again(solver, text):
    assert specification(solver) == text
    assert solver_named(text) == solver


def test_a_method_is_named_by_the_options_that_differ():
    assert [method(Named()), method(Named(rounds=4))] == ["named", "named:rounds=4"]


@pytest.mark.parametrize(
    "text, said",
    [
        ("ith", "'ith', which is none; expected iht, or module:name"),
        ("gd", "the dense baseline, which the option dense trains"),
        ("iht:rate=1", "'rate=1' in 'iht:rate=1'; it has no options"),
        ("nowhere:Solver", "can't be imported"),
        (f"{__name__}:FAST", "expected a Solver"),
        (f"{__name__}:Named:speed=1", "its options are rounds, rate, careful, rule"),
        (f"{__name__}:Named:rounds=1,rounds=2", "each at most once"),
        (f"{__name__}:Named:rounds=1.5", "rounds: got '1.5' .*expected a whole number"),
        (f"{__name__}:Named:careful=perhaps", "careful: got 'perhaps' .*expected true or false"),
        ("a,b", "expected names of solvers"),
    ],
)
def test_a_solver_that_is_none_is_one_line(text, said, tmp_path, capsys):
    code, _, err = call(capsys, "sweep", tmp_path / "run", "--solver", text, "--trials", 2, "--steps", 10)
    assert code == 2 and len(err.splitlines()) == 1 and "Traceback" not in err
    with pytest.raises(InputError, match=said):
        sweep(replace(FAST, solver=text), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "solver, said",
    [
        (Named, "expected a Solver"),
        ([], "got none"),
        ([IHT(), IHT()], "iht twice"),
        (type("Mine", (IHT,), {"name": "gd"})(), "is called 'gd' as one of the package's"),
        (type("Mine", (IHT,), {"name": "My Solver"})(), "got the name 'My Solver'"),
        (Named(rule="a:b"), "option rule is 'a:b'"),
        (Named(rule="a" * 200), "is too long, expected at most 120 characters"),
        (type("Mine", (IHT,), {"name": "all"})(), "got the name 'all'"),
        (GD(), "got gd, the dense baseline"),
    ],
)
def test_a_given_solver_that_no_run_can_hold_is_one_line(solver, said, tmp_path):
    with pytest.raises(InputError, match=said):
        sweep(FAST, tmp_path / "run", solver=solver)
    assert not (tmp_path / "run").exists()


class Halved(Solver):
    name = "halved"

    def init(self, objective, theta0, s, key):
        return Iterate(theta0.astype(jnp.bfloat16))

    def step(self, objective, state, s, k):
        return state


def test_a_solver_that_changes_the_type_of_theta_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"^solver Halved: its theta is bfloat16 \[15\], expected float32 \[15\]"):
        sweep(FAST, tmp_path / "run", solver=Halved())


def test_gradient_descent_is_iht_with_every_entry():
    """So that the dense baseline needs no program of its own."""
    assert GD().program == IHT().program and Named().program != IHT().program


def test_solvers_that_differ_in_a_helper_or_a_constant_share_no_program(tmp_path):
    """Before, the second one's rows were computed by the first one's program."""
    run = sweep(FAST, tmp_path / "both", solver=[Scaled(), Tenth()])
    alone = sweep(FAST, tmp_path / "alone", solver=Tenth())
    losses = load(run, method="tenth").train_loss.to_numpy()
    assert np.array_equal(losses, load(alone, method="tenth").train_loss)
    assert not np.array_equal(losses, load(run, method="scaled").train_loss)


def test_a_solver_that_leaves_too_many_entries_is_refused_before_a_row_is_written(tmp_path):
    with pytest.raises(InputError, match="loose left 15 nonzero parameters at s = 3, expected at most 3"):
        sweep(replace(FAST, dense=False), tmp_path / "run", solver=Loose())
    with pytest.raises(InputError, match="no finished trials"):
        load(tmp_path / "run")


def test_an_executor_that_loses_work_is_an_error(tmp_path):
    class Losing:
        def run(self, work, items):
            for item in list(items)[:-1]:
                yield item, work(item)

    with pytest.raises(InputError, match="executor: it left out 1 of 1 units"):
        sweep(FAST, tmp_path / "run", executor=Losing())


def test_an_option_given_as_a_whole_number_is_the_same_method():
    assert method(check_solver(Named(rate=1))) == method(check_solver(Named(rate=1.0))) == "named:rate=1.0"
    assert method(check_solver(Named(rate=np.float64(0.25)))) == "named:rate=0.25"


def test_another_solver_extends_a_run_and_changes_no_row_that_is_there(tmp_path, outside):
    run = sweep(FAST, tmp_path / "run")
    before = load(run)
    sweep(replace(FAST, solver="momentum:Momentum"), run)
    after = load(run, method=["iht", "gd"])
    assert after.drop(columns=VECTORS).equals(before.drop(columns=VECTORS))
    assert all(np.array_equal(np.stack(after[name]), np.stack(before[name])) for name in VECTORS)
    both = load(run, method=["iht", "momentum"])
    assert both.groupby(["method", "s"]).size().tolist() == [30] * 4
    seeds = ["trial", "s", "data_seed", "init_seed", "support_seed", "config_hash", "step_size"]
    mine, theirs = (both[both.method == name][seeds].reset_index(drop=True) for name in ("momentum", "iht"))
    assert mine.equals(theirs)
    assert both.epsilon.notna().all()


def test_solvers_asked_for_together_are_those_asked_for_one_by_one(tmp_path, outside):
    from momentum import Momentum

    together = sweep(replace(FAST, solver=("iht", "momentum:Momentum:beta=0.8")), tmp_path / "together")
    one_by_one = sweep(FAST, tmp_path / "one")
    sweep(FAST, one_by_one, solver=Momentum(beta=0.8))
    assert_identical(together, one_by_one)
    assert sorted(load(together).method.unique()) == ["gd", "iht", "momentum:beta=0.8"]


def test_momentum_is_what_its_formula_says(tmp_path, outside):
    """200 steps in float64 by NumPy, from the same split, start and step size."""
    config = replace(FAST, precision="float64", steps=200, trials=5, levels=(7,), dense=False)
    run = sweep(replace(config, solver="momentum:Momentum:beta=0.8"), tmp_path / "run")
    rows = load(run)
    seeds = rows[["data_seed", "init_seed", "support_seed"]].to_numpy()
    given = [trial_inputs(config, 7, *map(int, triple)) for triple in seeds]
    X, y, theta = (np.stack([its[name] for its in given]) for name in ("X_train", "y_train", "theta0"))
    before, gamma = theta, rows.step_size.to_numpy()[:, None]
    for _ in range(200):
        theta, before = hard_threshold(theta - gamma * gradient(theta, X, y) + 0.8 * (theta - before), 7), theta
    assert np.abs(theta - np.stack(rows.theta)).max() < 1e-9


def test_a_solver_whose_source_changed_is_refused(tmp_path, monkeypatch):
    source = (EXPERIMENTS / "momentum.py").read_text()
    (tmp_path / "heavy.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    config = replace(FAST, solver="heavy:Momentum", levels=(3,), trials=4, steps=20)
    run = sweep(config, "run")
    before = shutil.copytree(run, tmp_path / "before")
    sys.modules.pop("heavy")
    (tmp_path / "heavy.py").write_text(source.replace("self.beta *", "2 * self.beta *"))
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    with pytest.raises(InputError, match="solver momentum is another one"):
        sweep(replace(config, trials=8), run)
    sys.modules.pop("heavy")
    # Another solver extends the run, but the changed one's rows can't be gone on with.
    with pytest.raises(InputError, match="momentum has changed since the run began"):
        sweep(replace(FAST, levels=(3,), trials=8, steps=20), run)
    assert_identical(run, before)
    sys.modules.pop("heavy")


def test_batches_in_any_order_and_twice_are_the_same_rows(tmp_path):
    config = replace(FAST, trials=70)
    plain = sweep(config, tmp_path / "plain", batch=16)
    shuffled = sweep(config, tmp_path / "shuffled", batch=16, executor=Shuffled())
    assert_identical(shuffled, plain)
    assert load(shuffled).epsilon.notna().all()


def test_threads_yield_every_item_in_order_and_end_with_the_first_error():
    assert list(Threads(3).run(lambda item: item**2, range(50))) == [(item, item**2) for item in range(50)]
    done = Threads(2).run(lambda item: 1 // (5 - item), range(50))
    with pytest.raises(ZeroDivisionError):
        list(done)


def test_a_users_model_and_solver_from_their_files_to_the_comparison(tmp_path, capsys, outside):
    """Two files outside the package: sweep, kill, resume, Parquet, summary, certificates of stability, comparison."""
    for name in ("spline", "momentum"):
        assert len((EXPERIMENTS / f"{name}.py").read_text().splitlines()) < 60
    options = ["--problem", "spline:diabetes", "--solver", "iht", "--solver", "momentum:Momentum:beta=0.8"]
    options += "--levels 3,6,10 --trials 60 --steps 1000 --step-size 0.5 --curve-points 5 --batch 30".split()
    run = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(ihtjax.__file__).parents[1]), os.getcwd()])}
    argv = [sys.executable, "-m", "ihtjax", "sweep", str(run), *options]
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((run / "trials").glob("*.parquet"))) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = len(RunDirectory(run).units())
    assert 0 < kept < 7

    code, said, _ = call(capsys, "sweep", run, *options)
    assert code == 0 and "momentum:beta=0.8" in said and "training R2" in said
    assert call(capsys, "sweep", tmp_path / "whole", *options)[0] == 0
    assert_identical(run, tmp_path / "whole")

    lines = call(capsys, "summary", run)[1].splitlines()
    assert lines.count("iht") == lines.count("momentum:beta=0.8") == 4  # once in each of its tables
    trials = load(run)
    assert trials[trials.method != "gd"].ht_stable.mean() > 0.9

    losses = trials[trials.s == 6].pivot(index="trial", columns="method", values="train_loss")
    assert losses.shape == (60, 2)
    assert losses.notna().all(axis=None) and (losses["momentum:beta=0.8"] != losses["iht"]).any()
    assert call(capsys, "verify", run)[0] == 0


def test_a_run_without_iht_has_a_summary_and_says_why_it_has_no_paper(tmp_path, capsys, outside):
    run = sweep(replace(FAST, solver="momentum:Momentum", levels=(3,), trials=4, steps=20), tmp_path / "run")
    assert call(capsys, "summary", run)[0] == 0
    for command in ("report", "figures"):
        code, _, err = call(capsys, command, run)
        assert code == 2 and "are of iht; add it with --solver iht" in err


def test_certificates_of_a_solver_that_came_later_are_missing_until_they_are_made(tmp_path, capsys, outside):
    config = replace(FAST, trials=4, steps=50, levels=(3,))
    run = sweep(config, tmp_path / "run")
    certify_run(run, enumerate_supports=False)
    assert not uncertified(run)
    sweep(replace(config, solver="momentum:Momentum"), run)
    assert "4 triples have no certificate yet of some levels or solvers" in call(capsys, "summary", run)[1]
    certify_run(run, enumerate_supports=False)
    assert not uncertified(run)
    assert load(run, "certificates").method.value_counts().to_dict() == {"gd": 4, "iht": 4, "momentum": 4}
    notes = Notes()
    certify_run(run, enumerate_supports=False, show=notes)
    assert notes.lines == ["nothing to compute: all that was asked for is there"]


def test_a_trial_of_a_users_solver_is_its_row(tmp_path, outside):
    from ihtjax.sweeps.single import run_trial

    config = replace(FAST, solver="momentum:Momentum")
    row = load(sweep(config, tmp_path / "run"), method="momentum", s=7).iloc[3]
    ran = run_trial(config, 7, row.data_seed, row.init_seed, row.support_seed)
    assert np.array_equal(ran.result.theta, row.theta)
    with pytest.raises(InputError, match="got iht and momentum:Momentum, expected one"):
        run_trial(replace(config, solver=("iht", "momentum:Momentum")), 7, 1, 2, 3)

"""The descent inequality at every step of a trial whose curvature has no bound."""

import re

import numpy as np
import pytest
import reference
from test_cli import call
from test_mlp import backprop, mean_loss

from ihtjax import SweepConfig, load, sweep, trial_inputs
from ihtjax.problems.linear import Linear
from ihtjax.study.summaries import render, summary
from ihtjax.sweeps.certified import certified_steps
from ihtjax.sweeps.engine import make_problem
from ihtjax.sweeps.store.run import RunDirectory

NET = {"model": "mlp", "hidden": (3,), "levels": (8,), "trials": 10, "steps": 80, "curve_points": 0}
SIZES = (4, 3, 3)


def violations(config, row, tolerance):
    """How many steps of a trial break the inequality by more than the tolerance, in float64 NumPy from its start."""
    inputs = trial_inputs(config, row.s, row.data_seed, row.init_seed, row.support_seed)
    X, y, theta = (inputs[name][None] for name in ("X_train", "y_train", "theta0"))
    X, theta, gamma, count = X.astype(float), theta.astype(float), float(row.step_size), 0
    for _ in range(config.steps):
        g = backprop("cross_entropy", theta, X, y, SIZES, config.activation)
        after = reference.hard_threshold(theta - gamma * g, row.s)
        d = (after - theta)[0]
        f, f_after = (mean_loss("cross_entropy", at, X, y, SIZES, config.activation)[0] for at in (theta, after))
        count += f_after > f + g[0] @ d + d @ d / (2 * gamma) + tolerance
        theta = after
    return count


@pytest.fixture(scope="module", params=[0.5, 12.0])
def audited(request, tmp_path_factory):
    config = SweepConfig(**NET, step_size=request.param, precision="float64", dense=False, audit=True)
    return config, sweep(config, tmp_path_factory.mktemp("descent") / "run")


def test_violations_are_those_of_float64_numpy(audited):
    config, run = audited
    rows = load(run)
    found = rows.n_descent_violations.tolist()
    assert str(rows.n_descent_violations.dtype) == "int32"
    assert found == [violations(config, row, 1e-11) for row in rows.itertuples()]
    assert any(found) == (config.step_size > 1)


def test_a_summary_has_the_share_without_a_violation(audited):
    config, run = audited
    rows, table = load(run), summary(run)
    assert table.local_descent_verified.tolist() == [(rows.n_descent_violations == 0).mean()]
    text = render(table, run)
    line = text.split("local-descent-verified n_descent_violations\n")[1].split("\n")[0]
    assert line.split()[:2] == ["8", f"{table.local_descent_verified[0]:.1%}"] and "certified" not in text
    assert max(map(len, text.splitlines()[1:])) <= 80


@pytest.mark.parametrize("step_size, said", [("0.5", "yes"), ("12", "no")])
def test_a_trials_text_says_whether_descent_was_verified(capsys, step_size, said):
    words = "trial --s 8 --data-seed 1 --init-seed 2 --support-seed 3 --model mlp --hidden 3 --steps 80 --audit"
    words += " --precision float64 --curve-points 0"
    code, out, _ = call(capsys, *words.split(), "--step-size", step_size)
    assert code == 0 and f"\nlocal-descent-verified: {said} (" in out and "certified" not in out
    assert (re.search(r"\nn_descent_violations: (\d+) \(steps", out)[1] == "0") == (said == "yes")


def test_a_trial_that_overflows_is_not_verified(tmp_path):
    config = SweepConfig(**NET | {"steps": 3}, activation="relu", step_size=1e30, dense=False, audit=True)
    rows = load(sweep(config, tmp_path / "run"))
    assert (rows.status == "diverged").any() and (rows.n_descent_violations[rows.status == "diverged"] > 0).all()


@pytest.mark.parametrize("loss", ["cross_entropy", "poisson"])
def test_columns_are_counted_where_the_curvature_has_no_bound_alone(tmp_path, loss):
    data = {"cross_entropy": {}, "poisson": {"data": "sklearn:diabetes"}}[loss]
    config = SweepConfig(
        levels=(2,), trials=3, steps=5, step_size=1e-6, loss=loss, audit=True, curve_points=301, **data
    )
    run = sweep(config, tmp_path / "run")
    counted = loss == "poisson"
    assert ("n_descent_violations" in load(run).columns) == counted == ("structure" in RunDirectory(run).record())
    off = SweepConfig(**NET | {"trials": 2, "steps": 3}, step_size=0.5)
    assert "n_descent_violations" not in load(sweep(off, tmp_path / "off")).columns
    assert np.isfinite(load(run).train_loss).all()


class Known(Linear):
    """Softmax regression, of which nothing is known once it is a subclass, though its curvature is bounded."""


def test_rounding_in_float32_is_no_violation(tmp_path):
    """Under steps of at most 1 / L_2s the inequality holds of every pair: 40 trials of 2,000 steps at two levels."""
    problem = Known("iris", "cross_entropy")
    # A tenth shorter, since these trials have other splits.
    gamma = certified_steps(make_problem(SweepConfig()), np.arange(20, dtype=np.uint32), 12).min() / 1.1
    config = SweepConfig(levels=(3, 12), trials=40, steps=2000, step_size=float(gamma), dense=False, audit=True)
    rows = load(sweep(config, tmp_path / "run", problem=problem))
    assert len(rows) == 80 and (rows.n_descent_violations == 0).all() and (rows.status == "ok").all()

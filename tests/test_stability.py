import numpy as np
import pytest
import reference

from ihtjax import canonical_support
from ihtjax.exact.newton import restricted_optima, sharpened
from ihtjax.exact.softmax import SoftmaxRows
from ihtjax.exact.stability import is_ht_stable, limit_of_descent
from ihtjax.problems.table import load_table

IRIS = load_table("iris")
ROWS = np.random.default_rng(2).permutation(150)[:120]
X = (IRIS.X[ROWS] - IRIS.X[ROWS].mean(0)) / IRIS.X[ROWS].std(0)
Y = IRIS.y[ROWS]
NAMES = [f"w{k}{f}" for k in (1, 2, 3) for f in (1, 2, 3, 4)] + ["b1", "b2", "b3"]


def support(names):
    return np.isin(NAMES, names.split())


def minimiser(rows, on):
    canonical = canonical_support(on, rows.K)[None]
    optima = restricted_optima(rows, canonical)
    return sharpened(rows, canonical, optima.theta)[0]


def descend(x, y, theta, on, steps=8_000):
    """Gradient descent on a fixed support."""
    for _ in range(steps):
        theta = theta - 1.2 * np.where(on, reference.gradient(theta[None], x[None], y[None])[0], 0)
    return theta


def iht_stays(x, y, theta, step_size, s):
    """Whether a step of Algorithm 1 leaves theta where it is."""
    after, _, _ = reference.iht(theta[None], x[None], y[None], np.array([step_size]), np.array([s]), 1)
    return bool(np.abs(after - theta).max() < 1e-9)


@pytest.mark.parametrize(
    "names",
    [
        "w13 w22",
        "b1 b2 b3",
        "w12 w22 w32 b1",
        "w11 w21 w31 b1 b2 b3",
        "w21 w31 b3",  # K - 1 entries that are not the canonical ones
    ],
)
def test_descent_on_a_support_ends_where_it_is_said_to(names):
    on = support(names)
    rows = SoftmaxRows(X, Y, 3)
    theta = np.where(on, np.random.default_rng(0).normal(size=15), 0)
    limit = limit_of_descent(rows, theta, minimiser(rows, on))
    assert not limit[~on].any()
    np.testing.assert_allclose(descend(X, Y, theta, on), limit, atol=1e-8)


def test_dependent_features_keep_what_descent_cannot_change():
    """One feature twice, once negated, and a feature of zeros."""
    x = np.column_stack([X[:, 0], -X[:, 0], np.zeros(120)])
    on = np.zeros(12, bool)
    on[[0, 1, 2, 3, 9]] = True
    rows = SoftmaxRows(x, Y, 3)
    theta = np.where(on, np.random.default_rng(1).normal(size=12), 0)
    limit = limit_of_descent(rows, theta, minimiser(rows, on))
    np.testing.assert_allclose(descend(x, Y, theta, on), limit, atol=1e-8)
    assert limit[2] == pytest.approx(theta[2], abs=1e-14)


@pytest.mark.parametrize("step_size", [0.5, 1.5, 6.0])
def test_the_verdict_is_whether_iht_stays_at_the_minimiser(step_size):
    rows = SoftmaxRows(X, Y, 3)
    rng = np.random.default_rng(3)
    verdicts = []
    for s in (1, 2, 3):
        for _ in range(25):
            on = rng.permutation(15) < s
            theta = np.where(on, rng.normal(size=15), 0)
            optima = restricted_optima(rows, canonical_support(on, 3)[None])
            if not optima.converged[0]:
                continue
            limit = limit_of_descent(rows, theta, minimiser(rows, on))
            verdicts.append(is_ht_stable(rows, limit, step_size, s))
            assert verdicts[-1] == iht_stays(X, Y, limit, step_size, s)
    assert len(verdicts) > 60
    if step_size == 6:
        assert 10 < sum(verdicts) < len(verdicts) - 10


def test_an_entry_that_vanishes_leaves_room_for_another():
    """A feature whose classes have equal means: its weight vanishes at the minimiser, and |S| is below s."""
    x = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, -1.0]])
    y = np.array([0, 0, 1, 1, 0, 1])
    rows = SoftmaxRows(x, y, 2)
    on = np.array([True, False, False, False, False, False])  # w11: useless
    limit = limit_of_descent(rows, np.where(on, 0.7, 0.0), minimiser(rows, on))
    assert np.abs(limit).max() < 1e-12
    # w12 is useful: (c) is violated.
    assert not is_ht_stable(rows, limit, 0.1, 1) and not iht_stays(x, y, np.zeros(6), 0.1, 1)
    # At a minimiser over everything (c) holds.
    flat = np.column_stack([x[:4, 0], np.zeros(4)])
    rows = SoftmaxRows(flat, np.array([0, 0, 1, 1]), 2)
    assert is_ht_stable(rows, np.zeros(6), 0.1, 3) and iht_stays(flat, np.array([0, 0, 1, 1]), np.zeros(6), 0.1, 3)

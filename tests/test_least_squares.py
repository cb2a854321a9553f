"""The oracle of squared error, held against NumPy's least squares on every support, one after another."""

import functools
import itertools
from fractions import Fraction

import numpy as np
import pytest
from sklearn import datasets

from ihtjax import InputError, SweepConfig, best_subset, best_subsets, existence
from ihtjax.exact import search
from ihtjax.exact.least_squares import LeastSquaresRows
from ihtjax.exact.oracle import check_levels
from ihtjax.exact.stability import is_ht_stable, limit_of_descent
from ihtjax.exact.supports import EverySupport
from ihtjax.study.optimality import training_rows


def standardised(X):
    return (X - X.mean(0)) / np.where(X.std(0) == 0, 1, X.std(0))


def design(X, q):
    """The columns ``[m q, n]`` of theta = (W, b): output first, then feature, then the biases."""
    eye = np.eye(q)
    columns = [np.kron(eye[:, [k]], X[:, [f]]) for k in range(q) for f in range(X.shape[1])]
    return np.column_stack(columns + [np.kron(eye[:, [k]], np.ones((len(X), 1))) for k in range(q)])


def brute_force(X, y):
    """All supports ``[2^n, n]``, their infima, and what counts as equal: 1e-9 of the targets' variance."""
    y = y.reshape(len(X), -1)
    A, t = design(X, y.shape[1]), y.T.ravel()
    supports = np.array(list(itertools.product([False, True], repeat=A.shape[1])))
    infima = np.empty(len(supports))
    for i, S in enumerate(supports):
        v = np.linalg.lstsq(A[:, S], t, rcond=None)[0]
        infima[i] = ((A[:, S] @ v - t) ** 2).sum() / (2 * len(X))
    return supports, infima, 1e-9 * y.var(0).sum()


@functools.lru_cache
def diabetes(seed):
    (split,) = training_rows(SweepConfig(data="sklearn:diabetes"), [seed])
    return split.X, split.y


def linnerud():
    X, y = datasets.load_linnerud(return_X_y=True)
    return standardised(X), y


def twins():
    """Two equal targets, and a third of twice their size: ties between outputs."""
    draw = np.random.default_rng(1)
    X = standardised(draw.normal(size=(15, 2)))
    y = X @ [1.0, 0.5] + 0.3 * draw.normal(size=15)
    return X, np.column_stack([y, y, 2 * y])


def dependent():
    """A feature twice, one of zeros, and one that is the sum of two."""
    draw = np.random.default_rng(2)
    a, b = draw.normal(size=(2, 20))
    X = np.column_stack([a, a, np.zeros(20), b, a + b])
    return X, a + 2 * b + draw.normal(size=20)


TABLES = {
    **{f"diabetes, split {seed}": functools.partial(diabetes, seed) for seed in (0, 1, 2)},
    "linnerud": linnerud,
    "equal targets": twins,
    "dependent columns": dependent,
    "constant target": lambda: (standardised(np.random.default_rng(3).normal(size=(9, 3))), np.full(9, 7.0)),
    "fewer rows than parameters": lambda: (np.random.default_rng(4).normal(size=(3, 5)), np.array([1.0, -1.0, 3.0])),
}


@pytest.mark.parametrize("name", TABLES)
def test_it_is_the_best_of_all_supports_solved_one_by_one(name):
    X, y = TABLES[name]()
    supports, infima, tie = brute_force(X, y)
    size, tie = supports.sum(1), tie or 1e-9 * np.abs(y).max() ** 2
    levels = range(1, supports.shape[1] + 1)
    for s, best in zip(levels, best_subsets(X, y, levels, loss="squared")):
        least = infima[size <= s].min()
        assert best.loss == pytest.approx(least, abs=1e-9) and best.within < 1e-9
        good = infima <= least + tie
        assert best.n_best == (good & (size == s)).sum()
        assert best.n_best_at_most == (good & (size <= s)).sum()
        expected = {S.tobytes() for S in supports[good & (size <= s)]}
        assert {S.tobytes() for S in best.supports} == expected and best.support.tobytes() in expected
        assert best.attained and best.existence == "attained" and not best.theta[~best.support].any()
        r = design(X, y.size // len(y)) @ best.theta - y.reshape(len(y), -1).T.ravel()
        assert r @ r / (2 * len(y)) == pytest.approx(best.loss, abs=1e-9)


def test_a_level_alone_is_the_same_as_with_others():
    X, y = linnerud()
    for s, best in zip((12, 1, 5), best_subsets(X, y, [12, 1, 5], loss="squared")):
        alone = best_subset(X, y, s, loss="squared")
        assert alone.loss == best.loss and alone.n_best_at_most == best.n_best_at_most
        np.testing.assert_array_equal(alone.supports, best.supports)


def test_of_dependent_columns_the_shortest_minimiser_is_given():
    X, y = dependent()
    best = best_subset(X, y, 6, loss="squared")
    full = np.linalg.pinv(design(X, 1)) @ y
    r = design(X, 1) @ full - y
    assert best.loss == pytest.approx(r @ r / 40, abs=1e-12)
    found = LeastSquaresRows(X, y).optima(np.ones((1, 6), bool)).theta[0]
    assert np.linalg.norm(found) < 1.5 * np.linalg.norm(full) and found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("scale, unit", [(1e-8, 1.0), (1e8, 1.0), (1.0, 1e6), (1.0, 1e-6)])
def test_units_of_columns_and_targets_change_nothing(scale, unit):
    X, y = diabetes(0)
    plain = best_subsets(X, y, range(1, 12), loss="squared")
    for before, after in zip(plain, best_subsets(scale * X, unit * y, range(1, 12), loss="squared")):
        assert after.loss == pytest.approx(unit**2 * before.loss, rel=1e-12)
        assert (after.support == before.support).all() and after.n_best_at_most == before.n_best_at_most


def exactly(A, t):
    """The infimum of |A v - t|^2 / (2m) in rational numbers, of columns that are independent."""
    A, t = ([[Fraction(float(a)) for a in row] for row in np.atleast_2d(M)] for M in (A.T, t))
    k = len(A)
    M = [[sum(a * b for a, b in zip(A[i], A[j])) for j in range(k)] for i in range(k)]
    M = [row + [sum(a * b for a, b in zip(A[i], t[0]))] for i, row in enumerate(M)]
    for i in range(k):
        M[i] = [a / M[i][i] for a in M[i]]
        for j in range(k):
            if j != i:
                M[j] = [a - M[j][i] * b for a, b in zip(M[j], M[i])]
    r = [b - sum(M[i][-1] * A[i][row] for i in range(k)) for row, b in enumerate(t[0])]
    return float(sum(a * a for a in r) / (2 * len(r)))


@pytest.mark.parametrize("apart", [1e-1, 1e-4, 1e-7, 1e-10])
def test_infima_are_within_what_is_said_of_the_exact_ones(apart):
    """Columns that differ by ever less, in rational arithmetic."""
    draw = np.random.default_rng(0)
    a, b, c = draw.normal(size=(3, 12))
    X, y = np.column_stack([a, a + apart * b, c]), a + 3 * b + draw.normal(size=12)
    rows = LeastSquaresRows(X, y)
    supports = np.array(list(itertools.product([False, True], repeat=4)))[1:]
    found = rows.optima(supports)
    A = np.column_stack([X, np.ones(12)])
    off = found.infimum - [exactly(A[:, S], y) for S in supports]
    assert (np.abs(off) <= found.within + 1e-15).all()
    assert found.within[~supports[:, :2].all(1)].max() < 1e-13 and found.within.max() < 1e-13 / apart


def test_where_floats_cannot_tell_a_warning_says_so():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 30))
    X = np.column_stack([a, a + 1e-12 * b])
    with pytest.warns(RuntimeWarning, match="some infima are only known within [^ ]*, where .*: columns are nearly"):
        best_subset(X, b, 3, loss="squared")


def test_where_ties_are_too_many_they_are_not_counted(monkeypatch):
    X, y = twins()
    assert best_subset(X, y, 5, loss="squared").n_best is not None
    monkeypatch.setattr(search, "MAX_TIES", 1)
    best = best_subset(X, y, 5, loss="squared")
    assert best.n_best is None and best.n_best_at_most is None and len(best.supports)


def test_levels_that_no_enumeration_reaches_are_reached_output_by_output():
    """Three targets of 10 features: 33 parameters, 1e9 supports of 16; each output has 462 of 5 or 6 at most."""
    X, y = diabetes(0)
    Y = np.column_stack([y[:, 0], X[:, 0] ** 2, np.sin(X[:, 1] * X[:, 2])])
    best = best_subset(X, Y, 16, loss="squared")
    alone = [[b.loss for b in best_subsets(X, t, range(1, 12), loss="squared")] for t in Y.T]
    alone = [[(t**2).mean() / 2, *its] for t, its in zip(Y.T, alone)]
    shares = [(i, j, 16 - i - j) for i in range(12) for j in range(12) if 0 <= 16 - i - j <= 11]
    assert best.loss == pytest.approx(min(sum(its[k] for its, k in zip(alone, share)) for share in shares), rel=1e-12)
    assert best.support.sum() == 16


@pytest.mark.parametrize("s, says", [(9, "level 9 of 61 parameters has 1.73e\\+10 supports"), (62, "s: got 62")])
def test_too_many_supports_are_refused(s, says):
    rows = LeastSquaresRows(np.zeros((4, 60)), np.zeros(4))
    with pytest.raises(InputError, match=says):
        check_levels([s], rows)
    check_levels([4], rows)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"y": np.zeros(3)}, "got shapes"),
        ({"y": np.zeros((5, 1, 1))}, "got shapes"),
        ({"y": np.full(5, np.nan)}, "finite"),
        ({"s": 4}, "s: got 4, expected a whole number from 1 to 3"),
        ({"loss": "huber"}, "loss: got 'huber', expected one with an oracle, cross_entropy, logistic, squared"),
    ],
)
def test_wrong_calls_get_one_line(change, says):
    with pytest.raises(InputError, match=says):
        best_subset(**({"X": np.ones((5, 2)), "y": np.arange(5.0), "s": 2, "loss": "squared"} | change))
    with pytest.raises(InputError, match="classes: got 2, expected None"):
        best_subsets(np.ones((5, 2)), np.arange(5.0), [1], 2, loss="squared")


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_minimisers_always_exist(loss):
    assert existence(np.ones((3, 1)), np.arange(3.0), np.ones(2, bool), loss=loss) == "attained"


def test_loss_and_gradient_are_the_models():
    X, Y = linnerud()
    rows, A, t = LeastSquaresRows(X, Y, 3), design(X, 3), Y.T.ravel()
    theta = np.random.default_rng(0).normal(size=(6, 12)) * 30
    r = theta @ A.T - t
    np.testing.assert_allclose(rows.loss(theta), (r**2).sum(1) / 40, rtol=1e-12)
    np.testing.assert_allclose(rows.gradient(theta), r @ A / 20, rtol=1e-10, atol=1e-9)


# Supports without symmetries.


def test_supports_above_and_below_are_those_that_contain_and_lie_in_them():
    of = EverySupport(6)
    draw = np.random.default_rng(0)
    for size in range(6):
        some, larger = of.of_size(size), of.of_size(size + 1)
        assert len(some) == of.count(size) and (some.sum(1) == size).all() and len(np.unique(some, axis=0)) == len(some)
        for i, row in enumerate(of.above(size)):
            contains = [j for j, other in enumerate(larger) if (other | some[i] == other).all()]
            assert sorted(row) == contains
        kept = larger[draw.random(len(larger)) < 0.8]
        inside = {S.tobytes() for S in kept}
        above = [[other.tobytes() for other in larger if (other | S == other).all()] for S in some]
        expected = {S.tobytes() for S, its in zip(some, above) if inside.issuperset(its)}
        assert {S.tobytes() for S in of.below(kept)} == expected
    assert len(of.below(of.of_size(0))) == 0


# Where descent heads.


def test_descent_on_a_support_ends_where_it_is_said_to_and_stays_if_it_is_stable():
    X, Y = linnerud()
    X = np.column_stack([X, X[:, 0]])  # a feature twice
    rows, A, t = LeastSquaresRows(X, Y, 3), design(X, 3), Y.T.ravel()
    draw, verdicts = np.random.default_rng(5), []
    step = len(X) / np.linalg.norm(A, 2) ** 2
    for gamma in np.repeat([0.2 * step, 1.9 * step], 20):
        on = np.append(draw.permutation(12) < 2, [True] * 3)
        theta = end = np.where(on, 20 * draw.normal(size=15), 0)
        for _ in range(3000):
            end = end - step * np.where(on, (A @ end - t) @ A / len(X), 0)
        limit = limit_of_descent(rows, theta, rows.optima(on[None]).theta[0])
        np.testing.assert_allclose(limit, end, atol=1e-7)
        moved = limit - gamma * (A @ limit - t) @ A / len(X)
        kept = np.argsort(-np.abs(moved), kind="stable")[:5]
        verdicts.append(is_ht_stable(rows, limit, gamma, 5))
        assert verdicts[-1] == (set(kept) == set(np.flatnonzero(on)))
    assert 0 < sum(verdicts) < 40

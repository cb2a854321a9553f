"""The oracle of logistic regression, held against SciPy's BFGS on every support, and descent against descent."""

import functools
import itertools

import numpy as np
import pytest
from scipy import optimize
from sklearn import datasets

from ihtjax import InputError, best_subset, best_subsets, existence
from ihtjax.exact.logistic import LogisticRows
from ihtjax.exact.stability import is_ht_stable, limit_of_descent


def f(theta, X, y):
    z = X @ theta[:-1] + theta[-1]
    return np.logaddexp(0, np.where(y == 1, -z, z)).mean()


def gradient(theta, X, y):
    z = X @ theta[:-1] + theta[-1]
    r = 1 / (1 + np.exp(-z)) - y
    return np.append(r @ X, r.sum()) / len(X)


def minimize(X, y, support):
    """Infimum over one support; where it is only approached, up to 1e-6 too high."""

    def value_and_gradient(v):
        theta = np.zeros(len(support))
        theta[support] = v
        return f(theta, X, y), gradient(theta, X, y)[support]

    start = np.zeros(support.sum())
    return optimize.minimize(value_and_gradient, start, jac=True, method="BFGS", options={"gtol": 1e-8}).fun


def every_support(n):
    return np.array(list(itertools.product([False, True], repeat=n)))


def standardised(X):
    return (X - X.mean(0)) / X.std(0)


def cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return standardised(X[:, [0, 1, 4, 5, 8, 9]]), y


def overlapping():
    draw = np.random.default_rng(0)
    y = np.arange(24) % 2
    return standardised(draw.normal(size=(24, 4)) + 0.8 * y[:, None]), y


def separated():
    """Its second feature separates the classes only with the bias, the third needs none, the first does not."""
    draw = np.random.default_rng(1)
    y = np.arange(12) % 2
    return np.column_stack([draw.normal(size=12), 1 + y + 0.1 * draw.normal(size=12), 2 * y - 1]), y


TABLES = {"breast cancer": cancer, "overlapping": overlapping, "separated": separated}


@functools.lru_cache
def infima(name):
    X, y = TABLES[name]()
    supports = every_support(X.shape[1] + 1)
    return supports, np.array([minimize(X, y, S) if S.any() else np.log(2) for S in supports])


@pytest.mark.parametrize("name", TABLES)
def test_it_is_the_best_of_all_supports_solved_one_by_one(name):
    X, y = TABLES[name]()
    supports, theirs = infima(name)
    size = supports.sum(1)
    for s, best in enumerate(best_subsets(X, y, range(1, supports.shape[1] + 1), loss="logistic"), 1):
        least = theirs[size <= s].min()
        assert best.loss == pytest.approx(least, abs=1e-9 if best.attained else 1e-6) and best.within < 1e-9
        assert f(best.theta, X, y) <= best.loss + 1e-9 and not best.theta[~best.support].any()
        good = theirs <= least + (1e-9 if best.attained else 1e-5)
        assert best.n_best == (good & (size == s)).sum() and best.n_best_at_most == (good & (size <= s)).sum()
        assert best.existence == ("separated" if name == "separated" else "attained")


@pytest.mark.parametrize("name", TABLES)
def test_restricted_optima_and_what_they_are_within(name):
    X, y = TABLES[name]()
    supports, theirs = infima(name)
    found = LogisticRows(X, y).optima(supports)
    np.testing.assert_allclose(found.infimum, theirs, atol=1e-6)
    assert (found.infimum <= theirs + 1e-9).all() and (found.within < 1e-9).all() and not found.theta[~supports].any()


def looks_separated(X, y, support):
    """Look along many directions of a small support."""
    grid = np.array(list(itertools.product(np.linspace(-1, 1, 17), repeat=support.sum())))
    theta = np.zeros((len(grid), len(support)))
    theta[:, support] = grid
    lead = (theta[:, :-1] @ X.T + theta[:, -1:]) * np.where(y == 1, 1, -1)
    if (lead > 1e-9).all(1).any():
        return "separated"
    return "quasi-separated" if ((lead >= -1e-9).all(1) & (lead > 1e-9).any(1)).any() else "attained"


CONSTRUCTED = {
    "separable": ([[-1], [-0.5], [0.5], [1]], [0, 0, 1, 1]),
    "separable beside 0": ([[0.25], [0.5], [1], [1.5]], [0, 0, 1, 1]),
    "touching": ([[-1], [0], [0], [1]], [0, 0, 1, 1]),
    "overlapping": ([[-1], [0.5], [-0.5], [1]], [0, 0, 1, 1]),
    "one class only": ([[-1], [1]], [1, 1]),
}


@pytest.mark.parametrize("name", CONSTRUCTED)
def test_existence_agrees_with_brute_force_on_every_support(name):
    X, y = (np.array(a, float) for a in CONSTRUCTED[name])
    y = y.astype(int)
    rows = LogisticRows(X, y)
    for support in every_support(2):
        expected = looks_separated(X, y, support)
        assert existence(X, y, support, loss="logistic") == expected == rows.existence(support)
    found = rows.optima(every_support(2))
    assert not found.converged[[looks_separated(X, y, S) != "attained" for S in every_support(2)]].any()


def test_loss_and_gradient_are_the_models():
    X, y = cancer()
    rows, theta = LogisticRows(X, y), np.random.default_rng(0).normal(size=(8, 7)) * 3
    np.testing.assert_allclose(rows.loss(theta), [f(t, X, y) for t in theta], rtol=1e-12)
    np.testing.assert_allclose(rows.gradient(theta), [gradient(t, X, y) for t in theta], atol=1e-13)


def test_descent_ends_where_it_is_said_to_and_stays_if_it_is_stable():
    X, y = overlapping()
    X = np.column_stack([X, X[:, 1]])  # a feature twice: descent keeps the difference of its two weights
    rows, draw, verdicts = LogisticRows(X, y), np.random.default_rng(2), []
    for gamma in np.repeat([0.5, 4.0], 15):
        on = draw.permutation(6) < 3
        theta = end = np.where(on, draw.normal(size=6), 0)
        for _ in range(3000):
            end = end - np.where(on, gradient(end, X, y), 0)
        minimiser = rows.sharpened(on[None], rows.optima(on[None]).theta)[0]
        limit = limit_of_descent(rows, theta, minimiser)
        np.testing.assert_allclose(limit, end, atol=1e-8)
        moved = limit - gamma * gradient(limit, X, y)
        kept = np.argsort(-np.abs(moved), kind="stable")[:3]
        verdicts.append(is_ht_stable(rows, limit, gamma, 3))
        assert verdicts[-1] == (set(kept) == set(np.flatnonzero(on)))
    assert 0 < sum(verdicts) < 30


@pytest.mark.parametrize(
    "change, says",
    [
        ({"y": np.array([0, 1, 2, 0])}, "y: got classes up to 2, expected 0 and 1; take cross_entropy"),
        ({"y": np.array([0.0, 0.5, 1, 1])}, "expected whole numbers"),
        ({"s": 4}, "s: got 4, expected a whole number from 1 to 3"),
        ({"X": np.zeros((4, 80)), "s": 9}, "level 9 of 81 parameters has 2.61e.11 supports"),
    ],
)
def test_wrong_calls_get_one_line(change, says):
    with pytest.raises(InputError, match=says):
        best_subset(**({"X": np.ones((4, 2)), "y": np.array([0, 1, 1, 0]), "s": 2, "loss": "logistic"} | change))


def test_supports_and_classes_that_do_not_fit_are_refused():
    X, y = np.ones((4, 2)), np.array([0, 1, 1, 0])
    with pytest.raises(InputError, match=r"support: got \(6,\) and classes up to 1, expected a mask of 3 parameters"):
        existence(X, y, np.ones(6, bool), loss="logistic")
    with pytest.raises(InputError, match="loss: got 'poisson', expected 'cross_entropy' or 'logistic'"):
        existence(X, y, np.ones(3, bool), loss="poisson")

import itertools
import re
import signal
from functools import lru_cache

import numpy as np
import pytest
import reference
from scipy import optimize

from ihtjax import InputError, SweepConfig, best_subset, best_subsets, canonical_support, existence, interrupts
from ihtjax.exact import newton as newton_module
from ihtjax.exact import search
from ihtjax.exact.newton import restricted_optima
from ihtjax.exact.oracle import check_levels
from ihtjax.exact.search import Search
from ihtjax.exact.softmax import SoftmaxRows
from ihtjax.problems.table import load_table
from ihtjax.solvers import draws
from ihtjax.study.optimality import training_rows

IRIS = load_table("iris")


def split(seed, size=120, table=IRIS):
    """Standardised training rows of Iris in its usual order."""
    rows = np.random.default_rng(seed).permutation(len(table.y))[:size]
    X = table.X[rows]
    return (X - X.mean(0)) / X.std(0), table.y[rows]


def f(theta, X, y):
    return reference.loss(theta[None], X[None], y[None])[0]


def gradient(theta, X, y):
    return reference.gradient(theta[None], X[None], y[None])[0]


def minimize(X, y, support, gtol=1e-7):
    """Infimum over one support by SciPy's BFGS; where it is only approached, up to 1e-6 too high."""
    m, d = X.shape
    K = len(support) // (d + 1)
    # One column for each entry of the support: its class, and the feature or the 1 that it multiplies.
    k = np.concatenate([np.repeat(np.arange(K), d), np.arange(K)])[support]
    feature = np.concatenate([np.tile(np.arange(d), K), np.full(K, d)])[support]
    columns, one_hot = np.column_stack([X, np.ones(m)])[:, feature], np.eye(K)
    to_class, Y = one_hot[k], one_hot[y]

    def value_and_gradient(v):
        z = (columns * v) @ to_class
        z -= z.max(1, keepdims=True)
        log_total = np.log(np.exp(z).sum(1, keepdims=True))
        residual = np.exp(z - log_total) - Y
        return (log_total[:, 0] - (z * Y).sum(1)).mean(), (columns * residual[:, k]).mean(0)

    return optimize.minimize(value_and_gradient, np.zeros(len(k)), jac=True, method="BFGS", options={"gtol": gtol}).fun


def exhaustive(X, y, K, s):
    """The least infimum over all supports of exactly s entries, one after another; those that come near it twice."""
    n = K * (X.shape[1] + 1)
    supports = [np.isin(np.arange(n), S) for S in itertools.combinations(range(n), s)]
    rough = np.array([minimize(X, y, support, gtol=1e-4) for support in supports])
    return min(minimize(X, y, supports[i]) for i in np.flatnonzero(rough < rough.min() + 3e-3))


def same_spaces(K):
    """The subsets of a feature's K parameters, and for each the first that spans the same space of logits but for a
    shift: equal ranks, alone and together."""
    subsets = [np.array(S, int) for size in range(K + 1) for S in itertools.combinations(range(K), size)]
    centred = np.eye(K) - 1 / K

    def rank(columns):
        return np.linalg.matrix_rank(centred[:, columns]) if len(columns) else 0

    def same(S, T):
        return rank(S) == rank(T) == rank(np.concatenate([S, T]))

    return subsets, [next(j for j, T in enumerate(subsets) if same(S, T)) for S in subsets]


def newton(X, y, K, P, rounds=100):
    """Infima ``[L]`` over the parameters in the ranges of projectors P ``[L, D K, D K]``, parameters by feature."""
    X = np.column_stack([X, np.ones(len(X))])
    m, D = X.shape
    own, products = np.eye(K)[y], (X[:, :, None] * X[:, None]).reshape(m, -1)

    def value(theta):
        z = X @ theta.reshape(-1, D, K)
        z = z - (z * own).sum(-1, keepdims=True)
        top = z.max(-1, keepdims=True)
        e = np.exp(z - top)
        total = e.sum(-1, keepdims=True)
        return (top + np.log(total))[..., 0].mean(-1), e / total

    infimum, at = np.empty(len(P)), np.arange(len(P))
    theta = np.zeros((len(P), D * K))
    f, p = value(theta)
    for _ in range(rounds):
        wrong = np.where(own == 1, 0, p)
        residual = wrong - own * wrong.sum(-1, keepdims=True)
        g = (P @ (X.T @ residual / m).reshape(len(p), -1, 1))[..., 0]
        H = np.empty((len(p), D, K, D, K))
        for k, j in itertools.product(range(K), repeat=2):
            weight = p[..., k] * (np.delete(p, k, -1).sum(-1) if j == k else -p[..., j])
            H[:, :, k, :, j] = (weight @ products / m).reshape(-1, D, D)
        H = P @ H.reshape(len(p), D * K, D * K) @ P + np.eye(D * K) - P + 1e-14 * np.eye(D * K)
        step = -(P @ np.linalg.solve(H, g[..., None]))[..., 0]
        infimum[at] = f
        going = -(step * g).sum(-1) > 1e-12
        if not going.any():
            return infimum
        at, P, theta, step, f = at[going], P[going], theta[going], step[going], f[going]
        new, p = value(theta + step)
        for _ in range(40):
            bad = new > f
            if not bad.any():
                break
            step[bad] /= 2
            new[bad], p[bad] = value(theta[bad] + step[bad])
        theta, f = theta + step, new
    raise AssertionError(f"{len(at)} spaces are left over")


@lru_cache
def brute_force_infima(name):
    """Sizes and infima of all 2^n supports of a table in `TABLES`; spaces of logits that are equal are solved once."""
    X, y, K = TABLES[name]()
    D = X.shape[1] + 1
    subsets, first = same_spaces(K)
    centred = np.eye(K) - 1 / K
    spans = [centred[:, S] @ np.linalg.pinv(centred[:, S]) if len(S) else np.zeros((K, K)) for S in subsets]
    each = np.array(list(itertools.product(range(len(subsets)), repeat=D)))
    spaces, which = np.unique(np.array(first)[each], axis=0, return_inverse=True)
    P = np.zeros((len(spaces), D, K, D, K))
    for b in range(D):
        P[:, b, :, b] = np.array(spans)[spaces[:, b]]
    return np.array([len(S) for S in subsets])[each].sum(1), newton(X, y, K, P.reshape(len(P), D * K, D * K))[which]


def sweeps_split(trial):
    """The split of a trial of the paper's sweep, seed 0."""
    data_seed = int(draws.triple(np.uint32(0), np.uint32(trial))[0])
    (rows,) = training_rows(SweepConfig(), [data_seed])
    return rows


def random_table(seed, rows, features, classes, spread):
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    X = rng.normal(size=(rows, features)) + spread * rng.normal(size=(classes, features))[y]
    return (X - X.mean(0)) / X.std(0), y, classes


TABLES = {
    "trial 2, separated from s = 6 on": lambda: sweeps_split(2),
    "trial 3, not separated": lambda: sweeps_split(3),
    "two classes": lambda: random_table(0, 30, 4, 2, 1.0),
    "two classes, separated": lambda: random_table(1, 12, 4, 2, 2.0),
    "four classes": lambda: random_table(2, 30, 2, 4, 1.0),
    "four classes, separated": lambda: random_table(3, 9, 2, 4, 4.0),
    "nothing to learn": lambda: (np.zeros((6, 2)), np.arange(6) % 3, 3),
}


# The oracle.


@pytest.mark.parametrize("name", TABLES)
def test_how_many_supports_are_best_agrees_with_all_of_them_solved(name):
    X, y, K = TABLES[name]()
    size, infimum = brute_force_infima(name)
    levels = range(1, K * (X.shape[1] + 1) + 1)
    for s, best in zip(levels, best_subsets(X, y, levels, K)):
        least = infimum[size <= s].min()
        assert best.loss == pytest.approx(least, abs=1e-10)
        good = infimum <= least + 1e-9
        assert best.n_best == (good & (size == s)).sum()
        assert best.n_best_at_most == (good & (size <= s)).sum()
        if s in (4, 9):
            alone = best_subset(X, y, s)
            assert (alone.n_best, alone.n_best_at_most) == (best.n_best, best.n_best_at_most)


def test_the_counts_that_were_wrong():
    """Before, supports were counted that hold a smaller best one at some levels, and not at others."""
    X, y, _ = TABLES["trial 2, separated from s = 6 on"]()
    seven, twelve = best_subsets(X, y, [7, 12])
    assert (seven.n_best, seven.n_best_at_most) == (2062, 2752) and twelve.n_best <= 455


def test_where_ties_are_too_many_they_are_not_counted(monkeypatch):
    X, y, K = TABLES["trial 2, separated from s = 6 on"]()
    monkeypatch.setattr(search, "MAX_TIES", 100)
    best = best_subset(X, y, 9)
    assert best.n_best is None and best.n_best_at_most is None and len(best.supports) and best.loss < 1e-9
    assert best_subset(X, y, 1).n_best == 1


def test_levels_with_too_many_supports_between_them_are_searched_apart():
    """Levels 1 and n of a table with 14 features and three classes: 6e9 classes of supports lie between."""
    X, y, K = random_table(4, 200, 13, 3, 0.3)
    one, every = best_subsets(X, y, [1, 42])
    assert one.loss > every.loss and every.support.sum() == 28 and every.attained


def test_the_best_five_parameters_of_iris():
    X, y = split(0)
    best = best_subset(X, y, 5)
    assert best.loss == pytest.approx(0.042597375625, abs=1e-9)
    assert best.n_best == 3 and len(best.supports) == 1 and best.attained
    assert np.count_nonzero(best.theta) == 5 and not best.theta[~best.support].any()
    assert f(best.theta, X, y) == pytest.approx(best.loss, abs=1e-12)
    assert np.abs(gradient(best.theta, X, y)[best.support]).max() < 1e-8


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_sequential_exhaustive_solver_at_all_levels(seed):
    """Two features and three classes, n = 9."""
    X, y = split(seed, 40)
    X = X[:, [0, 2 + seed % 2]]
    for s, best in zip(range(1, 10), best_subsets(X, y, range(1, 10))):
        assert best.loss == pytest.approx(exhaustive(X, y, 3, s), abs=1e-6 if not best.attained else 1e-9)
        assert f(best.theta, X, y) <= best.loss + 1e-9


@pytest.mark.parametrize("s", [1, 2, 3, 4])
def test_agrees_with_a_sequential_exhaustive_solver_on_iris(s):
    X, y = split(1)
    assert best_subset(X, y, s).loss == pytest.approx(exhaustive(X, y, 3, s), abs=1e-8)


def test_levels_at_once_are_levels_alone_and_what_is_left_out_is_worse():
    X, y = split(3)
    together = best_subsets(X, y, range(1, 16))
    for s in (1, 4, 7, 12, 15):
        alone = best_subset(X, y, s)
        assert together[s - 1].loss == pytest.approx(alone.loss, abs=1e-10)
        np.testing.assert_array_equal(together[s - 1].supports, alone.supports)
        assert together[s - 1].n_best == alone.n_best
    assert (np.diff([best.loss for best in together]) <= 0).all()


def test_hints_change_nothing():
    X, y = split(4)
    rows = SoftmaxRows(X, y, 3)
    plain = Search(rows).best(range(1, 11))
    hinted = Search(rows).best(range(1, 11), hints=np.concatenate([plain[s] for s in range(3, 8)]))
    for s in range(1, 11):
        np.testing.assert_array_equal(plain[s], hinted[s])


def test_where_nothing_is_attained_theta_is_near_the_infimum():
    X, y = split(0)
    dense = best_subset(X, y, 15)
    assert not dense.attained and dense.existence == "quasi-separated"
    assert f(dense.theta, X, y) <= dense.loss + 1e-9
    separated = best_subset(X[y > 0][:12], y[y > 0][:12] - 1, 10)
    assert separated.existence == "separated" and 0 <= separated.loss < 1e-9 and not separated.attained


@pytest.mark.parametrize(
    "change, says",
    [
        ({"s": 0}, "s: got 0, expected a whole number from 1 to 15"),
        ({"s": 16}, "s: got 16"),
        ({"s": 2.5}, "s: got 2.5"),
        ({"y": np.zeros(3, int)}, "got shapes"),
        ({"y": np.full(120, 0.5)}, "expected whole numbers"),
        ({"X": np.full((120, 4), np.nan)}, "finite"),
        ({"X": np.ones((120, 30)), "s": 12}, r"level 12 of 93 parameters has .*classes.* it would take about .* years"),
    ],
)
def test_wrong_calls_get_one_line(change, says):
    X, y = split(0)
    with pytest.raises(InputError, match=says) as error:
        best_subset(**({"X": X, "y": y, "s": 3} | change))
    assert "\n" not in str(error.value)


# Restricted optima.


def test_restricted_optima_are_minima():
    X, y = split(2)
    rng = np.random.default_rng(0)
    supports = np.array([rng.permutation(15) < s for s in rng.integers(1, 16, 60)])
    optima = restricted_optima(SoftmaxRows(X, y, 3), supports)
    for support, infimum, theta in zip(supports, optima.infimum, optima.theta):
        assert not theta[~support].any() and f(theta, X, y) == pytest.approx(infimum, abs=1e-12)
        assert infimum == pytest.approx(minimize(X, y, support), abs=1e-6) and infimum <= minimize(X, y, support) + 1e-9


def test_loss_and_gradient_are_the_networks():
    X, y = split(5)
    rows = SoftmaxRows(X, y, 3)
    theta = np.random.default_rng(0).normal(size=(8, 15)) * 5
    np.testing.assert_allclose(rows.loss(theta), [f(t, X, y) for t in theta], rtol=1e-12)
    np.testing.assert_allclose(rows.gradient(theta), [gradient(t, X, y) for t in theta], atol=1e-14)


def test_a_support_that_holds_another_fits_at_least_as_well():
    X, y = split(6)
    rng = np.random.default_rng(0)
    order = np.array([rng.permutation(15) for _ in range(20)])
    infima = np.stack([restricted_optima(SoftmaxRows(X, y, 3), order < s).infimum for s in range(1, 16)])
    assert (np.diff(infima, axis=0) <= 1e-11).all()


@pytest.mark.parametrize("columns", [[0, 0], [0, 4]])
def test_features_that_repeat_or_are_constant_do_no_harm(columns):
    X, y = split(0)
    X = np.column_stack([X, np.zeros(len(X))])[:, columns]
    best = best_subset(X, y, 9)
    assert best.loss == pytest.approx(best_subset(X[:, :1], y, 6).loss, abs=1e-9)


# Scales, sentinels and what can't be told.


def random_supports(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.unique(
        canonical_support(np.array([rng.permutation(15) < s for s in rng.integers(2, 9, count)]), 3), axis=0
    )


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1e-8, 1e8, 1e150])
def test_the_scale_of_features_changes_nothing(scale):
    X, y = split(0)
    supports = random_supports(60)
    plain, scaled = (restricted_optima(SoftmaxRows(x, y, 3), supports) for x in (X, scale * X))
    np.testing.assert_allclose(scaled.infimum, plain.infimum, atol=1e-11)
    np.testing.assert_array_equal(scaled.converged, plain.converged)
    weights = np.arange(15) < 12
    np.testing.assert_allclose(scaled.theta, np.where(weights, plain.theta / scale, plain.theta), rtol=1e-3)
    rows = SoftmaxRows(scale * X, y, 3)
    np.testing.assert_allclose(rows.loss(scaled.theta), plain.infimum, atol=1e-11)
    for support in supports[:25]:
        assert existence(scale * X, y, support) == existence(X, y, support)
    best, its = best_subset(X, y, 3), best_subset(scale * X, y, 3)
    assert its.loss == pytest.approx(best.loss, abs=1e-11) and (its.support == best.support).all()


def in_extended_precision(X, y, support):
    """Infimum over one support by damped Newton in the longest floats, its systems by elimination."""
    m, d = X.shape
    K = len(support) // (d + 1)
    k = np.concatenate([np.repeat(np.arange(K), d), np.arange(K)])[support]
    feature = np.concatenate([np.tile(np.arange(d), K), np.full(K, d)])[support]
    columns = np.column_stack([X, np.ones(m)]).astype(np.longdouble)[:, feature]
    A = columns[:, None] * (np.arange(K)[:, None] == k)
    A = A - A[np.arange(m), y][:, None]

    def value(v):
        z = A @ v
        top = z.max(1, keepdims=True)
        e = np.exp(z - top)
        return (top[:, 0] + np.log(e.sum(1))).mean(), e / e.sum(1, keepdims=True)

    v = np.zeros(len(k), np.longdouble)
    f, p = value(v)
    for _ in range(300):
        mean = np.einsum("ikj,ik->ij", A, p)
        centred = A - mean[:, None]
        H = np.einsum("ikj,ik,ikl->jl", centred, p, centred) / m
        g = mean.mean(0)
        M = np.column_stack([H, g])
        for i in range(len(g)):
            M[i] /= M[i, i]
            for j in range(len(g)):
                if j != i:
                    M[j] -= M[j, i] * M[i]
        step = -M[:, -1]
        if -g @ step < 1e-14:
            return float(f)
        length = 1.0
        while not value(v + length * step)[0] < f and length > 1e-12:
            length /= 2
        v = v + length * step
        f, p = value(v)
    raise AssertionError("no end")


def sentinel(value):
    """Iris with a value in its second feature that stands for a missing one."""
    rows = np.random.default_rng(0).permutation(150)[:120]
    X = IRIS.X[rows].copy()
    X[5, 1] = value
    return (X - X.mean(0)) / X.std(0), IRIS.y[rows]


def test_a_sentinel_does_no_harm():
    X, y = sentinel(99_999_999)
    supports = [S for S in random_supports(300) if S.sum() <= 5 and (S[[1, 5, 9]] & S[12:]).any()][:15]
    optima = restricted_optima(SoftmaxRows(X, y, 3), np.array(supports))
    truth = np.array([in_extended_precision(X, y, S) for S in supports])
    np.testing.assert_allclose(optima.infimum, truth, atol=1e-9)
    assert (optima.infimum - truth <= optima.within + 1e-13).all()
    if np.finfo(np.longdouble).eps < 1e-18:
        assert (optima.within < 1e-9).all() and np.abs(optima.theta).max() > 1e6


def test_what_an_infimum_is_within_is_no_less_than_what_more_steps_gain(monkeypatch):
    """Newton's method stopped early: how far it is off is known from where it runs on."""
    X, y = split(0)
    supports = random_supports(100)
    full = restricted_optima(SoftmaxRows(X, y, 3), supports)
    assert full.within.max() < 1e-10
    monkeypatch.setattr(newton_module, "NEAR_ENOUGH", np.inf)
    for decrement in (1e-3, 1e-5, 1e-8):
        monkeypatch.setattr(newton_module, "DECREMENT", decrement)
        early = restricted_optima(SoftmaxRows(X, y, 3), supports)
        off = early.infimum - full.infimum
        assert (off <= early.within + 1e-12).all() and off.max() > decrement / 10
        assert np.median(early.within[off > 1e-12] / off[off > 1e-12]) < 10


def test_where_floats_cannot_tell_a_warning_says_so():
    """A row of 1e15 leaves the others' petal lengths three digits, and logits of 1e15 none."""
    x = IRIS.X[:, [2]].copy()
    x[149] = 1e15
    X = (x - x.mean(0)) / x.std(0)
    with pytest.warns(RuntimeWarning, match="some infima are only known within .* look for outliers and sentinels"):
        best = best_subset(X, IRIS.y, 4)
    assert best.within > 1e-9


def test_sane_data_give_no_warning(recwarn):
    best = best_subset(*split(0), 5)
    assert best.within < 1e-10 and not recwarn.list


def test_a_step_that_no_part_of_lowers_the_loss_is_not_taken(recwarn):
    """Trial 220 of the paper's sweep, separated: near a loss of .003 a support's Hessian is rounding, its step 1e16."""
    ((X, y, _),) = training_rows(SweepConfig(), [450616397])
    best = best_subset(X, y, 7)
    assert best.loss < 1e-9 and best.within < 1e-9 and best.existence == "separated" and not recwarn.list
    assert f(best.theta, X, y) < 1e-9 and np.abs(best.theta).max() < 1e9


def test_ctrl_c_ends_the_search_of_one_split_after_a_batch(monkeypatch):
    solve, batches = newton_module._solve, []

    def pressed(rows, supports):
        batches.append(len(supports))
        signal.raise_signal(signal.SIGINT)
        return solve(rows, supports)

    monkeypatch.setattr(newton_module, "_solve", pressed)
    X, y = split(0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.deferred():
            best_subset(X, y, 7)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(batches) == 1


def test_the_level_that_is_advised_where_there_are_too_many_supports_can_be_enumerated():
    """Digits: 10 classes, 64 features."""
    rows = SoftmaxRows(np.zeros((10, 64)), np.arange(10), 10)
    with pytest.raises(InputError, match="^levels: level 20 of 650") as refused:
        check_levels([20, 100], rows)
    advised = int(re.search(r"take levels up to (\d+)$", str(refused.value))[1])
    check_levels([advised], rows)
    with pytest.raises(InputError):
        check_levels([advised + 1], rows)

import itertools
from functools import lru_cache

import numpy as np
import pytest
import reference

from ihtjax import InputError, softmax_bounds, squared_error_bounds
from ihtjax.exact import bounds
from ihtjax.problems.table import load_table

IRIS = load_table("iris")
ROWS = np.random.default_rng(7).permutation(150)[:120]
X = (IRIS.X[ROWS] - IRIS.X[ROWS].mean(0)) / IRIS.X[ROWS].std(0)
Y = IRIS.y[ROWS]
LEVELS = range(1, 15)


def loss_and_gradient(theta):
    X_each, y_each = np.broadcast_to(X, (len(theta), *X.shape)), np.broadcast_to(Y, (len(theta), len(Y)))
    return reference.loss(theta, X_each, y_each), reference.gradient(theta, X_each, y_each)


def ratios(a, b):
    """(4)'s and (6)'s ratios for pairs ``[T, n]``: the constants are their suprema over s-sparse pairs."""
    (fa, ga), (fb, gb) = loss_and_gradient(a), loss_and_gradient(b)
    square = ((b - a) ** 2).sum(1)
    return 2 * (fb - fa - (ga * (b - a)).sum(1)) / square, np.sqrt(((gb - ga) ** 2).sum(1) / square)


def sparse_pairs(s, count, seed):
    """Random s-sparse pairs of all sizes: half of them near each other on one support, half unrelated."""
    rng = np.random.default_rng(seed)
    n = 15

    def draw():
        on = rng.random((count, n)).argsort(1) < s
        return np.where(on, rng.normal(size=(count, n)), 0) * 10 ** rng.uniform(-1.5, 1, (count, 1))

    a, b = draw(), draw()
    near = a * (1 + 0.1 * rng.normal(size=a.shape))
    return a, np.where(np.arange(count)[:, None] % 2, near, b)


# Where every class, or every class but the third, has the same probability on each row; the latter costs an entry.
ORIGIN, FAR = np.zeros(15), np.where(np.arange(15) == 14, -30.0, 0.0)


@lru_cache
def hessian(far):
    step, base = 1e-4 * np.eye(15), FAR if far else ORIGIN
    H = (loss_and_gradient(base + step)[1] - loss_and_gradient(base - step)[1]) / 2e-4
    return (H + H.T) / 2


def directed_pair(M, s, base=ORIGIN):
    """An s-sparse pair near base whose difference is a short multiple of the top eigenvector of the best M_SS."""
    spare = s - np.count_nonzero(base)
    free = np.flatnonzero(base == 0)
    S = free[np.array(list(itertools.combinations(range(len(free)), min(2 * spare, len(free)))))]
    values, vectors = np.linalg.eigh(M[S[:, :, None], S[:, None, :]])
    best = values[:, -1].argmax()
    a, b = np.array([[base], [base]])
    a[0, S[best][:spare]] = -1e-3 * vectors[best, :spare, -1]
    b[0, S[best][spare:]] = 1e-3 * vectors[best, spare:, -1]
    assert max(np.count_nonzero(a), np.count_nonzero(b)) <= s
    return a, b


@pytest.mark.parametrize("s", LEVELS)
def test_no_random_pair_exceeds_an_upper_end(s):
    found = softmax_bounds(X, 3, s)
    a, b = sparse_pairs(s, 10_000, seed=s)
    smoothness, lipschitz = ratios(a, b)
    assert found.exact
    assert smoothness.max() <= found.rss_upper and lipschitz.max() <= found.lipschitz_upper
    assert found.rss_lower <= found.rss_upper and found.lipschitz_lower <= found.lipschitz_upper
    # The test would see a bound that is much too large as well.
    assert smoothness.max() > 0.4 * found.rss_upper and lipschitz.max() > 0.4 * found.lipschitz_upper


@pytest.mark.parametrize("s", LEVELS)
def test_a_directed_search_reaches_each_lower_end(s):
    found = softmax_bounds(X, 3, s)
    bases = [(hessian(False), ORIGIN)] + [(hessian(True), FAR)] * (s > 1)
    smoothness = max(ratios(*directed_pair(H, s, base))[0][0] for H, base in bases)
    lipschitz = max(ratios(*directed_pair(H @ H, s, base))[1][0] for H, base in bases)
    # Not beyond them either, as far as these two points go: else the formula would leave something out.
    assert smoothness == pytest.approx(found.rss_lower, rel=0.01) and smoothness <= found.rss_upper * (1 + 1e-6)
    assert lipschitz == pytest.approx(found.lipschitz_lower, rel=0.01)
    assert lipschitz <= found.lipschitz_upper * (1 + 1e-6)


def test_with_two_classes_left_alone_the_ranges_are_points_from_s_5_on():
    """Four features of two classes hold the top eigenvector: the bias is uncorrelated with standardised features."""
    for s in range(5, 16):
        found = softmax_bounds(X, 3, s)
        top = np.linalg.eigvalsh(X.T @ X / len(X))[-1] / 2
        assert found[:4] == pytest.approx([top] * 4, rel=1e-12) and found.rss_lower <= found.rss_upper
    assert softmax_bounds(X, 3, 4).rss_lower < 0.95 * top


@pytest.mark.parametrize("K, s", [(2, 2), (4, 2), (4, 3), (5, 3)])
def test_with_other_numbers_of_classes_far_biases_reach_the_lower_end_too(K, s):
    """Only two, or all but one, of the classes left: found by pairs whose biases are far out, one feature and more."""
    rng = np.random.default_rng(K)
    x = rng.normal(size=(40, 2))
    x = (x - x.mean(0)) / x.std(0)
    y = rng.integers(0, K, 40)
    n = 3 * K
    best = np.zeros(2)
    for out in itertools.chain.from_iterable(itertools.combinations(range(K), r) for r in range(min(s, K - 1))):
        for far in (-30.0, 30.0):
            base = np.zeros(n)
            base[2 * K + np.array(out, int)] = far
            spare = s - len(out)

            def at(theta):
                each = np.broadcast_to(x, (len(theta), *x.shape)), np.broadcast_to(y, (len(theta), len(y)))
                return reference.loss(theta, *each), reference.gradient(theta, *each)

            H = (at(base + 1e-4 * np.eye(n))[1] - at(base - 1e-4 * np.eye(n))[1]) / 2e-4
            for i, M in enumerate((H, H @ H)):
                a, b = directed_pair((M + M.T) / 2, s, base)
                (fa, ga), (fb, gb) = at(a), at(b)
                square = ((b - a) ** 2).sum()
                quotients = 2 * (fb - fa - (ga * (b - a)).sum(1))[0] / square, np.linalg.norm(gb - ga) / square**0.5
                best[i] = max(best[i], quotients[i])
            assert spare > 0
    found = softmax_bounds(x, K, s)
    assert best == pytest.approx([found.rss_lower, found.lipschitz_lower], rel=0.01)


def test_the_constants_never_fall_as_s_grows():
    ends = np.array([softmax_bounds(X, 3, s)[:4] for s in range(1, 16)])
    assert (np.diff(ends, axis=0) >= -1e-12).all()


def test_with_two_classes_the_range_of_4_is_a_point():
    found = softmax_bounds(X, 2, 2)
    assert found.rss_lower == pytest.approx(found.rss_upper)


@pytest.mark.parametrize("k", [2, 5, 9, 10, 12])
def test_one_support_of_each_orbit_is_enough(k):
    B = bounds.boehning(X, 3)
    S = np.array(list(itertools.combinations(range(15), k)))
    expected = np.linalg.eigvalsh(B[S[:, :, None], S[:, None, :]])[:, -1].max()
    assert bounds.sparse_eigenvalue(B, k, 3).upper == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("s", [1, 2, 3])
def test_where_nothing_is_enumerated_the_ends_still_hold(monkeypatch, s):
    exact = softmax_bounds(X, 3, s)
    monkeypatch.setattr(bounds, "MAX_SUBMATRICES", 0)
    relaxed = softmax_bounds(X, 3, s)
    assert not relaxed.exact
    assert relaxed.rss_lower <= exact.rss_lower * (1 + 1e-12) and relaxed.rss_upper >= exact.rss_upper * (1 - 1e-12)
    assert relaxed.rss_lower > 0.8 * exact.rss_lower and relaxed.rss_upper < 1.5 * exact.rss_upper


@pytest.mark.parametrize("s", [1, 2, 3, 5])
def test_squared_error_is_exact(s):
    A = np.random.default_rng(0).normal(size=(12, 8))
    found = squared_error_bounds(A, s)
    supports = [list(S) for S in itertools.combinations(range(8), min(2 * s, 8))]
    smoothness = max(np.linalg.norm(A[:, S], 2) ** 2 for S in supports)
    lipschitz = max(np.linalg.norm(A.T @ A[:, S], 2) for S in supports)
    assert found.exact
    assert found[:4] == pytest.approx((smoothness, smoothness, lipschitz, lipschitz))


def test_the_status_of_a_step():
    found = bounds.Bounds(1.0, 2.0, 1.0, 2.0, True)
    assert [bounds.step_status(g, found) for g in (0.4, 0.5, 0.6, 1.0, 1.1)] == [
        "certified",
        "certified",
        "open",
        "open",
        "refuted",
    ]


@pytest.mark.parametrize("s", LEVELS)
def test_the_certified_step_is_certified_in_float32_too(s):
    for dtype in (np.float32, np.float64):
        step = bounds.certified_step_size(X, 3, s, dtype)
        found = softmax_bounds(X, 3, s)
        assert bounds.step_status(float(step), found) == "certified"
        assert step == pytest.approx(1 / found.rss_upper, rel=3e-6) and step.dtype == dtype


@pytest.mark.parametrize("s", [0, 16, 1.5])
def test_levels_out_of_range_are_refused(s):
    with pytest.raises(InputError, match="s: got"):
        softmax_bounds(X, 3, s)

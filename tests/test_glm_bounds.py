"""Ranges of the constants of (4) and (6) for logistic loss, squared error and Huber's loss, held against pairs."""

import itertools

import numpy as np
import pytest

from ihtjax import InputError, glm_bounds
from ihtjax.exact import bounds
from ihtjax.exact.by_loss import BY_LOSS, certificates
from ihtjax.problems.linear import Linear
from ihtjax.problems.losses import LOSSES, Squared
from ihtjax.problems.table import load_table
from ihtjax.sweeps.certified import certificates_of

DRAW = np.random.default_rng(3)
X = DRAW.normal(size=(40, 4)) * [1, 2, 0.5, 1]
X = (X - X.mean(0)) / X.std(0)
A = np.column_stack([X, np.ones(40)])
NUMBERS = X @ [1.0, -0.5, 0.3, 0.0] + DRAW.normal(size=40)
LOSS = {
    "logistic": (
        (NUMBERS > 0).astype(int),
        lambda z, y: np.logaddexp(0, z) - y * z,
        lambda z, y: 1 / (1 + np.exp(-z)) - y,
    ),
    "squared": (NUMBERS, lambda z, y: (z - y) ** 2 / 2, lambda z, y: z - y),
    "huber": (
        NUMBERS,
        lambda z, y: np.where(abs(z - y) <= 1.35, (z - y) ** 2 / 2, 1.35 * (abs(z - y) - 0.675)),
        lambda z, y: np.clip(z - y, -1.35, 1.35),
    ),
}


def ratios(loss, a, b):
    """(4)'s and (6)'s quotients for pairs ``[T, 5]``."""
    y, value, slope = LOSS[loss]
    (fa, fb), (ga, gb) = ((value(t @ A.T, y).mean(1) for t in (a, b)), (slope(t @ A.T, y) @ A / 40 for t in (a, b)))
    square = ((b - a) ** 2).sum(1)
    return 2 * (fb - fa - (ga * (b - a)).sum(1)) / square, np.sqrt(((gb - ga) ** 2).sum(1) / square)


def found(loss, s):
    return BY_LOSS[loss].bounds(X, LOSS[loss][0], 1, s)


@pytest.mark.parametrize("s", [1, 2, 4])
@pytest.mark.parametrize("loss", LOSS)
def test_no_random_pair_exceeds_an_upper_end(loss, s):
    draw = np.random.default_rng(s)
    a, b = (np.where(draw.random((20_000, 5)).argsort(1) < s, draw.normal(size=(20_000, 5)), 0) for _ in range(2))
    near = np.arange(20_000)[:, None] % 2 == 0
    b = np.where(near, a * (1 + 0.1 * draw.normal(size=a.shape)), b) * 10 ** draw.uniform(-1, 0.5, (20_000, 1))
    ends, (smoothness, lipschitz) = found(loss, s), ratios(loss, a, b)
    assert ends.exact and ends.rss_lower <= ends.rss_upper and ends.lipschitz_lower <= ends.lipschitz_upper
    assert smoothness.max() <= ends.rss_upper * (1 + 1e-9) and lipschitz.max() <= ends.lipschitz_upper * (1 + 1e-9)
    # The test would see a bound that is much too large as well.
    assert smoothness.max() > 0.5 * ends.rss_upper and lipschitz.max() > 0.5 * ends.lipschitz_upper


def near_zero(M, s, width=1e-4):
    """The s-sparse pair near 0 whose difference is the top eigenvector of the best M_SS, |S| = 2s."""
    S = np.array(list(itertools.combinations(range(5), min(2 * s, 5))))
    values, vectors = np.linalg.eigh(M[S[:, :, None], S[:, None, :]])
    best = values[:, -1].argmax()
    a, b = np.zeros((2, 1, 5))
    a[0, S[best][:s]] = -width * vectors[best, :s, -1]
    b[0, S[best][s:]] = width * vectors[best, s:, -1]
    return a, b


@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("loss", LOSS)
def test_pairs_near_zero_reach_each_lower_end(loss, s):
    y, _, slope = LOSS[loss]
    # The rows that bend there: by differences of the loss's slope.
    bend = (slope(np.full(40, 1e-6), y) - slope(np.full(40, -1e-6), y)) / 2e-6
    H, ends = A.T @ (bend[:, None] * A) / 40, found(loss, s)
    assert loss != "huber" or 0 < (bend < 0.5).sum() < 20
    assert ratios(loss, *near_zero(H, s))[0][0] == pytest.approx(ends.rss_lower, rel=1e-3)
    six = ratios(loss, *near_zero(H @ H, s))[1][0]
    assert six >= ends.lipschitz_lower * (1 - 1e-6)
    if loss != "huber":  # its rows beyond delta make (6)'s lower end one that need not be reached
        assert six == pytest.approx(ends.lipschitz_lower, rel=1e-3)


@pytest.mark.parametrize("s", [1, 2, 3])
def test_the_range_of_4_is_a_point_where_curvature_is_reached_at_zero(s):
    supports = [list(S) for S in itertools.combinations(range(5), min(2 * s, 5))]
    G = A.T @ A / 40
    four = max(np.linalg.eigvalsh(G[np.ix_(S, S)])[-1] for S in supports)
    six = max(np.linalg.norm(G[:, S], 2) for S in supports)
    assert found("squared", s)[:4] == pytest.approx((four, four, six, six))
    logistic = found("logistic", s)
    assert logistic[:3] == pytest.approx((four / 4, four / 4, six / 4)) and logistic.lipschitz_upper >= six / 4 - 1e-12
    every = glm_bounds(X, 1.0, s, reached=np.ones(40, bool))
    assert every.rss_lower == every.rss_upper == pytest.approx(four)


@pytest.mark.parametrize("s", [2, 7])
def test_outputs_share_no_curvature(s):
    """By brute force over the supports of two outputs, ten parameters."""
    H = np.kron(np.eye(2), A.T @ A / 40)
    supports = [list(S) for S in itertools.combinations(range(10), min(2 * s, 10))]
    four = max(np.linalg.eigvalsh(H[np.ix_(S, S)])[-1] for S in supports)
    six = max(np.linalg.norm(H[:, S], 2) for S in supports)
    assert BY_LOSS["squared"].bounds(X, np.zeros((40, 2)), 2, s)[:4] == pytest.approx((four, four, six, six))


def test_where_no_row_bends_at_zero_nothing_is_claimed_from_below():
    ends = BY_LOSS["huber"].bounds(X, np.full((40, 1), 150.0), 1, 2)
    assert ends.rss_lower == ends.lipschitz_lower == 0 < ends.rss_upper
    assert bounds.step_status(1e6, ends) == "open" and bounds.step_status(0.9 / ends.rss_upper, ends) == "certified"


def test_where_nothing_is_enumerated_the_ends_still_hold(monkeypatch):
    exact = found("logistic", 1)
    monkeypatch.setattr(bounds, "MAX_SUBMATRICES", 0)
    relaxed = found("logistic", 1)
    assert not relaxed.exact and relaxed.rss_lower <= exact.rss_lower * (1 + 1e-12)
    assert relaxed.rss_upper >= exact.rss_upper * (1 - 1e-12) and relaxed.lipschitz_upper >= exact.lipschitz_upper


@pytest.mark.parametrize("loss", BY_LOSS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_registered_steps_are_certified(loss, dtype):
    q = 2 if loss == "cross_entropy" else 1
    step = BY_LOSS[loss].step_size(X, q, 2, dtype)
    ends = BY_LOSS[loss].bounds(X, (NUMBERS > 0).astype(int), q, 2)
    assert bounds.step_status(float(step), ends) == "certified" and step.dtype == dtype
    assert step == pytest.approx(1 / ends.rss_upper, rel=3e-6)


class Doubled(Squared):
    """A user's, which bears a registered name and isn't it."""

    curvature = 2.0


def test_what_is_known_is_known_by_the_loss_itself():
    assert all(certificates(LOSSES[loss]) is BY_LOSS[loss] for loss in BY_LOSS)
    assert certificates(LOSSES["poisson"]) is None
    theirs = certificates(Doubled())
    assert theirs.rows is None and theirs.bounds(X, NUMBERS, 1, 1).rss_lower == 0
    assert theirs.step_size(X, 1, 1, np.float64) == pytest.approx(BY_LOSS["squared"].step_size(X, 1, 1, np.float64) / 2)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"s": 6}, "s: got 6, expected a whole number from 1 to 5"),
        ({"curvature": 0}, "curvature: got 0"),
        ({"outputs": 0}, "outputs: got 0"),
        ({"reached": np.ones(3, bool)}, "expected a mask of 40 rows"),
        ({"reached": np.ones(40)}, "expected a mask of booleans"),
    ],
)
def test_wrong_calls_get_one_line(change, says):
    with pytest.raises(InputError, match=says):
        glm_bounds(**({"X": X, "curvature": 1.0, "s": 2} | change))


class Decayed(Linear):
    """A user's, whose f has a curvature of its own beside the loss's."""


def test_a_subclass_may_be_of_another_objective_and_gets_no_certificate():
    table = load_table("sklearn:diabetes")
    assert certificates_of(Linear(table, LOSSES["squared"])) is BY_LOSS["squared"]
    assert certificates_of(Decayed(table, LOSSES["squared"])) is None

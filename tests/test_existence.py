"""Whether a support's infimum is attained."""

import itertools

import numpy as np
import pytest

from ihtjax import InputError, canonical_support, existence
from ihtjax.exact.newton import restricted_optima
from ihtjax.exact.softmax import SoftmaxRows
from tests.test_oracle import split


def brute_force(X, y, support, K):
    """Look along many directions of a small support: "separated", "quasi-separated" or "attained"."""
    at = np.flatnonzero(support)
    grid = np.array(list(itertools.product(np.linspace(-1, 1, 9), repeat=len(at))))
    theta = np.zeros((len(grid), len(support)))
    theta[:, at] = grid
    d = X.shape[1]
    W, b = theta[:, : K * d].reshape(-1, K, d), theta[:, K * d :]
    z = np.einsum("tkd,md->tmk", W, X) + b[:, None]
    lead = np.take_along_axis(z, np.broadcast_to(y[:, None], z.shape[:2] + (1,)), -1) - z
    others = np.arange(K) != y[:, None]
    lead = lead[:, others]
    if (lead > 1e-9).all(1).any():
        return "separated"
    return "quasi-separated" if ((lead >= -1e-9).all(1) & (lead > 1e-9).any(1)).any() else "attained"


# Values on a grid of eighths, so that the directions on the brute force's grid decide.
CONSTRUCTED = {
    "separable": ([[-1], [-0.5], [0.5], [1]], [0, 0, 1, 1]),
    "touching": ([[-1], [0], [0], [1]], [0, 0, 1, 1]),
    "overlapping": ([[-1], [0.5], [-0.5], [1]], [0, 0, 1, 1]),
    "three classes, one apart": ([[-1], [-1], [0.5], [1], [0.5], [1]], [0, 0, 1, 2, 2, 1]),
    "three classes, separable in the plane": ([[1, 0], [-1, 0], [0, 1]], [0, 1, 2]),
}


@pytest.mark.parametrize("name", CONSTRUCTED)
def test_existence_agrees_with_brute_force_on_every_support(name):
    X, y = (np.array(a) for a in CONSTRUCTED[name])
    K = y.max() + 1
    n = K * (X.shape[1] + 1)
    verdicts = set()
    for s in range(1, 4 if n > 6 else n + 1):
        for S in itertools.combinations(range(n), s):
            support = np.isin(np.arange(n), S)
            verdicts.add(existence(X, y, support))
            assert existence(X, y, support) == brute_force(X, y, support, K)
    expected = {"overlapping": {"attained"}, "touching": {"attained", "quasi-separated"}}
    assert verdicts == expected.get(name, verdicts)


def test_the_three_verdicts():
    one, both = np.array([0, 1, 0, 0], bool), np.array([0, 1, 0, 1], bool)
    y = np.array([0, 0, 1, 1])
    found = [existence(np.array(CONSTRUCTED[k][0]), y, both) for k in ("separable", "touching", "overlapping")]
    assert found == ["separated", "quasi-separated", "attained"]
    assert existence(np.array(CONSTRUCTED["separable"][0]) + 3.0, y, one) == "attained"


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_where_a_minimiser_always_exists_arguments_are_looked_at_all_the_same(loss):
    X, y = np.zeros((4, 2)), np.arange(4.0)
    assert existence(X, y, np.array([True, False, True]), loss=loss) == "attained"
    assert existence(X, np.zeros((4, 2)), np.ones(6, bool), loss=loss) == "attained"
    for wrong in ((None, np.ones(3, bool)), (X, np.ones(4, bool)), (X, 3), (X, np.ones((3, 3), bool))):
        with pytest.raises(InputError):
            existence(wrong[0], y, wrong[1], loss=loss)


def test_newton_converges_only_where_a_minimiser_exists():
    X, y = split(0)
    rng = np.random.default_rng(3)
    supports = np.array([rng.permutation(15) < s for s in rng.integers(2, 8, 80)])
    canonical = canonical_support(supports, 3)
    converged = restricted_optima(SoftmaxRows(X, y, 3), canonical).converged
    verdicts = np.array([existence(X, y, support) for support in supports])
    np.testing.assert_array_equal(verdicts, [existence(X, y, support) for support in canonical])
    assert not (converged & (verdicts != "attained")).any()
    assert (converged & (verdicts == "attained")).sum() > 20 and (verdicts == "quasi-separated").sum() > 10

import itertools

import numpy as np
import pytest
import reference

from ihtjax import canonical_parameters, canonical_support
from ihtjax.exact.symmetry import (
    as_blocks,
    canonical_supports,
    classes_below,
    count_classes,
    equal_supports,
    from_blocks,
    same_network,
)


def all_supports(n):
    return np.array(list(itertools.product([False, True], repeat=n)))


@pytest.mark.parametrize("K, d, classes", [(3, 4, 3125), (2, 4, 32), (3, 1, 25), (4, 1, 144)])
def test_how_many_supports_differ(K, d, classes):
    """(2^K - K)^(d + 1); 3,125 for Iris."""
    canonical = np.unique(canonical_support(all_supports(K * (d + 1)), K), axis=0)
    assert len(canonical) == classes == (2**K - K) ** (d + 1)
    listed = [canonical_supports(K, d + 1, size) for size in range((K - 1) * (d + 1) + 1)]
    np.testing.assert_array_equal(np.unique(np.concatenate(listed), axis=0), canonical)
    assert [len(x) for x in listed] == [count_classes(K, d + 1, size) for size in range(len(listed))]


def test_a_canonical_support_is_its_own_and_the_smallest_of_its_class():
    supports = all_supports(9)
    canonical = canonical_support(supports, 3)
    np.testing.assert_array_equal(canonical_support(canonical, 3), canonical)
    assert (canonical.sum(1) <= supports.sum(1)).all()


@pytest.mark.parametrize("K", [2, 3, 4])
def test_supports_of_one_class_hold_the_same_networks_and_no_others_do(K):
    """The differences of logits that a support can make are a linear space: equal spaces, equal classes."""
    D = 2
    supports = all_supports(K * D)[1:]
    centre = np.eye(K) - 1 / K

    def space(support):
        basis = np.zeros((K * D, K * D))
        for i in np.flatnonzero(support):
            block = as_blocks(np.eye(K * D)[i], K)
            basis[:, i] = (centre @ block).ravel()
        return (basis @ np.linalg.pinv(basis)).round(9) + 0.0

    spaces = [space(support).tobytes() for support in supports]
    classes = [c.tobytes() for c in canonical_support(supports, K)]
    assert len(set(zip(spaces, classes))) == len(set(spaces)) == len(set(classes))


@pytest.mark.parametrize("K", [2, 3, 5])
def test_canonical_parameters_make_the_same_network_and_forget_the_shift(K):
    rng = np.random.default_rng(0)
    d = 2
    theta = rng.integers(-2, 3, size=(200, K * (d + 1))).astype(float)
    shift = rng.integers(-2, 3, size=(200, 1, d + 1)).astype(float)
    shifted = from_blocks(as_blocks(theta, K) + shift)
    canonical = canonical_parameters(theta, K)
    np.testing.assert_array_equal(canonical_parameters(shifted, K), canonical)
    assert (np.count_nonzero(canonical, axis=1) <= np.count_nonzero(theta, axis=1)).all()
    X = np.broadcast_to(rng.normal(size=(7, d)), (200, 7, d))
    np.testing.assert_allclose(reference.probabilities(canonical, X), reference.probabilities(theta, X), atol=1e-12)


def test_a_network_can_be_moved_to_any_support_of_its_class():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(1, 7, 2))
    canonical = canonical_supports(3, 3, 4)
    by_class = canonical_support(all_supports(9), 3)
    for support in canonical:
        theta = np.where(support, rng.normal(size=9), 0)
        for other in all_supports(9)[(by_class == support).all(1)]:
            moved = same_network(theta, other, 3)
            assert not moved[~other].any()
            np.testing.assert_allclose(
                reference.probabilities(moved[None], X), reference.probabilities(theta[None], X), atol=1e-12
            )


@pytest.mark.parametrize("K", [2, 3, 4])
def test_how_many_supports_classes_have(K):
    supports = all_supports(3 * K)
    canonical = canonical_support(supports, K)
    for support in np.unique(canonical, axis=0):
        sizes = supports[(canonical == support).all(1)].sum(1)
        assert equal_supports(support[None], K) == np.bincount(sizes, minlength=3 * K + 1).tolist()
    assert equal_supports(np.unique(canonical, axis=0), K) == np.bincount(supports.sum(1)).tolist()


@pytest.mark.parametrize("K", [2, 3, 4])
@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_the_classes_that_lie_only_in_given_ones(K, share):
    """By looking at all pairs of supports, each inside the other."""
    rng = np.random.default_rng(K)
    supports = all_supports(2 * K)
    canonical = canonical_support(supports, K)
    for size in range(1, 2 * (K - 1) + 1):
        given = canonical_supports(K, 2, size)
        given = given[rng.random(len(given)) <= share]
        known = {c.tobytes() for c in given}
        expected = set()
        for candidate in canonical_supports(K, 2, size - 1):
            inside = supports[(canonical == candidate).all(1)]
            holds = (inside[:, None] <= supports).all(-1).any(0) & (canonical.sum(1) == size)
            above = {c.tobytes() for c in canonical[holds]}
            if len(given) and above <= known:
                expected.add(candidate.tobytes())
        found = classes_below(given, K) if len(given) else given
        assert {c.tobytes() for c in found} == expected and len(found) == len(expected)

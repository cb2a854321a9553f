import jax
import numpy as np
import pytest

from ihtjax import SweepConfig, trial_inputs
from ihtjax.solvers import draws


def triples(root, trials):
    return np.asarray(jax.vmap(draws.triple, (None, 0))(np.uint32(root), np.uint32(trials)))


def test_a_triple_depends_on_root_seed_and_index_alone():
    np.testing.assert_array_equal(triples(0, range(1000))[[7, 900]], triples(0, [7, 900]))
    assert len(np.unique(triples(0, range(1000)))) > 2990
    assert not (triples(0, range(10)) == triples(1, range(10))).any()


def test_the_draws_are_pinned():
    """``jax.random`` promises distributions, not values: this shows when a new version changes ours."""
    assert triples(0, [0, 999]).tolist() == PINNED
    key = draws.stream(draws.INIT, np.uint32(21))
    assert np.flatnonzero(draws.random_subset(key, 15, 7)).tolist() == PINNED_SUBSET
    inputs = trial_inputs(SweepConfig(), 2, 42, 21, 84)
    assert inputs["y_train"][:20].tolist() == PINNED_CLASSES
    assert inputs["theta0"][inputs["theta0"] != 0].tolist() == pytest.approx(PINNED_THETA, rel=1e-6)


PINNED = [[3617712097, 783310428, 975722988], [1352849424, 2490077759, 1886533611]]
PINNED_SUBSET = [0, 6, 7, 8, 10, 11, 13]


PINNED_CLASSES = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
PINNED_THETA = [-0.2359126, 0.0670301]


def test_one_seed_for_two_purposes_gives_two_streams():
    keys = [jax.random.key_data(draws.stream(p, np.uint32(5))).tolist() for p in range(3)]
    assert len({tuple(k) for k in keys}) == 3


def test_the_monte_carlo_stream_depends_on_all_of_the_triple_and_the_level():
    def key(*seeds, s):
        return tuple(jax.random.key_data(draws.monte_carlo_stream(np.uint32(seeds), np.int32(s))).tolist())

    assert len({key(1, 2, 3, s=4), key(2, 2, 3, s=4), key(1, 1, 3, s=4), key(1, 2, 4, s=4), key(1, 2, 3, s=5)}) == 5


@pytest.mark.parametrize("size", [0, 1, 4, 6])
def test_subsets_are_uniform(size):
    masks = np.asarray(draws.random_subsets(jax.random.key(0), 6000, 6, size))
    assert (masks.sum(1) == size).all()
    _, counts = np.unique(masks, axis=0, return_counts=True)
    from math import comb

    expected = 6000 / comb(6, size)
    assert len(counts) == comb(6, size)
    # chi-squared with comb(6, size) - 1 degrees of freedom, at most 14: 36 has probability 0.001
    assert ((counts - expected) ** 2 / expected).sum() < 36

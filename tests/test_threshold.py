import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from ihtjax import InputError, hard_threshold


def vectors(n, count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, n)).astype(np.float32)


def test_the_papers_example_has_the_lower_index():
    assert hard_threshold(jnp.array([1.0, -3.0, 1.0]), 2).tolist() == [1, -3, 0]


@pytest.mark.parametrize("n", [1, 2, 15, 62, 300])
def test_agrees_with_a_stable_sort(n):
    v = vectors(n, 20)
    v[::2] = np.round(v[::2])  # ties, and zeros
    for s in {0, 1, n // 2, n - 1, n, n + 3}:
        expected = reference.hard_threshold(v, s)
        np.testing.assert_array_equal([hard_threshold(row, s) for row in v], expected)
        np.testing.assert_array_equal(jax.vmap(hard_threshold, (0, None))(v, s), expected)


def test_each_lane_has_its_own_level():
    v = np.tile(vectors(15, 1), (16, 1))
    kept = jax.vmap(hard_threshold)(v, jnp.arange(16))
    assert (np.asarray(kept) != 0).sum(axis=1).tolist() == list(range(16))


def test_batched_on_any_axis_and_twice():
    v = vectors(15, 12).reshape(3, 4, 15)
    expected = reference.hard_threshold(v, 5)
    twice = jax.vmap(jax.vmap(hard_threshold, (0, None)), (0, None))(v, 5)
    last = jax.vmap(hard_threshold, (-1, None), -1)(v[0].T, 5)
    np.testing.assert_array_equal(twice, expected)
    np.testing.assert_array_equal(last.T, expected[0])


def test_is_a_nearest_sparse_point():
    for v in vectors(6, 5):
        kept = np.asarray(hard_threshold(v, 2))
        best = min(np.sum(np.delete(v, list(S)) ** 2) for S in itertools.combinations(range(6), 2))
        assert np.sum((v - kept) ** 2) == pytest.approx(best)


def test_is_idempotent_and_permutation_equivariant():
    v = vectors(15, 1)[0]
    kept = hard_threshold(v, 6)
    order = np.random.default_rng(1).permutation(15)
    np.testing.assert_array_equal(hard_threshold(kept, 6), kept)
    np.testing.assert_array_equal(hard_threshold(v[order], 6), np.asarray(kept)[order])


@pytest.mark.parametrize("n", [5, 200])
def test_nan_is_never_hidden(n):
    v = np.arange(n, dtype=np.float32)
    v[1] = np.nan
    v[2] = np.inf
    for kept in (hard_threshold(v, 2), jax.vmap(hard_threshold, (0, None))(v[None], 2)[0]):
        assert np.isnan(kept[1]) and np.isinf(kept[2]) and np.count_nonzero(kept) == 2


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_keeps_the_type(dtype):
    assert hard_threshold(jnp.ones(4, dtype), 2).dtype == dtype


def test_float64():
    with jax.enable_x64(True):
        v = np.array([1.0, 1.0 + 1e-12, 0.5])
        assert hard_threshold(v, 1).tolist() == [0, 1.0 + 1e-12, 0]
        assert jax.vmap(hard_threshold, (0, None))(v[None], 1).tolist() == [[0, 1.0 + 1e-12, 0]]


def test_gradients_pass_through_what_is_kept():
    slope = jax.grad(lambda v: jnp.sum(hard_threshold(v, 2) ** 2))(jnp.array([1.0, -3.0, 2.0]))
    assert slope.tolist() == [0, -6, 4]


@pytest.mark.parametrize("v", [np.ones((2, 2), np.float32), np.arange(3), np.float32(1)])
def test_refuses_what_is_no_vector_of_floats(v):
    with pytest.raises(InputError, match="expected a vector of floats"):
        hard_threshold(v, 1)

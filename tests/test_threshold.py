import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from test_benchmarks import measured

from ihtjax import InputError, hard_threshold
from ihtjax.solvers.threshold import IN_TURN_LIMIT, PAIRWISE_LIMIT, largest, largest_in_turn

pytestmark = pytest.mark.usefixtures("optimized")


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


# Against a stable sort of the numbers, whatever they are.

LENGTHS = (1, 2, 15, PAIRWISE_LIMIT, PAIRWISE_LIMIT + 1, 128, 200, 1000)
# Bits are compared and split in the same way at every length on one side of the limit.
OF_OTHER_TYPES = (15, PAIRWISE_LIMIT + 1, 200)
CASES = [(n, "float32") for n in LENGTHS] + [
    (n, dtype) for dtype in ("float16", "bfloat16", "float64") for n in OF_OTHER_TYPES
]


def all_kinds(n, dtype):
    """Vectors ``[24, n]`` of a type's normal and subnormal numbers, ties, zeros of both signs, infinity and NaN."""
    rng = np.random.default_rng(n)
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    normal, sign = rng.normal(size=(4, n)), rng.choice([-1.0, 1.0], size=(4, n))
    odd = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, tiny], size=(4, n))
    neighbours = sign * (1 + rng.integers(0, 9, size=(4, n)) * float(jnp.finfo(dtype).eps))
    kinds = [normal, np.round(normal), sign * 0.0, odd, sign * tiny * rng.integers(0, 9, size=(4, n)), neighbours]
    return np.concatenate(kinds).astype(jnp.dtype(dtype))


def by_sorting(v, s):
    """The mask of the s largest of each row, s one number or one for each row."""
    size = np.abs(v.astype(np.float64))
    order = np.lexsort((np.broadcast_to(np.arange(v.shape[-1]), v.shape), -size, ~np.isnan(size)), axis=-1)
    return np.argsort(order, axis=-1) < np.reshape(s, (-1, 1))


def assert_same_bits(found, expected):
    found = np.asarray(found)
    assert found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("n, dtype", CASES)
def test_a_batch_is_what_sorting_makes_of_it(n, dtype):
    with jax.enable_x64(dtype == "float64"):
        v = all_kinds(n, dtype)
        s = np.resize([-1, 0, 1, n // 2, n - 1, n, n + 3], len(v)).astype(np.int32)
        expected = np.where(by_sorting(v, s), v, np.zeros_like(v))
        batched = jax.jit(jax.vmap(hard_threshold))
        assert_same_bits(batched(v, s), expected)
        assert_same_bits(batched(v, np.roll(s, 1)), np.where(by_sorting(v, np.roll(s, 1)), v, np.zeros_like(v)))
        assert batched._cache_size() == 1
        one = jax.jit(hard_threshold)
        assert_same_bits(np.stack([one(row, level) for row, level in zip(v, s)]), expected)


@pytest.mark.parametrize("n", [15, 200])
def test_a_batch_may_share_its_level_or_its_vector(n):
    v, levels = all_kinds(n, "float32"), np.arange(-1, n + 2, dtype=np.int32)
    shared_level = jax.jit(jax.vmap(hard_threshold, (0, None)))
    for s in (-1, 0, 1, n // 3, n, n + 1):
        assert_same_bits(shared_level(v, s), np.where(by_sorting(v, s), v, np.float32(0)))
    shared_vector = jax.jit(jax.vmap(hard_threshold, (None, 0)))
    for row in v[::3]:
        rows = np.tile(row, (len(levels), 1))
        assert_same_bits(shared_vector(row, levels), np.where(by_sorting(rows, levels), rows, np.float32(0)))


@pytest.mark.parametrize("n", [15, 200])
def test_a_batch_of_batches(n):
    v = all_kinds(n, "float32").reshape(4, 6, n)
    levels = np.arange(4, dtype=np.int32) * n // 3
    per_batch = jax.vmap(jax.vmap(hard_threshold, (0, None)))(v, levels)
    for rows, s, found in zip(v, levels, per_batch):
        assert_same_bits(found, np.where(by_sorting(rows, s), rows, np.float32(0)))
    every_pair = jax.vmap(jax.vmap(hard_threshold, (None, 0)), (0, None))(v[:, 0], levels)
    for row, found in zip(v[:, 0], every_pair):
        rows = np.tile(row, (4, 1))
        assert_same_bits(found, np.where(by_sorting(rows, levels), rows, np.float32(0)))
    thrice = jax.vmap(jax.vmap(jax.vmap(hard_threshold), (None, 0)), (0, None))(
        v[:, :4], np.stack([levels, levels + 1])
    )
    for rows, pair in zip(v[:, :4], thrice):
        for more, found in enumerate(pair):
            assert_same_bits(found, np.where(by_sorting(rows, levels + more), rows, np.float32(0)))


@pytest.mark.parametrize("key_type", [np.int16, np.int32])
def test_keys_may_be_negative_and_the_plain_form_agrees(key_type):
    key = np.random.default_rng(0).integers(-(2**15), 2**15 - 1, size=(8, 300)).astype(key_type)
    key[4:] //= 2**12  # ties
    s = np.arange(8, dtype=np.int32) * 43
    expected = [largest.fun(row, level) for row, level in zip(key, s)]
    np.testing.assert_array_equal(jax.jit(jax.vmap(largest))(key, s), expected)
    np.testing.assert_array_equal(expected, by_sorting_keys(key, s))


@pytest.mark.parametrize("n", [1, 7, 150, IN_TURN_LIMIT, IN_TURN_LIMIT + 1])
def test_entries_in_turn_keep_the_same(n):
    key = np.random.default_rng(n).integers(0, 2**30, size=(8, n)).astype(np.int32)
    key[4:] %= 3  # ties
    s = np.int32([0, 1, n // 2, n] * 2)
    found = jax.jit(jax.vmap(largest_in_turn))(key, s)
    np.testing.assert_array_equal(found, by_sorting_keys(key, s))


def by_sorting_keys(key, s):
    return np.argsort(np.argsort(-key.astype(np.int64), axis=-1, kind="stable"), axis=-1) < s[:, None]


def test_vectors_longer_than_16_bits_can_count():
    n = 2**15 + 5
    v = np.float32(np.random.default_rng(0).integers(0, 3, size=(3, n)))
    s = np.int32([n // 2, n - 1, 2])
    assert_same_bits(jax.jit(jax.vmap(hard_threshold))(v, s), np.where(by_sorting(v, s), v, np.float32(0)))


@pytest.mark.parametrize("level_type", ["int8", "uint8", "uint32", "int64"])
@pytest.mark.parametrize("n", [15, 200])
def test_levels_of_any_type_of_whole_number(n, level_type):
    with jax.enable_x64(True):
        v, s = all_kinds(n, "float32"), np.resize([0, 1, 9, 120], 24).astype(level_type)
        expected = np.where(by_sorting(v, s), v, np.float32(0))
        assert_same_bits(jax.vmap(hard_threshold)(v, s), expected)
        assert_same_bits(np.stack([hard_threshold(row, level) for row, level in zip(jnp.asarray(v), s)]), expected)


@pytest.mark.parametrize("n", [15, 200])
@pytest.mark.parametrize("mapped", [hard_threshold, jax.vmap(hard_threshold, (None, 0))])
def test_a_second_call_does_not_compile_even_outside_jit(n, mapped, caplog):
    v, s = all_kinds(n, "float32"), np.arange(24, dtype=np.int32)
    s = s if mapped is hard_threshold else s.reshape(-1, 1)
    jax.clear_caches()
    for compiles in (True, False):
        caplog.clear()
        with jax.log_compiles():
            jax.vmap(mapped)(v, s)
        assert ("Compiling" in caplog.text) == compiles


def test_gradients_pass_through_a_batch():
    v = vectors(200, 3)
    slope = jax.vmap(jax.grad(lambda v: jnp.sum(hard_threshold(v, 50) ** 2)))(v)
    np.testing.assert_array_equal(slope, 2 * reference.hard_threshold(v, 50))
    slope = jax.grad(lambda v: jnp.sum(jax.vmap(hard_threshold, (0, None))(v, 50) ** 2))(v)
    np.testing.assert_array_equal(slope, 2 * reference.hard_threshold(v, 50))


def test_a_batch_takes_far_less_time_than_sorting_it():
    """Some 30 times less on a quiet machine."""
    found = measured("threshold.py", "--n", "300", "--rounds", "3", "--seconds", "0.05")
    for row in found["rows"]:
        assert row["top_k_to_ihtjax"] > 5, row

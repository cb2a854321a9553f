"""The rounds written out, against the generator's authors' answers and JAX's own loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from ihtjax.errors import InputError
from ihtjax.solvers.threefry import THREEFRY, threefry2x32


@pytest.mark.parametrize(
    ("key", "counter", "answer"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_known_answers_of_random123(key, counter, answer):
    words = threefry2x32(tuple(jnp.uint32(k) for k in key), *(jnp.uint32(c) for c in counter))
    assert tuple(int(word) for word in words) == answer


def keys(impl):
    """The same keys for the written-out rounds and for JAX's own."""
    words = (0, 0), (3, 4_000_000_000), (0xFFFFFFFF, 1)
    return [random.wrap_key_data(jnp.array(pair, jnp.uint32), impl=impl) for pair in words]


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: random.bits(key, (), "uint32"),
        lambda key: random.bits(key, (7, 5), "uint8"),
        lambda key: random.bits(key, (301,), "uint16"),
        lambda key: random.bits(key, (2, 1, 151), "uint32"),
        lambda key: random.bits(key, (33,), "uint64"),
        lambda key: random.normal(key, (64,), "float64"),
        lambda key: random.uniform(key, (64,), "bfloat16"),
        lambda key: random.permutation(key, 100),
        lambda key: random.key_data(random.split(key)),
        lambda key: random.key_data(random.split(key, (3, 2))),
        lambda key: random.key_data(random.fold_in(key, 0xFFFFFFFF)),
        lambda key: jax.vmap(lambda k: random.bits(random.fold_in(k, 9), (3,)))(random.split(key, 4)),
    ],
)
def test_it_draws_the_bits_of_jax(draw):
    compiled = jax.jit(draw)
    with jax.enable_x64(True), jax.threefry_partitionable(True):
        for mine, other in zip(keys(THREEFRY), keys("threefry2x32")):
            ours, its = np.asarray(compiled(mine)), np.asarray(compiled(other))
            assert ours.dtype == its.dtype and ours.tobytes() == its.tobytes()


def test_no_option_of_jax_changes_it():
    key, *_ = keys(THREEFRY)
    with jax.threefry_partitionable(False):
        without = random.bits(key, (5,))
    with jax.threefry_partitionable(True):
        np.testing.assert_array_equal(without, random.bits(key, (5,)))


def test_a_seed_is_jaxs():
    for seed in (0, 5, 2**32 - 1):
        with jax.threefry_partitionable(True):
            ours, its = random.key(seed, impl=THREEFRY), random.key(seed, impl="threefry2x32")
        np.testing.assert_array_equal(random.key_data(ours), random.key_data(its))


def test_more_than_its_counter_counts_is_refused():
    with pytest.raises(InputError, match="^n_monte: got 4,294,967,296 numbers to be drawn at once"):
        jax.jit(lambda key: random.bits(key, (2**16, 2**16))).lower(keys(THREEFRY)[0])

"""Threefry, JAX's default generator, with its rounds written out.

The bits are those of JAX's own, with ``jax_threefry_partitionable``. JAX up to version 0.10 runs the rounds in a loop
on CPU, which XLA takes six times as long to compile, and which takes several times as long to run. Its later versions
don't: https://github.com/jax-ml/jax/pull/37872.

A key of this kind stays in the package: JAX's functions refuse to mix kinds, and some refuse all but their own. Whoever
draws for a trial by code that may be a user's hands on `plain` keys, and whoever draws here takes the key `unrolled`.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, random
from jax.extend.random import define_prng_impl

from ihtjax.errors import InputError

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = 0x1BD11BDA


def threefry2x32(key: tuple[Any, Any], x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 of 20 rounds: two words of a key and of a counter, uint32, to two random words.

    References:
      Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3, 2011, doi:10.1145/2063384.2063405.
    """
    words = (*key, key[0] ^ key[1] ^ jnp.uint32(PARITY))
    x0, x1 = x0 + words[0], x1 + words[1]
    for i in range(5):
        for distance in ROTATIONS[i % 2]:
            x0 = x0 + x1
            x1 = x0 ^ (x1 << jnp.uint32(distance) | x1 >> jnp.uint32(32 - distance))
        x0, x1 = x0 + words[(i + 1) % 3], x1 + words[(i + 2) % 3] + jnp.uint32(i + 1)
    return x0, x1


def _of_counters(key, shape):
    """Two random words for each of so many counters 0, 1, .., in arrays of that shape."""
    size = math.prod(shape)
    if size >= 2**32:
        raise InputError(
            f"n_monte: got {size:,} numbers to be drawn at once, expected fewer than 2^32; take fewer draws"
        )
    counter = lax.iota(jnp.uint32, size).reshape(shape)
    return threefry2x32((key[0], key[1]), jnp.zeros_like(counter), counter)


# Compiled as one where they are called outside of `jit`.


@functools.partial(jax.jit, static_argnums=1)
def _split(key, shape):
    return jnp.stack(_of_counters(key, shape), axis=-1)


@jax.jit
def _fold_in(key, data):
    return jnp.stack(threefry2x32((key[0], key[1]), jnp.uint32(0), jnp.asarray(data, jnp.uint32)))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _random_bits(key, width, shape):
    x0, x1 = _of_counters(key, shape)
    if width == 64:
        return x0.astype(jnp.uint64) << jnp.uint64(32) | x1.astype(jnp.uint64)
    return (x0 ^ x1).astype(f"uint{width}")


def _seed(seed):
    return jnp.stack([jnp.uint32(0), seed.astype(jnp.uint32)])  # not JAX's beyond 32 bits; nothing here is seeded so


# For `jax.random.wrap_key_data`.
THREEFRY = define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_random_bits, fold_in=_fold_in, name="threefry", tag="fry"
)
OF_JAX = "threefry2x32"


def unrolled(key: jax.Array) -> jax.Array:
    """The same key, whose draws have their rounds written out; one of another generator as it is."""
    return _as(THREEFRY, key) if random.key_impl(key) == OF_JAX else key


def plain(key: jax.Array) -> jax.Array:
    """The same key as JAX makes it; one of another generator as it is."""
    return _as(OF_JAX, key) if random.key_impl(key) == THREEFRY else key


def _as(impl, key):
    return random.wrap_key_data(random.key_data(key), impl=impl)

"""What a trial draws at random, from its seeds alone."""

import contextlib
from collections.abc import Callable, Iterator
from functools import reduce

import jax
import jax.numpy as jnp
from jax import random

from ihtjax.solvers.threefry import OF_JAX, plain, unrolled
from ihtjax.solvers.threshold import largest

# One seed used for two purposes gives two streams.
DATA, INIT, SUPPORT, SOLVER = range(4)


@contextlib.contextmanager
def settings(precision: str) -> Iterator[None]:
    """What draws and programs depend on beside their inputs, whatever the process's configuration of JAX says.

    The seeds' offset isn't among them: no key is made from a seed by JAX (see `root_key`).
    """
    with contextlib.ExitStack() as stack:
        for setting in (
            jax.enable_x64(precision == "float64"),
            jax.threefry_partitionable(True),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            jax.transfer_guard("allow"),
            jax.default_matmul_precision(None),
            jax.debug_nans(False),
            jax.debug_infs(False),
            jax.disable_jit(False),
        ):
            stack.enter_context(setting)
        yield


def root_key(seed: jax.Array | int) -> jax.Array:
    """The Threefry key of a 32-bit seed: that of ``jax.random.key`` without JAX_RANDOM_SEED_OFFSET."""
    return _key(jnp.uint32(0), jnp.uint32(seed))


def triple(root: jax.Array, trial: jax.Array) -> jax.Array:
    """The seed triple (data, init, support) of one trial, uint32 ``[3]``: a function of root seed and index alone."""
    return random.bits(random.fold_in(unrolled(root_key(root)), trial), (3,), jnp.uint32)


def stream(purpose: int, seed: jax.Array | int) -> jax.Array:
    """The key of one purpose and one seed: they are the two words of a Threefry key."""
    return _key(jnp.uint32(purpose), seed)


def monte_carlo_stream(seeds: jax.Array, s: jax.Array) -> jax.Array:
    """The key of a trial's Monte Carlo draws: a function of its whole triple ``[3]`` and of its level."""
    data_seed, init_seed, support_seed = seeds
    return folded_in(_key(data_seed, init_seed), support_seed, s.astype(jnp.uint32))


def solver_stream(seeds: jax.Array, s: jax.Array) -> jax.Array:
    """The key of what a trial's solver draws: a function of its whole triple ``[3]`` and of its level."""
    return folded_in(monte_carlo_stream(seeds, s), SOLVER)


def folded_in(key: jax.Array, *data: jax.Array | int) -> jax.Array:
    """The key into which JAX folds these integers, one after the other."""
    return plain(reduce(random.fold_in, data, unrolled(key)))


def _key(*words):
    return random.wrap_key_data(jnp.stack(words), impl=OF_JAX)


def random_subset(key: jax.Array, n: int, size: jax.Array | int, largest: Callable = largest) -> jax.Array:
    """Mask ``[n]`` of ``size`` entries drawn uniformly without replacement; ``size`` is data.

    The entries that ``largest`` chooses of n random 30-bit integers, by default the ``size`` largest: two of them are
    equal with probability n^2 / 2^31.
    """
    return largest(_integers(key, n), size)


def random_subsets(key: jax.Array, count: int, n: int, size: jax.Array | int, largest: Callable = largest) -> jax.Array:
    """``count`` such masks, ``[count, n]``."""
    return jax.vmap(largest, in_axes=(0, None))(_integers(key, count * n).reshape(count, n), size)


def _integers(key, n):
    return (random.bits(unrolled(key), (n,), jnp.uint32) >> 2).astype(jnp.int32)

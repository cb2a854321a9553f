"""The hard thresholding operator H_s."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from ihtjax.errors import ANY_WHOLE_NUMBER, InputError, check, shown

# Up to this length a batch of vectors is thresholded by comparing every pair of entries, beyond it by bisection.
PAIRWISE_LIMIT = 48
LANES_AT_A_TIME = 256
# Comparisons of all pairs of so many take 0.2 ms.
IN_TURN_LIMIT = 1024
# The bits of an int16 from the top. With the first alone, its sign, it is at its lowest.
BITS = np.array([-(2**15), *(2**k for k in range(14, -1, -1))], np.int16)
LOWEST = BITS[0]

P = ParamSpec("P")
R = TypeVar("R")


def transfers_allowed(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function put its constants and its arguments on the device, whatever JAX's transfer guard says."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.transfer_guard_host_to_device("allow"):
            return function(*args, **kwargs)

    return guarded


@transfers_allowed
def hard_threshold(v: jax.Array, s: jax.Array | int) -> jax.Array:
    """Keep the ``s`` entries of ``v`` that are largest in absolute value and set the others to zero.

    H_s(v) is a nearest point to v among the vectors with at most s nonzero entries. It is set-valued where entries
    tie; this one keeps the lower index. NaN counts as larger than every number, so that it is never hidden.

    Args:
      v: vector ``[n]`` of real floating-point numbers of 16 bits or more.
      s: how many entries to keep; data, not a compile-time constant. ``s >= n`` keeps all, ``s <= 0`` none.

    Returns:
      Vector ``[n]`` of the same type.

    Raises:
      InputError: ``v`` is not such a vector, or s isn't a whole number.

    References:
      Blumensath and Davies, Iterative thresholding for sparse approximations, 2008, doi:10.1007/s00041-008-9035-z.

    >>> hard_threshold(jnp.array([1., -3., 1.]), 2)
    Array([ 1., -3.,  0.], dtype=float32)
    """
    return keep(v, s, largest)


def keep(v: jax.Array, s: jax.Array | int, largest: Callable) -> jax.Array:
    """v where a mask is true that ``largest`` makes of integers in the order of its absolute values, and of s; else 0.

    Raises:
      InputError: as in `hard_threshold`.
    """
    v = as_vector("v", v)
    s = check("s", s, ANY_WHOLE_NUMBER)
    if isinstance(s, int):
        s = min(max(s, 0), v.size)  # a number of any size, which an integer of JAX may not hold
    integers = {2: jnp.int16, 4: jnp.int32, 8: jnp.int64}[v.dtype.itemsize]
    # The bits of a non-negative float, read as an integer, are in the order of the floats, NaN last.
    magnitude = lax.bitcast_convert_type(jnp.abs(v), integers)
    return jnp.where(largest(magnitude, s), v, 0)


def as_vector(name: str, v: Any) -> jax.Array:
    """v as an array ``[n]`` of real floating-point numbers, or `InputError`."""
    try:
        array = jnp.asarray(v)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}: got {shown(v)}, expected a vector of floats") from None
    if array.ndim != 1 or not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize < 2:
        wanted = "a vector of floats of 16 bits or more; flatten it first"
        raise InputError(f"{name}: got {shown(array)}, expected {wanted}")
    return array


@custom_vmap
def largest(key: jax.Array, s: jax.Array | int) -> jax.Array:
    """Mask ``[n]`` of the ``s`` largest entries of an integer vector ``[n]``; among equals the lower index wins.

    Entries must lie below the largest integer of their type.
    """
    n, s = key.shape[-1], as_count(s)
    _, order = lax.top_k(key, n)
    return jnp.zeros(n, bool).at[order].set(jnp.arange(n, dtype=s.dtype) < s)


@largest.def_vmap
def _largest_of_each(axis_size, batched, key, s):
    """The same for a batch, without a sort: ``lax.top_k`` is a scalar sort on CPU and a full sort on GPU.

    Lanes come last, so that all is done to many of them at once.
    """
    key, s = lanes_last(key, batched[0]), as_count(lanes_last(s, batched[1]))
    by = _by_pairs if len(key) <= PAIRWISE_LIMIT else _by_bisection
    return jnp.moveaxis(by(key, s), -1, 0), True


def largest_in_turn(key: jax.Array, s: jax.Array | int) -> jax.Array:
    """`largest`, in a third of the time to compile where there are at most `IN_TURN_LIMIT` entries.

    One after the other they beat others: n^2 comparisons, for what is done once in a trial.
    """
    n, s = len(key), as_count(s)
    if n > IN_TURN_LIMIT:
        return largest(key, s)
    place = jnp.arange(n)

    def beat(j, beaten_by):
        return beaten_by + ((key[j] > key) | ((key[j] == key) & (j < place)))

    return lax.fori_loop(0, n, beat, jnp.zeros(n, s.dtype)) < s


def _by_pairs(key, s):
    """Keep an entry if fewer than ``s`` others beat it: n^2 comparisons."""
    n = len(key)
    # Entry j beats entry i if key_j > key_i, or if they are equal and j < i. As a sum of n terms, not a reduction
    # over one axis of [n, n, lanes], it becomes one loop.
    wins_ties = np.tri(n, k=-1, dtype=key.dtype).T[:, :, None]
    beaten_by = sum((key[j][None] + wins_ties[j] > key).astype(jnp.int32) for j in range(n))
    return beaten_by.astype(s.dtype) < s[None]


@custom_vmap
@jax.jit  # so that a call outside `jit` finds the loops compiled
def _by_bisection(key, s):
    """Keep what is above the ``s``-th largest key, and the first of what is equal to it: n comparisons per bit."""
    n = len(key)
    s = jnp.broadcast_to(jnp.clip(s, 0, n), jnp.broadcast_shapes(s.shape, key.shape[1:]))
    s = s.astype(jnp.int16 if n < 2**15 else jnp.int32)
    above, equal, s = _split(key, jnp.ones(key.shape, bool), s)

    def first():
        # Written down, not made where it is compared: between 6 and 32 lanes LLVM unrolls that for seconds.
        order = lax.optimization_barrier(-lax.broadcasted_iota(s.dtype, key.shape, 0))
        before, last, _ = _split(order, equal, s)
        return before | last

    # Where every lane keeps all of its equals, nothing more is to be done.
    crowded = jnp.any(_count(equal, s.dtype) > s)
    return above | lax.cond(crowded, first, lambda: equal)


@_by_bisection.def_vmap
def _by_bisection_of_each(axis_size, batched, key, s):
    """A batch of batches is one of more lanes."""
    key, s = lanes_last(key, batched[0]), lanes_last(s, batched[1])
    n, lanes = len(key), jnp.broadcast_shapes(key.shape[1:], s.shape)
    vectors = jnp.broadcast_to(key, (n, *lanes)).reshape(n, -1).T, jnp.broadcast_to(s, lanes).reshape(-1)
    return jnp.moveaxis(_some_at_a_time(*vectors).T.reshape(n, *lanes), -1, 0), True


@jax.jit
def _some_at_a_time(key, s):
    """`largest` of many vectors ``[lanes, n]``, of which so few are taken at a time that they stay in cache."""
    return lax.map(lambda vector: largest(*vector), (key, s), batch_size=LANES_AT_A_TIME)


def _split(key, among, s):
    """Find the ``s``-th largest key ``among`` some entries, digit by digit from the top.

    Returns:
      Masks of those above it and of those equal to it, and how many of the equal ones are among the s largest.
    """
    above = jnp.zeros(among.shape, bool)
    for digit in _digits(key):
        digit = jnp.where(among, digit, LOWEST)
        pivot = _nth_largest(digit, s)[None]
        beyond, among = among & (digit > pivot), among & (digit == pivot)
        above, s = above | beyond, s - _count(beyond, s.dtype)
    return above, among, s


def _digits(key):
    """The digits of integers to the base 2^16 from the top, as int16 in the same order: 32 fit into a vector."""
    width = 8 * key.dtype.itemsize
    yield (key >> (width - 16)).astype(jnp.int16)
    for shift in range(width - 32, -1, -16):
        yield (key >> shift).astype(jnp.int16) ^ LOWEST


def _nth_largest(digit, s):
    """The largest number ``[lanes]`` that at least ``s`` of the digits ``[n, lanes]`` reach, bit by bit from the top.

    `LOWEST` reaches none that is tried, so it stands for no digit.
    """

    def add(pivot, bit):
        trial = pivot ^ bit
        return jnp.where(_count(digit >= trial[None], s.dtype) >= s, trial, pivot), None

    return lax.scan(add, jnp.full(s.shape, LOWEST), BITS)[0]


def _count(mask, dtype):
    return jnp.sum(mask, axis=0, dtype=dtype)


def as_count(s: jax.Array | int) -> jax.Array:
    """s as an array whose type counts further than any vector is long: int32 in place of a narrower one."""
    s = jnp.asarray(s)
    return s if s.dtype.itemsize >= 4 else s.astype(jnp.int32)


def lanes_last(x, batched: bool):
    """Move the batch axis of ``x`` from first to last, or give it one of length 1."""
    return jnp.moveaxis(x, 0, -1) if batched else jnp.asarray(x)[..., None]

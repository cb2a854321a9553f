"""The hard thresholding operator H_s."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from ihtjax.errors import ANY_WHOLE_NUMBER, InputError, check, shown

# Up to this length a batch of vectors is thresholded by comparing every pair of entries, beyond it by sorting.
PAIRWISE_LIMIT = 128


def transfers_allowed(function: Callable) -> Callable:
    """Let a function put its constants and its arguments on the device, whatever JAX's transfer guard says."""

    @wraps(function)
    def guarded(*args, **kwargs):
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
    """The same for a batch, without a sort: an entry is kept if fewer than ``s`` others beat it.

    ``lax.top_k`` is a scalar sort on CPU and a full sort on GPU; n^2 comparisons across lanes are faster for small n.
    """
    n = key.shape[-1]
    if n > PAIRWISE_LIMIT:
        in_axes = [0 if b else None for b in batched]
        return jax.vmap(largest.fun, in_axes)(key, s), True
    key = lanes_last(key, batched[0])
    # Entry j beats entry i if key_j > key_i, or if they are equal and j < i. As a sum of n terms, not a reduction
    # over one axis of [n, n, lanes], it becomes one loop.
    wins_ties = np.tri(n, k=-1, dtype=key.dtype).T[:, :, None]
    beaten_by = sum((key[j][None] + wins_ties[j] > key).astype(jnp.int32) for j in range(n))
    s = as_count(lanes_last(s, batched[1]))[None]
    return jnp.moveaxis(beaten_by.astype(s.dtype) < s, -1, 0), True


def as_count(s: jax.Array | int) -> jax.Array:
    """s as an array whose type counts further than any vector is long: int32 in place of a narrower one."""
    s = jnp.asarray(s)
    return s if s.dtype.itemsize >= 4 else s.astype(jnp.int32)


def lanes_last(x, batched: bool):
    """Move the batch axis of ``x`` from first to last, or give it one of length 1."""
    return jnp.moveaxis(x, 0, -1) if batched else jnp.asarray(x)[..., None]

"""The Monte Carlo estimate L-hat_2s of the restricted Lipschitz constant, whose inverse is the step size."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, random

from ihtjax.errors import FUNCTION, InputError, check, shown, whole_number
from ihtjax.solvers.constraint import PLAIN, SparseSet
from ihtjax.solvers.threefry import plain, unrolled
from ihtjax.solvers.threshold import as_vector, transfers_allowed


@transfers_allowed
def estimate_lipschitz(
    key: jax.Array,
    gradient: Callable,
    draw: Callable,
    n: int,
    s: jax.Array | int,
    n_monte: int = 100,
    constraint: SparseSet = PLAIN,
) -> jax.Array:
    """Estimate the restricted Lipschitz constant of grad f from random s-sparse pairs.

        L-hat_2s = max_j |grad f(theta~_j) - grad f(theta_j)| / |theta~_j - theta_j|

    theta_j is drawn and kept on s random entries; theta~_j = H_s(theta_j + delta_j d_j), with d_j standard normal and
    delta_j the smallest nonzero |entry| of theta_j. Draws with theta~_j = theta_j are left out. A maximum of sampled
    ratios is a lower estimate of the constant in (6), not an upper bound. Where delta_j is tiny, the difference of two
    gradients is small against their rounding: in float32 the estimate is off by up to 3e-3 (s = 14, 1,024 trials).

    Args:
      key: typed key, as of ``jax.random.key``.
      gradient: maps ``[n]`` to grad f ``[n]``, over all n coordinates.
      draw: draws initial parameters, as ``jax.random.normal`` does: maps a key and a shape to an array.
      n: number of parameters.
      s: sparsity level, 1 .. n; data.
      n_monte: number of draws.
      constraint: the set from which supports are drawn, and whose H_s is taken.

    Returns:
      L-hat_2s, a scalar; 0 if every draw was degenerate.

    Raises:
      InputError: a number is out of range, or key, gradient or draw isn't what is described above.

    References:
      The paper's subsection III-F, steps 1 to 7.
    """
    key = as_key("key", key)
    check("gradient", gradient, FUNCTION)
    check("draw", draw, FUNCTION)
    n, n_monte = check("n", n, whole_number(1)), check("n_monte", n_monte, whole_number(1))
    s = check("s", s, whole_number(1, n))
    for_theta, for_support, for_direction = random.split(unrolled(key), 3)
    # Drawn all at once, as vectors, then used one by one: inside one fused loop XLA would draw again at each use.
    theta = as_vector("draw", draw(plain(for_theta), (n_monte * n,)))
    if theta.size != n_monte * n:
        raise InputError(f"draw: got {shown(theta)} for the shape ({n_monte * n},), expected an array of that shape")
    theta = theta.reshape(n_monte, n)
    theta = jnp.where(constraint.random_supports(for_support, n_monte, n, s), theta, 0)
    direction = random.normal(for_direction, (n_monte * n,), jnp.float32).astype(theta.dtype).reshape(n_monte, n)

    def larger(so_far, sample):
        return jnp.maximum(so_far, ratio(gradient, *sample, s, constraint)), None

    return lax.scan(larger, jnp.zeros((), theta.dtype), (theta, direction))[0]


def ratio(
    gradient: Callable, theta: jax.Array, direction: jax.Array, s: jax.Array | int, constraint: SparseSet
) -> jax.Array:
    """Steps 4 to 6: |grad f(theta~) - grad f(theta)| / |theta~ - theta|; 0 if theta~ = theta."""
    smallest = jnp.min(jnp.where(theta == 0, jnp.inf, jnp.abs(theta)))
    delta = jnp.where(jnp.isfinite(smallest), smallest, 0)  # theta = 0 is a degenerate draw
    perturbed = constraint.threshold(theta + delta * direction, s)
    rise = jnp.linalg.norm(slope_at(gradient, perturbed) - slope_at(gradient, theta))
    run = jnp.linalg.norm(perturbed - theta)
    return jnp.where(run > 0, rise / jnp.where(run > 0, run, 1), 0)


def slope_at(gradient: Callable, theta: jax.Array) -> jax.Array:
    """gradient(theta) ``[n]``; a function that returns anything else is refused."""
    slope = as_vector("gradient", gradient(theta))
    if slope.shape != theta.shape:
        raise InputError(f"gradient: got {shown(slope)} at a vector of {theta.size}, expected as many entries")
    return slope


def as_key(name: str, key: Any) -> jax.Array:
    """The key, typed; one of the older form, as of ``jax.random.PRNGKey``, makes the same draws."""
    with contextlib.suppress(TypeError, ValueError):
        typed = key if _is_typed(key) else random.wrap_key_data(key)
        if typed.shape == ():
            return typed
    raise InputError(f"{name}: got {shown(key)}, expected a key such as jax.random.key(0)")


def _is_typed(key):
    return isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)

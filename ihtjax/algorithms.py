"""Iterative hard thresholding: one step, the same as an optax transformation, and a whole run."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from ihtjax.certificate import Certificate, certify
from ihtjax.draws import root_key
from ihtjax.errors import InputError
from ihtjax.lipschitz import estimate_lipschitz
from ihtjax.threshold import hard_threshold


def iht_step(gradient: Callable, theta: jax.Array, step_size: jax.Array, s: jax.Array) -> jax.Array:
    """One step of Algorithm 1.

        theta^{k+1} = H_s(theta^k - gamma grad f(theta^k))

    With s = n, H_s changes nothing and this is Algorithm 2, gradient descent.

    Args:
      gradient: maps theta ``[n]`` to grad f(theta) ``[n]``.
      theta: the s-sparse iterate ``[n]``.
      step_size: gamma, a scalar.
      s: sparsity level, a scalar; data, not a compile-time constant.
    """
    return hard_threshold(theta - step_size * gradient(theta), s)


def iht(learning_rate: optax.ScalarOrSchedule, s: int) -> optax.GradientTransformation:
    """IHT as an optax gradient transformation: ``params + updates`` is H_s(params - learning_rate * gradient).

    H_s goes over all leaves together, so that ``s`` counts the nonzero parameters of the whole model.

    Args:
      learning_rate: gamma, or an optax schedule of it.
      s: sparsity level.

    Example:
      >>> f = lambda x: jnp.sum((x - jnp.array([3., 1., 2.])) ** 2)
      >>> optimizer = iht(0.1, s=2)
      >>> x = jnp.zeros(3)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(jax.grad(f)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> [f"{entry:.3f}" for entry in x]
      ['3.000', '0.000', '2.000']
    """
    return optax.chain(optax.sgd(learning_rate), keep_largest(s))


def keep_largest(s: int) -> optax.GradientTransformation:
    """Change updates so that the updated parameters keep only their ``s`` largest entries; chains with any optimiser.

    Entries that stay get their update unchanged, the others get ``-params``, so that they become exactly 0.
    """

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("keep_largest: params are missing; call update(updates, state, params)")
        flat_updates, unravel = ravel_pytree(updates)
        flat_params, _ = ravel_pytree(params)
        moved = flat_params + flat_updates
        kept = hard_threshold(moved, s) != 0
        return unravel(jnp.where(kept, flat_updates, -flat_params)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class Solution(NamedTuple):
    """Where `solve` ended.

    Attributes:
      theta: the s-sparse parameters, in the structure of ``theta0``.
      loss: f(theta).
      step_size: the gamma that was used.
      certificate: whether theta is HT-stable, with the figures behind it.
    """

    theta: Any
    loss: jax.Array
    step_size: jax.Array
    certificate: Certificate


def solve(
    f: Callable,
    theta0: Any,
    s: int,
    *,
    step_size: float | None = None,
    steps: int = 10_000,
    n_monte: int = 100,
    key: jax.Array | None = None,
    ht_tol: float = 1e-3,
) -> Solution:
    """Minimise f over the vectors with at most s nonzero entries by IHT, Algorithm 1.

    Args:
      f: differentiable objective, maps parameters of the structure of ``theta0`` to a scalar.
      theta0: where to start, an array or a pytree of arrays with n entries in all; H_s is applied to it first.
      s: sparsity level, 1 .. n.
      step_size: gamma; if None, 1 / L-hat_2s from `estimate_lipschitz` with standard normal draws.
      steps: how many steps to run.
      n_monte: Monte Carlo draws for L-hat_2s.
      key: for those draws; that of seed 0 if None.
      ht_tol: largest absolute gradient entry that counts as vanishing.

    Raises:
      InputError: s, step_size, steps or n_monte is out of range.

    Example:
      >>> solution = solve(lambda x: jnp.sum((x - jnp.array([3., 1., 2.])) ** 2), jnp.zeros(3), s=2)
      >>> [f"{entry:.3f}" for entry in solution.theta], bool(solution.certificate.ht_stable)
      (['3.000', '0.000', '2.000'], True)
    """
    flat, unravel = ravel_pytree(theta0)
    n = flat.size
    if not jnp.issubdtype(flat.dtype, jnp.floating):
        raise InputError(f"theta0: got {flat.dtype}, expected floats; give an array such as jax.numpy.zeros({n})")
    if not 1 <= s <= n:
        raise InputError(f"s: got {s}, expected 1 to {n}, the number of parameters")
    if steps < 1 or n_monte < 1:
        raise InputError(f"steps and n_monte: got {steps} and {n_monte}, expected at least 1")
    if step_size is not None and not 0 < step_size < float("inf"):
        raise InputError(f"step_size: got {step_size}, expected a positive number, or None to estimate one")
    with jax.threefry_partitionable(True):
        theta, loss, gamma, certificate = _solve(
            flat,
            s,
            step_size,
            root_key(0) if key is None else key,
            ht_tol,
            f=f,
            unravel=unravel,
            steps=steps,
            n_monte=n_monte,
        )
    return Solution(unravel(theta), loss, gamma, certificate)


@partial(jax.jit, static_argnames=("f", "unravel", "steps", "n_monte"))
def _solve(theta0, s, step_size, key, ht_tol, *, f, unravel, steps, n_monte):
    def objective(theta):
        return f(unravel(theta))

    gradient = jax.grad(objective)
    if step_size is None:
        draw = partial(jax.random.normal, dtype=theta0.dtype)
        step_size = 1 / estimate_lipschitz(key, gradient, draw, theta0.size, s, n_monte)
    step_size = jnp.asarray(step_size, theta0.dtype)
    theta, _ = lax.scan(
        lambda theta, _: (iht_step(gradient, theta, step_size, s), None),
        hard_threshold(theta0, s),
        length=steps,
    )
    return theta, objective(theta), step_size, certify(theta, gradient(theta), step_size, s, ht_tol)

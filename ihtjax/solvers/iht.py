"""Iterative hard thresholding, Algorithm 1; at s = n it is gradient descent, Algorithm 2."""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from ihtjax.errors import FUNCTION, POSITIVE, check, whole_number
from ihtjax.solvers.base import Iterate, Objective, Solver
from ihtjax.solvers.lipschitz import slope_at
from ihtjax.solvers.threshold import as_vector, hard_threshold, transfers_allowed


@dataclass(frozen=True)
class IHT(Solver):
    """theta^{k+1} = H_s(theta^k - gamma grad f(theta^k)).

    References:
      Blumensath and Davies, 2008, doi:10.1007/s00041-008-9035-z; the paper's Algorithm 1.
    """

    name = "iht"

    def step(self, objective: Objective, state: Iterate, s: jax.Array, k: jax.Array) -> Iterate:
        return Iterate(iht_step(objective.gradient, state.theta, objective.step_size, s, objective.threshold))


@transfers_allowed
def iht_step(
    gradient: Callable,
    theta: jax.Array,
    step_size: jax.Array | float,
    s: jax.Array | int,
    threshold: Callable = hard_threshold,
) -> jax.Array:
    """One step of Algorithm 1.

        theta^{k+1} = H_s(theta^k - gamma grad f(theta^k))

    With s = n, H_s changes nothing and this is Algorithm 2, gradient descent.

    Args:
      gradient: maps theta ``[n]`` to grad f(theta) ``[n]``.
      theta: the s-sparse iterate ``[n]``.
      step_size: gamma, a scalar.
      s: sparsity level, a scalar, 1 .. n; data, not a compile-time constant.
      threshold: H_s of another constraint set, as `hard_threshold`.

    Raises:
      InputError: theta or its gradient isn't a vector of floats, or a scalar is out of range.
    """
    check("gradient", gradient, FUNCTION)
    theta = as_vector("theta", theta)
    step_size, s = check("step_size", step_size, POSITIVE), check("s", s, whole_number(1, theta.size))
    return threshold(theta - step_size * slope_at(gradient, theta), s)

"""Whether a point is a strict local minimiser on its support: the curvature there, for an f that need not be convex."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ihtjax.errors import InputError
from ihtjax.problems.base import Problem, View
from ihtjax.problems.supervised import Supervised
from ihtjax.solvers import draws

# H_SS is a matrix of so many rows at most: 500 take seconds.
MOST_ENTRIES = 500
# An eigenvalue of at most so much of the largest may be 0: eigh is off by some |S| eps, 1e-13, the entries by more.
FLAT = 1e-10
NEWTON_STEPS, ARRIVED = 30, 1e-12
COLUMNS_AT_A_TIME = 16


class Curvature(NamedTuple):
    """What `curvature_on_support` found; S is the support of theta.

    Attributes:
      gradient: largest |entry| of grad f(theta) on S.
      least, largest: eigenvalues of H_SS at theta.
      distance: largest |entry| of theta - theta*, where theta* is the strict local minimiser on S in which Newton's
        method ends from theta; infinite where it ends in none.
      rounding: how far from theta* rounding leaves theta, 16 eps max |theta| in the type in which theta was found.
    """

    gradient: float
    least: float
    largest: float
    distance: float
    rounding: float

    @property
    def is_minimiser(self) -> bool:
        """Whether theta is theta*, up to its rounding."""
        return self.distance <= self.rounding


def curvature_on_support(problem: Problem, theta: np.ndarray, view: View, precision: str = "float32") -> Curvature:
    """Gradient and Hessian of f on the support of theta, in float64, and the strict local minimiser nearby.

    theta is no minimiser because its gradient is small: near a point where H_SS is singular, any gradient is. So
    Newton's method goes on from theta, on S, as long as H_SS is positive definite by more than rounding. Where it
    arrives, the gradient vanishes to float64's rounding and the least eigenvalue is positive: a strict local minimiser
    of f on S. theta is called that itself if it is as near as its own type can tell: an iteration in that type stands
    still once gamma |g_i| is below eps |theta_i|, and no vector of it is nearer than eps |theta_i| / 2.

    A unit of relu that is wholly in S can be scaled for nothing, as can K weights of one feature be shifted under
    softmax: such points are never strict. Where f has kinks, its derivatives are those of the piece that theta lies on.

    Args:
      problem: of float64.
      theta: ``[n]``, with 1 to 500 nonzero entries.
      view: of the problem, the rows of f.
      precision: of the numbers that theta was found in.

    Raises:
      InputError: the problem is of float32, or theta has no entries or too many.
    """
    theta = np.asarray(theta, np.float64)
    S = np.flatnonzero(theta)
    if problem.dtype != np.float64:
        raise InputError(f"problem: is of {problem.dtype}, expected one of float64")
    if not 0 < len(S) <= MOST_ENTRIES:
        raise InputError(f"theta: has {len(S):,} nonzero entries, expected 1 to {MOST_ENTRIES}")
    # A batched rule, which the loss may have, can't be differentiated.
    loss = problem.plain_loss if isinstance(problem, Supervised) else problem.loss

    @jax.jit
    def derivatives(v):
        slope = jax.grad(lambda v: loss(jnp.zeros(len(theta)).at[S].set(v), view))
        columns = lax.map(
            lambda e: jax.jvp(slope, (v,), (e,))[1], jnp.eye(len(S)), batch_size=min(COLUMNS_AT_A_TIME, len(S))
        )
        return slope(v), (columns + columns.T) / 2

    with draws.settings("float64"):
        return _curvature(lambda v: jax.device_get(derivatives(v)), theta[S], np.finfo(precision).eps)


def _curvature(derivatives, start, eps):
    v = start
    g, H = first = derivatives(v)
    eigenvalues = np.linalg.eigvalsh(H) if np.isfinite(H).all() else np.full(len(v), np.nan)
    least, largest = eigenvalues[0], eigenvalues[-1]
    distance = np.inf
    for _ in range(NEWTON_STEPS):
        if not np.isfinite(H).all() or not np.linalg.eigvalsh(H)[0] > FLAT * largest:
            break
        step = np.linalg.solve(H, g)
        if np.abs(step).max() <= ARRIVED * max(1, np.abs(v).max()):
            distance = np.abs(v - start).max()
            break
        v = v - step
        g, H = derivatives(v)
    return Curvature(*map(float, (np.abs(first[0]).max(), least, largest, distance, 16 * eps * np.abs(start).max())))

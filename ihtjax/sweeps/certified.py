"""Step sizes that are certain to be valid, for the trials of a batch."""

import jax
import numpy as np

from ihtjax.errors import InputError
from ihtjax.exact.bounds import certified_step_size, linear_step_size
from ihtjax.problems.base import Problem
from ihtjax.problems.linear import Linear
from ihtjax.solvers import draws


def certified_steps(problem: Problem, data_seeds: np.ndarray, s: int) -> np.ndarray:
    """1 / (upper end of L_2s of (4)) on each trial's training rows, in the problem's type.

    Args:
      problem: a linear model under a loss of bounded curvature; see `softmax_bounds` and `linear_step_size`.
      data_seeds: uint32 ``[N]``.
      s: sparsity level.

    Raises:
      InputError: there is no bound for this problem.
    """
    require_bound(problem)
    assert isinstance(problem, Linear) and problem.criterion.curvature is not None
    seeds, back = np.unique(data_seeds, return_inverse=True)
    with draws.settings(str(problem.dtype)):
        views, _ = jax.device_get(jax.vmap(lambda seed: problem.split(draws.stream(draws.DATA, seed)))(seeds))
    shared = problem.X.astype(np.float64)
    steps = []
    for weights, mean, scale in zip(*views):
        X = ((shared - mean) / scale)[weights > 0]
        if problem.criterion.name == "cross_entropy":
            steps.append(certified_step_size(X, problem.outputs_per_row, s, problem.dtype))
        else:
            steps.append(linear_step_size(X, problem.criterion.curvature, s, problem.dtype))
    return np.array(steps, problem.dtype)[back]


def require_bound(problem: Problem) -> None:
    """Refuse a problem whose curvature has no bound that is known."""
    if not isinstance(problem, Linear) or problem.criterion.curvature is None:
        what = problem.criterion.name if isinstance(problem, Linear) else type(problem).__name__
        raise InputError(
            f"step_size: 'certified' needs a bound of the curvature, and none is known for {what}; give a number, or "
            "leave it out for 1 / L-hat_2s"
        )

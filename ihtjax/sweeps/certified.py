"""Step sizes that are certain to be valid, for the trials of a batch."""

import jax
import numpy as np

from ihtjax.exact.bounds import certified_step_size
from ihtjax.solvers import draws


def certified_steps(problem, data_seeds: np.ndarray, s: int) -> np.ndarray:
    """1 / (upper end of L_2s of (4)) on each trial's training rows, in the problem's type; see `softmax_bounds`.

    Args:
      problem: softmax regression.
      data_seeds: uint32 ``[N]``.
      s: sparsity level.
    """
    seeds, back = np.unique(data_seeds, return_inverse=True)
    with draws.settings(str(problem.dtype)):
        views, _ = jax.device_get(jax.vmap(lambda seed: problem.split(draws.stream(draws.DATA, seed)))(seeds))
    shared = problem.X.astype(np.float64)
    steps = []
    for weights, mean, scale in zip(*views):
        X = ((shared - mean) / scale)[weights > 0]
        steps.append(certified_step_size(X, problem.classes, s, problem.dtype))
    return np.array(steps, problem.dtype)[back]

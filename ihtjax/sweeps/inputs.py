"""What a trial starts from, as a function of its seeds: its rows and its initial parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ihtjax.problems.base import Problem
from ihtjax.solvers import draws
from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.constraints import constraint_of


def split(problem: Problem, data_seed: jax.Array | int) -> tuple[Any, Any]:
    """The problem's views of the training and the test rows of a data seed."""
    return problem.split(draws.stream(draws.DATA, data_seed))


def splits(problem: Problem, data_seeds: np.ndarray) -> tuple[Any, Any]:
    """The same of many data seeds uint32 ``[N]``, as NumPy arrays with N in front."""
    with draws.settings(str(problem.dtype)):
        return jax.device_get(jax.vmap(lambda seed: split(problem, seed))(data_seeds))


def initial(
    problem: Problem, config: SweepConfig, init_seed: jax.Array | int, support_seed: jax.Array | int, s: jax.Array | int
) -> jax.Array:
    """theta0 ``[n]``: an initial vector, set to 0 off a random support of the constraint set."""
    dense = problem.draw(draws.stream(draws.INIT, init_seed), (problem.n,))
    support = constraint_of(problem, config).random_support(draws.stream(draws.SUPPORT, support_seed), problem.n, s)
    return jnp.where(support, dense, 0)

"""What a trial starts from, as a function of its seeds: its rows and its initial parameters."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ihtjax.foreign import is_own
from ihtjax.problems.base import Problem
from ihtjax.solvers import draws
from ihtjax.solvers.constraint import SparseSet

# Splits are drawn by powers of two, from this one on, so that few numbers of them are compiled for.
LEAST_SPLITS = 32


def split(problem: Problem, data_seed: jax.Array | int) -> tuple[Any, Any]:
    """The problem's views of the training and the test rows of a data seed."""
    return problem.split(draws.stream(draws.DATA, data_seed))


def initial(
    problem: Problem,
    constraint: SparseSet,
    init_seed: jax.Array | int,
    support_seed: jax.Array | int,
    s: jax.Array | int,
) -> jax.Array:
    """theta0 ``[n]``: an initial vector, set to 0 off a random support of the constraint set."""
    dense = problem.draw(draws.stream(draws.INIT, init_seed), (problem.n,))
    support = constraint.random_support(draws.stream(draws.SUPPORT, support_seed), problem.n, s)
    return jnp.where(support, dense, 0)


def splits(problem: Problem, data_seeds: np.ndarray) -> tuple[Any, Any]:
    """`split` of many data seeds uint32 ``[N]``, as NumPy arrays with N in front."""
    N = len(data_seeds)
    padded = np.pad(data_seeds, (0, max(LEAST_SPLITS, 1 << (N - 1).bit_length()) - N), mode="edge")
    with draws.settings(str(problem.dtype)):
        return jax.tree.map(lambda a: a[:N], jax.device_get(_splits(problem, changeable(problem))(padded)))


def inputs(problem: Problem, constraint: SparseSet, seeds: np.ndarray, s: int) -> tuple[tuple[Any, Any], np.ndarray]:
    """`split` and `initial` of one triple uint32 ``[3]``, as NumPy arrays."""
    with draws.settings(str(problem.dtype)):
        return jax.device_get(_inputs(problem, changeable(problem), constraint)(seeds, np.int32(s)))


def changeable(problem: Problem) -> str:
    """What of a problem may have changed since something was compiled of it: all of a user's, none of the package's."""
    return problem.fingerprint if is_own(problem) else ""


# Compiled: one operation after another, each shape of a table would be compiled some forty times.


@functools.lru_cache(maxsize=8)
def _splits(problem, content):
    return _jit(jax.vmap(lambda data_seed: split(problem, data_seed)))


@functools.lru_cache(maxsize=8)
def _inputs(problem, content, constraint):
    def of(seeds, s):
        data_seed, init_seed, support_seed = seeds
        return split(problem, data_seed), initial(problem, constraint, init_seed, support_seed, s)

    return _jit(of)


# XLA's defaults, whatever JAX_DISABLE_MOST_OPTIMIZATIONS says: without them theta0 is not the sweep's to the last bit.
OPTIMIZED: Any = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}


def _jit(function):
    return jax.jit(function, compiler_options=OPTIMIZED if jax.default_backend() == "cpu" else None)

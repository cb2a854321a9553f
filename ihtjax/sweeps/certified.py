"""Step sizes that are certain to be valid, for the trials of a batch."""

import numpy as np

from ihtjax.errors import InputError
from ihtjax.exact.by_loss import Certificates, certificates
from ihtjax.problems.base import Problem
from ihtjax.problems.linear import Linear
from ihtjax.sweeps.inputs import splits


def certified_steps(problem: Problem, data_seeds: np.ndarray, s: int, n_always: int = 0) -> np.ndarray:
    """1 / (upper end of L_2s of (4)) on each trial's training rows, in the problem's type.

    Two vectors x, y of a set that lets some entries A in always are 0 off A and s entries each, so x, y and y - x are 0
    off |A| + 2s entries: A counts once. Let L be at least (4)'s constant on such pairs. For y in H_s(x - gamma g),
    g = grad f(x), and x itself in the set, y is the nearer to x - gamma g, so g'(y - x) + |y - x|^2 / (2 gamma) <= 0,
    and f(y) <= f(x) + g'(y - x) + L |y - x|^2 / 2 <= f(x) where gamma <= 1 / L: what the paper's step needs. L is the
    constant L_2s' of the plain set with 2 s' >= |A| + 2s, since (4)'s bound never falls with s. Where layers have
    shares of s, the set is a part of one without, so its bound holds.

    Args:
      problem: a linear model under a loss of bounded curvature; see `softmax_bounds` and `glm_bounds`.
      data_seeds: uint32 ``[N]``.
      s: sparsity level.
      n_always: |A|, how many entries are always in.

    Raises:
      InputError: there is no bound for this problem.
    """
    step_size = require_bound(problem).step_size
    assert isinstance(problem, Linear)
    # All lanes of a batch, copies too: last bits of a split depend on how many are drawn at once.
    views, _ = splits(problem, data_seeds)
    shared = problem.X.astype(np.float64)
    s = s + (n_always + 1) // 2
    _, first, back = np.unique(data_seeds, return_index=True, return_inverse=True)
    steps = []
    for weights, mean, scale in zip(*(its[first] for its in views)):
        X = ((shared - mean) / scale)[weights > 0]
        steps.append(step_size(X, problem.outputs_per_row, s, problem.dtype))
    return np.array(steps, problem.dtype)[back]


def certificates_of(problem: Problem) -> Certificates | None:
    """What is known of a problem; None where it is no linear model, or nothing is known of its loss."""
    return certificates(problem.criterion) if type(problem) is Linear else None  # a subclass may be of another f


def require_bound(problem: Problem) -> Certificates:
    """What is known of a problem, if its curvature has a bound.

    Raises:
      InputError: none is known.
    """
    found = certificates_of(problem)
    if found is None:
        what = problem.criterion.name if isinstance(problem, Linear) else type(problem).__name__
        raise InputError(
            f"step_size: 'certified' needs a bound of the curvature, and none is known for {what}; give a number, or "
            "leave it out for 1 / L-hat_2s"
        )
    return found

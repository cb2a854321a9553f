"""The trials that every peer runs, and the check that it ran them: Iris, float32, the seed triples of a sweep."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from ihtjax import SweepConfig, trial_inputs
from ihtjax.solvers import draws
from ihtjax.solvers.constraint import PLAIN
from ihtjax.sweeps.engine import make_problem
from ihtjax.sweeps.inputs import initial, split
from ihtjax.sweeps.trial import lanes

STEP_SIZE = 1.5
LOSS_TOLERANCE = 1e-4  # nats
SHARE_THAT_AGREES = 0.99  # rounding may turn a choice between two nearly equal entries, and with it a trial


class Work(NamedTuple):
    """`B` trials of one level; lanes come last for ihtjax and the C kernel, first in the rows and for all others.

    Attributes:
      problem: ihtjax's objective.
      views: its view of each lane's training rows, arrays ``[.., B]``.
      X, y: the same rows, standardised, ``[B, m, d]`` and their classes ``[B, m]``.
      theta0: ``[B, n]``.
      s: sparsity level.
      steps: steps to run.
    """

    problem: object
    views: NamedTuple
    X: np.ndarray
    y: np.ndarray
    theta0: np.ndarray
    s: int
    steps: int

    def first(self, count: int) -> "Work":
        """The first lanes alone."""
        views = jax.tree.map(lambda a: a[..., :count], self.views)
        return self._replace(views=views, X=self.X[:count], y=self.y[:count], theta0=self.theta0[:count])


def make_work(s: int, batch: int, steps: int) -> Work:
    """The first ``batch`` trials of a sweep at level s."""
    config = SweepConfig()
    problem = make_problem(config)

    def begin(root, trial):
        data_seed, init_seed, support_seed = triple = draws.triple(root, trial)
        view, _ = split(problem, data_seed)
        return triple, view, initial(problem, PLAIN, init_seed, support_seed, s)

    trials = np.arange(batch, dtype=np.uint32)
    triples, views, theta0 = jax.device_get(jax.jit(lanes(partial(begin, np.uint32(config.seed))))(trials))
    rows = [problem.rows(jax.tree.map(lambda a, i=i: a[..., i], views)) for i in range(batch)]
    X, y = (np.stack(part) for part in zip(*rows))
    work = Work(problem, views, X, y, np.ascontiguousarray(theta0.T), s, steps)
    for i in {0, batch - 1}:
        inputs = trial_inputs(config, s, *map(int, triples[:, i]))
        for ours, given in ((X, "X_train"), (y, "y_train"), (work.theta0, "theta0")):
            np.testing.assert_allclose(ours[i], inputs[given], rtol=1e-6, atol=1e-6)
    return work


def losses(work: Work, theta: np.ndarray) -> np.ndarray:
    """Training loss ``[B]`` in nats of theta ``[B, n]``, in NumPy and float64."""
    B, _, d = work.X.shape
    theta = theta.astype(np.float64)
    W, b = theta[:, :-3].reshape(B, 3, d), theta[:, -3:]
    Z = work.X.astype(np.float64) @ W.transpose(0, 2, 1) + b[:, None]
    Z -= Z.max(axis=2, keepdims=True)
    of_class = np.take_along_axis(Z, work.y[..., None], axis=2)[..., 0]
    return np.mean(np.log(np.exp(Z).sum(axis=2)) - of_class, axis=1)


def compare(work: Work, theta: np.ndarray, ours: np.ndarray) -> dict:
    """Hold a peer's final theta ``[B, n]`` against ours: losses and supports."""
    difference = np.abs(losses(work, theta) - losses(work, ours))
    same = ((theta != 0) == (ours != 0)).all(axis=1)
    close = difference <= LOSS_TOLERANCE
    return {
        "trials_compared": len(theta),
        "same_support": float(same.mean()),
        "same_loss": float(close.mean()),
        "median_loss_difference": float(np.median(difference)),
        "largest_loss_difference": float(difference.max()),
        "passed": bool(min(same.mean(), close.mean()) >= SHARE_THAT_AGREES),
    }


class Program(NamedTuple):
    """A peer that is ready to run some work.

    Attributes:
      theta: where it ended, ``[B, n]``; it has run once, so that it is compiled and warm.
      lanes: trials that one call runs, all cores together.
      seconds: calls it so many times and returns the seconds of one call.
      check: holds theta against ours.
    """

    theta: np.ndarray
    lanes: int
    seconds: Callable[[int], float]
    check: Callable[[Work, np.ndarray, np.ndarray], dict] = compare


def timed(call: Callable[[], np.ndarray], lanes: int, check: Callable = compare) -> Program:
    """A program that is a Python function of nothing, which returns theta."""

    def seconds(times):
        began = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - began) / times

    return Program(call(), lanes, seconds, check)

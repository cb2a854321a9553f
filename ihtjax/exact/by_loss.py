"""What is known of linear models, by their loss: steps, constants, and the best subset. A line for each loss."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ihtjax.errors import InputError, shown
from ihtjax.exact.bounds import Bounds, certified_step_size, glm_bounds, linear_step_size, softmax_bounds
from ihtjax.exact.least_squares import LeastSquaresRows
from ihtjax.exact.logistic import LogisticRows
from ihtjax.exact.rows import Rows
from ihtjax.exact.softmax import SoftmaxRows
from ihtjax.problems.losses import LOSSES, Huber, Loss


class Certificates(NamedTuple):
    """What is known of linear models under one loss.

    Attributes:
      step_size: ``(X, outputs, s, dtype)``: a step of at most 1 / L_2s of (4) for certain.
      bounds: ``(X, y, outputs, s)``: `Bounds` of the constants of (4) and (6).
      rows: with which the best subset is found; None where there is no oracle.
    """

    step_size: Callable[[np.ndarray, int, int, np.dtype], float]
    bounds: Callable[[np.ndarray, np.ndarray, int, int], Bounds]
    rows: type[Rows] | None


def of_curvature(c: float, bounds: Callable, rows: type[Rows] | None = None) -> Certificates:
    """Of a loss whose Hessian in its outputs has no eigenvalue above c."""
    return Certificates(lambda X, outputs, s, dtype: linear_step_size(X, c, s, dtype), bounds, rows)


BY_LOSS = {
    "cross_entropy": Certificates(certified_step_size, lambda X, y, q, s: softmax_bounds(X, q, s), SoftmaxRows),
    "logistic": of_curvature(0.25, lambda X, y, q, s: glm_bounds(X, 0.25, s), LogisticRows),
    "squared": of_curvature(1.0, lambda X, y, q, s: glm_bounds(X, 1.0, s, q, constant=True), LeastSquaresRows),
    "huber": of_curvature(1.0, lambda X, y, q, s: glm_bounds(X, 1.0, s, q, reached=np.abs(y) < Huber.delta)),
}
ORACLES = tuple(loss for loss, its in BY_LOSS.items() if its.rows is not None)


def certificates(criterion: Loss) -> Certificates | None:
    """What is known of a loss; of one that isn't registered a step, if its curvature has a bound."""
    if type(criterion) is type(LOSSES.get(criterion.name)):
        return BY_LOSS.get(criterion.name)
    c = criterion.curvature
    if c is None:
        return None
    return of_curvature(c, lambda X, y, q, s: glm_bounds(X, c, s, q, reached=np.zeros(len(X), bool)))


def rows_of(loss: str) -> type[Rows]:
    """The rows with which a loss's best subset is found.

    Raises:
      InputError: there is no oracle for it.
    """
    rows = BY_LOSS[loss].rows if isinstance(loss, str) and loss in BY_LOSS else None
    if rows is None:
        raise InputError(f"loss: got {shown(loss)}, expected one with an oracle, {', '.join(ORACLES)}")
    return rows

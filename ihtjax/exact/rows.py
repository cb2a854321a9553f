"""What the search for the best support knows of a loss: one split's training rows under it."""

import abc
from typing import ClassVar, NamedTuple

import numpy as np

from ihtjax.exact.supports import Supports
from ihtjax.exact.symmetry import from_blocks

# Two infima closer than this are equal, and gradients that are smaller vanish, for losses of the order of 1.
TIE = 1e-9
# Seconds on one core, for an estimate before the work: of a support, times rows and the entries of its Hessian.
SECONDS_PER_PRODUCT = 4e-9


class RestrictedOptima(NamedTuple):
    """The infima over the parameters with given supports; `B` denotes their number.

    Attributes:
      infimum: f at ``theta`` ``[B]``; where extended precision was needed, before theta is rounded.
      theta: ``[B, n]``, zero off the support.
      converged: ``[B]``, whether theta is a minimiser: Newton's step has become negligible where the Hessian on the
        support is safely positive definite; always of least squares. Where it is false, the infimum is only
        approached, or the minimiser is far away; `existence` tells the two apart.
      within: ``[B]``, by how much ``infimum`` may exceed the infimum of f over the support, by duality and rounding;
        on separated rows by a rule of thumb, see `dual_gap`. Some 1e-12 for sane data; more than 1e-9 where classes
        are apart by less than float64 can tell.
    """

    infimum: np.ndarray
    theta: np.ndarray
    converged: np.ndarray
    within: np.ndarray


class Rows(abc.ABC):
    """Training rows of a linear model z = W x + b under a loss; n = q (d + 1) parameters, q outputs, D = d + 1.

    A loss has an oracle once it has a class of this kind, and a line in `by_loss`.

    Attributes:
      X: rows with the bias column, columns scaled by `column_scales` ``[m, D]``.
      scale: by what each column was divided ``[D]``.
      outputs: q.
      contrast: the projection ``[q, q]`` of the outputs onto what of them the loss depends on.
      supports: which supports there are to solve.
      magnitude: u, where the loss is of the order of u^2, and its gradient by ``X`` of the order of u.
      parts: the same for each output alone, where f is a sum over outputs with parameters of their own; else itself.
      unit: of f, in words, with a blank before it.
      doubt: why infima are known to few digits, if they are, in a clause.
    """

    X: np.ndarray
    scale: np.ndarray
    outputs: int
    contrast: np.ndarray
    supports: Supports
    magnitude: float = 1.0
    unit: ClassVar[str] = " nats"
    doubt: ClassVar[str] = "classes are apart by less than floats can tell"

    @abc.abstractmethod
    def __init__(self, X: np.ndarray, y: np.ndarray, outputs: int):
        """From standardised features ``[m, d]``, without the bias column, and their targets."""

    @classmethod
    @abc.abstractmethod
    def checked(cls, X: np.ndarray, y: np.ndarray, outputs: int | None) -> "Rows":
        """The rows, once X and y are known to be such.

        Raises:
          InputError: they aren't.
        """

    @property
    def n(self) -> int:
        return self.supports.n

    @property
    def parts(self) -> list["Rows"]:
        return [self]

    @property
    def tie(self) -> float:
        """Two infima closer than this are equal: 1e-9 of what losses are of the order of."""
        return TIE * self.magnitude**2

    @property
    def seconds(self) -> float:
        """What a support takes, roughly: Newton's method forms its Hessian."""
        return SECONDS_PER_PRODUCT * len(self.X) * self.supports.largest**2

    @property
    def scales(self) -> np.ndarray:
        """The scale of each parameter's column ``[n]``."""
        return from_blocks(np.broadcast_to(self.scale, (self.outputs, len(self.scale))))

    @abc.abstractmethod
    def loss(self, theta: np.ndarray) -> np.ndarray:
        """f ``[B]`` at parameters ``[B, n]``."""

    @abc.abstractmethod
    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """grad f ``[B, n]`` at parameters ``[B, n]``."""

    @abc.abstractmethod
    def optima(self, supports: np.ndarray) -> RestrictedOptima:
        """The infimum of f over the parameters with each of the given supports ``[B, n]``."""

    def sharpened(self, supports: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Minimisers ``[B, n]`` over canonical supports to the last digits, from those that ``optima`` found."""
        return theta

    @abc.abstractmethod
    def existence(self, support: np.ndarray) -> str:
        """Whether the infimum over a support is attained, in the words of `separation.existence`."""

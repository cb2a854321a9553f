"""Least squares: infima of the mean squared error over supports, by singular values."""

import numpy as np

from ihtjax import interrupts
from ihtjax.errors import InputError, numbers_in
from ihtjax.exact.rows import RestrictedOptima, Rows
from ihtjax.exact.separation import ATTAINED, column_scales
from ihtjax.exact.supports import EverySupport
from ihtjax.exact.symmetry import as_blocks, from_blocks

# Supports that are solved together.
LANES = 1024
# A singular value that is less than this part of the largest is rounding: columns are dependent.
DEPENDENT = 1e-13
# What factorisations and products of these sizes lose, in roundings of the norms that go in.
ROUNDINGS = 16


class LeastSquaresRows(Rows):
    """Training rows ``[m, d]`` with targets ``[m, q]``, numbers; f = 1/(2m) |X W' + b - y|^2.

    Columns are scaled by `column_scales`. The triangular factor of (X, y) / sqrt(m) stands for the rows. f is a sum
    over the targets, whose parameters are their own: each is a part.

    Args:
      X, y: as above; y of one target may be ``[m]``.
      outputs: q.
      magnitude: the root of the summed variance of the targets, of all where these are some; a part of f below 1e-9 of
        its square is one of R^2.
    """

    unit = ""
    doubt = "columns are nearly dependent, or targets far from 0 for their spread"

    def __init__(self, X: np.ndarray, y: np.ndarray, outputs: int = 1, magnitude: float | None = None):
        X = np.column_stack([np.asarray(X, np.float64), np.ones(len(X))])
        y = np.asarray(y, np.float64).reshape(len(X), outputs)
        self.scale, self.outputs, self.contrast = column_scales(X), outputs, np.eye(outputs)
        self.X, self.y = X / self.scale, y
        m, D = self.X.shape
        self.supports = EverySupport(outputs * D)
        factor = np.linalg.qr(np.column_stack([self.X, y]) / np.sqrt(m)).R
        self.R, self.targets = factor[:, :D], factor[:, D:].T
        spread = np.where(np.ptp(y, axis=0) > 0, y.var(0), 0)  # of a constant the variance rounds to some 1e-33
        self.magnitude = magnitude or float(np.sqrt(spread.sum())) or float(np.abs(y).max()) or 1.0

    @classmethod
    def checked(cls, X, y, outputs):
        X, y = numbers_in("X", X, 2), numbers_in("y", y, None)
        if y.ndim > 2 or y.shape[:1] != X.shape[:1] or not y.size:
            raise InputError(f"X and y: got shapes {X.shape} and {y.shape}, expected [m, d], and [m] or [m, q]")
        return cls(X, y, y.size // len(y))

    @property
    def seconds(self):
        return 2e-5

    @property
    def parts(self):
        each = (LeastSquaresRows(self.X[:, :-1] * self.scale[:-1], y, 1, self.magnitude) for y in self.y.T)
        return [self] if self.outputs == 1 else list(each)

    def _residuals(self, theta):
        """X W' + b - y ``[B, m, q]``, and W and b as blocks."""
        return (
            np.einsum("mD,BqD->Bmq", self.X, as_blocks(np.asarray(theta, np.float64), self.outputs) * self.scale)
            - self.y
        )

    def loss(self, theta):
        return (self._residuals(theta) ** 2).sum(-1).mean(-1) / 2

    def gradient(self, theta):
        slopes = np.einsum("Bmq,mD->BqD", self._residuals(theta), self.X) / len(self.X)
        return from_blocks(slopes * self.scale)

    def optima(self, supports):
        blocks = as_blocks(np.asarray(supports, bool), self.outputs)
        found = [self._of_one(t, blocks[:, k]) for k, t in enumerate(self.targets)]
        infimum, within = sum(f for f, _, _ in found), sum(w for _, _, w in found)
        theta = from_blocks(np.stack([v for _, v, _ in found], axis=1))
        return RestrictedOptima(infimum, theta, np.ones(len(blocks), bool), within)

    def _of_one(self, t, supports):
        """Infima, parameters ``[B, D]`` and by how much the first may be too large, of one target t and its supports;
        those that are there several times are solved once."""
        supports, which = np.unique(supports, axis=0, return_inverse=True)
        infimum, within, V = np.empty(len(supports)), np.empty(len(supports)), np.zeros(supports.shape)
        by_size = np.argsort(supports.sum(1), kind="stable")
        for start in range(0, len(supports), LANES):
            interrupts.check()
            batch = by_size[start : start + LANES]
            infimum[batch], V[batch], within[batch] = self._solve(t, supports[batch])
        return infimum[which], V[which] / self.scale, within[which]

    def _solve(self, t, supports):
        """The shortest minimisers of 1/2 |A v - t|^2, A the columns of R on each support.

        f(v) exceeds its infimum by 1/2 |P r|^2, r = t - A v and P the projection onto the columns of A. As A'r is 0
        but for rounding, |P r| is at most |U'r| plus what rounding turns the columns U by, that of A over its least
        singular value.
        """
        size = max(1, supports.sum(1).max(initial=0))
        entry = np.argsort(~supports, axis=1, kind="stable")[:, :size]
        on = np.take_along_axis(supports, entry, axis=1)
        A = np.where(on[:, None], np.moveaxis(self.R[:, entry], 0, 1), 0)
        U, s, Vt = np.linalg.svd(A, full_matrices=False)
        kept = s > DEPENDENT * s[:, :1]
        least = np.where(kept, s, np.inf).min(1)
        v = ((U.mT @ t) / np.where(kept, s, np.inf))[:, None] @ Vt
        r = t - (A @ v.mT)[..., 0]
        v = np.where(on, v[:, 0], 0)
        lost = ROUNDINGS * np.finfo(np.float64).eps
        distance, largest = np.linalg.norm(r, axis=1), s[:, 0]
        # Directions that count as dependent, but lie above rounding, may still lower f.
        told = s > lost * s[:, :1]
        inside = np.linalg.norm(np.where(told, (U.mT @ r[..., None])[..., 0], 0), axis=1)
        turned = lost * np.where(least < np.inf, largest / least, 0) * distance
        rounding = lost * distance * (np.linalg.norm(t) + largest * np.linalg.norm(v, axis=1))
        infimum = distance**2 / 2
        out = np.zeros(supports.shape)
        np.put_along_axis(out, entry, v, axis=1)
        return infimum, out, np.minimum((inside + turned) ** 2 / 2 + rounding, infimum)

    def existence(self, support):
        return ATTAINED

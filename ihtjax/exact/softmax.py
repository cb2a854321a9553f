"""Softmax regression: the mean cross-entropy of rows, its gradient and its Hessian, for many supports at a time."""

import numpy as np

from ihtjax.errors import InputError, check, numbers_in, whole_number
from ihtjax.exact.newton import restricted_optima, sharpened
from ihtjax.exact.rows import Rows
from ihtjax.exact.separation import column_scales, existence
from ihtjax.exact.supports import SoftmaxSupports
from ihtjax.exact.symmetry import as_blocks, from_blocks

# Of more classes there is too much to enumerate at any level.
LARGEST_K = 1000


class SoftmaxRows(Rows):
    """Training rows ``[m, d]`` with classes ``[m]``, laid out for `restricted_optima`; K classes.

    Columns are scaled by `column_scales`, and parameters scaled back.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray, outputs: int):
        self.given = X, y
        order = np.argsort(y, kind="stable")
        X = np.column_stack([np.asarray(X, np.float64)[order], np.ones(len(order))])
        self.scale = column_scales(X)
        self.vanishes = ~X.any(0)
        self.X = X / self.scale
        self.y = np.asarray(y)[order]
        self.m, self.D = self.X.shape
        self.K = self.outputs = outputs
        self.contrast = np.eye(self.K) - 1 / self.K
        self.supports = SoftmaxSupports(self.K, self.D)
        bounds = np.searchsorted(np.asarray(y)[order], np.arange(self.K + 1))
        self.rows_of = [slice(a, b) for a, b in zip(bounds, bounds[1:])]
        f, g = np.tril_indices(self.D)
        self.products = np.ascontiguousarray((self.X[:, f] * self.X[:, g]).T) / self.m
        self.product_of = np.zeros((self.D, self.D), np.intp)
        self.product_of[f, g] = self.product_of[g, f] = np.arange(len(f))
        self.Xt = np.ascontiguousarray(self.X.T) / self.m
        self.mean_size = np.abs(self.X).mean(0)

    @classmethod
    def checked(cls, X, y, outputs):
        return cls(*check_rows(X, y, outputs))

    def optima(self, supports):
        return restricted_optima(self, supports)

    def sharpened(self, supports, theta):
        return sharpened(self, supports, theta)

    def existence(self, support):
        return existence(*self.given, support)

    def probabilities(self, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f ``[B]`` and class probabilities ``[K, m, B]`` at scaled parameters ``[K, D, B]``."""
        P = np.empty((self.K, self.m, V.shape[-1]))
        loss = 0
        for c, rows in enumerate(self.rows_of):
            others = [k for k in range(self.K) if k != c]
            # Logits minus that of the row's own class.
            E = [self.X[rows] @ (V[k] - V[c]) for k in others]
            top = np.maximum(np.maximum.reduce(E), 0)
            for e in E:
                e -= top
                np.exp(e, out=e)
            own = np.exp(-top)
            total = own + sum(E)
            loss = loss + top.sum(0) + np.log(total).sum(0)
            np.divide(own, total, out=P[c, rows])
            for k, e in zip(others, E):
                np.divide(e, total, out=P[k, rows])
        return loss / self.m, P

    def loss(self, theta):
        return self.probabilities(self._scaled(theta))[0]

    def gradient(self, theta):
        G = self.slopes(self.probabilities(self._scaled(theta))[1])
        return from_blocks(np.moveaxis(G, -1, 0) * self.scale)

    def _scaled(self, theta):
        return np.moveaxis(as_blocks(np.asarray(theta, np.float64), self.K) * self.scale, 0, -1)

    def slopes(self, P: np.ndarray) -> np.ndarray:
        """grad f ``[K, D, B]`` by scaled parameters; the own class's residual is formed from the others'."""
        G = np.zeros((self.K, self.D, P.shape[-1]))
        for c, rows in enumerate(self.rows_of):
            for k in range(self.K):
                if k != c:
                    part = self.Xt[:, rows] @ P[k, rows]
                    G[k] += part
                    G[c] -= part
        return G

    def curvatures(self, P: np.ndarray) -> np.ndarray:
        """The Hessian's entries ``[K, K, D (D + 1) / 2, B]``: of two classes and a product of two features.

        Off the diagonal -p_k p_l, on it the sum of p_k p_l over the other classes, in which nothing cancels.
        """
        H = np.zeros((self.K, self.K, len(self.products), P.shape[-1]))
        for k in range(self.K):
            for j in range(k):
                part = self.products @ (P[k] * P[j])
                H[k, j] = H[j, k] = -part
                H[k, k] += part
                H[j, j] += part
        return H


def check_rows(X: np.ndarray, y: np.ndarray, classes: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """X as float64 ``[m, d]``, y as integers ``[m]``, and K."""
    X = numbers_in("X", X, 2)
    try:
        y = numbers_in("y", y, 1, whole=True)
    except InputError as error:
        raise InputError(f"{error}, the classes of loss cross_entropy; of numbers say loss squared") from None
    if y.shape != X.shape[:1] or not len(y):
        raise InputError(f"X and y: got shapes {X.shape} and {y.shape}, expected [m, d] and [m]")
    if y.min() < 0 or y.max() >= LARGEST_K:
        raise InputError(f"y: got {y.min()} to {y.max()}, expected whole numbers 0 .. K - 1, K at most {LARGEST_K}")
    least = max(2, int(y.max()) + 1)
    return X, y, least if classes is None else check("classes", classes, whole_number(least, LARGEST_K))

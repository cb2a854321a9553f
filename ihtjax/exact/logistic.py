"""Logistic regression of one output, as softmax regression of two classes whose first has no parameters."""

import numpy as np

from ihtjax.errors import InputError
from ihtjax.exact.newton import restricted_optima, sharpened
from ihtjax.exact.rows import Rows
from ihtjax.exact.separation import existence
from ihtjax.exact.softmax import SoftmaxRows, check_rows
from ihtjax.exact.supports import EverySupport
from ihtjax.exact.symmetry import as_blocks, of_second_class


class LogisticRows(Rows):
    """Training rows ``[m, d]`` with classes 0 and 1 ``[m]``.

    log(1 + e^z) - y z is the cross-entropy of the logits (0, z). So Newton's method, duality and existence are those
    of softmax regression on supports within the second class, where no symmetry is left.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray, outputs: int = 1):
        self.given = X, y
        self.softmax = SoftmaxRows(X, y, 2)
        self.X, self.scale = self.softmax.X, self.softmax.scale
        self.outputs, self.contrast = 1, np.eye(1)
        self.supports = EverySupport(len(self.scale))

    @classmethod
    def checked(cls, X, y, outputs):
        X, y, classes = check_rows(X, y, None)
        if classes > 2:
            raise InputError(f"y: got classes up to {y.max()}, expected 0 and 1; take cross_entropy")
        return cls(X, y)

    def loss(self, theta):
        return self.softmax.loss(of_second_class(theta))

    def gradient(self, theta):
        return as_blocks(self.softmax.gradient(of_second_class(theta)), 2)[:, 1]

    def optima(self, supports):
        found = restricted_optima(self.softmax, of_second_class(supports))
        return found._replace(theta=as_blocks(found.theta, 2)[:, 1])

    def sharpened(self, supports, theta):
        return as_blocks(sharpened(self.softmax, of_second_class(supports), of_second_class(theta)), 2)[:, 1]

    def existence(self, support):
        return existence(*self.given, support, loss="logistic")

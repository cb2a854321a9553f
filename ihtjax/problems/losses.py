"""Losses of one row as functions of a model's outputs z for it, each with its derivative for a batch of trials.

A loss is written twice. ``value`` is its definition, for one trial; what autodiff makes of it is the reference. The
other methods are the same for a batch: lanes lie on the minor axis, `B` denotes their number, outputs come as a list
of arrays ``[m, B]``, and nothing cancels where a row is fitted well.
"""

import abc
from collections.abc import Sequence
from functools import reduce
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ihtjax.problems.exponential import exp2

LN2 = np.log(2)


class Loss(abc.ABC):
    """The loss of a row, nats or squared units, for outputs z ``[q]`` and a target y.

    Attributes:
      name: what ``--loss`` calls it.
      words: what a sentence calls it.
      unit: of its values; empty where there is none to name.
      target: what it predicts: "classes", "numbers" or "counts".
      metric: what its predictions are measured by.
      curvature: an upper bound of the largest eigenvalue of the loss's Hessian in the outputs z; None where there is
        none. Certified steps rest on it.
    """

    name: ClassVar[str]
    words: ClassVar[str]
    unit: ClassVar[str] = "nats"
    target: ClassVar[str]
    metric: ClassVar[str]
    curvature: ClassVar[float | None]

    def n_outputs(self, classes: int, targets: int) -> int:
        """q, for so many classes or so many target columns."""
        return targets

    @abc.abstractmethod
    def value(self, z: jax.Array, y: np.ndarray) -> jax.Array:
        """The loss of each row ``[m]`` from outputs ``[m, q]``."""

    @abc.abstractmethod
    def measure(self, z: jax.Array, y: np.ndarray, weights: jax.Array) -> jax.Array:
        """The metric from outputs ``[m, q]`` over the rows with a positive weight ``[m]``."""

    # For a batch of trials.

    def directions(self, V: jax.Array) -> list:
        """The parameters ``[d + 1, B]`` whose products with the rows are the outputs asked for below.

        V ``[q, d + 1, B]`` holds those of all outputs. A loss may ask for fewer, or in other units.
        """
        return self.differences(V)

    def differences(self, V: jax.Array) -> list:
        """The same in the units of z, those that `residuals` are derivatives by."""
        return list(V)

    def targets(self, y: np.ndarray, dtype: np.dtype) -> list:
        """y as arrays ``[m, 1]``, as the next two take it."""
        return [column[:, None].astype(dtype) for column in y.T]

    @abc.abstractmethod
    def lane_values(self, Z: list, targets: list) -> jax.Array:
        """The loss of each row ``[m, B]``."""

    @abc.abstractmethod
    def residuals(self, Z: list, targets: list) -> list:
        """d loss / d z of each row, by output: arrays ``[m, B]`` for as many outputs as there are directions."""

    def restore(self, G: jax.Array) -> jax.Array:
        """Gradients ``[q, d + 1, B]`` of all outputs from those of the residuals."""
        return G


class CrossEntropy(Loss):
    """logsumexp(z) - z_y for y one of K classes.

    References:
      The paper's subsection III-E. Boehning, 1992, doi:10.1007/BF00048682, for the curvature.
    """

    name, words = "cross_entropy", "cross-entropy"
    target, metric, curvature = "classes", "accuracy", 0.5

    def n_outputs(self, classes, targets):
        return classes

    def value(self, z, y):
        of_class = jnp.take_along_axis(z, y[:, None], axis=1)[:, 0]
        return jax.nn.logsumexp(z, axis=1) - of_class

    def measure(self, z, y, weights):
        """Share of the rows whose largest output is their class's; among equals the first class counts."""
        return share(jnp.argmax(z, axis=1) == y, weights)

    # Outputs are less the last class's, in units of ln 2: K - 1 of them.

    def directions(self, V):
        return [v * V.dtype.type(1 / LN2) for v in self.differences(V)]

    def differences(self, V):
        return [v - V[-1] for v in V[:-1]]

    def targets(self, y, dtype):
        """For each class, which rows are its own."""
        return [(y == k)[:, None] for k in range(int(y.max()) + 1)]

    def lane_values(self, Z, targets):
        Z = [*Z, 0]
        top = reduce(larger, Z)
        of_class = sum(jnp.where(own, z, 0) for own, z in zip(targets, Z))
        return Z[0].dtype.type(LN2) * (top - of_class) + jnp.log(sum(exp2(z - top) for z in Z))

    def residuals(self, Z, targets):
        return (logistic_residuals if len(targets) <= 3 else softmax_residuals)(Z, targets)

    def restore(self, G):
        # The gradients of all classes add up to zero.
        return jnp.concatenate([G, -jnp.sum(G, axis=0, keepdims=True)])


class Logistic(Loss):
    """log(1 + e^z) - y z, the binary cross-entropy of one output, for y 0 or 1."""

    name, words = "logistic", "logistic loss"
    target, metric, curvature = "classes", "accuracy", 0.25

    def n_outputs(self, classes, targets):
        return 1

    def value(self, z, y):
        return jax.nn.softplus(jnp.where(y == 1, -z[:, 0], z[:, 0]))

    def measure(self, z, y, weights):
        """Share of the rows whose output is positive if y is 1, and isn't if y is 0."""
        return share((z[:, 0] > 0) == (y == 1), weights)

    def targets(self, y, dtype):
        return [(y == 1)[:, None]]

    def lane_values(self, Z, targets):
        return jax.nn.softplus(jnp.where(targets[0], -Z[0], Z[0]))

    def residuals(self, Z, targets):
        # 1 / (1 + e^-z) on the rows of class 0, -1 / (1 + e^z) on those of class 1.
        (z,), (positive,) = Z, targets
        t = z * z.dtype.type(1 / LN2)
        return [jnp.where(positive, -1, 1) / (1 + exp2(jnp.where(positive, t, -t)))]


class Squared(Loss):
    """(1/2) |z - y|^2 for numbers y ``[q]``."""

    name, words, unit = "squared", "squared error", ""
    target, metric, curvature = "numbers", "r2", 1.0

    def value(self, z, y):
        return jnp.sum((z - y) ** 2, axis=1) / 2

    def measure(self, z, y, weights):
        return r2(z, y, weights)

    def lane_values(self, Z, targets):
        return sum((z - y) ** 2 for z, y in zip(Z, targets)) / 2

    def residuals(self, Z, targets):
        return [z - y for z, y in zip(Z, targets)]


class Huber(Squared):
    """r^2 / 2 where |r| <= delta and delta (|r| - delta / 2) beyond, r = z - y, summed over the targets; delta = 1.35.

    References:
      Huber, Robust estimation of a location parameter, 1964, doi:10.1214/aoms/1177703732.
    """

    name, words = "huber", "Huber's loss"
    delta = 1.35

    def value(self, z, y):
        return jnp.sum(self._of(z - y), axis=1)

    def lane_values(self, Z, targets):
        return sum(self._of(z - y) for z, y in zip(Z, targets))

    def _of(self, r):
        inner = jnp.clip(r, -self.delta, self.delta)
        return inner**2 / 2 + self.delta * (jnp.abs(r) - jnp.abs(inner))

    def residuals(self, Z, targets):
        return [jnp.clip(z - y, -self.delta, self.delta) for z, y in zip(Z, targets)]


class Poisson(Loss):
    """e^z - y z for counts y, the negative log-likelihood but for a constant; its curvature grows with z."""

    name, words = "poisson", "Poisson loss"
    target, metric, curvature = "counts", "deviance", None

    def value(self, z, y):
        return jnp.sum(jnp.exp(z) - y * z, axis=1)

    def measure(self, z, y, weights):
        """Mean deviance: 2 (y log(y / mu) - (y - mu)), mu = e^z, over the rows; 0 is best."""
        rows = jax.scipy.special.xlogy(y, y) - y * z - (y - jnp.exp(z))
        return 2 * mean(jnp.sum(rows, axis=1), weights)

    def lane_values(self, Z, targets):
        return sum(jnp.exp(z) - y * z for z, y in zip(Z, targets))

    def residuals(self, Z, targets):
        return [jnp.exp(z) - y for z, y in zip(Z, targets)]


# The registered losses, by name.
LOSSES: dict[str, Loss] = {its.name: its for its in (CrossEntropy(), Logistic(), Squared(), Huber(), Poisson())}


def share(right: jax.Array, weights: jax.Array) -> jax.Array:
    """Share of the rows with a positive weight ``[m]`` that are right ``[m]``."""
    seen = weights > 0
    return (jnp.sum(seen & right) / jnp.sum(seen)).astype(weights.dtype)


def mean(values: jax.Array | np.ndarray, weights: jax.Array) -> jax.Array:
    """Mean of values ``[m, ..]`` over the rows with a positive weight ``[m]``."""
    seen = (weights > 0).reshape(-1, *[1] * (values.ndim - 1))
    return jnp.sum(jnp.where(seen, values, 0), axis=0) / jnp.sum(seen)


def r2(z: jax.Array, y: np.ndarray, weights: jax.Array) -> jax.Array:
    """1 - |y - z|^2 / |y - mean(y)|^2 over the rows with a positive weight, averaged over the targets.

    NaN where a target is constant on these rows.
    """
    rest = mean((y - z) ** 2, weights)
    spread = mean((y - mean(y + 0 * z, weights)) ** 2, weights)
    return jnp.mean(1 - rest / spread)


def logistic_residuals(Z: list, of_class: Sequence) -> list:
    """What each row adds to the gradient, by class but the last: p_k, and p_k - 1 on the rows of class k.

        p_k = 1 / (1 + S_k),  p_k - 1 = -S_k / (1 + S_k),  S_k = sum_{j != k} 2^(z_j - z_k),  z_K = 0

    Nothing cancels where p_k is near 1. S_k is formed anew for each class, with nothing shared between classes, so
    that XLA makes one loop of it all; that is K - 1 exponentials more than `softmax_residuals` needs.

    Args:
      Z: outputs in units of ln 2, less the last class's.
      of_class: for each class, which rows are its own.
    """
    Z = [*Z, 0]
    S = [sum(exp2(other - z) for other in Z[:k] + Z[k + 1 :]) for k, z in enumerate(Z[:-1])]
    return [jnp.where(own, -s, 1) / (1 + s) for own, s in zip(of_class, S)]


def softmax_residuals(Z: list, of_class: Sequence) -> list:
    """The same with K exponentials a row, shared between the classes; faster for more than three."""
    Z = [*Z, 0]
    top = reduce(larger, Z)
    E = [jnp.exp2(z - top) for z in Z]
    total = sum(E)
    others = sum(jnp.where(own, 0, e) for own, e in zip(of_class, E))
    return [jnp.where(own, -others, e) / total for own, e in zip(of_class, E[:-1])]


def larger(a, b):
    """The larger of two in one instruction, where ``jnp.maximum`` takes four to pass NaN on."""
    return jnp.where(a > b, a, b)

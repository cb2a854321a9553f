"""The paper's network: one linear layer with softmax, trained on mean cross-entropy."""

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.custom_batching import custom_vmap

from ihtjax.errors import InputError
from ihtjax.problems.exponential import exp2
from ihtjax.problems.table import Table
from ihtjax.solvers.draws import random_subset
from ihtjax.solvers.threshold import lanes_last

# With fewer features than this, logits are written out as sums, so that XLA fuses them with what follows.
UNROLL_LIMIT = 16


class View(NamedTuple):
    """The rows that one trial sees of a table that all trials share.

    Attributes:
      weights: ``[m]``, 1 / (number of rows seen) on the rows seen, 0 elsewhere.
      mean: ``[d]``, what the trial's standardisation subtracts from a row.
      scale: ``[d]``, what it then divides by.
    """

    weights: jax.Array
    mean: jax.Array
    scale: jax.Array


class SoftmaxRegression:
    """Mean cross-entropy of softmax(W x + b) as a function of theta = concat(W.ravel(), b).

    f(theta) = sum_i weights_i (logsumexp_k z_ik - z_{i, y_i}),  z_i = W (x_i - mean) / scale + b

    with W of shape ``[K, d]`` and n = K (d + 1) parameters, named class first, then feature, as a linear layer of
    PyTorch orders them. ``loss`` and ``gradient`` are functions of one trial; under ``vmap`` both use forms in which
    the batch lies on the minor axis, all trials share the rows, and a trial's split is its row weights.

    Args:
      table: features and classes.
      init: distribution of theta: "normal" (standard normal) or "torch_linear" (uniform in +-1/sqrt(d)).
      standardize: which rows' mean and standard deviation (ddof 0) every row is standardised with: "train" (the
        trial's training rows), "all", or "none".
      dtype: of all floating-point arrays.
    """

    def __init__(self, table: Table, init="normal", standardize="train", dtype=np.float32):
        rows, d = table.X.shape
        self.classes = table.n_classes
        self.features = d
        self.n = self.classes * (d + 1)
        self.m_train = round(0.8 * rows)
        self.init = init
        self.standardize = standardize
        self.dtype = np.dtype(dtype)
        self.names = parameter_names(self.classes, d)
        X = table.X.astype(np.float64)
        largest = np.abs(X).max(0)
        if standardize != "none":
            # By powers of two, which change no bit of what follows but for squares that would overflow or underflow.
            X = np.ldexp(X, -np.frexp(largest)[1])
            X = X - np.where(np.ptp(X, axis=0) == 0, X[0], X.mean(0))
            X = X / np.where(np.ptp(X, axis=0) == 0, 1, X.std(0))
        elif (lost := _beyond(largest, self.dtype)).size:
            raise InputError(
                f"data: column {table.feature_names[lost[0]]!r} reaches {largest[lost[0]]:g}, which {self.dtype} can't "
                "hold; standardise the features, or write the column in other units"
            )
        self.X = X.astype(self.dtype)
        self.y = table.y
        self.loss = self._make_loss()
        self.gradient = self._make_gradient()

    # What a trial draws. Numbers are drawn as float32 whatever the precision, so that it doesn't change them.

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw initial parameters, independent and alike, in an array of the given shape."""
        if self.init == "normal":
            return random.normal(key, shape, jnp.float32).astype(self.dtype)
        bound = 1 / np.sqrt(self.features)
        return random.uniform(key, shape, jnp.float32, -bound, bound).astype(self.dtype)

    def split(self, key: jax.Array) -> tuple[View, View]:
        """Draw a trial's split: the views of its training rows (80 %) and of its test rows."""
        rows = len(self.y)
        train = random_subset(key, rows, self.m_train)
        weights = jnp.where(train, 1 / self.m_train, 0).astype(self.dtype)
        test_weights = jnp.where(train, 0, 1 / (rows - self.m_train)).astype(self.dtype)
        if self.standardize == "train":
            mean, scale = self._mean_and_scale(train, weights)
        else:
            mean = jnp.zeros(self.features, self.dtype)
            scale = jnp.ones(self.features, self.dtype)
        return View(weights, mean, scale), View(test_weights, mean, scale)

    def _mean_and_scale(self, train, weights):
        """Mean and standard deviation ``[d]`` of the training rows; a feature constant there has scale 1."""
        lowest = jnp.min(jnp.where(train[:, None], self.X, jnp.inf), axis=0)
        highest = jnp.max(jnp.where(train[:, None], self.X, -jnp.inf), axis=0)
        # Rounding would leave such a feature a tiny deviation, and its test rows enormous values.
        constant = lowest == highest
        mean = jnp.sum(weights[:, None] * self.X, axis=0)
        variance = jnp.sum(weights[:, None] * (self.X - mean) ** 2, axis=0)
        return jnp.where(constant, lowest, mean), jnp.where(constant, 1, jnp.sqrt(variance))

    # What a trial computes, for one trial.

    def logits(self, theta: jax.Array, view: View) -> jax.Array:
        """Logits ``[m, K]`` of every row, seen or not, under the view's standardisation."""
        W = theta[: self.classes * self.features].reshape(self.classes, self.features)
        b = theta[self.classes * self.features :]
        X = (self.X - view.mean) / view.scale
        return jnp.dot(X, W.T, precision=lax.Precision.HIGHEST) + b

    def accuracy(self, theta: jax.Array, view: View) -> jax.Array:
        """Share of the view's rows whose largest logit is their class's; among equals the first class counts."""
        seen = view.weights > 0
        right = jnp.argmax(self.logits(theta, view), axis=1) == self.y
        return (jnp.sum(seen & right) / jnp.sum(seen)).astype(self.dtype)

    def plain_loss(self, theta: jax.Array, view: View) -> jax.Array:
        """f(theta) as the class docstring gives it, in nats; what `loss` and `gradient` are held against."""
        z = self.logits(theta, view)
        of_class = jnp.take_along_axis(z, self.y[:, None], axis=1)[:, 0]
        return jnp.sum(view.weights * (jax.nn.logsumexp(z, axis=1) - of_class))

    def rows(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """The view's rows in the table's order: standardised features ``[m_seen, d]`` and classes ``[m_seen]``."""
        seen = np.asarray(view.weights > 0)
        X = np.asarray((self.X - view.mean) / view.scale)
        return X[seen], self.y[seen]

    # The same for a batch of trials: lanes on the minor axis, and logits less the last class's.

    def _make_loss(self):
        loss = custom_vmap(self.plain_loss)

        @loss.def_vmap
        def batched_loss(axis_size, batched, theta, view):
            V, view = self._shared_row_weights(batched, theta, view)
            Z = [*self._relative_logits(V), 0]
            top = reduce(larger, Z)
            of_class = sum(jnp.where(own, z, 0) for own, z in zip(self._of_class(), Z))
            losses = self.dtype.type(np.log(2)) * (top - of_class) + jnp.log(sum(exp2(z - top) for z in Z))
            ones = np.ones(len(self.y), self.dtype)
            total = jnp.tensordot(ones, view.weights * losses, 1, precision=lax.Precision.HIGHEST)
            return jnp.broadcast_to(total, (axis_size,)), True

        return loss

    def _make_gradient(self):
        gradient = custom_vmap(lambda theta, view: jax.grad(self.plain_loss)(theta, view))

        @gradient.def_vmap
        def batched_gradient(axis_size, batched, theta, view):
            V, view = self._shared_row_weights(batched, theta, view)
            residuals = logistic_residuals if self.classes <= 3 else softmax_residuals
            R = residuals(self._relative_logits(V), self._of_class())
            weighted = jnp.stack([view.weights * r for r in R], axis=1)
            G = jnp.tensordot(self._rows_with_one().T, weighted, 1, precision=lax.Precision.HIGHEST)
            G = jnp.moveaxis(G, 1, 0)
            # The gradients of all classes add up to zero.
            G = jnp.concatenate([G, -jnp.sum(G, axis=0, keepdims=True)])
            db = G[:, -1]
            dW = (G[:, :-1] - view.mean * db[:, None]) / view.scale
            flat = jnp.concatenate([dW.reshape(-1, dW.shape[-1]), db])
            return jnp.broadcast_to(flat, (self.n, axis_size)).T, True

        return gradient

    def _shared_row_weights(self, batched, theta, view):
        """Fold each lane's standardisation into its weights: V ``[K, d + 1, lanes]`` acts on the shared rows."""
        theta, view = jax.tree.map(lanes_last, (theta, view), tuple(batched))
        K, d = self.classes, self.features
        W = theta[: K * d].reshape(K, d, -1) / view.scale
        b = theta[K * d :] - jnp.sum(W * view.mean, axis=1)
        return jnp.concatenate([W, b[:, None]], axis=1), view

    def _relative_logits(self, V) -> list:
        """Logits in units of ln 2 of all classes but the last, less the last's: K - 1 times ``[m, lanes]``."""
        # Stacks behind barriers are kept; XLA would form differences and logits again wherever they are used.
        D = lax.optimization_barrier(jnp.stack([(v - V[-1]) * self.dtype.type(1 / np.log(2)) for v in V[:-1]], axis=1))
        if self.features >= UNROLL_LIMIT:
            Z = jnp.tensordot(self._rows_with_one(), D, 1, precision=lax.Precision.HIGHEST)
        else:
            X = self.X[:, :, None]
            Z = jnp.stack([sum((X[:, f] * d[f] for f in range(len(d) - 1)), d[-1]) for d in jnp.moveaxis(D, 1, 0)], 1)
        Z = lax.optimization_barrier(Z)
        return [Z[:, k] for k in range(self.classes - 1)]

    def _of_class(self) -> list[np.ndarray]:
        """For each class, which rows are its own, ``[m, 1]``."""
        return [(self.y == k)[:, None] for k in range(self.classes)]

    def _rows_with_one(self):
        return np.concatenate([self.X, np.ones((len(self.X), 1), self.dtype)], axis=1)


def _beyond(largest: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Which columns a type would make infinite or 0, by their largest absolute values ``[d]``."""
    limits = np.finfo(dtype)
    return np.flatnonzero((largest > limits.max) | ((largest > 0) & (largest < limits.tiny)))


def logistic_residuals(Z: list, of_class: list) -> list:
    """What each row adds to the gradient, by class but the last: p_k, and p_k - 1 on the rows of class k.

        p_k = 1 / (1 + S_k),  p_k - 1 = -S_k / (1 + S_k),  S_k = sum_{j != k} 2^(z_j - z_k),  z_K = 0

    Nothing cancels where p_k is near 1. S_k is formed anew for each class, with nothing shared between classes, so
    that XLA makes one loop of it all; that is K - 1 exponentials more than `softmax_residuals` needs.

    Args:
      Z: logits in units of ln 2, less the last class's.
      of_class: for each class, which rows are its own.
    """
    Z = [*Z, 0]
    S = [sum(exp2(other - z) for other in Z[:k] + Z[k + 1 :]) for k, z in enumerate(Z[:-1])]
    return [jnp.where(own, -s, 1) / (1 + s) for own, s in zip(of_class, S)]


def softmax_residuals(Z: list, of_class: list) -> list:
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


def parameter_names(classes: int, features: int) -> list[str]:
    """w11, w12, .. (class first, then feature) and b1, b2, ..; with an underscore where a number has two digits."""
    join = "" if max(classes, features) < 10 else "_"
    weights = [f"w{k}{join}{f}" for k in range(1, classes + 1) for f in range(1, features + 1)]
    return weights + [f"b{k}" for k in range(1, classes + 1)]

"""Linear models: one layer, under any loss."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from ihtjax.problems.losses import Loss
from ihtjax.problems.supervised import Rows, Supervised
from ihtjax.problems.table import Table
from ihtjax.solvers.threshold import lanes_last

# With fewer features than this, outputs are written out as sums, so that XLA fuses them with what follows.
UNROLL_LIMIT = 16
# Nanoseconds on one CPU thread, the others as busy, of each output's loss and of each product, for an estimate
# before anything is measured.
NS_OUTPUT, NS_PRODUCT = 0.47, 0.047
# On CPU a batch's rows are taken in blocks of about so many outputs, so that they stay in cache between two products.
# A block has as many rows as an output has parameters, at least, or else it is these that the cache is too small for.
BLOCK_NUMBERS = 2**16


class Linear(Supervised):
    """The mean loss of z = W x + b as a function of theta = concat(W.ravel(), b).

        f(theta) = sum_i weights_i loss(z_i, y_i),   z_i = W (x_i - mean) / scale + b

    with W of shape ``[q, d]`` and n = q (d + 1) parameters, named output first, then feature, as a linear layer of
    PyTorch orders them. ``loss`` and ``gradient`` are functions of one trial; under ``vmap`` both use forms in which
    the batch lies on the minor axis, all trials share the rows, and a trial's split is its row weights.

    Args:
      as of `Supervised`.
    """

    derived = (*Supervised.derived, "_loss", "_gradient", "_seen")

    def __init__(self, table: Table, criterion: Loss, init="normal", standardize="train", dtype=np.float32):
        super().__init__(table, criterion, init, standardize, dtype)
        # Of features that are 0 on every row, as pixels at an edge are, outputs don't depend: left out of products.
        seen = self.X.any(axis=0)
        self._seen = np.flatnonzero(seen if seen.any() else ~seen)
        self._loss = self._with_batched_loss()
        self._gradient = self._with_batched_gradient()

    def parameter_names(self):
        return parameter_names(self.outputs_per_row, self.features)

    def outputs(self, theta, X):
        q, d = self.outputs_per_row, self.features
        W, b = theta[: q * d].reshape(q, d), theta[q * d :]
        return jnp.dot(X, W.T, precision=lax.Precision.HIGHEST) + b

    @property
    def nanoseconds(self):
        computed = len(self.criterion.directions(np.zeros((self.outputs_per_row, 1, 1), self.dtype)))
        return len(self.X) * computed * (NS_OUTPUT + NS_PRODUCT * (self.features + 1))

    def loss(self, theta, view):
        return self._loss(theta, view)

    def gradient(self, theta, view):
        return self._gradient(theta, view)

    # For a batch of trials: lanes on the minor axis.

    def _with_batched_loss(self):
        loss = custom_vmap(self.plain_loss)

        @loss.def_vmap
        def batched_loss(axis_size, batched, theta, view):
            V, view = self._shared_row_weights(batched, theta, view)
            total = self._sum_over_rows(self._weighted_losses, V, view.weights)
            return jnp.broadcast_to(total, (axis_size,)), True

        return loss

    def _with_batched_gradient(self):
        gradient = custom_vmap(lambda theta, view: jax.grad(self.plain_loss)(theta, view))

        @gradient.def_vmap
        def batched_gradient(axis_size, batched, theta, view):
            V, view = self._shared_row_weights(batched, theta, view)
            G = self._sum_over_rows(self._products, V, view.weights)
            G = self.criterion.restore(jnp.moveaxis(G, 1, 0))
            db = G[:, -1]
            mean, scale = self._of_seen(view.mean), self._of_seen(view.scale)
            dW = (G[:, :-1] - mean * db[:, None]) / scale
            if len(self._seen) < self.features:
                dW = jnp.zeros((len(dW), self.features, axis_size), self.dtype).at[:, self._seen].set(dW)
            flat = jnp.concatenate([dW.reshape(-1, dW.shape[-1]), db])
            return jnp.broadcast_to(flat, (self.n, axis_size)).T, True

        return gradient

    def _shared_row_weights(self, batched, theta, view) -> tuple[jax.Array, Rows]:
        """Fold each lane's standardisation into its weights: V ``[q, d + 1, lanes]`` acts on the shared rows.

        d is the number of features that aren't 0 on every row, here and in what follows.
        """
        theta, view = jax.tree.map(lanes_last, (theta, view), tuple(batched))
        q, d = self.outputs_per_row, self.features
        W = self._of_seen(theta[: q * d].reshape(q, d, -1)) / self._of_seen(view.scale)
        b = theta[q * d :] - jnp.sum(W * self._of_seen(view.mean), axis=1)
        return jnp.concatenate([W, b[:, None]], axis=1), view

    def _sum_over_rows(self, function, V, weights):
        """The sum over all rows of what a function says of some of them: of D, X, their weights and their targets."""
        # Stacks behind barriers are kept; XLA would form directions and outputs again wherever they are used.
        D = lax.optimization_barrier(jnp.stack(self.criterion.directions(V), axis=1))
        rows = self._rows_with_one(), weights, self.criterion.targets(self.y, self.dtype)
        whole = self.features < UNROLL_LIMIT or jax.default_backend() != "cpu"
        at_a_time = len(self.X) if whole else max(len(D), BLOCK_NUMBERS // D[0].size)
        return sum_of_blocks(functools.partial(function, D), rows, at_a_time)

    def _weighted_losses(self, D, X, weights, targets):
        """Their share of the loss ``[lanes]``."""
        losses = self.criterion.lane_values(self._outputs_of_lanes(D, X, weights), targets)
        return jnp.tensordot(np.ones(len(X), self.dtype), weights * losses, 1, precision=lax.Precision.HIGHEST)

    def _products(self, D, X, weights, targets):
        """Their share of the gradient by the directions ``[d + 1, directions, lanes]``."""
        R = self.criterion.residuals(self._outputs_of_lanes(D, X, weights), targets)
        weighted = jnp.stack([weights * r for r in R], axis=1)
        return jnp.tensordot(X.T, weighted, 1, precision=lax.Precision.HIGHEST)

    def _outputs_of_lanes(self, D, X, weights) -> list:
        """The outputs that the loss asks for, of some rows, each ``[m, lanes]``."""
        if self.features >= UNROLL_LIMIT:
            Z = jnp.tensordot(X, D, 1, precision=lax.Precision.HIGHEST)
        else:
            X = X[:, :, None]
            Z = jnp.stack([sum((X[:, f] * d[f] for f in range(len(d) - 1)), d[-1]) for d in jnp.moveaxis(D, 1, 0)], 1)
        if self.criterion.curvature is None:  # on a row that isn't seen it may overflow, and 0 times infinity is NaN
            Z = jnp.where(weights[:, None] > 0, Z, 0)
        Z = lax.optimization_barrier(Z)
        return [Z[:, k] for k in range(Z.shape[1])]

    def _rows_with_one(self):
        return np.concatenate([self.X[:, self._seen], np.ones((len(self.X), 1), self.dtype)], axis=1)

    def _of_seen(self, array):
        """Those of the features, on the last axis but that of lanes, which aren't 0 on every row."""
        return array if len(self._seen) == self.features else array[..., self._seen, :]


def sum_of_blocks(function: Callable[..., jax.Array], rows: Any, at_a_time: int) -> jax.Array:
    """The sum of a function over blocks of at most so many rows.

    Args:
      function: of trees as ``rows``; what it says of rows that are 0, which fill up the last block, must be 0.
      rows: a tuple of trees of arrays ``[m, ..]``.
      at_a_time: how many rows a block has at most.
    """
    m = len(jax.tree.leaves(rows)[0])
    count = -(-m // at_a_time)
    if count == 1:
        return function(*rows)
    size = -(-m // count)

    def blocks(array):
        filled = jnp.pad(array, ((0, count * size - m), *[(0, 0)] * (array.ndim - 1)))
        return filled.reshape(count, size, *array.shape[1:])

    rows = jax.tree.map(blocks, rows)
    like = jax.eval_shape(lambda rows: function(*jax.tree.map(lambda block: block[0], rows)), rows)
    total, _ = lax.scan(lambda total, block: (total + function(*block), None), jnp.zeros(like.shape, like.dtype), rows)
    return total


def parameter_names(outputs: int, features: int) -> list[str]:
    """w11, w12, .. (output first, then feature) and b1, b2, ..; with an underscore where a number has two digits.

    Of a single output w1, w2, .. and b.
    """
    if outputs == 1:
        return [f"w{f}" for f in range(1, features + 1)] + ["b"]
    join = "" if max(outputs, features) < 10 else "_"
    weights = [f"w{k}{join}{f}" for k in range(1, outputs + 1) for f in range(1, features + 1)]
    return weights + [f"b{k}" for k in range(1, outputs + 1)]

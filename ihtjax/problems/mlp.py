"""Multi-layer perceptrons, under any loss."""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.custom_batching import custom_vmap

from ihtjax.problems.exponential import exp2
from ihtjax.problems.linear import UNROLL_LIMIT, parameter_names
from ihtjax.problems.losses import LN2, Loss
from ihtjax.problems.supervised import Rows, Supervised
from ihtjax.problems.table import Table
from ihtjax.solvers.threefry import unrolled

# On CPU so many trials are taken at a time that their hidden units have about this many numbers and stay in cache.
NUMBERS_AT_A_TIME = 160_000
# Nanoseconds on one CPU thread, for each row, of each hidden unit, each product of a layer, and each output's loss.
NS_UNIT, NS_PRODUCT, NS_OUTPUT = 0.9, 0.05, 0.8


class Activation(NamedTuple):
    """A hidden unit's output as a function of what comes in: ``value``, its definition.

    For a batch of trials ``quick`` is the same up to 2e-7 in float32, and ``slope`` its derivative from its value.
    """

    value: Callable[[jax.Array], jax.Array]
    quick: Callable[[jax.Array], jax.Array]
    slope: Callable[[jax.Array], jax.Array]


def logistic(x: jax.Array) -> jax.Array:
    """1 / (1 + e^-x)."""
    return 1 / (1 + exp2(x * x.dtype.type(-1 / LN2)))


ACTIVATIONS = {
    # XLA's tanh takes three times as long.
    "tanh": Activation(jnp.tanh, lambda x: 1 - 2 * logistic(-2 * x), lambda a: 1 - a * a),
    "sigmoid": Activation(jax.nn.sigmoid, logistic, lambda a: a * (1 - a)),
    "relu": Activation(jax.nn.relu, jax.nn.relu, lambda a: (a > 0).astype(a.dtype)),  # 0 at 0
}


class MLP(Supervised):
    """The mean loss of a network of L layers as a function of all weights and biases.

        f(theta) = sum_i weights_i loss(z_i, y_i),   z_i = W_L a_{L-1} + b_L
        a_l = act(W_l a_{l-1} + b_l),                a_0 = (x_i - mean) / scale

    theta = concat(W_1.ravel(), b_1, .., W_L.ravel(), b_L) with W_l of shape ``[outputs, inputs]`` of its layer, so that
    n is the sum of outputs (inputs + 1). No constant bounds the curvature for all theta: that of one layer grows with
    the weights of the others, and under ``relu`` gradients jump.

    ``loss`` and ``gradient`` are functions of one trial. Under ``vmap`` both use forms in which all trials share the
    rows, which lie on the minor axis: a trial's standardisation is folded into its first layer, its split is its row
    weights, and each layer is one product forward and two back.

    Args:
      hidden: how many units each hidden layer has, from the features on.
      activation: of the hidden layers, one of `ACTIVATIONS`.
      init: as of `Supervised`; "torch_linear" takes the fan-in of each parameter's own layer, as PyTorch does.
      others as of `Supervised`.
    """

    structural = {
        "n_effective": "how many nonzeros lie on a path of nonzeros from a feature or a constant to an output",
        "collapsed": "whether no such path begins at a feature, so that all rows have the same outputs",
    }
    derived = (*Supervised.derived, "_loss", "_gradient")

    def __init__(
        self,
        table: Table,
        criterion: Loss,
        hidden: Sequence[int],
        activation: str = "tanh",
        init="normal",
        standardize="train",
        dtype=np.float32,
    ):
        self.hidden, self.activation = tuple(hidden), activation
        super().__init__(table, criterion, init, standardize, dtype)
        self._loss = self._batched(self.plain_loss, self._losses)
        self._gradient = self._batched(jax.grad(self.plain_loss), self._gradients)

    @property
    def layers(self) -> list[tuple[int, int]]:
        """How many inputs and outputs each layer has."""
        return list(itertools.pairwise((self.features, *self.hidden, self.outputs_per_row)))

    @property
    def groups(self):
        """The layer of each parameter ``[n]``."""
        return np.repeat(np.arange(len(self.layers)), [(d + 1) * q for d, q in self.layers])

    def parameter_names(self):
        return [f"l{at}.{name}" for at, (d, q) in enumerate(self.layers, 1) for name in parameter_names(q, d)]

    def parts(self, theta: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        """Weights ``[.., outputs, inputs]`` and biases ``[.., outputs]`` of each layer, of theta ``[.., n]``."""
        cuts = np.cumsum([size for d, q in self.layers for size in (q * d, q)])[:-1]
        arrays = jnp.split(theta, cuts, axis=-1)
        return [(W.reshape(*b.shape, -1), b) for W, b in zip(arrays[::2], arrays[1::2])]

    def outputs(self, theta, X):
        act, (*hidden, (W, b)) = ACTIVATIONS[self.activation].value, self.parts(theta)
        for V, c in hidden:
            X = act(jnp.dot(X, V.T, precision=lax.Precision.HIGHEST) + c)
        return jnp.dot(X, W.T, precision=lax.Precision.HIGHEST) + b

    def loss(self, theta, view):
        return self._loss(theta, view)

    def gradient(self, theta, view):
        return self._gradient(theta, view)

    def structure(self, theta):
        """What the zeros of theta alone say of the network.

        ``n_effective`` counts the nonzeros that lie on a path of nonzeros from a source to an output; the others change
        no output. Sources are the features, but for those that are 0 on every row; the biases; and under ``sigmoid``
        the hidden units, which pass on 1/2 where nothing comes in. ``collapsed`` is whether no such path begins at a
        feature that varies, so that no output depends on the row. A unit of ``relu`` that happens to be 0 on every row
        is no zero of theta: neither sees it.
        """
        live = [(W != 0, b != 0) for W, b in self.parts(theta)]
        fed, told = [jnp.asarray((self.X != 0).any(axis=0))], jnp.asarray(np.ptp(self.X, axis=0) > 0)
        for W, b in live:
            fed.append(jnp.any(W & fed[-1], axis=1) | b | (self.activation == "sigmoid"))
            told = jnp.any(W & told, axis=1)
        heard, count = jnp.ones(self.outputs_per_row, bool), jnp.int32(0)
        for (W, b), way_in in zip(live[::-1], fed[-2::-1]):
            count += jnp.sum(W & way_in & heard[:, None], dtype=jnp.int32) + jnp.sum(b & heard, dtype=jnp.int32)
            heard = jnp.any(W & heard[:, None], axis=0)
        return {"n_effective": count, "collapsed": ~jnp.any(told)}

    def draw(self, key, shape):
        if self.init == "normal":
            return super().draw(key, shape)
        bounds = np.concatenate([np.full(q * (d + 1), 1 / np.sqrt(d), np.float32) for d, q in self.layers])
        theta = bounds * random.uniform(unrolled(key), shape, jnp.float32, -1, 1).reshape(-1, self.n)
        return theta.reshape(shape).astype(self.dtype)

    def words(self):
        sizes = "-".join(map(str, (self.features, *self.hidden, self.outputs_per_row)))
        return f"{self.table.words()}; MLP {sizes}, {self.activation}"

    def __reduce__(self):
        table, criterion, *rest = super().__reduce__()[1]
        return type(self), (table, criterion, self.hidden, self.activation, *rest)

    @property
    def temporaries(self):
        return len(self.X) * max(*self.hidden, self.outputs_per_row)

    @property
    def nanoseconds(self):
        products = sum(d * q for d, q in self.layers)
        of_row = NS_UNIT * sum(self.hidden) + NS_PRODUCT * products + NS_OUTPUT * self.outputs_per_row
        return len(self.X) * of_row

    # For a batch of trials: lanes first and rows last; `B` denotes the number of lanes, m that of the rows.

    def _batched(self, plain, of_batch):
        """The plain function of one trial; of a batch, so many trials at a time that they stay in cache."""
        at_a_time = max(1, 2 ** round(np.log2(NUMBERS_AT_A_TIME / self.temporaries)))
        function = custom_vmap(lambda theta, view: plain(theta, view))

        @function.def_vmap
        def batched(axis_size, batched, theta, view):
            theta, view = jax.tree.map(
                lambda x, is_batched: x if is_batched else jnp.broadcast_to(x, (axis_size, *jnp.shape(x))),
                (theta, view),
                tuple(batched),
            )
            if axis_size > at_a_time and jax.default_backend() == "cpu":
                return lax.map(lambda one: function(*one), (theta, view), batch_size=at_a_time), True
            return of_batch(theta, view), True

        return function

    def _losses(self, theta, view: Rows):
        """f ``[B]`` of theta ``[B, n]``."""
        Z, _, _ = self._forward(theta, view)
        return product("bm,bm->b", view.weights, self.criterion.lane_values(Z, self._targets()))

    def _gradients(self, theta, view: Rows):
        """grad f ``[B, n]`` of theta ``[B, n]``."""
        Z, passed, weights = self._forward(theta, view)
        residuals = [view.weights * r for r in self.criterion.residuals(Z, self._targets())]
        R = lax.optimization_barrier(jnp.stack(residuals, axis=1))
        slope, ones = ACTIVATIONS[self.activation].slope, np.ones(len(self.X), self.dtype)
        parts: list[tuple[jax.Array, jax.Array]] = []
        for W, a in zip(weights[::-1], passed[::-1]):
            parts = [(product("bqm,bhm->bqh", R, a), product("bqm,m->bq", R, ones)), *parts]
            R = _back(W, R) * slope(a)
        dW, db = product("bhm,md->bhd", R, self.X), product("bhm,m->bh", R, ones)
        dW = (dW - view.mean[:, None] * db[..., None]) / view.scale[:, None]
        *inner, (dV, dc) = parts
        dV, dc = (jnp.moveaxis(self.criterion.restore(jnp.moveaxis(G, 1, 0)), 0, 1) for G in (dV, dc))
        flat = [part.reshape(len(theta), -1) for pair in ((dW, db), *inner, (dV, dc)) for part in pair]
        return jnp.concatenate(flat, axis=1)

    def _forward(self, theta, view):
        """The outputs that the loss asks for, each ``[B, m]``.

        Returns with them the hidden units ``[B, units, m]``, layer by layer, and the weights ``[B, outputs, units]``
        behind each, of the last layer those that the residuals are derivatives by.
        """
        act, ((W, b), *rest, (V, c)) = ACTIVATIONS[self.activation].quick, self.parts(theta)
        W = W / view.scale[:, None]
        b = b - jnp.sum(W * view.mean[:, None], axis=-1)
        a = act(product("bhd,md->bhm", W, self.X) + b[..., None])
        passed, weights = [a], []
        for W, b in rest:
            a = act(product("bqh,bhm->bqm", W, a) + b[..., None])
            passed.append(a)
            weights.append(W)
        # Behind a barrier it is kept; XLA would form it again wherever it is used.
        passed[-1] = a = lax.optimization_barrier(a)
        last = jnp.moveaxis(jnp.concatenate([V, c[..., None]], axis=-1), 1, 0)
        D = jnp.stack(self.criterion.directions(last), axis=1)
        Z = product("bqh,bhm->bqm", D[..., :-1], a) + D[..., -1:]
        if self.criterion.curvature is None:  # on a row that isn't seen it may overflow, and 0 times infinity is NaN
            Z = jnp.where(view.weights[:, None] > 0, Z, 0)
        weights.append(jnp.stack(self.criterion.differences(last), axis=1)[..., :-1])
        return [Z[:, k] for k in range(Z.shape[1])], passed, weights

    def _targets(self) -> list:
        return [column.T for column in self.criterion.targets(self.y, self.dtype)]


def product(subscripts: str, *arrays: jax.Array | np.ndarray) -> jax.Array:
    """An `einsum` of full precision."""
    return jnp.einsum(subscripts, *arrays, precision=lax.Precision.HIGHEST)


def _back(W: jax.Array, R: jax.Array) -> jax.Array:
    """What reaches the units ``[B, units, m]`` of residuals ``[B, outputs, m]`` by weights ``[B, outputs, units]``."""
    if W.shape[1] >= UNROLL_LIMIT:
        return product("bqh,bqm->bhm", W, R)
    terms = (W[:, k, :, None] * R[:, k, None] for k in range(W.shape[1]))
    return functools.reduce(operator.add, terms)  # in one loop with what follows

"""Multi-layer perceptrons, under any loss."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random

from ihtjax.problems.linear import parameter_names
from ihtjax.problems.losses import Loss
from ihtjax.problems.supervised import Supervised
from ihtjax.problems.table import Table

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,  # with derivative 0 at 0
}


class MLP(Supervised):
    """The mean loss of a network of L layers as a function of all weights and biases.

        f(theta) = sum_i weights_i loss(z_i, y_i),   z_i = W_L a_{L-1} + b_L
        a_l = act(W_l a_{l-1} + b_l),                a_0 = (x_i - mean) / scale

    theta = concat(W_1.ravel(), b_1, .., W_L.ravel(), b_L) with W_l of shape ``[outputs, inputs]`` of its layer, so that
    n is the sum of outputs (inputs + 1). No constant bounds the curvature for all theta: that of one layer grows with
    the weights of the others, and under ``relu`` gradients jump.

    Args:
      hidden: how many units each hidden layer has, from the features on.
      activation: of the hidden layers, one of `ACTIVATIONS`.
      init: as of `Supervised`; "torch_linear" takes the fan-in of each parameter's own layer, as PyTorch does.
      others as of `Supervised`.
    """

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

    @property
    def layers(self) -> list[tuple[int, int]]:
        """How many inputs and outputs each layer has."""
        return list(itertools.pairwise((self.features, *self.hidden, self.outputs_per_row)))

    def parameter_names(self):
        return [f"l{at}.{name}" for at, (d, q) in enumerate(self.layers, 1) for name in parameter_names(q, d)]

    def parts(self, theta: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        """Weights ``[outputs, inputs, ..]`` and biases ``[outputs, ..]`` of each layer, of theta ``[n, ..]``."""
        cuts = np.cumsum([size for d, q in self.layers for size in (q * d, q)])[:-1]
        arrays = jnp.split(theta, cuts)
        return [(W.reshape(q, d, *W.shape[1:]), b) for (d, q), W, b in zip(self.layers, arrays[::2], arrays[1::2])]

    def outputs(self, theta, X):
        act, (*hidden, (W, b)) = ACTIVATIONS[self.activation], self.parts(theta)
        for V, c in hidden:
            X = act(jnp.dot(X, V.T, precision=lax.Precision.HIGHEST) + c)
        return jnp.dot(X, W.T, precision=lax.Precision.HIGHEST) + b

    def draw(self, key, shape):
        if self.init == "normal":
            return super().draw(key, shape)
        bounds = np.concatenate([np.full(q * (d + 1), 1 / np.sqrt(d), np.float32) for d, q in self.layers])
        theta = bounds * random.uniform(key, shape, jnp.float32, -1, 1).reshape(-1, self.n)
        return theta.reshape(shape).astype(self.dtype)

    def words(self):
        sizes = "-".join(map(str, (self.features, *self.hidden, self.outputs_per_row)))
        return f"{self.table.words()}; MLP {sizes}, {self.activation}"

    def __reduce__(self):
        table, criterion, *rest = super().__reduce__()[1]
        return type(self), (table, criterion, self.hidden, self.activation, *rest)

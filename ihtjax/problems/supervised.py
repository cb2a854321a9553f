"""Models of a table: rows that all trials share, split and standardised for each."""

import abc
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from ihtjax.errors import InputError, check, one_of
from ihtjax.problems.base import Problem
from ihtjax.problems.losses import LOSSES, Loss
from ihtjax.problems.table import Table, load_table
from ihtjax.solvers.draws import random_subset
from ihtjax.solvers.threefry import unrolled
from ihtjax.solvers.threshold import largest_in_turn

TRAINING_SHARE = 0.8


class Rows(NamedTuple):
    """The rows that one trial sees of a table that all trials share; the view of a `Supervised` problem.

    Attributes:
      weights: ``[m]``, 1 / (number of rows seen) on the rows seen, 0 elsewhere.
      mean: ``[d]``, what the trial's standardisation subtracts from a row.
      scale: ``[d]``, what it then divides by.
    """

    weights: jax.Array
    mean: jax.Array
    scale: jax.Array


class Supervised(Problem):
    """The mean loss of a model's outputs over the rows of a table.

        f(theta) = sum_i weights_i loss(z_i, y_i),   z_i = outputs(theta, (x_i - mean) / scale)

    A subclass defines ``outputs`` and ``parameter_names``. Each trial draws which 80 % of the rows are its training
    rows, and standardises all rows by these.

    Args:
      table: features and targets, or what ``--data`` calls them, as "sklearn:diabetes".
      criterion: the loss of a row, one of `losses.LOSSES` or its name, as "squared".
      init: distribution of theta: "normal" (standard normal) or "torch_linear" (uniform in +-1/sqrt(fan-in)).
      standardize: which rows' mean and standard deviation (ddof 0) every row is standardised with: "train" (the
        trial's training rows), "all", or "none".
      dtype: of all floating-point arrays.

    Raises:
      InputError: the loss doesn't fit the table's target, or the type can't hold the features.
    """

    derived: ClassVar[tuple[str, ...]] = ("X", "y", "names", "metrics", "features", "outputs_per_row", "m_train")

    def __init__(self, table: Table | str, criterion: Loss | str, init="normal", standardize="train", dtype=np.float32):
        if isinstance(criterion, str):
            criterion = LOSSES[check("loss", criterion, one_of(*LOSSES))]
        if isinstance(table, str):
            table = load_table(table, kind=criterion.target)
        rows, self.features = table.X.shape
        self.table, self.criterion = table, criterion
        self.init, self.standardize, self.dtype = init, standardize, np.dtype(dtype)
        self.y = target_for(criterion, table)
        if criterion.target != "classes":
            self.y = self.y.astype(self.dtype)
        self.outputs_per_row = criterion.n_outputs(table.n_classes, table.n_targets)
        self.m_train = round(TRAINING_SHARE * rows)
        self.metrics = (criterion.metric,)
        self.X = self._scaled(table)
        self.names = self.parameter_names()

    def _scaled(self, table):
        X = table.X.astype(np.float64)
        largest = np.abs(X).max(0)
        if self.standardize != "none":
            # By powers of two, which change no bit of what follows but for squares that would overflow or underflow.
            X = np.ldexp(X, -np.frexp(largest)[1])
            X = X - np.where(np.ptp(X, axis=0) == 0, X[0], X.mean(0))
            X = X / np.where(np.ptp(X, axis=0) == 0, 1, X.std(0))
        elif (lost := _beyond(largest, self.dtype)).size:
            raise InputError(
                f"data: column {table.feature_names[lost[0]]!r} reaches {largest[lost[0]]:g}, which {self.dtype} can't "
                "hold; standardise the features, or write the column in other units"
            )
        return X.astype(self.dtype)

    @abc.abstractmethod
    def parameter_names(self) -> list[str]:
        """The n names."""

    @abc.abstractmethod
    def outputs(self, theta: jax.Array, X: jax.Array) -> jax.Array:
        """z ``[m, q]`` for parameters ``[n]`` and standardised rows ``[m, d]``."""

    @property
    def temporaries(self) -> int:
        return len(self.X)

    def __reduce__(self):
        return type(self), (self.table, self.criterion, self.init, self.standardize, self.dtype)

    def words(self) -> str:
        return self.table.words()

    # What a trial draws.

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Initial parameters, in an array of the given shape. Drawn as float32, so that the precision changes none."""
        if self.init == "normal":
            return super().draw(key, shape)
        bound = 1 / np.sqrt(self.features)
        return random.uniform(unrolled(key), shape, jnp.float32, -bound, bound).astype(self.dtype)

    def split(self, key: jax.Array) -> tuple[Rows, Rows]:
        """A trial's training rows (80 %) and test rows."""
        rows = len(self.X)
        train = random_subset(key, rows, self.m_train, largest_in_turn)
        weights = jnp.where(train, 1 / self.m_train, 0).astype(self.dtype)
        test_weights = jnp.where(train, 0, 1 / (rows - self.m_train)).astype(self.dtype)
        if self.standardize == "train":
            mean, scale = self._mean_and_scale(train, weights)
        else:
            mean = jnp.zeros(self.features, self.dtype)
            scale = jnp.ones(self.features, self.dtype)
        return Rows(weights, mean, scale), Rows(test_weights, mean, scale)

    def _mean_and_scale(self, train, weights):
        """Mean and standard deviation ``[d]`` of the training rows; a feature constant there has scale 1."""
        lowest = jnp.min(jnp.where(train[:, None], self.X, jnp.inf), axis=0)
        highest = jnp.max(jnp.where(train[:, None], self.X, -jnp.inf), axis=0)
        # Rounding would leave such a feature a tiny deviation, and its test rows enormous values.
        constant = lowest == highest
        mean = jnp.sum(weights[:, None] * self.X, axis=0)
        variance = jnp.sum(weights[:, None] * (self.X - mean) ** 2, axis=0)
        return jnp.where(constant, lowest, mean), jnp.where(constant, 1, jnp.sqrt(variance))

    # What a trial computes.

    def plain_loss(self, theta: jax.Array, view: Rows) -> jax.Array:
        """f(theta) as the class's docstring gives it; what batched rules are held against."""
        z = self._outputs_of(theta, view)
        # The loss of a row that isn't seen may overflow, and 0 times infinity is NaN.
        z = jnp.where(view.weights[:, None] > 0, z, 0)
        return jnp.sum(view.weights * self.criterion.value(z, self.y))

    def loss(self, theta: jax.Array, view: Rows) -> jax.Array:
        return self.plain_loss(theta, view)

    def measure(self, theta: jax.Array, view: Rows) -> dict[str, jax.Array]:
        of_rows = self.criterion.measure(self._outputs_of(theta, view), self.y, view.weights)
        return {self.criterion.metric: of_rows.astype(self.dtype)}

    def _outputs_of(self, theta, view):
        return self.outputs(theta, (self.X - view.mean) / view.scale)

    def rows(self, view: Rows) -> tuple[np.ndarray, np.ndarray]:
        """The view's rows in the table's order: standardised features ``[m_seen, d]`` and their targets."""
        seen = np.asarray(view.weights > 0)
        X = np.asarray((self.X - view.mean) / view.scale)
        return X[seen], self.y[seen]


def target_for(criterion: Loss, table: Table) -> np.ndarray:
    """The table's targets, if the loss can be of them.

    Raises:
      InputError: they are of another kind, no counts, or more than two classes for logistic regression.
    """
    if (criterion.target == "classes") != bool(table.class_names):
        what = "classes" if table.class_names else "numbers"
        raise InputError(
            f"loss: {criterion.name} predicts {criterion.target}, but the target holds {what}; take another"
        )
    if criterion.name == "logistic" and table.n_classes != 2:
        raise InputError(
            f"loss: logistic predicts one of two classes, the target has {table.n_classes}; take cross_entropy"
        )
    if criterion.target == "counts" and (wrong := table.y[(table.y < 0) | (table.y != np.floor(table.y))]).size:
        raise InputError(
            f"loss: {criterion.name} predicts counts, whole numbers from 0, but the target holds {wrong[0]:g}; take "
            "squared"
        )
    return table.y


def _beyond(largest: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Which columns a type would make infinite or 0, by their largest absolute values ``[d]``."""
    limits = np.finfo(dtype)
    return np.flatnonzero((largest > limits.max) | ((largest > 0) & (largest < limits.tiny)))

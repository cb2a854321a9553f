"""What is minimised: all that a sweep, a solver and a certificate know of it."""

import abc
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from ihtjax.foreign import content_hash
from ihtjax.solvers.threefry import unrolled

View = Any  # the rows that one trial sees, a pytree of arrays; what is in it is the problem's own affair


class Problem(abc.ABC):
    """An objective f(theta; rows) over n named parameters, with the rows and the start of each trial drawn by a key.

    A subclass sets ``names`` and defines ``loss``; the rest has defaults. All methods but ``fingerprint`` are functions
    of one trial that JAX can trace; under ``vmap`` a method may bring a batched rule of its own.

    Attributes:
      names: of the n parameters, in their order.
      dtype: of parameters, losses and gradients.
      groups: of each parameter the number of its layer, whole numbers ``[n]``, by which ``--per layer`` shares s out;
        None: they are one layer.
      metrics: what ``measure`` returns; a run has the columns ``train_`` and ``test_`` of each.
      structural: what ``structure`` returns, with the meaning of each in a clause; a run has a column of each.
      temporaries: how many numbers the largest array of one trial has, by which batches are sized.
      nanoseconds: roughly what a gradient takes on one thread of a CPU; None if unknown.
    """

    names: Sequence[str]
    dtype: np.dtype = np.dtype("float32")
    groups: Sequence[int] | np.ndarray | None = None
    metrics: tuple[str, ...] = ()
    structural: Mapping[str, str] = MappingProxyType({})
    nanoseconds: float | None = None
    # Attributes that the fingerprint leaves out: what can be computed from the others.
    derived: ClassVar[tuple[str, ...]] = ()

    @property
    def n(self) -> int:
        """How many parameters there are."""
        return len(self.names)

    @property
    def temporaries(self) -> int:
        return self.n

    @abc.abstractmethod
    def loss(self, theta: jax.Array, view: View) -> jax.Array:
        """f(theta) on the rows of a view, a scalar, for theta ``[n]``."""

    def gradient(self, theta: jax.Array, view: View) -> jax.Array:
        """grad f(theta) ``[n]``."""
        return jax.grad(self.loss)(theta, view)

    def split(self, key: jax.Array) -> tuple[View, View | None]:
        """A trial's training rows and test rows; None where there are no test rows, as here."""
        return (), None

    def draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Initial parameters, vector after vector, in an array of this shape of some multiple of n entries.

        Here standard normal. Drawn as float32 whatever the precision, so that it doesn't change them.
        """
        return random.normal(unrolled(key), shape, jnp.float32).astype(self.dtype)

    def measure(self, theta: jax.Array, view: View) -> dict[str, jax.Array]:
        """The ``metrics`` on the rows of a view, scalars."""
        return {}

    def structure(self, theta: jax.Array) -> dict[str, jax.Array]:
        """What is ``structural`` of theta ``[n]``: scalars, each a boolean, an int32 or of the problem's type."""
        return {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what makes this problem: here the values of its attributes, and the files its classes stand in.

        Two runs are of one problem if it is the same.

        Raises:
          InputError: an attribute is neither data nor can be pickled.
        """
        return content_hash("problem", self, vars(self), self.derived)

    def words(self) -> str:
        """What it is, in a line for people."""
        return type(self).__name__

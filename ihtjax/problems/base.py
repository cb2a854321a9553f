"""What is minimised: all that a sweep, a solver and a certificate know of it."""

import abc
import contextlib
import hashlib
import inspect
import itertools
import pickle
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from ihtjax.errors import InputError, shown

PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype)
View = Any  # the rows that one trial sees, a pytree of arrays; what is in it is the problem's own affair


class Problem(abc.ABC):
    """An objective f(theta; rows) over n named parameters, with the rows and the start of each trial drawn by a key.

    A subclass sets ``names`` and defines ``loss``; the rest has defaults. All methods but ``fingerprint`` are functions
    of one trial that JAX can trace; under ``vmap`` a method may bring a batched rule of its own.

    Attributes:
      names: of the n parameters, in their order.
      dtype: of parameters, losses and gradients.
      metrics: what ``measure`` returns; a run has the columns ``train_`` and ``test_`` of each.
      temporaries: how many numbers the largest array of one trial has, by which batches are sized.
      nanoseconds: roughly what a gradient takes on one thread of a CPU; None if unknown.
    """

    names: Sequence[str]
    dtype: np.dtype = np.dtype("float32")
    metrics: tuple[str, ...] = ()
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
        """Initial parameters in an array of this shape, of some multiple of n entries; here standard normal.

        Drawn as float32 whatever the precision, so that it doesn't change them.
        """
        return random.normal(key, shape, jnp.float32).astype(self.dtype)

    def measure(self, theta: jax.Array, view: View) -> dict[str, jax.Array]:
        """The ``metrics`` on the rows of a view, scalars."""
        return {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what makes this problem: here the values of its attributes, and the files its classes stand in.

        Two runs are of one problem if it is the same.

        Raises:
          InputError: an attribute is neither data nor can be pickled.
        """
        digest = hashlib.sha256(type(self).__qualname__.encode())
        for cls in itertools.takewhile(lambda cls: not cls.__module__.startswith("ihtjax."), type(self).__mro__):
            # All of the file: a helper or a constant beside the class matters as much.
            digest.update(_source(sys.modules.get(cls.__module__), or_else=_source(cls)).encode())
        for name, value in sorted(vars(self).items()):
            if name not in self.derived:
                digest.update(f"\n{name} {_content(name, value)}".encode())
        return digest.hexdigest()

    def words(self) -> str:
        """What it is, in a line for people."""
        return type(self).__name__


def _source(thing: Any, or_else: str | None = None) -> str:
    """Its source; where there is none, as in a notebook's exec, its name."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return or_else or f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"


def _content(name: str, value: Any) -> str:
    """A text that is the same for the same content, in any process."""
    if isinstance(value, np.ndarray | jax.Array) and value.dtype != object:
        array = np.asarray(value)
        return f"{array.dtype.str} {array.shape} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_content(name, its)}' for key, its in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"({', '.join(_content(name, its) for its in value)})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(_content(name, its) for its in value))}}}"
    if isinstance(its := getattr(value, "fingerprint", None), str):  # a table's, or a problem's
        return its
    if callable(value):
        with contextlib.suppress(OSError, TypeError):
            return inspect.getsource(value)
    try:
        return f"{_source(type(value))} {hashlib.sha256(pickle.dumps(value)).hexdigest()}"
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InputError(
            f"problem: attribute {name!r} holds {shown(value)}, which can't be pickled; name it in `derived` if it "
            "follows from the others"
        ) from error

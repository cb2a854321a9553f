"""How an objective is minimised under a sparsity constraint: what every solver is."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax

from ihtjax.solvers.constraint import PLAIN, SparseSet


class Objective(NamedTuple):
    """What a solver may ask of the problem that it works on; functions of theta ``[n]``.

    Attributes:
      loss: f(theta), a scalar.
      gradient: grad f(theta) ``[n]``.
      step_size: gamma, which the trial chose: 1 / L-hat_2s, a certified one, or a given one.
      constraint: in which set theta stays.
    """

    loss: Callable[[jax.Array], jax.Array]
    gradient: Callable[[jax.Array], jax.Array]
    step_size: jax.Array
    constraint: SparseSet = PLAIN

    def threshold(self, v: jax.Array, s: jax.Array) -> jax.Array:
        """H_s: a vector of the constraint set that is nearest to v ``[n]``."""
        return self.constraint.threshold(v, s)


class Iterate(NamedTuple):
    """The state of a solver that carries nothing but its iterate.

    Attributes:
      theta: ``[n]``, in the constraint set.
    """

    theta: jax.Array


@dataclasses.dataclass(frozen=True)
class Solver(abc.ABC):
    """A method as pure functions of one trial: a frozen dataclass of its options.

    Support changes, stopping, the audit and the curve are the trial's affair; a state holds what the next step needs,
    and its field ``theta`` is in the objective's constraint set, into which `Objective.threshold` brings it. s and the
    step number are data, so that one program serves all levels.

    Attributes:
      name: what the column ``method`` calls it.
    """

    name: ClassVar[str]

    def init(self, objective: Objective, theta0: jax.Array, s: jax.Array, key: jax.Array) -> Any:
        """The state before the first step, for theta0 ``[n]`` in the constraint set; by default the iterate alone."""
        return Iterate(theta0)

    @abc.abstractmethod
    def step(self, objective: Objective, state: Any, s: jax.Array, k: jax.Array) -> Any:
        """The state after step k + 1, k counted from 0."""

    @property
    def program(self) -> tuple:
        """What its compiled program depends on: two solvers with the same share it.

        All of a class may matter, a helper or a constant as much as ``step``; so only a class that says so shares.
        """
        return type(self), dataclasses.astuple(self)

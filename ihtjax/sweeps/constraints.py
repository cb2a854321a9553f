"""The constraint set that a configuration asks for, on the parameters of a problem."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np

from ihtjax.errors import InputError, numbers_in
from ihtjax.problems.base import Problem
from ihtjax.solvers.constraint import ALWAYS, PLAIN, GroupedSet, SparseSet
from ihtjax.sweeps.config import SweepConfig
from ihtjax.text import some_names


def constraint_of(problem: Problem, config: SweepConfig) -> SparseSet:
    """In which set a trial's iterates stay.

    Raises:
      InputError: ``always`` names a parameter that there isn't, or all of them; or ``per`` asks for layers of a problem
        that has one.
    """
    if config.always is None and config.per == "network":
        return PLAIN
    always = np.isin(problem.names, names_in(config.always or (), problem.names))
    if always.all():
        raise InputError(f"always: got all {problem.n} parameters, expected at least one left for s to count")
    layer = layers_of(problem) if config.per == "layer" else np.zeros(problem.n, int)
    # Numbers without gaps, where a layer is always in as a whole.
    group = np.unique(layer[~always], return_inverse=True)[1]
    if config.per == "layer" and not group.any():
        raise InputError(
            f"per: got 'layer', but {config.problem or config.data} makes a network of one layer that s counts; leave "
            "it out"
        )
    numbers = np.full(problem.n, ALWAYS)
    numbers[~always] = group
    return GroupedSet(tuple(numbers.tolist()))


def names_in(patterns: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
    """The names among these that are meant, in their order: by themselves, by shell patterns, or several with commas.

    Raises:
      InputError: a pattern fits none.
    """
    found: set[str] = set()
    every = set(names)
    for text in patterns:
        for pattern in [text] if text in every else [part.strip() for part in text.split(",")]:
            its = {pattern} & every or {name for name in names if fnmatchcase(name, pattern)}
            if not its:
                raise InputError(
                    f"always: no parameter is called {pattern!r}; name some of {some_names(names)}, or patterns "
                    "such as 'b*'"
                )
            found |= its
    return tuple(name for name in names if name in found)


def layers_of(problem: Problem) -> np.ndarray:
    """The layer of each parameter ``[n]``, as a problem declares it.

    Raises:
      InputError: what it declares aren't n whole numbers.
    """
    if problem.groups is None:
        return np.zeros(problem.n, int)
    layers = numbers_in("groups", problem.groups, 1, whole=True)
    if len(layers) != problem.n:
        raise InputError(f"groups: got {len(layers)} numbers, expected one for each of the {problem.n} parameters")
    return layers

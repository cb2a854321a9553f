"""Solvers by name, the package's and a user's, with their options."""

import dataclasses
import re
import typing
from typing import Any

from ihtjax.errors import InputError, an, check, shown
from ihtjax.foreign import content_hash, made, named, path_of
from ihtjax.solvers.base import Solver
from ihtjax.solvers.gd import GD
from ihtjax.solvers.iht import IHT

SOLVERS: dict[str, type[Solver]] = {solver.name: solver for solver in (IHT, GD)}
DENSE = GD.name  # at s = n alone, as the baseline
NAME = re.compile(r"(?!all$)[a-z][a-z0-9_]{0,39}")  # files call what is of all solvers so
LONGEST = 120  # characters of a method, which is part of a file's name
TRUTH = {"true": True, "false": False}


def solver_named(text: str) -> Solver:
    """The solver that text names.

    Args:
      text: ``name`` of one of the package's, or ``module:name`` of a user's `Solver`, either followed by options as in
        ``module:name:momentum=0.9,restart=true``.

    Raises:
      InputError: there is none of this name, an option isn't the solver's or its value isn't of its type.
    """
    parts = text.split(":")
    options = parts.pop() if "=" in parts[-1] else ""
    if len(parts) == 2:
        found = named("solver", ":".join(parts))
    elif text != DENSE and parts[0] in SOLVERS:
        found = SOLVERS[parts[0]]
    else:
        what = "the dense baseline, which the option dense trains" if text == DENSE else "which is none"
        there = ", ".join(name for name in SOLVERS if name != DENSE)
        raise InputError(f"solver: got {text!r}, {what}; expected {there}, or module:name of a solver of your own")
    if isinstance(found, type) and issubclass(found, Solver):
        its = _options(text, found, options)
        return check_solver(made("solver", text, lambda: found(**its)))
    if options:
        raise InputError(f"solver: got options for {':'.join(parts)}, expected none for what is no class of solvers")
    if not isinstance(found, Solver) and callable(found):
        found = made("solver", text, found)
    return check_solver(found)


def check_solver(solver: Any) -> Solver:
    """The solver, if it is one that a run can keep apart from others.

    Raises:
      InputError: it isn't a `Solver`, or its name won't do.
    """
    solver = check("solver", solver, an(Solver))
    name = getattr(solver, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(
            f"solver: got the name {shown(name)}, expected small letters, digits and underscores, and not 'all'"
        )
    if SOLVERS.get(name, type(solver)) is not type(solver):
        raise InputError(f"solver: {path_of(solver)} is called {name!r} as one of the package's; give it another name")
    try:
        hash(solver)
    except TypeError as error:
        raise InputError(f"solver: {path_of(solver)} can't be hashed ({error}); make it a frozen dataclass") from error
    kinds = _kinds(type(solver))
    for option, value in _given(solver):
        if not isinstance(value, bool | int | float | str) or not re.fullmatch(r"[\w.+-]+", _text(value)):
            raise InputError(f"solver: option {option} is {shown(value)}, expected a number, a truth value or a word")
        # As its text gives it back, so that 1 and 1.0 are one method.
        solver = dataclasses.replace(solver, **{option: _parsed(option, _text(value), kinds[option], path_of(solver))})
    if len(method(solver)) > LONGEST:
        raise InputError(f"solver: {shown(method(solver))} is too long, expected at most {LONGEST} characters")
    return solver


def method(solver: Solver) -> str:
    """What the column ``method`` calls a solver: its name and the options that differ from its defaults."""
    return _with_options(solver.name, solver)


def specification(solver: Solver) -> str:
    """The text by which `solver_named` finds it again."""
    return _with_options(solver.name if solver.name in SOLVERS else path_of(solver), solver)


def fingerprint(solver: Solver) -> str:
    """SHA-256 of a user's solver, its options and the file it stands in; empty for one of the package's."""
    its_options = {field.name: getattr(solver, field.name) for field in dataclasses.fields(solver)}
    return "" if solver.name in SOLVERS else content_hash("solver", solver, its_options)


def _with_options(name: str, solver: Solver) -> str:
    return ":".join([name, *filter(None, [",".join(f"{option}={_text(value)}" for option, value in _given(solver))])])


def _given(solver: Solver) -> list[tuple[str, Any]]:
    """The options that differ from their defaults."""
    values = [(field, getattr(solver, field.name)) for field in dataclasses.fields(solver)]
    return [(field.name, value) for field, value in values if value != field.default]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kinds(solver: type[Solver]) -> dict[str, Any]:
    """The type of each option; where it may be None as well, the other."""
    try:
        hints = typing.get_type_hints(solver)
    except Exception:  # annotations may name what is imported for type checkers alone
        hints = {}
    kinds = {}
    for field in dataclasses.fields(solver):
        kind = hints.get(field.name, type(field.default))
        some = [one for one in typing.get_args(kind) if one is not type(None)]
        kinds[field.name] = some[0] if len(some) == 1 else kind
    return kinds


def _parsed(name: str, value: str, kind: Any, where: str) -> Any:
    """An option's value from text."""
    try:
        return TRUTH[value.lower()] if kind is bool else kind(value)
    except Exception as error:
        expected = "true or false" if kind is bool else {int: "a whole number", float: "a number"}.get(kind, kind)
        raise InputError(f"solver: {name}: got {value!r} in {where!r}, expected {expected}") from error


def _options(text: str, solver: type[Solver], options: str) -> dict[str, Any]:
    """Options from text such as ``momentum=0.9,restart=true``, each of its field's type."""
    kinds, found = _kinds(solver), {}
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name not in kinds or name in found:
            has = f"its options are {', '.join(kinds)}, each at most once" if kinds else "it has no options"
            raise InputError(f"solver: got {option!r} in {text!r}; {has}")
        found[name] = _parsed(name, value, kinds[name], text)
    return found

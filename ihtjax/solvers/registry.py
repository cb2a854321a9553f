"""The solvers that there are, by name."""

import importlib
import re

from ihtjax.errors import InputError, shown
from ihtjax.solvers.base import Solver, with_options
from ihtjax.solvers.iht import GD, IHT

SOLVERS: dict[str, type[Solver]] = {its.name: its for its in (IHT, GD)}
NAME = re.compile(r"[a-z][a-z0-9_]*")


def make_solver(text: str) -> Solver:
    """A solver from ``NAME[:option=value,..]``; NAME is a registered one, or ``module:attribute`` of a user's own.

    Raises:
      InputError: there is none of this name, or it hasn't such an option.

    Example:
      >>> make_solver("iht")
      IHT()
    """
    name, _, rest = text.partition(":")
    if name not in SOLVERS and re.match(r"[A-Za-z_]\w*(:|$)", rest):
        attribute, _, rest = rest.partition(":")
        solver = imported("solver", f"{name}:{attribute}")
        if isinstance(solver, Solver) and not rest:
            return checked(solver)
    else:
        solver = SOLVERS.get(name)
    if not (isinstance(solver, type) and issubclass(solver, Solver)):
        raise InputError(f"solver: got {text!r}, expected one of {', '.join(SOLVERS)}, or module:name of a Solver")
    options = dict(part.partition("=")[::2] for part in rest.split(",")) if rest else {}
    return checked(with_options(solver, options))


def checked(solver: Solver) -> Solver:
    """The solver, if its name can be a file's."""
    if not isinstance(solver, Solver) or not NAME.fullmatch(str(getattr(solver, "name", ""))):
        raise InputError(f"solver: got {shown(solver)}, expected a Solver with a name of small letters, digits and _")
    return solver


def imported(what: str, path: str):
    """What ``module:name`` names.

    Raises:
      InputError: it can't be imported.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{what}: got {path!r}, which can't be imported ({error}); expected module:name") from error

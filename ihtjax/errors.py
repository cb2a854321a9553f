"""The error that a user can mend, and what a value may be."""

import numbers
import os
import reprlib
from collections.abc import Callable
from typing import Any, NamedTuple


class InputError(ValueError):
    """Something that the caller gave is wrong; the text says what was wrong, what was expected and what to do.

    The command line prints it as one line and exits with 2.
    """


class Expectation(NamedTuple):
    """What a value may be: in words for errors, and as a test of a value.

    ``kind`` is the type ("integer" or "real") of a scalar that JAX traces, whose value isn't known yet; none if such a
    scalar won't do.
    """

    text: str
    holds: Callable[[Any], bool]
    kind: str | None = None


def whole_number(minimum: int, maximum: int = 2**31 - 1) -> Expectation:
    """A whole number from ``minimum`` to ``maximum``."""
    return Expectation(
        f"a whole number from {minimum} to {maximum}", lambda v: _is_whole(v) and minimum <= v <= maximum, "integer"
    )


def one_of(*choices: str) -> Expectation:
    """One of a few words."""
    return Expectation(" or ".join(map(repr, choices)), lambda v: isinstance(v, str) and v in choices)


def an(type_: type) -> Expectation:
    """An instance of a type."""
    article = "an" if type_.__name__[0] in "AEIOU" else "a"
    return Expectation(f"{article} {type_.__name__}", lambda v: isinstance(v, type_))


def _is_whole(v: Any) -> bool:
    return isinstance(v, numbers.Integral) and not isinstance(v, bool)


def _is_real(v: Any) -> bool:
    return isinstance(v, numbers.Real) and not isinstance(v, bool)


def _names_a_file(v: Any) -> bool:
    path = os.fspath(v) if isinstance(v, str | os.PathLike) else None
    return isinstance(path, str) and path != "" and "\0" not in path


ANY_WHOLE_NUMBER = Expectation("a whole number", _is_whole, "integer")
SEED = whole_number(0, 2**32 - 1)
POSITIVE = Expectation(
    "a positive number that float32 can hold", lambda v: _is_real(v) and 1e-38 < v < 3.4e38, "real"
)
NOT_NEGATIVE = Expectation(
    "a number of at least 0 that float32 can hold", lambda v: POSITIVE.holds(v) or (_is_real(v) and v == 0), "real"
)
SHARE = Expectation("a number between 0 and 1", lambda v: _is_real(v) and 0 < v < 1, "real")
TEXT = Expectation("text", lambda v: isinstance(v, str) and v != "")
PATH = Expectation("a path, as text or a pathlib.Path", _names_a_file)
BOOLEAN = Expectation("True or False", lambda v: isinstance(v, bool))
FUNCTION = Expectation("a function", callable)


def check(name: str, value: Any, expects: Expectation) -> Any:
    """The value, NumPy's and JAX's scalars as Python's; a scalar that JAX traces stays as it is.

    Raises:
      InputError: it isn't what is expected.
    """
    value = plain(value)
    if is_traced(value):
        fits = expects.kind is not None and value.shape == () and _kind(value) in ("integer", expects.kind)
    else:
        fits = expects.holds(value)
    if not fits:
        raise InputError(f"{name}: got {shown(value)}, expected {expects.text}")
    return float(value) if expects.kind == "real" and isinstance(value, numbers.Real) else value


def numbers_in(name: str, value: Any, ndim: int | None, whole: bool = False) -> Any:
    """The value as a NumPy array of finite float64 numbers, or of whole numbers, with so many axes; None: at least one.

    Raises:
      InputError: it can't be one without loss.
    """
    import numpy as np

    kinds = "iu" if whole else "biuf"
    wanted = f"{'whole' if whole else 'finite'} numbers, an array of {ndim or 'some'} axes"
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: got {shown(value)}, expected {wanted}") from None
    if array.dtype.kind not in kinds or array.ndim != (max(array.ndim, 1) if ndim is None else ndim):
        raise InputError(f"{name}: got {shown(array)}, expected {wanted}")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: got NaN or infinity, expected finite numbers; drop such rows")
    return array if whole else array.astype(np.float64)


def shown(value: Any) -> str:
    """A value in a line of an error: an array by its type and shape, anything else by the start of its repr."""
    if is_traced(value):
        return f"a traced {value.dtype}{list(value.shape)}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return " ".join(reprlib.repr(value).split())


def plain(value: Any) -> Any:
    """NumPy's and JAX's scalars as Python's, so that they compare, hash and print alike; all else as it is."""
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "item") or is_traced(value):
        return value
    try:
        return value.item()
    except NotImplementedError:  # a key of jax.random
        return value


def is_traced(value: Any) -> bool:
    """Whether JAX traces this value: it has a type and a shape, but its number isn't known yet."""
    if not hasattr(value, "aval"):  # JAX isn't imported for what isn't its own
        return False
    from jax.core import Tracer

    return isinstance(value, Tracer)


def _kind(traced: Any) -> str | None:
    from jax.numpy import floating, integer, issubdtype

    return "integer" if issubdtype(traced.dtype, integer) else "real" if issubdtype(traced.dtype, floating) else None

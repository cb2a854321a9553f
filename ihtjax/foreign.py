"""Objects from a user's own modules: found by name, and told apart by their content."""

import contextlib
import hashlib
import importlib
import inspect
import os
import pickle
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ihtjax.errors import InputError, shown

PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype)


def named(what: str, path: str) -> Any:
    """What ``module:name`` names; modules in the working directory are found first, as `python -m` has it.

    Args:
      what: the option, for errors.
      path: ``module:name``.

    Raises:
      InputError: it can't be imported, or holds no such name.
    """
    module, _, name = path.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # the module is the user's and may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{what}: got {path!r}, which can't be imported ({reason}); expected module:name") from error
    finally:
        sys.path.remove(os.getcwd())


def made(what: str, path: str, make: Callable[[], Any]) -> Any:
    """What a user's class or function returns; whatever it raises is an `InputError`.

    Args:
      what: the option, for errors.
      path: by which it was found.
      make: calls it.
    """
    try:
        return make()
    except InputError:
        raise
    except Exception as error:  # it is the user's and may raise anything
        raise InputError(f"{what}: {path!r} can't be made ({type(error).__name__}: {error})") from error


def is_own(thing: Any) -> bool:
    """Whether an object's class is a user's."""
    return not type(thing).__module__.startswith("ihtjax.")


def path_of(thing: Any) -> str:
    """``module:name`` of an object's class, or of a class."""
    cls = thing if isinstance(thing, type) else type(thing)
    return f"{cls.__module__}:{cls.__name__}"


def content_hash(what: str, thing: Any, values: Mapping[str, Any], derived: tuple[str, ...] = ()) -> str:
    """SHA-256 of an object: the values of its attributes, and the files that its classes stand in.

    Args:
      what: what it is, for errors.
      thing: the object.
      values: its attributes.
      derived: those that are left out, since they follow from the others.

    Raises:
      InputError: an attribute is neither data nor can be pickled.
    """
    digest = hashlib.sha256(type(thing).__qualname__.encode())
    for cls in type(thing).__mro__:
        if cls.__module__.startswith("ihtjax.") or cls.__module__ in ("builtins", "abc", "typing"):
            continue
        digest.update(_file_of(cls).encode())
    for name, value in sorted(values.items()):
        if name not in derived:
            digest.update(f"\n{name} {_content(f'{what}: attribute {name!r}', value)}".encode())
    return digest.hexdigest()


# What is imported runs on, whatever becomes of its file: the source is that of the first look, which a reload renews.
_files: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def _file_of(cls: type) -> str:
    """All of the file that a class stands in: a helper or a constant beside it matters as much."""
    if cls not in _files:
        _files[cls] = _source(sys.modules.get(cls.__module__), or_else=_source(cls))
    return _files[cls]


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
            f"{name} holds {shown(value)}, which can't be pickled; name it in `derived` if it follows from the others"
        ) from error

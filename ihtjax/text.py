"""Names from data, so that they can be shown anywhere."""

import unicodedata
from collections.abc import Iterable


def is_printable(name: str) -> bool:
    """Whether a name holds no control character: none that a terminal obeys, and none that hides or turns text."""
    if name.isascii():  # several times as fast, which counts for the names of many parameters
        return name.isprintable()
    joiners = "\u200c\u200d"  # some scripts need them
    return not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in joiners for c in name)


def printable(name: str) -> str:
    r"""The name with what can't be printed as its escape, so that no terminal or page acts on it.

    Example:
      >>> printable("a\x1b[31m b")
      'a\\x1b[31m b'
    """
    return "".join(c if is_printable(c) else ascii(c)[1:-1] for c in str(name))


def some_names(names: Iterable) -> str:
    """Some names for an error; a control character is written out."""
    shown = [printable(name) for name in map(str, names)]
    return ", ".join(
        shown if len(shown) <= 12 else [*shown[:8], "..", *shown[-3:]]
    )  # the last are often those that are meant

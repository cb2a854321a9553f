"""Sparsity levels: how they are written, and which counts they are among n parameters."""

import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from ihtjax.errors import Expectation, InputError, plain, whole_number

MAX_LEVEL = 2**31 - 1  # a level is an int32 column
LEVEL = whole_number(1, MAX_LEVEL)
MAX_LEVELS = 100_000  # of one sweep: each is a file at least
# Up to so many parameters the default is every level below n; beyond, it is so many of them.
EVERY_LEVEL_UP_TO, LEVELS_BEYOND = 50, 16
MOST_SHOWN = 20
WRITTEN = "counts such as 3,5,7, ranges such as 1-14 or 10-600:50, or shares of n such as 5%,10%"
LEVELS = Expectation(
    f"whole numbers from 1 to the number of parameters, such as (3, 5, 7), or text: {WRITTEN}",
    lambda v: isinstance(v, str) or (isinstance(v, tuple) and len(v) > 0 and all(LEVEL.holds(s) for s in v)),
)
COUNTS = re.compile(r"([0-9]{1,10})(?:\s*-\s*([0-9]{1,10})(?:\s*:\s*([0-9]{1,10}))?)?")
SHARE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*%")


def as_levels(levels: Any) -> Any:
    """Levels as a sorted tuple of counts without duplicates; as text where that depends on n, since it holds shares.

    What isn't levels stays as it is, for the check.

    Raises:
      InputError: a text isn't what `WRITTEN` says.

    Example:
      >>> as_levels([7, 3, 7]), as_levels("1-3, 10-30:10"), as_levels("5%, 20")
      ((3, 7), (1, 2, 3, 10, 20, 30), '5%,20')
    """
    if isinstance(levels, str):
        has_share = any(isinstance(part, Fraction) for part in _parse(levels))
        return "".join(levels.split()) if has_share else _counts(levels, 0)
    if LEVEL.holds(plain(levels)):
        return (plain(levels),)
    if not isinstance(levels, Iterable) or isinstance(levels, bytes | Mapping) or getattr(levels, "ndim", 1) != 1:
        return levels
    levels = [plain(s) for s in levels]
    return tuple(sorted(set(levels)) if all(map(LEVEL.holds, levels)) else levels)


def count_levels(levels: tuple[int, ...] | str | None, n: int) -> tuple[int, ...]:
    """The levels as counts of n parameters: a share is rounded, half up, and at least 1; for None, the default ones.

    Example:
      >>> count_levels("0.1%,5%,20", n=650)
      (1, 20, 33)
    """
    if levels is None:
        return default_levels(n)
    return _counts(levels, n) if isinstance(levels, str) else levels


def default_levels(n: int) -> tuple[int, ...]:
    """Every level below n, where these are few; else some of them, log-spaced from 1 to n - 1.

    Example:
      >>> default_levels(5), default_levels(650)
      ((1, 2, 3, 4), (1, 2, 3, 4, 6, 9, 13, 21, 32, 49, 75, 115, 178, 274, 421, 649))
    """
    if n <= EVERY_LEVEL_UP_TO:
        return tuple(range(1, max(n, 2)))
    spaced = (round((n - 1) ** (i / (LEVELS_BEYOND - 1))) for i in range(LEVELS_BEYOND))
    return tuple(sorted({max(i, s) for i, s in enumerate(spaced, 1)}))  # where rounding repeats one, the next


def written(levels: Iterable[int]) -> str:
    """Ascending levels in short, as `as_levels` reads them; of many that make no ranges, the first and the last.

    Example:
      >>> written(range(1, 15)), written([3, 5, 7]), written([1, 10, 60, 110, 160])
      ('1-14', '3,5,7', '1,10-160:50')
    """
    levels, parts, at = list(levels), [], 0
    while at < len(levels):
        end = at + 1
        while end < len(levels) and levels[end] - levels[end - 1] == levels[at + 1] - levels[at]:
            end += 1
        if end - at >= 4:
            step = levels[at + 1] - levels[at]
            parts.append(f"{levels[at]}-{levels[end - 1]}" + f":{step}" * (step > 1))
            at = end
        else:
            parts.append(str(levels[at]))
            at += 1
    return ",".join(parts if len(parts) <= MOST_SHOWN else [*parts[: MOST_SHOWN - 2], "..", parts[-1]])


def _counts(text: str, n: int) -> tuple[int, ...]:
    levels: set[int] = set()
    for part in _parse(text):
        levels |= set(part) if isinstance(part, range) else {max(1, math.floor(part * n + Fraction(1, 2)))}
    return tuple(sorted(levels))


def _parse(text: str) -> list[range | Fraction]:
    """The parts of a text: a range of counts, or a share of n."""
    parts = [_parse_part(part.strip(), text) for part in text.split(",")]
    count = sum(len(part) for part in parts if isinstance(part, range))
    if count > MAX_LEVELS:
        raise InputError(
            f"levels: got {text!r}, which are {count:,} levels, expected at most {MAX_LEVELS:,}; give a step, as in "
            "10-600:50"
        )
    return parts


def _parse_part(part: str, text: str) -> range | Fraction:
    def wrong(expected: str) -> InputError:
        within = f" in {text!r}" if part != text.strip() else ""
        return InputError(f"levels: got {part!r}{within}, expected {expected}")

    if share := SHARE.fullmatch(part):
        if not 0 < Fraction(share[1]) <= 100:
            raise wrong("a share of n above 0% and of at most 100%, as in 5%,10%")
        return Fraction(share[1]) / 100
    if (counts := COUNTS.fullmatch(part)) is None:
        raise wrong(WRITTEN)
    first, last, step = int(counts[1]), int(counts[2] or counts[1]), int(counts[3] or 1)
    if not (LEVEL.holds(first) and LEVEL.holds(last)):
        raise wrong("levels from 1 to the number of parameters")
    if first > last:
        raise wrong(f"a range from its lower end to its upper one, as in {last}-{first}")
    if step == 0:
        raise wrong(f"a step of at least 1, as in {first}-{last}:10")
    return range(first, last + 1, step)

"""The configuration of a sweep: every option that determines its results, checked where it is made."""

import dataclasses
import hashlib
import json
import math
import numbers
import re
from dataclasses import dataclass

from ihtjax.errors import InputError

MAX_SEED = 2**32 - 1


def option(default, help, expects=None, **metadata):
    """A field of `SweepConfig`: what the command line generator and the check need to know of it."""
    return dataclasses.field(default=default, metadata={"help": help, "expects": expects, **metadata})


def count(minimum, maximum=2**31 - 1):
    return (
        f"a whole number from {minimum} to {maximum}",
        lambda v: isinstance(v, numbers.Integral) and minimum <= v <= maximum,
    )


SEED = (
    f"a whole number from 0 to {MAX_SEED}",
    lambda v: isinstance(v, numbers.Integral) and 0 <= v <= MAX_SEED,
)
POSITIVE = ("a positive number", lambda v: isinstance(v, numbers.Real) and math.isfinite(v) and v > 0)
BOOLEAN = ("True or False", lambda v: isinstance(v, bool))
MAX_LEVEL = 2**15 - 1
LEVELS = (
    "whole numbers from 1 to the number of parameters, as in 1-14 or 3,5,7",
    lambda v: len(v) > 0 and all(isinstance(s, numbers.Integral) and 1 <= s <= MAX_LEVEL for s in v),
)


def choice(default, help, *choices):
    expects = " or ".join(map(repr, choices)), lambda v: v in choices
    return option(default, help, expects, metavar="|".join(choices))


@dataclass(frozen=True)
class SweepConfig:
    """What determines the results of a sweep; the fields are the options of ``ihtjax sweep``, with underscores.

    Hashable and immutable. ``levels=None`` means 1 .. n - 1, filled in when the data is read.

    Raises:
      InputError: a field is out of range.

    Example:
      >>> SweepConfig(levels=(3, 5, 7), trials=100).n_monte
      100
    """

    data: str = option("iris", "'iris', or a .csv or .parquet file of numeric features and a class column")
    target: str | None = option(None, "class column of that file")
    levels: tuple[int, ...] | None = option(
        None, "sparsity levels, as 1-14 or 3,5,7  [default: 1 .. n - 1]", LEVELS, sweep_only=True
    )
    trials: int = option(1000, "seed triples per level", count(1), sweep_only=True)
    steps: int = option(10_000, "IHT steps per trial", count(1))
    n_monte: int = option(100, "Monte Carlo draws for the step size", count(1))
    seed: int = option(0, "root seed, from which all seed triples come", SEED, sweep_only=True)
    init: str = choice("normal", "distribution of the initial parameters", "normal", "torch_linear")
    standardize: str = choice("train", "rows whose mean and deviation standardise all rows", "train", "all", "none")
    dense: bool = option(True, "train a dense baseline for each seed triple", BOOLEAN, sweep_only=True)
    step_size: float | None = option(None, "fixed step size instead of 1 / L-hat_2s", POSITIVE)
    stop_loss: float | None = option(None, "freeze a trial at this training loss (nats)", POSITIVE)
    ht_tol: float = option(1e-3, "largest gradient entry that counts as vanishing", POSITIVE)
    curve_points: int = option(64, "steps at which losses are recorded, log-spaced; 0: none", count(0))
    precision: str = choice("float32", "floating-point type", "float32", "float64")

    def __post_init__(self):
        if self.levels is not None:
            try:
                object.__setattr__(self, "levels", tuple(sorted(set(self.levels))))
            except TypeError:
                object.__setattr__(self, "levels", (self.levels,))
        for field in dataclasses.fields(self):
            value, expects = getattr(self, field.name), field.metadata["expects"]
            if expects is None or (value is None and field.default is None):
                continue
            expected, holds = expects
            if (isinstance(value, bool) and field.type is not bool) or not holds(value):
                raise InputError(f"{field.name}: got {value!r}, expected {expected}")
        if self.curve_points == 1:
            raise InputError("curve_points: got 1, expected 0 or at least 2, the first and the last step")

    def with_levels(self, n: int) -> "SweepConfig":
        """The same with ``levels`` filled in and held against the number of parameters n."""
        levels = tuple(range(1, n)) if self.levels is None else self.levels
        if levels[-1] > n:
            raise InputError(f"levels: got {levels[-1]}, expected at most {n}, the number of parameters of {self.data}")
        return dataclasses.replace(self, levels=levels)

    def to_json(self) -> dict:
        """The fields as JSON types."""
        return dataclasses.asdict(self) | {"levels": self.levels and list(self.levels)}

    def hash(self, fingerprint: str) -> str:
        """12 hex digits over what determines a row: all fields but trials and levels, with the data's content."""
        fields = self.to_json() | {"data": fingerprint}
        rows = {k: v for k, v in fields.items() if k not in ("levels", "trials")}
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12]


def parse_levels(text: str) -> tuple[int, ...]:
    """Sparsity levels from text such as "1-14", "3,5,7" or "1-3,7"."""
    levels = []
    for part in text.split(","):
        span = re.fullmatch(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?", part)
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (1, 0)
        if not 1 <= first <= last <= MAX_LEVEL:
            raise InputError(f"levels: got {text!r}, expected {LEVELS[0]}")
        levels += range(first, last + 1)
    return tuple(levels)

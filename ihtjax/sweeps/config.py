"""The configuration of a sweep: every option that determines its results, checked where it is made."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from ihtjax.errors import (
    BOOLEAN,
    POSITIVE,
    SEED,
    TEXT,
    Expectation,
    InputError,
    check,
    one_of,
    plain,
    whole_number,
)
from ihtjax.sweeps.levels import EVERY_LEVEL_UP_TO, LEVELS, LEVELS_BEYOND, MAX_LEVEL, as_levels, count_levels


def option(default, help, expects, **metadata):
    """A field of `SweepConfig`: what the command line, the check and the hash need to know of it.

    Args:
      default, help: of the command line's option.
      expects: what a value may be.
      metadata: ``metavar``, how the value is called there; ``sweep_only`` of many trials, not of one; ``of_rows`` false
        where no row depends on it; ``later`` where runs from before there was such an option had this default, so that
        it changes no hash.
    """
    return dataclasses.field(default=default, metadata={"help": help, "expects": expects, **metadata})


def choice(default, help, *choices, **metadata):
    return option(default, help, one_of(*choices), metavar="|".join(choices), **metadata)


PAPERS_STOP_LOSS = 0.05  # nats; what is looked for where no other is given
CERTIFIED = "certified"
# Which columns of parameters a run has, by its option theta: where trials end and where they start.
VECTORS = {"all": ("theta", "theta0"), "end": ("theta",), "none": ()}
STEP_SIZE = Expectation(
    f"{POSITIVE.text}, or '{CERTIFIED}'",
    lambda v: (isinstance(v, str) and v == CERTIFIED) or POSITIVE.holds(v),
)
LOSSES = ("cross_entropy", "logistic", "squared", "huber", "poisson")  # those of `problems.losses`, which needs JAX
TARGET = Expectation(
    "the name of a column, or several",
    lambda v: TEXT.holds(v) or (isinstance(v, tuple) and len(v) > 1 and all(map(TEXT.holds, v))),
)
PROBLEM = Expectation(
    "module:name of an ihtjax.Problem, or of a function of nothing that returns one",
    lambda v: isinstance(v, str) and re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", v) is not None,
)
SOLVER = re.compile(r"[\w.]+(:[A-Za-z_]\w*)?(:[A-Za-z_]\w*=[^,:=]+(,[A-Za-z_]\w*=[^,:=]+)*)?")
SOLVERS = Expectation(
    "names of solvers, or module:name of a solver of your own, either with options as in name:option=value",
    lambda v: isinstance(v, tuple) and len(v) > 0 and all(isinstance(s, str) and SOLVER.fullmatch(s) for s in v),
)
# The models of a table, each with the options of its own; `engine.MODELS`, which needs JAX, holds their classes.
MODELS: dict[str, tuple[str, ...]] = {"linear": (), "mlp": ("hidden", "activation")}
MODEL_OPTIONS = tuple(dict.fromkeys(name for names in MODELS.values() for name in names))
ALWAYS = Expectation(
    "names of parameters, such as ('b1', 'b2') or ('b*',)",
    lambda v: isinstance(v, tuple) and len(v) > 0 and all(map(TEXT.holds, v)),
)
# What a problem of the user's says itself.
SAID_BY_PROBLEM = ("data", "target", "model", *MODEL_OPTIONS, "loss", "init", "standardize")
WIDTH = whole_number(1, MAX_LEVEL)
WIDTHS = Expectation(
    "the widths of the hidden layers, whole numbers such as 16 or (16, 8)",
    lambda v: isinstance(v, tuple) and len(v) > 0 and all(map(WIDTH.holds, v)),
)


@dataclass(frozen=True)
class SweepConfig:
    """What determines the results of a sweep; the fields are the options of ``ihtjax sweep``, with underscores.

    Hashable and immutable. ``levels`` may be text, such as "5%,10%" of n; None means `default_levels` of n, the number
    of parameters that s counts. Both are counts once the data is read.

    Raises:
      InputError: a field is out of range.

    Example:
      >>> SweepConfig(levels=(3, 5, 7), trials=100).n_monte
      100
    """

    data: str = option(
        "iris",
        "'iris', 'sklearn:NAME' (wine, breast_cancer, digits, diabetes, linnerud), or a .csv or .parquet file",
        TEXT,
    )
    target: str | tuple[str, ...] | None = option(
        None,
        "column of that file to predict: a class or a number; several number columns by giving it again",
        TARGET,
        of_rows=False,  # the data's content is in the hash
    )
    loss: str | None = option(
        None,
        "of a row  [default: cross_entropy for a class column, squared for a number column]",
        one_of(*LOSSES),
        metavar="|".join(LOSSES),
    )
    problem: str | None = option(
        None,
        "a problem of your own instead of data, target and loss: an ihtjax.Problem, as module:name",
        PROBLEM,
        later=True,
    )
    solver: tuple[str, ...] = option(
        ("iht",),
        "iht, or a solver of your own, an ihtjax.Solver, as module:name, with options as in module:name:momentum=0.9",
        SOLVERS,
        metavar="NAME",
        of_rows=False,  # the method is a column
    )
    model: str = choice("linear", "of the table: one layer, or a multi-layer perceptron", *MODELS, later=True)
    hidden: tuple[int, ...] | None = option(
        None, "widths of an mlp's hidden layers, as 16 or 16,8", WIDTHS, metavar="WIDTHS", later=True
    )
    activation: str = choice("tanh", "of an mlp's hidden layers", "tanh", "sigmoid", "relu", later=True)
    levels: tuple[int, ...] | str | None = option(
        None,
        "sparsity levels: counts, ranges, shares of n, as 1-14 or 3,5,7 or 10-600:50 or 5%,10%  "
        f"[default: 1 .. n - 1; beyond n = {EVERY_LEVEL_UP_TO}, {LEVELS_BEYOND} of these, log-spaced]",
        LEVELS,
        metavar="LEVELS",
        sweep_only=True,
        of_rows=False,
    )
    trials: int = option(1000, "seed triples per level", whole_number(1), sweep_only=True, of_rows=False)
    steps: int = option(10_000, "IHT steps per trial", whole_number(1))
    n_monte: int = option(100, "Monte Carlo draws for the step size", whole_number(1))
    seed: int = option(0, "root seed, from which all seed triples come", SEED, sweep_only=True)
    init: str = choice("normal", "distribution of the initial parameters", "normal", "torch_linear")
    standardize: str = choice("train", "rows whose mean and deviation standardise all rows", "train", "all", "none")
    dense: bool = option(True, "train a dense baseline for each seed triple", BOOLEAN, sweep_only=True)
    step_size: float | str | None = option(
        None, "instead of 1 / L-hat_2s: a number, or 'certified' for 1 / (upper bound of L_2s)", STEP_SIZE
    )
    stop_loss: float | None = option(None, "freeze a trial at this training loss (nats)", POSITIVE)
    ht_tol: float = option(1e-3, "largest gradient entry that counts as vanishing", POSITIVE)
    curve_points: int = option(64, "steps at which losses are recorded, log-spaced; 0: none", whole_number(0))
    precision: str = choice("float32", "floating-point type", "float32", "float64")
    always: tuple[str, ...] | None = option(
        None,
        "parameters that are always in, which s doesn't count: an intercept, as b1,b2 or 'b*'",
        ALWAYS,
        metavar="NAMES",
        later=True,
    )
    per: str = option(
        "network",
        "what s is of; with layer each layer keeps its share of s, by its size",
        one_of("network", "layer"),
        metavar="network|layer",
        later=True,
    )
    audit: bool = option(False, "evaluate the loss after every step, and report its largest rise", BOOLEAN, later=True)
    theta: str = choice(
        "all",
        "parameters that are stored: theta and theta0, theta alone, or neither; oracle needs theta",
        *VECTORS,
        sweep_only=True,
        later=True,
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "levels":
                value = as_levels(value)
            if field.name == "solver" and isinstance(value, str | list):
                value = (value,) if isinstance(value, str) else tuple(value)
            if field.name == "hidden":
                value = _as_widths(value)
            if field.name == "target" and isinstance(value, tuple | list):  # as the command line gives it
                value = tuple(value) if len(value) > 1 else next(iter(value), None)
            if field.name == "always" and isinstance(value, str | list | tuple):
                value = (value,) if isinstance(value, str) else tuple(value) or None
            if value is None and field.default is None:
                self._set(field.name, None)
                continue
            expects = field.metadata["expects"]
            value = check(field.name, value, expects)
            # 1 and 1.0 are one step size, and one hash.
            real = expects in (POSITIVE, STEP_SIZE) and value != CERTIFIED
            self._set(field.name, float(value) if real else value)
        if self.curve_points == 1:
            raise InputError("curve_points: got 1, expected 0 or at least 2, the first and the last step")
        if self.problem is not None:
            for field in dataclasses.fields(self):
                if field.name in SAID_BY_PROBLEM and getattr(self, field.name) != field.default:
                    raise InputError(
                        f"{field.name}: got {getattr(self, field.name)!r} beside a problem, which says that itself; "
                        "leave one of them out"
                    )
            return
        own = MODELS[self.model]
        for field in dataclasses.fields(self):
            if field.name in MODEL_OPTIONS and field.name not in own and getattr(self, field.name) != field.default:
                whose = " or ".join(model for model, names in MODELS.items() if field.name in names)
                raise InputError(
                    f"{field.name}: got {getattr(self, field.name)!r} for the {self.model} model, which has none; say "
                    f"model {whose}, or leave it out"
                )
        if "hidden" in own and self.hidden is None:
            raise InputError(f"hidden: missing, expected {WIDTHS.text}; or say model linear, which has none")

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def with_levels(self, n: int) -> "SweepConfig":
        """The same with ``levels`` filled in and held against the number of parameters n, less those always in.

        ``always`` must be of names, as `resolved` makes it.
        """
        what, always = self.problem or self.data, len(self.always or ())
        if n > MAX_LEVEL:
            raise InputError(f"data: {what} makes a network of {n} parameters, expected at most {MAX_LEVEL}")
        most, but = n - always, f" but the {always} always in" * (always > 0)
        levels = count_levels(self.levels, most)
        if levels[-1] > most:
            raise InputError(
                f"levels: got {levels[-1]}, expected at most {most}, the number of parameters of {what}{but}"
            )
        return dataclasses.replace(self, levels=levels)

    @property
    def filled_levels(self) -> tuple[int, ...]:
        """``levels`` once they are counts, as `with_levels` does and every run's configuration has them."""
        if not isinstance(self.levels, tuple):
            raise ValueError(f"levels: {self.levels}, expected them filled in by with_levels")
        return self.levels

    def to_json(self) -> dict:
        """The fields as JSON types."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def hash(self, fingerprint: str) -> str:
        """12 hex digits over what determines a row, the data by its content."""
        said = self.to_json() | {"data": fingerprint}
        rows = {
            field.name: said[field.name]
            for field in dataclasses.fields(self)
            if field.metadata.get("of_rows", True)
            and not (field.metadata.get("later") and getattr(self, field.name) == field.default)
        }
        if self.loss in (None, "cross_entropy"):  # the only one that there was
            del rows["loss"]
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12]


def parse_widths(text: str) -> tuple[int, ...]:
    """Widths of layers from text such as "16" or "16,8"."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,5}", part) for part in parts):
        raise InputError(f"hidden: got {text!r}, expected the widths of the hidden layers, as in 16 or 16,8")
    return tuple(map(int, parts))


def _as_widths(widths: Any) -> Any:
    """One width or several as a tuple; what isn't widths stays as it is, for the check."""
    if WIDTH.holds(plain(widths)):
        return (plain(widths),)
    return tuple(map(plain, widths)) if isinstance(widths, list | tuple) else widths

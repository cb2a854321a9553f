"""What a configuration and its data are, in a line for people."""

from pathlib import Path

from ihtjax.problems.losses import LOSSES
from ihtjax.problems.table import Table
from ihtjax.sweeps.config import CERTIFIED, MODELS, VECTORS, SweepConfig
from ihtjax.sweeps.levels import written
from ihtjax.text import printable

# What problems measure, in words, and how its values are written.
METRICS = {"accuracy": ("accuracy", ".1%"), "r2": ("R2", "z.3f"), "deviance": ("mean deviance", ".4g")}


def metric(name: str, value: float) -> str:
    """A metric with its value, in words."""
    words, kind = METRICS.get(name, (name, ".4g"))
    return f"{words} {value:{kind}}"


def data_name(config: SweepConfig) -> str:
    """What a run is of, as titles call it: a file by its name alone, and Iris with a capital."""
    return "Iris" if (config.problem or config.data) == "iris" else printable(Path(config.problem or config.data).name)


def unit(config: SweepConfig, form: str = " {}") -> str:
    """The unit of losses in a phrase; empty where none is known, as of a user's problem."""
    its = "" if config.problem else LOSSES[config.loss or "cross_entropy"].unit
    return form.format(its) if its else ""


def network(config: SweepConfig) -> str:
    """The model of the table, with the options of its own."""
    own = {name: getattr(config, name) for name in MODELS[config.model]}
    said = [f"{k} {'-'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in own.items()]
    return f"{config.model} ({', '.join(said)})" if said else config.model


def solver_name(config: SweepConfig) -> str:
    """What single trials are of, in a picture's title."""
    return "IHT" if config.solver == ("iht",) else " and ".join(map(printable, config.solver))


def rule(config: SweepConfig) -> str:
    """How the configuration chooses step sizes."""
    if config.step_size is None:
        return f"1 / L-hat_2s from {config.n_monte:,} draws"
    return "certified, at most 1 / L_2s" if config.step_size == CERTIFIED else f"{config.step_size:g}, given"


def not_stored(config: SweepConfig, vector: str) -> str:
    """Why a run has no column ``theta`` or ``theta0``, and what to do, in a clause; empty if it has one."""
    if vector in VECTORS[config.theta]:
        return ""
    enough = "end" if vector in VECTORS["end"] else "all"
    return f"the run stores no {vector} (--theta {config.theta}); sweep into another directory with --theta {enough}"


def constraint(config: SweepConfig) -> str:
    """In which set iterates stay, in a clause; empty of the plain one."""
    always, layers = config.always or (), "each layer keeps its share of s"
    some = ", ".join(map(printable, always[:6])) + (f" and {len(always) - 6} more" if len(always) > 6 else "")
    what = [f"{some} {'is' if len(always) == 1 else 'are'} always in, not counted by s"] * bool(always)
    return ", and ".join(what + [layers] * (config.per == "layer"))


def conditions(config: SweepConfig) -> str:
    """What a table's header says of the configuration, in a line or two: enough to tell runs apart."""
    what = [f"{printable(config.problem or config.data)}, {config.steps:,} steps, seed {config.seed}"]
    what += [f"solver {' and '.join(map(printable, config.solver))}"] * (config.solver != ("iht",))
    what += [f"init {config.init}"] * (config.problem is None)
    what += [network(config)] * (config.model != "linear")
    what += [f"loss {config.loss}"] * (config.loss not in (None, "cross_entropy"))
    what += [f"standardised by {config.standardize}"] * (config.standardize != "train")
    what += [config.precision] * (config.precision != "float32")
    stop = f", stopping loss {config.stop_loss:g}{unit(config)}" if config.stop_loss else ""
    within = f"\n{constraint(config)}" if constraint(config) else ""
    return f"{', '.join(what)}\nstep size {rule(config)}{stop}{within}"


def constants(table: Table, config: SweepConfig) -> str:
    """Which features no weight can use, since they are 0 on every row once standardised; empty if there is none."""
    same = (table.X == table.X[0]).all(axis=0)
    if config.standardize == "none":
        same &= table.X[0] == 0
    names = [name for name, is_same in zip(table.feature_names, same) if is_same]
    if not names:
        return ""
    what = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
    which, is_, it = ("column", "is", "it") if len(names) == 1 else ("columns", "are", "them")
    its = "its" if len(names) == 1 else "their"
    return f"note: {which} {what} {is_} constant: {its} weights never move, yet count among the s; drop {it}"


def surplus(held: SweepConfig, asked: SweepConfig) -> str:
    """What a run holds, where that is more than was asked for; else empty."""
    if held.trials <= asked.trials and set(held.filled_levels) <= set(asked.filled_levels):
        return ""
    return f"holds more: {held.trials:,} trials, levels {written(held.filled_levels)}; all are kept"

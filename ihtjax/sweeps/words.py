"""What a configuration is, in a line for people."""

from ihtjax.sweeps.config import CERTIFIED, SweepConfig
from ihtjax.text import printable

# What problems measure, in words, and how its values are written.
METRICS = {"accuracy": ("accuracy", ".1%"), "r2": ("R2", "z.3f"), "deviance": ("mean deviance", ".4g")}


def metric(name: str, value: float) -> str:
    """A metric with its value, in words."""
    words, kind = METRICS.get(name, (name, ".4g"))
    return f"{words} {value:{kind}}"


def rule(config: SweepConfig) -> str:
    """How the configuration chooses step sizes."""
    if config.step_size is None:
        return f"1 / L-hat_2s from {config.n_monte:,} draws"
    return "certified, at most 1 / L_2s" if config.step_size == CERTIFIED else f"{config.step_size:g}, given"


def conditions(config: SweepConfig) -> str:
    """What a table's header says of the configuration, in a line or two: enough to tell runs apart."""
    what = [f"{printable(config.problem or config.data)}, {config.steps:,} steps, seed {config.seed}"]
    what += [f"init {config.init}"] * (config.problem is None)
    what += [f"loss {config.loss}"] * (config.loss not in (None, "cross_entropy"))
    what += [f"standardised by {config.standardize}"] * (config.standardize != "train")
    what += [config.precision] * (config.precision != "float32")
    stop = f", stopping loss {config.stop_loss:g} nats" if config.stop_loss else ""
    return f"{', '.join(what)}\nstep size {rule(config)}{stop}"

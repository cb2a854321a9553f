"""What a configuration is, in a line for people."""

from ihtjax.sweeps.config import CERTIFIED, SweepConfig
from ihtjax.text import printable


def rule(config: SweepConfig) -> str:
    """How the configuration chooses step sizes."""
    if config.step_size is None:
        return f"1 / L-hat_2s from {config.n_monte:,} draws"
    return "certified, at most 1 / L_2s" if config.step_size == CERTIFIED else f"{config.step_size:g}, given"


def conditions(config: SweepConfig) -> str:
    """What a table's header says of the configuration, in a line or two: enough to tell runs apart."""
    what = [f"{printable(config.data)}, {config.steps:,} steps, seed {config.seed}, init {config.init}"]
    what += [f"standardised by {config.standardize}"] * (config.standardize != "train")
    what += [config.precision] * (config.precision != "float32")
    stop = f", stopping loss {config.stop_loss:g} nats" if config.stop_loss else ""
    return f"{', '.join(what)}\nstep size {rule(config)}{stop}"

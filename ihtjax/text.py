"""Words for people: names from data that can be shown anywhere, and what a configuration is in a line."""

import unicodedata

from ihtjax.config import CERTIFIED, SweepConfig


def is_printable(name: str) -> bool:
    """Whether a name holds no control character: none that a terminal obeys, and none that hides or turns text."""
    joiners = "\u200c\u200d"  # some scripts need them
    return not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in joiners for c in name)


def printable(name: str) -> str:
    r"""The name with what can't be printed as its escape, so that no terminal or page acts on it.

    Example:
      >>> printable("a\x1b[31m b")
      'a\\x1b[31m b'
    """
    return "".join(c if is_printable(c) else ascii(c)[1:-1] for c in str(name))


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

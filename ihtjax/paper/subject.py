"""What a run is of, and what it therefore lacks of what the paper's network has."""

from typing import Any

from ihtjax.errors import InputError
from ihtjax.exact.by_loss import ORACLES
from ihtjax.problems.losses import LOSSES
from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.words import constraint, network, not_stored
from ihtjax.text import printable

# Figures and claims are of these, whatever else a run holds.
PAPERS_METHODS = ["iht", "gd"]


class NotEnough(Exception):
    """A run doesn't hold what a claim or a figure needs; the text says what, in a clause."""


class Subject:
    """What a run minimises, in words.

    Args:
      config: of the run, its loss filled in.
      stored: the configuration's record.

    Attributes:
      loss: such as "squared error" or "cross-entropy of an mlp (..)", or the name of a problem of the user's.
      data: what ``--data`` or ``--problem`` named.
      is_softmax: whether it is softmax regression, the paper's network, on whatever data.
      has_oracle: whether `ihtjax oracle` can certify it.
      is_papers: whether it is the paper's network on the paper's data.
      metrics: what it measures beside its loss.
      classes: their names; none where it predicts something else.
      constraint: the constraint set, in a clause; empty where s counts all parameters alike, as in the paper.

    Raises:
      InputError: it has no trials of IHT, the paper's method.
    """

    def __init__(self, config: SweepConfig, stored: dict[str, Any]):
        if "iht" not in stored["solvers"]:
            raise InputError(
                f"this run is of {' and '.join(stored['solvers'])}, while the paper's figures and claims are of iht; "
                "add it with --solver iht, or see: ihtjax summary"
            )
        self.config = config
        self.loss = printable(config.problem) if config.problem else LOSSES[config.loss or "cross_entropy"].words
        self.data = config.problem or config.data
        is_linear = config.problem is None and config.model == "linear"
        if config.problem is None and not is_linear:
            self.loss += f" of an {network(config)}"
        self.is_softmax = is_linear and config.loss in (None, "cross_entropy")
        self.has_oracle = is_linear and (config.loss or "cross_entropy") in ORACLES
        self.is_papers = self.is_softmax and self.data == "iris"
        self.metrics: list[str] = stored["metrics"]
        self.classes: list[str] = stored["classes"]
        self.constraint = constraint(config)

    def lacks(self, *needs: str) -> str:
        """Why the run can't answer what needs this, in a clause; empty if it can.

        Args:
          needs: "softmax", "plain" (the paper's constraint set), "oracle" (certificates), "classes", "metric",
            "accuracy", "iris" (the paper's experiment), "theta" or "theta0" (these columns); the first that is lacking
            counts. There are certificates and the paper's experiment in the plain set alone.
        """
        of = f"it is of {self.loss}"
        needs = (*needs, *["plain"] * bool({"oracle", "iris"} & {*needs}))
        unstored = {name: not_stored(self.config, name) for name in ("theta", "theta0")}
        *names, last = (LOSSES[loss].words for loss in ORACLES)
        oracles = f"{', '.join(names)} and {last}"
        lacking = {
            "softmax": (self.is_softmax, f"this is about softmax regression, and the run is not: {of}"),
            "plain": (
                not self.constraint,
                f"this is about s of all parameters alike, and in this run {self.constraint}",
            ),
            "oracle": (
                self.has_oracle,
                f"there are certificates of linear models under {oracles} alone, not of this run: {of}",
            ),
            "classes": (self.classes, f"the run has no classes: {of}"),
            "metric": (self.metrics, f"the run measures nothing beside its loss: {of}"),
            "accuracy": ("accuracy" in self.metrics, f"the run has no accuracy: {of}"),
            "iris": (
                self.is_papers,
                f"the paper's experiments are of Iris, this run is of {self.data}"
                if self.data != "iris"
                else f"the paper's experiments are of softmax regression, and the run is not: {of}",
            ),
            **{name: (not why, why) for name, why in unstored.items()},
        }
        return next((why for has, why in map(lacking.__getitem__, needs) if not has), "")

"""What a run says, as the judgement of claims needs it: values by triple and level, certificates, training rows."""

import functools
import os
from typing import Any

import numpy as np
import pandas as pd

from ihtjax.paper.run import Run
from ihtjax.paper.subject import PAPERS_METHODS
from ihtjax.study.optimality import Split, training_rows
from ihtjax.study.summaries import certificates_of
from ihtjax.sweeps.store.reading import load, read

COLUMNS = (
    "trial s method data_seed step_size lipschitz_estimate train_loss test_loss epsilon "
    "steps_to_stop_loss max_loss_increase n_nonzero grad_on_support grad_off_support satisfies_eq8 ht_stable status"
).split()
ACCURACIES = ("train_accuracy", "test_accuracy")
CERTIFICATES = (
    "trial s method step_status rss_lower rss_upper lipschitz_lower existence best_support optimization_gap loss"
).split()
MINIMIZER = "minimizer_on_support"


class Evidence(Run):
    """A run with its finished trials, read once.

    Args:
      run_dir: a run directory.

    Raises:
      InputError: there is no such run, nothing of it is finished, or a file is damaged.
    """

    def __init__(self, run_dir: str | os.PathLike):
        super().__init__(run_dir)
        columns = [*COLUMNS, *ACCURACIES * ("accuracy" in self.subject.metrics)]
        columns += ["largest_step_rise"] * self.config.audit
        papers = read(self.path, "trials", columns, {"method": PAPERS_METHODS}, categorical=("method", "status"))
        self.trials = papers.to_pandas(self_destruct=True)
        self.trials["ended"] = self.trials.status == "ok"

    @functools.cached_property
    def certificates(self) -> pd.DataFrame:
        """The table of that name, with step size, estimate, ``ht_stable``, ``ended`` and ``is_minimiser`` beside it.

        With s nonzero entries and a convex loss, a minimiser over the own support is a local minimiser of (1), since
        no other support of s entries is near. ``is_minimiser`` asks for that within 1e-6 nats. Certificates from
        before there was a ``minimizer_on_support`` have it null.
        """
        found = certificates_of(self.path, [*CERTIFICATES, MINIMIZER])
        keys = ["method", "s", "trial"]
        beside = ["n_nonzero", "step_size", "lipschitz_estimate", "ht_stable", "ended"]
        found = found.merge(self.trials[[*keys, *beside]].astype({"method": str}), on=keys)
        full = found.n_nonzero == found.s
        found["is_minimiser"] = full & (found.existence == "attained") & (found.optimization_gap <= 1e-6)
        return found

    def certified_text(self, N: int) -> str:
        """How many triples have certificates, if not all."""
        trials = self.trials.trial.nunique()
        return f"; {N:,} of the run's {trials:,} triples have certificates" if N < trials else ""

    def missing(self, levels: list[int]) -> str:
        """Which of these levels the run lacks, in words; empty if none."""
        lacking = [s for s in levels if s not in self.levels]
        return f"The run has no level {' and '.join(map(str, lacking))}." if lacking else ""

    def above(self, s: int) -> tuple[list[int], str]:
        """Level s and those above it, below n; and why they don't suffice for a comparison, if so."""
        levels = [level for level in self.levels if s <= level < self.n]
        return levels, self.missing([s]) or ("" if len(levels) > 1 else f"The run has no level above {s}.")

    @property
    def certified_levels(self) -> list[int]:
        return sorted({int(s) for s in self.certificates.s[self.certificates.method == "iht"]})

    @property
    def without_certificates(self) -> str:
        how = self.subject.lacks("theta") or f"make them with: ihtjax oracle {self.path}"
        return f"This needs certificates; {how}"

    @property
    def with_older_certificates(self) -> str:
        certified = self.certificates.trial.nunique()
        some = f" --trials {certified}" if certified < self.trials.trial.nunique() else ""
        return f"make them anew with: ihtjax oracle {self.path}{some}"

    def every(
        self, column: str, levels: list[int], method: str = "iht", table: str = "trials", dense: bool = False
    ) -> np.ndarray:
        """A column ``[N, levels]`` of every triple that is finished at all these levels, also where it diverged.

        Null where a trial has no such value. Which triples these are doesn't hang on the column, so that columns of
        one table pair.

        Args:
          column: of the table; "ended" is whether the trial did not diverge.
          levels: in ascending order; below n with ``dense``.
          method: "iht", or "gd" for the dense baseline, at level n.
          table: "trials" or "certificates".
          dense: put the dense baseline's value behind those of the levels.
        """
        frame = self.trials if table == "trials" else self.certificates
        chosen = (frame.method == method) & frame.s.isin(levels)
        return in_square(frame[chosen | (frame.method == "gd") if dense else chosen], column, len(levels) + dense)

    def values(self, column: str, levels: list[int], **where) -> np.ndarray:
        """The same of the triples that diverged at none of these levels, which their status alone decides."""
        return self.every(column, levels, **where)[self.every("ended", levels, **where).all(axis=1)]

    def left_out(self, levels: list[int], **where) -> str:
        """How many triples `values` leaves out, in a clause; empty if none."""
        ended = self.every("ended", levels, **where)
        N, k = len(ended), int((~ended).any(axis=1).sum())
        return f"; {k:,} of {N:,} triples diverged at a level that counts here and are left out" if k else ""

    @functools.cached_property
    def supports_moved(self) -> np.ndarray:
        """Whether the final support differs from the first, ``[N, levels]``; there is none where a trial diverged."""
        parts = []
        for s in self.levels:
            rows = read(self.path, columns=["trial", "theta", "theta0", "status"], filters={"method": "iht", "s": s})
            theta, theta0 = (rows[name].combine_chunks().flatten().to_numpy() != 0 for name in ("theta", "theta0"))
            moved = (theta != theta0).reshape(-1, self.n).any(1) & (rows["status"].to_numpy() == "ok")
            parts.append(pd.DataFrame({"trial": rows["trial"].to_numpy(), "s": s, "moved": moved}))
        return in_square(pd.concat(parts), "moved", len(self.levels)) if parts else np.empty((0, 0), bool)

    def first_losses(self, levels: list[int], method: str) -> np.ndarray:
        """Training losses at the start ``[N, levels]``, of the same triples as `every`."""
        where: dict[str, Any] = {"method": method, "s": levels, "step": 0}
        frame = load(self.path, "curves", columns=["trial", "s", "train_loss"], **where)
        return in_square(frame, "train_loss", len(levels))

    @functools.cached_property
    def first_split(self) -> Split:
        """Training rows of the first triple."""
        return self.split_of(int(self.trials.data_seed[self.trials.trial.idxmin()]))

    def split_of(self, data_seed: int) -> Split:
        """Training rows of a data seed.

        Raises:
          NotEnough: the run's data can't be read from here, or they aren't what they were.
        """
        self.check_data()
        (split,) = training_rows(self.config, [data_seed])
        return split


def in_square(frame: pd.DataFrame, column: str, levels: int) -> np.ndarray:
    """A column ``[N, levels]`` of the triples that have a row at so many levels, in order of triple and level."""
    whole = frame.groupby("trial").s.transform("size") == levels
    square = frame.loc[whole, ["trial", "s", column]].sort_values(["trial", "s"])
    return square[column].to_numpy().reshape(square.trial.nunique(), levels)

"""A run as the paper's figures and claims see it."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ihtjax.errors import InputError
from ihtjax.paper.subject import PAPERS_METHODS, NotEnough, Subject
from ihtjax.problems.base import Problem
from ihtjax.sweeps.config import PAPERS_STOP_LOSS, SweepConfig
from ihtjax.sweeps.engine import content, make_problem, triples
from ihtjax.sweeps.plan import stored_config, unfinished
from ihtjax.sweeps.single import SingleTrial, run_trial
from ihtjax.sweeps.store.reading import read
from ihtjax.sweeps.store.records import Certify, Fit
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.words import data_name
from ihtjax.text import printable

SEEDS = {"data_seed": 42, "init_seed": 21, "support_seed": 84}  # of the paper's Figs. 8, 14 and 15
PAPERS_LEVEL = 7
LANES = 100  # few, so that what is run on the spot takes seconds; last bits are those of such a batch


class Level(NamedTuple):
    """The finished values of one method and level, of trials that did not diverge."""

    label: str
    values: np.ndarray
    diverged: int


class Run:
    """A run as figures and claims see it: its configuration, its tables, and the trial that single networks are of.

    Attributes:
      stored, config, subject: the configuration's record, the configuration, and what it is of.
      names: of its n parameters.
      K: how many classes it has; 0 where it predicts something else.
      levels: of IHT, in ascending order.

    Raises:
      InputError: there is no such run, or its records can't be read.
    """

    def __init__(self, run_dir: str | os.PathLike):
        directory = RunDirectory(run_dir).require()
        self.path = directory.path
        self.stored = directory.record()
        self.config: SweepConfig = stored_config(self.stored, self.path)
        self.subject = Subject(self.config, self.stored)
        self.names: list[str] = self.stored["parameters"]
        self.n, self.K = len(self.names), len(self.stored["classes"])
        units = directory.units()
        self.units_missing = len(unfinished(directory, units))
        fits = [unit for unit in units if isinstance(unit, Fit)]
        # Without curves all that is run on the spot shares one compiled program.
        self.bare = dataclasses.replace(self.config, solver=("iht",), curve_points=0, audit=False)
        self.levels = sorted({unit.s for unit in fits if unit.method == "iht"})
        self.has_dense = any(unit.method == "gd" for unit in fits)
        self.has_certificates = any(isinstance(unit, Certify) for unit in units)

    @property
    def data(self) -> str:
        return data_name(self.config)

    @property
    def stop(self) -> float | None:
        """The training loss at which trials stop, or the paper's; None where that isn't its network."""
        return self.config.stop_loss or (PAPERS_STOP_LOSS if self.subject.is_papers else None)

    @functools.cached_property
    def has_test_rows(self) -> bool:
        """Whether a trial that ended has a test loss."""
        losses = read(self.path, columns=["test_loss"], filters={"status": "ok"}).to_pandas()
        return bool(losses.test_loss.notna().any())

    def check_data(self) -> Problem:
        """The problem, if it is still that of the run: what is computed of another one would be of another run.

        Raises:
          NotEnough: its data can't be read from here, or they aren't what they were.
        """
        what, data = "problem" if self.config.problem else "data", self.config.data
        try:
            problem = make_problem(self.config)
            fingerprint = content(self.config, problem)
        except InputError as error:
            named = self.config.problem is not None or data == "iris" or ":" in data or Path(data).is_absolute()
            where = "" if named else f" (looked for at {Path(data).resolve()})"
            raise NotEnough(f"the run's {what} can't be read from here{where}: {error}") from None
        if fingerprint != self.stored["data_sha256"]:
            raise NotEnough(f"the {what} has changed since the run began: {printable(self.subject.data)}; restore it")
        return problem

    @property
    def middle_level(self) -> int | None:
        """The paper's level 7, or the middle one below n of a run that lacks it; None if it has none."""
        levels = [s for s in self.levels if s < self.n]
        return PAPERS_LEVEL if PAPERS_LEVEL in levels else levels[len(levels) // 2] if levels else None

    @functools.cached_property
    def seeds(self) -> dict[str, int]:
        """The triple of the single networks: the paper's, or in a run of anything else its own first one."""
        names = ("data_seed", "init_seed", "support_seed")
        first = triples(self.config.seed, np.arange(1))[:, 0].tolist()
        return SEEDS if self.subject.is_papers else dict(zip(names, first))

    @functools.cached_property
    def sparse_trial(self) -> SingleTrial:
        """The trial that single networks are of: the paper's of Figs. 8, 14 and 15, or one of the run's first triple.

        Raises:
          NotEnough: it diverged, there is no level below n, or the data aren't what they were.
        """
        s = PAPERS_LEVEL if self.subject.is_papers else self.middle_level
        if s is None:
            raise NotEnough("the run has no sparsity level below n")
        return self.trial(s)

    @functools.cached_property
    def dense_trial(self) -> SingleTrial:
        """The dense network with the same data and init seeds."""
        return self.trial(self.n)

    def trial(self, s: int) -> SingleTrial:
        """Run one trial with `seeds` and the run's configuration."""
        self.check_data()
        ran = run_trial(self.bare, s, **self.seeds, batch=LANES)
        if not ran.result.finite:
            whose = "paper's" if self.subject.is_papers else "run's first"
            raise NotEnough(f"the trial s = {s} with the {whose} seeds diverged")
        return ran

    def by_level(self, column: str, table: str = "trials") -> list[Level]:
        """A column's values for each level, the dense baseline last; certificates without a value are left out."""
        if not self.levels and not self.has_dense:
            raise NotEnough("no trial is finished yet; go on with: ihtjax sweep")
        columns = ["method", "s", column] + (["status"] if table == "trials" else [])
        papers = {"method": PAPERS_METHODS}
        frame = read(self.path, table, columns, papers, categorical=("method",)).to_pandas()
        if column.startswith("test_") and (frame.status == "ok").any() and not self.has_test_rows:
            raise NotEnough("the run has no test rows")
        found = []
        for (method, s), rows in frame.groupby(["method", "s"], observed=True):
            ended = (rows.status == "ok") if table == "trials" else rows[column].notna()
            diverged = int((~ended).sum()) if table == "trials" else 0
            ok = ended & rows[column].notna()
            if ok.any():
                values = rows[column][ok].to_numpy(np.float64)
                found.append((method == "gd", s, Level("dense" if method == "gd" else str(s), values, diverged)))
        if not found:
            raise NotEnough(f"no finished trial has a {column}")
        return [level for _, _, level in sorted(found, key=lambda item: item[:2])]

    def supports(self, s: int, column: str) -> np.ndarray:
        """Masks ``[trials, n]`` of the parameters that are nonzero in ``theta0`` or ``theta`` at one level."""
        filters = {"method": "iht", "s": s, "status": "ok"}
        vectors = read(self.path, columns=[column], filters=filters).column(0).combine_chunks()
        return vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.n) != 0

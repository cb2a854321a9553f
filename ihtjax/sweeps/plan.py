"""What of a run is still to be computed, and what a configuration adds to the run that is there."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ihtjax.errors import InputError
from ihtjax.problems.base import Problem
from ihtjax.solvers.registry import DENSE
from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.engine import content
from ihtjax.sweeps.memory import unit_rows
from ihtjax.sweeps.store.records import Damaged, Fit, Unit, config_in
from ihtjax.sweeps.store.run import RunDirectory

# More files than this no folder holds with ease.
MAX_UNITS = 1_000_000


def plan(
    config: SweepConfig, methods: Sequence[str], n: int, finished: Iterable[Unit], broken: Iterable[Unit], batch: int
) -> list[Fit]:
    """The units that are still to be computed, the dense baseline's first.

    Args:
      config: with its levels filled in.
      methods: the solvers' names, as in the column.
      n: number of parameters.
      finished: units that need not be computed again.
      broken: units that need, as they are, so that their files are replaced.
      batch: lanes per call; a unit is a whole number of batches where the trials allow it.
    """
    rows = unit_rows(config, n, batch)
    every = [(DENSE, n)] * config.dense + [(method, s) for method in methods for s in config.filled_levels]
    groups = {group: i for i, group in enumerate(every)}
    units = [unit for unit in broken if isinstance(unit, Fit) and unit.group in groups]
    done = collections.defaultdict(list)
    for unit in (*finished, *units):
        done[unit.group].append((unit.start, unit.stop))
    left = {group: gaps(done[group], config.trials) for group in groups}
    count = sum((stop - start) // rows + 1 for its in left.values() for start, stop in its)
    if count > MAX_UNITS:
        raise InputError(
            f"trials: got {config.trials:,}, which make some {count:,} files of {rows:,} trials each, expected at most "
            f"{MAX_UNITS:,} files; take fewer trials or levels, or a larger batch"
        )
    for (method, s), its in left.items():
        for start, stop in its:
            units += [Fit(method, s, a, b) for a, b in cut(start, stop, rows)]
    return sorted(units, key=lambda unit: (groups[unit.group], unit.start))


def stages(units: Sequence[Fit]) -> list[list[Fit]]:
    """The units in stages: what later rows are compared with, the dense baseline, is stored before they begin."""
    baseline = [unit for unit in units if unit.method == DENSE]
    return [stage for stage in (baseline, [unit for unit in units if unit.method != DENSE]) if stage]


def cut(start: int, stop: int, size: int) -> Iterable[tuple[int, int]]:
    """start .. stop cut at the multiples of a size, as half-open intervals."""
    return itertools.pairwise([start, *range((start // size + 1) * size, stop, size), stop])


def gaps(intervals: list[tuple[int, int]], stop: int) -> list[tuple[int, int]]:
    """What the half-open intervals leave of 0 .. stop."""
    left, at = [], 0
    for a, b in sorted(intervals):
        if a > at:
            left.append((at, min(a, stop)))
        at = max(at, b)
        if at >= stop:
            return left
    return left + [(at, stop)]


def unfinished(run: RunDirectory, finished: Iterable[Unit] | None = None) -> list[Fit]:
    """The units that a run's configuration asks for and that aren't finished; those that `units` gives are, if None."""
    stored, finished = run.record(), run.units() if finished is None else finished
    config, n = stored_config(stored, run.path), len(stored["parameters"])
    return plan(config, list(stored["solvers"]), n, finished, [], stored["batch"])


def stored_config(stored: dict[str, Any], path: Path) -> SweepConfig:
    """The configuration in a run's config.json."""
    try:
        return config_in(stored)
    except Damaged as error:
        raise InputError(f"{path}/config.json: {error}") from error


def _as_option(value):
    """A field's value as an option has it."""
    return "nothing" if value is None else ",".join(map(str, value)) if isinstance(value, list) else repr(value)


def extend(
    stored: dict[str, Any],
    config: SweepConfig,
    solvers: dict[str, str],
    problem: Problem,
    batch: int | None,
    units: Iterable[Unit],
    path: Path,
) -> tuple[SweepConfig, dict[str, str], int]:
    """The stored configuration with the solvers, levels and trials of another one and of units added.

    Args:
      stored: the record of what is there.
      config, solvers, batch: what is asked for; the solvers by their methods, each with its fingerprint.
      problem: of both.
      units: what is there; an older config.json, restored, may not know of all.
      path: for errors.

    Returns:
      Configuration, solvers and batch of the run from now on.

    Raises:
      InputError: they differ in anything else; it is named.
    """
    before = stored_config(stored, path)
    mine = config.to_json() | {"data": content(config, problem), "batch": stored["batch"] if batch is None else batch}
    theirs = before.to_json() | {"data": stored["data_sha256"], "batch": stored["batch"]}
    compared = {field.name for field in dataclasses.fields(config) if field.metadata.get("of_rows", True)} | {"batch"}
    differing = [k for k in mine if k in compared and mine[k] != theirs.get(k)]
    what = [
        (
            "problem is another one, or the file that it stands in has changed"
            if config.problem
            else "data is another table"
        )
        if k == "data"
        else f"{k} is {_as_option(theirs.get(k))} there, {_as_option(mine[k])} was asked for"
        for k in differing
    ]
    there = stored["solvers"]
    changed = [method for method, its_hash in solvers.items() if there.get(method, its_hash) != its_hash]
    what += [f"solver {method} is another one, or the file that it stands in has changed" for method in changed]
    if what:
        raise InputError(
            f"{path} holds another configuration: {'; '.join(what)}; give all options of that run again, or "
            "use another path, or overwrite=True"
        )
    fits = [unit for unit in units if isinstance(unit, Fit)]
    levels = {*config.filled_levels, *before.filled_levels, *(unit.s for unit in fits if unit.method != DENSE)}
    trials = max(config.trials, before.trials, *(unit.stop for unit in units))
    texts = dict(zip(there, before.solver)) | dict(zip(solvers, config.solver))
    config = dataclasses.replace(config, solver=tuple(texts.values()), levels=tuple(levels), trials=trials)
    return config, there | solvers, stored["batch"]

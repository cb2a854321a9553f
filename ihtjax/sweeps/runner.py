"""A sweep: what is still to be computed, in units and batches, on all cores or on a GPU."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from ihtjax import interrupts
from ihtjax.errors import BOOLEAN, InputError, an, check
from ihtjax.problems.base import Problem
from ihtjax.problems.supervised import Supervised
from ihtjax.solvers.iht import IHT
from ihtjax.sweeps import progress
from ihtjax.sweeps.columns import curves_table, trials_table
from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.engine import (
    check_batch,
    content,
    describe_environment,
    differences,
    estimated_seconds,
    make_engine,
    make_problem,
    platform,
    program,
    resolved,
    run_block,
    triples,
    workers,
)
from ihtjax.sweeps.store.reading import read
from ihtjax.sweeps.store.records import TABLES, Damaged, Unit, config_in
from ihtjax.sweeps.store.run import Damage, RunDirectory, Survey
from ihtjax.sweeps.trial import curve_steps
from ihtjax.sweeps.words import constants, surplus

# A unit is some seconds of work, and no more rows than memory holds with ease.
UNIT_LANE_STEPS = 20_000_000
UNIT_ROWS = 65_536
# More files than this no folder holds with ease, and the manifest lists them all.
MAX_UNITS = 1_000_000


def sweep(
    config: SweepConfig,
    run_dir: str | os.PathLike,
    *,
    batch: int | None = None,
    overwrite: bool = False,
    show: progress.Silent | None = None,
) -> Path:
    """Run a sweep, or what is left of it, and write its results.

    A directory that holds the same configuration is resumed: damaged units are computed again, finished ones are
    kept, more trials or levels are added.

    Args:
      config: what to run.
      run_dir: where the results live; made if need be.
      batch: lanes per call; by default what suits the device, or what the run was begun with.
      overwrite: delete the results that the directory holds first.
      show: a progress display; none by default.

    Returns:
      The run directory's path.

    Raises:
      InputError: the configuration can't be run, or the directory holds another one, or another process writes there.
      OSError: a file can't be written; what was finished before stays.
    """
    show = show or progress.Silent()
    check("config", config, an(SweepConfig))
    check("overwrite", overwrite, BOOLEAN)
    run = RunDirectory(run_dir)
    platform()
    problem = make_problem(config)
    config = resolved(config, problem)
    check_batch(batch, problem)
    with interrupts.deferred(), run.lock():
        stored = None if overwrite else run.config()
        found = Survey({}, [], [], {}, False) if stored is None else run.survey()
        if stored is not None:
            there = *found.listing, *found.broken
            more = surplus(stored_config(stored, run.path), config)
            config, batch = extend(stored, config, problem, batch, there, run.path)
            if there and max(unit.stop for unit in there) > stored["config"]["trials"]:
                show.say(f"units that are there go beyond config.json: the run is extended to {config.trials:,} trials")
            if more:
                show.say(f"{run.path} {more}")
        batch = check_batch(batch, problem)
        units = plan(config, problem.n, found.whole, found.broken, batch)
        _announce(config, problem, units, show)
        # What can fail comes before anything is written or deleted.
        engine = None
        if units:
            show.say("compiling ..")
            engine = interrupts.aside(make_engine, problem, IHT(), program(config), batch)
        environment = describe_environment(batch)
        stay = run.clear() if stored is None else []
        run.write_config(config_record(config, problem, batch))
        run.remove_temporaries()
        if found.stale:
            run.write_units(found.listing)
        for damage in (*found.problems, *stay):
            show.say(f"{damage}{_remedy(damage, found.broken, units)}")
        drawn = [name for name in ("report.html", "figures") if (run.path / name).exists()]
        if units and drawn:
            show.say(f"{' and '.join(drawn)}: of the results before; ihtjax report and figures make them anew")
        if not units:
            show.say("nothing to compute: all that was asked for is there")
        else:
            for difference in differences(environment, found.whole.values()):
                show.say(f"note: {difference}; the last bits of new rows may differ from what the old build gives")
            show.start(sum(unit.stop - unit.start for unit in units) * config.steps)
            try:
                _run_units(engine, config, run, units, found.whole, environment, show)
            finally:
                show.close()
    return run.path


def config_record(config: SweepConfig, problem: Problem, batch: int) -> dict[str, Any]:
    """What a run directory keeps of its configuration."""
    table = problem.table if isinstance(problem, Supervised) else None
    return {
        "config": config.to_json(),
        "config_hash": config.hash(content(config, problem)),
        "data_sha256": content(config, problem),
        "features": list(table.feature_names) if table else [],
        "classes": list(table.class_names) if table else [],
        "parameters": list(problem.names),
        "metrics": list(problem.metrics),
        "batch": batch,
    }


def kept(run_dir: str | os.PathLike, config: SweepConfig, overwrite: bool) -> str:
    """What a sweep that ended early leaves, and how to go on, in words."""
    run = RunDirectory(run_dir)
    try:
        stored = run.config() if run.exists() else None
        # Not what the manifest lists: the last unit may have been written and not listed, or be unlisted to be deleted.
        whole = {} if stored is None else run.survey().whole
    except InputError as error:
        return str(error)
    done = [unit for unit in whole if unit.method != "all"]
    if stored is None or not done:
        return "nothing was finished yet, the same command begins anew"
    anything = {"levels": None, "trials": None, "target": None, "loss": None}
    if stored["config"] | anything != config.to_json() | anything:
        return f"{run_dir} still holds the results that were there, nothing of this sweep"
    again = "the same command without --overwrite" if overwrite else "the same command"
    return f"{len(done)} of {len(done) + len(unfinished(run, whole))} units are safe in {run_dir}, {again} goes on"


def _announce(config: SweepConfig, problem: Problem, units: list[Unit], show: progress.Silent) -> None:
    """Say what will be computed, before the first second of work."""
    show.say(f"{config.problem or config.data}: {problem.words()}, so {problem.n} parameters")
    if isinstance(problem, Supervised) and (note := constants(problem.table, config)):
        show.say(note)
    if not units:
        return
    networks = sum(unit.stop - unit.start for unit in units)
    levels = len({unit.s for unit in units if unit.method == "iht"})
    seconds = estimated_seconds(problem, networks * config.steps)
    line = f"{networks:,} networks of {config.steps:,} steps, at {levels} sparsity level{'s' * (levels != 1)}"
    if seconds is not None:
        line += f": roughly {progress.in_words(seconds)} on {workers()} core{'s' * (workers() != 1)}, once compiled"
    if seconds is not None and seconds > 3600 and levels > 20:
        line += "; --levels, --trials and --steps make it shorter"
    show.say(line)


def _remedy(damage: Damage, broken: list[Unit], units: list[Unit]) -> str:
    """What becomes of it, in words."""

    def is_of(some: list[Unit]) -> bool:
        return any(damage.path == unit.path(table) for unit in some for table in TABLES)

    if "foreign" in damage.what:
        return "; set aside under a hidden name, since a new file gets this one" if is_of(units) else "; left alone"
    if damage.path.startswith("certificates/"):
        return "; left alone, ihtjax oracle computes it again" if is_of(broken) else ""
    return "; computed again" if is_of(broken) else ""


def extend(stored, config: SweepConfig, problem: Problem, batch: int | None, units: Iterable[Unit], path: Path):
    """The stored configuration with the levels and trials of another one and of units added, and its batch.

    Raises:
      InputError: they differ in anything else; it is named.
    """
    before = stored_config(stored, path)
    mine = config.to_json() | {"data": content(config, problem), "batch": stored["batch"] if batch is None else batch}
    theirs = before.to_json() | {"data": stored["data_sha256"], "batch": stored["batch"]}
    compared = {field.name for field in dataclasses.fields(config) if field.metadata.get("of_rows", True)} | {"batch"}
    differing = [k for k in mine if k in compared and mine[k] != theirs.get(k)]
    if differing:
        what = "; ".join(
            ("problem is another one" if config.problem else "data is another table")
            if k == "data"
            else f"{k} is {theirs.get(k)!r} there, {mine[k]!r} was asked for"
            for k in differing
        )
        raise InputError(
            f"{path} holds another configuration: {what}; use the same options, another path, or overwrite=True"
        )
    # An older config.json, restored, may not know of all that is there.
    levels = tuple({*config.filled_levels, *before.filled_levels, *(unit.s for unit in units if unit.method == "iht")})
    trials = max(config.trials, before.trials, *(unit.stop for unit in units))
    return dataclasses.replace(config, levels=levels, trials=trials), stored["batch"]


def stored_config(stored: dict[str, Any], path: Path) -> SweepConfig:
    """The configuration in a run's config.json."""
    try:
        return config_in(stored)
    except Damaged as error:
        raise InputError(f"{path}/config.json: {error}") from error


def unfinished(run: RunDirectory, finished: Iterable[Unit] | None = None) -> list[Unit]:
    """The units that a run's configuration asks for and that aren't finished; those in its manifest are, if None."""
    stored, finished = run.record(), run.units() if finished is None else finished
    return plan(stored_config(stored, run.path), len(stored["parameters"]), finished, [], stored["batch"])


def plan(config: SweepConfig, n: int, finished: Iterable[Unit], broken: Iterable[Unit], batch: int) -> list[Unit]:
    """The units that are still to be computed, the dense baseline's first.

    Args:
      config: with its levels filled in.
      n: number of parameters.
      finished: units that need not be computed again.
      broken: units that need, as they are, so that their files are replaced.
      batch: lanes per call; a unit is a whole number of batches where the trials allow it.
    """
    rows = min(UNIT_ROWS, max(1, round(UNIT_LANE_STEPS / config.steps)))
    rows = batch * max(1, round(rows / batch))
    every = [("gd", n)] * config.dense + [("iht", s) for s in config.filled_levels]
    groups = {group: i for i, group in enumerate(every)}
    units = [unit for unit in broken if (unit.method, unit.s) in groups]
    done = collections.defaultdict(list)
    for unit in (*finished, *units):
        done[unit.method, unit.s].append((unit.start, unit.stop))
    left = {group: gaps(done[group], config.trials) for group in groups}
    count = sum((stop - start) // rows + 1 for its in left.values() for start, stop in its)
    if count > MAX_UNITS:
        raise InputError(
            f"trials: got {config.trials:,}, which make some {count:,} files of {rows:,} trials each, expected at most "
            f"{MAX_UNITS:,} files; take fewer trials or levels, or a larger batch"
        )
    for (method, s), its in left.items():
        for start, stop in its:
            cuts = [start, *range((start // rows + 1) * rows, stop, rows), stop]
            units += [Unit(method, s, a, b) for a, b in zip(cuts, cuts[1:])]
    return sorted(units, key=lambda unit: (groups[unit.method, unit.s], unit.start))


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


def _run_units(engine, config, run, units, finished, environment, show):
    """Compute units, with several batches in flight, and write each as soon as it is whole."""
    config_hash = config.hash(content(config, engine.problem))
    dense_loss = _dense_losses(run, config, finished)
    blocks = [
        (unit, start, stop) for unit in units for start, stop in _batches_between(unit.start, unit.stop, engine.batch)
    ]

    def compute(block):
        unit, start, stop = block
        # Trial t runs in lane t mod batch, whatever unit it belongs to.
        first = start - start % engine.batch
        lane_trials = np.clip(np.arange(first, first + engine.batch), start, stop - 1)
        seeds = triples(config.seed, lane_trials)
        result, curve = run_block(engine, seeds, unit.s)
        lanes = slice(start - first, stop - first)
        return jax.tree.map(lambda a: a[..., lanes], (seeds, result, curve))

    pending = []
    for block, out in in_order(compute, blocks, workers()):
        unit, start, stop = block
        pending.append(out)
        show.add((stop - start) * config.steps)
        if stop < unit.stop:
            continue
        seeds, result, curve = jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *pending)
        pending = []
        if unit.method == "gd":
            dense_loss[unit.start : unit.stop] = result.train_loss
        baseline = dense_loss[unit.start : unit.stop] if config.dense else None
        tables = unit_tables(unit, config, seeds, result, curve, baseline, config_hash)
        run.write_unit(unit, tables, environment)


def unit_tables(unit, config, seeds, result, curve, dense_loss, config_hash) -> dict[str, pa.Table]:
    """A unit's tables by name, in the order in which they are written."""
    trials = trials_table(unit, config, seeds, result, curve, dense_loss, config_hash)
    if config.curve_points == 0:
        return {"trials": trials}
    return {"curves": curves_table(unit, curve_steps(config.steps, config.curve_points), curve), "trials": trials}


def in_order(compute: Callable, items: Iterable, workers: int) -> Iterator[tuple]:
    """Yield (item, compute(item)) in order, computed by several threads that run a few items ahead."""
    waiting: collections.deque[tuple[Any, Future]] = collections.deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append((item, pool.submit(compute, item)))
            if len(waiting) > 2 * workers:
                done, future = waiting.popleft()
                yield done, interrupts.result(future)
        while waiting:
            done, future = waiting.popleft()
            yield done, interrupts.result(future)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _batches_between(start: int, stop: int, batch: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = min(stop, start - start % batch + batch)
        yield start, end
        start = end


def _dense_losses(run: RunDirectory, config: SweepConfig, finished: Iterable[Unit]) -> np.ndarray:
    """Training losses of the dense baselines that are finished, by trial; NaN where there is none yet."""
    losses = np.full(config.trials, np.nan, config.precision)
    units = [unit for unit in finished if unit.method == "gd"]
    if units:
        dense = read(run.path, columns=["trial", "train_loss"], units=units).to_pandas()
        losses[dense.trial] = dense.train_loss
    return losses

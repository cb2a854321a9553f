"""A sweep: what is still to be computed, in units and batches, on all cores or on a GPU."""

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from ihtjax import interrupts
from ihtjax.errors import BOOLEAN, InputError, an, check
from ihtjax.foreign import path_of
from ihtjax.problems.base import Problem
from ihtjax.problems.supervised import Supervised
from ihtjax.solvers.base import Solver
from ihtjax.solvers.gd import GD
from ihtjax.solvers.registry import DENSE, check_solver, fingerprint, method, solver_named, specification
from ihtjax.sweeps import progress
from ihtjax.sweeps.columns import curves_table, structure_record, trials_table
from ihtjax.sweeps.config import VECTORS, SweepConfig
from ihtjax.sweeps.engine import (
    Engine,
    check_batch,
    check_problem,
    content,
    describe_environment,
    differences,
    estimated_seconds,
    make_problem,
    platform,
    resolved,
    run_block,
    triples,
    workers,
)
from ihtjax.sweeps.executors import Executor, Threads
from ihtjax.sweeps.levels import written
from ihtjax.sweeps.memory import fitting_engines
from ihtjax.sweeps.plan import cut, extend, gaps, plan, stages, stored_config, unfinished
from ihtjax.sweeps.store.reading import read
from ihtjax.sweeps.store.records import Damage, Fit, Unit, owner_of
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.store.survey import Survey, nothing
from ihtjax.sweeps.trial import Result, curve_steps
from ihtjax.sweeps.words import constants, surplus


def sweep(
    config: SweepConfig,
    run_dir: str | os.PathLike,
    *,
    batch: int | None = None,
    overwrite: bool = False,
    show: progress.Silent | None = None,
    problem: Problem | None = None,
    solver: Solver | str | Sequence[Solver | str] | None = None,
    executor: Executor | None = None,
) -> Path:
    """Run a sweep, or what is left of it, and write its results.

    A directory that holds the same configuration is resumed: damaged units are computed again, finished ones are
    kept, more trials, levels or solvers are added.

    Args:
      config: what to run.
      run_dir: where the results live; made if need be.
      batch: lanes per call; by default what suits the device and its memory, or what the run was begun with.
      overwrite: delete the results that the directory holds first.
      show: a progress display; none by default.
      problem: what to minimise, instead of what the configuration names.
      solver: one, or several, instead of those that the configuration names; each a `Solver`, or text as there.
      executor: what computes the batches; threads by default.

    Returns:
      The run directory's path.

    Raises:
      InputError: the configuration can't be run, a batch needs more memory than there is, the directory holds another
        configuration, or another process writes there.
      OSError: a file can't be written; what was finished before stays.
    """
    show = show or progress.Silent()
    check("config", config, an(SweepConfig))
    check("overwrite", overwrite, BOOLEAN)
    run = RunDirectory(run_dir)
    platform()
    config, problem = with_problem(config, problem)
    config, solvers = with_solvers(config, solver)
    config = resolved(config, problem)
    check_batch(batch, problem)
    fingerprints = {method: fingerprint(solver) for method, solver in solvers.items()}
    with interrupts.deferred(), run.lock():
        stored = None if overwrite else run.config()
        found = nothing() if stored is None else run.survey()
        if stored is not None:
            there = *found.listing, *found.broken
            more = surplus(stored_config(stored, run.path), config)
            config, fingerprints, batch = extend(stored, config, fingerprints, problem, batch, there, run.path)
            if there and max(unit.stop for unit in there) > stored["config"]["trials"]:
                show.say(f"units that are there go beyond config.json: the run is extended to {config.trials:,} trials")
            if more:
                show.say(f"{run.path} {more}")
        lanes = check_batch(batch, problem)
        units = plan(config, list(fingerprints), problem.n, found.whole, found.broken, lanes)
        _announce(config, problem, found.whole, units, lanes, show)
        # What can fail comes before anything is written or deleted.
        engines: dict[str, Engine] = {}
        flights = workers()
        if units:
            show.say("compiling ..")
            needed = dict.fromkeys(unit.method for unit in units)
            its = {name: solvers.get(name) or stored_solver(config, fingerprints, name) for name in needed}
            engines, flights = interrupts.aside(fitting_engines, problem, its, config, batch)
            fitting = next(iter(engines.values())).batch
            if fitting < lanes or flights < workers():
                show.say(f"memory holds {flights} batch{'es' * (flights != 1)} of {fitting} trials at a time")
            if fitting < lanes:
                lanes = fitting
                units = plan(config, list(fingerprints), problem.n, found.whole, found.broken, lanes)
        environment = describe_environment(lanes)
        stay = run.clear() if stored is None else []
        run.write_config(config_record(config, problem, fingerprints, lanes))
        run.remove_temporaries()
        run.mend(found)
        for damage in (*found.problems, *stay):
            show.say(f"{damage}{_remedy(damage, found, units)}")
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
                for stage in stages(units):
                    where = executor or Threads(flights)
                    _run_stage(where, engines, config, run, stage, environment, found.listing, show)
            finally:
                show.close()
    return run.path


def with_problem(config: SweepConfig, problem: Problem | None) -> tuple[SweepConfig, Problem]:
    """The problem that a configuration names, or the given one, and the configuration that names it."""
    if problem is None:
        return config, make_problem(config)
    if config.problem is not None:
        raise InputError("problem: given, and named by the configuration; leave one of them out")
    problem = check_problem(problem)
    return dataclasses.replace(config, problem=path_of(problem)), problem


def with_solvers(
    config: SweepConfig, given: Solver | str | Sequence[Solver | str] | None = None
) -> tuple[SweepConfig, dict[str, Solver]]:
    """The solvers that a configuration names, or the given ones, by their methods, and the configuration so."""
    if given is None:
        found = [solver_named(text) for text in config.solver]
    else:
        several = given if isinstance(given, list | tuple) else [given]
        found = [solver_named(one) if isinstance(one, str) else check_solver(one) for one in several]
        if any(one.name == DENSE for one in found):
            raise InputError(f"solver: got {DENSE}, the dense baseline, which the option dense trains; leave it out")
    if not found:
        raise InputError("solver: got none")
    solvers = {method(solver): solver for solver in found}
    if len(solvers) < len(found):
        ((twice, _),) = collections.Counter(map(method, found)).most_common(1)
        raise InputError(f"solver: got {twice} twice, expected each once")
    return dataclasses.replace(config, solver=tuple(map(specification, solvers.values()))), solvers


def stored_solver(config: SweepConfig, fingerprints: dict[str, str], method: str) -> Solver:
    """The solver of a run's method, which is the same that computed its rows."""
    if method == DENSE:
        return GD()
    solver = solver_named(dict(zip(fingerprints, config.solver))[method])
    if fingerprint(solver) != fingerprints[method]:
        raise InputError(f"solver: {method} has changed since the run began; restore it, or use another path")
    return solver


def config_record(config: SweepConfig, problem: Problem, solvers: dict[str, str], batch: int) -> dict[str, Any]:
    """What a run directory keeps of its configuration."""
    table = problem.table if isinstance(problem, Supervised) else None
    structure = structure_record(problem, config)
    return {
        "config": config.to_json(),
        "config_hash": config.hash(content(config, problem)),
        "data_sha256": content(config, problem),
        "features": list(table.feature_names) if table else [],
        "classes": list(table.class_names) if table else [],
        "parameters": list(problem.names),
        "metrics": list(problem.metrics),
        **({"structure": structure} if structure else {}),
        "solvers": solvers,
        "batch": batch,
    }


def kept(run_dir: str | os.PathLike, config: SweepConfig, overwrite: bool) -> str:
    """What a sweep that ended early leaves, and how to go on, in words."""
    run = RunDirectory(run_dir)
    try:
        stored = run.config() if run.exists() else None
        # Not what the index lists: the last units may have been written and not listed, or be unlisted to be deleted.
        whole = {} if stored is None else run.survey().whole
    except InputError as error:
        return str(error)
    done = [unit for unit in whole if isinstance(unit, Fit)]
    if stored is None or not done:
        return "nothing was finished yet, the same command begins anew"
    anything = dict.fromkeys(("levels", "trials", "target", "loss", "solver", "always"))
    if stored["config"] | anything != config.to_json() | anything:
        return f"{run_dir} still holds the results that were there, nothing of this sweep"
    again = "the same command without --overwrite" if overwrite else "the same command"
    return f"{len(done)} of {len(done) + len(unfinished(run, whole))} units are safe in {run_dir}, {again} goes on"


def _announce(
    config: SweepConfig, problem: Problem, whole: dict[Unit, Any], units: list[Fit], lanes: int, show: progress.Silent
) -> None:
    """Say what is there and what will be computed, before the first second of work."""
    show.say(f"{config.problem or config.data}: {problem.words()}, so {problem.n} parameters")
    if isinstance(problem, Supervised) and (note := constants(problem.table, config)):
        show.say(note)
    if not units:
        return
    networks = sum(unit.stop - unit.start for unit in units)
    if there := sum(unit.stop - unit.start for unit in whole if isinstance(unit, Fit)):
        show.say(f"{there:,} of {there + networks:,} networks are there already, what is left is computed:")
    levels = sorted({unit.s for unit in units if unit.method != DENSE})
    seconds = estimated_seconds(problem, config, len(_batches(units, lanes)), lanes)
    line = f"{networks:,} networks of {config.steps:,} steps, at {len(levels)} sparsity level{'s' * (len(levels) != 1)}"
    line += f" ({written(levels)})" * bool(levels)
    if seconds is not None:
        line += f": roughly {progress.in_words(seconds)} on {workers()} core{'s' * (workers() != 1)}, once compiled"
    if seconds is not None and seconds > 3600:
        line += "; --levels, --trials and --steps make it shorter"
    show.say(line)


def _remedy(damage: Damage, found: Survey, units: list[Fit]) -> str:
    """What becomes of it, in words."""

    _, unit = owner_of(damage.path)
    if damage.path in found.orphans:
        return "; deleted"
    if "foreign" in damage.what:
        return "; set aside under a hidden name where a new file gets this one" if unit in units else "; left alone"
    if damage.path.startswith("certificates/"):
        return "; left alone, ihtjax oracle computes it again" if unit in found.broken else ""
    return "; computed again" if unit in found.broken else ""


def _run_stage(executor, engines, config, run, units, environment, known, show):
    """Compute units, with several batches in flight, and write each as soon as it is whole.

    Batches may come in any order, and more than once. What is known of units that are damaged tells their files.
    """
    batch = environment["batch"]
    config_hash = run.record()["config_hash"]
    # A damaged baseline is read only once the stage before has made it anew.
    compared = config.dense and any(unit.method != DENSE for unit in units)
    dense_loss = _dense_losses(run, config) if compared else None
    batches = _batches(units, batch)

    def compute(item):
        unit, start, stop = item
        # Trial t runs in lane t mod batch, whatever unit it belongs to.
        first = start - start % batch
        lane_trials = np.clip(np.arange(first, first + batch), start, stop - 1)
        seeds = triples(config.seed, lane_trials)
        result, curve = run_block(engines[unit.method], seeds, unit.s)
        # What isn't stored need not wait for the unit's other batches.
        result = result._replace(gradient=None, **dict.fromkeys({"theta", "theta0"}.difference(VECTORS[config.theta])))
        lanes = slice(start - first, stop - first)
        return jax.tree.map(lambda a: a[..., lanes], (seeds, result, curve))

    waits = collections.Counter(unit for unit, _, _ in batches)
    parts = collections.defaultdict(dict)
    for (unit, start, stop), out in executor.run(compute, batches):
        if unit not in waits or start in parts[unit]:
            continue
        parts[unit][start] = out
        show.add((stop - start) * config.steps)
        if len(parts[unit]) < waits[unit]:
            continue
        del waits[unit]
        seeds, result, curve = _in_order(parts.pop(unit))
        if not config.dense:
            baseline = None
        elif unit.method == DENSE:
            baseline = result.train_loss
        else:
            baseline = dense_loss[unit.start : unit.stop]
        check_sparse(unit, config, result)
        tables = unit_tables(unit, config, seeds, result, curve, baseline, config_hash)
        run.write_unit(unit, tables, environment, known.get(unit))
    if waits:
        raise InputError(f"executor: it left out {len(waits)} of {len(units)} units; the same command goes on")


def _in_order(parts):
    """Batches put together in the order of their trials; a function, so that they are free once it returns."""
    return jax.tree.map(lambda *its: np.concatenate(its, axis=-1), *(out for _, out in sorted(parts.items())))


def check_sparse(unit: Fit, config: SweepConfig, result: Result) -> None:
    """Raise `InputError` if a solver left more entries than it may."""
    most = unit.s + len(config.always or ())
    found = np.max(result.certificate.n_nonzero, initial=0, where=np.asarray(result.finite))
    if found > most:
        raise InputError(
            f"solver: {unit.method} left {found} nonzero parameters at s = {unit.s}, expected at most {most}; end its "
            "step with objective.threshold"
        )


def unit_tables(unit, config, seeds, result, curve, dense_loss, config_hash) -> dict[str, pa.Table]:
    """A unit's tables by name, in the order in which they are written."""
    trials = trials_table(unit, config, seeds, result, curve, dense_loss, config_hash)
    if config.curve_points == 0:
        return {"trials": trials}
    return {"curves": curves_table(unit, curve_steps(config.steps, config.curve_points), curve), "trials": trials}


def _batches(units: Sequence[Fit], lanes: int) -> list[tuple[Fit, int, int]]:
    """The batches of units, each with its unit and its trials start .. stop - 1, which share trial // lanes."""
    return [(unit, start, stop) for unit in units for start, stop in cut(unit.start, unit.stop, lanes)]


def _dense_losses(run: RunDirectory, config: SweepConfig) -> np.ndarray:
    """Training losses of the dense baselines that are stored, by trial."""
    losses = np.full(config.trials, np.nan, config.precision)
    units = [unit for unit in run.units() if isinstance(unit, Fit) and unit.method == DENSE]
    if lost := gaps([(unit.start, unit.stop) for unit in units], config.trials):
        start, stop = lost[0]
        raise InputError(f"{run.path}: no dense baseline of trials {start} to {stop - 1}; the same command computes it")
    dense = read(run.path, columns=["trial", "train_loss"], units=units).to_pandas()
    losses[dense.trial] = dense.train_loss
    return losses

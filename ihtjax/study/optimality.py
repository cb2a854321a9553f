"""How far each trial of a run is from the best possible, and whether its step size was valid."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import pyarrow as pa

from ihtjax import interrupts
from ihtjax.errors import BOOLEAN, InputError, check, levels_up_to, whole_number
from ihtjax.exact.bounds import Bounds, step_status
from ihtjax.exact.by_loss import ORACLES, Certificates
from ihtjax.exact.oracle import check_levels, warn_of
from ihtjax.exact.rows import Rows
from ihtjax.exact.search import BestSubset
from ihtjax.exact.separable import search_of
from ihtjax.exact.stability import minimizers_on_support
from ihtjax.problems.linear import Linear
from ihtjax.solvers import draws
from ihtjax.sweeps import progress
from ihtjax.sweeps.certified import certificates_of
from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.engine import content, make_problem
from ihtjax.sweeps.inputs import splits
from ihtjax.sweeps.levels import MAX_LEVEL, as_levels, count_levels
from ihtjax.sweeps.plan import gaps, stored_config, unfinished
from ihtjax.sweeps.store.reading import load
from ihtjax.sweeps.store.records import Certify
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.store.schemas import certificates_schema
from ihtjax.sweeps.store.survey import Survey
from ihtjax.sweeps.words import constraint, network, not_stored

# A unit is some tens of seconds of work.
UNIT_TRIALS = 50
# What the columns say. 2: `minimizer_on_support`, `infima_within`, best supports counted exactly, closer bounds.
FORMAT = 2
# Seconds on one core of a trial's own certificate, times n^2, for an estimate before the work.
OWN_SECONDS = 2e-5
MAX_INT64 = np.iinfo(np.int64).max


class Split(NamedTuple):
    """One data seed's training rows in float64: features ``[m, d]``, standardised, and targets; q outputs.

    Targets are classes ``[m]``, and for cross-entropy q = K; or numbers ``[m, q]``.
    """

    X: np.ndarray
    y: np.ndarray
    outputs: int


class Doubt(NamedTuple):
    """By how much infima may be too large, and of which rows."""

    within: float = 0.0
    rows: Rows | None = None

    def in_ties(self) -> float:
        return self.within / self.rows.tie if self.rows is not None else 0.0


def with_oracle(config: SweepConfig) -> tuple[Linear, Certificates, type[Rows]]:
    """The problem in float64, what is known of it, and the rows of its oracle.

    Raises:
      InputError: there is no oracle for it.
    """
    problem = make_problem(dataclasses.replace(config, precision="float64") if config.problem is None else config)
    known = certificates_of(problem)
    if not isinstance(problem, Linear) or known is None or known.rows is None:
        what = problem.criterion.name if isinstance(problem, Linear) else config.problem or network(config)
        losses = f"{', '.join(ORACLES[:-1])} or {ORACLES[-1]}"
        raise InputError(f"{what}: no oracle for this problem, expected a linear model under {losses}")
    if other := constraint(config):
        name = "per" if config.always is None else "always"
        raise InputError(f"{name}: no oracle where {other}; expected s of all parameters alike")
    return problem, known, known.rows


def training_rows(config: SweepConfig, data_seeds: Iterable[int]) -> Iterator[Split]:
    """The training rows of data seeds, the same that a sweep draws, standardised in float64."""
    problem, _, _ = with_oracle(config)
    seeds = np.array(list(data_seeds), np.uint32)
    views, _ = splits(problem, seeds)
    with draws.settings("float64"):
        rows = [problem.rows(jax.tree.map(lambda a, i=i: a[i], views)) for i in range(len(seeds))]
    for X, y in rows:
        yield Split(np.asarray(X, np.float64), y, problem.outputs_per_row)


def certify_run(
    run_dir: str | os.PathLike,
    *,
    levels: tuple[int, ...] | str | None = None,
    trials: int | None = None,
    enumerate_supports: bool = True,
    show: progress.Silent | None = None,
) -> Path:
    """Certify the trials of a finished run: write the dataset ``certificates``, a row for each.

    What is there already is kept, but for units of an older version, which lack columns; a run that was extended needs
    only its new trials. Splits and standardisation are
    the trials' own, in float64, so ``loss`` differs from ``train_loss`` by float32's rounding, some 1e-7; all gaps are
    differences of float64 values, each within ``infima_within`` of the truth.

    Args:
      run_dir: of a sweep of a linear model under cross-entropy, logistic loss or squared error.
      levels: which levels, or text as of a sweep; all of the run's if None. The dense baseline counts as level n.
      trials: how many trials, the first; all if None.
      enumerate_supports: find each level's global infimum; else certify step sizes and restricted optima alone.
      show: a progress display; none by default.

    Returns:
      The run directory's path.

    Raises:
      InputError: there is no such run, it isn't finished, of another model or without theta, a level isn't among the
        run's, or there are too many supports to enumerate.

    Warns:
      RuntimeWarning: some infima may be further from the truth than a tie (``infima_within`` says which).
    """
    show = show or progress.Silent()
    check("enumerate_supports", enumerate_supports, BOOLEAN)
    run = RunDirectory(run_dir).require()
    stored = run.record()
    config = stored_config(stored, run.path)
    problem, _, oracle = with_oracle(config)
    if why := not_stored(config, "theta"):
        raise InputError(f"{run.path}: certificates are of theta, and {why}")
    if content(config, problem) != stored["data_sha256"]:
        raise InputError(f"data: {config.data} has changed since the run began; restore it")
    todo = unfinished(run)
    if todo:
        raise InputError(f"{run.path}: {len(todo)} units are not computed yet; finish it with: ihtjax sweep")
    n, any_rows = problem.n, oracle(*next(training_rows(config, [0])))
    every = tuple(sorted({*config.filled_levels, *([n] if config.dense else [])}))
    if isinstance(levels, str):
        levels = count_levels(as_levels(levels), n)
    if levels is not None:
        levels = tuple(sorted(set(map(int, check("levels", levels, levels_up_to(MAX_LEVEL))))))
    levels = levels or every
    if not set(levels) <= set(every):
        extra = sorted(set(levels) - set(every))
        there = ", ".join(f"{s} (dense)" if s == n and config.dense else str(s) for s in every)
        raise InputError(f"levels: got {extra[0]}, expected levels of this run, {there}")
    if trials is not None:
        trials = check("trials", trials, whole_number(1))
        if trials > config.trials:
            expected = f"a whole number from 1 to {config.trials}; extend the sweep first"
            raise InputError(f"trials: got {trials}, expected {expected}")
    if enumerate_supports:
        try:
            check_levels(levels, any_rows)
        except InputError as error:
            raise InputError(f"{error}, or certify without the oracle, with enumerate_supports=False") from None
    with interrupts.deferred(), run.lock():
        run.remove_temporaries()
        found = run.survey()
        run.mend(found)
        for damage in found.problems:
            show.say(str(damage))
        methods = set(stored["solvers"])
        blocks = plan(found, methods, levels, trials or config.trials, levels if enumerate_supports else ())
        if not blocks:
            if not found.broken:
                show.say("nothing to compute: all that was asked for is there")
            return run.path
        _announce(any_rows, blocks, trials or config.trials, show)
        doubt = Doubt()
        show.start(sum(block.stop - block.start for block in blocks), "splits")
        try:
            for block in blocks:
                table, its = _certify_block(run, config, block, show)
                environment: dict[str, Any] = {name: metadata.version(name) for name in ("ihtjax", "numpy", "scipy")}
                environment |= {"format": FORMAT, "levels": block.levels, "enumerated": block.enumerated}
                environment["methods"] = list(stored["solvers"])
                unit = Certify(block.start, block.stop)
                run.write_unit(unit, {"certificates": table}, environment, found.listing.get(unit))
                doubt = max(doubt, its, key=Doubt.in_ties)
        finally:
            show.close()
            if doubt.rows is not None:
                warn_of(doubt.within, doubt.rows)
    return run.path


class Block(NamedTuple):
    """The trials ``start .. stop - 1`` of some levels, and at which of these the supports are enumerated."""

    start: int
    stop: int
    levels: list[int]
    enumerated: list[int]


def plan(
    found: Survey, methods: set[str], levels: Iterable[int], trials: int, enumerated: Iterable[int]
) -> list[Block]:
    """What is still to be certified; units that are damaged, older or of too few levels or solvers are done again.

    What a unit is known to hold beyond what is asked for, it will hold again.
    """
    broken = [unit for unit in found.broken if isinstance(unit, Certify)]
    finished = [(unit.start, unit.stop) for unit in broken]
    blocks = []
    for its_unit in broken:
        its = found.listing[its_unit]["environment"] if its_unit in found.listing else {}
        both = sorted({*levels, *its.get("levels", [])}), sorted({*enumerated, *its.get("enumerated", [])})
        blocks.append(Block(its_unit.start, its_unit.stop, *both))
    for unit, entry in found.whole.items():
        if not isinstance(unit, Certify):
            continue
        finished.append((unit.start, unit.stop))
        its = entry["environment"]
        lacking: set[Any] | bool = set(levels) - set(its["levels"]) or set(enumerated) - set(its["enumerated"])
        lacking = lacking or methods - certified_methods(its) or its.get("format", 1) != FORMAT
        if unit.start < trials and lacking:
            both = sorted({*levels, *its["levels"]}), sorted({*enumerated, *its["enumerated"]})
            blocks.append(Block(unit.start, unit.stop, *both))
    for start, stop in gaps(finished, trials):
        cuts = [start, *range((start // UNIT_TRIALS + 1) * UNIT_TRIALS, stop, UNIT_TRIALS), stop]
        blocks += [Block(a, b, sorted(levels), sorted(enumerated)) for a, b in zip(cuts, cuts[1:])]
    return sorted(blocks)


def certified_methods(environment: dict[str, Any]) -> set[str]:
    """The solvers whose trials a unit of certificates holds, from its environment; once there was one."""
    return set(environment.get("methods", ["iht"]))


def _announce(rows: Rows, blocks: list[Block], trials: int, show: progress.Silent) -> None:
    """Say what is there, what will be certified and how long that takes, before the first second of work."""
    left = sum(block.stop - block.start for block in blocks)
    if left < trials:
        show.say(f"certificates of {trials - left:,} of {trials:,} splits are there already")
    levels = len({s for block in blocks for s in block.levels})
    seconds = progress.in_words(estimated_seconds(rows, blocks))
    show.say(f"certifying {left:,} splits, at {levels} level{'s' * (levels != 1)} each: roughly {seconds}")


def estimated_seconds(rows: Rows, blocks: Iterable[Block]) -> float:
    """Roughly how long blocks of splits with rows like these take, within a factor of some two or three."""
    seconds = 0.0
    for block in blocks:
        sizes = [{min(s, part.supports.largest) for s in block.enumerated} for part in rows.parts]
        searched = sum(part.supports.count(size) for part, its in zip(rows.parts, sizes) for size in its)
        each = OWN_SECONDS * rows.n**2 * len(block.levels) + rows.seconds * searched
        seconds += (block.stop - block.start) * each
    return seconds


def _certify_block(
    run: RunDirectory, config: SweepConfig, block: Block, show: progress.Silent
) -> tuple[pa.Table, Doubt]:
    """A block's table, and its infima that are known least well."""
    columns = ["trial", "s", "method", "data_seed", "step_size", "theta", "status"]
    trials = list(range(block.start, block.stop))
    frame = load(run.path, columns=columns, s=block.levels, trial=trials)
    certified, doubt = [], Doubt()
    _, known, oracle = with_oracle(config)
    groups = frame.groupby("trial")
    for (_, trials), split in zip(groups, training_rows(config, groups.data_seed.first())):
        interrupts.check()
        rows = oracle(*split)
        its = certify_trials(known, rows, split, trials, block.enumerated)
        doubt = max(doubt, Doubt(max(row["infima_within"] for row in its), rows), key=Doubt.in_ties)
        certified += its
        show.add(1)
    certified.sort(key=lambda row: (row["method"] != "gd", row["s"], row["trial"]))
    return _as_table(certified, frame.theta.iloc[0].size), doubt


def certify_trials(
    known: Certificates, rows: Rows, split: Split, trials: pd.DataFrame, enumerated: Sequence[int]
) -> list[dict[str, Any]]:
    """The rows of one split's trials.

    Args:
      known: what is known of their loss.
      rows: their training rows, as the loss's oracle has them.
      split: the same as they are.
      trials: their rows of the ``trials`` table.
      enumerated: the levels whose global infimum is to be found.
    """
    search = search_of(rows)
    ok = (trials.status == "ok").to_numpy()
    theta = np.stack(trials.theta).astype(np.float64)
    supports = rows.supports.canonical(theta != 0)
    levels = sorted(set(trials.s.tolist()))
    loss = np.where(ok, rows.loss(theta), np.nan)
    restricted = search.infima(supports)
    best = search.best(enumerated, hints=supports) if enumerated else {}
    bounds = {s: known.bounds(*split, s) for s in levels}
    answers = {s: search.describe(s, best[s]) for s in best}
    existence = [search.existence(support) for support in supports]
    step_sizes, s = trials.step_size.to_numpy(), trials.s.to_numpy()
    minimizers = np.full(len(trials), None)
    # Where a trial heads is known of gradient descent alone.
    heads = ok & trials.method.isin(["iht", "gd"]).to_numpy()
    minimizers[heads] = minimizers_on_support(search, theta[heads], step_sizes[heads], s[heads])
    names = ("loss", "restricted_infimum", "existence", "minimizer_on_support", "infima_within")
    columns = (loss.tolist(), restricted.tolist(), existence, minimizers, search.within(supports).tolist())
    own = [dict(zip(names, values)) for values in zip(*columns)]
    each = zip(trials.itertuples(), own)
    return [_row(trial, its, bounds[trial.s], answers.get(trial.s), rows.tie) for trial, its in each]


def _row(trial, own: dict[str, Any], bounds: Bounds, best: BestSubset | None, tie: float) -> dict[str, Any]:
    row = {"trial": trial.trial, "s": trial.s, "method": trial.method, "data_seed": trial.data_seed} | own
    row |= bounds._asdict() | {"bounds_exact": bounds.exact, "step_status": step_status(float(trial.step_size), bounds)}
    loss = row["loss"] = own["loss"] if np.isfinite(own["loss"]) else None
    restricted = own["restricted_infimum"]
    row["optimization_gap"] = None if loss is None else loss - restricted
    if best is None:
        return row
    row |= {"infimum": best.loss, "best_existence": best.existence}
    row["infima_within"] = max(own["infima_within"], best.within)
    for name, count in (("n_best_supports", best.n_best), ("n_best_supports_at_most", best.n_best_at_most)):
        row[name] = None if count is None or count > MAX_INT64 else count
    row |= {"support_gap": restricted - best.loss, "best_support": bool(restricted - best.loss <= tie)}
    return row | {"gap": None if loss is None else loss - best.loss, "best_theta": best.theta}


def _as_table(rows: list[dict[str, Any]], n: int) -> pa.Table:
    schema = certificates_schema(n)
    return pa.table({f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in schema}, schema=schema)

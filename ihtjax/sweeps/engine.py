"""What a sweep runs: its problem, its programs, one batch after the other, and what the device is."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Collection
from importlib import metadata
from pathlib import Path
from platform import machine
from typing import Any, NamedTuple

import jax
import numpy as np

from ihtjax.errors import InputError, an, check, shown, whole_number
from ihtjax.foreign import made, named, path_of
from ihtjax.problems.base import Problem
from ihtjax.problems.linear import Linear
from ihtjax.problems.losses import LOSSES
from ihtjax.problems.mlp import MLP
from ihtjax.problems.supervised import Supervised
from ihtjax.problems.table import Table, load_table
from ihtjax.solvers import draws
from ihtjax.solvers.base import Solver
from ihtjax.solvers.registry import solver_named
from ihtjax.solvers.threshold import PAIRWISE_LIMIT
from ihtjax.sweeps.certified import certified_steps, require_bound
from ihtjax.sweeps.config import CERTIFIED, SweepConfig
from ihtjax.sweeps.config import MODELS as OPTIONS_OF_MODELS
from ihtjax.sweeps.constraints import constraint_of, names_in
from ihtjax.sweeps.programs import Programs, out_of_memory_named, programs
from ihtjax.sweeps.trial import CHECK_EVERY, Point, Result, curve_steps, settings_of
from ihtjax.text import is_printable, printable

# On CPU a batch's largest temporaries have about this many numbers, so that they stay in cache; 256 lanes for Iris.
CPU_BATCH_NUMBERS = 38_400
# Fewer lanes don't fill the vectors of 16-bit integers that H_s bisects: with 32 it takes four times as long.
LEAST_BISECTED = 64
GPU_BATCH = 1024
# Nanoseconds on one CPU thread of H_s, for an estimate before anything was measured: each pair of entries that it
# compares, each entry that it bisects; and of each entry that the Monte Carlo draws.
NS_PAIR, NS_BISECTED, NS_DRAWN = 0.085, 3, 40


class Engine(NamedTuple):
    """A problem with a solver's compiled programs: all that running a batch of any level needs.

    Attributes:
      problem: the objective.
      batch: lanes per call.
      run: (settings, seeds uint32 ``[3, batch]``, s int32 ``[batch]``) -> (`Result`, `Point`), lanes last; it takes
        step sizes ``[batch]`` as well where the configuration doesn't leave them to the Monte Carlo.
      config: the options that it is run with.
    """

    problem: Problem
    batch: int
    run: Programs
    config: SweepConfig


# The models of a table, by name; `config.MODELS` says which options each takes.
MODELS: dict[str, Callable[..., Supervised]] = {"linear": Linear, "mlp": MLP}


def make_problem(config: SweepConfig) -> Problem:
    """The problem that a configuration names; the same object for the same one."""
    if config.problem is not None:
        return problem_named(config.problem)
    kind = None if config.loss is None else LOSSES[config.loss].target
    table = load_table(config.data, config.target, kind)
    own = tuple((name, getattr(config, name)) for name in OPTIONS_OF_MODELS[config.model])
    return problem_of(table, config.model, own, config.loss, config.standardize, config.init, config.precision)


def content(config: SweepConfig, problem: Problem) -> str:
    """SHA-256 of what a configuration doesn't say of its problem: the table, or all of one of the user's."""
    if config.problem is None and isinstance(problem, Supervised):
        return problem.table.fingerprint
    return problem.fingerprint


def resolved(config: SweepConfig, problem: Problem) -> SweepConfig:
    """The configuration with the levels and the loss filled in that it left to the problem, and with patterns as names.

    Raises:
      InputError: a level, the precision, or what is always in doesn't fit the problem.
    """
    if config.precision != str(problem.dtype):
        raise InputError(
            f"precision: got {config.precision!r}, but the problem {config.problem} is of {problem.dtype}; ask for "
            f"that, or give the problem dtype = np.dtype({config.precision!r})"
        )
    if isinstance(problem, Supervised) and config.problem is None:
        config = dataclasses.replace(config, loss=problem.criterion.name)
    if config.step_size == CERTIFIED:
        require_bound(problem)
    if config.always is not None:
        config = dataclasses.replace(config, always=names_in(config.always, problem.names))
    constraint_of(problem, config)  # refuses one that there isn't
    return config.with_levels(problem.n)


@functools.lru_cache(maxsize=8)
def problem_of(
    table: Table, model: str, own: tuple, loss: str | None, standardize: str, init: str, precision: str
) -> Problem:
    """A model of a table, with the options of its own; the loss for classes or for numbers where none is named."""
    criterion = LOSSES[loss or ("cross_entropy" if table.class_names else "squared")]
    return MODELS[model](table, criterion, **dict(own), init=init, standardize=standardize, dtype=np.dtype(precision))


@functools.lru_cache(maxsize=8)
def problem_named(path: str) -> Problem:
    """A user's problem, ``module:name``: an object, or what a function of nothing returns."""
    found = named("problem", path)
    if not isinstance(found, Problem) and callable(found):
        found = made("problem", path, found)
    return check_problem(found)


def check_problem(problem: Any) -> Problem:
    """The problem, if it is one that can be swept.

    Raises:
      InputError: it isn't a `Problem`, or its parameters have no names.
    """
    problem = check("problem", problem, an(Problem))
    try:
        hash(problem)
    except TypeError as error:
        raise InputError(
            f"problem: {path_of(problem)} can't be hashed ({error}); as a dataclass it needs eq=False"
        ) from error
    names = list(getattr(problem, "names", ()))
    if not names or not all(isinstance(name, str) and name and is_printable(name) for name in names):
        raise InputError(f"problem: got names {shown(tuple(names))}, expected a text for each parameter")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"problem: got two parameters called {twice!r}, expected a name of its own for each")
    return problem


def one_solver(config: SweepConfig) -> Solver:
    """The solver of a configuration that has one.

    Raises:
      InputError: it names several.
    """
    if len(config.solver) > 1:
        raise InputError(f"solver: got {' and '.join(config.solver)}, expected one here")
    return solver_named(config.solver[0])


def make_engine(problem: Problem, solver: Solver, config: SweepConfig, batch: int, *, anew: bool = False) -> Engine:
    """An engine; its programs serve all levels, units, settings and sweeps of a process, or are compiled ``anew``."""
    return Engine(problem, batch, programs(problem, solver, config, batch, anew=anew), config)


def triples(root: int, trials: np.ndarray) -> np.ndarray:
    """The seed triples uint32 ``[3, N]`` of the trials with these numbers ``[N]``, from a sweep's root seed."""
    with draws.settings("float32"):
        return np.array(_triples(np.uint32(root), np.asarray(trials, np.uint32)))


_triples = jax.jit(jax.vmap(draws.triple, in_axes=(None, 0), out_axes=-1))


def run_block(engine: Engine, seeds: np.ndarray, s: int) -> tuple[Result, Point]:
    """Run one batch of trials of level s; at most ``engine.batch`` triples ``[3, N]``, results as NumPy arrays."""
    config, N = engine.config, seeds.shape[1]
    padded = np.pad(seeds, ((0, 0), (0, engine.batch - N)), mode="edge")
    levels = np.full(engine.batch, s, np.int32)
    with out_of_memory_named(), draws.settings(str(engine.problem.dtype)):
        settings = settings_of(config, engine.problem.dtype)
        given = () if config.step_size is None else (_step_sizes(engine, padded[0], s),)
        result, curve = jax.device_get(engine.run(settings, padded, levels, *given))
    points = len(curve_steps(config.steps, config.curve_points))
    return jax.tree.map(lambda a: a[..., :N], (result, jax.tree.map(lambda a: a[:points], curve)))


def _step_sizes(engine, data_seeds, s):
    """gamma ``[batch]``, where the configuration gives one or asks for certified ones."""
    problem, config = engine.problem, engine.config
    if config.step_size != CERTIFIED:
        return np.full(engine.batch, config.step_size, problem.dtype)
    n_always = problem.n - constraint_of(problem, config).n_counted(problem.n)
    return certified_steps(problem, data_seeds, s, n_always)


def check_batch(batch: int | None, problem: Problem) -> int:
    """The number of lanes per call; what suits the default device if None, a power of two."""
    if batch is None:
        if platform() != "cpu":
            return GPU_BATCH
        least = 32 if problem.n <= PAIRWISE_LIMIT else LEAST_BISECTED
        return int(np.clip(2.0 ** round(np.log2(CPU_BATCH_NUMBERS / problem.temporaries)), least, 1024))
    return check("batch", batch, whole_number(1))


def workers() -> int:
    """Batches to run at a time: one for each core; a GPU needs a second only to hide the transfers."""
    if platform() != "cpu":
        return 2
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def platform() -> str:
    """What JAX computes on: "cpu", "gpu", ..

    Raises:
      InputError: JAX_PLATFORMS asks for something that isn't there.
    """
    try:
        return jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the latter, without words, of one that only this machine lacks
        reason = (str(error).splitlines() or ["this machine or this jaxlib has none"])[0]
        asked = os.environ.get("JAX_PLATFORMS")
        raise InputError(
            f"JAX_PLATFORMS: got {asked!r}, which JAX can't use ({reason}); unset it, or say cpu"
        ) from error


def estimated_seconds(problem: Problem, config: SweepConfig, batches: int, lanes: int) -> float | None:
    """Roughly how long so many batches of so many lanes, filled or not, take on this CPU; None if unknown.

    Within a factor of some two or three.
    """
    if platform() != "cpu" or problem.nanoseconds is None:
        return None
    n, gradient = problem.n, problem.nanoseconds
    loss = gradient  # it reads the same outputs, and they are most of the work
    h_s = n * n * NS_PAIR if n <= PAIRWISE_LIMIT else n * NS_BISECTED
    step = gradient + h_s + loss * (1 / CHECK_EVERY + config.audit)
    draw = 2 * gradient + h_s + n * NS_DRAWN
    draws = config.n_monte if config.step_size is None else 0
    rounds = -(-batches // workers())
    return 1e-9 * rounds * lanes * (config.steps * step + draws * draw + config.curve_points * 2 * loss)


def describe_environment(batch: int) -> dict[str, Any]:
    """What results can depend on beside the configuration, for each unit's record."""
    platform()
    device = jax.devices()[0]
    return {
        "ihtjax": metadata.version("ihtjax"),
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "platform": device.platform,
        "device": device.device_kind,
        "instruction_set": instruction_set(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "batch": batch,
        "matmul_precision": "highest",
    }


def differences(environment: dict[str, Any], units: Collection[dict[str, Any]]) -> list[str]:
    """Where this environment differs from those that a run's finished units were made in, in words."""
    words = []
    for name, value in environment.items():
        now = printable(str(value))
        before = {printable(str(unit["environment"][name])) for unit in units if name in unit["environment"]} - {now}
        if before:
            words.append(f"{name} was {' and '.join(sorted(before)) or 'none'}, now it is {now or 'none'}")
    return words


def instruction_set() -> str:
    """The processor's architecture and widest vectors, on which the last bits of results depend."""
    flags = ""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith("flags"))
    widest = next((name for name in ("avx512f", "avx2", "avx") if name in flags.split()), "")
    return f"{machine()} {widest}".strip()

"""The compiled programs of a batch of trials: how they begin, descend and end."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ihtjax.errors import InputError
from ihtjax.foreign import is_own
from ihtjax.problems.base import Problem
from ihtjax.solvers import draws
from ihtjax.solvers.base import Solver
from ihtjax.sweeps.audit import begin_audit
from ihtjax.sweeps.config import MODEL_OPTIONS, PAPERS_STOP_LOSS, SweepConfig
from ihtjax.sweeps.inputs import OPTIMIZED, changeable
from ihtjax.sweeps.trial import Descent, Point, Result, Settings, begin, compiled_points, descend, end, lanes, observe

# What no program depends on: which trials there are, what the problem says, what is stored, and what is taken as data,
# the `Settings`.
IGNORED = (
    *"data target loss problem model solver levels trials seed dense theta steps ht_tol".split(),
    *MODEL_OPTIONS,
)
# And what each of the three doesn't beside.
BEGIN_IGNORES = "curve_points", "stop_loss", "audit"
DESCEND_IGNORES = "step_size", "n_monte"
END_IGNORES = "curve_points", "stop_loss", "step_size", "n_monte"
GIVEN = 1.0  # for any step size that the Monte Carlo doesn't estimate

CPU_OPTIONS: Any = OPTIMIZED | {"xla_cpu_prefer_vector_width": 512}


class Programs(NamedTuple):
    """What runs a batch of trials of any level, from its seeds to its results, lanes last.

    They are three so that each is compiled once for all that it doesn't depend on: solvers share how trials begin, and
    all sweeps of a problem how they end.

    Attributes:
      begin: (seeds uint32 ``[3, B]``, s int32 ``[B]``[, step sizes ``[B]``]) -> `Trial`; step sizes where the
        configuration doesn't leave them to the Monte Carlo.
      descend: (settings, trial) -> (`Descent`, `Point` of ``[points, B]``).
      end: (ht_tol, trial, descent) -> `Result`.
    """

    begin: Any
    descend: Any
    end: Any

    def __call__(
        self, settings: Settings, seeds: np.ndarray, s: np.ndarray, *step_sizes: np.ndarray
    ) -> tuple[Result, Point]:
        trial = self.begin(seeds, s, *step_sizes)
        descent, curve = self.descend(settings, trial)
        return self.end(settings.ht_tol, trial, descent), curve

    def memory(self) -> tuple[int, int]:
        """Bytes of a batch while it runs, and of what it leaves, by the compiler's account.

        Raises:
          AttributeError, NotImplementedError, jax.errors.JaxRuntimeError: it gives none.
        """
        begin, descend, end = (program.memory_analysis() for program in self)
        kept = begin.argument_size_in_bytes + begin.output_size_in_bytes
        # A trial stays until it has ended.
        at_once = (
            begin.temp_size_in_bytes,
            descend.temp_size_in_bytes + descend.output_size_in_bytes,
            descend.output_size_in_bytes + end.temp_size_in_bytes + end.output_size_in_bytes,
        )
        return kept + max(at_once), descend.output_size_in_bytes + end.output_size_in_bytes


def programs(problem: Problem, solver: Solver, config: SweepConfig, batch: int, *, anew: bool = False) -> Programs:
    """The programs of a problem, a solver and a configuration; a process compiles each of them once, or ``anew``."""
    begin, descend, end = (make.__wrapped__ if anew else make for make in (_begin, _descend, _end))
    of_begin, of_descend, of_end = dependences(config)
    content = changeable(problem)
    with draws.settings(config.precision), out_of_memory_named():
        return Programs(
            begin(problem, content, of_begin, batch),
            descend(problem, content, _Method(solver), of_descend, batch),
            end(problem, content, of_end, batch),
        )


def dependences(config: SweepConfig) -> tuple[SweepConfig, SweepConfig, SweepConfig]:
    """The configuration as each program sees it: what it doesn't depend on is set to one value."""
    seen = _without(dataclasses.replace(config, curve_points=compiled_points(config)), IGNORED)
    if config.step_size is not None:
        seen = _without(dataclasses.replace(seen, step_size=GIVEN), ["n_monte"])
    if config.stop_loss is not None:
        seen = dataclasses.replace(seen, stop_loss=PAPERS_STOP_LOSS)
    return _without(seen, BEGIN_IGNORES), _without(seen, DESCEND_IGNORES), _without(seen, END_IGNORES)


def _without(config: SweepConfig, ignored: Sequence[str]) -> SweepConfig:
    """The configuration with options that don't matter at their defaults."""
    anything = SweepConfig()
    defaults: dict[str, Any] = {name: getattr(anything, name) for name in ignored}
    return dataclasses.replace(config, **defaults)


class _Method:
    """A solver that equals another if they have one program."""

    def __init__(self, solver: Solver):
        self.solver = solver

    def __eq__(self, other):
        return isinstance(other, _Method) and self.solver.program == other.solver.program

    def __hash__(self):
        return hash(self.solver.program)


# ``content`` tells a problem from what it was before somebody changed it.


@functools.lru_cache(maxsize=32)
def _begin(problem, content, config, batch):
    return _compiled(
        _lowered(lanes(functools.partial(begin, problem, config)), _drawn(problem, config, batch), problem)
    )


@functools.lru_cache(maxsize=32)
def _descend(problem, content, by, config, batch):
    trial = _trial(problem, batch)
    arguments = _settings(problem, config), trial
    lowered = _lowered(functools.partial(descend, problem, by.solver, config), arguments, problem, by.solver)
    found, _ = lowered.out_info
    if (found.theta.shape, found.theta.dtype) != (trial.theta0.shape, trial.theta0.dtype):
        got, expected = (f"{theta.dtype} {list(theta.shape[:-1])}" for theta in (found.theta, trial.theta0))
        raise InputError(
            f"solver {type(by.solver).__name__}: its theta is {got}, expected {expected}, as it began; keep its type "
            "and its shape in init and in step"
        )
    return _compiled(lowered)


@functools.lru_cache(maxsize=32)
def _end(problem, content, config, batch):
    trial = _trial(problem, batch)

    def of_batch(ht_tol, trial, descent):
        return lanes(functools.partial(end, problem, config, ht_tol))(trial, descent)

    arguments = _settings(problem, config).ht_tol, trial, _descent(problem, config, trial)
    return _compiled(_lowered(of_batch, arguments, problem))


# The shapes of what the programs take.


def _drawn(problem, config, batch):
    number = jax.ShapeDtypeStruct((batch,), problem.dtype)
    given = () if config.step_size is None else (number,)
    return jax.ShapeDtypeStruct((3, batch), np.uint32), jax.ShapeDtypeStruct((batch,), np.int32), *given


def _settings(problem, config):
    number = jax.ShapeDtypeStruct((), problem.dtype)
    return Settings(jax.ShapeDtypeStruct((max(1, config.curve_points),), np.int32), number, number)


def _trial(problem, batch):
    given = SweepConfig(step_size=GIVEN)
    with _traced(problem):
        return jax.eval_shape(lanes(functools.partial(begin, problem, given)), *_drawn(problem, given, batch))


def _descent(problem, config, trial):
    with _traced(problem):
        last = jax.eval_shape(lanes(functools.partial(observe, problem)), trial.theta0, trial)
        audit = jax.eval_shape(lambda loss: begin_audit(loss, problem), last.train_loss) if config.audit else None
    count = trial.s
    return Descent(trial.theta0, last, count, count, count, count, audit)


def _lowered(function: Callable, arguments: Sequence, *theirs: Problem | Solver) -> jax.stages.Lowered:
    with _traced(*theirs):
        return jax.jit(function).lower(*arguments)


def _compiled(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    return lowered.compile(CPU_OPTIONS if jax.default_backend() == "cpu" else None)


@contextlib.contextmanager
def _traced(problem, solver=None):
    """Raise as an `InputError` what a user's own problem or solver does wrong while it is traced."""
    named = {"problem": problem, "solver": solver}
    theirs = [f"{what} {type(its).__name__}" for what, its in named.items() if its is not None and is_own(its)]
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the functions are the user's and may raise anything
        if not theirs:
            raise
        reason = " ".join(str(error).split("\n\n")[0].split())[:300]
        raise InputError(
            f"{' or '.join(theirs)}: JAX can't trace it ({type(error).__name__}: {reason}); a problem's loss maps "
            "theta and a view to a scalar, by jax.numpy; a solver's init and step return states alike, with a field "
            "theta"
        ) from error


@contextlib.contextmanager
def out_of_memory_named():
    """Raise XLA's error as a `MemoryError` where that is what it means."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) or "memory" in str(error).lower():
            raise MemoryError(str(error)) from error
        raise

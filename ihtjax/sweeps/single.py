"""One trial by its seeds: its inputs, and what became of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ihtjax.errors import SEED, InputError, an, check, whole_number
from ihtjax.exact.local import curvature_on_support
from ihtjax.problems.supervised import Supervised
from ihtjax.sweeps.audit import VIOLATIONS, structural
from ihtjax.sweeps.certified import certificates_of
from ihtjax.sweeps.config import CERTIFIED, PAPERS_STOP_LOSS, SweepConfig
from ihtjax.sweeps.constraints import constraint_of
from ihtjax.sweeps.engine import make_problem, one_solver, resolved, run_block
from ihtjax.sweeps.inputs import inputs, splits
from ihtjax.sweeps.memory import fitting_engine
from ihtjax.sweeps.trial import NEVER, Point, Result, curve_steps
from ihtjax.sweeps.words import metric, unit
from ihtjax.text import printable


class SingleTrial(NamedTuple):
    """One trial's results.

    Attributes:
      s: sparsity level.
      seeds: the triple (data, init, support).
      result: a `Result` of NumPy scalars and ``[n]`` vectors.
      steps: the points of its curve, int32 ``[points]``.
      curve: a `Point` of arrays ``[points]``.
      names: n parameter names.
      config: with which it was run, its loss filled in.
      structural: what ``result.structure`` holds, each with its meaning.
    """

    s: int
    seeds: tuple[int, int, int]
    result: Result
    steps: np.ndarray
    curve: Point
    names: Sequence[str]
    config: SweepConfig
    structural: Mapping[str, str]


def run_trial(
    config: SweepConfig, s: int, data_seed: int, init_seed: int, support_seed: int, batch: int | None = None
) -> SingleTrial:
    """Run one trial as a sweep runs it; with the sweep's batch it reproduces the row to the last bit.

    Args:
      config: of the sweep.
      s: sparsity level.
      data_seed, init_seed, support_seed: the triple, as in the columns of those names.
      batch: lanes per call; if None, what suits the device and its memory, which is a sweep's default too.

    Raises:
      InputError: s, a seed or batch is out of range, or the data can't be used.
    """
    problem, s, seeds = _check(config, s, data_seed, init_seed, support_seed)
    config = resolved(config, problem)
    engine = fitting_engine(problem, one_solver(config), config, batch)
    result, curve = jax.tree.map(lambda a: a[..., 0], run_block(engine, seeds, s))
    at = curve_steps(config.steps, config.curve_points)
    seeds, its = (data_seed, init_seed, support_seed), engine.problem
    return SingleTrial(s, seeds, result, at, curve, its.names, config, structural(its, config))


def trial_inputs(config: SweepConfig, s: int, data_seed: int, init_seed: int, support_seed: int) -> dict[str, Any]:
    """What a trial starts from, so that anything else can be run on the same numbers.

    Args:
      config: of the sweep; its data, init, standardize, precision, always and per matter here.
      s: sparsity level.
      data_seed, init_seed, support_seed: the triple, as in the columns of those names.

    Returns:
      A mapping of NumPy arrays: ``X_train [m_train, d]`` and ``X_test [m_test, d]``, standardised and in the table's
      row order, their classes or numbers ``y_train`` and ``y_test``, and ``theta0 [n]`` with s nonzero entries that
      count.

    Raises:
      InputError: s or a seed is out of range, or the data can't be used.

    Example:
      >>> from ihtjax import SweepConfig
      >>> trial_inputs(SweepConfig(), s=7, data_seed=42, init_seed=21, support_seed=84)["X_train"].shape
      (120, 4)
    """
    problem, s, seeds = _check(config, s, data_seed, init_seed, support_seed)
    if not isinstance(problem, Supervised):
        raise InputError(f"problem: {config.problem} has no rows of a table; call its split, draw and loss yourself")
    (train, test), theta0 = inputs(problem, constraint_of(problem, config), seeds[:, 0], s)
    X_train, y_train = problem.rows(train)
    X_test, y_test = problem.rows(test)
    return {"X_train": X_train, "y_train": y_train, "X_test": X_test, "y_test": y_test, "theta0": theta0}


def describe(ran: SingleTrial, config: SweepConfig) -> str:
    """Start, end and certificate of a trial as text."""
    r, c = ran.result, ran.result.certificate
    estimated = f" = 1 / L-hat_2s, L-hat_2s = {r.lipschitz_estimate:.6g}" if config.step_size is None else " (given)"
    if config.step_size == CERTIFIED:
        estimated = ", at most 1 / L_2s for certain"
    width = max(map(len, ("parameter", *ran.names)))
    lines = [
        "s = {}, data seed {}, init seed {}, support seed {}".format(ran.s, *ran.seeds),
        f"step size {r.step_size:.6g}{estimated}",
        "",
        f"{'parameter':>{width}}  {'start':>12}  {'end':>12}  {'gradient':>12}",
    ]
    for name, start, end, slope in zip(ran.names, r.theta0, r.theta, r.gradient):
        numbers = [f"{v:#12.7g}" if v else f"{'.':>12}" for v in (start, end)]
        lines.append(f"{name:>{width}}  {numbers[0]}  {numbers[1]}  {slope:z12.3e}")
    reached = "never" if r.steps_to_stop_loss == NEVER else f"at step {r.steps_to_stop_loss:,}"
    lines += [
        "",
        f"training loss {r.train_loss:.6g}{unit(ran.config)}{_measured(r.train_metrics)}",
        *(
            [f"test loss     {r.test_loss:.6g}{unit(ran.config)}{_measured(r.test_metrics)}"]
            if np.isfinite(r.test_loss)
            else []
        ),
        f"{r.steps_run:,} steps; training loss at most {config.stop_loss or PAPERS_STOP_LOSS:g}: {reached}",
        f"support changed {r.n_support_changes:,} times, last at step {r.last_support_change:,}",
        *_describe_audit(r, ran.config),
        *(f"{name}: {_as_word(r.structure[name])} ({meaning})" for name, meaning in ran.structural.items()),
        "",
        f"largest |gradient| on the support   {c.grad_on_support:.3e}  ({_compare(c.grad_on_support, config.ht_tol)})",
        f"largest |gradient| off the support  {c.grad_off_support:.3e}",
        f"smallest |theta| on the support     {c.min_on_support:.3e}  ({_nonzero(ran)})",
        f"margin of (8)                       {c.ht_margin:z.3e}  ({'holds' if c.satisfies_eq8 else 'does not hold'})",
        *(_describe_curvature(ran) if r.finite else []),
        f"HT-stable at ht_tol = {config.ht_tol:g}: {'yes' if c.ht_stable else 'no'}" if r.finite else "diverged",
    ]
    return "\n".join(lines)


def _as_word(value):
    return f"{value:g}" if value.dtype != bool else "yes" if value else "no"


def _nonzero(ran):
    """How many parameters are nonzero, of how many that may be."""
    always = len(ran.config.always or ())
    most = min(ran.s + always, len(ran.names))
    return f"{ran.result.certificate.n_nonzero} of {most} nonzero" + f", {always} always in" * (always > 0)


def _measured(metrics):
    return "".join(f", {metric(name, value)}" for name, value in metrics.items())


def _describe_audit(r, config):
    if r.audit is None:
        return []
    steps = r.steps_run - r.last_support_change
    return [
        f"largest rise of the loss over one step {r.audit.largest_rise:.1e}{unit(config)}, "
        f"more than rounding at {r.audit.n_rises:,} steps",
        *_describe_descent(r),
        f"the last {steps:,} steps are plain gradient descent on a fixed support",
    ]


def _describe_descent(r):
    """Of the steps taken alone: what no bound of the curvature certifies is not called certified."""
    if VIOLATIONS not in r.structure:
        return []
    held = r.finite and r.structure[VIOLATIONS] == 0
    return [
        f"local-descent-verified: {'yes' if held else 'no'} (f fell as (4) with L = 1 / gamma has it at every step)"
    ]


def _describe_curvature(ran):
    """Whether it ended at a strict local minimiser, where no bound of the curvature says it."""
    config = ran.config
    if certificates_of(make_problem(config)) is not None:
        return []
    try:
        c = _curvature(ran)
    except Exception as error:  # a user's loss may have no second derivatives, and may raise anything
        if config.problem is None and not isinstance(error, InputError):
            raise
        return [f"curvature on the support not computed: {printable(str(error).splitlines()[0])}"]
    minimiser = "yes, up to rounding" if c.is_minimiser else f"not yet, one is {c.distance:.1e} away (largest entry)"
    if np.isinf(c.distance):
        minimiser = "no, and Newton's method ends in none from there"
    return [
        f"least eigenvalue on the support     {c.least:z.3e}  (of the Hessian in float64; largest {c.largest:z.3e})",
        f"strict local minimiser on its support: {minimiser}",
    ]


def _curvature(ran):
    """The curvature where a trial ended, of its problem in float64; one of the user's is of the type that it is of."""
    double = ran.config if ran.config.problem else dataclasses.replace(ran.config, precision="float64")
    problem = make_problem(double)
    train, _ = splits(problem, np.uint32(ran.seeds[:1]))
    train = jax.tree.map(lambda of_each: of_each[0], train)
    return curvature_on_support(problem, ran.result.theta, train, ran.config.precision)


def _compare(value, ht_tol):
    return f"{'at most' if value <= ht_tol else 'more than'} ht_tol = {ht_tol:g}"


def _check(config, s, *seeds):
    check("config", config, an(SweepConfig))
    problem = make_problem(config)
    s = check("s", s, whole_number(1, problem.n))
    counted = constraint_of(problem, config).n_counted(problem.n)
    if counted < s < problem.n:
        wanted = f"a whole number from 1 to {counted}, as many as s counts, or {problem.n}, the dense network"
        raise InputError(f"s: got {s}, expected {wanted}")
    names = ("data_seed", "init_seed", "support_seed")
    seeds = [check(name, seed, SEED) for name, seed in zip(names, seeds)]
    return problem, s, np.array(seeds, np.uint32)[:, None]

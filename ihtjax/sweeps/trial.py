"""One trial from its seeds to its results: how it begins, descends, with a whole batch in one scan, and ends."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ihtjax.problems.base import Problem
from ihtjax.solvers import draws
from ihtjax.solvers.base import Objective, Solver
from ihtjax.solvers.certificate import Certificate, certify
from ihtjax.solvers.lipschitz import estimate_lipschitz
from ihtjax.sweeps.audit import VIOLATIONS, Audit, begin_audit, watch
from ihtjax.sweeps.config import PAPERS_STOP_LOSS, SweepConfig
from ihtjax.sweeps.constraints import constraint_of
from ihtjax.sweeps.inputs import initial, split

# How often the training loss is held against the stopping loss; at every step it would cost a sixth of the time.
CHECK_EVERY = 10
# Up to so many points of a curve a program serves any number of steps.
SHARED_POINTS = 256
NEVER = -1

# Trials lie on the minor axis of every array: that keeps elementwise loops on full vectors.
lanes = functools.partial(jax.vmap, in_axes=-1, out_axes=-1)


class Trial(NamedTuple):
    """What stays fixed while a trial runs.

    Attributes:
      s: sparsity level, int32.
      train, test: the problem's views of its training and test rows; ``test`` may be None.
      theta0: initial parameters ``[n]``, nonzero on a random support of the constraint set, s of them by default.
      lipschitz_estimate: L-hat_2s; NaN under a given step size.
      step_size: gamma.
      key: for what the solver draws.
    """

    s: jax.Array
    train: Any
    test: Any
    theta0: jax.Array
    lipschitz_estimate: jax.Array
    step_size: jax.Array
    key: jax.Array


class State(NamedTuple):
    """What steps and checks change.

    Attributes:
      solver: the solver's own state, whose ``theta`` is the iterate ``[n]``.
      n_support_changes: steps whose support differs from the step before, int32.
      last_support_change: the last such step, counted from 1; 0 if there was none.
      steps_to_stop_loss: the first step looked at with training loss at most the stopping loss; NEVER if none yet.
      audit: what the loss did; None unless the configuration asks for it.
    """

    solver: Any
    n_support_changes: jax.Array
    last_support_change: jax.Array
    steps_to_stop_loss: jax.Array
    audit: Audit | None = None

    @property
    def theta(self) -> jax.Array:
        return self.solver.theta


class Descent(NamedTuple):
    """Where a trial's steps led.

    Attributes:
      theta: the last iterate ``[n]``.
      last: the curve's last point.
      steps_run: steps taken, int32; fewer than asked for where the stopping loss ended the trial.
      n_support_changes, last_support_change, steps_to_stop_loss, audit: as of `State`.
    """

    theta: jax.Array
    last: "Point"
    steps_run: jax.Array
    n_support_changes: jax.Array
    last_support_change: jax.Array
    steps_to_stop_loss: jax.Array
    audit: Audit | None


class Settings(NamedTuple):
    """What a compiled program takes as data, so that it serves every value.

    Attributes:
      points: steps at which the curve has its points, int32, the last repeated so that there are `compiled_points`.
      stop_loss: the training loss that ends a trial, or that is only looked for.
      ht_tol: the tolerance of HT-stability.
    """

    points: Any
    stop_loss: Any
    ht_tol: Any


def compiled_points(config: SweepConfig) -> int:
    """How many points a compiled program looks at: all that are asked for, or so many that repeating one costs."""
    return min(config.curve_points, max(SHARED_POINTS, config.steps + 1))


def settings_of(config: SweepConfig, dtype: np.dtype) -> Settings:
    """The settings of a configuration, numbers in the problem's type."""
    points = curve_steps(config.steps, config.curve_points)
    points = np.pad(points, (0, max(1, compiled_points(config)) - len(points)), mode="edge")
    stop_loss = PAPERS_STOP_LOSS if config.stop_loss is None else config.stop_loss
    return Settings(points, np.asarray(stop_loss, dtype), np.asarray(config.ht_tol, dtype))


class Point(NamedTuple):
    """A point of a trial's curve: losses, NaN where there are no test rows, and the size of the support."""

    train_loss: jax.Array
    test_loss: jax.Array
    n_nonzero: jax.Array


class Result(NamedTuple):
    """Where a trial ended; the names are columns of the `trials` table, which the README explains.

    ``train_metrics`` and ``test_metrics`` hold what the problem measures, ``structure`` what it says of theta, by name,
    and `VIOLATIONS` where they are counted.
    Scalars but for ``theta``, ``theta0`` and ``gradient`` (at ``theta``), all ``[n]``. ``finite`` is false where the
    trial diverged; ``steps_to_stop_loss`` is NEVER where it wasn't reached.
    """

    lipschitz_estimate: jax.Array
    step_size: jax.Array
    train_loss: jax.Array
    test_loss: jax.Array
    train_metrics: dict[str, jax.Array]
    test_metrics: dict[str, jax.Array]
    steps_run: jax.Array
    steps_to_stop_loss: jax.Array
    n_support_changes: jax.Array
    last_support_change: jax.Array
    certificate: Certificate
    theta: jax.Array
    theta0: jax.Array
    gradient: jax.Array
    finite: jax.Array
    structure: dict[str, jax.Array]
    audit: Audit | None = None


def begin(
    problem: Problem, config: SweepConfig, seeds: jax.Array, s: jax.Array, step_size: jax.Array | None = None
) -> Trial:
    """Draw all that a trial draws, from its seed triple uint32 ``[3]`` and its sparsity level alone.

    ``step_size`` is gamma where the configuration doesn't leave it to the Monte Carlo.
    """
    data_seed, init_seed, support_seed = seeds
    train, test = split(problem, data_seed)
    constraint = constraint_of(problem, config)
    theta0 = initial(problem, constraint, init_seed, support_seed, s)
    if step_size is None:
        lipschitz = estimate_lipschitz(
            draws.monte_carlo_stream(seeds, s),
            lambda theta: problem.gradient(theta, train),
            problem.draw,
            problem.n,
            s,
            config.n_monte,
            constraint,
        )
        step_size = 1 / lipschitz
    else:
        lipschitz = jnp.asarray(jnp.nan, problem.dtype)
    return Trial(s, train, test, theta0, lipschitz, step_size, draws.solver_stream(seeds, s))


def objective_of(problem: Problem, config: SweepConfig, trial: Trial) -> Objective:
    """What the solver works on: the problem on the trial's training rows, in the configuration's constraint set."""
    return Objective(
        lambda theta: problem.loss(theta, trial.train),
        lambda theta: problem.gradient(theta, trial.train),
        trial.step_size,
        constraint_of(problem, config),
    )


def step(problem: Problem, solver: Solver, config: SweepConfig, k: jax.Array, state: State, trial: Trial) -> State:
    """Step k + 1 of one trial, with its support watched."""
    objective = objective_of(problem, config, trial)
    new = solver.step(objective, state.solver, trial.s, k)
    if config.stop_loss is not None:
        runs = state.steps_to_stop_loss == NEVER
        new = jax.tree.map(lambda after, before: jnp.where(runs, after, before), new, state.solver)
    changed = jnp.any((new.theta != 0) != (state.theta != 0))
    return state._replace(
        solver=new,
        n_support_changes=state.n_support_changes + changed,
        last_support_change=jnp.where(changed, k + 1, state.last_support_change),
        audit=state.audit and watch(objective, state.audit, state.theta, new.theta),
    )


def check(problem: Problem, stop_loss: jax.Array, k: jax.Array, state: State, trial: Trial) -> State:
    """Record k, if it is the first multiple of 10 whose training loss is at most the stopping loss.

    The start isn't looked at: the first such step is 10.
    """
    reached = problem.loss(state.theta, trial.train) <= stop_loss
    first = reached & (state.steps_to_stop_loss == NEVER) & (k % CHECK_EVERY == 0)
    return state._replace(steps_to_stop_loss=jnp.where(first, k, state.steps_to_stop_loss))


def observe(problem: Problem, theta: jax.Array, trial: Trial) -> Point:
    """The point of a trial's curve at an iterate."""
    train_loss = problem.loss(theta, trial.train)
    return Point(
        train_loss,
        jnp.full_like(train_loss, jnp.nan) if trial.test is None else problem.loss(theta, trial.test),
        jnp.sum((theta != 0).astype(jnp.int32)),
    )


def descend(
    problem: Problem, solver: Solver, config: SweepConfig, settings: Settings, trial: Trial
) -> tuple[Descent, Point]:
    """Run a batch of trials, lanes last, in one scan over the points of their curves, ``[points, B]`` each."""
    never = jnp.full(trial.s.shape, NEVER, jnp.int32)
    zero = jnp.zeros(trial.s.shape, jnp.int32)
    first = lanes(lambda trial: solver.init(objective_of(problem, config, trial), trial.theta0, trial.s, trial.key))(
        trial
    )
    audit = begin_audit(lanes(problem.loss)(trial.theta0, trial.train), problem) if config.audit else None
    state = State(first, zero, zero, never, audit)
    step_k, check_k = (
        jax.vmap(f, in_axes=(None, -1, -1), out_axes=-1)
        for f in (
            functools.partial(step, problem, solver, config),
            functools.partial(check, problem, settings.stop_loss),
        )
    )

    def to_next_check(k, state, stop):
        k_next = jnp.minimum((k // CHECK_EVERY + 1) * CHECK_EVERY, stop)
        state = lax.fori_loop(k, k_next, lambda k, state: step_k(k, state, trial), state)
        return k_next, check_k(k_next, state, trial)

    def to_point(carry, stop):
        k, state = lax.while_loop(lambda carry: carry[0] < stop, lambda carry: to_next_check(*carry, stop), carry)
        return (k, state), lanes(functools.partial(observe, problem))(state.theta, trial)

    (_, state), curve = lax.scan(to_point, (jnp.int32(0), state), settings.points)
    stopped = (config.stop_loss is not None) & (state.steps_to_stop_loss != NEVER)
    descent = Descent(
        state.theta,
        jax.tree.map(lambda a: a[-1], curve),
        jnp.where(stopped, state.steps_to_stop_loss, settings.points[-1]),
        state.n_support_changes,
        state.last_support_change,
        state.steps_to_stop_loss,
        state.audit,
    )
    return descent, curve


def end(problem: Problem, config: SweepConfig, ht_tol: jax.Array, trial: Trial, descent: Descent) -> Result:
    """What there is to say of a trial after its last step."""
    theta, audit, last = descent.theta, descent.audit, descent.last
    gradient = problem.gradient(theta, trial.train)
    structure = problem.structure(theta)
    if audit and audit.n_violations is not None:
        structure = structure | {VIOLATIONS: audit.n_violations}
    finite = jnp.all(jnp.isfinite(theta)) & jnp.all(jnp.isfinite(gradient)) & jnp.isfinite(last.train_loss)
    constraint = constraint_of(problem, config)
    certificate = certify(theta, gradient, trial.step_size, trial.s, ht_tol, constraint)
    # Where the loss overflows and its gradient does not, the trial diverged all the same.
    certificate = certificate._replace(
        satisfies_eq8=certificate.satisfies_eq8 & finite, ht_stable=certificate.ht_stable & finite
    )
    return Result(
        trial.lipschitz_estimate,
        trial.step_size,
        last.train_loss,
        last.test_loss,
        problem.measure(theta, trial.train),
        {} if trial.test is None else problem.measure(theta, trial.test),
        descent.steps_run,
        descent.steps_to_stop_loss,
        descent.n_support_changes,
        descent.last_support_change,
        certificate,
        theta,
        trial.theta0,
        gradient,
        finite,
        structure,
        audit,
    )


def curve_steps(steps: int, points: int) -> np.ndarray:
    """Step 0 and log-spaced steps up to the last, ``points`` in all or every step if there are fewer; int32.

    Where rounding would repeat a step, the next one is taken. With no points, only the last step.
    """
    if points == 0:
        return np.array([steps], np.int32)
    points = min(points, steps + 1)
    at = np.rint(np.geomspace(steps, 1, points - 1)[::-1]).astype(np.int64)
    at = np.maximum(at, np.arange(1, points))
    return np.concatenate([[0], np.maximum.accumulate(at)]).astype(np.int32)

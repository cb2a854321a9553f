"""What the loss did at each step of a trial; asked for by ``audit``."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ihtjax.problems.base import Problem
from ihtjax.solvers.base import Objective
from ihtjax.sweeps.certified import certificates_of
from ihtjax.sweeps.config import SweepConfig

# The column of an audited trial whose problem has no certified bound of its curvature, with its meaning.
VIOLATIONS = "n_descent_violations"
DESCENT = "steps after which f exceeds f + g'd + d'd / (2 gamma) of before, d the step, by more than rounding"


class Audit(NamedTuple):
    """The loss after the last step, and what became of it along the way.

    Attributes:
      loss: f(theta), nats.
      largest_rise: largest rise of f over one step so far; 0 if it never rose.
      n_rises: steps over which f rose by more than rounding, int32.
      n_violations: steps that broke the descent inequality by more than rounding (see `descends`), int32; None where
        the curvature has a bound, which says for all pairs of points what this says of those visited.
    """

    loss: jax.Array
    largest_rise: jax.Array
    n_rises: jax.Array
    n_violations: jax.Array | None = None


def counts_violations(problem: Problem) -> bool:
    """Whether an audit counts steps that break the descent inequality: where no bound says for all pairs of points."""
    return certificates_of(problem) is None


def structural(problem: Problem, config: SweepConfig) -> Mapping[str, str]:
    """What ``Result.structure`` holds, each with its meaning."""
    counted = config.audit and counts_violations(problem)
    return {**problem.structural, **({VIOLATIONS: DESCENT} if counted else {})}


def begin_audit(loss: jax.Array, problem: Problem) -> Audit:
    """The audit of a batch of trials before their first step, from their losses there ``[B]``."""
    zero = jnp.zeros(loss.shape, jnp.int32)
    return Audit(loss, jnp.zeros_like(loss), zero, zero if counts_violations(problem) else None)


def watch(objective: Objective, audit: Audit, before: jax.Array, after: jax.Array) -> Audit:
    """The audit after one more step, from one iterate to the next."""
    loss = objective.loss(after)
    rise = loss - audit.loss
    by_more = rise > rounding_floor(audit.loss)
    violations = audit.n_violations
    if violations is not None:
        g, d = objective.gradient(before), after - before
        violations += ~descends(audit.loss, loss, g, d, objective.step_size)
    return Audit(loss, jnp.maximum(audit.largest_rise, rise), audit.n_rises + by_more.astype(jnp.int32), violations)


def descends(before: jax.Array, after: jax.Array, g: jax.Array, d: jax.Array, step_size: jax.Array) -> jax.Array:
    """Whether f(theta + d) <= f(theta) + g'd + d'd / (2 gamma), up to rounding: (4) with L = 1 / gamma, of one pair.

    Rounding is that of a sum as large as the sizes of its terms. Where a term isn't finite, it doesn't hold.
    """
    linear, square = g * d, jnp.sum(d * d) / (2 * step_size)
    bound = before + jnp.sum(linear) + square
    floor = rounding_floor(jnp.abs(before) + jnp.sum(jnp.abs(linear)) + square)
    return jnp.isfinite(after) & (after <= bound + floor)


def rounding_floor(loss: jax.Array) -> jax.Array:
    """A rise of the loss that rounding can explain: 16 roundings of max(1, f), 1.9e-6 in float32."""
    return 16 * jnp.finfo(loss.dtype).eps * jnp.maximum(1, loss)

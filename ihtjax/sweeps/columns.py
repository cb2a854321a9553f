"""The columns of the `trials` and `curves` tables, from the arrays of a finished unit."""

import jax
import numpy as np
import pyarrow as pa

from ihtjax.errors import InputError, shown
from ihtjax.problems.base import Problem
from ihtjax.solvers import draws
from ihtjax.sweeps.audit import VIOLATIONS, structural
from ihtjax.sweeps.config import VECTORS, SweepConfig
from ihtjax.sweeps.store.records import Fit
from ihtjax.sweeps.store.schemas import curves_schema, trials_schema
from ihtjax.sweeps.trial import NEVER, Point, Result


def trials_table(
    unit: Fit,
    config: SweepConfig,
    seeds: np.ndarray,
    result: Result,
    curve: Point,
    dense_loss: np.ndarray | None,
    config_hash: str,
) -> pa.Table:
    """One row a trial.

    Args:
      unit: which trials.
      config: what was asked for; what it leaves out is null, or no column where that is parameters.
      seeds: their triples, uint32 ``[3, N]``; `N` denotes the number of trials in the unit.
      result: arrays with N as the last axis.
      curve: arrays ``[points, N]``.
      dense_loss: final training loss ``[N]`` of the dense baseline with the same triples; None without a baseline.
      config_hash: what goes into the column of that name.
    """
    N = unit.stop - unit.start
    real, vectors = pa.from_numpy_dtype(result.train_loss.dtype), VECTORS[config.theta]
    n = len(result.theta) if vectors else 0
    certificate = result.certificate
    stop = result.steps_to_stop_loss
    nothing = np.full(N, np.nan, result.train_loss.dtype)  # what there is no test row for
    columns = {
        "trial": pa.array(np.arange(unit.start, unit.stop, dtype=np.int32)),
        "s": pa.array(np.full(N, unit.s, np.int32)),
        "method": pa.array([unit.method] * N, pa.string()),
        **{f"{what}_seed": pa.array(row.astype(np.int64)) for what, row in zip(("data", "init", "support"), seeds)},
        "lipschitz_estimate": pa.nulls(N, real) if config.step_size else pa.array(result.lipschitz_estimate),
        **{name: pa.array(getattr(result, name)) for name in ("step_size", "train_loss")},
        "test_loss": _known(result.test_loss),
        **{f"train_{name}": _known(value) for name, value in result.train_metrics.items()},
        **{f"test_{name}": _known(result.test_metrics.get(name, nothing)) for name in result.train_metrics},
        "epsilon": pa.nulls(N, real) if dense_loss is None else pa.array(_difference(result.train_loss, dense_loss)),
        "steps_run": pa.array(result.steps_run.astype(np.int32)),
        "steps_to_stop_loss": pa.array(stop, mask=stop == NEVER),
        "n_support_changes": pa.array(result.n_support_changes),
        "last_support_change": pa.array(result.last_support_change),
        "max_loss_increase": pa.array(largest_rise(curve.train_loss)) if config.curve_points else pa.nulls(N, real),
        "n_nonzero": pa.array(certificate.n_nonzero.astype(np.int32)),
        **{
            name: pa.array(getattr(certificate, name))
            for name in (
                "grad_on_support",
                "grad_off_support",
                "min_on_support",
                "ht_margin",
                "satisfies_eq8",
                "ht_stable",
            )
        },
        **{name: _vectors(getattr(result, name)) for name in vectors},
        "status": pa.array(np.where(result.finite, "ok", "diverged"), pa.string()),
        "config_hash": pa.array([config_hash] * N, pa.string()),
    }
    if result.audit is not None:
        columns["largest_step_rise"] = pa.array(result.audit.largest_rise)
        columns["n_rises"] = pa.array(result.audit.n_rises)
        columns["fixed_support_steps"] = pa.array((result.steps_run - result.last_support_change).astype(np.int32))
    columns |= {name: pa.array(value) for name, value in result.structure.items()}
    structure = tuple((name, str(value.dtype)) for name, value in sorted(result.structure.items()))
    schema = trials_schema(real, n, config.audit, tuple(result.train_metrics), structure, vectors)
    return pa.table(columns, schema=schema)


def structure_record(problem: Problem, config: SweepConfig) -> dict[str, list[str]]:
    """The type and the meaning of each column that ``Result.structure`` makes, by name.

    Raises:
      InputError: it returns something else than the problem declares, or a column that there is already.
    """
    with draws.settings(str(problem.dtype)):
        found = jax.eval_shape(problem.structure, jax.ShapeDtypeStruct((problem.n,), problem.dtype))
    if found.keys() != problem.structural.keys():
        declared, its = (", ".join(map(repr, names)) or "nothing" for names in (problem.structural, found))
        raise InputError(f"problem: structure returns {its}, expected what structural declares, {declared}")
    there = trials_schema(pa.float32(), problem.n, True, tuple(problem.metrics), (), VECTORS["all"]).names
    there = [*there, VIOLATIONS]
    for name, value in found.items():
        if value.shape or str(value.dtype) not in ("bool", "int32", str(problem.dtype)) or name in there:
            wanted = f"a scalar of bool, int32 or {problem.dtype} under a name that is no column"
            raise InputError(f"problem: structure returns {shown(value)} as {name!r}, expected {wanted}")
    kinds = {VIOLATIONS: "int32", **{name: str(value.dtype) for name, value in found.items()}}
    return {name: [kinds[name], meaning] for name, meaning in structural(problem, config).items()}


def curves_table(unit: Fit, steps: np.ndarray, curve: Point) -> pa.Table:
    """One row for each trial and point of its curve, a trial's points together.

    Args:
      unit: which trials.
      steps: the points, int32 ``[points]``.
      curve: arrays ``[points, N]``.
    """
    N = unit.stop - unit.start
    points = len(steps)
    columns = {
        "trial": pa.array(np.repeat(np.arange(unit.start, unit.stop, dtype=np.int32), points)),
        "s": pa.array(np.full(N * points, unit.s, np.int32)),
        "method": pa.DictionaryArray.from_arrays(np.zeros(N * points, np.int8), [unit.method]).cast(pa.string()),
        "step": pa.array(np.tile(steps, N)),
        "train_loss": pa.array(curve.train_loss.T.ravel()),
        "test_loss": _known(curve.test_loss.T.ravel()),
        "n_nonzero": pa.array(curve.n_nonzero.T.ravel().astype(np.int32)),
    }
    return pa.table(columns, schema=curves_schema(pa.from_numpy_dtype(curve.train_loss.dtype)))


def _known(values: np.ndarray | jax.Array) -> pa.Array:
    """The values, null where they are NaN because there is nothing to take them of."""
    values = np.asarray(values)
    return pa.array(values, mask=np.isnan(values)) if np.isnan(values).all() else pa.array(values)


def largest_rise(losses: np.ndarray | jax.Array) -> np.ndarray:
    """Largest rise between neighbouring points of ``[points, N]`` losses; 0 where the loss never rises."""
    return np.maximum(_difference(losses[1:], losses[:-1]).max(axis=0), 0)


def _difference(after, before):
    with np.errstate(invalid="ignore"):  # a diverged trial's losses may be infinite
        return after - before


def _vectors(theta: np.ndarray | jax.Array) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(theta.T.ravel()), theta.shape[0])

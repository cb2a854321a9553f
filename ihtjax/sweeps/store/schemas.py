"""What the tables of a run hold: their columns with types, and which rows a unit has."""

import functools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ihtjax.sweeps.config import VECTORS
from ihtjax.sweeps.store.records import Certify, Damaged, Unit
from ihtjax.sweeps.store.sealed import arrow_reader, configuration_of, has_seal, record_in

INT32, INT64, FLOAT64, TEXT, BOOLEAN = (
    pa.int32(),
    pa.int64(),
    pa.float64(),
    pa.string(),
    pa.bool_(),
)
# Counts of parameters, int16 where earlier versions wrote them.
COUNTS = ("s", "n_nonzero")


def schema_of(table: str, stored: dict[str, Any]) -> pa.Schema:
    """The columns of a run's table.

    Args:
      table: "trials", "curves" or "certificates".
      stored: the configuration's record.
    """
    config, n = stored["config"], len(stored["parameters"])
    if table == "certificates":
        return certificates_schema(n)
    real = pa.from_numpy_dtype(config["precision"])
    if table == "curves":
        return curves_schema(real)
    structure = tuple(sorted((name, kind) for name, (kind, _) in stored.get("structure", {}).items()))
    measured, vectors = tuple(stored["metrics"]), VECTORS[config["theta"]]
    return trials_schema(real, n, config["audit"], measured, structure, vectors)


@functools.lru_cache(maxsize=8)
def trials_schema(
    real: pa.DataType,
    n: int,
    audit: bool,
    metrics: tuple[str, ...],
    structure: tuple[tuple[str, str], ...],
    vectors: tuple[str, ...],
) -> pa.Schema:
    """Of ``trials``: a row a trial, with what its problem measures and says of its parameters, by its type.

    ``vectors`` are those that are stored, of n parameters.
    """
    types = {
        "trial": INT32,
        "s": INT32,
        "method": TEXT,
        **dict.fromkeys(("data_seed", "init_seed", "support_seed"), INT64),
        **dict.fromkeys(("lipschitz_estimate", "step_size", "train_loss", "test_loss"), real),
        **dict.fromkeys((*(f"{part}_{name}" for part in ("train", "test") for name in metrics), "epsilon"), real),
        **dict.fromkeys(("steps_run", "steps_to_stop_loss", "n_support_changes", "last_support_change"), INT32),
        "max_loss_increase": real,
        "n_nonzero": INT32,
        **dict.fromkeys(("grad_on_support", "grad_off_support", "min_on_support", "ht_margin"), real),
        **dict.fromkeys(("satisfies_eq8", "ht_stable"), BOOLEAN),
        **dict.fromkeys(vectors, pa.list_(real, n)),
        **dict.fromkeys(("status", "config_hash"), TEXT),
    }
    if audit:
        types |= {"largest_step_rise": real, "n_rises": INT32, "fixed_support_steps": INT32}
    types |= {name: pa.from_numpy_dtype(kind) for name, kind in structure}
    return _with_pandas_types(types)


@functools.lru_cache(maxsize=8)
def curves_schema(real: pa.DataType) -> pa.Schema:
    """Of ``curves``: a row for each trial and point of its curve."""
    types = {"trial": INT32, "s": INT32, "method": TEXT, "step": INT32}
    return _with_pandas_types(types | {"train_loss": real, "test_loss": real, "n_nonzero": INT32})


@functools.lru_cache(maxsize=8)
def certificates_schema(n: int) -> pa.Schema:
    """Of ``certificates``: a row a trial, of n parameters."""
    bounds = ("rss_lower", "rss_upper", "lipschitz_lower", "lipschitz_upper")
    types = {
        "trial": INT32,
        "s": INT32,
        "method": TEXT,
        "data_seed": INT64,
        **dict.fromkeys(bounds, FLOAT64),
        "bounds_exact": BOOLEAN,
        "step_status": TEXT,
        **dict.fromkeys(("loss", "restricted_infimum", "optimization_gap"), FLOAT64),
        **dict.fromkeys(("existence", "minimizer_on_support"), TEXT),
        **dict.fromkeys(("infimum", "support_gap", "gap", "infima_within"), FLOAT64),
        "best_support": BOOLEAN,
        "best_existence": TEXT,
        **dict.fromkeys(("n_best_supports", "n_best_supports_at_most"), INT64),
        "best_theta": pa.list_(FLOAT64, n),
    }
    return pa.schema(types.items())


def _with_pandas_types(types: dict[str, pa.DataType]) -> pa.Schema:
    """Note that integers with nulls are pandas' Int32, so that reading doesn't turn them into floats."""
    schema = pa.schema(types.items())
    frame = schema.empty_table().to_pandas()
    if "steps_to_stop_loss" in frame:
        frame["steps_to_stop_loss"] = pd.array([], "Int32")
    return schema.with_metadata(pa.Schema.from_pandas(frame, preserve_index=False).metadata)


def with_wide_counts(schema: pa.Schema) -> pa.Schema:
    """The columns of a file, of whatever version, with counts of parameters as wide as they are written now."""
    for i, field in enumerate(schema):
        if field.name in COUNTS and field.type == pa.int16():
            schema = schema.set(i, field.with_type(INT32))
    return schema


def check_content(data: bytes, unit: Unit, table: str, stored: dict[str, Any]) -> None:
    """Hold a file against its unit: the table's columns, and a row for each of its trials (and points), in order.

    A checksum doesn't tell that: a file may be sealed and say something else than its name.

    Args:
      data: the file's bytes.
      unit: whose file it is.
      table: "trials", "curves" or "certificates".
      stored: the configuration's record.

    Raises:
      Damaged: it isn't so.
    """
    expected, source = schema_of(table, stored), arrow_reader(data)
    keys = [name for name in ("trial", "s", "method", "step") if name in expected.names]
    try:
        schema = with_wide_counts(pq.read_schema(source))
        source.seek(0)
        if table == "certificates":  # other versions know other columns
            schema = pa.schema([field for field in schema if field.name in expected.names])
            expected = pa.schema([field for field in expected if field.name in {*keys, *schema.names}])
        if not schema.equals(expected):
            raise Damaged(f"not {table}, its columns or their types differ")
        texts = [field.name for field in expected if field.type == TEXT and field.name not in keys]
        rows = pq.read_table(source, columns=[*keys, *texts], page_checksum_verification=True)
        rows.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise error if isinstance(error, Damaged) else Damaged(f"no Parquet file that can be read: {error}") from error
    if not _fits(rows, unit, table, stored):
        raise Damaged(f"holds other rows than those of {unit}")


def configurations_in(data: bytes) -> set[str]:
    """The hashes of the configurations that a file is of: that in its record, or those in its rows if it has no seal.

    Nothing if the file isn't whole, or is of format 1 and says nothing.
    """
    if has_seal(data):
        its_hash = configuration_of(record_in(data))
        return set() if its_hash is None else {its_hash}
    try:
        rows = pq.read_table(arrow_reader(data), columns=["config_hash"])
        return {its_hash for its_hash in rows["config_hash"].to_pylist() if isinstance(its_hash, str)}
    except (KeyError, OSError, ValueError, pa.ArrowException):
        return set()


def _fits(rows: pa.Table, unit: Unit, table: str, stored: dict[str, Any]) -> bool:
    if any(rows[name].null_count for name in ("trial", "s", "method")):
        return False
    trial, s, method = rows["trial"].to_numpy(), rows["s"].to_numpy(), rows["method"]
    trials, n = np.arange(unit.start, unit.stop), len(stored["parameters"])
    if isinstance(unit, Certify):
        codes = pc.index_in(method, pa.array(["gd", *stored["solvers"]]))
        if codes.null_count:
            return False
        which = codes.to_numpy()
        known = np.isin(trial, trials) & (s >= 1) & np.where(which == 0, s == n, s <= n)
        keys = np.stack([which, s, trial])
        return bool(known.all()) and len(trial) > 0 and np.unique(keys, axis=1).shape == keys.shape
    if method.unique().to_pylist() != [unit.method] or not (s == unit.s).all():
        return False
    if table == "trials":
        return rows["config_hash"].unique().to_pylist() == [stored["config_hash"]] and np.array_equal(trial, trials)
    config = stored["config"]
    points = min(config["curve_points"], config["steps"] + 1)
    if not np.array_equal(trial, trials.repeat(points)):
        return False
    step = rows["step"].to_numpy().reshape(-1, points)
    first = step[0]
    return first[0] == 0 and first[-1] == config["steps"] and bool((np.diff(first) > 0).all() and (step == first).all())

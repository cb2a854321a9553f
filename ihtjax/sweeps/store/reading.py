"""Reading the results of a run: only rows of files that are what their writer wrote."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ihtjax.errors import BOOLEAN, InputError, check, one_of, plain, shown
from ihtjax.sweeps.store.records import TABLES, Damaged, Fit, Unit, place
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.store.schemas import schema_of, with_wide_counts
from ihtjax.sweeps.store.sealed import arrow_reader


def load(
    run_dir: str | os.PathLike,
    table: str = "trials",
    columns: list[str] | None = None,
    *,
    verify: bool = True,
    **filters: Any,
) -> pd.DataFrame:
    """Read the finished results of a run.

    Args:
      run_dir: a run directory.
      table: "trials", "curves" or "certificates".
      columns: which columns to read; all if None.
      verify: hold each file against its recorded SHA-256 before it is parsed, and its rows against its unit. Parquet
        has no checksum over its footer, where one flipped bit can change values without a word.
      filters: columns, each with the value, or the list of values, that rows must have; None is null.

    Returns:
      A data frame with the columns of the table and its rows in order of method, level and trial.

    Raises:
      InputError: there is no such run, table or column, a filter's value can't be one of its column's, nothing is
        finished yet, or a file is damaged.

    Example::

      load("results/paper", s=[5, 7]).groupby("s").train_loss.median()
    """
    found = read(run_dir, table, columns, filters, verify=verify)
    return found.to_pandas(split_blocks=True, self_destruct=True)


def read(
    run_dir: str | os.PathLike,
    table: str = "trials",
    columns: list[str] | None = None,
    filters: dict[str, Any] | None = None,
    categorical: tuple[str, ...] = (),
    *,
    verify: bool = True,
    units: Iterable[Unit] | None = None,
) -> pa.Table:
    """The same as an Arrow table; columns named in ``categorical`` take a number a row instead of a text.

    With ``units``, the rows of these alone.
    """
    check("table", table, one_of(*TABLES))
    check("verify", verify, BOOLEAN)
    columns = None if columns is None else _distinct_names(columns)
    run = RunDirectory(run_dir).require()
    entries = {unit: entry for unit, entry in run.units().items() if table in entry["files"]}
    if units is not None:
        units = list(units)
        if lost := [unit for unit in units if unit not in entries]:
            raise InputError(f"{run.path}: cannot read {table} of {lost[0]}; see: ihtjax verify {run.path}")
        entries = {unit: entries[unit] for unit in units}
    if not entries:
        command = f"ihtjax oracle {run.path}" if table == "certificates" else "the command that began the run"
        raise InputError(f"{run.path}: no finished {table} yet; go on with {command}")
    stored = run.record()
    schema = schema_of(table, stored)
    ordered = sorted(entries.items(), key=lambda item: (item[0].group, item[0].start))
    wanted: dict[str, pa.Array] = {}
    for column, value in (filters or {}).items():
        # Another version's files may have other columns.
        its = schema if column in schema.names else pq.read_schema(_source(run, stored, table, verify, *ordered[0]))
        if column not in its.names:
            raise _no_column(table, column, its.names)
        wanted[column] = _values(column, value, its.field(column).type)
    condition = None
    for column, values in wanted.items():
        one = pc.field(column).isin(values)
        condition = one if condition is None else condition & one

    def part(item) -> pa.Table:
        source = _source(run, stored, table, verify, *item)
        names = pq.read_schema(source).names
        for column in wanted:
            if column not in names:
                raise _no_column(table, column, names)
        rows = pq.read_table(
            source,
            # A version that knew fewer columns may have written some of the files.
            columns=None if columns is None else [column for column in columns if column in names],
            filters=condition,
            read_dictionary=list(categorical),
            page_checksum_verification=True,
        )
        rows.validate(full=verify)
        rows = rows.cast(with_wide_counts(rows.schema))
        # How pandas is to take the columns follows from the table, not from what a file says.
        return rows.replace_schema_metadata(schema.metadata)

    asked = {column: values.to_pylist() for column, values in wanted.items()}
    needed = [item for item in ordered if _may_hold(item[0], asked)] or ordered[:1]
    with _failures_named(run, table):
        with ThreadPoolExecutor(min(len(needed), os.cpu_count() or 1)) as pool:
            found = pa.concat_tables(pool.map(part, needed), promote_options="default")
        for column in columns or ():
            if column not in found.column_names:
                every = pq.read_schema(_source(run, stored, table, verify, *ordered[0])).names
                raise _no_column(table, column, every)
        return found if columns is None else found.select(columns)


def _no_column(table: str, column: str, names: list[str]) -> InputError:
    return InputError(f"{table} has no column {column!r}; it has {', '.join(names)}")


def _source(run: RunDirectory, stored: dict[str, Any], table: str, verify: bool, unit: Unit, entry: dict[str, Any]):
    """What Arrow reads a unit's file from."""
    try:
        return arrow_reader(run.read_file(unit, table, entry, stored, verify))
    except Damaged as error:
        raise InputError(f"{run.path / place(unit, table, entry)}: {error}; see: ihtjax verify {run.path}") from error


def _distinct_names(columns: Any) -> list[str]:
    names = _listed(columns)
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"columns: got {shown(columns)}, expected a list of names")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"columns: got {twice[0]!r} twice, expected each name once")
    return names


def _values(column: str, value: Any, its: pa.DataType) -> pa.Array:
    """A filter's value, or values, as an array of its column's type; None is null."""
    if pa.types.is_nested(its):
        raise InputError(f"{column}: holds lists, expected a column of single values; compare it in the data frame")
    try:
        values = pa.array([None if item is pd.NA else plain(item) for item in _listed(value)])
        # Arrow would also take a text for the number that it spells, and a truth value for 0 or 1.
        if not pa.types.is_null(values.type) and _kind(values.type) != _kind(its):
            raise ValueError(f"{values.type} is no {its}")
        values = values.cast(its)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise InputError(f"{column}: got {shown(value)}, expected a value of type {its}, or a list of them") from error
    if not pa.types.is_floating(its):
        return values
    # 0 and -0 are equal, but not to Arrow where it looks for one among several.
    return pa.concat_arrays([values, pc.negate(values.filter(pc.equal(values, 0)))])


def _kind(its: pa.DataType) -> str:
    number = pa.types.is_integer(its) or pa.types.is_floating(its) or pa.types.is_decimal(its)
    return "number" if number else str(its)


def _listed(value: Any) -> list:
    """One value, or several, as a list."""
    value = plain(value)
    single = isinstance(value, str | bytes | Mapping) or getattr(value, "ndim", 1) == 0  # a key of jax.random
    return list(value) if isinstance(value, Iterable) and not single else [value]


def _may_hold(unit: Unit, asked: dict[str, list]) -> bool:
    """Whether rows with these values can be in a unit's files; a file that can't hold any need not be read."""
    known: dict[str, Any] = {"trial": range(unit.start, unit.stop)}
    if isinstance(unit, Fit):
        known |= {"method": [unit.method], "s": [unit.s]}
    both = known.keys() & asked.keys()
    return all(any(value in known[column] for value in asked[column]) for column in both)


@contextlib.contextmanager
def _failures_named(run: RunDirectory, table: str):
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{run.path}: cannot read {table} ({error}); see: ihtjax verify {run.path}") from error

"""Reading the results of a run: only rows of files that are what their writer wrote."""

import contextlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ihtjax.errors import BOOLEAN, InputError, check, one_of
from ihtjax.sweeps.store.records import TABLES, Damaged, Unit
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.store.schemas import schema_of
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
      filters: columns, each with the value, or the list of values, that rows must have.

    Returns:
      A data frame with the columns of the table and its rows in order of method, level and trial.

    Raises:
      InputError: there is no such run, table or column, nothing is finished yet, or a file is damaged.

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
    filters = filters or {}
    check("table", table, one_of(*TABLES))
    check("verify", verify, BOOLEAN)
    run = RunDirectory(run_dir).require()
    entries = {unit: entry for unit, entry in run.units().items() if table in entry["files"]}
    if units is not None:
        entries = {unit: entries[unit] for unit in units}
    if not entries:
        command = "ihtjax oracle" if table == "certificates" else "the command that began the run"
        raise InputError(f"{run.path}: no finished {table} yet; go on with {command}")
    stored = run.record()
    metadata = schema_of(table, stored).metadata
    ordered = sorted(entries.items(), key=lambda item: item[0].file_name)
    where = [(column, "in" if _is_list(value) else "==", value) for column, value in filters.items()]
    where = [(column, how, list(value) if how == "in" else value) for column, how, value in where]

    def part(item) -> pa.Table:
        source = _source(run, stored, table, verify, *item)
        names = pq.read_schema(source).names
        for column in filters:
            if column not in names:
                raise _no_column(table, column, names)
        rows = pq.read_table(
            source,
            # A version that knew fewer columns may have written some of the files.
            columns=None if columns is None else [column for column in columns if column in names],
            filters=where or None,
            read_dictionary=list(categorical),
            page_checksum_verification=True,
        )
        rows.validate(full=verify)
        # How pandas is to take the columns follows from the table, not from what a file says.
        return rows.replace_schema_metadata(metadata)

    needed = [item for item in ordered if _may_hold(item[0], filters)] or ordered[:1]
    with _failures_named(run, table, filters):
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
        raise InputError(f"{run.path / unit.path(table)}: {error}; see: ihtjax verify {run.path}") from error


def _may_hold(unit: Unit, filters: dict[str, Any]) -> bool:
    """Whether rows with these values can be in a unit's files; a file that can't hold any need not be read."""
    known: dict[str, Any]
    if unit.method == "all":
        known = {"trial": range(unit.start, unit.stop)}
    else:
        known = {"method": [unit.method], "s": [unit.s], "trial": range(unit.start, unit.stop)}
    for column, possible in known.items():
        if column in filters:
            asked = filters[column]
            asked = asked if _is_list(asked) else [asked]
            if not any(value in possible for value in asked):
                return False
    return True


def _is_list(value) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)


@contextlib.contextmanager
def _failures_named(run: RunDirectory, table: str, filters: dict[str, Any]):
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, TypeError) as error:
        raise InputError(f"filters: got {filters}, expected values of the columns' types ({error})") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{run.path}: cannot read {table} ({error}); see: ihtjax verify {run.path}") from error

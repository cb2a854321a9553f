"""Tables of numeric features and a class column: Iris, or any CSV or Parquet file."""

import collections
import csv
import hashlib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ihtjax.errors import PATH, TEXT, InputError, check
from ihtjax.text import is_printable, printable

# Compiling takes 0.6 s a class up to here, and more beyond.
MAX_CLASSES = 50
# Whole numbers beyond it need not be float64 numbers.
LARGEST_WHOLE = 2**53
# Name of the index that holds each row's line in its file.
LINE = "line"


@dataclass(frozen=True, eq=False)
class Table:
    """Numeric features with a class for each row.

    Attributes:
      X: features ``[m, d]``, float64.
      y: class of each row ``[m]``, int32, 0 .. K - 1 in sorted order of the classes.
      feature_names: d names.
      class_names: K names.
      fingerprint: SHA-256 over features, classes and names; tables with the same one are equal.
    """

    X: np.ndarray
    y: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    fingerprint: str = field(init=False)

    def __post_init__(self):
        digest = hashlib.sha256()
        for part in (self.X.astype("<f8"), self.y.astype("<i4")):
            digest.update(repr(part.shape).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(repr((self.feature_names, self.class_names)).encode())
        object.__setattr__(self, "fingerprint", digest.hexdigest())

    def __eq__(self, other):
        return isinstance(other, Table) and self.fingerprint == other.fingerprint

    def __hash__(self):
        return hash(self.fingerprint)

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


def load_table(data: str, target: str | None = None) -> Table:
    """Read the data set that ``data`` names.

    Args:
      data: "iris", or the path of a ``.csv`` or ``.parquet`` file whose columns are numeric but for the class column.
      target: the name of the class column; needed for a file, not for Iris.

    Raises:
      InputError: the file can't be read, or it isn't such a table.

    Iris is Fisher's version (R. A. Fisher, The use of multiple measurements in taxonomic problems, 1936,
    doi:10.1111/j.1469-1809.1936.tb02137.x), the values that scikit-learn ships; UCI's rows 35 and 38 differ.
    """
    check("data", data, PATH)
    if target is not None:
        check("target", target, TEXT)
    if data == "iris":
        if target not in (None, "species"):
            raise InputError(f"target: got {target!r}, expected none for iris; leave it out")
        with resources.files("ihtjax").joinpath("tables/iris.csv").open() as file:
            return table_of(pd.read_csv(file), "species", "iris")
    frame = _read(Path(data))
    if target is None:
        raise InputError(f"target: missing, expected the class column of {data}; name one of {_names(frame.columns)}")
    return table_of(frame, target, data)


def table_of(frame: pd.DataFrame, target: str, name: str) -> Table:
    """Check a data frame and split it into features and classes; ``name`` is what errors call it."""
    if frame.empty:
        raise InputError(f"{name}: no rows, expected at least 5")
    frame = frame.set_axis(list(map(str, frame.columns)), axis=1)
    _check_names(frame.columns.tolist(), target, name)
    features = frame.drop(columns=target)
    if features.columns.empty:
        raise InputError(f"{name}: no column beside {target!r}, expected at least one numeric feature")
    for column in frame.columns:
        values = frame[column]
        if values.isna().any():
            where = _where(frame, _first(values.isna()))
            raise InputError(f"{name}: column {column!r} has no value in {where}; fill or drop missing values first")
        if column != target:
            _check_numbers(values, name)
    X = features.to_numpy(np.float64)
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        where = _where(frame, row + 1)
        raise InputError(f"{name}: column {features.columns[column]!r} is infinite in {where}; drop such rows")
    class_names, y = _classes(frame[target], name)
    return Table(X, y, tuple(features.columns), class_names)


def _check_names(names: list[str], target: str, table: str) -> None:
    """Refuse names that are empty, there twice, or could do harm where they are printed; the target must be there."""
    for column, count in collections.Counter(names).items():
        if count > 1:
            raise InputError(f"{table}: {count} columns are called {column!r}; give each its own name")
        if column == "":
            number = names.index("") + 1
            raise InputError(f"{table}: column {number} has no name; if it is an index, write the table without it")
        if not is_printable(column):
            which = f"the name of column {names.index(column) + 1}, {column[:40]!r},"
            raise InputError(f"{table}: {which} has a control character; rename it")
    if len(names) == 1 and target not in names and any(mark in names[0] for mark in ";\t"):
        raise InputError(f"{table}: one column, called {names[0][:40]!r}; separate columns by commas")
    if target not in names:
        raise InputError(f"target: {table} has no column {target!r}; name one of {_names(names)}")


def _check_numbers(values: pd.Series, table: str) -> None:
    """Refuse a feature that isn't numeric, or that float64 would round."""
    if not pd.api.types.is_numeric_dtype(values):
        raise InputError(
            f"{table}: column {values.name!r} holds {values.dtype} (first value {str(values.iloc[0])[:30]!r}), "
            "expected numbers; encode or drop it"
        )
    if pd.api.types.is_integer_dtype(values):
        beyond = (values > LARGEST_WHOLE) | (values < -LARGEST_WHOLE)
        if beyond.any():
            row = _first(beyond)
            raise InputError(
                f"{table}: column {values.name!r} holds {values.iloc[row - 1]} in {_where(values, row)}, expected "
                "whole numbers up to 2^53, which float64 doesn't round; drop it if it is an identifier, else write it "
                "in larger units"
            )


def _classes(values: pd.Series, table: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes' names, sorted, and the class of each row ``[m]``, int32.

    Text, booleans and whole numbers are classes; numbers with fractions, or with more distinct values than there can
    be classes, are numbers to predict.
    """
    target = values.name
    labels = values.to_numpy()
    kinds = {type(label) for label in labels.tolist()}
    if len(kinds) > 1 or not kinds <= {str, int, float, bool}:
        raise InputError(
            f"{table}: column {target!r} mixes or holds {_names(sorted(k.__name__ for k in kinds))}, "
            "expected all text or all numbers"
        )
    classes, y = np.unique(labels, return_inverse=True)
    m, K = len(y), len(classes)
    if m < 5:
        raise InputError(f"{table}: {m} rows, expected at least 5, since a fifth of them is kept for testing")
    if K < 2:
        raise InputError(f"{table}: column {target!r} holds {K} class, expected at least 2")
    fractions = classes[np.isinf(classes) | (classes != np.floor(classes))] if kinds == {float} else classes[:0]
    if fractions.size:
        raise InputError(
            f"{table}: column {target!r} holds numbers such as {fractions[0]:g}, {K:,} distinct values, expected "
            "classes: text or whole numbers; numbers can't be predicted yet, so name a class column, or write classes "
            "as text"
        )
    if K > MAX_CLASSES or 2 * K > m:
        least = min(MAX_CLASSES, m // 2)
        raise InputError(
            f"{table}: column {target!r} holds {K:,} distinct values in {m:,} rows, expected at most {least} classes, "
            "of two rows or more on average; is it a number to predict, or an identifier? name a class column"
        )
    names = tuple(map(str, classes))
    harmful = [name for name in names if not is_printable(name)]
    if harmful:
        raise InputError(f"{table}: class {harmful[0][:40]!r} of column {target!r} has a control character; rename it")
    return names, y.astype(np.int32)


def _first(mask: pd.Series) -> int:
    """The first row where it is true, counted from 1."""
    return int(np.flatnonzero(mask)[0]) + 1


def _where(frame: pd.DataFrame | pd.Series, row: int) -> str:
    """A row, counted from 1, in words; with its line where `_read_csv` noted that."""
    return f"data row {row}" + (f" (line {frame.index[row - 1]} of the file)" if frame.index.name == LINE else "")


def _read(path: Path) -> pd.DataFrame:
    readers = {".csv": _read_csv, ".parquet": pd.read_parquet}
    if path.suffix.lower() not in readers:
        raise InputError(f"data: got {str(path)!r}, expected 'iris' or the path of a .csv or .parquet file")
    if not path.is_file():
        raise InputError(f"data: {path} is not a file; check the path")
    try:
        return readers[path.suffix.lower()](path)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"data: {path} is not UTF-8 text; save it as UTF-8") from error
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:  # pandas' parser errors are ValueErrors
        reason = (str(error).splitlines() or ["it is empty"])[0]
        raise InputError(f"data: cannot read {path} as {path.suffix[1:]}: {reason}") from error


def _read_csv(path: Path) -> pd.DataFrame:
    """The table under its own column names, with as many fields in each row.

    pandas would rename what is there twice or has no name, drop what a row has more than the header, and fill what it
    has less.
    """
    with open(path, encoding="utf-8-sig") as file:
        reader, lines = csv.reader(file), []
        rows = filter(None, reader)  # empty lines don't count, for pandas either
        names = next(rows, [])
        for number, row in enumerate(rows, 1):
            lines.append(reader.line_num)
            if len(row) != len(names):
                raise InputError(
                    f"{path}: data row {number} (line {reader.line_num} of the file) has {len(row)} fields, expected "
                    f"{len(names)}, as in the header; mend that row, and write fields that hold commas in quotes"
                )
    frame = pd.read_csv(path, low_memory=False, index_col=False).set_axis(names, axis=1)
    # Were rows counted otherwise there, no line would be sure.
    return frame.set_axis(pd.Index(lines, name=LINE), axis=0) if len(lines) == len(frame) else frame


def _names(columns) -> str:
    """Some names for an error; a control character is written out."""
    shown = [printable(name) for name in map(str, columns)]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:8], "..", *shown[-3:]])  # the last is often the target

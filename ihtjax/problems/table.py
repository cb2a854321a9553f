"""Tables of numeric features and what is to be predicted: Iris, scikit-learn's, or any CSV or Parquet file."""

import collections
import csv
import functools
import hashlib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ihtjax.errors import PATH, TEXT, InputError, check, shown
from ihtjax.text import is_printable, some_names

SKLEARN_PREFIX = "sklearn:"
SKLEARN_CLASSES = ("breast_cancer", "digits", "iris", "wine")
SKLEARN = (*SKLEARN_CLASSES, "diabetes", "linnerud")
LEAST_ROWS = 5
# Compiling takes 0.6 s a class up to here, and more beyond.
MAX_CLASSES = 50
# Whole numbers beyond it need not be float64 numbers.
LARGEST_WHOLE = 2**53
# Name of the index that holds each row's line in its file.
LINE = "line"


@dataclass(frozen=True, eq=False)
class Table:
    """Numeric features with a class, or with one or several numbers, for each row.

    Attributes:
      X: features ``[m, d]``, float64.
      y: class of each row ``[m]``, int32, 0 .. K - 1 in sorted order of the classes; or numbers ``[m, t]``, float64.
      feature_names: d names.
      class_names: K names; none where y holds numbers.
      target_names: t names; none where y holds classes.
      fingerprint: SHA-256 over features, targets and names; tables with the same one are equal.
    """

    X: np.ndarray
    y: np.ndarray
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    target_names: tuple[str, ...] = ()
    fingerprint: str = field(init=False)

    def __post_init__(self):
        digest = hashlib.sha256()
        for part in (self.X.astype("<f8"), self.y.astype("<i4" if self.class_names else "<f8")):
            digest.update(repr(part.shape).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        names = self.feature_names, self.class_names
        digest.update(repr(names if self.class_names else (*names, self.target_names)).encode())
        object.__setattr__(self, "fingerprint", digest.hexdigest())

    def __eq__(self, other):
        return isinstance(other, Table) and self.fingerprint == other.fingerprint

    def __hash__(self):
        return hash(self.fingerprint)

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @property
    def n_targets(self) -> int:
        return len(self.target_names)

    def words(self) -> str:
        """Its size and what is to be predicted, in a line."""
        m, d = self.X.shape
        if self.class_names:
            return f"{m} rows, {d} features, {self.n_classes} classes"
        return f"{m} rows, {d} features, {self.n_targets} number{'s' * (self.n_targets > 1)} to predict"


def load_table(data: str, target: str | tuple[str, ...] | None = None, kind: str | None = None) -> Table:
    """Read the data set that ``data`` names.

    Args:
      data: "iris"; "sklearn:NAME", one of scikit-learn's tables (see `SKLEARN`); or the path of a ``.csv`` or
        ``.parquet`` file whose columns are numeric but for a class column.
      target: the name of the column to predict, or of several number columns; needed for a file alone.
      kind: what it holds, "classes", "numbers" or "counts"; if None, what can only be the one or the other is.

    Raises:
      InputError: the file can't be read, or it isn't such a table.

    Iris is Fisher's version (R. A. Fisher, The use of multiple measurements in taxonomic problems, 1936,
    doi:10.1111/j.1469-1809.1936.tb02137.x), the values that scikit-learn ships; UCI's rows 35 and 38 differ.
    """
    check("data", data, PATH)
    targets = check_targets(target)
    if data == "iris":
        if targets not in ((), ("species",)):
            raise InputError(f"target: got {target!r}, expected none for iris; leave it out")
        return _packaged(data, kind)
    if str(data).startswith(SKLEARN_PREFIX):
        if targets:
            raise InputError(f"target: got {target!r}, expected none for {data}, whose target is known; leave it out")
        return _packaged(data, kind)
    frame = _read(Path(data))
    if not targets:
        raise InputError(
            f"target: missing, expected the column of {data} to predict; name one of {some_names(frame.columns)}"
        )
    return table_of(frame, targets, data, kind)


@functools.cache
def _packaged(data: str, kind: str | None) -> Table:
    """Iris, or a table that scikit-learn ships."""
    if data != "iris":
        return table_of(*_from_sklearn(str(data).removeprefix(SKLEARN_PREFIX)), data, kind)
    with resources.files("ihtjax").joinpath("tables/iris.csv").open() as file:
        return table_of(pd.read_csv(file), ("species",), "iris", kind)


def check_targets(target: Any) -> tuple[str, ...]:
    """One or several names of columns as a tuple; none for None."""
    targets = () if target is None else (target,) if isinstance(target, str) else target
    if not isinstance(targets, tuple | list) or (target is not None and not targets):
        raise InputError(f"target: got {shown(target)}, expected the name of a column, or several")
    for name in targets:
        check("target", name, TEXT)
    return tuple(targets)


def table_of(frame: pd.DataFrame, targets: tuple[str, ...], name: str, kind: str | None = None) -> Table:
    """Check a data frame and split it into features and targets; ``name`` is what errors call it."""
    if len(frame) < LEAST_ROWS:
        rows = f"{len(frame)} rows" if len(frame) else "no rows"
        raise InputError(f"{name}: {rows}, expected at least {LEAST_ROWS}, since a fifth of them is kept for testing")
    frame = frame.set_axis(list(map(str, frame.columns)), axis=1)
    _check_names(frame.columns.tolist(), targets, name)
    features = frame.drop(columns=list(targets))
    if features.columns.empty:
        raise InputError(
            f"{name}: no column beside {', '.join(map(repr, targets))}, expected at least one numeric feature"
        )
    for column in frame.columns:
        values = frame[column]
        if values.isna().any():
            where = _where(frame, _first(values.isna()))
            raise InputError(f"{name}: column {column!r} has no value in {where}; fill or drop missing values first")
    X = _numbers(features, name)
    if kind is None:
        kind = "numbers" if len(targets) > 1 else kind_of(frame[targets[0]], name)
    if kind != "classes":
        for column in targets:
            if not pd.api.types.is_numeric_dtype(frame[column]):
                first = str(frame[column].iloc[0])[:30]
                raise InputError(
                    f"target: in {name} column {column!r} holds classes (first value {first!r}), expected numbers; one "
                    "column of classes takes loss cross_entropy or logistic"
                )
        y = _numbers(frame[list(targets)], name)
        if kind == "counts":
            _check_counts(frame, targets, name)
        return Table(X, y, tuple(features.columns), (), targets)
    if len(targets) > 1:
        raise InputError(
            f"target: got {some_names(targets)}, expected one class column; several numbers need --loss squared"
        )
    class_names, y = _classes(frame[targets[0]], name)
    return Table(X, y, tuple(features.columns), class_names)


def kind_of(values: pd.Series, table: str) -> str:
    """Whether a column can only hold "classes" or only "numbers".

    Raises:
      InputError: it could be either, as whole numbers can.
    """
    labels = np.unique(values.to_numpy()) if pd.api.types.is_numeric_dtype(values) else None
    if labels is None or labels.dtype == bool:
        return "classes"
    if (labels != np.floor(labels)).any() or len(labels) > MAX_CLASSES or 2 * len(labels) > len(values):
        return "numbers"
    raise InputError(
        f"loss: missing, since column {values.name!r} of {table} holds {len(labels)} distinct whole numbers, classes "
        "or numbers to predict; say loss cross_entropy for classes, squared for numbers, or poisson for counts"
    )


def _numbers(columns: pd.DataFrame, table: str) -> np.ndarray:
    """Columns as finite float64 numbers ``[m, columns]``."""
    for column in columns:
        _check_numbers(columns[column], table)
    values = columns.to_numpy(np.float64)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise InputError(
            f"{table}: column {columns.columns[column]!r} is infinite in {_where(columns, row + 1)}; drop such rows"
        )
    return values


def _check_counts(frame: pd.DataFrame, targets: tuple[str, ...], table: str) -> None:
    for column in targets:
        values = frame[column].to_numpy(np.float64)
        wrong = (values < 0) | (values != np.floor(values))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{table}: column {column!r} holds {values[row]:g} in {_where(frame, row + 1)}, expected whole "
                "numbers from 0, counts; take loss squared for numbers"
            )


def _from_sklearn(name: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One of scikit-learn's tables, its classes under their names, and its target columns."""
    if name not in SKLEARN:
        raise InputError(
            f"data: got {SKLEARN_PREFIX}{name}, expected one of {', '.join(SKLEARN)} after {SKLEARN_PREFIX}"
        )
    try:
        from sklearn import datasets
    except ImportError as error:
        raise InputError(
            f"data: {SKLEARN_PREFIX}{name} needs scikit-learn, which isn't installed; pip install 'ihtjax[sklearn]'"
        ) from error
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    target = bunch.target if isinstance(bunch.target, pd.DataFrame) else bunch.target.to_frame("target")
    if name in SKLEARN_CLASSES:
        target = target.map(lambda k: str(bunch.target_names[k]))
    return pd.concat([bunch.data, target], axis=1), tuple(target.columns)


def _check_names(names: list[str], targets: tuple[str, ...], table: str) -> None:
    """Refuse names that are empty, there twice, or could do harm where they are printed; the targets must be there."""
    for column, count in collections.Counter(names).items():
        if count > 1:
            raise InputError(f"{table}: {count} columns are called {column!r}; give each its own name")
        if column == "":
            number = names.index("") + 1
            raise InputError(f"{table}: column {number} has no name; if it is an index, write the table without it")
        if not is_printable(column):
            which = f"the name of column {names.index(column) + 1}, {column[:40]!r},"
            raise InputError(f"{table}: {which} has a control character; rename it")
    if len(names) == 1 and names[0] not in targets and any(mark in names[0] for mark in ";\t"):
        raise InputError(f"{table}: one column, called {names[0][:40]!r}; separate columns by commas")
    for target, count in collections.Counter(targets).items():
        if target not in names:
            raise InputError(f"target: {table} has no column {target!r}; name one of {some_names(names)}")
        if count > 1:
            raise InputError(f"target: got {target!r} {count} times, expected each column once")


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
    """The classes' names, sorted, and the class of each row ``[m]``, int32; text, booleans or whole numbers."""
    target = values.name
    labels = values.to_numpy()
    kinds = {type(label) for label in labels.tolist()}
    if len(kinds) > 1 or not kinds <= {str, int, float, bool}:
        raise InputError(
            f"{table}: column {target!r} mixes or holds {some_names(sorted(k.__name__ for k in kinds))}, "
            "expected all text or all numbers"
        )
    classes, y = np.unique(labels, return_inverse=True)
    m, K = len(y), len(classes)
    if K < 2:
        raise InputError(f"{table}: column {target!r} holds {K} class, expected at least 2")
    fractions = classes[np.isinf(classes) | (classes != np.floor(classes))] if kinds == {float} else classes[:0]
    if fractions.size:
        raise InputError(
            f"{table}: column {target!r} holds numbers such as {fractions[0]:g}, {K:,} distinct values, expected "
            "classes: text or whole numbers; take loss squared for numbers, or write classes as text"
        )
    if K > MAX_CLASSES or 2 * K > m:
        least = min(MAX_CLASSES, m // 2)
        raise InputError(
            f"{table}: column {target!r} holds {K:,} distinct values in {m:,} rows, expected at most {least} classes, "
            "of two rows or more on average; is it a number to predict, or an identifier? take loss squared for "
            "numbers, or name a class column"
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
        raise InputError(
            f"data: got {str(path)!r}, expected 'iris', 'sklearn:NAME' or the path of a .csv or .parquet file"
        )
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

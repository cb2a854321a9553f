"""Tables of numeric features and a class column: Iris, or any CSV or Parquet file."""

import hashlib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ihtjax.errors import InputError


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
    names = list(map(str, frame.columns))
    for number, column in enumerate(names, 1):
        if names.count(column) > 1:
            raise InputError(f"{name}: {names.count(column)} columns are called {column!r}; give each its own name")
        if column == "":
            raise InputError(f"{name}: column {number} has no name; if it is an index, write the table without it")
    if len(names) == 1 and target not in names and any(mark in names[0] for mark in ";\t"):
        raise InputError(f"{name}: one column, called {names[0][:40]!r}; separate columns by commas")
    if target not in frame.columns:
        raise InputError(f"target: {name} has no column {target!r}; name one of {_names(frame.columns)}")
    features = frame.drop(columns=target)
    if features.columns.empty:
        raise InputError(f"{name}: no column beside {target!r}, expected at least one numeric feature")
    for column in frame.columns:
        values = frame[column]
        if values.isna().any():
            row = int(np.flatnonzero(values.isna())[0]) + 1
            raise InputError(f"{name}: column {column!r} has no value in row {row}; fill or drop missing values first")
        if column != target and not pd.api.types.is_numeric_dtype(values):
            raise InputError(
                f"{name}: column {column!r} holds {values.dtype} (first value {str(values.iloc[0])[:30]!r}), "
                "expected numbers; encode or drop it"
            )
    X = features.to_numpy(np.float64)
    if not np.isfinite(X).all():
        row, column = np.argwhere(~np.isfinite(X))[0]
        raise InputError(f"{name}: column {features.columns[column]!r} is infinite in row {row + 1}; drop such rows")
    labels = frame[target].to_numpy()
    kinds = {type(label) for label in labels.tolist()}
    if len(kinds) > 1 or not kinds <= {str, int, float, bool}:
        raise InputError(
            f"{name}: column {target!r} mixes or holds {_names(sorted(k.__name__ for k in kinds))}, "
            "expected all text or all numbers"
        )
    classes, y = np.unique(labels, return_inverse=True)
    if len(y) < 5:
        raise InputError(f"{name}: {len(y)} rows, expected at least 5, since a fifth of them is kept for testing")
    if len(classes) < 2:
        raise InputError(f"{name}: column {target!r} holds {len(classes)} class, expected at least 2")
    if len(classes) > round(0.8 * len(y)):
        raise InputError(
            f"{name}: column {target!r} holds {len(classes)} classes in {len(y)} rows, more than the 80 % of the rows "
            "that are trained on; is it a number to predict, or an identifier?"
        )
    return Table(X, y.astype(np.int32), tuple(map(str, features.columns)), tuple(map(str, classes)))


def _read(path: Path) -> pd.DataFrame:
    readers = {".csv": _read_csv, ".parquet": pd.read_parquet}
    if path.suffix.lower() not in readers:
        raise InputError(f"data: got {str(path)!r}, expected 'iris' or the path of a .csv or .parquet file")
    if not path.is_file():
        raise InputError(f"data: {path} is not a file; check the path")
    try:
        return readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise InputError(f"data: {path} is not UTF-8 text; save it as UTF-8") from error
    except (OSError, ValueError, pa.ArrowException) as error:  # pandas' parser errors are ValueErrors
        reason = (str(error).splitlines() or ["it is empty"])[0]
        raise InputError(f"data: cannot read {path} as {path.suffix[1:]}: {reason}") from error


def _read_csv(path: Path) -> pd.DataFrame:
    """The table under its own column names: pandas would rename what is there twice or has no name."""
    frame = pd.read_csv(path, low_memory=False, index_col=False)
    names = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, index_col=False)
    return frame.set_axis(names.iloc[0], axis=1)


def _names(columns) -> str:
    return ", ".join(map(str, columns[:12])) + (", .." if len(columns) > 12 else "")

"""A run directory: configuration, manifest, and Parquet files that are written whole or not at all."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ihtjax.errors import InputError

TABLES = ("trials", "curves", "certificates")
FORMAT = 1
OURS = re.compile(r"(iht|gd|all)-s\d+-\d+-\d+\.parquet")


class Unit(NamedTuple):
    """The trials ``start .. stop - 1`` of one method and level: one file per table, lost or kept as a whole.

    Certificates are of all methods and levels at once: method "all", level 0.
    """

    method: str
    s: int
    start: int
    stop: int

    @property
    def file_name(self) -> str:
        return f"{self.method}-s{self.s:05d}-{self.start:09d}-{self.stop - 1:09d}.parquet"

    def __str__(self):
        if self.method == "all":
            return f"certificates, trials {self.start} to {self.stop - 1}"
        return f"{self.method}, s = {self.s}, trials {self.start} to {self.stop - 1}"


class Damage(NamedTuple):
    """Something wrong with a run directory: a file, and what is wrong with it."""

    path: str
    what: str

    def __str__(self):
        return f"{self.path}: {self.what}"


class RunDirectory:
    """The files of one run. Reading needs no lock; everything that writes is called under `lock`."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def exists(self) -> bool:
        """Whether this is a run directory, whole or not."""
        return any((self.path / name).exists() for name in ("config.json", "manifest.json"))

    def require(self) -> "RunDirectory":
        """Raise `InputError` unless this is a run directory with a readable configuration."""
        if self.path.is_file():
            raise InputError(f"{self.path}: is a file, expected a run directory")
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such run directory; make one with: ihtjax sweep {self.path}")
        if not self.exists():
            raise InputError(f"{self.path}: not a run directory, it has no config.json; check the path")
        self.config()
        return self

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Make the directory if need be, and hold it alone; a second process is refused at once.

        The lock is the operating system's: it goes with its process, however that ends.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: is a file, expected a run directory; choose another path")
        if self.path.is_dir() and not self.exists() and any(p.name[0] != "." for p in self.path.iterdir()):
            raise InputError(f"{self.path}: holds files but is not a run directory; choose an empty or a new one")
        new = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot make this directory ({error.strerror}); choose another") from error
        lock = filelock.FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise InputError(
                f"{self.path}: another process is writing here; wait for it, or use another path"
            ) from None
        except (OSError, NotImplementedError) as error:
            raise InputError(f"{self.path}: cannot lock this directory ({error}); choose another") from error
        try:
            yield
        finally:
            if new and not self.exists():
                # Nothing came of it: leave nothing behind.
                (self.path / ".lock").unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    for folder in new:
                        folder.rmdir()
            lock.release()

    # Configuration and manifest.

    def config(self) -> dict[str, Any] | None:
        """What `write_config` wrote; None if the directory is new."""
        keys = {"config": dict, "config_hash": str, "data_sha256": str, "parameters": list, "batch": int}
        stored = self._read_json("config.json", keys)
        if stored is None and self._files():
            raise InputError(
                f"{self.path}: config.json is missing but there are result files; restore it, "
                "or start again with --overwrite"
            )
        return stored

    def write_config(self, config: dict[str, Any]) -> None:
        write_atomically(self.path / "config.json", _json({"format": FORMAT} | config))

    def units(self) -> dict[Unit, dict[str, Any]]:
        """The finished units, with the hash and size of each file."""
        manifest = self._read_json("manifest.json", {"units": list})
        if manifest is None:
            found = self._files()
            if found:
                raise InputError(
                    f"{self.path}: manifest.json is missing but there are {len(found)} result files; "
                    "restore it, or start again with --overwrite"
                )
            return {}
        try:
            for entry in manifest["units"]:
                if not all({"sha256", "bytes"} <= expected.keys() for expected in entry["files"].values()):
                    raise KeyError("sha256 or bytes")
            return {Unit(*entry["unit"]): entry for entry in manifest["units"]}
        except (TypeError, KeyError, AttributeError) as error:
            raise self._unreadable("manifest.json", f"not a list of units with their files: {error}") from error

    def write_units(self, units: dict[Unit, dict[str, Any]]) -> None:
        entries = [units[unit] for unit in sorted(units)]
        write_atomically(self.path / "manifest.json", _json({"format": FORMAT, "units": entries}))

    # Results.

    def write_unit(self, unit: Unit, tables: dict[str, pa.Table], environment: dict[str, Any]) -> None:
        """Write a unit's files, then list it in the manifest: only then it counts as finished."""
        files = {}
        for name, table in tables.items():
            data = parquet_bytes(table)
            path = f"{name}/{unit.file_name}"
            (self.path / name).mkdir(exist_ok=True)
            write_atomically(self.path / path, data)
            files[path] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rows": table.num_rows}
        self.write_units(self.units() | {unit: {"unit": list(unit), "files": files, "environment": environment}})

    def damage(self) -> tuple[list[Unit], list[Damage]]:
        """Hold every file against the manifest: the units that are not whole, and all that is wrong."""
        # Looked at before the manifest is read: a sweep that is running lists a file after writing it.
        there = self._files()
        broken, problems, listed = [], [], set()
        for unit, entry in self.units().items():
            listed |= entry["files"].keys()
            wrong = {path: self._what_is_wrong(path, expected) for path, expected in entry["files"].items()}
            if any(wrong.values()):
                broken.append(unit)
                problems += [Damage(path, what) for path, what in wrong.items() if what]
        problems += [Damage(path, "foreign, the manifest does not list it") for path in there if path not in listed]
        return broken, problems

    def drop(self, units: list[Unit]) -> None:
        """Forget units and delete what is left of their files."""
        entries = self.units()
        gone = [entries.pop(unit) for unit in units]
        self.write_units(entries)
        for entry in gone:
            for path in entry["files"]:
                (self.path / path).unlink(missing_ok=True)

    def remove_leftovers(self) -> list[str]:
        """Delete what a killed process may have left, and say which of it were result files.

        These are temporary files, and files of units that were not listed yet: they would be computed again, maybe
        under another name, and then be there twice. Folders that somebody put here are not looked into.
        """
        for folder in (self.path, *(self.path / table for table in TABLES)):
            for path in folder.glob(".*.tmp"):
                path.unlink()
        listed = {path for entry in self.units().values() for path in entry["files"]}
        unlisted = [path for path in self._own_files() if path not in listed]
        for path in unlisted:
            (self.path / path).unlink()
        return unlisted

    def clear(self) -> None:
        """Forget and delete all results; the configuration stays, so that a killed `clear` leaves a run directory."""
        self.write_units({})
        for path in self._own_files():
            (self.path / path).unlink()

    def _own_files(self) -> list[str]:
        """Result files by their names, as paths below the run directory."""
        return [f"{t}/{p.name}" for t in TABLES for p in (self.path / t).glob("*.parquet") if OURS.fullmatch(p.name)]

    def _files(self) -> list[str]:
        """What `pandas.read_parquet` would read, as paths below the run directory."""
        found = [p.relative_to(self.path) for t in TABLES for p in (self.path / t).rglob("*") if p.is_file()]
        return sorted(p.as_posix() for p in found if not any(part[0] in "._" for part in p.parts))

    def _what_is_wrong(self, path: str, expected: dict[str, Any]) -> str | None:
        try:
            data = (self.path / path).read_bytes()
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return f"unreadable: {error.strerror}"
        if len(data) != expected["bytes"]:
            return f"torn, {len(data)} bytes instead of {expected['bytes']}"
        if hashlib.sha256(data).hexdigest() != expected["sha256"]:
            return "damaged, its SHA-256 differs from the manifest's"
        return None

    def _read_json(self, name: str, keys: dict[str, type]) -> dict[str, Any] | None:
        try:
            content = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{self.path / name}: cannot be read ({error.strerror}); check its permissions") from error
        except ValueError as error:
            raise self._unreadable(name, error) from error
        if not isinstance(content, dict) or not all(isinstance(content.get(k), kind) for k, kind in keys.items()):
            raise self._unreadable(name, f"expected {', '.join(f'{k}: {kind.__name__}' for k, kind in keys.items())}")
        if content.get("format") != FORMAT:
            raise InputError(
                f"{self.path / name}: format {content.get('format')}, expected {FORMAT}; use the ihtjax that wrote it"
            )
        return content

    def _unreadable(self, name, reason) -> InputError:
        return InputError(f"{self.path / name}: unreadable ({reason}); restore it, or start again with --overwrite")


def load(
    run_dir: str | os.PathLike, table: str = "trials", columns: list[str] | None = None, **filters: Any
) -> pd.DataFrame:
    """Read the finished results of a run.

    Args:
      run_dir: a run directory.
      table: "trials", "curves" or "certificates".
      columns: which columns to read; all if None.
      filters: columns, each with the value, or the list of values, that rows must have.

    Returns:
      A data frame with the columns of the table and its rows in order of method, level and trial.

    Raises:
      InputError: there is no such run, table or column, nothing is finished yet, or a file is damaged.

    Example::

      load("results/paper", s=[5, 7]).groupby("s").train_loss.median()
    """
    return read(run_dir, table, columns, filters).to_pandas(split_blocks=True, self_destruct=True)


def read(
    run_dir: str | os.PathLike,
    table: str = "trials",
    columns: list[str] | None = None,
    filters: dict[str, Any] | None = None,
    categorical: tuple[str, ...] = (),
) -> pa.Table:
    """The same as an Arrow table; columns named in ``categorical`` take a number a row instead of a text."""
    filters = filters or {}
    run = RunDirectory(run_dir).require()
    if table not in TABLES:
        raise InputError(f"table: got {table!r}, expected one of {TABLES}")
    files = sorted(path for entry in run.units().values() for path in entry["files"] if path.startswith(table + "/"))
    if not files:
        command = "ihtjax oracle" if table == "certificates" else "the command that began the run"
        raise InputError(f"{run.path}: no finished {table} yet; go on with {command}")
    try:
        schema = pq.read_schema(run.path / files[0])
        for column in (*filters, *(columns or ())):
            if column not in schema.names:
                raise InputError(f"{table} has no column {column!r}; it has {', '.join(schema.names)}")
        where = [
            (column, "==", value)
            if isinstance(value, str) or not isinstance(value, Iterable)
            else (column, "in", list(value))
            for column, value in filters.items()
        ]
        paths = [str(run.path / file) for file in files]
        return pq.read_table(
            paths,
            columns=columns,
            filters=where or None,
            read_dictionary=list(categorical),
            page_checksum_verification=True,
        )
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, TypeError) as error:
        raise InputError(f"filters: got {filters}, expected values of the columns' types ({error})") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{run.path}: cannot read {table} ({error}); see: ihtjax verify {run.path}") from error


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """The table as a Parquet file in memory, with a checksum on every page."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def write_atomically(path: Path, data) -> None:
    """Write a file so that, whenever the process or machine stops, it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()

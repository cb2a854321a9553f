"""A run directory: configuration, manifest, and Parquet files that are written whole or not at all."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import pyarrow as pa

from ihtjax.errors import PATH, InputError, check
from ihtjax.sweeps.store import files
from ihtjax.sweeps.store.records import (
    TABLES,
    Damaged,
    Held,
    Unit,
    check_config,
    check_entry,
    check_units,
    unit_of,
    with_checksum,
    without_checksum,
)
from ihtjax.sweeps.store.schemas import check_content, configurations_in
from ihtjax.sweeps.store.sealed import configuration_of, has_seal, is_record_of, record_in, sealed_parquet
from ihtjax.text import printable

Units = dict[Unit, dict[str, Any]]


class Damage(NamedTuple):
    """Something wrong with a run directory: a file, and what is wrong with it."""

    path: str
    what: str

    def __str__(self):
        # Names of files may hold anything, such as what a terminal obeys, or no text at all.
        path = printable(self.path)
        return f"{path}: {self.what}"


class Survey(NamedTuple):
    """What a look at every byte of a run directory found.

    Attributes:
      whole: the finished units, each with its entry for the manifest.
      broken: units of this run with a file that is missing or damaged; computed again, they are whole.
      problems: all that is wrong.
      listing: what the manifest should say: what is whole, and what it lists and is broken.
      stale: whether it says something else.
    """

    whole: Units
    broken: list[Unit]
    problems: list[Damage]
    listing: Units
    stale: bool


class RunDirectory:
    """The files of one run. Reading needs no lock; everything that writes is called under `lock`.

    Where a file lies follows from its unit, never from a record. The manifest lists what is finished; each Parquet
    file holds the same of itself, so that a manifest which was lost or damaged is made again from the files.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(check("run_dir", path, PATH))

    def exists(self) -> bool:
        """Whether this is a run directory, whole or not."""
        return any(os.path.lexists(self.path / name) for name in ("config.json", "manifest.json"))

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
            for table in TABLES:
                files.own_folder(self.path / table)
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
        """What `write_config` wrote; None if the directory is new.

        A record that was lost or damaged is taken from the files that were written under it.

        Raises:
          InputError: they don't hold it either, or it is of a later format.
        """
        try:
            content = self._record("config.json")
            if content is not None:
                return check_config(content)
            damage = "missing, but there are result files"
        except Damaged as error:
            damage = f"unreadable ({error})"
        found = self._config_in_files()
        if found is None and ("missing" not in damage or self._files()):
            raise InputError(f"{self.path / 'config.json'}: {damage}; {self._way_out()}")
        return found

    def record(self) -> dict[str, Any]:
        """What `write_config` wrote; `InputError` if there is nothing."""
        stored = self.config()
        if stored is None:
            raise InputError(f"{self.path}: not a run directory, it has no config.json; check the path")
        return stored

    def write_config(self, config: dict[str, Any]) -> None:
        files.write_atomically(self.path / "config.json", with_checksum(config))

    def units(self) -> Units:
        """The units that the manifest lists, each with hash, size and rows of its files, and its environment."""
        stored = self.config()
        if stored is None:
            return {}
        try:
            listed = self._listed(stored)
        except Damaged:
            listed = None
        return self.survey().whole if listed is None else listed

    def write_units(self, units: Units) -> None:
        entries = [units[unit] for unit in sorted(units, key=lambda unit: unit.file_name)]
        files.write_atomically(self.path / "manifest.json", with_checksum({"units": entries}))

    # Results.

    def write_unit(self, unit: Unit, tables: dict[str, pa.Table], environment: dict[str, Any]) -> None:
        """Write a unit's files, its main one last, then list it in the manifest: only then it counts as finished."""
        stored, listed = self.record(), self.units()
        entry: dict[str, Any] = {"unit": unit.record, "files": {}, "environment": environment}
        for name in sorted(tables, key=lambda name: name == unit.main_table):
            table = tables[name]
            data = sealed_parquet(table, {"table": name, "rows": table.num_rows, "run": stored} | entry)
            files.own_folder(self.path / name, make=True)
            path = self.path / unit.path(name)
            if os.path.lexists(path) and not self._may_replace(unit, name, stored, listed):
                files.set_aside(path)
            files.write_atomically(path, data)
            entry["files"] = entry["files"] | {name: _of_file(data, table.num_rows)}
        self.write_units(listed | {unit: entry})

    def read_file(
        self, unit: Unit, table: str, entry: dict[str, Any], stored: dict[str, Any], verify: bool = True
    ) -> bytes:
        """The bytes of a unit's file, held against its entry, or against the record in the file itself.

        Args:
          unit, table: whose file.
          entry: what the manifest says of the unit.
          stored: the configuration's record.
          verify: whether to hold the bytes against anything.

        Raises:
          Damaged: they are neither what the entry says, nor a later file of this unit.
        """
        if not verify:
            return self._bytes(unit, table)
        try:
            return self._held(unit, table, entry, stored)
        except Damaged:
            later = self._entry_in_file(unit, stored)
            if later is None:
                raise
            return self._held(unit, table, later, stored)  # its writer was killed before it could list it

    def survey(self) -> Survey:
        """Hold every file against the manifest, and what that doesn't list against the file's own record.

        Raises:
          InputError: the results are those of another configuration than config.json's.
        """
        # Looked at before the manifest is read: a sweep that is running lists a file after writing it.
        there = self._files()
        stored = self.config()
        if stored is None:
            return Survey({}, [], [], {}, False)
        problems = self._damaged_records(stored)
        try:
            manifest = self._listed(stored)
        except Damaged:
            manifest = None
        whole, listing, broken = {}, {}, []
        for unit, entry in (manifest or {}).items():
            wrong = self._what_is_wrong(unit, entry, stored)
            later = self._entry_in_file(unit, stored) if wrong else entry
            listing[unit] = later or entry
            if later:
                whole[unit] = later
            else:
                broken.append(unit)
                problems += wrong
        held = Held(listing)
        accounted = {unit.path(table) for unit, entry in listing.items() for table in entry["files"]}
        for path in there:
            table, owner = _table_and_unit(path)
            if path in accounted or owner is None or table != owner.main_table:
                continue
            its = self._entry_in_file(owner, stored)
            if its and held.add(owner):
                whole[owner] = listing[owner] = its
                accounted |= {owner.path(table) for table in its["files"]}
                if manifest is not None:
                    problems.append(Damage(path, "whole, but the manifest does not list it yet"))
        if not whole:
            self._refuse_results_of_another(there, stored)
        for path in there:
            table, owner = _table_and_unit(path)
            if path in accounted:
                continue
            if owner and self._is_own(owner, table, stored) and held.add(owner):
                broken.append(owner)
                accounted |= {owner.path(table) for table in TABLES}
                problems.append(Damage(path, "of a unit that was not finished"))
            elif owner and manifest is None and self._has_seal(owner, table) is False:
                raise InputError(
                    f"{self.path / 'manifest.json'}: missing or damaged, and {path} is of an earlier version, which "
                    f"kept its record there alone; {self._way_out()}"
                )
            else:
                problems.append(Damage(path, "foreign, the manifest does not list it"))
        return Survey(whole, broken, problems, listing, listing != (manifest or {}))

    def clear(self) -> list[Damage]:
        """Forget and delete all results; the configuration stays, so that a killed `clear` leaves a run directory.

        Returns:
          The files that stay, since nothing shows that this program wrote them.
        """
        try:
            listed = self._listed(self.record()) or {}
        except (Damaged, InputError):
            listed = {}
        ours = {unit.path(table) for unit, entry in listed.items() for table in entry["files"]}
        self.write_units({})
        stay = []
        for path in self._files():
            table, unit = _table_and_unit(path)
            if path in ours or (unit and self._has_seal(unit, table)):
                (self.path / path).unlink()
            else:
                stay.append(Damage(path, "foreign, it shows no sign of being a result"))
        return stay

    def remove_temporaries(self) -> None:
        """Delete what killed writes left; nobody else writes under the lock."""
        files.remove_temporaries(self.path, r"(config|manifest)\.json")
        for table in TABLES:
            if (self.path / table).is_dir():
                files.remove_temporaries(self.path / table, r"[a-z][\w~=,.+-]*-s\d+-\d+-\d+\.parquet")

    def aside(self) -> list[str]:
        """The foreign files that gave way to results, as paths below the run directory."""
        there = [self.path / table for table in TABLES if (self.path / table).is_dir()]
        found = [path for folder in there for path in folder.iterdir() if files.ASIDE.fullmatch(path.name)]
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    # What a file says of itself.

    def _entry_in_file(self, unit: Unit, stored: dict[str, Any]) -> dict[str, Any] | None:
        """The entry in the record of a unit's main file; None unless all its files are there and whole."""
        try:
            data = self._bytes(unit, unit.main_table)
            record = record_in(data)
            if record is None or not is_record_of(record, unit, unit.main_table, stored):
                return None
            its = record["files"] | {unit.main_table: _of_file(data, record["rows"])}
            _, entry = check_entry({**record, "files": its}, stored)
            check_content(data, unit, unit.main_table, stored)
        except (Damaged, KeyError, TypeError):
            return None
        others = {table: of_file for table, of_file in entry["files"].items() if table != unit.main_table}
        return None if self._what_is_wrong(unit, {"files": others}, stored) else entry

    def _is_own(self, unit: Unit, table: str, stored: dict[str, Any]) -> bool:
        """Whether a unit's file of a table is whole, and written for this run."""
        return is_record_of(self._record_in(unit, table), unit, table, stored)

    def _may_replace(self, unit: Unit, table: str, stored: dict[str, Any], listed: Units) -> bool:
        """Whether nothing but this run's is lost with a unit's file: no user's, nor a whole one of another run."""
        foreign = configuration_of(self._record_in(unit, table)) not in (None, stored["config_hash"])
        return not foreign and (unit in listed or self._is_own(unit, table, stored))

    def _record_in(self, unit: Unit, table: str) -> dict[str, Any] | None:
        """The record in a unit's file; None unless it is whole."""
        try:
            return record_in(self._bytes(unit, table))
        except Damaged:
            return None

    def _refuse_results_of_another(self, there: list[str], stored: dict[str, Any]) -> None:
        """Raise `InputError` if whole files name another configuration and none names this one.

        Computing these units "again" would replace all that somebody has.
        """
        named: set[str] = set()
        for table, unit in map(_table_and_unit, there):
            if unit:
                with contextlib.suppress(Damaged):
                    named |= configurations_in(self._bytes(unit, table))
        if named and stored["config_hash"] not in named:
            raise InputError(
                f"{self.path / 'config.json'}: is of configuration {stored['config_hash']}, the results are of "
                f"{' and '.join(sorted(map(printable, named)))}; {self._way_out()}"
            )

    def _way_out(self) -> str:
        return f"restore it, use another path, or move what is in {self.path} away"

    def _has_seal(self, unit: Unit, table: str) -> bool | None:
        """Whether a unit's file was written by this program, whole or not; None if it can't be read."""
        try:
            return has_seal(self._bytes(unit, table))
        except Damaged:
            return None

    def _config_in_files(self) -> dict[str, Any] | None:
        """The configuration's record in the result files, with all levels and trials; None if they differ in more."""
        found = []
        for path in self._files():
            table, unit = _table_and_unit(path)
            if unit is None or table != unit.main_table:
                continue
            try:
                record = record_in(self._bytes(unit, table))
                found += [] if record is None else [check_config(dict(record["run"]))]
            except (ValueError, KeyError, TypeError):  # `Damaged` is a ValueError
                continue
        if len({content["config_hash"] for content in found}) != 1:
            return None
        levels = sorted({s for content in found for s in content["config"]["levels"]})
        trials = max(content["config"]["trials"] for content in found)
        every = {
            method: (text, its_hash)
            for content in found
            for (method, its_hash), text in zip(content["solvers"].items(), content["config"]["solver"])
        }
        filled = {"levels": levels, "trials": trials, "solver": [text for text, _ in every.values()]}
        solvers = {method: its_hash for method, (_, its_hash) in every.items()}
        return found[0] | {"config": found[0]["config"] | filled, "solvers": solvers}

    # Files.

    def _files(self) -> list[str]:
        """What `pandas.read_parquet` would read, as paths below the run directory."""
        folders = [files.own_folder(self.path / table) for table in TABLES]
        found = [p.relative_to(self.path) for folder in folders for p in folder.rglob("*") if not p.is_dir()]
        return sorted(p.as_posix() for p in found if not any(part[0] in "._" for part in p.parts))

    def _bytes(self, unit: Unit, table: str) -> bytes:
        path = self.path / unit.path(table)
        files.own_folder(path.parent)
        try:
            return files.read_file(path)
        except FileNotFoundError:
            raise Damaged("missing") from None
        except OSError as error:
            raise Damaged(f"unreadable: {error.strerror}") from error

    def _held(self, unit: Unit, table: str, entry: dict[str, Any], stored: dict[str, Any]) -> bytes:
        """The bytes of a unit's file, held against its entry, its own record and its unit."""
        data, expected = self._bytes(unit, table), entry["files"][table]
        record = record_in(data)
        its_hash = configuration_of(record)
        if its_hash not in (None, stored["config_hash"]):
            raise Damaged(f"foreign, of configuration {printable(its_hash)}, not config.json's {stored['config_hash']}")
        if len(data) != expected["bytes"]:
            raise Damaged(f"torn, {len(data)} bytes instead of {expected['bytes']}")
        if hashlib.sha256(data).hexdigest() != expected["sha256"]:
            raise Damaged("damaged, its SHA-256 differs from the manifest's")
        # Files of format 1 have no seal.
        if has_seal(data) and not is_record_of(record, unit, table, stored):
            raise Damaged("not this unit's, by the record in it")
        check_content(data, unit, table, stored)
        return data

    def _what_is_wrong(self, unit: Unit, entry: dict[str, Any], stored: dict[str, Any]) -> list[Damage]:
        """What is wrong with the files of an entry."""
        wrong = []
        for table in entry["files"]:
            try:
                self._held(unit, table, entry, stored)
            except Damaged as error:
                wrong.append(Damage(unit.path(table), str(error)))
        return wrong

    def _listed(self, stored: dict[str, Any]) -> Units | None:
        """The manifest's units; None if there is no manifest."""
        manifest = self._record("manifest.json")
        return None if manifest is None else check_units(manifest.get("units"), stored)

    def _damaged_records(self, stored: dict[str, Any]) -> list[Damage]:
        problems = []
        checks = {"config.json": check_config, "manifest.json": lambda its: check_units(its.get("units"), stored)}
        for name, is_right in checks.items():
            try:
                content = self._record(name)
                if content is None:
                    raise Damaged("missing")
                is_right(content)
            except Damaged as error:
                problems.append(Damage(name, f"{error}; the result files hold it too, ihtjax sweep makes it again"))
        return problems

    def _record(self, name: str) -> dict[str, Any] | None:
        try:
            return without_checksum(files.read_file(self.path / name))
        except FileNotFoundError:
            return None
        except InputError as error:
            raise InputError(f"{self.path / name}: {error}") from error
        except OSError as error:
            raise InputError(f"{self.path / name}: cannot be read ({error.strerror}); check what it is") from error


def _table_and_unit(path: str) -> tuple[str, Unit | None]:
    """The table in whose folder a path below the run directory lies, and the unit whose file is called so, if any."""
    table, _, file_name = path.partition("/")
    return table, unit_of(file_name)


def _of_file(data: bytes, rows: int) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rows": rows}

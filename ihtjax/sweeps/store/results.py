"""A run's result files: written so that a unit is finished once its main file is there, and read as what they are."""

import contextlib
import hashlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from ihtjax.errors import InputError
from ihtjax.sweeps.store.records import (
    FORMAT,
    TABLES,
    Damage,
    Damaged,
    Fit,
    Unit,
    Unreadable,
    check_entry,
    owner_of,
    place,
    places,
)
from ihtjax.sweeps.store.schemas import check_content
from ihtjax.sweeps.store.sealed import configuration_of, has_seal, is_record_of, record_in, sealed_parquet
from ihtjax.sweeps.store.storage import Storage, is_no_file, listed
from ihtjax.text import printable

# What killed writes of result files were of.
NAME = r"[a-z][\w~=,.+-]*-s\d+-\d+-\d+(-[0-9a-f]{12})?\.parquet"


class Results:
    """The files in the tables' folders. Where one lies follows from its unit and content, never from a record's path.

    Each holds a record of itself, the main one of a unit also the hashes of the unit's others.
    """

    def __init__(self, storage: Storage):
        self.storage = storage

    def keys(self) -> list[str]:
        """What `pandas.read_parquet` would read, the main files last, since they are written last.

        Raises:
          InputError: a folder can't be listed.
        """
        tables = sorted(TABLES, key=lambda table: table == "trials")
        found = [key for table in tables for key in listed(self.storage, f"{table}/")]
        return [key for key in found if not any(part[0] == "_" for part in key.split("/"))]

    def get(self, key: str) -> bytes:
        """What is there; `Damaged` if nothing is, or it is no file, `Unreadable` if it can't be read."""
        try:
            return self.storage.get(key)
        except FileNotFoundError:
            raise Damaged("missing") from None
        except OSError as error:
            raise (Damaged if is_no_file(error) else Unreadable)(f"unreadable: {error.strerror}") from error

    def is_readable(self, key: str) -> bool:
        """Whether what is there, if anything, can be read now."""
        try:
            self.get(key)
        except Unreadable:
            return False
        except Damaged:
            pass
        return True

    # Writing.

    def write(
        self,
        unit: Unit,
        tables: dict[str, pa.Table],
        environment: dict[str, Any],
        stored: dict[str, Any],
        before: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write a unit's files, its main one last: creating that finishes the unit.

        A main file that is there is replaced if it is damaged, of a unit that is, or of certificates that these
        supersede; if somebody else finished the unit meanwhile, theirs stays.

        Args:
          unit, tables, environment: what, and what it was made with.
          stored: the configuration's record.
          before: what is recorded of the files that are there, which are then the run's even where they are damaged.

        Returns:
          What is recorded of the unit from now on.
        """
        entry: dict[str, Any] = {"format": FORMAT, "unit": unit.record, "files": {}, "environment": environment}
        old = places(unit, before)
        for name in sorted(tables, key=lambda name: name == unit.main_table):
            table = tables[name]
            data = sealed_parquet(table, {"table": name, "rows": table.num_rows, "run": stored} | entry)
            entry["files"] = entry["files"] | {name: _of_file(data, table.num_rows)}
            key = place(unit, name, entry)
            if self.storage.create(key, data):
                continue
            if name == unit.main_table and isinstance(unit, Fit) and (theirs := self.whole_entry(unit, stored)):
                old |= places(unit, entry)
                entry = theirs
                break
            if name == unit.main_table and before is None:
                old |= self._of(unit, tables.keys() - {name})
            self._replace(key, data, unit, name, stored, key in old)
        for key in old - places(unit, entry):
            if self.may_replace(key, unit, owner_of(key)[0], stored, known=before is not None):
                self.storage.delete(key)
        return check_entry(entry, stored)[1]

    def _of(self, unit: Unit, tables: Iterable[str]) -> set[str]:
        """The files that are called as a unit's of some tables are."""
        stem = unit.file_name.removesuffix(".parquet")
        found = {key for table in tables for key in self.storage.list(f"{table}/{stem}")}
        return {key for key in found if owner_of(key)[1] == unit}

    def _replace(self, key: str, data: bytes, unit: Unit, table: str, stored: dict[str, Any], known: bool) -> None:
        """Write where something is: over it if it is the run's, else it is set aside."""
        if self.may_replace(key, unit, table, stored, known):
            self.storage.put(key, data)
        else:
            self.storage.set_aside(key)
            if not self.storage.create(key, data):
                raise InputError(f"{key}: another process writes it; end that, then the same command goes on")

    def may_replace(self, key: str, unit: Unit, table: str, stored: dict[str, Any], known: bool) -> bool:
        """Whether nothing but this run's is lost with a file: no user's, nor a whole one of another run."""
        record = self.record(key)
        foreign = configuration_of(record) not in (None, stored["config_hash"])
        return not foreign and (known or is_record_of(record, unit, table, stored))

    # What a file says of itself.

    def record(self, key: str) -> dict[str, Any] | None:
        """The record in a file; None unless it is whole."""
        try:
            return record_in(self.get(key))
        except Damaged:
            return None

    def has_hash(self, key: str, sha256: str | None) -> bool:
        """Whether a file has this SHA-256; no file has none."""
        try:
            return sha256 is not None and hashlib.sha256(self.get(key)).hexdigest() == sha256
        except Damaged:
            return False

    def has_seal(self, key: str) -> bool | None:
        """Whether a file was written by this program, whole or not; None if it can't be read."""
        try:
            return has_seal(self.get(key))
        except Damaged:
            return None

    def own_entry(self, unit: Unit, stored: dict[str, Any]) -> dict[str, Any] | None:
        """What a unit's main file records of the unit; None unless that file is whole and the unit's."""
        with contextlib.suppress(Unreadable):
            return self.main_entry(unit, stored)
        return None

    def main_entry(self, unit: Unit, stored: dict[str, Any]) -> dict[str, Any] | None:
        """The same; `Unreadable` if the file is there and nobody can tell."""
        try:
            data = self.get(unit.path(unit.main_table))
            record = record_in(data)
            if record is None or not is_record_of(record, unit, unit.main_table, stored):
                return None
            its = record["files"] | {unit.main_table: _of_file(data, record["rows"])}
            _, entry = check_entry({**record, "files": its}, stored)
            check_content(data, unit, unit.main_table, stored)
            return entry
        except Unreadable:
            raise
        except (Damaged, KeyError, TypeError):
            return None

    def whole_entry(self, unit: Unit, stored: dict[str, Any]) -> dict[str, Any] | None:
        """The same; None unless the unit's other files are whole, too."""
        entry = self.own_entry(unit, stored)
        return None if entry is None or self.damage(unit, entry, stored) else entry

    # Files held against what is recorded of them.

    def read(self, unit: Unit, table: str, entry: dict[str, Any], stored: dict[str, Any], verify: bool) -> bytes:
        """See `RunDirectory.read_file`."""

        def found(entry):
            return self.held(unit, table, entry, stored) if verify else self.get(place(unit, table, entry))

        try:
            return found(entry)
        except Damaged:
            later = self.own_entry(unit, stored)
            if later is None:
                raise
            with contextlib.suppress(Damaged):
                return found(later)  # its writer was killed before it could list it
            raise

    def held(self, unit: Unit, table: str, entry: dict[str, Any], stored: dict[str, Any]) -> bytes:
        """The bytes of a unit's file, held against what is recorded of it, its own record and its unit."""
        data, expected = self.get(place(unit, table, entry)), entry["files"][table]
        record = record_in(data)
        its_hash = configuration_of(record)
        if its_hash not in (None, stored["config_hash"]):
            raise Damaged(f"foreign, of configuration {printable(its_hash)}, not config.json's {stored['config_hash']}")
        if len(data) != expected["bytes"]:
            raise Damaged(f"torn, {len(data)} bytes instead of {expected['bytes']}")
        if hashlib.sha256(data).hexdigest() != expected["sha256"]:
            raise Damaged("damaged, its SHA-256 differs from the recorded one")
        # Files of format 1 have no seal.
        if has_seal(data) and not is_record_of(record, unit, table, stored):
            raise Damaged("not this unit's, by the record in it")
        check_content(data, unit, table, stored)
        return data

    def damage(self, unit: Unit, entry: dict[str, Any], stored: dict[str, Any]) -> list[Damage]:
        """What is wrong with a unit's files."""
        found = []
        for table in entry["files"]:
            try:
                self.held(unit, table, entry, stored)
            except Damaged as error:
                found.append(Damage(place(unit, table, entry), str(error)))
        return found


def _of_file(data: bytes, rows: int) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rows": rows}

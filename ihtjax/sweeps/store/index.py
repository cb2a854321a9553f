"""A run's index: a line for each finished unit, with the hashes of its files, so that reading need not look into all.

It is never needed: the files hold the same of themselves. Lines are added in batches, each a file of its own in `_log`,
so that nothing is written again. Up to format 2 there was one list, `manifest.json`, which is still read.
"""

import re
import secrets
from typing import Any, NamedTuple

from ihtjax.errors import InputError
from ihtjax.sweeps.store.configuration import Configuration
from ihtjax.sweeps.store.records import (
    Damage,
    Damaged,
    Unit,
    Units,
    check_entry,
    check_units,
    with_checksum,
    without_checksum,
)
from ihtjax.sweeps.store.storage import Storage, is_no_file, listed

FOLDER = "_log"
NAME = r"(\d{9})-[0-9a-f]{8}\.jsonl"
HIGHEST = 900_000_000  # of a number that others may have made up none is counted on from
MANIFEST = "manifest.json"
LISTED_ANEW = "ihtjax sweep lists them anew"
SAID_ELSEWHERE = f"the result files say it too, {LISTED_ANEW}"
# Lines of a file: as many units at most are read by their own record after a kill.
BATCH = 64


class Known(NamedTuple):
    """What the index says.

    Attributes:
      units: what it records of each unit.
      kept: the same without what stands in damaged files alone, which are set aside once it is written anew.
      manifest: the units of the manifest; None if there is none, or it is damaged.
      damaged: the files of the index that are.
      problems: all that is wrong with it.
    """

    units: Units
    kept: Units
    manifest: Units | None
    damaged: list[str]
    problems: list[Damage]


class Index:
    """What is known of finished units without a look at their files.

    Args:
      storage: of the run.
      configuration: of the run.
    """

    def __init__(self, storage: Storage, configuration: Configuration):
        self.storage, self.configuration = storage, configuration
        self.pending: list[dict[str, Any]] = []
        self.writer, self.number = secrets.token_hex(4), 0

    def add(self, entry: dict[str, Any]) -> None:
        """Note that a unit is finished."""
        self.pending.append(entry)
        if len(self.pending) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was noted; called under the run's lock."""
        if not self.pending:
            return
        data = b"".join(with_checksum(entry, indent=None) for entry in self.pending)
        numbers = () if self.number else (int(match[1]) for _, match in self._files() if match)
        self.number = self.number or 1 + max((number for number in numbers if number < HIGHEST), default=0)
        while not self.storage.create(f"{FOLDER}/{self.number:09d}-{self.writer}.jsonl", data):
            self.number += 1
        self.number += 1
        self.pending = []

    def read(self, stored: dict[str, Any]) -> Known:
        """What it says, later lines over earlier ones.

        Raises:
          InputError: some of it is of a later format.
        """
        found = Known({}, {}, None, [], [])
        found = self._read_manifest(stored, found)
        for key, match in self._files():
            if match is None:
                found.problems.append(Damage(key, "foreign, no part of the index"))
                continue
            try:
                lines = self.storage.get(key).split(b"\n")
            except FileNotFoundError:
                continue
            except OSError as error:
                why = "foreign, no file" if is_no_file(error) else "unreadable"
                found.problems.append(Damage(key, f"{why}: {error.strerror}; {SAID_ELSEWHERE}"))
                continue
            units, wrong = self._units_in(key, lines, stored)
            found.units.update(units)
            if wrong:
                found.damaged.append(key)
                found.problems.append(Damage(key, f"{wrong}; {SAID_ELSEWHERE}"))
            else:
                found.kept.update(units)
        return found

    def exists(self) -> bool:
        """Whether there is any."""
        return any(match for _, match in self._files())

    def clear(self) -> None:
        """Delete its lines, but no manifest."""
        self.pending = []
        for key, match in self._files():
            if match:
                self.discard(key)

    def discard(self, key: str) -> None:
        """Delete a file of the index; what shows no sign of being one, as anybody's manifest.json, is set aside."""
        try:
            data = self.storage.get(key)
        except OSError as error:
            if is_no_file(error):
                return
            raise  # what it lists is about to go
        if key != MANIFEST and (not data or b'"sha256": "' in data):
            self.storage.delete(key)
        else:
            self.storage.set_aside(key)

    def _read_manifest(self, stored: dict[str, Any], found: Known) -> Known:
        try:
            content = self.configuration.record(MANIFEST)
            if content is None:
                if stored["format"] < 3:
                    found.problems.append(Damage(MANIFEST, f"missing; {SAID_ELSEWHERE}"))
                return found
            units = check_units(content.get("units"), stored)
        except Damaged as error:
            found.damaged.append(MANIFEST)
            found.problems.append(Damage(MANIFEST, f"{error}; {SAID_ELSEWHERE}"))
            return found
        return found._replace(units=dict(units), kept=dict(units), manifest=units)

    def _units_in(self, key: str, lines: list[bytes], stored: dict[str, Any]) -> tuple[Units, str]:
        """The units in a file's lines, and what is wrong with one of them, if anything is."""
        units: dict[Unit, dict[str, Any]] = {}
        wrong = "" if lines[-1] == b"" and len(lines) > 1 else "torn"
        for line in lines[:-1]:
            try:
                unit, entry = check_entry(without_checksum(line), stored)
                units[unit] = entry
            except Damaged as error:
                wrong = str(error)
            except InputError as error:
                raise InputError(f"{self.configuration.path / key}: {error}") from error
        return units, wrong

    def _files(self) -> list[tuple[str, re.Match | None]]:
        """What is in its folder, each with the match of its name."""
        return [(key, re.fullmatch(f"{FOLDER}/{NAME}", key)) for key in listed(self.storage, f"{FOLDER}/")]

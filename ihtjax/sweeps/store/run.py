"""A run directory: configuration, results, and an index of them, in files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa

from ihtjax.errors import PATH, InputError, check
from ihtjax.sweeps.store import files, index, results
from ihtjax.sweeps.store.configuration import KEY, Configuration
from ihtjax.sweeps.store.index import FOLDER, MANIFEST, Index
from ihtjax.sweeps.store.records import TABLES, Certify, Damage, Damaged, Unit, Units, main_of, owner_of, places
from ihtjax.sweeps.store.results import Results
from ihtjax.sweeps.store.storage import Folder
from ihtjax.sweeps.store.survey import Survey, finished, survey


class RunDirectory:
    """The files of one run. Reading needs no lock; everything that writes is called under `lock`.

    A unit is finished once its main file is there. That holds the hashes of its others, and the run's configuration;
    `config.json` and the index, which hold the same, are made again if they are lost.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(check("run_dir", path, PATH))
        self.storage = Folder(self.path)
        self.results = Results(self.storage)
        self.configuration = Configuration(self.results, self.path)
        self.index = Index(self.storage, self.configuration)

    def exists(self) -> bool:
        """Whether this is a run directory, whole or not."""
        if any(os.path.lexists(self.path / name) for name in (KEY, MANIFEST)):
            return True
        with contextlib.suppress(InputError):  # a link, or what can't be listed, is no sign of one
            return self.index.exists() or any(map(main_of, self.results.keys()))
        return False

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
            for folder in new:
                with contextlib.suppress(OSError):  # not every folder above may be opened
                    files.sync_folder(folder.parent)
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
            for name in (*TABLES, FOLDER):
                files.own_folder(self.path / name)
            with self._index_written():
                yield
        finally:
            try:
                if new and not self.exists():
                    # Nothing came of it: leave nothing behind.
                    with contextlib.suppress(OSError):
                        (self.path / ".lock").unlink(missing_ok=True)
                        for folder in new:
                            folder.rmdir()
            finally:
                lock.release()

    @contextlib.contextmanager
    def _index_written(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError, InputError):  # what ended it is what matters
                self.index.flush()
            raise
        self.index.flush()

    # What is there.

    def config(self) -> dict[str, Any] | None:
        """What `write_config` wrote; None if the directory is new.

        A record that was lost or damaged is taken from the files that were written under it.

        Raises:
          InputError: they don't hold it either, or it is of a later format.
        """
        return self.configuration.read()

    def record(self) -> dict[str, Any]:
        """What `write_config` wrote; `InputError` if there is nothing."""
        return self.configuration.required()

    def units(self) -> Units:
        """The finished units, each with hash, size and rows of its files, and its environment."""
        there = self.results.keys()
        stored = self.config()
        if stored is None:
            return {}
        known = self.index.read(stored)
        return dict(finished(self.configuration, self.results, there, known, stored))

    def read_file(
        self, unit: Unit, table: str, entry: dict[str, Any], stored: dict[str, Any], verify: bool = True
    ) -> bytes:
        """The bytes of a unit's file, held against its entry, or against the record in its main file.

        Args:
          unit, table: whose file.
          entry: what `units` says of it.
          stored: the configuration's record.
          verify: whether to hold the bytes against anything.

        Raises:
          Damaged: they are neither what the entry says, nor a later file of this unit.
        """
        return self.results.read(unit, table, entry, stored, verify)

    def survey(self) -> Survey:
        """Hold every file against the index, and what that doesn't know against the file's own record.

        Raises:
          InputError: the results are those of another configuration than config.json's.
        """
        return survey(self.configuration, self.results, self.index)

    def aside(self) -> list[str]:
        """What was set aside, foreign files and damaged parts of the index, as paths below the run directory."""
        return list(self.storage.aside(""))

    # Writing.

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the configuration's record."""
        self.configuration.write(config)

    def write_unit(
        self,
        unit: Unit,
        tables: dict[str, pa.Table],
        environment: dict[str, Any],
        before: dict[str, Any] | None = None,
    ) -> None:
        """Write a unit's files, its main one last: only then it is finished. The index knows it some units later.

        Args:
          unit, tables, environment: what, and what it was made with.
          before: what is recorded of its files that are there, if they are damaged or superseded.
        """
        stored = self.configuration.in_this_format()
        self.index.add(self.results.write(unit, tables, environment, stored, before))
        if isinstance(unit, Certify):
            self.index.flush()  # the levels and solvers that it says of the unit are not so any more

    def mend(self, found: Survey) -> None:
        """Make the index say what was found, and delete what belongs to no unit."""
        for key in found.orphans:
            self.storage.delete(key)
        if found.unlisted:
            self.configuration.in_this_format()
        for entry in found.unlisted.values():
            self.index.add(entry)
        self.index.flush()
        for key in found.damaged:
            self.index.discard(key)

    def clear(self) -> list[Damage]:
        """Forget and delete all results; the configuration stays, so that a killed `clear` leaves a run directory.

        Returns:
          The files that stay, since nothing shows that this program wrote them.
        """
        ours: set[str] = set()
        manifest = None
        with contextlib.suppress(Damaged, InputError):
            known = self.index.read(self.record())
            ours = {key for unit, entry in known.units.items() for key in places(unit, entry)}
            manifest = known.manifest
        if manifest is None:
            with contextlib.suppress(FileNotFoundError):
                self.storage.set_aside(MANIFEST)
        self.index.clear()
        stay = []
        # A unit's main file first: what is left of it by a kill is no unit.
        for key in sorted(self.results.keys(), key=lambda key: main_of(key) is None):
            if key in ours or (owner_of(key)[1] and self.results.has_seal(key)):
                self.storage.delete(key)
            else:
                stay.append(Damage(key, "foreign, it shows no sign of being a result"))
        if manifest is not None:
            self.storage.delete(MANIFEST)  # last, as the only record of what format 1 wrote
        return stay

    def remove_temporaries(self) -> None:
        """Delete what killed writes left; nobody else writes under the lock."""
        self.storage.clean("", r"(config|manifest)\.json")
        self.storage.clean(f"{FOLDER}/", index.NAME)
        for table in TABLES:
            self.storage.clean(f"{table}/", results.NAME)

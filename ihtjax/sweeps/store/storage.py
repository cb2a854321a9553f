"""Where a run's bytes are kept: by key, such as "trials/a.parquet", each there whole or not at all."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ihtjax.errors import InputError
from ihtjax.sweeps.store import files


class Storage(Protocol):
    """Bytes by key. Folders of a folder and prefixes of an object store are the same here: what ends in "/"."""

    def create(self, key: str, data: bytes) -> bool:
        """Write what isn't there; False, and nothing is changed, if something is."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write, or replace what is there."""
        ...

    def get(self, key: str) -> bytes:
        """What was written; `FileNotFoundError` if nothing is there, another `OSError` if it can't be read."""
        ...

    def list(self, prefix: str) -> Sequence[str]:
        """The keys that begin so, in order; without those that have a part that begins with a dot.

        All of them: what is finished is what is listed, so that an `OSError` is raised where some can't be.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete what is there, if anything is."""
        ...

    def set_aside(self, key: str) -> None:
        """Keep what is there, whatever it is, under a key that `list` doesn't show."""
        ...

    def aside(self, prefix: str) -> Sequence[str]:
        """The keys of what was set aside."""
        ...

    def clean(self, prefix: str, name: str) -> None:
        """Delete what killed writes of keys left whose last part is called so (a regular expression).

        Nobody else may write meanwhile.
        """
        ...


def is_no_file(error: OSError) -> bool:
    """Whether `Storage.get` failed since a link, a folder or a device is there, which no later try reads."""
    return error.errno in (None, errno.ELOOP)


def listed(storage: Storage, prefix: str) -> Sequence[str]:
    """The keys that begin so; `InputError` if some can't be listed."""
    try:
        return storage.list(prefix)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror}); check what it is") from error


class Folder:
    """A local folder. No key leads out of it: links are neither followed nor written through.

    Args:
      path: which; need not be there yet.
    """

    def __init__(self, path: Path):
        self.path = path

    def create(self, key: str, data: bytes) -> bool:
        return files.create_atomically(self._at(key, make=True), data)

    def put(self, key: str, data: bytes) -> None:
        files.write_atomically(self._at(key, make=True), data)

    def get(self, key: str) -> bytes:
        return files.read_file(self._at(key))

    def list(self, prefix: str) -> Sequence[str]:
        return [key for key in self._below(prefix) if not any(part[0] == "." for part in key.split("/"))]

    def delete(self, key: str) -> None:
        self._at(key).unlink(missing_ok=True)

    def set_aside(self, key: str) -> None:
        files.set_aside(self._at(key))

    def aside(self, prefix: str) -> Sequence[str]:
        return [key for key in self._below(prefix) if files.ASIDE.fullmatch(key.rpartition("/")[2])]

    def clean(self, prefix: str, name: str) -> None:
        folder = self._at(f"{prefix}*").parent
        if folder.is_dir():
            files.remove_temporaries(folder, name)

    def _at(self, key: str, make: bool = False) -> Path:
        """Where a key's file lies.

        Raises:
          InputError: a folder on the way is a link, or no folder.
        """
        *folders, name = key.split("/")
        if not all(part not in ("", ".", "..") and "\0" not in part for part in (*folders, name)):
            raise ValueError(f"{key!r} is no key")
        path = self.path
        for folder in folders:
            path = files.own_folder(path / folder, make)
        return path / name

    def _below(self, prefix: str) -> Sequence[str]:
        """All that is below a prefix's folder and begins so, but folders."""

        def refuse(error):
            if not isinstance(error, FileNotFoundError):
                raise error

        folder = self._at(f"{prefix}*").parent
        walk = os.walk(folder, onerror=refuse)
        found = (Path(at, name).relative_to(self.path).as_posix() for at, _, names in walk for name in names)
        return sorted(key for key in found if key.startswith(prefix))

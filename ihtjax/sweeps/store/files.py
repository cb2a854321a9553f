"""Files that are there whole or not at all, written and read without following links."""

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from ihtjax.errors import InputError

# Of a write that was killed: hidden, so that no reader of the folder sees it, and named so that only ours matches.
TEMPORARY = r"\.{name}\.[0-9a-f]{{16}}\.tmp"

# Of a file that `set_aside` renamed.
ASIDE = re.compile(r"\..+\.[0-9a-f]{16}\.aside")


def read_file(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
      FileNotFoundError: there is none.
      OSError: it is a link, a folder or a device, or it can't be read.
    """
    # Without O_NONBLOCK, opening a named pipe would wait for a writer.
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(None, "not a regular file", os.fspath(path))
        return stream.read()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that, whenever the process or machine stops, it is there whole or not at all.

    What stands under that name is replaced; if it is a link, the link is, not what it points to.
    """
    with _temporary(path, data) as temporary:
        os.replace(temporary, path)
        sync_folder(path.parent)


def create_atomically(path: Path, data: bytes) -> bool:
    """The same, unless something stands under that name, which is left as it is: whether the file was created."""
    if os.path.lexists(path):
        return False
    with _temporary(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # file systems without hard links say so in many ways; the run's lock alone guards the name
            if os.path.lexists(path):
                return False
            os.replace(temporary, path)
        sync_folder(path.parent)
    return True


@contextlib.contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[Path]:
    """A file beside a path that holds the data, on disk; gone afterwards. Errors name the path."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(temporary, flags, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except OSError as error:
        error.filename = os.fspath(path)  # a write's error names no file, and nobody knows the temporary one
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_output(path: Path, data: bytes) -> None:
    """Write what a user asked for under a name of the user's, which may be a device or a link, such as /dev/stdout."""
    if _is_written_in_place(path):
        path.write_bytes(data)
    else:
        write_atomically(path, data)


def check_output(name: str, path: Path) -> None:
    """Raise `InputError` unless `write_output` can write to this path, which a parameter of that name gave."""
    needed = path if _is_written_in_place(path) else path.parent
    if path.is_dir() or not needed.exists() or not os.access(needed, os.W_OK):
        raise InputError(f"{name}: cannot write {path}; name a file in a folder that is there")


def _is_written_in_place(path: Path) -> bool:
    return path.exists() and (path.is_symlink() or not path.is_file())


def sync_folder(folder: Path) -> None:
    """Wait until what was made or renamed in a folder outlasts a power cut."""
    if os.name == "posix":
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def set_aside(path: Path) -> None:
    """Rename a file so that readers of its folder don't see it and nothing is written over it."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(8)}.aside")
    os.rename(path, hidden)
    sync_folder(path.parent)


def own_folder(folder: Path, make: bool = False) -> Path:
    """The folder, unless it is a link or no folder: then what is written there would go somewhere else.

    Args:
      folder: which.
      make: make it if there is none.

    Raises:
      InputError: it is a link, or something else than a folder.
    """
    if folder.is_symlink():
        raise InputError(f"{folder}: is a link, expected a folder of the run's own; move the folder itself there")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder, expected one; move it away")
    if make:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            sync_folder(folder.parent)
    return folder


def remove_temporaries(folder: Path, name: str) -> None:
    """Delete what killed writes of files called so (a regular expression) left; call it under the run's lock."""
    pattern = re.compile(TEMPORARY.format(name=name))
    for entry in list(os.scandir(folder)):
        if pattern.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)

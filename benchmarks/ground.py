"""What the attacks share: runs that are made once and copied, commands in this process, and what counts as bad."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pandas as pd
from formats import as_format_1, as_format_2

from ihtjax import InputError, load
from ihtjax.cli import commands
from ihtjax.sweeps.store.records import Certify, Fit
from ihtjax.sweeps.store.run import RunDirectory

SMALL = "--levels 2,3,7 --trials 20 --steps 300 --n-monte 10 --curve-points 8".split()
LARGER = "--levels 2,3,5,7 --trials 25 --steps 300 --n-monte 10 --curve-points 8".split()
ORACLE = ["--trials", "4", "--no-enumerate"]
MORE = ["--trials", "6", "--no-enumerate"]
TABLES = ("trials", "curves", "certificates")
KEY = ["method", "s", "trial"]
# All but the end of a line, and what turns or hides text.
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Ground:
    """A folder with a run of two units a level and certificates, the same made at once and larger, and an outsider.

    And the same run as versions of formats 1 and 2 left it, and as a kill before the first lines of its index does.

    Args:
      folder: a folder of the attack's own; what an earlier worker made there is used again.
    """

    def __init__(self, folder: Path):
        self.folder, self.run, self.outside = folder, folder / "case" / "run", folder / "case" / "outside"
        names = ("pristine", "larger", "certified", "other", "all")
        self.pristine, self.larger, self.certified, self.other, everything = (folder / name for name in names)
        self.earlier, self.unlisted = {1: folder / "format_1", 2: folder / "format_2"}, folder / "unlisted"
        if not (folder / "ready").exists():
            first = [option if option != "20" else "12" for option in SMALL]
            for argv in (
                ["sweep", self.pristine, *first],
                ["sweep", self.pristine, *SMALL],
                ["oracle", self.pristine, *ORACLE],
                ["sweep", self.larger, *LARGER],
                ["sweep", everything, "--levels", "2,3,5,7,9,15", *LARGER[2:]],
                ["sweep", self.certified, *SMALL],
                ["oracle", self.certified, *MORE],
                ["sweep", self.other, *SMALL, "--seed", "1"],
                ["oracle", self.other, *ORACLE],
            ):
                done = command(*argv)
                assert done.code == 0, done.err
            for make, path in zip((as_format_1, as_format_2), self.earlier.values()):
                make(shutil.copytree(self.pristine, path))
            shutil.rmtree(shutil.copytree(self.pristine, self.unlisted) / "_log")
            (folder / "ready").touch()
        # What is right is read without this package's code, by the configuration that it is right for.
        # The last bits of certificates depend on which levels are certified at once.
        source = {"trials": everything, "curves": everything, "certificates": self.pristine}
        others = dict.fromkeys(TABLES, self.other)
        self.truths = {
            json.loads((its["trials"] / "config.json").read_text())["config_hash"]: {
                table: keyed(pd.read_parquet(run / table)) for table, run in its.items()
            }
            for its in (source, others)
        }
        self.rows = {table: len(pd.read_parquet(self.pristine / table)) for table in TABLES}
        self.files = {run: snapshot(run) for run in (self.pristine, self.unlisted, *self.earlier.values())}

    def fresh(self, source: Path | None = None) -> Path:
        """A new copy of a run, with files outside it that nobody may touch; a path that isn't there if no source."""
        shutil.rmtree(self.folder / "case", ignore_errors=True)
        self.outside.mkdir(parents=True)
        for name in ("victim.txt", "gd-s00015-000000000-000000011.parquet"):
            (self.outside / name).write_text("mine")
        shutil.copytree(self.outside, self.outside / "trials")
        if source is not None:
            shutil.copytree(source, self.run)
        return self.run

    def wrong_rows(self, frame: pd.DataFrame, table: str, complete: bool = False) -> str:
        """What is wrong with rows of a run, in words: each must be right, bit for bit, and there once."""
        its_hash = RunDirectory(self.run).record()["config_hash"]
        if its_hash not in self.truths:
            return f"{table}: rows of another configuration than the run's"
        truth, found = self.truths[its_hash][table], keyed(frame)
        if found.index.duplicated().any():
            return f"{table}: rows listed twice"
        if list(found.columns) != list(truth.columns) or not found.index.isin(truth.index).all():
            return f"{table}: rows or columns that the run can't have"
        for column, values in truth.loc[found.index].items():
            if bits(values) != bits(found[column]):
                return f"{table}: wrong values of {column}"
        if complete and len(found) < self.rows[table]:
            return f"{table}: {self.rows[table] - len(found)} rows lost"
        return ""

    def loaded(self, table: str, complete: bool = False) -> str:
        """What is wrong with what `load` returns; a refusal isn't."""
        try:
            return self.wrong_rows(load(self.run, table), table, complete)
        except InputError as error:
            return f"{table}: refused, {error}" if complete else ""
        except BaseException as error:
            return f"load {table}: {type(error).__name__}: {str(error)[:100]}"


class Done:
    """What a command left: exit code, what it printed, and the exception that got through, if any."""

    def __init__(self, argv, code, out, err, error=None):
        self.argv, self.code, self.out, self.err, self.error = argv, code, out, err, error

    def bad(self) -> str:
        """Why this is no way to end; empty if it is."""
        if self.error is not None:
            return f"{self.argv[0]}: traceback, {type(self.error).__name__}: {str(self.error)[:150]}"
        errors = [line for line in self.err.splitlines() if line.startswith("ihtjax: error:")]
        if self.code not in (0, 2) and (self.argv[0], self.code) != ("verify", 1):
            return f"{self.argv[0]}: exit code {self.code}"
        if len(errors) != (self.code == 2) or (errors and not self.err.rstrip("\n").endswith(errors[0])):
            return f"{self.argv[0]}: exit code {self.code} with {len(errors)} lines of error"
        if "Traceback" in self.err:
            return f"{self.argv[0]}: traceback"
        obeyed = CONTROLS.search(self.out + self.err)
        if obeyed:
            return f"{self.argv[0]}: printed {obeyed[0]!r}, which a terminal obeys"
        return ""


def command(*argv) -> Done:
    """Run a command line in this process, which saves its start."""
    argv = [str(argument) for argument in argv]
    # As a terminal would: bytes that aren't UTF-8 are an error on stdout, and escaped on stderr.
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    code = error = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            commands.main(argv)
        except SystemExit as end:
            code = end.code or 0
        except BaseException as end:
            error = end
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return Done(argv, code, *texts, error)


def keyed(frame: pd.DataFrame) -> pd.DataFrame:
    key = KEY + ["step"] * ("step" in frame)
    return frame.set_index(key, drop=False) if set(key) <= set(frame.columns) else frame


def differs(run: Path, expected: Path, tables: tuple[str, ...]) -> str:
    """In what the rows of two runs differ; empty if every bit is the same."""
    for table in tables:
        a, b = (keyed(pd.read_parquet(path / table)).sort_index() for path in (run, expected))
        if list(a.columns) != list(b.columns) or not a.index.equals(b.index):
            return f"{table}: other rows"
        for column in a:
            if bits(a[column]) != bits(b[column]):
                return f"{table}: other values of {column}"
    return ""


def bits(column: pd.Series) -> bytes:
    values = column.to_numpy()
    if values.dtype == object and len(values) and isinstance(values[0], np.ndarray):
        return str(values[0].dtype).encode() + np.stack(values).tobytes()
    return repr(list(values)).encode() if values.dtype == object else str(values.dtype).encode() + values.tobytes()


def snapshot(folder: Path) -> dict[str, str]:
    """All that is below a folder, by path: files by content, links by target, folders and devices by kind."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(where, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                content = "link to " + os.readlink(path)
            elif stat.S_ISREG(mode):
                content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            else:
                content = f"kind {stat.S_IFMT(mode):o}"
            if name != ".lock" or not stat.S_ISREG(mode):
                found[os.path.relpath(path, folder)] = content
    return found


def safe_units(run: Path) -> int:
    """How many units of a run's trials are whole."""
    return sum(isinstance(unit, Fit) for unit in RunDirectory(run).survey().whole)


def certified_trials(run: Path) -> list[int]:
    """Of how many trials each whole unit holds certificates."""
    return [unit.stop - unit.start for unit in RunDirectory(run).survey().whole if isinstance(unit, Certify)]

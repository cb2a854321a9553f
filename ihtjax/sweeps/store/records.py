"""What a run directory's records may hold, checked in one place: configuration, units, a file's own record.

A record is JSON with a checksum over the rest, or lies in the footer of a Parquet file that has one (`sealed`). A
checksum tells accidents, not malice, so every value is checked as well: type, range, and that no two units hold the
same trial.
"""

import bisect
import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ihtjax.errors import InputError, whole_number
from ihtjax.sweeps.config import SweepConfig
from ihtjax.text import is_printable, printable

# Format 1 had no checksums, and called files by their paths. Up to format 2 a manifest listed what was finished, and
# curves were named by their unit alone.
FORMAT = 3
TABLES = ("trials", "curves", "certificates")
METHOD = re.compile(r"(?!all$)[a-z][a-z0-9_]*(:\w+=[\w.+-]+(,\w+=[\w.+-]+)*)?")
CONFIG_FIELDS = {
    "config": dict,
    "config_hash": str,
    "data_sha256": str,
    "features": list,
    "classes": list,
    "parameters": list,
    "metrics": list,
    "solvers": dict,
    "batch": int,
}
SHA256 = re.compile(r"[0-9a-f]{64}")
TRIALS = whole_number(0)


class Damaged(ValueError):
    """A record that can't be what was written; the text says why."""


class Unreadable(Damaged):
    """A file that the system doesn't read now; it may be whole."""


class Damage(NamedTuple):
    """Something wrong with a run directory: a file, and what is wrong with it."""

    path: str
    what: str

    def __str__(self):
        # Names of files may hold anything, such as what a terminal obeys, or no text at all.
        path = printable(self.path)
        return f"{path}: {self.what}"


class Fit(NamedTuple):
    """A unit of work: to fit the trials ``start .. stop - 1`` of one method and level.

    One file per table, lost or kept as a whole; ``main_table`` is the one that is written last and makes it finished.
    """

    method: str
    s: int
    start: int
    stop: int

    @property
    def main_table(self) -> str:
        return "trials"

    @property
    def file_name(self) -> str:
        return _file_name(self.method.replace(":", "~"), self.s, self.start, self.stop)

    @property
    def group(self) -> tuple[str, int]:
        """What its trials are counted within: no two units of a group hold the same trial."""
        return self.method, self.s

    @property
    def record(self) -> list:
        """It as JSON types."""
        return list(self)

    def path(self, table: str) -> str:
        """Where its file of a table lies, below the run directory, if it isn't named by its content."""
        return f"{table}/{self.file_name}"

    def __str__(self):
        return f"{self.method}, s = {self.s}, trials {self.start} to {self.stop - 1}"


class Certify(NamedTuple):
    """A unit of work: to certify the trials ``start .. stop - 1`` of all methods and levels, which share their rows."""

    start: int
    stop: int

    @property
    def main_table(self) -> str:
        return "certificates"

    @property
    def file_name(self) -> str:
        return _file_name(*OF_ALL, self.start, self.stop)

    @property
    def group(self) -> tuple[str, int]:
        return OF_ALL

    @property
    def record(self) -> list:
        return [*OF_ALL, *self]

    def path(self, table: str) -> str:
        return f"{table}/{self.file_name}"

    def __str__(self):
        return f"certificates, trials {self.start} to {self.stop - 1}"


Unit = Fit | Certify
Units = dict[Unit, dict[str, Any]]
# How files and records spell all methods and levels.
OF_ALL = "all", 0
UNIT_FILE = re.compile(r"(.{1,200})-s(\d{5,10})-(\d{9,10})-(\d{9,10})\.parquet")
NAMED_BY_CONTENT = re.compile(r"(.+)-[0-9a-f]{12}\.parquet")


def _file_name(method: str, s: int, start: int, stop: int) -> str:
    return f"{method}-s{s:05d}-{start:09d}-{stop - 1:09d}.parquet"


def unit_of(file_name: str) -> Unit | None:
    """The unit whose files are called so; None if none is."""
    match = UNIT_FILE.fullmatch(file_name)
    if match is None:
        return None
    unit = unit_from([match[1].replace("~", ":"), int(match[2]), int(match[3]), int(match[4]) + 1])
    return unit if unit and unit.start < unit.stop and unit.file_name == file_name else None


def owner_of(key: str) -> tuple[str, Unit | None]:
    """The table in whose folder a file lies, and the unit whose file of that table may be called so, if any."""
    table, _, file_name = key.partition("/")
    unit = unit_of(file_name)
    if unit is None and (match := NAMED_BY_CONTENT.fullmatch(file_name)):
        unit = unit_of(f"{match[1]}.parquet")
        unit = None if unit and table == unit.main_table else unit
    return table, unit


def main_of(key: str) -> Unit | None:
    """The unit whose main file may lie there, if any."""
    table, unit = owner_of(key)
    return unit if unit and table == unit.main_table else None


def place(unit: Unit, table: str, entry: dict[str, Any]) -> str:
    """Where a unit's file of a table lies: its main one is named by the unit, others also by their content.

    Args:
      unit, table: whose file.
      entry: what is recorded of the unit; up to format 2 all were named by the unit alone.
    """
    key = unit.path(table)
    if table == unit.main_table or entry["format"] < 3:
        return key
    return f"{key.removesuffix('.parquet')}-{entry['files'][table]['sha256'][:12]}.parquet"


def places(unit: Unit, entry: dict[str, Any] | None) -> set[str]:
    """Where all files of a unit lie; nowhere if nothing is recorded of it."""
    return {place(unit, table, entry) for table in entry["files"]} if entry else set()


def unit_from(record: list) -> Unit | None:
    """The unit in its ``record``; None if the method is none."""
    method, s, start, stop = record
    if (method, s) == OF_ALL:
        return Certify(start, stop)
    return Fit(method, s, start, stop) if isinstance(method, str) and METHOD.fullmatch(method) else None


def with_checksum(content: dict[str, Any], indent: int | None = 1) -> bytes:
    """A record as the bytes of its file, or of a line if there is no indent."""
    content = {"format": FORMAT} | content
    return (json.dumps(content | {"sha256": _checksum(content)}, indent=indent) + "\n").encode()


def without_checksum(data: bytes) -> dict[str, Any]:
    """The record in a file's bytes, held against its checksum.

    Raises:
      Damaged: it isn't what was written.
      InputError: it is of a later format.
    """
    try:
        content = json.loads(data)
        if not isinstance(content, dict):
            raise Damaged(f"a {type(content).__name__}, expected a JSON object")
        checksum = content.pop("sha256", None)
        found = _checksum(content)
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, Damaged) else Damaged(f"no JSON: {error}") from error
    its_format: Any = content.get("format")
    if not whole_number(1).holds(its_format):
        raise Damaged(f"format {its_format!r}, expected {FORMAT}")
    if checksum != (None if its_format == 1 else found):
        raise Damaged("changed since it was written: its checksum differs")
    if its_format > FORMAT:
        raise InputError(f"format {its_format}, expected at most {FORMAT}; use the ihtjax that wrote it")
    return content


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_config(content: dict[str, Any]) -> dict[str, Any]:
    """A configuration's record, if it is one, with the defaults of what it leaves out.

    Raises:
      Damaged: a value is of the wrong type or out of range, or the values contradict each other.
    """
    content = {"metrics": ["accuracy"], "solvers": {"iht": ""}} | content  # all that there were
    for name, kind in CONFIG_FIELDS.items():
        if not isinstance(content.get(name), kind) or isinstance(content[name], bool):
            raise Damaged(f"{name}: expected {kind.__name__}")
    for name in ("features", "classes", "parameters", "metrics"):
        if not all(isinstance(text, str) and is_printable(text) for text in content[name]):
            raise Damaged(f"{name}: expected a list of texts without control characters")
    n = len(content["parameters"])
    if not whole_number(1).holds(content["batch"]):
        raise Damaged(f"batch: got {content['batch']}, expected {whole_number(1).text}")
    if not SHA256.fullmatch(content["data_sha256"]):
        raise Damaged("data_sha256: expected 64 hex digits")
    config = config_in(content)
    always = config.always or ()
    if not set(always) <= set(content["parameters"]):
        raise Damaged(f"always: got {always}, expected names of parameters")
    if not isinstance(config.levels, tuple) or config.levels[-1] > n - len(always):
        raise Damaged(f"levels: got {config.levels}, expected levels up to {n - len(always)}")
    for method, its_hash in content["solvers"].items():
        if not METHOD.fullmatch(method) or not (its_hash == "" or SHA256.fullmatch(str(its_hash))):
            raise Damaged(f"solvers: got {method!r}: {its_hash!r}, expected methods, each with 64 hex digits or none")
    if len(content["solvers"]) != len(config.solver):
        raise Damaged(f"solvers: got {len(content['solvers'])}, expected {len(config.solver)}")
    structure = content.get("structure", {})  # only where a problem has it
    if not isinstance(structure, dict) or not all(map(_is_column, structure.items())):
        raise Damaged(f"structure: got {structure!r}, expected names, each with its type and its meaning")
    sizes = len(content["features"]), *(config.hidden or ()), len(content["classes"])
    in_layers = config.loss == "cross_entropy" and config.model in ("linear", "mlp")
    if in_layers and n != sum(q * (d + 1) for d, q in itertools.pairwise(sizes)):
        raise Damaged(f"{n} parameters don't fit layers of {', '.join(map(str, sizes))}, from features to classes")
    if config.hash(content["data_sha256"]) != content["config_hash"]:
        raise Damaged("changed since the run began: the options don't give its config_hash")
    return content | {"config": config.to_json()}


def _is_column(item: tuple[str, Any]) -> bool:
    name, its = item
    if not (isinstance(its, list) and len(its) == 2 and its[0] in ("bool", "int32", "float32", "float64")):
        return False
    return all(isinstance(text, str) and is_printable(text) for text in (name, its[1]))


def config_in(content: dict[str, Any]) -> SweepConfig:
    """The configuration in its record."""
    try:
        return SweepConfig(**({"loss": "cross_entropy"} | content["config"]))  # the only one that there was
    except (TypeError, InputError) as error:
        raise Damaged(f"not this version's ({error}); use the ihtjax that wrote it") from error


def check_entry(entry: Any, stored: dict[str, Any]) -> tuple[Unit, dict[str, Any]]:
    """A unit with what is recorded of it: hash, size and rows of each file by table, and its environment.

    Args:
      entry: as in the index, in a manifest, or in the unit's own main file.
      stored: the configuration's record.

    Raises:
      Damaged: as `check_config`.
    """
    try:
        method, s, start, stop = entry["unit"]
        unit = unit_from(entry["unit"])
        files, environment, its_format = entry["files"], entry["environment"], entry.get("format", 2)
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise Damaged(f"a unit without its four parts, its files and its environment: {error}") from error
    n = len(stored["parameters"])
    if unit is None or (isinstance(unit, Fit) and method not in ("gd", *stored["solvers"])):
        raise Damaged(f"method {method!r}, expected one of this run's, {', '.join(('gd', *stored['solvers']))}")
    levels = whole_number(n if method == "gd" else 1, n)
    if isinstance(unit, Fit) and not levels.holds(s):
        raise Damaged(f"level {s!r}, expected {levels.text}")
    if not (TRIALS.holds(start) and TRIALS.holds(stop) and start < stop):
        raise Damaged(f"trials from {start!r} to before {stop!r}")
    if not whole_number(1, FORMAT).holds(its_format):
        raise Damaged(f"{unit}: format {its_format!r}, expected {whole_number(1, FORMAT).text}")
    if not isinstance(files, dict) or not isinstance(environment, dict):
        raise Damaged(f"{unit}: expected files and environment as objects")
    values = [one for value in environment.values() for one in (value if isinstance(value, list) else [value])]
    if not all(isinstance(value, str | int | float | None) for value in values):
        raise Damaged(f"{unit}: expected texts and numbers in its environment")
    # Refusing what can't be printed would make runs damaged: XLA_FLAGS may be of several lines.
    environment = {printable(name): _printable_value(value) for name, value in environment.items()}
    files = {path.removesuffix(f"/{unit.file_name}"): of_file for path, of_file in files.items()}  # format 1
    trials, points = stop - start, stored["config"]["curve_points"]
    expected = {"trials": trials} if isinstance(unit, Fit) else {"certificates": None}
    if isinstance(unit, Fit) and points:
        expected["curves"] = trials * min(points, stored["config"]["steps"] + 1)
    if files.keys() != expected.keys():
        raise Damaged(f"{unit}: files of {', '.join(map(str, files)) or 'nothing'}, expected {', '.join(expected)}")
    for table, rows in expected.items():
        of_file = files[table]
        if not isinstance(of_file, dict) or not SHA256.fullmatch(str(of_file.get("sha256"))):
            raise Damaged(f"{unit}: {table} without its SHA-256")
        sizes = whole_number(1, 2**62)
        if not sizes.holds(of_file.get("bytes")) or not sizes.holds(of_file.get("rows")):
            raise Damaged(f"{unit}: {table} without its bytes and rows")
        if rows is not None and of_file["rows"] != rows:
            raise Damaged(f"{unit}: {of_file['rows']} rows of {table}, expected {rows}")
    if isinstance(unit, Certify):
        for name in ("levels", "enumerated"):
            its = environment.get(name)
            if not isinstance(its, list) or not all(whole_number(1, n).holds(level) for level in its):
                raise Damaged(f"{unit}: expected {name} as a list of levels")
        methods = environment.get("methods", [])
        if not isinstance(methods, list) or not all(isinstance(name, str) for name in methods):
            raise Damaged(f"{unit}: expected methods as a list of names")
        if not whole_number(1).holds(environment.get("format", 1)):
            raise Damaged(f"{unit}: format {environment['format']!r}, expected {whole_number(1).text}")
    return unit, {"format": its_format, "unit": unit.record, "files": files, "environment": environment}


def _printable_value(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_printable_value, value))
    return printable(value) if isinstance(value, str) else value


def check_units(entries: Any, stored: dict[str, Any]) -> Units:
    """The units of a manifest.

    Raises:
      Damaged: as `check_config`; or two units hold the same trial.
    """
    if not isinstance(entries, list):
        raise Damaged("units: expected a list")
    held, units = Held(), {}
    for entry in entries:
        unit, entry = check_entry(entry, stored)
        if not held.add(unit):
            raise Damaged(f"{unit}: another unit holds some of these trials")
        units[unit] = entry
    return units


class Held:
    """Which trials of which method and level some units hold."""

    def __init__(self, units: Iterable[Unit] = ()):
        self.intervals: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for unit in units:
            self.add(unit)

    def add(self, unit: Unit) -> bool:
        """Add a unit, unless some of its trials are held already; say whether it was added."""
        its = self.intervals.setdefault(unit.group, [])
        at = bisect.bisect_left(its, (unit.start, unit.stop))
        if (at > 0 and its[at - 1][1] > unit.start) or (at < len(its) and its[at][0] < unit.stop):
            return False
        its.insert(at, (unit.start, unit.stop))
        return True

"""Run directories that somebody who means harm, or a bad disk, could leave."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from formats import MANIFEST, edit, entries_of, of_file, relist
from ground import TABLES, Ground

from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.store.records import Certify, Fit, Unit, place, with_checksum
from ihtjax.sweeps.store.sealed import record_in, sealed_parquet

# What the pristine run of `ground` has.
FIRST, SECOND, DENSE = Fit("iht", 3, 0, 12), Fit("iht", 3, 12, 20), Fit("gd", 15, 0, 12)
NEW, CERTIFIED = Fit("iht", 3, 20, 25), Certify(0, 4)  # NEW is what extending the run makes
MINE = "a user's own file"


def edited(name: str, change: Callable) -> Callable[[Path], None]:
    """Change a record, and give it the checksum and the hash that it then needs."""

    def apply(content):
        change(content)
        if name == "config.json":
            try:
                content["config_hash"] = SweepConfig(**content["config"]).hash(content["data_sha256"])
            except (TypeError, ValueError, KeyError):
                pass

    return lambda run: edit(run, name, apply)


def listed(change: Callable[[list], object]) -> Callable[[Path], None]:
    """Change what the index lists, or the manifest of an earlier format."""
    return lambda run: relist(run, change)


def sealed(unit: Unit, change: Callable[[pa.Table], pa.Table], table="trials", source=None, listed=True, record=None):
    """Write a table under a unit's name, sealed as this program would, with an index that lists it or doesn't."""
    source = source or unit

    def make(run):
        entries = {str(entry["unit"]): entry for entry in entries_of(run)}
        theirs = entries[str(source.record)]
        path = run / place(source, table, theirs)
        its = record_in(path.read_bytes())
        changed = change(pq.read_table(path))
        its |= {"unit": unit.record, "rows": changed.num_rows}
        new = theirs | {"unit": unit.record, "files": dict(entries.get(str(unit.record), {"files": {}})["files"])}
        if isinstance(unit, Fit) and table == "trials":
            curves = (run / place(source, "curves", theirs)).read_bytes()
            if unit != source:
                curves_record = record_in(curves) | {"unit": unit.record}
                curves = sealed_parquet(pq.read_table(pa.BufferReader(curves)), curves_record)
            new["files"]["curves"] = of_file(curves, 8 * (unit.stop - unit.start))
            its["files"] = {"curves": new["files"]["curves"]}
            (run / place(unit, "curves", new)).write_bytes(curves)
        its |= record or {}
        data = sealed_parquet(changed, its)
        expected = 8 * (unit.stop - unit.start) if table == "curves" else unit.stop - unit.start
        new["files"][table] = of_file(data, changed.num_rows if isinstance(unit, Certify) else expected)
        if unit == source:
            path.unlink()
        (run / place(unit, table, new)).write_bytes(data)

        def list_it(entries):
            entries[:] = [entry for entry in entries if entry["unit"] != unit.record] + [new] * listed

        relist(run, list_it)

    return make


def endless(content: dict) -> None:
    content["config"].update(trials=2**31 - 1, steps=2**31 - 1)


def put(name: str, value) -> Callable[[pa.Table], pa.Table]:
    """A table with one column replaced: by a function of it, or by a value."""

    def change(table):
        at = table.schema.get_field_index(name)
        column = value(table[name]) if callable(value) else pa.array([value] * table.num_rows)
        return table.set_column(at, name, column)

    return change


def directories(ground: Ground):
    """(name, what makes it of a whole run, of format 3 unless the name begins with another)."""
    for name, make in listings():
        yield f"index: {name}", make
        yield f"format 2: {name}", make
    for name, make in listings():
        if name.startswith(("unit ", "overlap")):
            yield f"format 1: {name}", make
    for number in ground.earlier:
        yield f"format {number}: whole", lambda run: None
        for name, make in manifests(ground):
            yield f"format {number}: {name}", make
    yield from indexes(ground)
    yield from others(ground)


def listings():
    """(name, what makes it): what is listed of units, with right checksums."""

    def entry(change):
        return listed(lambda entries: change(next(e for e in entries if e["unit"][:3] == ["iht", 7, 12])))

    def certificates(change):
        return listed(lambda entries: [change(e["environment"]) for e in entries if e["unit"][0] == "all"])

    strange = [["iht", 3], ["iht", 0, 0, 12], ["iht", 16, 0, 12], ["iht", 3.0, 0, 12], ["iht", True, 0, 12]]
    strange += [["gd", 3, 0, 12], ["all", 3, 0, 12], ["../../outside", 3, 0, 12], [["iht"], 3, 0, 12], [None] * 4]
    strange += [["iht", 3, -1, 12], ["iht", 3, 12, 12], ["iht", 3, 0, 10**30], ["iht", 7, 6, 18], 3, None, {}, "iht"]
    strange += [["iht", 3, 0, 2**31 - 1], ["iht", 3, float("nan"), 12], ["iht", 3, 0, float("inf")]]
    for value in strange:
        yield f"unit {value}", entry(lambda e, value=value: e.update(unit=value))
    for path in ("../../outside/victim.txt", "/etc/passwd", "trials/../../outside/victim.txt"):
        yield f"path {Path(path).parts[0]}", entry(lambda e, p=path: e.update(files={p: e["files"]["trials"]}))
    for what, change in {
        "no files": lambda e: e.update(files={}),
        "a list of files": lambda e: e.update(files=[1]),
        "no environment": lambda e: e.update(environment=None),
        "a strange environment": lambda e: e.update(environment={"jax": [[{"a": float("nan")}]] * 3}),
        "a deep environment": lambda e: e.update(environment={"jax": json.loads("[" * 400 + "]" * 400)}),
        "an environment that a terminal obeys": lambda e: e["environment"].update(
            jaxlib="\x1b[2J\nihtjax: error: all lost"
        ),
        "no curves": lambda e: e["files"].pop("curves", None),
        "too many rows": lambda e: _of(e, "trials").update(rows=40),
        "bytes true": lambda e: _of(e, "trials").update(bytes=True),
        "another hash": lambda e: _of(e, "trials").update(sha256="0" * 64),
        "another hash of curves": lambda e: _of(e, "curves").update(sha256="0" * 64),
        "curves that lead elsewhere": lambda e: _of(e, "curves").update(sha256="/../../outside/victim.txt".zfill(64)),
        "a list for a hash": lambda e: _of(e, "trials").update(sha256=["0"] * 64),
        "curves for trials": lambda e: e["files"].update(trials=_of(e, "curves")),
        "another format": lambda e: e.update(format=2 if e.get("format") == 3 else 3),
        "no format": lambda e: e.pop("format", None),
        "a format that is none": lambda e: e.update(format=[3]),
        "nothing": lambda e: e.clear(),
    }.items():
        yield f"an entry with {what}", entry(change)
    yield "units twice", listed(lambda entries: entries.extend(entries))
    yield "units none", listed(list.clear)
    yield "overlap", listed(lambda entries: entries.append(entries[-2] | {"unit": ["iht", 7, 11, 19]}))
    yield "overlap before", listed(lambda entries: entries.insert(0, entries[-2] | {"unit": ["iht", 7, 11, 19]}))
    yield "unit that isn't there", listed(lambda entries: entries.append(entries[-2] | {"unit": ["iht", 5, 12, 20]}))
    yield "levels of certificates", certificates(lambda its: its.update(levels=[[]]))
    for value in ("x", None, [1], 0, True):
        yield f"format of certificates {value}", certificates(lambda its, v=value: its.update(format=v))


def _of(entry: dict, table: str) -> dict:
    """What is recorded of a unit's file; format 1 calls it by its path."""
    return next(its for name, its in entry["files"].items() if name.split("/")[0] == table)


def manifests(ground: Ground):
    """(name, what makes it): damaged, replaced and lost manifests of earlier formats."""
    yield "manifest an object", edited(MANIFEST, lambda c: c.update(units={"a": 1}))
    for number in (1, 2, 3, 7):
        yield f"manifest of format {number}", edited(MANIFEST, lambda c, n=number: c.update(format=n))
    yield from texts(MANIFEST, lambda run: run / MANIFEST)
    yield from things(ground, MANIFEST)
    yield "manifest gone", lambda run: (run / MANIFEST).unlink()
    yield "both records gone", lambda run: [(run / name).write_bytes(b"") for name in ("config.json", MANIFEST)]
    yield "an index beside the manifest", lambda run: shutil.copytree(ground.pristine / "_log", run / "_log")
    yield "another run's index beside the manifest", lambda run: shutil.copytree(ground.other / "_log", run / "_log")


def indexes(ground: Ground):
    """(name, what makes it): damaged, replaced and lost indexes, and curves."""
    victim = ground.outside / "victim.txt"
    first = lambda run: next((run / "_log").glob("*.jsonl"))  # noqa: E731
    late = "_log/000000099-0123abcd.jsonl"
    yield from texts("index", first)
    yield "index gone", lambda run: shutil.rmtree(run / "_log")
    yield "index and configuration gone", lambda run: (shutil.rmtree(run / "_log"), (run / "config.json").unlink())
    yield "configuration gone", lambda run: (run / "config.json").unlink()
    yield from things(ground, "_log")
    yield from things(ground, late)
    yield "a linked part of the index", lambda run: _linked(first(run), ground.outside / "part.jsonl")
    yield "a user's file in the index", lambda run: (run / "_log" / "notes.txt").write_text(MINE)
    yield (
        "the index's temporaries link outside",
        lambda run: (run / "_log" / f".000000002-0123abcd.jsonl.{16 * '0'}.tmp").symlink_to(victim),
    )
    yield "a number that is too high", lambda run: first(run).rename(run / "_log" / f"{10**9 - 1}-0123abcd.jsonl")
    yield "a later format in the index", lambda run: (run / late).write_bytes(with_checksum({"format": 7}, None))
    yield (
        "another run's index",
        lambda run: (shutil.rmtree(run / "_log"), shutil.copytree(ground.other / "_log", run / "_log")),
    )
    yield "another run's index as well", lambda run: shutil.copy(first(ground.other), run / late)
    yield "another run's manifest", lambda run: shutil.copy(ground.earlier[2] / MANIFEST, run)
    yield "an empty manifest", lambda run: (run / MANIFEST).write_bytes(with_checksum({"units": []}))
    yield (
        "curves under another content's name",
        lambda run: _renamed(run, lambda key: key[:-20] + "0" * 12 + ".parquet"),
    )
    yield "curves under a name without content", lambda run: _renamed(run, lambda key: key[:-21] + ".parquet")
    yield "curves that no unit names", lambda run: _orphans(run)
    yield (
        "a user's file with the name of curves",
        lambda run: [
            (run / f"curves/{unit.file_name[:-8]}{ending}").write_text(MINE)
            for unit in (FIRST, NEW)
            for ending in (".parquet", f"-{'0' * 12}.parquet")
        ],
    )


def texts(name: str, path: Callable[[Path], Path]):
    """(name, what makes it): the text of a record, damaged."""
    for what, content in {
        "empty": b"",
        "deep": b"[" * 100_000,
        "deep and right": b"[" * 900 + b"]" * 900,
        "deep inside": b'{"format": 2, "sha256": "", "x": ' + b"[" * 980 + b"]" * 980 + b"}",
        "long number": b'{"format": ' + b"9" * 5000 + b"}",
        "not UTF-8": b'{"format": 2, "\xff": 1}',
        "twice the same key": b'{"format": 2, "units": [], "units": 3, "sha256": "x"}',
        "format NaN": b'{"format": NaN}',
        "huge": b"[" + b"0," * 5_000_000 + b"0]",
    }.items():
        yield f"{name} {what}", lambda run, content=content: path(run).write_bytes(content + b"\n")
    yield (
        f"{name} truncated",
        lambda run: path(run).write_bytes(path(run).read_bytes()[: path(run).stat().st_size // 2]),
    )


def replacing(name: str, how: Callable[[Path], object]) -> Callable[[Path], None]:
    """What puts something else where a file or a folder of a run is."""

    def make(run):
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
        how(path)

    return make


def things(ground: Ground, name: str):
    """(name, what makes it): a link, a pipe and a folder where a file belongs, and a file where a folder does."""
    victim = ground.outside / "victim.txt"
    replaced = partial(replacing, name)
    yield f"{name} links outside", replaced(lambda path: path.symlink_to(victim))
    yield f"{name} links to a folder outside", replaced(lambda path: path.symlink_to(ground.outside))
    yield f"{name} is a pipe", replaced(os.mkfifo)
    yield f"{name} is a folder", replaced(lambda path: (path.mkdir(), (path / "mine").write_text(MINE)))
    yield f"{name} is a file", replaced(lambda path: path.write_text(MINE))


def others(ground: Ground):
    """(name, what makes it): all else, of format 3."""

    # 2. Configurations with right checksums and hashes.
    def option(**values):
        return edited("config.json", lambda c: c["config"].update(values))

    for values in (
        {"levels": 3},
        {"levels": {"3": 1}},
        {"levels": []},
        {"levels": [[3]]},
        {"levels": [3, 3, 2, 7]},
        {"trials": 1e3},
        {"trials": -1},
        {"steps": 10**400},
        {"ht_tol": float("nan")},
        {"step_size": float("inf")},
        {"seed": True},
        {"dense": 1},
        {"data": "/dev/zero"},
        {"data": str(ground.outside / "victim.txt")},
        {"data": "a\0b.csv"},
        {"data": "x" * 10_000 + ".csv"},
        {"colour": "red"},
    ):
        yield f"config {str(values)[:60]}", option(**values)
    yield "huge: trials", option(trials=2**31 - 1)
    yield "huge: trials and steps", option(trials=2**31 - 1, steps=2**31 - 1)
    yield "huge: no number of trials", edited("config.json", lambda c: c["config"].pop("trials"))
    yield "config without curve_points", edited("config.json", lambda c: c["config"].pop("curve_points"))
    yield "huge: trials in the smallest batches", edited("config.json", lambda c: (c.update(batch=1), endless(c)))
    yield "batch true", edited("config.json", lambda c: c.update(batch=True))
    yield "surrogates", edited("config.json", lambda c: c.update(parameters=["\ud800"] * 15, features=["\udfff"] * 4))
    yield "escapes", edited("config.json", lambda c: c.update(features=["\x1b[2J\n$\\frac{"] * 4, classes=["\x07"] * 3))
    yield "other data's hash", edited("config.json", lambda c: c.update(data_sha256="0" * 64))

    # 3. Damaged text.
    yield from texts("config.json", lambda run: run / "config.json")

    # 4. Links, pipes, devices, folders where files belong, and files where folders belong.
    victim = ground.outside / "victim.txt"
    for name in (
        "config.json",
        ".lock",
        FIRST.path("trials"),
        NEW.path("trials"),
        CERTIFIED.path("certificates"),
    ):
        yield f"{name} links outside", replacing(name, lambda path: path.symlink_to(victim))
        yield f"{name} is a pipe", replacing(name, os.mkfifo)
        yield f"{name} is a folder", replacing(name, lambda path: (path.mkdir(), (path / "mine").write_text(MINE)))
    for name in ("config.json", FIRST.path("trials")):
        yield f"{name} links to a device", replacing(name, lambda path: path.symlink_to("/dev/zero"))
        yield f"{name} links to itself", replacing(name, lambda path: path.symlink_to(path.name))
    for name in ("trials", "curves", "certificates", "figures"):
        yield f"{name} links outside", replacing(name, lambda path: path.symlink_to(ground.outside))
        yield f"{name} is a pipe", replacing(name, os.mkfifo)
        yield f"{name} is a file", replacing(name, lambda path: path.write_text(MINE))
    for name in ("report.html", "figures/fig09.png"):
        yield (
            f"{name} links outside",
            replacing(name, lambda path: (path.parent.mkdir(exist_ok=True), path.symlink_to(victim))),
        )
    yield "report.html is a folder", replacing("report.html", os.mkdir)
    yield (
        "old temporaries link outside",
        lambda run: [
            (run / name).symlink_to(victim) for name in (".config.json.tmp", ".manifest.json.tmp", ".report.html.tmp")
        ],
    )
    yield (
        "temporaries of ours link outside",
        lambda run: [(run / f".{name}.json.{16 * '0'}.tmp").symlink_to(victim) for name in ("config", "manifest")],
    )
    yield "a loop of folders", lambda run: (run / "trials" / "loop").symlink_to(run / "trials")
    yield (
        "a user's files with the names of units",
        lambda run: [
            (run / unit.path("trials")).write_text(MINE) for unit in (NEW, Fit("iht", 9, 0, 12), Fit("gd", 15, 20, 25))
        ],
    )
    yield (
        "a user's files elsewhere",
        lambda run: [
            (run / name).write_text(MINE) for name in (".mine.tmp", "trials/.x.tmp", "trials/zz.parquet", "notes.txt")
        ],
    )
    yield (
        "names that are no text",
        lambda run: [
            Path(os.fsdecode(os.fsencode(run / "trials") + b"/" + name)).write_text(MINE)
            for name in (b"\xff\xfe.parquet", b"\x1b[2J\nx.parquet")
        ],
    )

    # 5. Sealed files, by somebody who can compute a checksum.
    twice = lambda table: pa.concat_tables([table.slice(0, 11), table.slice(0, 1)])  # noqa: E731
    for what, change in {
        "a trial twice": twice,
        "a trial out of range": put("trial", lambda c: pc.add(c, pa.scalar(100, pa.int32()))),
        "trials in another order": lambda table: table.take(list(range(table.num_rows))[::-1]),
        "another level": put("s", lambda c: pc.add(c, pa.scalar(1, pa.int32()))),
        "another method": put("method", "gd"),
        "null trials": put("trial", lambda c: pa.nulls(len(c), pa.int32())),
        "other types": put("train_loss", lambda c: c.cast(pa.string())),
        "trial as text": put("trial", lambda c: c.cast(pa.string())),
        "a column less": lambda table: table.drop_columns(["train_loss"]),
        "a column more": lambda table: table.append_column("x", table["trial"]),
        "a column twice": lambda table: table.append_column("train_loss", table["trial"]),
        "a row less": lambda table: table.slice(1),
        "no rows": lambda table: table.slice(0, 0),
        "no columns": lambda table: table.select([]),
        "short theta": put("theta", lambda c: pa.nulls(len(c), pa.list_(pa.float32(), 3))),
        "harmful metadata": lambda table: table.replace_schema_metadata({"pandas": '{"index_columns": ["s"]}'}),
        "metadata that is no JSON": lambda table: table.replace_schema_metadata({"pandas": "{"}),
        "text that is no UTF-8": put("status", lambda c: pa.array([b"\xff"] * len(c)).view(pa.string())),
    }.items():
        yield f"sealed: {what}", sealed(FIRST, change)
    for listed in (True, False):
        how = "listed" if listed else "not listed"
        yield (
            f"sealed and {how}: another unit's content",
            sealed(NEW, lambda table: table.slice(0, 5), source=SECOND, listed=listed),
        )
        yield (
            f"sealed and {how}: an overlap",
            sealed(Fit("iht", 3, 5, 13), lambda table: table, source=SECOND, listed=listed),
        )
        yield (
            f"sealed and {how}: a level that is not the run's",
            sealed(Fit("iht", 9, 0, 12), lambda table: table, source=FIRST, listed=listed),
        )
        yield (
            f"sealed and {how}: the dense baseline as a level",
            sealed(Fit("iht", 15, 0, 12), lambda table: table, source=DENSE, listed=listed),
        )
        yield (
            f"sealed and {how}: certificates of other trials",
            sealed(Certify(4, 8), lambda table: table, table="certificates", source=CERTIFIED, listed=listed),
        )
    yield (
        "sealed: curves of other steps",
        sealed(FIRST, put("step", lambda c: pc.add(c, pa.scalar(1, pa.int32()))), table="curves"),
    )
    yield "sealed: curves twice", sealed(FIRST, lambda t: pa.concat_tables([t.slice(0, 48)] * 2), table="curves")
    for what, change in {
        "twice": lambda table: pa.concat_tables([table, table]),
        "of other trials": put("trial", lambda c: pc.add(c, pa.scalar(100, pa.int32()))),
        "of other levels": put("s", lambda c: pc.add(c, pa.scalar(1, pa.int32()))),
        "of other types": put("gap", "x"),
        "without levels": lambda table: table.drop_columns(["s"]),
        "of no rows": lambda table: table.slice(0, 0),
    }.items():
        yield f"sealed: certificates {what}", sealed(CERTIFIED, change, table="certificates")
    for what, record in {
        "no record": {"run": None},
        "a text for a run": {"run": "abc"},
        "pairs for a run": {"run": ["ab", "abc"]},
        "files that are none": {"files": [1]},
        "rows that are none": {"rows": "x"},
    }.items():

        def make(run, record=record):
            sealed(FIRST, lambda table: table, listed=False, record=record)(run)
            (run / "config.json").write_bytes(b"")

        yield f"sealed: {what}, without a configuration", make
    yield (
        "sealed for another run",
        lambda run: [
            shutil.copy(ground.other / table / path.name, run / table / path.name)
            for table in TABLES
            for path in (ground.other / table).glob("*")
        ],
    )
    yield "another run's configuration", lambda run: shutil.copy(ground.other / "config.json", run)
    yield "another run's certificates", lambda run: _certificates_of(ground.other, run)
    yield "units swapped", lambda run: _swap(run / FIRST.path("trials"), run / Fit("iht", 2, 0, 12).path("trials"))


def _certificates_of(other: Path, run: Path) -> None:
    """Put another run's certificates in place of a run's, in its index too."""
    shutil.copy(other / CERTIFIED.path("certificates"), run / "certificates")
    theirs = next(entry for entry in entries_of(other) if entry["unit"] == CERTIFIED.record)
    relist(run, lambda entries: entries.append(theirs))


def _curves(run: Path) -> Path:
    (entry,) = [entry for entry in entries_of(run) if entry["unit"] == FIRST.record]
    return run / place(FIRST, "curves", entry)


def _renamed(run: Path, change: Callable[[str], str]) -> None:
    """Give a unit's curves another name."""
    path = _curves(run)
    path.rename(path.with_name(change(path.name)))


def _orphans(run: Path) -> None:
    """Curves of this run that no unit names: of a unit that is there, and of one that isn't."""
    path = _curves(run)
    for unit in (FIRST, NEW):
        record = record_in(path.read_bytes()) | {"unit": unit.record, "environment": {"batch": 1}}
        data = sealed_parquet(pq.read_table(path), record)
        name = f"{unit.file_name.removesuffix('.parquet')}-{hashlib.sha256(data).hexdigest()[:12]}.parquet"
        (run / "curves" / name).write_bytes(data)


def _linked(path: Path, outside: Path) -> None:
    """Move a file out of the run and link it."""
    shutil.move(path, outside)
    path.symlink_to(outside)


def _swap(a: Path, b: Path) -> None:
    data = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(data)

"""What lists a run's units, whatever its format, and runs as earlier versions left them."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ihtjax.sweeps.store.records import place, unit_from, with_checksum
from ihtjax.sweeps.store.sealed import record_in, sealed_parquet

MANIFEST = "manifest.json"


def edit(run: Path, name: str, change: Callable[[dict], Any]) -> None:
    """Change a record, and give it the checksum that it then needs, which format 1 didn't have."""
    content = json.loads((run / name).read_text())
    content.pop("sha256", None)
    change(content)
    (run / name).write_bytes(json.dumps(content).encode() if content.get("format") == 1 else with_checksum(content))


def entries_of(run: Path) -> list[dict]:
    """What the manifest lists, or the index if there is none, of two lines of a unit the later."""
    if (run / MANIFEST).exists():
        return [{"format": 2} | entry for entry in json.loads((run / MANIFEST).read_text())["units"]]
    lines = [line for path in sorted((run / "_log").glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    found = {str(entry["unit"]): entry for entry in map(json.loads, lines)}
    for entry in found.values():
        del entry["sha256"]
    return list(found.values())


def relist(run: Path, change: Callable[[list[dict]], Any]) -> None:
    """Change what the manifest lists, or the index if there is none, with right checksums."""
    if (run / MANIFEST).exists():
        return edit(run, MANIFEST, lambda content: change(content["units"]))
    entries = entries_of(run)
    change(entries)
    shutil.rmtree(run / "_log")
    (run / "_log").mkdir()
    lines = [with_checksum(entry, indent=None) for entry in entries]
    (run / "_log" / "000000001-00000000.jsonl").write_bytes(b"".join(lines))


def as_format_2(run: Path) -> Path:
    """The run as versions of format 2 wrote it: a manifest that lists all, and curves named by their unit alone."""
    entries = []
    listed = entries_of(run)
    edit(run, "config.json", lambda content: content.update(format=2))
    stored = json.loads((run / "config.json").read_text())
    del stored["sha256"]
    for entry in listed:
        unit, files = unit_from(entry["unit"]), {}
        for table in sorted(entry["files"], key=lambda table: table == unit.main_table):
            path = run / place(unit, table, entry)
            content = pq.read_table(path)
            record = record_in(path.read_bytes()) | {"run": stored, "files": dict(files)}
            del record["format"]
            path.unlink()
            data = sealed_parquet(content, record)
            (run / unit.path(table)).write_bytes(data)
            files[table] = of_file(data, content.num_rows)
        entries.append({"unit": unit.record, "files": files, "environment": entry["environment"]})
    (run / MANIFEST).write_bytes(with_checksum({"format": 2, "units": entries}))
    shutil.rmtree(run / "_log")
    return run


def as_format_1(run: Path) -> Path:
    """The run as the first versions wrote it: no checksums, files listed by path, no records in them."""
    as_format_2(run)
    for name in ("config.json", MANIFEST):
        edit(run, name, _in_format_1(run))
    return run


def _in_format_1(run: Path) -> Callable[[dict], None]:
    def change(content):
        content["format"] = 1
        for entry in content.get("units", ()):
            unit = unit_from(entry["unit"])
            for table in list(entry["files"]):
                path = run / unit.path(table)
                pq.write_table(pq.read_table(path), path)
                its = of_file(path.read_bytes(), entry["files"].pop(table)["rows"])
                entry["files"][unit.path(table)] = its

    return change


def of_file(data: bytes, rows: int) -> dict:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rows": rows}

"""Parquet files that carry a checksum of their own and a record of what they are.

Parquet has checksums for its pages, not for its footer: a flipped bit there changes values without a word. So each
file's footer holds, beside the record, the SHA-256 of the whole file with these 64 digits as zeros.
"""

import hashlib
import json
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ihtjax.sweeps.store.records import Unit

RECORD, SEAL = b"ihtjax", b"ihtjax_sha256"
ZEROS = b"0" * 64
# How Thrift's compact protocol writes a text of 64 bytes after the text that is its key.
SEALED = re.compile(re.escape(SEAL) + rb"\x18\x40([0-9a-f]{64})")


def sealed_parquet(table: pa.Table, record: dict[str, Any]) -> bytes:
    """The table as the bytes of a Parquet file, with a checksum on every page and one over all.

    Args:
      table: what it holds.
      record: what it is, as JSON types.
    """
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({RECORD: json.dumps(record).encode(), SEAL: ZEROS})
    data = bytearray(sink.getvalue())
    (where,) = SEALED.finditer(data)
    data[slice(*where.span(1))] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def arrow_reader(data: bytes) -> pa.BufferReader:
    """A reader of a copy that Arrow owns.

    Arrow's threads may let go of what they read after the call, even while the interpreter ends; if that is one of
    Python's objects, the process aborts.
    """
    sink = pa.BufferOutputStream()
    sink.write(data)
    return pa.BufferReader(sink.getvalue())


def has_seal(data: bytes) -> bool:
    """Whether a file was written with a checksum of its own, right or not; those of format 1 weren't."""
    return SEALED.search(data) is not None


def record_in(data: bytes) -> dict[str, Any] | None:
    """The record in a file's bytes; None unless every bit of them is as it was written."""
    found = list(SEALED.finditer(data))
    if len(found) != 1:
        return None
    start, stop = found[0].span(1)
    digest = hashlib.sha256(data[:start])
    digest.update(ZEROS)
    digest.update(data[stop:])
    if digest.hexdigest().encode() != found[0][1]:
        return None
    try:
        metadata = pq.read_metadata(arrow_reader(data))
        record = json.loads(metadata.metadata[RECORD])
    except (KeyError, TypeError, ValueError, RecursionError, OSError, pa.ArrowException):
        return None  # sealed by somebody else
    return record if isinstance(record, dict) else None


def configuration_of(record: dict[str, Any] | None) -> str | None:
    """The hash of the configuration that a file's record names; None if there is none."""
    run = record.get("run") if record else None
    its = run.get("config_hash") if isinstance(run, dict) else None
    return its if isinstance(its, str) else None


def is_record_of(record: dict[str, Any] | None, unit: Unit, table: str, stored: dict[str, Any]) -> bool:
    """Whether a file's record is that of this unit's file of this table and configuration."""
    if record is None or configuration_of(record) != stored["config_hash"]:
        return False
    return (record.get("table"), record.get("unit")) == (table, unit.record)

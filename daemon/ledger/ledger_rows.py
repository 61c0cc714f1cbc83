"""Converts between the values of a batch and the rows of the ledger. Opens nothing."""

import datetime as dt
import json
import os
import sqlite3
from collections.abc import Sequence
from typing import Any

from daemon.batch import Batch, BatchFile, FileState, State
from daemon.clock import as_text

_PLAIN_COLUMNS = (
    "batch_id",
    "source",
    "reason",
    "trigger",
    "attempts",
    "worker_crashes",
    "received_at",
    "published_at",
    "archived_at",
    "dismissed_at",
    "next_attempt_at",
    "identity",
    "duplicate_of",
    "revision",
)
_PLAIN_FILE_COLUMNS = (
    "number",
    "kind",
    "feed",
    "claim_name",
    "sha256",
    "bytes",
    "packed_sha256",
    "packed_bytes",
    "revision",
)


def to_column(value: Any) -> Any:
    """Returns a value as SQLite stores it."""
    if isinstance(value, dt.datetime):
        return as_text(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, dict | list | tuple):
        return json.dumps(value)
    if isinstance(value, str):
        # SQLite takes no lone surrogates: a name that is not UTF-8 is stored as its bytes
        return str(value) if value.isascii() or _is_utf8(value) else os.fsencode(value)
    return value


def to_file_columns(f: BatchFile) -> dict[str, Any]:
    """Returns the columns of a file's row."""
    values = {name: getattr(f, name) for name in (*_PLAIN_FILE_COLUMNS, "name", "folder", "state")}
    return {name: to_column(value) for name, value in values.items()} | {"inode": _to_signed(f.inode)}


def to_batch(row: sqlite3.Row, files: Sequence[BatchFile]) -> Batch:
    """Returns the batch of a row with its files."""
    return Batch(
        **{name: row[name] for name in _PLAIN_COLUMNS},
        batch_date=dt.date.fromisoformat(row["batch_date"]) if row["batch_date"] else None,
        state=State(row["state"]),
        snapshot=tuple(json.loads(row["snapshot"])),
        rows=json.loads(row["rows"]),
        checksums=json.loads(row["checksums"]),
        waiting_for=tuple(json.loads(row["waiting_for"])),
        notes=tuple(json.loads(row["notes"])),
        result=json.loads(row["result"]) if row["result"] else None,
        is_archived=bool(row["is_archived"]),
        hook_done=bool(row["hook_done"]),
        all_files=tuple(files),
    )


def to_file(row: sqlite3.Row) -> BatchFile:
    """Returns the file of a row."""
    return BatchFile(
        **{name: row[name] for name in _PLAIN_FILE_COLUMNS},
        name=os.fsdecode(row["name"]),
        folder=os.fsdecode(row["folder"]),
        state=FileState(row["state"]),
        inode=_to_unsigned(row["inode"]),
    )


def to_entry(row: sqlite3.Row) -> tuple[str, int]:
    """Returns the name and inode of a file's row."""
    return os.fsdecode(row["name"]), _to_unsigned(row["inode"])


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _to_signed(inode: int) -> int:
    # some file systems use all 64 bits of an inode number, and an integer of SQLite has a sign
    return inode - (1 << 64) if inode >> 63 else inode


def _to_unsigned(inode: int) -> int:
    return inode + (1 << 64) if inode < 0 else inode

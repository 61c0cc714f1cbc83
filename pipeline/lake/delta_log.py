"""Reads and writes the commits of a table's log."""

import datetime as dt
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltalake import CommitProperties, DeltaTable

from pipeline.contract.error_text import one_line
from pipeline.lake.data_files import FILE_BYTES, DataFile
from pipeline.lake.file_pruning import LoggedFile
from pipeline.lake.open_table import OpenTable, commit_name
from pipeline.place import Place, is_logged, note_logged, write_new

TAG = "userMetadata"  # Spark's Delta writer fills the same entry of a commit, so one reader of tags serves both
CHECKPOINT_VERSIONS = 20  # tables are opened often, and opening reads all commits since the last checkpoint


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One commit of a table. `tag` names its writer; a commit of another program has no tag of ours."""

    version: int
    operation: str
    tag: str | None
    at: dt.datetime | None
    restored: int | None = None  # for a RESTORE: the version whose content it brought back


def has_commit(log: Place, version: int) -> bool:
    """Returns whether the log in this folder holds the commit of a version."""
    return is_logged(log, commit_name(version))


def newest_version(log: Place, known: int | None) -> int:
    """Returns the newest version of a log: by a look for each commit after a known one, or by the list of the log."""
    if known is None or not has_commit(log, known):  # a backup came back, or the start of a long log was cleaned up
        return max(_versions(log))
    while has_commit(log, known + 1):
        known += 1
    return known


def commits_after(log: Place, version: int) -> list[Commit]:
    """Returns the commits after a version, oldest first, without those that were cleaned up."""
    return [_read_commit(log, found) for found in sorted(_versions(log)) if found > version]


def commit_files(
    delta: OpenTable,
    files: Sequence[DataFile],
    tag: str,
    metrics: Mapping[str, int],
    *,
    removed: Sequence[LoggedFile] = (),
) -> OpenTable:
    """Commits new data files in the place of removed ones and returns the new version. `metrics` show in the history.

    Delta's protocol makes a commit of one new file in the log. Raises FileExistsError where the next version is there
    already, so another program has committed; nothing tries again.
    """
    log, version, now = delta.folder / "_delta_log", delta.version + 1, time.time_ns() // 1_000_000
    if not has_commit(log, delta.version):
        raise FileNotFoundError(f"{log} does not hold version {delta.version} any more")
    info = {
        "timestamp": now,
        "operation": "WRITE",
        "operationParameters": {"mode": "Append", "partitionBy": "[]"},
        "engineInfo": "Lakegate",
        "operationMetrics": {**metrics, "num_added_files": len(files), "num_removed_files": len(removed)},
        TAG: tag,
    }
    actions: list[dict[str, Any]] = [
        {"commitInfo": info},
        *({"add": _add(file, now)} for file in files),
        *({"remove": _remove(path, size, now)} for path, size in removed),
    ]
    # Characters are not escaped: delta-rs reads an escaped character above U+1FFFF as another one.
    lines = (json.dumps(action, ensure_ascii=False, separators=(",", ":")) for action in actions)
    write_new(log / commit_name(version), "\n".join(lines).encode())
    note_logged(log, commit_name(version))
    if (version + 1) % CHECKPOINT_VERSIONS == 0:  # delta-rs counts in this way
        _write_checkpoint(delta.folder, version)
    return delta.next(files, [path for path, _ in removed])


def _add(file: DataFile, now: int) -> dict[str, Any]:
    return {
        "path": file.name,
        "partitionValues": {},
        "size": file.size,
        "modificationTime": now,
        "dataChange": True,
        "stats": file.statistics,
    }


def _remove(path: str, size: int, now: int) -> dict[str, Any]:
    return {
        "path": path,
        "deletionTimestamp": now,
        "dataChange": True,
        "extendedFileMetadata": True,
        "partitionValues": {},
        "size": size,
    }


def _write_checkpoint(folder: Place, version: int) -> None:
    """Writes a checkpoint of a version, and removes commits that are older than the log's retention.

    The commit is made already: where this fails, the log is only longer until the next checkpoint.
    """
    try:
        table = DeltaTable(str(folder), version=version)
        table.create_checkpoint()
        table.cleanup_metadata()
    except Exception as error:  # noqa: BLE001 - delta-rs raises errors of many kinds
        print(f"{folder}: no checkpoint of version {version}: {one_line(error, ())}", file=sys.stderr)


def commit_properties(tag: str, **more: Any) -> CommitProperties:
    """Returns the properties of a commit with this tag.

    Delta never retries: where another program has taken the next version, the attempt must notice it.
    """
    return CommitProperties(custom_metadata={TAG: tag, **more}, max_commit_retries=0)


def table_properties(keep_days: int) -> dict[str, str]:
    """Returns the properties of a new table."""
    checkpoint = {"delta.checkpointInterval": str(CHECKPOINT_VERSIONS)}
    return {"delta.targetFileSize": str(FILE_BYTES), **checkpoint, **retention(keep_days)}


def retention(keep_days: int) -> dict[str, str]:
    """Returns the table properties that keep every version readable that the manifest may still name."""
    interval = f"interval {keep_days + 1} days"
    return {"delta.logRetentionDuration": interval, "delta.deletedFileRetentionDuration": interval}


def _versions(log: Place) -> list[int]:
    return [int(commit.stem) for commit in log.glob("[0-9]*.json") if commit.stem.isdigit()]


def _read_commit(log: Place, version: int) -> Commit:
    lines = (log / commit_name(version)).read_bytes().splitlines()
    actions = (json.loads(line) for line in lines if b'"commitInfo"' in line)
    # A writer may leave it out.
    info: dict[str, Any] = next((a["commitInfo"] for a in actions if "commitInfo" in a), {})
    at = info.get("timestamp")
    parameters = info.get("operationParameters") or {}
    restored = parameters.get("version") if info.get("operation") == "RESTORE" else None
    return Commit(
        version=version,
        operation=info.get("operation", "unknown"),
        tag=info.get(TAG),
        at=dt.datetime.fromtimestamp(at / 1000, dt.UTC) if at else None,
        restored=int(restored) if restored is not None else None,
    )

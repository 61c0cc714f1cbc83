"""Reads and writes the commits of a table's log."""

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltalake import CommitProperties
from deltalake.transaction import AddAction, RemoveAction

from pipeline.lake.data_files import FILE_BYTES, DataFile
from pipeline.lake.file_pruning import LoggedFile
from pipeline.lake.open_table import CHECKPOINT_VERSIONS, OpenTable, commit_name
from pipeline.place import Place, is_logged

TAG = "userMetadata"  # Spark's Delta writer fills the same entry of a commit, so one reader of tags serves both


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
        return max(int(commit.name[:20]) for commit in log.glob("[0-9]*.json"))
    while has_commit(log, known + 1):
        known += 1
    return known


def commits_after(delta: OpenTable, version: int) -> list[Commit]:
    """Returns the commits after a version up to the one that is open, oldest first."""
    count = delta.version() - version
    entries = delta.history(count) if count > 0 else []
    return [_as_commit(entry) for entry in reversed(entries) if entry["version"] > version]


def commit_files(
    delta: OpenTable,
    files: Sequence[DataFile],
    tag: str,
    metrics: Mapping[str, int],
    *,
    removed: Sequence[LoggedFile] = (),
) -> int:
    """Commits new data files in the place of removed ones and returns the version. `metrics` show in the history."""
    now = time.time_ns() // 1_000_000
    added: list[AddAction | RemoveAction] = [
        AddAction(
            path=f.name,
            size=f.size,
            partition_values={},
            modification_time=now,
            data_change=True,
            stats=f.statistics,
        )
        for f in files
    ]
    gone = [
        RemoveAction(path, data_change=True, deletion_timestamp=now, size=size, partition_values={})
        for path, size in removed
    ]
    all_metrics = {**metrics, "num_added_files": len(files), "num_removed_files": len(removed)}
    return delta.commit([*added, *gone], commit_properties(tag, operationMetrics=all_metrics))


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


def _as_commit(entry: dict[str, Any]) -> Commit:
    at = entry.get("timestamp")
    restored = entry.get("operationParameters", {}).get("version") if entry.get("operation") == "RESTORE" else None
    return Commit(
        version=int(entry["version"]),
        operation=entry.get("operation", "unknown"),
        tag=entry.get(TAG),
        at=dt.datetime.fromtimestamp(at / 1000, dt.UTC) if at else None,
        restored=int(restored) if restored is not None else None,
    )

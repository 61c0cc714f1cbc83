"""Describes the commits after the published version of a table: when, by which program, and how many rows."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.place import Place
from pipeline.reader.delta_files import file_stats, open_table
from pipeline.reader.published_versions import PublishedVersions, location

if TYPE_CHECKING:
    from deltalake import DeltaTable

_OURS = "lakegate "  # the tag of each commit of a batch begins so


@dataclass(frozen=True, kw_only=True)
class ForeignCommit:
    """One commit that no batch published."""

    version: int
    at: dt.datetime | None  # UTC
    operation: str
    program: str  # the library or program that wrote it, as far as the commit names it
    rows: int | None  # rows of the table at this version minus rows before it; None where the log has no numbers


def commits_since_published(state: PublishedVersions, name: str) -> list[ForeignCommit]:
    """Returns the commits of a table after its published version, oldest first."""
    folder = location(state.lake, name)
    newest = open_table(folder)
    published = state.versions.get(name, 0)
    if newest is None or newest.version() <= published:
        return []
    history = {int(entry["version"]): entry for entry in newest.history(newest.version() - published)}
    before = _rows(folder, published)
    commits = []
    for version in range(published + 1, newest.version() + 1):
        now = _rows(folder, version)
        rows = None if now is None or before is None else now - before
        commits.append(_commit(version, history.get(version, {}), rows))
        before = now
    return commits


def _commit(version: int, entry: Mapping[str, Any], rows: int | None) -> ForeignCommit:
    at = entry.get("timestamp")
    is_ours = str(entry.get("userMetadata") or "").startswith(_OURS)
    program = "an unfinished batch" if is_ours else str(entry.get("userName") or entry.get("engineInfo") or "")
    return ForeignCommit(
        version=version,
        at=dt.datetime.fromtimestamp(at / 1000, dt.UTC) if at else None,
        operation=str(entry.get("operation") or "unknown"),
        program=program or "an unknown program",
        rows=rows,
    )


def _rows(folder: Place, version: int) -> int | None:
    table: DeltaTable | None = open_table(folder, version)
    counts = [f.get("num_records") for f in file_stats(table, "path", "num_records")] if table else [None]
    return None if None in counts else sum(c for c in counts if c is not None)

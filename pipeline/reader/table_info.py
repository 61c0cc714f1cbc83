"""Describes the published tables from the Delta log alone."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.reader.delta_files import file_stats, open_table
from pipeline.reader.published_versions import PublishedVersions, location


@dataclass(frozen=True, kw_only=True)
class TableInfo:
    """A published table: its version, size and age."""

    name: str
    version: int
    rows: int | None  # None if the log lacks the number for a file
    bytes: int
    files: int
    written_at: dt.datetime | None  # UTC; None for an empty table


def tables(state: PublishedVersions) -> tuple[TableInfo, ...]:
    """Returns a description of every published table at its published version."""
    with ThreadPoolExecutor(4) as pool:  # opening a table mostly waits for its log
        infos = list(pool.map(lambda name: _info(state, name), state.versions))
    return tuple(info for info in infos if info is not None)


def _info(state: PublishedVersions, name: str) -> TableInfo | None:
    table = open_table(location(state.lake, name), state.versions[name])
    if table is None:
        return None
    stats = file_stats(table, "num_records", "size_bytes", "modification_time")
    counts = [f.get("num_records") for f in stats]
    written = [at for f in stats if (at := f.get("modification_time")) is not None]
    return TableInfo(
        name=name,
        version=state.versions[name],
        rows=None if None in counts else sum(c for c in counts if c is not None),
        bytes=sum(f["size_bytes"] or 0 for f in stats),
        files=len(stats),
        written_at=dt.datetime.fromtimestamp(max(written) / 1000, dt.UTC) if written else None,
    )

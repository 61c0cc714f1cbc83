"""The manifest `ops.batches`: what is published, with the version of every table. One appended row publishes a batch."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake.data_files import shaped
from pipeline.lake.lake import Lake

BATCHES = "ops.batches"
REJECTED_KEYS = "ops.rejected_keys"
_AT = pa.timestamp("us", "UTC")
_FILE = pa.struct(
    [("name", pa.string()), ("feed", pa.string()), ("sha256", pa.string())]
    + [(n, pa.int64()) for n in ("bytes", "rows_read", "rows_accepted", "rows_rejected")]
)

# Every table of `ops`, as it is created.
OPS: Mapping[str, pa.Schema] = {
    BATCHES: pa.schema(
        [
            ("batch_id", pa.string()),
            ("batch_seq", pa.int64()),
            ("kind", pa.string()),
            ("source", pa.string()),
            ("batch_date", pa.date32()),
            ("revision", pa.int32()),
            ("published_at", _AT),
            ("fingerprint", pa.string()),
            ("identity", pa.string()),
            ("rows_read", pa.int64()),
            ("rows_accepted", pa.int64()),
            ("rows_rejected", pa.int64()),
            ("score", pa.float64()),
            ("validation_status", pa.string()),
            ("files", pa.list_(_FILE)),
            ("whole_feeds", pa.list_(pa.string())),
            ("task_values", pa.map_(pa.string(), pa.string())),
            ("table_versions", pa.map_(pa.string(), pa.int64())),
            ("reason", pa.string()),
            ("file_revisions", pa.map_(pa.string(), pa.int64())),  # of files whose revision is not the batch's
        ]
    ),
    "ops.validation_results": pa.schema(
        [(n, pa.string()) for n in ("batch_id", "feed", "rule", "severity", "action")]
        + [("checked", pa.int64()), ("broken", pa.int64()), ("share", pa.float64()), ("description", pa.string())]
    ),
    "ops.quarantine": pa.schema(
        [(n, pa.string()) for n in ("batch_id", "source", "feed", "source_file")]
        + [("record", pa.int64()), ("raw", pa.string()), ("reasons", pa.list_(pa.string())), ("status", pa.string())]
    ),
    "ops.processing_log": pa.schema(
        [("batch_id", pa.string()), ("attempt", pa.int32()), ("task", pa.string()), ("status", pa.string())]
        + [("started_at", _AT), ("finished_at", _AT)]
        + [(n, pa.int64()) for n in ("total_records", "valid_records", "invalid_records", "archived_files")]
    ),
    # Of whole deliveries, what rejected rows hide: the key of such a row, or null where it cannot be read.
    REJECTED_KEYS: pa.schema([(n, pa.string()) for n in ("batch_id", "source", "feed", "key")]),
    # A signed log: its sums say how often a member occurs in a group, so that distinct counts go by difference.
    "ops.pair_counts": pa.schema(
        [(n, pa.string()) for n in ("source", "pair", "group_key", "member")] + [("n", pa.int64())]
    ),
}
# What questions about the past need of a row; few bytes, so all rows fit in memory for years.
_BRIEF = ("batch_id", "batch_seq", "kind", "source", "batch_date", "identity", "revision", "whole_feeds")


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    name: str
    feed: str
    sha256: str
    bytes: int
    rows_read: int = 0
    rows_accepted: int = 0
    rows_rejected: int = 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the manifest. Number, time and table versions are filled in when it is written."""

    batch_id: str
    kind: str  # batch, rejected, failed, undone, maintenance
    source: str
    batch_date: dt.date | None = None
    revision: int = 0
    fingerprint: str = ""
    identity: str = ""
    rows_read: int = 0
    rows_accepted: int = 0
    rows_rejected: int = 0
    score: float | None = None
    validation_status: str = ""
    files: tuple[PublishedFile, ...] = ()
    whole_feeds: tuple[str, ...] = ()
    task_values: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    batch_seq: int = 0
    published_at: dt.datetime | None = None
    table_versions: Mapping[str, int] = field(default_factory=dict)
    file_revisions: Mapping[str, int] = field(default_factory=dict)


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Manifest:
    """Reads and writes `ops.batches`. A lake without it has published nothing."""

    def __init__(self, lake: Lake, now: Callable[[], dt.datetime] = utc_now) -> None:
        self._lake = lake
        self._now = now
        self._brief: pa.Table = OPS[BATCHES].empty_table().select(list(_BRIEF))
        self._pieces: list[tuple[Path, pa.Table]] = []
        self._version = -1

    def newest(self, source: str | None = None, kind: str | None = None) -> Entry | None:
        """Tells the newest row, of a source and kind where they are given."""
        return self._entry(self._where(source=source, kind=kind))

    def row(self, batch_id: str) -> Entry | None:
        """Tells the row that published a batch."""
        return self._entry(self._where(batch_id=batch_id, kind="batch"))

    def find_identity(self, identity: str) -> Entry | None:
        """Tells the published batch of this content."""
        return self._entry(self._where(identity=identity, kind="batch"))

    def versions(self, source: str) -> dict[str, int]:
        """Tells the published version of each table of the source and of `ops`."""
        own, any_source = self.newest(source), self.newest()
        versions = {t: v for t, v in own.table_versions.items() if t.startswith(f"{source}.")} if own else {}
        return versions | (
            {t: v for t, v in any_source.table_versions.items() if t.startswith("ops.")} if any_source else {}
        )

    def sources(self) -> tuple[str, ...]:
        """Tells every source that has a row."""
        return tuple(sorted(set(self._rows()["source"].to_pylist())))

    def newest_seq(self, batch_id: str | None = None) -> int:
        """Tells the number of the newest row, of a batch where it is given; 0 when there is none."""
        return int(pc.max(self._where(batch_id=batch_id)["batch_seq"]).as_py() or 0)

    def newest_batch_date(self, source: str) -> dt.date | None:
        """Tells the newest batch date published for a source."""
        found: dt.date | None = pc.max(self._where(source=source, kind="batch")["batch_date"]).as_py()
        return found

    def whole_deliveries(self, source: str, feed: str) -> list[tuple[str, dt.date, int]]:
        """Tells batch id, batch date and revision of each published batch that delivered the feed whole, oldest row first."""
        rows = self._where(source=source, kind="batch").sort_by("batch_seq").to_pylist()
        return [(r["batch_id"], r["batch_date"], r["revision"]) for r in rows if feed in (r["whole_feeds"] or ())]

    def has_date(self, source: str, batch_date: dt.date) -> bool:
        """Returns whether a batch was published for a date."""
        rows = self._where(source=source, kind="batch")
        return bool(pc.any(pc.equal(rows["batch_date"], pa.scalar(batch_date))).as_py())

    def of_date(self, source: str, batch_date: dt.date) -> list[Entry]:
        """Returns the rows of the batches that were published for a date."""
        rows = self._where(source=source, kind="batch")
        return self._entries(rows.filter(pc.equal(rows["batch_date"], pa.scalar(batch_date))))

    def of_corrected_dates(self, source: str) -> list[Entry]:
        """Returns the rows of all batches of the dates for which one has a revision."""
        rows = self._where(source=source, kind="batch")
        dates = rows.filter(pc.greater(rows["revision"], 0))["batch_date"].combine_chunks()
        return self._entries(rows.filter(pc.is_in(rows["batch_date"], value_set=dates)))

    def since(self, moment: dt.datetime) -> list[Entry]:
        """Tells the rows written since a moment."""
        table = (
            self._lake.arrow(BATCHES, filter=pc.field("published_at") >= pa.scalar(moment, _AT))
            if self._lake.exists(BATCHES)
            else None
        )
        return [_from_row(r) for r in table.to_pylist(maps_as_pydicts="strict")] if table is not None else []

    def write(self, entry: Entry, versions: Mapping[str, int]) -> Entry:
        """Appends a row that names these versions: the commit that publishes. Tells the row as written."""
        if not self._lake.exists(BATCHES):
            self._lake.create(BATCHES, OPS[BATCHES])
        missing = [f for f in OPS[BATCHES] if f.name not in self._lake.schema(BATCHES).names]
        if missing:
            self._lake.add_columns(BATCHES, pa.schema(missing), f"lakegate {entry.batch_id} {entry.kind}")
        written = replace(
            entry,
            batch_seq=self.newest_seq() + 1,
            published_at=self._now(),
            table_versions=dict(sorted(versions.items())),
        )
        self._lake.append(
            BATCHES,
            pa.Table.from_pylist([_to_row(written)], schema=OPS[BATCHES]),
            f"lakegate {entry.batch_id} {entry.kind}",
        )
        return written

    def _rows(self) -> pa.Table:
        if self._version >= 0 and self._lake.is_at(BATCHES, self._version):
            return self._brief
        if self._lake.exists(BATCHES):
            self._version = self._lake.version(BATCHES)
            self._pieces = self._lake.pieces(BATCHES, _BRIEF)
            self._brief = pa.concat_tables(
                [rows for _, rows in self._pieces] or [self._brief.slice(0, 0)]
            ).combine_chunks()
        return self._brief

    def _where(self, **equal: str | None) -> pa.Table:
        rows = self._rows()
        for name, value in equal.items():
            if value is not None:
                rows = rows.filter(pc.equal(rows[name], value))
        return rows

    def _entry(self, found: pa.Table) -> Entry | None:
        newest = self._entries(found.filter(pc.equal(found["batch_seq"], pc.max(found["batch_seq"]))))
        return newest[0] if newest else None

    def _entries(self, found: pa.Table) -> list[Entry]:
        """Reads rows of which the brief is known, oldest first: only the files that hold them."""
        if not found.num_rows:
            return []
        wanted = found["batch_seq"].combine_chunks()
        paths = [path for path, rows in self._pieces if pc.any(pc.is_in(rows["batch_seq"], value_set=wanted)).as_py()]
        rows = [pq.read_table(path, filters=pc.field("batch_seq").isin(wanted)) for path in paths]
        read = [
            _from_row(row) for some in rows for row in shaped(some, OPS[BATCHES]).to_pylist(maps_as_pydicts="strict")
        ]
        return sorted(read, key=lambda e: e.batch_seq)


def _to_row(entry: Entry) -> dict[str, Any]:
    # Maps are lists of pairs in Arrow.
    maps = ("task_values", "table_versions", "file_revisions")
    return {**asdict(entry), **{name: list(getattr(entry, name).items()) for name in maps}}


def _from_row(row: Mapping[str, Any]) -> Entry:
    files: Sequence[Mapping[str, Any]] = row["files"] or ()
    plain = {name: value for name, value in row.items() if value is not None}
    return Entry(
        **{**plain, "files": tuple(PublishedFile(**f) for f in files), "whole_feeds": tuple(row["whole_feeds"] or ())}
    )

"""The manifest `ops.batches`: the published batches, with the version of every table. Appending a row publishes."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contract import FileCounts, OrderFile
from pipeline.errors import ConcurrentWriter
from pipeline.lake.data_files import cast_to_schema
from pipeline.lake.lake import Lake
from pipeline.lake.ops_tables import BATCHES, OPS
from pipeline.place import Place, open_file

# The columns that searches need. They take few bytes, so those of all rows fit in memory for years.
_SEARCHED = ("batch_id", "batch_seq", "kind", "source", "batch_date", "identity", "revision", "whole_feeds")
TAKEN = "taken"  # the kind of the row that makes an attempt of another process void, before it is undone
ATTEMPT = "attempt"  # the task value of such a row: the tag of that attempt's commits
_MAPS = ("task_values", "table_versions", "file_revisions")


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file of a batch, as its row of the manifest names it."""

    name: str
    feed: str
    sha256: str
    bytes: int
    rows_read: int = 0
    rows_accepted: int = 0
    rows_rejected: int = 0


@dataclass(frozen=True, kw_only=True)
class ManifestRow:
    """One row of the manifest. `Manifest.write` fills in number, time and table versions."""

    batch_id: str
    kind: str  # batch, rejected, failed, taken, undone, maintenance
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


def published_files(files: Iterable[OrderFile], counts: Iterable[FileCounts]) -> tuple[PublishedFile, ...]:
    """Returns the files of a batch with their row counts, which are 0 for a file that was not read."""
    rows = {
        c.name: {"rows_read": c.rows_read, "rows_accepted": c.rows_accepted, "rows_rejected": c.rows_rejected}
        for c in counts
    }
    return tuple(
        PublishedFile(name=f.name, feed=f.feed, sha256=f.sha256, bytes=f.bytes, **rows.get(f.name, {})) for f in files
    )


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Manifest:
    """Reads and writes `ops.batches`. A lake without that table has published nothing."""

    def __init__(self, lake: Lake, now: Callable[[], dt.datetime] = utc_now) -> None:
        self._lake = lake
        self._now = now
        self._searched: pa.Table = OPS[BATCHES].empty_table().select(list(_SEARCHED))
        self._searched_by_file: list[tuple[Place, pa.Table]] = []
        self._rows: dict[int, ManifestRow] = {}  # read in full, by number
        self._version = -1
        self._is_held = False

    # ---- rows

    def newest(self, source: str | None = None, kind: str | None = None) -> ManifestRow | None:
        """Returns the newest row, optionally of a source and of a kind."""
        return self._newest_of(self._where(source=source, kind=kind))

    def published_row(self, batch_id: str) -> ManifestRow | None:
        """Returns the row that published a batch."""
        return self._newest_of(self._where(batch_id=batch_id, kind="batch"))

    def has_published(self, batch_id: str, identity: str) -> bool:
        """Returns whether a batch of this id, or with this content, is published."""
        same_content = bool(identity) and self._where(identity=identity, kind="batch").num_rows > 0
        return same_content or bool(self._where(batch_id=batch_id, kind="batch").num_rows)

    def find_identity(self, identity: str) -> ManifestRow | None:
        """Returns the row of the published batch with this content."""
        return self._newest_of(self._where(identity=identity, kind="batch"))

    def batches_of_date(self, source: str, batch_date: dt.date) -> list[ManifestRow]:
        """Returns the rows of the batches that were published for a date, oldest first."""
        rows = self._where(source=source, kind="batch")
        return self._read_rows(rows.filter(pc.equal(rows["batch_date"], pa.scalar(batch_date))))

    def batches_of_corrected_dates(self, source: str) -> list[ManifestRow]:
        """Returns the rows of all batches of those dates for which at least one batch has a revision, oldest first."""
        rows = self._where(source=source, kind="batch")
        dates = rows.filter(pc.greater(rows["revision"], 0))["batch_date"].combine_chunks()
        return self._read_rows(rows.filter(pc.is_in(rows["batch_date"], value_set=dates)))

    def rows_since(self, moment: dt.datetime) -> list[ManifestRow]:
        """Returns the rows that were written at a moment or later."""
        if not self._lake.exists(BATCHES):
            return []
        since = pc.field("published_at") >= pa.scalar(moment, OPS[BATCHES].field("published_at").type)
        table = self._lake.arrow(BATCHES, filter=since)
        return [_from_record(r) for r in table.to_pylist(maps_as_pydicts="strict")]

    # ---- facts from rows

    def versions(self, source: str) -> dict[str, int]:
        """Returns the published version of each table of the source and of `ops`."""
        versions = dict[str, int]()
        # Every row names the tables of `ops`, so the newest row of all decides on these.
        for row, prefix in ((self.newest(source), f"{source}."), (self.newest(), "ops.")):
            if row is not None:
                versions |= {table: v for table, v in row.table_versions.items() if table.startswith(prefix)}
        return versions

    def sources(self) -> tuple[str, ...]:
        """Returns every source that has a row."""
        return tuple(sorted(set(self._searched_rows()["source"].to_pylist())))

    def newest_seq(self) -> int:
        """Returns the number of the newest row; 0 where there is none."""
        return int(pc.max(self._searched_rows()["batch_seq"]).as_py() or 0)

    def has_ended(self, tag: str, fence: int) -> bool:
        """Returns whether a row after this version ends the attempt with this tag. A row `taken` does not end it."""
        if not self._lake.exists(BATCHES):
            return False
        attempt_and_kind = ((c.tag or "").rpartition(" ") for c in self._lake.commits(BATCHES, fence))
        return any(attempt == tag and kind != TAKEN for attempt, _, kind in attempt_and_kind)

    def taken_attempts(self) -> set[str]:
        """Returns the tags of the attempts that other processes have made void."""
        return {row.task_values[ATTEMPT] for row in self._read_rows(self._where(kind=TAKEN))}

    def newest_batch_date(self, source: str) -> dt.date | None:
        """Returns the newest batch date that is published for a source."""
        found: dt.date | None = pc.max(self._where(source=source, kind="batch")["batch_date"]).as_py()
        return found

    def has_date(self, source: str, batch_date: dt.date) -> bool:
        """Returns whether a batch was published for a date."""
        rows = self._where(source=source, kind="batch")
        return bool(pc.any(pc.equal(rows["batch_date"], pa.scalar(batch_date))).as_py())

    def snapshot_deliveries(self, source: str, feed: str) -> list[tuple[str, dt.date, int]]:
        """Returns batch id, batch date and revision of each published batch with a snapshot of a feed, oldest first."""
        rows = self._where(source=source, kind="batch").sort_by("batch_seq").to_pylist()
        return [(r["batch_id"], r["batch_date"], r["revision"]) for r in rows if feed in (r["whole_feeds"] or ())]

    # ---- writing

    def fence(self) -> int:
        """Returns the version of the manifest that a later `write` must follow. Creates a manifest that is missing."""
        if not self._lake.exists(BATCHES):
            self._lake.create(BATCHES, OPS[BATCHES])
        self._searched_rows()
        return self._version

    def hold(self, fence: int) -> None:
        """Lets all searches answer as of this version until the next write, or `release`, without a look at the log.

        An attempt asks tens of times, and it may publish only after the version at which it began.
        """
        self._is_held = self._version == fence

    def release(self) -> None:
        """Lets searches find newer rows again."""
        self._is_held = False

    def require(self, fence: int) -> None:
        """Raises ConcurrentWriter where a row was written after this version of the manifest."""
        if not self._lake.is_newest(BATCHES, fence):
            raise ConcurrentWriter(BATCHES)

    def write(self, row: ManifestRow, versions: Mapping[str, int], *, fence: int, tag: str) -> ManifestRow:
        """Appends a row that names the published table versions and these, and returns the row as written.

        This commit publishes. Its own tag is `tag` and the kind of the row. Raises ConcurrentWriter where the manifest
        has left the version `fence`, so the row knows too little.
        """
        self.require(fence)
        try:
            return self._write(row, {**self.versions(row.source), **versions}, fence, f"{tag} {row.kind}")
        except Exception:
            # Delta lets one of two writers commit a version. The other one fails with one of many errors.
            self.require(fence)
            raise
        finally:
            self.release()

    def _write(self, row: ManifestRow, versions: Mapping[str, int], fence: int, tag: str) -> ManifestRow:
        missing = [f for f in OPS[BATCHES] if f.name not in self._lake.schema(BATCHES, fence).names]
        if missing:  # an older release wrote the lake
            fence += 1
            if self._lake.add_columns(BATCHES, pa.schema(missing), tag) != fence:
                raise ConcurrentWriter(BATCHES)
        written = replace(
            row,
            batch_seq=self.newest_seq() + 1,
            published_at=self._now(),
            table_versions=dict(sorted(versions.items())),
        )
        table = pa.Table.from_pylist([_to_record(written)], schema=OPS[BATCHES])
        self._lake.append(BATCHES, table, tag, after=fence)
        return written

    # ---- searching

    def _searched_rows(self) -> pa.Table:
        if self._version >= 0 and (self._is_held or self._lake.is_newest(BATCHES, self._version)):
            return self._searched
        if self._lake.exists(BATCHES):
            self._rows = {}
            self._version = self._lake.version(BATCHES)
            self._searched_by_file = self._lake.arrow_by_file(BATCHES, _SEARCHED)
            tables = [rows for _, rows in self._searched_by_file] or [self._searched.slice(0, 0)]
            self._searched = pa.concat_tables(tables).combine_chunks()
        return self._searched

    def _where(self, **equal: str | None) -> pa.Table:
        rows = self._searched_rows()
        for name, value in equal.items():
            if value is not None:
                rows = rows.filter(pc.equal(rows[name], value))
        return rows

    def _newest_of(self, found: pa.Table) -> ManifestRow | None:
        rows = self._read_rows(found.filter(pc.equal(found["batch_seq"], pc.max(found["batch_seq"]))))
        return rows[0] if rows else None

    def _read_rows(self, found: pa.Table) -> list[ManifestRow]:
        """Returns the rows that a search has found in full, oldest first."""
        wanted = sorted(found["batch_seq"].to_pylist())
        known = self._rows  # another thread that sees a new version begins a new one
        missing = [seq for seq in wanted if seq not in known]
        if missing:
            known.update(self._read_from_files(pa.array(missing)))
        return [known[seq] for seq in wanted]

    def _read_from_files(self, wanted: pa.Array) -> Iterator[tuple[int, ManifestRow]]:
        """Reads rows by their numbers, from those files only that hold one of them."""
        paths = [
            path
            for path, rows in self._searched_by_file
            if pc.any(pc.is_in(rows["batch_seq"], value_set=wanted)).as_py()
        ]
        tables = [pq.read_table(open_file(path), filters=pc.field("batch_seq").isin(wanted)) for path in paths]
        for table in tables:
            for record in cast_to_schema(table, OPS[BATCHES]).to_pylist(maps_as_pydicts="strict"):
                yield record["batch_seq"], _from_record(record)


def _to_record(row: ManifestRow) -> dict[str, Any]:
    # Arrow writes a map from a list of pairs.
    maps = {name: list(getattr(row, name).items()) for name in _MAPS}
    return {**vars(row), "files": [vars(f) for f in row.files], **maps}


def _from_record(record: Mapping[str, Any]) -> ManifestRow:
    files: Sequence[Mapping[str, Any]] = record["files"] or ()
    values = {name: value for name, value in record.items() if value is not None}
    values["files"] = tuple(PublishedFile(**f) for f in files)
    values["whole_feeds"] = tuple(record["whole_feeds"] or ())
    return ManifestRow(**values)

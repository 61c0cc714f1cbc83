"""Revisions: finds which files correct which earlier files, from the work order and the manifest. Reads no table."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pipeline.commit.manifest import Manifest, ManifestRow
from pipeline.contract import (
    Correction,
    OrderFile,
    WorkOrder,
    named_revision,
    next_revision,
    plain_name,
    stated_revision,
)
from pipeline.errors import DataError
from pipeline.model import Feed, Source
from pipeline.transform.superseded_files import FileId, SupersededFiles


@dataclass(frozen=True, kw_only=True)
class _Delivery:
    """A file that came for the feed and date, with the revision that its trigger or its name states."""

    batch_id: str
    batch_seq: int
    batch_date: dt.date
    name: str
    stated: int

    @property
    def file_id(self) -> FileId:
        return self.batch_id, self.name


def with_revisions(order: WorkOrder, source: Source, manifest: Manifest) -> tuple[WorkOrder, tuple[Correction, ...]]:
    """Returns the order with a revision for each file, and the files that correct an earlier file.

    A file that comes again for its date, under the same name and with other content, gets the next revision. A snapshot
    keeps the revision that its trigger states: only the sender knows which of two snapshots of a date is right.
    """
    earlier = [row for row in manifest.batches_of_date(order.source, order.batch_date) if _came_before(row, order)]
    snapshots = {f.name for f in source.feeds if f.snapshot} | set(order.snapshot)
    names = [f.name for f in order.files]
    files = list[OrderFile]()
    corrections = list[Correction]()
    for file in order.files:
        if file.feed in snapshots:
            files.append(replace(file, revision=order.revision))
            continue
        stated = stated_revision(file.name, order.revision, names)
        revision, corrected = _revision(file, stated, earlier)
        files.append(replace(file, revision=revision))
        if revision > stated:
            corrections.append(Correction(name=file.name, revision=revision, of=corrected))
    return replace(order, files=tuple(files)), tuple(corrections)


def _came_before(row: ManifestRow, order: WorkOrder) -> bool:
    # A batch that was published after this one had been received came later, even where it overtook this one.
    received = dt.datetime.fromisoformat(order.received_at) if order.received_at else None
    return received is None or row.published_at is None or row.published_at < received


def _revision(file: OrderFile, stated: int, earlier: Sequence[ManifestRow]) -> tuple[int, str]:
    """Returns the revision of a file, and the newest earlier batch with a file of its name, if there is one."""
    name = plain_name(file.name)
    known = [(row, f) for row in earlier for f in row.files if f.feed == file.feed and plain_name(f.name) == name]
    deliveries = ((f.sha256, row.file_revisions.get(f.name, row.revision), _stated(row, f.name)) for row, f in known)
    revision = next_revision(stated, file.sha256, deliveries)
    return max(revision, file.revision), known[-1][0].batch_id if known else ""


def _stated(row: ManifestRow, name: str) -> int:
    return stated_revision(name, row.revision, (f.name for f in row.files))


def superseded_files(order: WorkOrder, feed: Feed, manifest: Manifest) -> SupersededFiles | None:
    """Returns the files of a feed that stated revisions replace; None where this batch changes nothing about that.

    A revision replaces the file of its name, whichever of the two comes first. A trigger may state a revision for files
    of new names: they replace the one delivery that was published for that date before. Raises DataError where several
    deliveries were.
    """
    before = _deliveries(manifest.batches_of_date(order.source, order.batch_date), feed)
    names = [f.name for f in order.files]
    own = [
        _Delivery(
            batch_id=order.batch_id,
            batch_seq=manifest.newest_seq() + 1,
            batch_date=order.batch_date,
            name=f.name,
            stated=stated_revision(f.name, order.revision, names),
        )
        for f in order.files
        if f.feed == feed.name
    ]
    of_this_date = _replaced((*before, *own), feed)
    moved = of_this_date ^ _replaced(before, feed)
    if not moved:
        return None
    corrected = manifest.batches_of_corrected_dates(order.source)
    other_dates = _deliveries((row for row in corrected if row.batch_date != order.batch_date), feed)
    return SupersededFiles(every=frozenset(of_this_date | _replaced(other_dates, feed)), moved=frozenset(moved))


def _deliveries(rows: Iterable[ManifestRow], feed: Feed) -> list[_Delivery]:
    return [
        _Delivery(
            batch_id=row.batch_id,
            batch_seq=row.batch_seq,
            batch_date=row.batch_date,
            name=f.name,
            stated=_stated(row, f.name),
        )
        for row in rows
        if row.batch_date
        for f in row.files
        if f.feed == feed.name
    ]


def _replaced(deliveries: Iterable[_Delivery], feed: Feed) -> set[FileId]:
    """Returns the files that deliveries with a stated revision replace. Raises DataError, see `superseded_files`."""
    files = list(deliveries)
    replaced = set[FileId]()
    for batch_id, date in dict.fromkeys((f.batch_id, f.batch_date) for f in files if f.stated):
        own = [f for f in files if f.batch_id == batch_id and f.stated]
        lower = [f for f in files if f.batch_date == date and f.batch_id != batch_id and f.stated < own[0].stated]
        names = dict(named_revision(f.name) for f in own)
        same_name = [f for f in lower if named_revision(f.name)[0] in names]
        # A revision in a file's name points at one file, also before that file has come. No other file is meant then.
        earlier = [] if any(names.values()) else [f for f in lower if f.batch_seq < own[0].batch_seq]
        if not same_name and len({f.batch_id for f in earlier}) > 1:
            raise DataError(
                f"{own[0].name} has revision {own[0].stated}, and {len(earlier)} files of {feed.name} came for {date} "
                "in several deliveries, none of them of that name; give the corrected file the name of the one that it "
                "replaces, and land a new trigger"
            )
        replaced |= {f.file_id for f in same_name or earlier}
    return replaced

"""Revisions: which file corrects which. Computed from the manifest and the ledger only; reads no table."""

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
from pipeline.transform.snapshots import FileId

NO_FILES: frozenset[FileId] = frozenset()


@dataclass(frozen=True, kw_only=True)
class _Delivered:
    batch_id: str
    batch_seq: int
    batch_date: dt.date
    name: str
    stated: int  # the revision that the trigger or the name gives

    @property
    def file_id(self) -> FileId:
        return self.batch_id, self.name


def with_revisions(order: WorkOrder, source: Source, manifest: Manifest) -> tuple[WorkOrder, tuple[Correction, ...]]:
    """Returns the order with the revision of each file, and the files that correct an earlier one.

    A file that comes again for its date under the same name with other content gets the next revision. A feed that is
    delivered whole has the stated one: only the sender knows which of two whole deliveries of a date is right.
    """
    earlier = [e for e in manifest.batches_of_date(order.source, order.batch_date) if _came_before(e, order)]
    whole = {f.name for f in source.feeds if f.snapshot} | set(order.snapshot)
    files, corrections = list[OrderFile](), list[Correction]()
    names = [f.name for f in order.files]
    for file in order.files:
        stated = order.revision if file.feed in whole else stated_revision(file.name, order.revision, names)
        revision, of = (stated, "") if file.feed in whole else _revision(file, stated, earlier)
        files.append(replace(file, revision=revision))
        if revision > stated:
            corrections.append(Correction(name=file.name, revision=revision, of=of))
    return replace(order, files=tuple(files)), tuple(corrections)


def _came_before(entry: ManifestRow, order: WorkOrder) -> bool:
    # A batch that was published after this one had been received came later, although it was faster.
    received = dt.datetime.fromisoformat(order.received_at) if order.received_at else None
    return received is None or entry.published_at is None or entry.published_at < received


def _revision(file: OrderFile, stated: int, earlier: Sequence[ManifestRow]) -> tuple[int, str]:
    """Returns the revision of a file and, where the manifest knows one, the newest batch that brought it before."""
    known = [
        (e, f) for e in earlier for f in e.files if f.feed == file.feed and plain_name(f.name) == plain_name(file.name)
    ]
    found = next_revision(
        stated,
        file.sha256,
        ((f.sha256, e.file_revisions.get(f.name, e.revision), _stated(e, f.name)) for e, f in known),
    )
    return max(found, file.revision), known[-1][0].batch_id if known else ""


def _stated(entry: ManifestRow, name: str) -> int:
    return stated_revision(name, entry.revision, (f.name for f in entry.files))


def superseded(order: WorkOrder, feed: Feed, manifest: Manifest) -> tuple[frozenset[FileId], frozenset[FileId]]:
    """Returns the files of a feed that a stated revision replaces, and those of which this batch decides anew.

    Both are empty where the replaced files are the same as without this batch.

    A revision replaces the file of its name, in any order of arrival. A revision that the trigger states for files of
    other names replaces the one delivery of that date that was published before.
    Raises DataError where there were several.
    """
    before = _delivered(manifest.batches_of_date(order.source, order.batch_date), feed)
    names = [f.name for f in order.files]
    own = [
        _Delivered(
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
        return NO_FILES, NO_FILES
    other_dates = (e for e in manifest.batches_of_corrected_dates(order.source) if e.batch_date != order.batch_date)
    return frozenset(of_this_date | _replaced(_delivered(other_dates, feed), feed)), frozenset(moved)


def _delivered(entries: Iterable[ManifestRow], feed: Feed) -> list[_Delivered]:
    return [
        _Delivered(
            batch_id=e.batch_id, batch_seq=e.batch_seq, batch_date=e.batch_date, name=f.name, stated=_stated(e, f.name)
        )
        for e in entries
        if e.batch_date
        for f in e.files
        if f.feed == feed.name
    ]


def _replaced(delivered: Iterable[_Delivered], feed: Feed) -> set[FileId]:
    files, gone = list(delivered), set[FileId]()
    for batch_id, date in dict.fromkeys((f.batch_id, f.batch_date) for f in files if f.stated):
        mine = [f for f in files if f.batch_id == batch_id and f.stated]
        lower = [f for f in files if f.batch_date == date and f.batch_id != batch_id and f.stated < mine[0].stated]
        names = dict(named_revision(f.name) for f in mine)
        named = [f for f in lower if named_revision(f.name)[0] in names]
        # A revision in a file's name says which file is meant, also before that one has come.
        others = [] if any(names.values()) else [f for f in lower if f.batch_seq < mine[0].batch_seq]
        if not named and len({f.batch_id for f in others}) > 1:
            raise DataError(
                f"{mine[0].name} has revision {mine[0].stated}, and {len(others)} files of {feed.name} came for {date} "
                "in several deliveries, none of them of that name; give the corrected file the name of the one that it "
                "replaces, and land a new trigger"
            )
        gone |= {f.file_id for f in named or others}
    return gone

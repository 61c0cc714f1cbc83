"""What an unfinished attempt leaves behind, and how it is undone.

Before an attempt writes, its journal notes the version of every table that it may write. Whatever is found after a noted
version and carries the attempt's tag was left by it and is undone; what does not is somebody else's and never touched.
"""

import datetime as dt
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.commit.manifest import Entry, Manifest
from pipeline.contract import Progress
from pipeline.lake.lake import Lake

Report = Callable[[Progress], None]

TAG = "lakegate "  # every commit of ours begins its tag with it
_BATCH_ID = re.compile(r"[\w-][\w.-]*")


def silent(_progress: Progress) -> None:
    """Reports nothing."""


@dataclass(frozen=True, kw_only=True)
class Journal:
    """What an attempt may have written: everything after these versions that carries its tag."""

    batch_id: str
    source: str
    tag: str
    after_seq: int  # the newest manifest row when it began
    versions: Mapping[str, int]
    batch_date: str = ""
    revision: int = 0


@dataclass(frozen=True, kw_only=True)
class RollbackResult:
    """Where an undo left the tables. `foreign` ones hold somebody else's commit and keep their published version."""

    versions: dict[str, int]
    restored: tuple[str, ...]
    foreign: tuple[str, ...]


def recover(lake: Lake, manifest: Manifest | None = None, report: Report = silent) -> tuple[str, ...]:
    """Undoes what unfinished attempts left, and tells their batch ids. Safe to repeat, and to kill at any step."""
    manifest = manifest or Manifest(lake)
    undone = tuple(j.batch_id for j in _journals(lake) if close(lake, manifest, j, "the attempt was cut short", report))
    lake.clear_work()
    return undone


def close(lake: Lake, manifest: Manifest, journal: Journal, reason: str, report: Report) -> bool:
    """Ends an attempt that has a journal, and tells whether it had to be undone rather than stood in the manifest already."""
    finished = manifest.newest_seq(journal.batch_id) > journal.after_seq
    if not finished:
        left = undo(lake, journal, report)
        if left.restored or left.foreign:
            entry = Entry(
                batch_id=journal.batch_id,
                kind="undone",
                source=journal.source,
                batch_date=dt.date.fromisoformat(journal.batch_date) if journal.batch_date else None,
                revision=journal.revision,
                reason=reason,
            )
            manifest.write(entry, manifest.versions(journal.source) | left.versions)
            report(
                Progress(
                    batch_id=journal.batch_id,
                    event="attempt.rolled_back",
                    values={"tables": list(left.restored), "foreign": list(left.foreign)},
                )
            )
    lake.sync()  # the journal goes last, also for the disk
    remove(lake, journal)
    report(Progress(batch_id=journal.batch_id, event="journal.removed"))
    return not finished


def undo(lake: Lake, journal: Journal, report: Report = silent) -> RollbackResult:
    """Brings the journal's tables back to their noted content, as far as nobody else has written to them since."""
    versions, restored, foreign = {}, [], []
    for table, noted in journal.versions.items():
        if not lake.exists(table):
            continue
        commits = lake.commits(table, noted)
        strangers = [c for c in commits if c.tag != journal.tag]
        # Ours on top of somebody else's can go; ours below cannot without taking theirs along.
        target = strangers[-1].version if strangers else noted
        ours = [c for c in commits if c.version > target]
        version = ours[-1].version if ours else target
        if ours and ours[-1].restored != target:
            version = lake.restore(table, target, journal.tag)
            report(
                Progress(batch_id=journal.batch_id, event="table.restored", values={"table": table, "version": version})
            )
        versions[table] = noted if strangers else version
        if strangers:
            foreign.append(table)
        if ours:
            restored.append(table)
    return RollbackResult(versions=versions, restored=tuple(restored), foreign=tuple(foreign))


def checked(batch_id: str) -> str:
    """Tells the id, fit to name a file. Raises ValueError when it is not."""
    if not _BATCH_ID.fullmatch(batch_id):
        raise ValueError(f"{batch_id!r} cannot name a batch: letters, digits, dots, dashes and underscores can")
    return batch_id


def _journal_path(lake: Lake, batch_id: str) -> Path:
    return lake.path / "_journal" / f"{checked(batch_id)}.json"


def write(lake: Lake, journal: Journal) -> None:
    """Writes the journal so that it survives whatever happens next."""
    path = _journal_path(lake, journal.batch_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        json.dump(asdict(journal), file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    _sync(path.parent)


def remove(lake: Lake, journal: Journal) -> None:
    """Forgets an attempt that has ended."""
    path = _journal_path(lake, journal.batch_id)
    path.unlink(missing_ok=True)
    _sync(path.parent)


def has_open_journal(lake: Lake) -> bool:
    """Tells whether some attempt has not ended."""
    return any((lake.path / "_journal").glob("*.json"))


def _journals(lake: Lake) -> list[Journal]:
    return [_read_journal(path) for path in sorted((lake.path / "_journal").glob("*.json"))]


def _read_journal(path: Path) -> Journal:
    try:
        return Journal(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise RuntimeError(
            f"{path} is no journal ({error}); move it away: what its attempt wrote then shows as commits that no batch published, "
            "and `lakegate restore TABLE` undoes each"
        ) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

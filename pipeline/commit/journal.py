"""The journal of an attempt: how the writes of an attempt that did not end are found and undone.

Before an attempt writes, its journal notes the version of every table that it may write. Every later commit with the
attempt's tag is the attempt's own and is undone. Commits without that tag belong to others and are never touched.
"""

import datetime as dt
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.commit.manifest import Manifest, ManifestRow
from pipeline.contract import Progress
from pipeline.lake.lake import Lake

Report = Callable[[Progress], None]

TAG = "lakegate "  # the tag of every commit of ours begins with this
_BATCH_ID = re.compile(r"[\w-][\w.-]*")


def ignore_progress(_progress: Progress) -> None:
    """Drops a progress message, where nothing receives it."""


@dataclass(frozen=True, kw_only=True)
class Journal:
    """The tables that an attempt may write, with their versions before it, and the tag of its commits."""

    batch_id: str
    source: str
    tag: str
    after_seq: int  # the number of the newest manifest row when the attempt began
    versions: Mapping[str, int]
    batch_date: str = ""
    revision: int = 0


@dataclass(frozen=True, kw_only=True)
class _RollbackResult:
    """The versions of the tables after a rollback, the restored tables, and those with commits of other programs.

    A table of `external` keeps its published version here, because the newer one holds the other program's rows.
    """

    versions: dict[str, int]
    restored: tuple[str, ...]
    external: tuple[str, ...]


def recover(lake: Lake, manifest: Manifest | None = None, report: Report = ignore_progress) -> tuple[str, ...]:
    """Undoes the writes of unfinished attempts and returns their batch ids.

    It is safe to call this again, and to kill it at any step.
    """
    manifest = manifest or Manifest(lake)
    undone = tuple(j.batch_id for j in _journals(lake) if close(lake, manifest, j, "the attempt was cut short", report))
    lake.scratch.clear()
    return undone


def close(lake: Lake, manifest: Manifest, journal: Journal, reason: str, report: Report) -> bool:
    """Ends an attempt that has a journal. Returns whether the attempt had no manifest row yet, so it was undone."""
    is_finished = manifest.newest_seq(journal.batch_id) > journal.after_seq
    if not is_finished:
        result = roll_back(lake, journal, report)
        if result.restored or result.external:
            _record_rollback(manifest, journal, result, reason)
            values = {"tables": list(result.restored), "foreign": list(result.external)}
            report(Progress(batch_id=journal.batch_id, event="attempt.rolled_back", values=values))
    lake.sync()  # all writes reach the disk before the journal is removed
    remove(lake, journal)
    report(Progress(batch_id=journal.batch_id, event="journal.removed"))
    return not is_finished


def _record_rollback(manifest: Manifest, journal: Journal, result: _RollbackResult, reason: str) -> None:
    row = ManifestRow(
        batch_id=journal.batch_id,
        kind="undone",
        source=journal.source,
        batch_date=dt.date.fromisoformat(journal.batch_date) if journal.batch_date else None,
        revision=journal.revision,
        reason=reason,
    )
    manifest.write(row, manifest.versions(journal.source) | result.versions)


def roll_back(lake: Lake, journal: Journal, report: Report = ignore_progress) -> _RollbackResult:
    """Restores the journal's tables to their noted content, except below a commit of another program."""
    versions = dict[str, int]()
    restored = list[str]()
    external = list[str]()
    for table, noted in journal.versions.items():
        if not lake.exists(table):
            continue
        commits = lake.commits(table, noted)
        others = [c for c in commits if c.tag != journal.tag]
        # Our commits above another program's can be undone. Those below it cannot, without undoing the other's as well.
        target = others[-1].version if others else noted
        ours = [c for c in commits if c.version > target]
        version = ours[-1].version if ours else target
        if ours and ours[-1].restored != target:  # a rollback that was killed may have restored this table already
            version = lake.restore(table, target, journal.tag)
            values = {"table": table, "version": version}
            report(Progress(batch_id=journal.batch_id, event="table.restored", values=values))
        versions[table] = noted if others else version
        if others:
            external.append(table)
        if ours:
            restored.append(table)
    return _RollbackResult(versions=versions, restored=tuple(restored), external=tuple(external))


def check_batch_id(batch_id: str) -> str:
    """Returns the id. Raises ValueError where the id cannot name a file."""
    if not _BATCH_ID.fullmatch(batch_id):
        raise ValueError(f"{batch_id!r} cannot name a batch: letters, digits, dots, dashes and underscores can")
    return batch_id


def write(lake: Lake, journal: Journal) -> None:
    """Writes the journal to disk, whole or not at all."""
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
    """Removes the journal of an attempt that has ended."""
    path = _journal_path(lake, journal.batch_id)
    path.unlink(missing_ok=True)
    _sync(path.parent)


def has_open_journal(lake: Lake) -> bool:
    """Returns whether any attempt has not ended."""
    return any((lake.path / "_journal").glob("*.json"))


def _journal_path(lake: Lake, batch_id: str) -> Path:
    return lake.path / "_journal" / f"{check_batch_id(batch_id)}.json"


def _journals(lake: Lake) -> list[Journal]:
    return [_read_journal(path) for path in sorted((lake.path / "_journal").glob("*.json"))]


def _read_journal(path: Path) -> Journal:
    try:
        return Journal(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise RuntimeError(
            f"{path} is no journal ({error}); move it away: what its attempt wrote then shows as commits that no batch "
            "published, and `lakegate restore TABLE` undoes each"
        ) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

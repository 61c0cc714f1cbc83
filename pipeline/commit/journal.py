"""The journal of an attempt: how the writes of an attempt that did not end are found and undone.

Before an attempt writes, its journal notes the version of every table that it may write. Every later commit with the
attempt's tag is the attempt's own and is undone. Commits without a tag of ours belong to others and are never touched.
"""

import contextlib
import datetime as dt
import json
import re
import secrets
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass, fields, replace

from pipeline.commit.manifest import ATTEMPT, TAKEN, Manifest, ManifestRow
from pipeline.contract import Progress
from pipeline.lake.delta_log import Commit
from pipeline.lake.lake import Lake
from pipeline.place import Place, write_whole
from pipeline.place import remove as remove_file

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
    versions: Mapping[str, int]
    fence: int = -1  # the version of the manifest when the attempt began
    batch_date: str = ""
    revision: int = 0

    @property
    def name(self) -> str:
        """The name of the attempt's files. A slow process leaves those of a later attempt at its batch alone."""
        return f"{check_batch_id(self.batch_id)}.{self.tag.rpartition(' ')[2]}"


@dataclass(frozen=True, kw_only=True)
class RollbackResult:
    """The versions of the tables after a rollback, the restored tables, and those with commits of other programs.

    A table of `external` keeps its published version here, because the newer one holds the other program's rows.
    """

    versions: dict[str, int]
    restored: tuple[str, ...]
    external: tuple[str, ...]


def new_tag(of: str) -> str:
    """Returns a tag for commits. The number of an attempt may come again; the token makes the tag unique."""
    return f"{TAG}{of} {secrets.token_hex(4)}"


def recover(lake: Lake, manifest: Manifest | None = None, report: Report = ignore_progress) -> tuple[str, ...]:
    """Undoes the writes of unfinished attempts and returns their batch ids.

    It is safe to call this again, and to kill it at any step. Raises ConcurrentWriter where another process does more
    than this one meanwhile.
    """
    manifest = manifest or Manifest(lake)
    undone = tuple(j.batch_id for j in _journals(lake) if _take_over(lake, manifest, j, report))
    lake.scratch.clear()
    return undone


def _take_over(lake: Lake, manifest: Manifest, journal: Journal, report: Report) -> bool:
    """Makes an attempt of another process void, and undoes it. Returns whether the attempt had not ended.

    Nothing shows that the other process is dead: it may only be slow. So before anything is undone, a row `taken` goes
    to the manifest. Each row follows the version at which its writer began (the fence), so the other attempt can
    publish no more. A commit that it still makes to a table has its tag, and the row names the tag: the next attempt
    undoes that commit.
    """
    fence = manifest.fence()  # first: what is read below is not older
    is_known = journal.tag in manifest.taken_attempts()  # an earlier undo was cut short
    if not is_known and not manifest.has_ended(journal.tag, journal.fence):
        reason = f"another process undoes this attempt ({journal.tag})"
        row = replace(_row(journal, TAKEN, reason), task_values={ATTEMPT: journal.tag})
        manifest.write(row, {}, fence=fence, tag=journal.tag)
    tag = new_tag(f"undo {journal.batch_id}")
    return close(lake, manifest, journal, "the attempt was cut short", report, tag=tag, fence=manifest.fence())


def close(
    lake: Lake, manifest: Manifest, journal: Journal, reason: str, report: Report, *, tag: str, fence: int
) -> bool:
    """Ends an attempt that has a journal. Returns whether the attempt had no manifest row yet, so it was undone.

    Raises ConcurrentWriter where the manifest has left the version `fence`: then another process undoes the attempt.
    """
    is_finished = manifest.has_ended(journal.tag, journal.fence)
    if not is_finished:
        manifest.require(fence)
        result = roll_back(lake, manifest, journal, tag, report)
        if result.restored or result.external:
            manifest.write(_row(journal, "undone", reason), result.versions, fence=fence, tag=journal.tag)
            values = {"tables": list(result.restored), "foreign": list(result.external)}
            report(Progress(batch_id=journal.batch_id, event="attempt.rolled_back", values=values))
    lake.sync()  # all writes reach the disk before the journal is removed
    remove(lake, journal)
    report(Progress(batch_id=journal.batch_id, event="journal.removed"))
    return not is_finished


def _row(journal: Journal, kind: str, reason: str) -> ManifestRow:
    return ManifestRow(
        batch_id=journal.batch_id,
        kind=kind,
        source=journal.source,
        batch_date=dt.date.fromisoformat(journal.batch_date) if journal.batch_date else None,
        revision=journal.revision,
        reason=reason,
    )


def roll_back(
    lake: Lake, manifest: Manifest, journal: Journal, tag: str, report: Report = ignore_progress
) -> RollbackResult:
    """Restores the journal's tables to their published content, except below a commit of another program."""
    published = manifest.versions(journal.source)
    void = {journal.tag, *manifest.taken_attempts()}
    versions = dict[str, int]()
    restored = list[str]()
    external = list[str]()
    for table, noted in journal.versions.items():
        if not lake.exists(table):
            continue
        # Where this journal is of an attempt that was slow, other attempts may have published since it was noted.
        start = max(noted, published.get(table, 0))
        commits = lake.commits(table, start)
        others = [c for c in commits if not is_void(c, void)]
        # Our commits above another program's can be undone. Those below it cannot, without undoing the other's as well.
        target = others[-1].version if others else start
        ours = [c for c in commits if c.version > target]
        version = ours[-1].version if ours else target
        if ours and ours[-1].restored != target:  # a rollback that was killed may have restored this table already
            version = lake.restore(table, target, tag)
            values = {"table": table, "version": version}
            report(Progress(batch_id=journal.batch_id, event="table.restored", values=values))
        versions[table] = start if others else version
        if others:
            external.append(table)
        if ours:
            restored.append(table)
    return RollbackResult(versions=versions, restored=tuple(restored), external=tuple(external))


def is_void(commit: Commit, void: Container[str]) -> bool:
    """Returns whether a commit above the published version is of an attempt that is over, so that it can be undone."""
    tag = commit.tag or ""
    return tag in void or (tag.startswith(TAG) and commit.restored is not None)


def check_batch_id(batch_id: str) -> str:
    """Returns the id. Raises ValueError where the id cannot name a file."""
    if not _BATCH_ID.fullmatch(batch_id):
        raise ValueError(f"{batch_id!r} cannot name a batch: letters, digits, dots, dashes and underscores can")
    return batch_id


def write(lake: Lake, journal: Journal) -> None:
    """Writes the journal to disk, whole or not at all."""
    write_whole(_journal_path(lake, journal), json.dumps(asdict(journal)).encode())


def remove(lake: Lake, journal: Journal) -> None:
    """Removes the journal of an attempt that has ended."""
    remove_file(_journal_path(lake, journal))


def has_open_journal(lake: Lake) -> bool:
    """Returns whether any attempt has not ended."""
    return any((lake.path / "_journal").glob("*.json"))


def write_alone(lake: Lake, journal: Journal) -> bool:
    """Writes the journal, and returns whether it is the only one; else it is removed again.

    Each process writes its journal before it looks for others. So of two that begin at one time at least one sees the
    other one, and no attempt works beside another that it has not made void.
    """
    write(lake, journal)
    path = _journal_path(lake, journal)
    is_alone = all(other == path for other in path.parent.glob("*.json"))
    if not is_alone:
        remove(lake, journal)
    return is_alone


def _journal_path(lake: Lake, journal: Journal) -> Place:
    return lake.path / "_journal" / f"{journal.name}.json"


def _journals(lake: Lake) -> list[Journal]:
    journals = list[Journal]()
    paths: list[Place] = sorted((lake.path / "_journal").glob("*.json"), key=str)
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # its own process has just ended the attempt
            journal = _read_journal(path)
            journals.append(journal)
            if path != _journal_path(lake, journal):  # an older release named the file by the batch alone
                write(lake, journal)
                remove_file(path)
    return journals


def _read_journal(path: Place) -> Journal:
    try:
        known = {field.name for field in fields(Journal)}  # an older release noted other facts as well
        return Journal(**{name: value for name, value in json.loads(path.read_text()).items() if name in known})
    except (ValueError, TypeError, AttributeError) as error:
        raise RuntimeError(
            f"{path} is no journal ({error}); move it away: what its attempt wrote then shows as commits that no batch "
            "published, and `lakegate restore TABLE` undoes each"
        ) from error

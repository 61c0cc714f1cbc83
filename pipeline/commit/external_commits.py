"""Commits of other programs: found before an attempt begins, then adopted or undone by the operator alone."""

import contextlib
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from pipeline.commit.journal import TAG, has_open_journal, is_void, new_tag, recover
from pipeline.commit.manifest import Manifest, ManifestRow
from pipeline.contract import Settings
from pipeline.contract.error_text import one_line
from pipeline.errors import ConcurrentWriter, ExternalCommit
from pipeline.lake.delta_log import Commit
from pipeline.lake.lake import Lake
from pipeline.lake.lock import lake_lock
from pipeline.lake.open_table import why_not_adopted


def start_versions(
    lake: Lake, manifest: Manifest, published: Mapping[str, int | None], *, tag: str, fence: int
) -> dict[str, int]:
    """Returns the version of each table from which an attempt starts: the published one (None: not published yet).

    Where an attempt that is void has written to a table since, the table is restored with this tag. Raises
    ExternalCommit where another program has written to a table.
    """
    problems = {name: p for name, version in published.items() if (p := _problem(lake, name, version))}
    if problems:
        # The commits may be those of another process that works at this moment, or has just published.
        if has_open_journal(lake):
            raise ConcurrentWriter(", ".join(problems))
        manifest.require(fence)
    late = {name: commits for name in problems if (commits := _late_commits(lake, manifest, name, published[name]))}
    if problems.keys() - late.keys():
        external = {name: problem for name, problem in problems.items() if name not in late}
        raise ExternalCommit("; ".join(external.values()) + "; then retry the batch", external)
    versions = {name: version or 0 for name, version in published.items()}
    for name, commits in late.items():
        is_restored = commits[-1].restored == versions[name]
        versions[name] = commits[-1].version if is_restored else lake.restore(name, versions[name], tag)
    return versions


def _late_commits(lake: Lake, manifest: Manifest, table: str, published: int | None) -> list[Commit]:
    """Returns the commits after the published version where all of them are of attempts that are void, else none."""
    if not lake.exists(table) or (published is None and lake.row_count(table, 0)):
        return []
    commits, void = lake.commits(table, published or 0), manifest.taken_attempts()
    return commits if all(is_void(c, void) for c in commits) else []


def external_commit_message(table: str, commits: Sequence[Commit]) -> str:
    """Returns the sentence that names the newest of these commits and the commands that help."""
    last = commits[-1]
    at = f", {last.at:%Y-%m-%d %H:%M}" if last.at else ""
    return (
        f"{table} has version {last.version} ({last.operation}{at}) that no batch published; "
        f"`lakegate adopt {table}` publishes it, `lakegate restore {table}` undoes it"
    )


def _problem(lake: Lake, table: str, published: int | None) -> str:
    """Returns a sentence on a table that is not at its published version, else an empty text."""
    if not lake.exists(table):
        if published is None:
            return ""
        return f"{table} is gone, but version {published} of it is published: bring its folder back from a backup"
    expected = published or 0
    if lake.is_newest(table, expected) and (published is not None or not lake.row_count(table, expected)):
        return ""
    if published is None and lake.row_count(table, 0):
        return f"{table} holds rows, but no batch made it: move its folder {lake.location(table)} away"
    commits = lake.commits(table, expected)
    if commits:
        return external_commit_message(table, commits)
    return (
        f"{table} is at version {lake.version(table)}, but version {published} of it is published: "
        "bring the lake back from one backup"
    )


def adopt(settings: Settings, table: str, wait_seconds: float = 5.0) -> str:
    """Publishes the commits that another program made to a table, and returns a sentence on the result.

    Raises LakeLocked while a batch is running, LookupError for an unknown table, and ExternalCommit where the newest
    version holds a write of an unfinished batch.
    """
    with _locked_lake(settings, wait_seconds) as (lake, manifest):
        fence = manifest.fence()  # first: a batch that another process publishes meanwhile makes this void
        published = _published_version(lake, manifest, table)
        commits = lake.commits(table, published)
        if not commits:
            return f"{table}: nothing to adopt, its newest version {published} is published"
        unfinished = _unfinished_write(commits, published)
        if unfinished:
            raise ExternalCommit(
                f"{table}: version {unfinished.version} is an unfinished write of a batch ({unfinished.tag}), under "
                f"another program's commit; only `lakegate restore {table}` can help"
            )
        newest = commits[-1]
        found = why_not_adopted(lake.location(table), newest.version) or _lost_columns(
            lake.schema(table, published), lake.schema(table, newest.version)
        )
        if found:
            raise ExternalCommit(
                f"{table} has {found} now, so no batch could follow; `lakegate restore {table}` undoes it"
            )
        reason = f"adopted version {newest.version} ({newest.operation}) of {table}"
        _publish_version(manifest, table, newest.version, reason, fence)
        return f"{table}: version {newest.version} ({newest.operation}) is published now; retry the batches that failed"


def _lost_columns(before: pa.Schema, now: pa.Schema) -> str:
    lost = [f.name for f in before if f.name not in now.names or now.field(f.name).type != f.type]
    return f"no column {', '.join(lost)} of the type that was published" if lost else ""


def restore(settings: Settings, table: str, wait_seconds: float = 5.0) -> str:
    """Undoes the commits that another program made to a table, and returns a sentence on the result.

    Raises LakeLocked while a batch is running, and LookupError for an unknown table.
    """
    with _locked_lake(settings, wait_seconds) as (lake, manifest):
        fence = manifest.fence()  # first: a batch that another process publishes meanwhile makes this void
        published = _published_version(lake, manifest, table)
        commits = lake.commits(table, published)
        if not commits:
            return f"{table}: nothing to undo, its newest version {published} is published"
        manifest.require(fence)
        try:
            version = lake.restore(table, published, new_tag("restore"))
        except Exception as error:
            if not lake.is_newest(table, commits[-1].version):
                raise  # the other program has committed again
            raise ExternalCommit(
                f"{table}: version {published} cannot be restored ({one_line(error, ())}); bring the table's folder "
                "with this version back from a backup"
            ) from error
        reason = f"restored version {published} of {table} as version {version}"
        _publish_version(manifest, table, version, reason, fence)
        return (
            f"{table}: version {version} holds the published rows of version {published} again; "
            "retry the batches that failed"
        )


@contextlib.contextmanager
def _locked_lake(settings: Settings, wait_seconds: float) -> Iterator[tuple[Lake, Manifest]]:
    path = settings.lake
    if not path.is_dir():
        raise LookupError(f"{path}: there is no lake yet")
    with lake_lock(path, wait_seconds):
        lake = Lake(path, keep_days=settings.keep_days, work=settings.work)
        manifest = Manifest(lake)
        recover(lake, manifest)
        yield lake, manifest


def _published_version(lake: Lake, manifest: Manifest, table: str) -> int:
    versions = manifest.versions(table.split(".", maxsplit=1)[0])
    if not lake.exists(table):
        raise LookupError(f"{table} is no table of this lake; `lakegate tables` lists them")
    if table not in versions and lake.row_count(table, 0):
        raise LookupError(f"{table} was not made by a batch: move its folder {lake.location(table)} away")
    return versions.get(table, 0)


def _publish_version(manifest: Manifest, table: str, version: int, reason: str, fence: int) -> None:
    source = table.split(".", maxsplit=1)[0]
    now = dt.datetime.now(dt.UTC)
    row = ManifestRow(batch_id=f"maintenance-{now:%Y%m%dT%H%M%S%f}", kind="maintenance", source=source, reason=reason)
    manifest.write(row, {table: version}, fence=fence, tag=new_tag(row.batch_id))


def _unfinished_write(commits: Iterable[Commit], published: int) -> Commit | None:
    """Returns the commit of a batch that the newest version still holds although no manifest row names it."""
    held: dict[int, Commit | None] = {published: None}  # by version: the newest unpublished commit of ours in it
    last: Commit | None = None
    for commit in commits:
        if commit.restored is not None:
            last = held.get(commit.restored)
        elif (commit.tag or "").startswith(TAG):
            last = commit
        held[commit.version] = last
    return last

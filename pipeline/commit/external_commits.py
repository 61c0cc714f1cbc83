"""Other people's commits: noticed before an attempt begins, then adopted or undone by the operator, never by us."""

import contextlib
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.commit.journal import TAG, recover
from pipeline.commit.manifest import Entry, Manifest
from pipeline.contract import Settings
from pipeline.errors import ExternalCommit
from pipeline.lake.lake import Commit, Lake
from pipeline.lake.lock import held


def refuse_foreign(lake: Lake, published: Mapping[str, int | None]) -> None:
    """Raises ForeignCommit when a table is not at its published version (None: no batch has published it yet)."""
    sentences = [s for name, version in published.items() if (s := _foreign(lake, name, version))]
    if sentences:
        raise ExternalCommit("; ".join(sentences) + "; then retry the batch")


def foreign_sentence(table: str, commits: Sequence[Commit]) -> str:
    """Says whose commits these are not, and what to do about them."""
    last = commits[-1]
    at = f", {last.at:%Y-%m-%d %H:%M}" if last.at else ""
    return (
        f"{table} has version {last.version} ({last.operation}{at}) that no batch published; "
        f"`lakegate adopt {table}` publishes it, `lakegate restore {table}` undoes it"
    )


def _foreign(lake: Lake, table: str, published: int | None) -> str:
    if not lake.exists(table):
        if published is None:
            return ""
        return f"{table} is gone, but version {published} of it is published: bring its folder back from a backup"
    noted = published or 0
    if lake.is_at(table, noted) and (published is not None or lake.is_empty(table, noted)):
        return ""
    if published is None and not lake.is_empty(table, 0):
        return f"{table} holds rows, but no batch made it: move its folder {lake.location(table)} away"
    commits = lake.commits(table, noted)
    if commits:
        return foreign_sentence(table, commits)
    return f"{table} is at version {lake.version(table)}, but version {published} of it is published: bring the lake back from one backup"


def adopt(settings: Settings, table: str, wait_seconds: float = 5.0) -> str:
    """Publishes what somebody else committed to a table, and says so.

    Raises LakeBusy while a batch is running, LookupError for an unknown table, ForeignCommit where adopting would publish
    half a batch.
    """
    with _alone(settings, wait_seconds) as (lake, manifest):
        published = _published(lake, manifest, table)
        commits = lake.commits(table, published)
        if not commits:
            return f"{table}: nothing to adopt, its newest version {published} is published"
        half = _half_a_batch(commits, published)
        if half:
            raise ExternalCommit(
                f"{table}: version {half.version} is an unfinished write of a batch ({half.tag}), under somebody else's; "
                f"only `lakegate restore {table}` can help"
            )
        newest = commits[-1]
        _maintain_row(
            manifest, table, newest.version, f"adopted version {newest.version} ({newest.operation}) of {table}"
        )
        return f"{table}: version {newest.version} ({newest.operation}) is published now; retry the batches that failed"


def restore(settings: Settings, table: str, wait_seconds: float = 5.0) -> str:
    """Undoes what somebody else committed to a table, and says so. Raises LakeBusy, and LookupError for an unknown table."""
    with _alone(settings, wait_seconds) as (lake, manifest):
        published = _published(lake, manifest, table)
        if not lake.commits(table, published):
            return f"{table}: nothing to undo, its newest version {published} is published"
        version = lake.restore(table, published, f"{TAG}restore")
        _maintain_row(manifest, table, version, f"restored version {published} of {table} as version {version}")
        return f"{table}: version {version} holds the published rows of version {published} again; retry the batches that failed"


@contextlib.contextmanager
def _alone(settings: Settings, wait_seconds: float) -> Iterator[tuple[Lake, Manifest]]:
    path = Path(settings.lake_path)
    if not path.is_dir():
        raise LookupError(f"{path}: there is no lake yet")
    with held(path, wait_seconds):
        lake = Lake(path, keep_days=settings.keep_days)
        manifest = Manifest(lake)
        recover(lake, manifest)
        yield lake, manifest


def _published(lake: Lake, manifest: Manifest, table: str) -> int:
    versions = manifest.versions(table.split(".", maxsplit=1)[0])
    if not lake.exists(table):
        raise LookupError(f"{table} is no table of this lake; `lakegate tables` lists them")
    if table not in versions and not lake.is_empty(table, 0):
        raise LookupError(f"{table} was not made by a batch: move its folder {lake.location(table)} away")
    return versions.get(table, 0)


def _maintain_row(manifest: Manifest, table: str, version: int, reason: str) -> None:
    source = table.split(".", maxsplit=1)[0]
    now = dt.datetime.now(dt.UTC)
    entry = Entry(batch_id=f"maintenance-{now:%Y%m%dT%H%M%S%f}", kind="maintenance", source=source, reason=reason)
    manifest.write(entry, manifest.versions(source) | {table: version})


def _half_a_batch(commits: Iterable[Commit], published: int) -> Commit | None:
    """Tells the write of ours whose rows are in the newest version although no batch published them."""
    inside: dict[int, Commit | None] = {published: None}
    last: Commit | None = None
    for commit in commits:
        if commit.restored is not None:
            last = inside.get(commit.restored)
        elif (commit.tag or "").startswith(TAG):
            last = commit
        inside[commit.version] = last
    return last

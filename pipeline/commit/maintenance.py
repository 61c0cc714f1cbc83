"""Housekeeping between batches: joins small files, and removes files that no kept version needs."""

import datetime as dt
from collections.abc import Callable

from pipeline.commit import journal
from pipeline.commit.journal import Journal, new_tag
from pipeline.commit.manifest import Manifest, ManifestRow, utc_now
from pipeline.contract import Outcome, Result
from pipeline.lake.compaction import compact, vacuum
from pipeline.lake.lake import Lake
from pipeline.lake.ops_tables import BATCHES

EVERY_BATCHES = 16  # looking at a table costs milliseconds; every 16 batches that cost does not show
SMALL_FILES = 32  # each batch appends small files, and so many of them make every read slow
VACUUM_EVERY = dt.timedelta(days=1)
VACUUMED = "vacuumed"


class Maintenance:
    """Counts batches and runs the housekeeping of a lake when it is due."""

    def __init__(self, lake: Lake, keep_days: int) -> None:
        self._lake = lake
        self._keep_days = keep_days
        self._batches = 0

    @property
    def is_due(self) -> bool:
        return self._batches >= EVERY_BATCHES

    def count(self, result: Result) -> None:
        """Counts a batch. A duplicate wrote nothing and does not count."""
        if result.outcome != Outcome.DUPLICATE:
            self._batches += 1

    def run(self) -> None:
        """Runs the housekeeping. The caller holds the lake's lock."""
        self._batches = 0
        maintain(self._lake, Manifest(self._lake), self._keep_days)


def maintain(
    lake: Lake, manifest: Manifest, keep_days: int, now: Callable[[], dt.datetime] = utc_now
) -> tuple[str, ...]:
    """Compacts tables with many small files, vacuums once a day, and returns the tables that got a new version.

    Each source's new versions become one manifest row of kind `maintenance`. Nothing happens while a journal exists.
    Tables that are not at their published version are left alone. Vacuum keeps the versions that the newest row of each
    source names, and all versions that are younger than `keep_days`.
    """
    if journal.has_open_journal(lake) or manifest.newest() is None:
        return ()
    vacuum_days = keep_days if _is_vacuum_due(manifest, now()) else None
    changed = list[str]()
    tag = new_tag("maintenance")
    for source in sorted({*manifest.sources(), "ops"}):
        fence = manifest.fence()
        published = manifest.versions(source)
        own = {t: v for t, v in published.items() if t.startswith(f"{source}.") and lake.is_newest(t, v)}
        batch_id = f"maintenance-{source}-{now():%Y%m%dT%H%M%S}"
        before = Journal(batch_id=batch_id, source=source, tag=tag, versions=own, fence=fence)
        changed += _maintain_source(lake, manifest, before, vacuum_days)
    # The manifest is always read at its newest version, so no row has to name that version.
    _maintain_table(lake, manifest, BATCHES, vacuum_days, tag)
    return tuple(changed)


def _maintain_source(lake: Lake, manifest: Manifest, before: Journal, vacuum_days: int | None) -> list[str]:
    if not journal.write_alone(lake, before):
        return []
    try:
        versions = {table: _maintain_table(lake, manifest, table, vacuum_days, before.tag) for table in before.versions}
        changed = [table for table, version in versions.items() if version != before.versions[table]]
        if changed:
            lake.sync()
            row = ManifestRow(
                batch_id=before.batch_id,
                kind="maintenance",
                source=before.source,
                task_values={} if vacuum_days is None else {VACUUMED: "true"},
                reason="housekeeping",
            )
            manifest.write(row, versions, fence=before.fence, tag=before.tag)
        return changed
    finally:
        reason = "housekeeping was cut short"
        journal.close(lake, manifest, before, reason, journal.ignore_progress, tag=before.tag, fence=before.fence)


def _maintain_table(lake: Lake, manifest: Manifest, table: str, vacuum_days: int | None, tag: str) -> int:
    version = compact(lake, table, tag, SMALL_FILES)
    if vacuum_days is None:
        return version
    newest = [manifest.newest(source) for source in manifest.sources()]
    named = [row.table_versions[table] for row in newest if row and table in row.table_versions]
    return vacuum(lake, table, vacuum_days, named, tag)


def _is_vacuum_due(manifest: Manifest, at: dt.datetime) -> bool:
    recent = manifest.rows_since(at - VACUUM_EVERY)
    return not any(row.kind == "maintenance" and VACUUMED in row.task_values for row in recent)

"""Housekeeping between batches: many small files become few, and files that no kept version needs go."""

import datetime as dt
from collections.abc import Callable

from pipeline.commit import journal
from pipeline.commit.journal import TAG, Journal
from pipeline.commit.manifest import BATCHES, Entry, Manifest, utc_now
from pipeline.contract import Outcome, Result
from pipeline.lake.lake import Lake

EVERY_BATCHES = 16  # a look at the tables costs milliseconds each; so often it is lost in the noise
SMALL_FILES = 32  # what one batch appends is small; so many of them make every read slow
VACUUM_EVERY = dt.timedelta(days=1)
VACUUMED = "vacuumed"

_TAG = f"{TAG}maintenance"


class Maintenance:
    """Decides when the lake is looked after."""

    def __init__(self, lake: Lake, keep_days: int) -> None:
        self._lake, self._keep_days = lake, keep_days
        self._batches = 0

    @property
    def is_due(self) -> bool:
        return self._batches >= EVERY_BATCHES

    def note(self, result: Result) -> None:
        """Counts what was written."""
        self._batches += result.outcome != Outcome.DUPLICATE

    def run(self) -> None:
        """Looks after the lake. The caller holds its lock."""
        self._batches = 0
        maintain(self._lake, Manifest(self._lake), self._keep_days)


def maintain(
    lake: Lake, manifest: Manifest, keep_days: int, now: Callable[[], dt.datetime] = utc_now
) -> tuple[str, ...]:
    """Compacts tables with many small files, vacuums once a day, and tells the tables that got a new version by it.

    Each source's new versions become one manifest row of kind `maintenance`. Nothing happens while a journal stands. Tables
    that are not at their published version are left alone. Vacuum keeps what the newest row of each source, and every row
    younger than `keep_days`, needs.
    """
    if journal.has_open_journal(lake) or manifest.newest() is None:
        return ()
    days = keep_days if _is_vacuum_due(manifest, now()) else None
    touched: list[str] = []
    for source in sorted({*manifest.sources(), "ops"}):
        tables = {t: v for t, v in manifest.versions(source).items() if t.startswith(f"{source}.") and lake.is_at(t, v)}
        batch_id = f"maintenance-{source}-{now():%Y%m%dT%H%M%S}"
        noted = Journal(batch_id=batch_id, source=source, tag=_TAG, after_seq=manifest.newest_seq(), versions=tables)
        touched += _tend_source(lake, manifest, noted, days)
    _tend(lake, manifest, BATCHES, days)  # it is always read at its newest version, so no row has to name that
    return tuple(touched)


def _tend_source(lake: Lake, manifest: Manifest, noted: Journal, days: int | None) -> list[str]:
    journal.write(lake, noted)
    try:
        versions = {table: _tend(lake, manifest, table, days) for table in noted.versions}
        touched = [t for t, v in versions.items() if v != noted.versions[t]]
        if touched:
            lake.sync()
            values = {} if days is None else {VACUUMED: "true"}
            entry = Entry(
                batch_id=noted.batch_id,
                kind="maintenance",
                source=noted.source,
                task_values=values,
                reason="housekeeping",
            )
            manifest.write(entry, manifest.versions(noted.source) | versions)
        return touched
    finally:
        journal.close(lake, manifest, noted, "housekeeping was cut short", journal.silent)


def _tend(lake: Lake, manifest: Manifest, table: str, days: int | None) -> int:
    version = lake.compact(table, _TAG, SMALL_FILES)
    if days is None:
        return version
    newest = [manifest.newest(source) for source in manifest.sources()]
    return lake.vacuum(
        table, days, [row.table_versions[table] for row in newest if row and table in row.table_versions], _TAG
    )


def _is_vacuum_due(manifest: Manifest, at: dt.datetime) -> bool:
    return not any(
        row.kind == "maintenance" and VACUUMED in row.task_values for row in manifest.since(at - VACUUM_EVERY)
    )

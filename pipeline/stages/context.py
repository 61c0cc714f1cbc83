"""A batch on its way through the stages: what it was given, and what the stages have found so far."""

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pipeline.commit.attempt import Attempt
from pipeline.commit.manifest import Manifest
from pipeline.contract import Correction, FileCounts, Progress, Quality, RuleResult, WorkOrder
from pipeline.errors import DataError
from pipeline.lake.lake import Lake
from pipeline.lake.table_version import TableVersion
from pipeline.model import Feed, Source
from pipeline.model.definition_history import tables_computed_whole
from pipeline.model.fingerprints import fingerprint
from pipeline.transform.enrich import tables_read
from pipeline.transform.validate import ValidatedFeed


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """One row of `ops.processing_log`."""

    task: str
    status: str
    started_at: dt.datetime
    finished_at: dt.datetime
    total_records: int = 0
    valid_records: int = 0
    invalid_records: int = 0
    archived_files: int = 0  # files that are handed to the archive


@dataclass(kw_only=True)
class BatchContext:
    """One attempt at a batch: its order, the declarations, the lake, and the results of the stages."""

    order: WorkOrder
    source: Source
    quality: Quality
    values: Mapping[str, Any]
    lake: Lake
    manifest: Manifest
    attempt: Attempt
    report: Callable[[Progress], None]
    corrections: tuple[Correction, ...] = ()
    validated: dict[str, ValidatedFeed] = field(default_factory=dict)
    findings: list[RuleResult] = field(default_factory=list)
    tasks: list[TaskRecord] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # stage -> from its first start to its last end
    task_values: dict[str, str] = field(default_factory=dict)

    def name(self, layer: str, table: str) -> str:
        """Returns the full name of a table of the source."""
        return f"{self.source.name}.{layer}.{table}"

    def full_name(self, table: str) -> str:
        """Returns the full name of a silver or gold table."""
        return self.name(self.source.layer(table), table)

    def table(self, name: str) -> TableVersion:
        """Returns a table at the attempt's version, which each write moves on."""
        columns, version = self.attempt.columns[name], self.attempt.version(name)
        return TableVersion(lake=self.lake, name=name, version=version, columns=columns)

    def table_before(self, name: str) -> TableVersion:
        """Returns a table at the version that the batch found."""
        return replace(self.table(name), version=self.attempt.start_versions[name])

    @cached_property
    def definitions(self) -> str:
        """The history of the source's definitions before the batch; empty before the first one."""
        newest = self.manifest.newest(self.source.name, "batch")
        return newest.fingerprint if newest else ""

    @cached_property
    def computed_whole(self) -> frozenset[str]:
        """The full names of the tables of which not all rows follow the definition; see `tables_computed_whole`."""
        return tables_computed_whole(self.definitions, self.source, self.fingerprint)

    @cached_property
    def redefined(self) -> frozenset[str]:
        """The gold tables of which figures change with a definition, their own or that of a table that they follow.

        Such a change is no restatement: no news of the past has come.
        """
        found = set(self.computed_whole)
        for enriched in self.source.enriched:
            if any(self.name("silver", table) in found for table in tables_read(enriched)):
                found.add(self.name("silver", enriched.name))
        for gold in self.source.gold:
            if {self.full_name(gold.upstream), self.name("silver", gold.dimension)} & found:
                found.add(self.name("gold", gold.name))
        return frozenset(found)

    def computes_whole(self, name: str) -> bool:
        """Returns whether the batch computes a table whole: it has no rows yet, or not all follow the definition.

        A trial takes its written tables, which have no rows, for others.
        """
        version = self.attempt.start_versions[name]
        is_empty = not (self.lake.plans_all and version) and not self.lake.row_count(name, version)
        return is_empty or name in self.computed_whole

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the definition of each table, with the settings in its SQL."""
        return fingerprint(self.source, self.values)

    def is_whole(self, feed: Feed) -> bool:
        """Returns whether this batch contains every row that exists of the feed."""
        return feed.snapshot or feed.name in self.order.snapshot

    def feeds_with_rows(self) -> list[ValidatedFeed]:
        """Returns the feeds that the batch may change: those with accepted rows, or delivered whole."""
        plans_all = self.lake.plans_all
        return [j for j in self.validated.values() if j.rows_accepted or self.is_whole(j.feed) or plans_all]

    def written_tables(self) -> set[str]:
        """Returns the tables that this batch has written to."""
        return {t for t, version in self.attempt.versions.items() if version != self.attempt.start_versions[t]}

    @property
    def files(self) -> list[FileCounts]:
        return [f for validated in self.validated.values() for f in validated.files]

    def row_counts(self) -> dict[str, int]:
        """Returns the batch's rows as counts of a task."""
        read, accepted = sum(f.rows_read for f in self.files), sum(f.rows_accepted for f in self.files)
        return {"total_records": read, "valid_records": accepted, "invalid_records": read - accepted}

    def report_event(self, event: str, stage: str, **values: Any) -> None:
        """Reports an event of a stage to the daemon."""
        self.report(Progress(batch_id=self.order.batch_id, event=event, stage=stage, values=values))


@contextmanager
def timed_stage(batch: BatchContext, stage: str) -> Iterator[dict[str, Any]]:
    """Reports the start and the end of a stage, with its seconds and the values that the stage adds."""
    began, values = time.monotonic(), dict[str, Any]()
    batch.report_event("stage.started", stage)
    yield values
    batch.seconds[stage] = round(time.monotonic() - began, 3)
    batch.report_event("stage.finished", stage, **values, seconds=batch.seconds[stage])


@contextmanager
def recorded_task(batch: BatchContext, task: str, stage: str) -> Iterator[dict[str, int]]:
    """Records a task, also one that fails, with the counts that it adds."""
    started_at, error, counts = dt.datetime.now(dt.UTC), None, dict[str, int]()
    batch.report_event("task.started", stage, task=task)
    try:
        yield counts
    except Exception as raised:
        error = raised
        raise
    finally:
        ended = TaskRecord(
            task=task, status=status_of(error), started_at=started_at, finished_at=dt.datetime.now(dt.UTC), **counts
        )
        batch.tasks.append(ended)
        seconds = (ended.finished_at - started_at).total_seconds()
        batch.report_event(
            "task.finished", stage, task=task, status=ended.status, rows=ended.total_records, seconds=round(seconds, 3)
        )


def status_of(error: BaseException | None) -> str:
    """Returns the status of a task that ended with this error, or with none."""
    if error is None:
        return "SUCCESS"
    return f"FAILED: {error}" if isinstance(error, DataError) else f"FAILED: {type(error).__name__}"

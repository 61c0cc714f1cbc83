"""The two stages before the plan: files become rows, and rules accept or reject every row."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError, DeclarationError, InvalidValue
from pipeline.ingest.stage import StagedFeed, stage
from pipeline.lake.engine_errors import error_context
from pipeline.lake.ops_tables import OPS, REJECTED_KEYS
from pipeline.model import Feed
from pipeline.stages.context import BatchContext, recorded_task, timed_stage
from pipeline.transform.findings import feed_findings, listed_keys_finding
from pipeline.transform.ties import settled
from pipeline.transform.unfit_rows import without_unfit_rows
from pipeline.transform.validate import ValidatedFeed, file_counts, rejected_keys
from pipeline.transform.verdicts import rule_query

T = TypeVar("T")
R = TypeVar("R")
_NO_KEYS = OPS[REJECTED_KEYS].empty_table()
THREADS = 4  # more threads than cores: one waits for the disk while another computes


def stage_files(batch: BatchContext) -> list[StagedFeed]:
    """Reads the claimed files into typed Parquet, one file per feed.

    Raises DataError for an unreadable file, DeclarationError for a file of a feed that is not declared any more.
    """
    order, declared = batch.order, {f.name for f in batch.source.feeds}
    for file in (f for f in order.files if f.feed not in declared):
        raise DeclarationError(
            f"{file.name}: it came for the feed {file.feed}, which is not declared any more; `lakegate abandon "
            f"{order.batch_id}`, then land its files again, or declare the feed"
        )
    for name in order.snapshot:
        if not any(f.feed == name for f in order.files):
            problem = f"the trigger calls {name} a whole delivery, but no file of the batch is of that feed"
            raise DataError(f"{problem}; correct `snapshot` and land a new trigger")
    feeds = [f for f in batch.source.feeds if any(file.feed == f.name for file in order.files)]
    with timed_stage(batch, "stage") as values:
        staged = run_parallel(lambda feed: _stage_feed(batch, feed), feeds)
        names = [_load_task(f) for f in feeds]
        batch.tasks.sort(key=lambda t: names.index(t.task))  # in the order of the declaration
        extra = {s.feed: list(s.extra_columns) for s in staged if s.extra_columns}
        values.update(rows_in=sum(s.rows for s in staged), extra_columns=extra)
    return staged


def _load_task(feed: Feed) -> str:
    return f"load_{feed.name}"


def _stage_feed(batch: BatchContext, feed: Feed) -> StagedFeed:
    files = [f for f in batch.order.files if f.feed == feed.name]

    def report(rows: int) -> None:
        batch.report_event("file.read", "stage", feed=feed.name, rows=rows)

    with recorded_task(batch, _load_task(feed), "stage") as counts:
        staged = stage(feed, files, batch.lake.scratch.folder / "staged" / feed.name, batch.order.rows, report=report)
        counts.update(total_records=staged.rows, valid_records=staged.rows, archived_files=len(files))
    return staged


def validate(batch: BatchContext, staged: Iterable[StagedFeed]) -> None:
    """Checks every row by the rules of its feed."""
    with timed_stage(batch, "validate") as values, recorded_task(batch, "validation", "validate") as counts:
        for validated in run_parallel(lambda one: _validate_feed(batch, one), staged):
            batch.validated[validated.feed.name] = validated
            batch.findings += validated.findings
        whole = [v for v in batch.validated.values() if batch.is_whole(v.feed)]
        batch.attempt.append(REJECTED_KEYS, pa.concat_tables([_NO_KEYS, *(_rejected_keys(batch, v) for v in whole)]))
        counts.update(batch.row_counts())
        read, accepted, rejected = counts.values()
        values.update(rows_in=read, accepted=accepted, rejected=rejected)


def _validate_feed(batch: BatchContext, staged: StagedFeed) -> ValidatedFeed:
    """Checks the staged rows of a feed. Rows of which some SQL cannot be computed are found and rejected.

    Raises DeclarationError for SQL that can be computed of no row, DataError where such rows are too many.
    """
    feed, lake = batch.source.feed(staged.feed).with_settings(batch.values), batch.lake
    values = {**batch.values, "batch_date": batch.order.batch_date}
    query, unfit = rule_query(feed, batch.order, batch.quality, values), dict[str, str]()
    with error_context(batch.name("silver", feed.name)):
        try:
            with error_context():
                rows = lake.scratch.materialize(
                    query.verdicts(lake.scratch.open_parquet(staged.path).df), f"validated/{feed.name}"
                )
        except (InvalidValue, DeclarationError) as error:
            rows, unfit = without_unfit_rows(query, staged, lake, error, batch.report)
    rows, ties = settled(feed, rows, lake)
    findings = feed_findings(feed, rows, query.rules, unfit)
    return ValidatedFeed(feed=feed, rows=rows, findings=findings, files=file_counts(feed, rows, staged), ties=ties)


def _rejected_keys(batch: BatchContext, validated: ValidatedFeed) -> pa.Table:
    """Returns the rows of `ops.rejected_keys` for a feed delivered whole, and adds the result of their rule."""
    feed, rows = validated.feed, None
    if validated.rows_accepted < validated.rows.rows:
        rows = batch.lake.scratch.materialize(rejected_keys(validated), f"rejected/{feed.name}").arrow()
    batch.findings.append(listed_keys_finding(validated, rows))
    if rows is None:
        return _NO_KEYS
    keys = pc.unique(rows["key"])
    about = {"batch_id": batch.order.batch_id, "source": batch.source.name, "feed": feed.name}
    columns = {name: pa.repeat(value, len(keys)) for name, value in about.items()}
    return pa.table({**columns, "key": keys}, schema=OPS[REJECTED_KEYS])


def run_parallel(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Returns the results in the order of the items. The first error is raised when all have ended."""
    with ThreadPoolExecutor(THREADS) as pool:
        return [f.result() for f in [pool.submit(work, item) for item in items]]

"""The two stages before the plan: files become rows, and rules accept or reject every row."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.commit.manifest import REJECTED_KEYS
from pipeline.errors import DataError
from pipeline.ingest.stage import Staged, stage
from pipeline.model import Feed
from pipeline.stages.context import BatchContext, recorded_task, timed_stage
from pipeline.transform.validate import Judged, judge, rejected_keys

T = TypeVar("T")
R = TypeVar("R")
THREADS = 4  # more threads than cores: one waits for the disk while another computes


def stage_files(batch: BatchContext) -> list[Staged]:
    """Reads the claimed files into typed Parquet, one file per feed. Raises DataError for a file that cannot be read."""
    order = batch.order
    for name in order.snapshot:
        if not any(f.feed == name for f in order.files):
            raise DataError(
                f"the trigger calls {name} a whole delivery, but no file of the batch is of that feed; correct `snapshot` and land a new trigger"
            )
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


def _stage_feed(batch: BatchContext, feed: Feed) -> Staged:
    files = [f for f in batch.order.files if f.feed == feed.name]

    def report(rows: int) -> None:
        batch.say("file.read", "stage", feed=feed.name, rows=rows)

    with recorded_task(batch, _load_task(feed), "stage") as counts:
        staged = stage(feed, files, batch.lake.work / "staged" / feed.name, batch.order.rows, report=report)
        counts.update(total=staged.rows, valid=staged.rows, files=len(files))
    return staged


def validate(batch: BatchContext, staged: Iterable[Staged]) -> None:
    """Validates every row by the rules of its feed."""
    with timed_stage(batch, "validate") as seen, recorded_task(batch, "validation", "validate") as counts:
        values = {**batch.values, "batch_date": batch.order.batch_date}

        def check(one: Staged) -> Judged:
            feed = batch.source.feed(one.feed).with_settings(batch.values)
            return judge(one, feed, batch.order, batch.lake, quality=batch.quality, values=values, report=batch.report)

        for judged in run_parallel(check, staged):
            batch.judged[judged.feed.name] = judged
            batch.findings += judged.findings
        whole = [j for j in batch.judged.values() if batch.is_whole(j.feed)]
        rows, findings = rejected_keys(whole, batch.order, batch.lake)
        batch.attempt.append(REJECTED_KEYS, rows)
        batch.findings += findings
        counts.update(batch.row_counts())
        seen.update(rows_in=counts["total"], accepted=counts["valid"], rejected=counts["invalid"])


def run_parallel(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Returns the results in the order of the items. The first error is raised when all have ended."""
    with ThreadPoolExecutor(THREADS) as pool:
        return [f.result() for f in [pool.submit(work, item) for item in items]]

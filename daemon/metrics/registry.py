"""The registry of metrics: for each its kind, its labels and its meaning. Every exposed metric is in it.

A time is a Unix timestamp: an age in a text file would be wrong a second later, and a query subtracts it from `time()`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"
PREFIX = "lakegate_"
# Seconds, from a small batch on a warm worker to a backlog of a weekend.
BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400, 259200)


@dataclass(frozen=True)
class Metric:
    """One metric. Its labels have few values: sources, feeds, states, stages, tasks, kinds, log events."""

    kind: str
    meaning: str
    labels: tuple[str, ...]


def _metric(kind: str, meaning: str, labels: str = "") -> Metric:
    return Metric(kind, meaning, tuple(labels.split()))


_ALL: Mapping[str, Metric] = {
    "attempt_start_timestamp_seconds": _metric(
        GAUGE, "Start of the attempt that runs now; absent when no batch runs.", "source"
    ),
    "batch_delivery_seconds": _metric(
        HISTOGRAM,
        "Seconds from the receipt of a published batch, when its trigger had settled, to its publication.",
        "source",
    ),
    "batch_processing_seconds": _metric(
        HISTOGRAM, "Seconds from the start of the last attempt at a published batch to its publication.", "source"
    ),
    "batches_total": _metric(
        COUNTER,
        "Batches by outcome: published, duplicate, rejected or failed. A failed batch that is retried counts again.",
        "source outcome",
    ),
    "build_info": _metric(GAUGE, "Always 1; the labels have the version and the engine.", "version engine"),
    "daemon_start_timestamp_seconds": _metric(GAUGE, "Start of the daemon; absent when it does not run."),
    "daemon_up": _metric(GAUGE, "1 while a daemon holds the landing folder, else 0."),
    "events_total": _metric(COUNTER, "Log events of the daemon, also those below [log] level.", "event level"),
    "last_published_timestamp_seconds": _metric(
        GAUGE, "Time of the newest publication; absent before the first one.", "source"
    ),
    "needs": _metric(
        GAUGE,
        "Troubles and batches that need a person, as `lakegate status` lists them; absent where there are none.",
        "source kind",
    ),
    "newest_batch_date_timestamp_seconds": _metric(
        GAUGE, "Newest published batch date, 0:00 UTC; absent before the first publication.", "source"
    ),
    "newest_batch_rows": _metric(GAUGE, "Rows of the newest published batch.", "source feed verdict"),
    "newest_batch_score": _metric(GAUGE, "Score from 0 to 100 of the newest published batch.", "source"),
    "newest_batch_stage_seconds": _metric(
        GAUGE, "Seconds of each stage of the newest published batch; stages overlap.", "source stage"
    ),
    "newest_batch_task_seconds": _metric(
        GAUGE, "Seconds of each task of the newest batch that this daemon published; tasks overlap.", "source task"
    ),
    "oldest_open_batch_timestamp_seconds": _metric(
        GAUGE, "Arrival of the oldest batch in this state; absent where there is none.", "source state"
    ),
    "open_batches": _metric(
        GAUGE, "Batches whose files wait for a file, the worker, the archive or a person.", "source state"
    ),
    "rows_total": _metric(COUNTER, "Rows of published batches: accepted or rejected.", "source feed verdict"),
    "watcher_polling": _metric(
        GAUGE, "1 while the landing zone is listed every second because the kernel gives no events, else 0."
    ),
    "watcher_unwatched_folders": _metric(GAUGE, "Folders of the landing zone that are missing and so not watched."),
    "worker_up": _metric(GAUGE, "1 while the daemon has a worker that is ready for batches, else 0."),
}
METRICS: Mapping[str, Metric] = {PREFIX + name: metric for name, metric in _ALL.items()}

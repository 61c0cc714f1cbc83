"""Sums over all batches of the ledger. Each reading takes only the outcomes since the last one."""

import json
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate

from daemon.batch import OUTCOME_EVENTS
from daemon.ledger.live_state import seconds_between
from daemon.ledger.metrics_reader import BatchOutcome, MetricsReader
from daemon.metrics.registry import BUCKETS

VERDICTS = ("accepted", "rejected")


@dataclass
class Histogram:
    """The number of durations in each bucket of the registry, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Returns the upper limit of each bucket with the number of durations up to it."""
        limits = [*map(str, map(float, BUCKETS)), "+Inf"]
        return list(zip(limits, accumulate(self.counts), strict=True))


@dataclass
class SourceTotals:
    """The sums over the batches of one source, and its newest published batch."""

    outcomes: Counter[str] = field(default_factory=Counter)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)  # by feed and verdict
    processing: Histogram = field(default_factory=Histogram)
    delivery: Histogram = field(default_factory=Histogram)
    published_at: str = ""
    batch_date: str = ""  # the newest, not that of the newest batch
    newest_rows: dict[tuple[str, str], int] = field(default_factory=dict)
    newest_score: float | None = None
    newest_seconds: dict[str, float] = field(default_factory=dict)  # by stage

    def add(self, outcome: BatchOutcome) -> None:
        """Adds the outcome of one batch."""
        self.outcomes[OUTCOME_EVENTS[outcome.event]] += 1
        if not outcome.published_at or outcome.event != "batch.published":
            return
        self.delivery.add(seconds_between(outcome.received_at, outcome.published_at))
        if outcome.started_at:
            self.processing.add(seconds_between(outcome.started_at, outcome.published_at))
        files, score, seconds = json.loads(outcome.result) if outcome.result else (None, None, None)
        rows = Counter[tuple[str, str]]()
        for file in files or ():
            for verdict in VERDICTS:
                rows[file["feed"], verdict] += file[f"rows_{verdict}"]
        self.rows.update(rows)
        self.published_at = outcome.published_at
        self.batch_date = max(self.batch_date, outcome.batch_date)
        self.newest_rows, self.newest_score, self.newest_seconds = dict(rows), score, seconds or {}


class Totals:
    """The sums by source."""

    def __init__(self) -> None:
        self.by_source: dict[str, SourceTotals] = {}
        self._number = 0  # of the last outcome that is counted

    def update(self, reader: MetricsReader) -> None:
        """Adds the outcomes since the last call. Starts anew where the ledger was replaced by one with fewer."""
        if reader.last_change() < self._number:
            self.by_source, self._number = {}, 0
        for outcome in reader.outcomes_after(self._number):
            self.by_source.setdefault(outcome.source, SourceTotals()).add(outcome)
            self._number = outcome.number

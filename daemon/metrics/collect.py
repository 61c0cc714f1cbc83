"""Computes the metrics: totals and open batches from the ledger, the processes from the locks of the kernel.

It reads neither the lake nor the log, so that it costs milliseconds and imports no engine.
"""

import datetime as dt
import threading
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from daemon import attention
from daemon.batch import OPEN, OUTCOME_EVENTS, State
from daemon.clock import Clock, from_text
from daemon.config.config import Config
from daemon.files.lock_holder import LockHolder, child_process, lock_holder
from daemon.ledger.live_state import Figure, engine_of_worker
from daemon.ledger.metrics_reader import MetricsReader
from daemon.metrics.registry import COUNTER, GAUGE, HISTOGRAM, METRICS, PREFIX
from daemon.metrics.totals import VERDICTS, Histogram, SourceTotals, Totals
from daemon.observe.events import EVENTS
from pipeline import contract

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NO_SOURCE = "none"  # of a trouble without a source, or of a batch whose files have no common one
STATES = (*OPEN, State.FAILED)

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
FAMILIES: dict[str, type[Family]] = {
    COUNTER: CounterMetricFamily,
    GAUGE: GaugeMetricFamily,
    HISTOGRAM: HistogramMetricFamily,
}


def render(config: Config) -> bytes:
    """Returns the metrics as text of CONTENT_TYPE. Raises SetupError, and LedgerOutOfReach.

    A process that asks often keeps one Metrics object, which reads only new outcomes.
    """
    return Metrics(config).render()


class Metrics:
    """The metrics of one site, for any number of threads."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or Clock()
        catalogue = contract.catalog(config.settings.source_paths, config.settings.exclude)
        self._feeds = {source.name: [f.name for f in source.feeds] for source in catalogue}
        self._totals = Totals()
        self._lock = threading.Lock()

    def render(self) -> bytes:
        """Returns the metrics as they are now. Raises SetupError, and LedgerOutOfReach."""
        with self._lock:
            reader = MetricsReader.reading(self._config.ledger_path)
            try:
                with reader.snapshot():
                    return generate_latest(self._collect(reader))
            finally:
                reader.close()

    def _collect(self, reader: MetricsReader) -> "Families":
        self._totals.update(reader)
        daemon = lock_holder(self._config.landing.path)
        families = Families()
        families.add("build_info", 1, version=_version(), engine=self._config.settings.engine)
        figures = reader.figures()
        self._add_processes(families, daemon, figures)
        self._add_figures(families, figures, is_running=daemon is not None)
        totals = {**{name: SourceTotals() for name in self._feeds}, **self._totals.by_source}
        for source, sums in totals.items():
            self._add_totals(families, source or NO_SOURCE, sums, self._feeds.get(source, []))
        self._add_open_batches(families, reader, list(totals))
        self._add_needs(families, reader, daemon)
        return families

    def _add_processes(self, families: "Families", daemon: LockHolder | None, figures: Mapping[Figure, float]) -> None:
        families.add("daemon_up", daemon is not None)
        worker = child_process(daemon.pid, "pipeline") if daemon else None
        families.add("worker_up", bool(engine_of_worker(figures, worker)))
        if daemon and daemon.since:
            families.add("daemon_start_timestamp_seconds", daemon.since.timestamp())

    def _add_figures(self, families: "Families", figures: Mapping[Figure, float], *, is_running: bool) -> None:
        for name, event in EVENTS.items():
            families.add("events_total", figures.get(Figure("event", "", name), 0), event=name, level=event.level)
        for figure, value in figures.items():
            if figure.kind == "task":
                families.add("newest_batch_task_seconds", value, source=figure.source, task=figure.name)
            elif figure.kind == "watcher" and is_running:
                families.add(f"watcher_{figure.name}", value)

    def _add_totals(self, families: "Families", source: str, sums: SourceTotals, feeds: list[str]) -> None:
        # A counter that begins with its first count hides this count from `increase`: known sources begin with 0.
        for outcome in OUTCOME_EVENTS.values():
            families.add("batches_total", sums.outcomes[outcome], source=source, outcome=outcome)
        rows = {**{(feed, verdict): 0 for feed in feeds for verdict in VERDICTS}, **sums.rows}
        for (feed, verdict), count in rows.items():
            families.add("rows_total", count, source=source, feed=feed, verdict=verdict)
        families.add_histogram("batch_processing_seconds", sums.processing, source=source)
        families.add_histogram("batch_delivery_seconds", sums.delivery, source=source)
        if sums.published_at:
            families.add("last_published_timestamp_seconds", _timestamp(sums.published_at), source=source)
        if sums.batch_date:
            families.add("newest_batch_date_timestamp_seconds", _timestamp(sums.batch_date), source=source)
        if sums.newest_score is not None:
            families.add("newest_batch_score", sums.newest_score, source=source)
        for (feed, verdict), count in sums.newest_rows.items():
            families.add("newest_batch_rows", count, source=source, feed=feed, verdict=verdict)
        for stage, seconds in sums.newest_seconds.items():
            families.add("newest_batch_stage_seconds", seconds, source=source, stage=stage)

    def _add_open_batches(self, families: "Families", reader: MetricsReader, sources: list[str]) -> None:
        found = reader.open_batches(STATES)
        for source in dict.fromkeys((*sources, *(source for source, _ in found))):
            for state in STATES:
                count, received_at = found.get((source, state), (0, ""))
                labels = {"source": source or NO_SOURCE, "state": str(state)}
                families.add("open_batches", count, **labels)
                if received_at:
                    families.add("oldest_open_batch_timestamp_seconds", _timestamp(received_at), **labels)
        if activity := reader.activity():
            source = reader.batch(activity.batch_id).source or NO_SOURCE
            families.add("attempt_start_timestamp_seconds", _timestamp(activity.since), source=source)

    def _add_needs(self, families: "Families", reader: MetricsReader, daemon: LockHolder | None) -> None:
        needs = attention.needs(
            reader,
            self._clock.now(),
            missing_file_timeout_seconds=self._config.landing.missing_file_timeout_seconds,
            daemon_since=daemon.since if daemon else None,
        )
        counts: dict[tuple[str, str], int] = {}
        for need in needs:
            key = (need.source or NO_SOURCE, need.kind)
            counts[key] = counts.get(key, 0) + 1
        for (source, kind), count in counts.items():
            families.add("needs", count, source=source, kind=kind)


class Families:
    """The samples of a moment, by metric of the registry."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {
            name: FAMILIES[metric.kind](name, metric.meaning, labels=metric.labels) for name, metric in METRICS.items()
        }

    def add(self, name: str, value: float, **labels: str) -> None:
        """Adds a sample of a counter or gauge. The labels are those of the registry."""
        family = self._families[PREFIX + name]
        assert not isinstance(family, HistogramMetricFamily)
        family.add_metric([labels[label] for label in METRICS[PREFIX + name].labels], float(value))

    def add_histogram(self, name: str, histogram: Histogram, **labels: str) -> None:
        """Adds the samples of a histogram."""
        family = self._families[PREFIX + name]
        assert isinstance(family, HistogramMetricFamily)
        values = [labels[label] for label in METRICS[PREFIX + name].labels]
        family.add_metric(values, histogram.buckets(), histogram.seconds)

    def collect(self) -> list[Family]:
        """Returns every metric, also one without a sample: its HELP line documents it."""
        return list(self._families.values())


def _timestamp(text: str) -> float:
    moment = from_text(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _version() -> str:
    try:
        return version("lakegate")
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown"

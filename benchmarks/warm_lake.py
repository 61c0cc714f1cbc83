"""A lake with a warm session in this process. It takes deliveries through the pipeline and measures their cost."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delivery import Delivery
from processes import memory_mb, work_seconds
from stage_clock import StageClock

from pipeline import run
from pipeline.commit.manifest import Manifest
from pipeline.contract import OrderFile, Outcome, Settings, WorkOrder
from pipeline.engine.session import Session, open_session
from pipeline.lake.lake import Lake
from pipeline.lake.scratch import MaterializedRows, Scratch
from pipeline.serve.serve import serve
from pipeline.sources import registry

ACTIONS = ("toArrow", "collect", "count")  # the calls beside `Lake.materialize` that make an engine compute


@dataclass(frozen=True, kw_only=True)
class Step:
    """One computation or one write of a batch. Some steps overlap: their seconds add up to more than the batch's."""

    kind: str  # materialize, append, change
    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class BatchCost:
    """A published batch and its cost."""

    seconds: float
    work_seconds: float  # of all cores, the JVM's included
    stages: Mapping[str, float]  # they overlap
    elsewhere: float  # seconds in which no stage ran
    queries: int  # what the engine was asked to compute
    jobs: int | None  # Spark's own count; other engines tell none
    commits: int
    memory_mb: float  # of this process after the batch
    steps: Sequence[Step]


class MeasuredScratch(Scratch):
    """A scratch folder that records its computations as steps."""

    def __init__(self, lake: "MeasuredLake", session: Session) -> None:
        super().__init__(lake.path / "_work", session, plans_all=False)
        self._lake = lake

    def materialize(self, df: Any, label: str) -> MaterializedRows:
        with self._lake.record("materialize", label):
            return super().materialize(df, label)


class MeasuredLake(Lake):
    """A lake that records its computations and writes as steps."""

    def __init__(self, path: Path, session: Session) -> None:
        super().__init__(path, session)
        self.scratch = MeasuredScratch(self, session)
        self.steps: list[Step] = []
        self._thread = threading.local()

    def append(self, table: str, rows: Any, tag: str, **options: Any) -> int:
        with self.record("append", table):
            return super().append(table, rows, tag, **options)

    def change(self, table: str, key: Sequence[str], rows: MaterializedRows, tag: str) -> int:
        with self.record("change", table):
            return super().change(table, key, rows, tag)

    def commits_so_far(self) -> int:
        """Returns the number of commits of all tables."""
        return sum(self.version(table) + 1 for table in self.tables())

    @contextmanager
    def record(self, kind: str, name: str) -> Iterator[None]:
        """Records the computation or write inside the `with` block as a step."""
        # `change` without old rows calls `append`: only the outermost step counts.
        is_outermost = not getattr(self._thread, "is_recording", False)
        self._thread.is_recording = True
        began = time.monotonic()
        try:
            yield
        finally:
            if is_outermost:
                self._thread.is_recording = False
                self.steps.append(Step(kind=kind, name=name, seconds=time.monotonic() - began))


class WarmLake:
    """One lake of a session, which several lakes may share."""

    def __init__(self, path: Path, session: Session, settings: Settings) -> None:
        self._settings = settings
        self._session = session
        self._lake = MeasuredLake(path, session)

    def take(self, delivery: Delivery) -> BatchCost:
        """Publishes a delivery and returns its cost. Raises RuntimeError if it is not published."""
        order = work_order(delivery)
        self._lake.steps.clear()
        commits = self._lake.commits_so_far()
        jobs = _jobs(self._session)
        with _record_actions(self._session) as actions:
            clock = StageClock()
            began = time.monotonic()
            worked = work_seconds(os.getpid())
            result = run.run(order, self._settings, self._lake, clock.receive)
            served = time.monotonic()
            serve(self._lake, Manifest(self._lake), self._settings, order.source, lambda _: None)
            served = time.monotonic() - served
            elsewhere = clock.elsewhere - served
            seconds, worked = time.monotonic() - began, work_seconds(os.getpid()) - worked
        if result.outcome != Outcome.PUBLISHED:
            raise RuntimeError(f"{delivery.date}: {result.outcome}, {result.reason}\n{result.error}")
        return BatchCost(
            seconds=seconds,
            work_seconds=worked,
            stages={**result.seconds, "serve": served},
            elsewhere=elsewhere,
            queries=sum(s.kind == "materialize" for s in self._lake.steps) + len(actions),
            jobs=None if jobs is None else (_jobs(self._session) or 0) - jobs,
            commits=self._lake.commits_so_far() - commits,
            memory_mb=memory_mb(os.getpid()),
            steps=tuple(self._lake.steps),
        )


@contextmanager
def warm_session(engine: str, root: Path) -> Iterator[tuple[Session, Settings]]:
    """Opens a session of the engine with the default settings."""
    layers = ("gold", "silver")
    settings = Settings(
        lake_path=str(root / "lake"), engine=engine, log_path=str(root / "engine.log"), serve_layers=layers
    )
    session = open_session(settings)
    try:
        yield session, settings
    finally:
        session.stop()


def work_order(delivery: Delivery) -> WorkOrder:
    """Returns the work order of a delivery, as the daemon sends it. Raises ValueError for an unknown feed."""
    feeds = {f.name for f in registry.source(delivery.source).feeds}
    if not set(delivery.files) <= feeds:
        raise ValueError(
            f"the delivery holds {sorted(delivery.files)}, the feeds of {delivery.source} are {sorted(feeds)}"
        )
    files = tuple(
        OrderFile(name=path.name, feed=feed, path=str(path), sha256=_sha256(path), bytes=path.stat().st_size)
        for feed, path in delivery.files.items()
    )
    return WorkOrder(
        batch_id=f"{delivery.date:%Y%m%d}T060000-bench0", source=delivery.source, batch_date=delivery.date, files=files
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _jobs(session: Session) -> int | None:
    if session.engine != "spark":
        return None
    # The scheduler's own counter. The status tracker forgets old jobs, and our session keeps few of them.
    return int(session.spark.sparkContext._jsc.sc().dagScheduler().numTotalJobs())  # noqa: SLF001


@contextmanager
def _record_actions(session: Session) -> Iterator[list[str]]:
    frame_type: Any = type(session.spark.range(0))
    actions: list[str] = []

    def recording(name: str, method: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            actions.append(name)
            return method(*arguments, **options)

        return call

    methods = {name: getattr(frame_type, name) for name in ACTIONS}
    for name, method in methods.items():
        setattr(frame_type, name, recording(name, method))
    try:
        yield actions
    finally:
        for name, method in methods.items():
            setattr(frame_type, name, method)

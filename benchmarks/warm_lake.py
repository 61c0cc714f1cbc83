"""A lake with a warm session in this process, which takes deliveries straight through the pipeline and counts what that costs."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import memory_mb, work_seconds
from retail_data import Delivery

from pipeline import run
from pipeline.contract import OrderFile, Outcome, Progress, Settings, WorkOrder
from pipeline.engine.session import Session, open_session
from pipeline.lake.lake import Lake
from pipeline.lake.scratch import MaterializedRows, Scratch
from pipeline.sources import registry

ACTIONS = ("toArrow", "collect", "count")  # besides `Scratch.materialize`, what makes an engine compute


@dataclass(frozen=True, kw_only=True)
class Spent:
    """One computation or one write of a batch. Some go side by side: their seconds add up to more than the batch's."""

    what: str  # materialize, append, change
    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A batch that was published, and what it took."""

    seconds: float
    work_seconds: float  # of all cores, the JVM's included
    stages: Mapping[str, float]
    queries: int  # what the engine was asked to compute
    jobs: int | None  # Spark's own count; other engines tell none
    commits: int
    memory_mb: float  # of this process when it was done: what a batch leaves behind, the worker has to live with
    spent: Sequence[Spent]

    @property
    def elsewhere(self) -> float:
        """Seconds outside the stages."""
        return self.seconds - sum(self.stages.values())


class MeasuredScratch(Scratch):
    """A scratch folder that notes its computations."""

    def __init__(self, lake: "MeasuredLake", session: Session) -> None:
        super().__init__(lake.path / "_work", session, plans_all=False)
        self._lake = lake

    def materialize(self, df: Any, label: str) -> MaterializedRows:
        with self._lake.noted("materialize", label):
            return super().materialize(df, label)


class MeasuredLake(Lake):
    """A lake that notes its computations and writes."""

    def __init__(self, path: Path, session: Session) -> None:
        super().__init__(path, session)
        self.scratch = MeasuredScratch(self, session)
        self.spent: list[Spent] = []
        self._here = threading.local()

    def append(self, table: str, rows: Any, tag: str, **options: Any) -> int:
        with self.noted("append", table):
            return super().append(table, rows, tag, **options)

    def change(self, table: str, key: Sequence[str], rows: MaterializedRows, tag: str) -> int:
        with self.noted("change", table):
            return super().change(table, key, rows, tag)

    def commits_so_far(self) -> int:
        """Counts every commit of every table."""
        return sum(1 for _ in self.path.glob("**/_delta_log/*.json"))

    @contextmanager
    def noted(self, what: str, name: str) -> Iterator[None]:
        outermost = not getattr(self._here, "is_noting", False)  # a change without old rows is an append within
        self._here.is_noting, began = True, time.monotonic()
        try:
            yield
        finally:
            if outermost:
                self._here.is_noting = False
                self.spent.append(Spent(what=what, name=name, seconds=time.monotonic() - began))


class WarmLake:
    """One lake of a session that others may share."""

    def __init__(self, path: Path, session: Session, settings: Settings) -> None:
        self._settings, self._session = settings, session
        self._lake = MeasuredLake(path, session)

    def take(self, delivery: Delivery) -> Taken:
        """Takes a delivery from its files to published tables. Raises RuntimeError when it is not published."""
        order = work_order(delivery)
        self._lake.spent.clear()
        commits, jobs = self._lake.commits_so_far(), _jobs(self._session)
        with _actions_counted(self._session) as actions:
            began, worked = time.monotonic(), work_seconds(os.getpid())
            result = run.run(order, self._settings, self._lake, _ignored)
            seconds, worked = time.monotonic() - began, work_seconds(os.getpid()) - worked
        if result.outcome != Outcome.PUBLISHED:
            raise RuntimeError(f"{delivery.date}: {result.outcome}, {result.reason}\n{result.error}")
        return Taken(
            seconds=seconds,
            work_seconds=worked,
            stages=dict(result.seconds),
            queries=sum(s.what == "materialize" for s in self._lake.spent) + len(actions),
            jobs=None if jobs is None else (_jobs(self._session) or 0) - jobs,
            commits=self._lake.commits_so_far() - commits,
            memory_mb=memory_mb(os.getpid()),
            spent=tuple(self._lake.spent),
        )


@contextmanager
def warm_session(engine: str, root: Path) -> Iterator[tuple[Session, Settings]]:
    """Opens the engine's session with the settings that the shipped configuration has."""
    settings = Settings(lake_path=str(root / "lake"), engine=engine, log_path=str(root / "engine.log"))
    session = open_session(settings)
    try:
        yield session, settings
    finally:
        session.stop()


def work_order(delivery: Delivery) -> WorkOrder:
    """Makes the work order that the daemon would send for a delivery."""
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
    # The scheduler's own counter: the status tracker forgets, and the session is told to remember little.
    return int(session.spark.sparkContext._jsc.sc().dagScheduler().numTotalJobs())  # noqa: SLF001


@contextmanager
def _actions_counted(session: Session) -> Iterator[list[str]]:
    kind: Any = type(session.spark.range(0))
    actions: list[str] = []

    def counted(name: str, own: Any) -> Any:
        def act(*arguments: Any, **options: Any) -> Any:
            actions.append(name)
            return own(*arguments, **options)

        return act

    before = {name: getattr(kind, name) for name in ACTIONS}
    for name, own in before.items():
        setattr(kind, name, counted(name, own))
    try:
        yield actions
    finally:
        for name, own in before.items():
            setattr(kind, name, own)


def _ignored(_progress: Progress) -> None:
    pass

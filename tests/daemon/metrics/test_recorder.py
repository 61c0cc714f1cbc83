"""The figures that only the daemon knows: in a real ledger, not more often than every few seconds."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories_daemon import HandClock

from daemon.landing.observer import FolderObserver
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import Figure
from daemon.metrics.recorder import EVERY_SECONDS, FigureRecorder
from daemon.observe.log import Log

STARTED = Figure("event", "", "worker.started")
POLLING = Figure("watcher", "", "polling")
UNWATCHED = Figure("watcher", "", "unwatched_folders")


class Setting:
    def __init__(self, root: Path) -> None:
        self.root, self.hand, self.log = root, HandClock(), Log(None, "error", stderr=False)
        self.trigger = root / "triggers"
        (root / "landing").mkdir()
        self.ledger = Ledger.open(root / "ledger.sqlite", self.hand.clock)
        self.observer = FolderObserver(
            (root / "landing", self.trigger), (), wake=threading.Event(), clock=self.hand.clock, log=self.log
        )
        self.recorder = self.restarted()

    def restarted(self) -> FigureRecorder:
        recorder = FigureRecorder(self.ledger, self.observer, self.hand.clock)
        self.log.listeners[:] = [recorder.note]
        return recorder

    def finish(self, batch_id: str, **seconds: float) -> None:
        for task, value in seconds.items():
            self.log.write("task.finished", batch_id=batch_id, source="retail", task=task, seconds=value)
        self.log.write("batch.published", batch_id=batch_id, source="retail")

    def tasks(self) -> dict[str, float]:
        self.recorder.write()
        return {f.name: value for f, value in self.ledger.figures().items() if f.kind == "task"}


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path)
    yield made
    made.observer.stop()
    made.ledger.close()


def test_events_below_the_level_of_the_log_count_and_the_ledger_is_written_every_few_seconds(setting: Setting) -> None:
    setting.log.info("worker.started", pid=1)
    setting.recorder.step()
    assert setting.ledger.figures()[STARTED] == 1
    assert setting.recorder.next_due_in() == float("inf")
    setting.log.info("worker.started", pid=2)
    setting.recorder.step()
    assert setting.ledger.figures()[STARTED] == 1
    assert setting.recorder.next_due_in() == EVERY_SECONDS
    setting.hand.pass_(EVERY_SECONDS)
    setting.recorder.step()
    assert setting.ledger.figures()[STARTED] == 2


def test_counts_go_on_after_a_restart(setting: Setting) -> None:
    setting.log.info("worker.started", pid=1)
    setting.recorder.write()
    again = setting.restarted()
    setting.log.info("worker.started", pid=2)
    again.write()
    assert setting.ledger.figures()[STARTED] == 2


def test_the_watcher_is_shown_with_its_missing_folders(setting: Setting) -> None:
    setting.observer.check()
    setting.recorder.write()
    assert {f: setting.ledger.figures()[f] for f in (POLLING, UNWATCHED)} == {POLLING: 0, UNWATCHED: 1}
    setting.trigger.mkdir()
    setting.observer.check()
    setting.recorder.write()
    assert setting.ledger.figures()[UNWATCHED] == 0


def test_the_tasks_are_those_of_the_newest_published_batch(setting: Setting) -> None:
    setting.finish("b1", load_orders=0.5, validation=1.0)
    assert setting.tasks() == {"load_orders": 0.5, "validation": 1.0}
    setting.log.write("task.finished", batch_id="b2", source="retail", task="load_orders", seconds=9.0)
    setting.log.write("batch.failed", batch_id="b2", source="retail")
    assert setting.tasks() == {"load_orders": 0.5, "validation": 1.0}
    setting.finish("b3", load_products=0.25)
    assert setting.tasks() == {"load_products": 0.25}


def test_a_report_of_a_task_without_its_seconds_or_name_stops_nothing(setting: Setting) -> None:
    setting.log.write("task.finished", batch_id="b1", source="retail", seconds="long")
    setting.log.write("task.finished", batch_id="b1", source="retail", task="x")
    setting.log.write("task.finished")
    setting.log.write("batch.published")
    assert setting.tasks() == {}


def test_a_ledger_that_cannot_be_written_is_tried_again_later_and_no_count_is_lost(setting: Setting) -> None:
    other = sqlite3.connect(setting.root / "ledger.sqlite", isolation_level=None)
    setting.ledger._db.execute("PRAGMA busy_timeout = 1")  # noqa: SLF001  the test has no ten seconds
    other.execute("BEGIN IMMEDIATE")
    setting.log.info("worker.started", pid=1)
    setting.recorder.step()
    setting.recorder.step()
    assert setting.recorder.failure == "OperationalError: database is locked"
    assert setting.recorder.next_due_in() == EVERY_SECONDS
    other.execute("ROLLBACK")
    other.close()
    setting.hand.pass_(EVERY_SECONDS)
    setting.recorder.step()
    assert setting.recorder.failure == ""
    assert setting.ledger.figures()[STARTED] == 1

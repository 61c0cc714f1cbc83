"""Keeps in the ledger the figures that only the daemon knows, so that every process can compute the same metrics."""

import sqlite3
import threading
from collections.abc import Mapping
from typing import Any

from daemon.clock import Clock
from daemon.landing.observer import FolderObserver
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import Figure
from daemon.text import error_line

EVERY_SECONDS = 5.0  # least time between two writes


class FigureRecorder:
    """Counts the events of the log, and remembers the state of the watcher, the worker and the seconds of tasks.

    Counters go on after a restart. A kill may lose the counts of the last seconds.
    """

    def __init__(self, ledger: Ledger, observer: FolderObserver, clock: Clock) -> None:
        self._ledger = ledger
        self._observer = observer
        self._clock = clock
        self._figures = ledger.figures()
        self._recorded = dict(self._figures)
        self._next_at = 0.0
        self._batch_id = ""
        self._tasks: dict[str, float] = {}  # of that batch: seconds by name
        self.failure = ""  # of the last write
        self._lock = threading.Lock()  # alerts are logged in a thread of their own

    def note(self, event: str, values: Mapping[str, Any]) -> None:
        """Counts an event of the log. Called for each one, in any thread."""
        with self._lock:
            figure = Figure("event", "", event)
            self._figures[figure] = self._figures.get(figure, 0) + 1
            if event == "task.finished":
                self._note_task(values)
            elif event == "worker.ready":
                self._note_worker(str(values.get("engine")), values.get("pid"))
            elif event == "batch.published" and values.get("batch_id") == self._batch_id:
                self._replace_tasks(str(values.get("source")))

    def step(self) -> None:
        """Writes what changed, at most every few seconds. A failure stays in `failure` until a later write."""
        if self.next_due_in() > 0:
            return
        try:
            self.write()
            self.failure = ""
        except sqlite3.Error as error:
            self.failure = error_line(error)

    def next_due_in(self) -> float:
        """Returns the seconds until figures must be written; infinity where none changed."""
        with self._lock:
            is_changed = self._current() != self._recorded
        return max(0.0, self._next_at - self._clock.monotonic()) if is_changed else float("inf")

    def write(self) -> None:
        """Writes the figures now. Raises sqlite3.Error."""
        self._next_at = self._clock.monotonic() + EVERY_SECONDS  # also where the ledger cannot be written now
        with self._lock:
            figures = self._current()
        self._ledger.set_figures(figures)
        self._recorded = figures

    def _current(self) -> dict[Figure, float]:
        watcher = {"polling": self._observer.is_polling, "unwatched_folders": len(self._observer.unwatched_folders)}
        return {**self._figures, **{Figure("watcher", "", name): float(value) for name, value in watcher.items()}}

    def _note_task(self, values: Mapping[str, Any]) -> None:
        batch_id = str(values.get("batch_id"))
        if batch_id != self._batch_id:
            self._batch_id, self._tasks = batch_id, {}
        if isinstance(seconds := values.get("seconds"), int | float):
            self._tasks[str(values.get("task"))] = float(seconds)

    def _note_worker(self, engine: str, pid: object) -> None:
        others = {f: value for f, value in self._figures.items() if f.kind != "worker"}
        self._figures = {**others, **({Figure("worker", "", engine): float(pid)} if isinstance(pid, int) else {})}
        self._next_at = 0.0  # `status` says "starting" until the ledger has it

    def _replace_tasks(self, source: str) -> None:
        others = {f: value for f, value in self._figures.items() if (f.kind, f.source) != ("task", source)}
        self._figures = {**others, **{Figure("task", source, name): value for name, value in self._tasks.items()}}

"""Keeps the work on the running batch in the ledger: its stages, its tasks, its rows, each with its start."""

import sqlite3
from dataclasses import replace

from daemon.batch import Batch
from daemon.clock import Clock
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import Activity, RunningTask
from pipeline.contract import Progress

WRITE_SECONDS = 0.3  # between two writes: a batch reports hundreds of events


class ActivityRecorder:
    """Follows the progress of one batch at a time. An activity that cannot be written is written later."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._activity: Activity | None = None
        self._stages: dict[str, str] = {}  # stages at work, with their starts
        self._tasks: dict[str, str] = {}
        self._rows: dict[str, tuple[int, int]] = {}  # by feed: rows of the files before, rows of the file at work
        self._is_written = True
        self._written_at = 0.0

    @property
    def open_stages(self) -> tuple[str, ...]:
        """Returns the stages that have started and not finished, in the order of their starts."""
        return tuple(self._stages)

    @property
    def activity(self) -> Activity | None:
        """Returns the work on the running batch; None where no batch runs."""
        return self._activity

    def start(self, batch: Batch) -> None:
        """Begins with a batch that the worker receives now."""
        self._stages, self._tasks, self._rows = {}, {}, {}
        now = self._clock.text()
        self._activity = Activity(batch_id=batch.batch_id, attempt=batch.attempts, since=now, last_at=now)
        self._is_written = False
        self.flush(at_once=True)

    def note(self, progress: Progress) -> None:
        """Notes a sign of life of the worker."""
        if self._activity is None or progress.batch_id != self._activity.batch_id:
            return
        now = self._clock.text()
        match progress.event:
            case "stage.started":
                self._stages.setdefault(progress.stage, now)
            case "stage.finished":
                self._stages.pop(progress.stage, None)
            case "task.started":
                self._tasks[str(progress.values.get("task", ""))] = now
            case "task.finished":
                self._tasks.pop(str(progress.values.get("task", "")), None)
            case "file.read":
                self._count(str(progress.values.get("feed", "")), int(progress.values.get("rows", 0)))
        self._activity = replace(
            self._activity,
            last_at=now,
            stage=", ".join(self._stages),
            stage_since=min(self._stages.values(), default=""),
            tasks=tuple(RunningTask(name=name, since=since) for name, since in self._tasks.items()),
            rows=sum(before + at_work for before, at_work in self._rows.values()),
        )
        self._is_written = False
        self.flush()

    def _count(self, feed: str, rows: int) -> None:
        # the worker reports the rows of a file so far; fewer than before are those of the feed's next file
        before, last = self._rows.get(feed, (0, 0))
        self._rows[feed] = (before + last if rows < last else before, rows)

    def end(self) -> None:
        """Ends the work on the batch."""
        if self._activity is not None:
            self._activity, self._is_written = None, False
            self._stages, self._tasks = {}, {}
            self.flush(at_once=True)

    def flush(self, *, at_once: bool = False) -> None:
        """Writes a change that is not in the ledger, where the last write is long enough ago."""
        now = self._clock.monotonic()
        if self._is_written or (not at_once and now - self._written_at < WRITE_SECONDS):
            return
        self._written_at = now
        try:
            self._ledger.set_activity(self._activity)
        except sqlite3.Error:
            return  # a full disk; the batch goes on, and the next sign of life tries again
        self._is_written = True

"""Keeps one worker process running: starts it, receives its messages, kills it when it stalls. Knows no batches."""

import os
import threading
from collections.abc import Iterator, Sequence
from typing import TypeGuard

from daemon.clock import Clock
from daemon.config.config import Config
from daemon.dispatch.process import CONNECTION_CLOSED, WorkerExited, WorkerProcess
from daemon.ledger.live_state import TroubleKind
from daemon.observe.log import Log
from daemon.observe.troubles import Troubles
from daemon.retry import wait_seconds
from daemon.text import format_seconds
from pipeline.contract import WAITING, Progress, Ready, Refused, Result, WorkOrder

SUBJECT = "worker"  # of its troubles
LONG_START_SECONDS = 60.0  # a start takes some seconds; of this length it is a trouble


class WorkerSupervisor:
    """The current worker process, or none.

    Messages about batches are returned by `receive`. Messages about the worker are logged here.
    """

    def __init__(
        self,
        *,
        config: Config,
        log: Log,
        clock: Clock,
        wake: threading.Event,
        command: Sequence[str],
        troubles: Troubles,
    ) -> None:
        self._config = config
        self._log = log
        self._clock = clock
        self._wake = wake
        self._command = command
        self._troubles = troubles
        self._output = config.log.path.with_name("worker.log")
        self._process: WorkerProcess | None = None
        self._failed_starts = 0
        self._start_after = 0.0
        self._refusal = ""
        self._is_retryable = True
        self._waiting_for = ""
        self._waiting_since = 0.0
        self._starting_since = 0.0
        self._is_long_start = False
        self.last_sign = 0.0
        self.is_ready = False
        self.is_stuck = False  # a worker that a kill does not end: only a restart of the machine helps

    @property
    def start_error(self) -> str:
        """Returns why a run that must end gets no worker; else ''.

        That is after as many starts as a batch has attempts, or after one where only a person can remove the cause.
        """
        is_final = not self._is_retryable or self._failed_starts >= self._config.retry.attempts
        return self._refusal if self._failed_starts and is_final else ""

    @property
    def lake_writer(self) -> str:
        """Returns who keeps the worker from the lake for longer than a worker may stall; else ''."""
        is_long = self._clock.monotonic() - self._waiting_since > self._config.dispatch.timeout_seconds
        return self._waiting_for if is_long else ""

    def start_when_due(self) -> None:
        """Starts a worker where there is none and the wait after the last failure is over."""
        if self._process is not None or self._clock.monotonic() < self._start_after:
            return
        self._refusal = ""
        self._is_retryable = True
        self._waiting_for = ""
        try:
            self._process = WorkerProcess(self._command, self._output, self._wake.set, self._config.secrets(os.environ))
        except OSError as error:
            self._start_failed(f"the worker cannot be started ({error.strerror or error})")
            return
        self.is_ready = False
        self.last_sign = self._starting_since = self._clock.monotonic()
        self._log.info("worker.started", pid=self._process.pid, output=str(self._output))
        self._process.send(self._config.settings)

    def receive(self) -> Iterator[Progress | Result | WorkerExited]:
        """Yields the worker's messages about its batch, and at last its end, if it ended."""
        while self._process and not self._process.messages.empty():
            message = self._process.messages.get()
            self.last_sign = self._clock.monotonic()
            self._note_waiting(str(message.values["reason"]) if _is_wait(message) else "")
            match message:
                case Progress() if _is_wait(message):
                    continue
                case Ready():
                    self._note_ready(message)
                case Refused():
                    self._refuse(message)
                case WorkerExited():
                    yield self.replace(message.reason)
                case Progress() | Result():
                    yield message

    def note_long_start(self) -> None:
        """Opens a trouble where the worker has been starting for a minute. A wait for another writer does not count."""
        if self._process is None or self.is_ready:
            return
        if self._waiting_for:
            self._starting_since = self._clock.monotonic()
        elif not self._is_long_start and self._clock.monotonic() - self._starting_since >= LONG_START_SECONDS:
            self._is_long_start = True
            limit = format_seconds(LONG_START_SECONDS)
            engine = self._config.settings.engine
            reason = f"the worker has been starting for more than {limit} (engine {engine})"
            self._troubles.open(TroubleKind.WORKER_STARTING, SUBJECT, reason)

    def stalled_reason(self, *, is_busy: bool) -> str:
        """Returns why the worker must be replaced: it starts or works, and sent no message for too long; else ''."""
        limit = self._config.dispatch.timeout_seconds
        is_idle = self._process is None or (self.is_ready and not is_busy)
        if is_idle or self._clock.monotonic() - self.last_sign <= limit:
            return ""
        return f"it made no progress for {format_seconds(limit)} and was killed"

    def next_due_in(self, *, is_busy: bool) -> float:
        """Returns the seconds until the worker is to be started, or until it stalls."""
        now = self._clock.monotonic()
        if self._process is None:
            return self._start_after - now
        stalls_in = self.last_sign + self._config.dispatch.timeout_seconds - now
        if self.is_ready:
            return stalls_in if is_busy else 60.0
        return stalls_in if self._is_long_start else min(stalls_in, self._starting_since + LONG_START_SECONDS - now)

    def send(self, order: WorkOrder) -> bool:
        """Sends a work order; False where no worker takes it."""
        self.last_sign = self._clock.monotonic()
        return self._process is not None and self._process.send(order)

    def replace(self, reason: str) -> WorkerExited:
        """Ends this worker, so that the next one can be started. Returns how it ended."""
        process = self._process
        self._process = None
        if process is None:
            return WorkerExited(reason=reason)
        was_ready = self.is_ready
        self.is_ready = False
        # A worker that closed its connection is about to end, and its exit code says more than the closed connection.
        self.is_stuck = not process.end(patience_seconds=1.0 if reason == CONNECTION_CLOSED else 0.0)
        reason = process.ending() if reason == CONNECTION_CLOSED else reason
        if not self._refusal:
            self._log.error("worker.died", pid=process.pid, reason=reason)
        if was_ready:
            self._troubles.open(TroubleKind.WORKER_DIED, SUBJECT, reason)
        else:
            self._start_failed(self._refusal or f"the worker cannot be started: {reason}; see {self._output}")
        return WorkerExited(reason=reason)

    def recycle(self) -> None:
        """Ends a worker that is too large for another batch; the next one is started at once."""
        process = self._process
        self._process = None
        if process is not None:
            self.is_ready = False
            self.is_stuck = not process.end(patience_seconds=1.0)
            self._log.info("worker.recycled", pid=process.pid)

    def end(self, patience_seconds: float) -> Iterator[Progress | Result]:
        """Ends the worker for good. Yields the messages that it had sent before."""
        process = self._process
        self._process = None
        if process is None:
            return
        process.end(patience_seconds=patience_seconds)
        while not process.messages.empty():
            message = process.messages.get()
            if isinstance(message, Progress | Result) and not _is_wait(message):
                yield message

    def _note_ready(self, message: Ready) -> None:
        self.is_ready = True
        self._failed_starts = 0
        self._is_long_start = False
        for kind in (TroubleKind.WORKER, TroubleKind.WORKER_STARTING):
            self._troubles.end(kind, SUBJECT)
        undone = list(message.undone)
        about = {"pid": message.pid, "engine": message.engine, "seconds": message.seconds}
        self._log.info("worker.ready", **about, undone=undone)

    def _note_waiting(self, reason: str) -> None:
        if reason and not self._waiting_for:
            self._waiting_since = self.last_sign
        if reason and reason != self._waiting_for:
            self._log.warning("worker.waiting", reason=f"{reason}; the work goes on when that has ended")
        self._waiting_for = reason

    def _refuse(self, message: Refused) -> None:
        self._refusal = message.reason
        self._is_retryable = message.retryable

    def _start_failed(self, reason: str) -> None:
        self._failed_starts += 1
        self._refusal = reason
        self._is_long_start = False
        self._troubles.open(TroubleKind.WORKER, SUBJECT, reason)
        seconds = wait_seconds(self._failed_starts, self._config.retry)
        self._start_after = self._clock.monotonic() + seconds
        self._log.error(
            "worker.start_failed",
            reason=reason,
            is_retryable=self._is_retryable,
            attempt=self._failed_starts,
            retry_in_seconds=round(seconds, 1),
        )


def _is_wait(message: object) -> TypeGuard[Progress]:
    """Returns whether the message is about the worker's wait for the lake's lock; such a message is about no batch."""
    return isinstance(message, Progress) and message.event == WAITING

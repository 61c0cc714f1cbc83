"""Keeps one worker process warm: starts it, hears it, kills it when it is silent, starts the next. Knows nothing of batches."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence

from daemon.clock import Clock
from daemon.config.config import Config
from daemon.dispatch.process import HUNG_UP, Child, Ended
from daemon.observe.log import Log
from daemon.retry import Policy, wait_seconds
from daemon.text import format_seconds
from pipeline.contract import Progress, Ready, Refused, Result, Waiting, WorkOrder


class WarmWorker:
    """The worker of this moment, if any. What it says about batches comes out of `hear`; what it says of itself is logged here."""

    def __init__(
        self,
        *,
        config: Config,
        policy: Policy,
        log: Log,
        clock: Clock,
        wake: threading.Event,
        command: Sequence[str],
        alert: Callable[[str, str], None],
    ) -> None:
        self._config, self._policy, self._log, self._clock = config, policy, log, clock
        self._wake, self._command, self._alert = wake, command, alert
        self._output = config.log.path.with_name("worker.log")
        self._child: Child | None = None
        self._failed_starts, self._start_after = 0, 0.0
        self._refusal = ""
        self._is_retryable = True
        self._waits_for, self._waits_since = "", 0.0
        self.last_sign = 0.0
        self.is_ready = False
        self.is_stuck = False  # a worker that does not even die: only the machine can help

    @property
    def is_alive(self) -> bool:
        return self._child is not None

    @property
    def trouble(self) -> str:
        """Why the worker could not be started as often as a batch is tried; '' while it may still come."""
        return self._refusal if self._failed_starts >= self._policy.attempts else ""

    @property
    def kept_out(self) -> str:
        """Who keeps the worker from the lake for as long as it may be silent over a batch; '' while it may still come."""
        is_long = self._clock.monotonic() - self._waits_since > self._config.dispatch.timeout_seconds
        return self._waits_for if is_long else ""

    def start_when_due(self) -> None:
        """Starts a worker where there is none and the last failure is long enough ago."""
        if self._child is not None or self._clock.monotonic() < self._start_after:
            return
        self._refusal = ""
        self._is_retryable = True
        self._waits_for = ""
        try:
            self._child = Child(self._command, self._output, self._wake.set, self._config.secrets(os.environ))
        except OSError as error:
            self._start_failed(f"the worker cannot be started ({error.strerror or error})")
            return
        self.is_ready, self.last_sign = False, self._clock.monotonic()
        self._log.info("worker.started", pid=self._child.pid, output=str(self._output))
        self._child.send(self._config.settings)

    def hear(self) -> Iterator[Progress | Result | Ended]:
        """What the worker has said about its batch; last, where it has died or hung up, that."""
        while self._child and not self._child.messages.empty():
            message = self._child.messages.get()
            self.last_sign = self._clock.monotonic()
            self._waits(message.reason if isinstance(message, Waiting) else "")
            if isinstance(message, Ready):
                self.is_ready, self._failed_starts = True, 0
                self._log.info(
                    "worker.ready",
                    pid=message.pid,
                    engine=message.engine,
                    seconds=message.seconds,
                    undone=list(message.undone),
                )
            elif isinstance(message, Refused):
                self._refuse(message)
            elif isinstance(message, Ended):
                yield self.replace(message.reason)
            elif isinstance(message, Progress | Result):
                yield message

    def silence(self, *, is_busy: bool) -> str:
        """Why the worker is to be replaced: it starts or works, and has said nothing for too long; '' when it may go on."""
        limit = self._config.dispatch.timeout_seconds
        if self._child is None or (self.is_ready and not is_busy) or self._clock.monotonic() - self.last_sign <= limit:
            return ""
        return f"it made no progress for {format_seconds(limit)} and was killed"

    def next_due_in(self, *, is_busy: bool) -> float:
        """Seconds until it is to be started or may be too silent."""
        now = self._clock.monotonic()
        if self._child is None:
            return self._start_after - now
        return self.last_sign + self._config.dispatch.timeout_seconds - now if is_busy or not self.is_ready else 60.0

    def send(self, order: WorkOrder) -> bool:
        self.last_sign = self._clock.monotonic()
        return self._child is not None and self._child.send(order)

    def replace(self, reason: str) -> Ended:
        """Ends this worker, so that the next one can be started; tells how it ended."""
        child, self._child = self._child, None
        if child is None:
            return Ended(reason=reason)
        was_ready, self.is_ready = self.is_ready, False
        # hung up by itself: it is about to end, and its exit code tells more than the silence
        self.is_stuck = not child.end(patience_seconds=1.0 if reason == HUNG_UP else 0.0)
        reason = child.ending() if reason == HUNG_UP else reason
        if not self._refusal:
            self._log.error("worker.died", pid=child.pid, reason=reason)
        if was_ready:
            self._alert("Lakegate: the worker died", f"{reason}; it is started again")
        else:
            self._start_failed(self._refusal or f"the worker cannot be started: {reason}; see {self._output}")
        return Ended(reason=reason)

    def retire(self) -> None:
        """Lets a worker go that has said it is too large for another batch; the next one is started at once."""
        child, self._child = self._child, None
        if child is not None:
            self.is_ready = False
            self.is_stuck = not child.end(patience_seconds=1.0)
            self._log.info("worker.recycled", pid=child.pid)

    def end(self, patience_seconds: float) -> Iterator[Progress | Result]:
        """Lets the worker go for good; what it still had said comes out."""
        child, self._child = self._child, None
        if child is None:
            return
        child.end(patience_seconds=patience_seconds)
        while not child.messages.empty():
            message = child.messages.get()
            if isinstance(message, Progress | Result):
                yield message

    def _waits(self, what: str) -> None:
        if what and not self._waits_for:
            self._waits_since = self.last_sign
        if what and what != self._waits_for:
            self._log.warning("worker.waiting", reason=f"{what}; the work goes on when that has ended")
        self._waits_for = what

    def _refuse(self, message: Refused) -> None:
        self._refusal = message.reason
        self._is_retryable = message.retryable
        if not message.retryable:  # no second start helps within one run
            self._failed_starts = max(self._failed_starts, self._policy.attempts - 1)

    def _start_failed(self, reason: str) -> None:
        self._failed_starts += 1
        self._refusal = reason
        if self._failed_starts == self._policy.attempts:
            self._alert("Lakegate: the worker cannot be started", reason)
        seconds = wait_seconds(self._failed_starts, self._policy)
        self._start_after = self._clock.monotonic() + seconds
        self._log.error(
            "worker.start_failed",
            reason=reason,
            is_retryable=self._is_retryable,
            attempt=self._failed_starts,
            retry_in_seconds=round(seconds, 1),
        )

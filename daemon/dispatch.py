"""Hands batches to the worker, one at a time and oldest first, and turns its answers into states. Keeps the worker warm."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from daemon.batch import Batch, State
from daemon.child import HUNG_UP, Child, Ended
from daemon.claim import Claim
from daemon.clock import Clock, as_text, from_text
from daemon.config import Config
from daemon.ledger import Ledger
from daemon.logs import Log
from daemon.retry import Failure, Policy, decide, is_final, wait_seconds
from daemon.wording import amount, listed
from pipeline.contract import OrderFile, Outcome, Progress, Ready, Refused, Result, WorkOrder


class Dispatch:
    """The worker and the one batch that it has. Forgets all at a restart: the ledger says what was running."""

    def __init__(
        self, *, config: Config, ledger: Ledger, claim: Claim, log: Log, clock: Clock, wake: threading.Event, command: Sequence[str],
        alert: Callable[[str, str], None],
    ) -> None:
        self._config, self._ledger, self._claim = config, ledger, claim
        self._log, self._clock, self._wake, self._command = log, clock, wake, command
        self._alert, self._output = alert, config.log.path.with_name("worker.log")
        retry = config.retry
        self._policy = Policy(
            attempts=retry.attempts, initial_seconds=retry.initial_seconds, max_seconds=retry.max_seconds, poison_after=config.dispatch.poison_after
        )
        self._child: Child | None = None
        self._is_ready = False
        self._running = ""  # batch id
        self._stage = ""
        self._last_sign = 0.0
        self._failed_starts = 0
        self._start_after = 0.0
        self._refusal = ""
        self.is_stuck = False  # a worker that does not even die: only the machine can help
        self._lacking: dict[str, list[str]] = {}

    @property
    def worker_trouble(self) -> str:
        """Why the worker could not be started as often as a batch is tried; '' while it may still come."""
        return self._refusal if self._failed_starts >= self._policy.attempts else ""

    @property
    def is_busy(self) -> bool:
        """Whether the worker has a batch."""
        return bool(self._running)

    def recover(self) -> None:
        """At start: what was running when the daemon ended is to be done again; the worker knows if it had been published."""
        for batch in self._ledger.batches(State.RUNNING):
            self._hand_back(batch, "the daemon ended")

    def step(self, *, is_wanted: bool) -> None:
        """Hears the worker, watches over it, starts it when it is wanted, and gives it the next batch."""
        self._hear()
        self._watch_over()
        if self._child is None and is_wanted and self._clock.monotonic() >= self._start_after:
            self._start()
        self._settle_duplicates()
        if self._is_ready and not self._running and (batch := self._next()):
            self._send(batch)

    def next_due_in(self) -> float:
        """Seconds until something is to be done that no message announces."""
        now, due = self._clock.monotonic(), [60.0]
        if self._child is None:
            due.append(self._start_after - now)
        elif self._running or not self._is_ready:
            due.append(self._last_sign + self._config.dispatch.timeout_seconds - now)
        due += [self._back_off(b) for b in self._ledger.heads()]
        return max(0.0, min(due))

    def fail_hopeless(self) -> None:
        """For a run that has to end: what nobody can do fails with that sentence, and `retry` brings it back."""
        for batch in self._ledger.heads():
            lacking = listed(self._claim.lacks(batch))
            reason = f"{lacking}: not in {self._claim.path}; bring the folder back, then retry" if lacking else self.worker_trouble
            if reason:
                self._ledger.move(batch.batch_id, State.FAILED, "batch.failed", reason)

    def stop(self) -> None:
        """Lets the worker finish its current write, within half of stop_seconds, then hands its batch back."""
        patience = self._config.dispatch.stop_seconds / 2
        until, sign = self._clock.monotonic() + patience, self._last_sign
        while self._child and self._running and self._last_sign == sign and self._clock.monotonic() < until:
            self._wake.clear()
            self._hear()
            if self._running and self._last_sign == sign:
                self._wake.wait(min(0.2, patience))
        if self._child:
            self._child.end(patience_seconds=min(2.0, patience))
            self._hear(is_stopping=True)
            self._child = None
        if self._running:
            self._hand_back(self._ledger.batch(self._running), "the daemon was stopped")
            self._running = ""

    # ---- the worker

    def _start(self) -> None:
        self._refusal = ""
        try:
            self._child = Child(self._command, self._output, self._wake.set)
        except OSError as error:
            self._not_started(f"the worker cannot be started ({error.strerror or error})")
            return
        self._is_ready, self._last_sign = False, self._clock.monotonic()
        self._log.info("worker.started", pid=self._child.pid, output=str(self._output))
        self._child.send(self._config.settings)

    def _hear(self, *, is_stopping: bool = False) -> None:
        while self._child and not self._child.messages.empty():
            message = self._child.messages.get()
            self._last_sign = self._clock.monotonic()
            if isinstance(message, Ready):
                self._is_ready, self._failed_starts, self._refusal = True, 0, ""
                self._log.info("worker.ready", pid=message.pid, engine=message.engine, seconds=message.seconds, undone=list(message.undone))
            elif isinstance(message, Refused):
                self._refused(message)
            elif isinstance(message, Progress):
                self._progress(message)
            elif isinstance(message, Result):
                self._result(message)
            elif isinstance(message, Ended) and not is_stopping:
                self._lost(message.reason)

    def _watch_over(self) -> None:
        if self._child is None or (self._is_ready and not self._running):
            return
        silent = self._clock.monotonic() - self._last_sign
        if silent > self._config.dispatch.timeout_seconds:
            where = f" in stage {self._stage}" if self._stage else ""
            self._lost(f"it made no progress{where} for {amount(self._config.dispatch.timeout_seconds)} and was killed")

    def _lost(self, reason: str) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        was_ready, self._is_ready = self._is_ready, False
        # hung up by itself: it is about to end, and its exit code tells more than the silence
        self.is_stuck = not child.end(patience_seconds=1.0 if reason == HUNG_UP else 0.0)
        reason = child.ending() if reason == HUNG_UP else reason
        if not self._refusal:
            self._log.error("worker.died", pid=child.pid, reason=reason, batch_id=self._running or None)
        if self._running:
            batch, self._running = self._ledger.batch(self._running), ""
            self._alert(f"the worker died over batch {batch.batch_id}", reason)
            self._failed(batch, f"the worker died{f' in stage {self._stage}' if self._stage else ''}: {reason}", is_death=True, is_retryable=True)
        if not was_ready:
            self._not_started(self._refusal or f"the worker cannot be started: {reason}; see {self._output}")

    def _refused(self, message: Refused) -> None:
        self._refusal = message.reason
        if not message.retryable:
            self._failed_starts = max(self._failed_starts, self._policy.attempts - 1)  # no second chance helps within one run
        self._log.error("worker.refused", reason=message.reason, is_retryable=message.retryable)

    def _not_started(self, reason: str) -> None:
        self._failed_starts += 1
        self._refusal = reason
        if self._failed_starts == self._policy.attempts:
            self._alert("the worker cannot be started", reason)
        seconds = wait_seconds(self._failed_starts, self._policy)
        self._start_after = self._clock.monotonic() + seconds
        self._log.error("worker.not_started", reason=reason, attempt=self._failed_starts, retry_in_seconds=round(seconds, 1))

    # ---- what it is given

    def _next(self) -> Batch | None:
        return next((b for b in self._ledger.heads() if self._back_off(b) <= 0 and self._is_whole(b)), None)

    def _back_off(self, batch: Batch) -> float:
        if not batch.next_attempt_at:
            return 0.0
        seconds = (from_text(batch.next_attempt_at) - self._clock.now()).total_seconds()
        # a wall clock that was set back must not hold a batch for longer than any back-off lasts
        return seconds if seconds <= self._policy.max_seconds else 0.0

    def _is_whole(self, batch: Batch) -> bool:
        lacking = self._claim.lacks(batch)
        if lacking and self._lacking.get(batch.batch_id) != lacking:
            told = f"{listed(lacking)}: not in {self._claim.path}; the batch waits until the folder is back"
            self._log.error("claim.missing", batch_id=batch.batch_id, source=batch.source, reason=told)
        self._lacking[batch.batch_id] = lacking
        return not lacking

    def _settle_duplicates(self) -> None:
        for batch_id, twin in self._ledger.ready_twins():
            self._duplicate(self._ledger.batch(batch_id), twin)

    def _send(self, batch: Batch) -> None:
        batch = self._ledger.move(batch.batch_id, State.RUNNING, "batch.started", attempts=batch.attempts + 1, next_attempt_at=None)
        assert self._child is not None
        self._running, self._stage, self._last_sign = batch.batch_id, "", self._clock.monotonic()
        if not self._child.send(self._order(batch)):
            self._lost("it took no work")

    def _order(self, batch: Batch) -> WorkOrder:
        assert batch.batch_date is not None
        files = tuple(
            OrderFile(name=f.name, feed=f.feed, path=str(self._claim.path / f.opaque), sha256=f.sha256, bytes=f.bytes) for f in batch.data_files
        )
        return WorkOrder(
            batch_id=batch.batch_id,
            source=batch.source,
            batch_date=batch.batch_date,
            files=files,
            attempt=batch.attempts,
            final=is_final(batch.attempts, batch.deaths, self._policy),
            revision=batch.revision,
            snapshot=batch.snapshot,
            rows=batch.rows,
            trigger=batch.trigger,
        )

    # ---- what it answers

    def _progress(self, message: Progress) -> None:
        if message.event.startswith("stage."):
            self._stage = message.stage
        batch = self._ledger.batch(message.batch_id) if self._ledger.knows(message.batch_id) else None
        known: Mapping[str, Any] = {"batch_id": message.batch_id, "source": batch.source if batch else "", "stage": message.stage}
        tell = self._log.debug if message.event in ("stage.started", "table.committed") else self._log.info
        tell(message.event, **{**message.values, **known})

    def _result(self, result: Result) -> None:
        if result.batch_id != self._running:
            self._log.warning("worker.confused", batch_id=result.batch_id, reason=f"an answer for a batch that is not running: {result.outcome}")
            return
        batch, self._running = self._ledger.batch(result.batch_id), ""
        answer: dict[str, Any] = {"result": asdict(result)}
        if result.error:
            self._log.error("attempt.error", batch_id=batch.batch_id, source=batch.source, attempt=batch.attempts, reason=result.reason, error=result.error)
        if result.outcome == Outcome.PUBLISHED or (result.outcome == Outcome.DUPLICATE and result.duplicate_of == batch.batch_id):
            at = result.published_at or as_text(self._clock.now())
            self._ledger.move(batch.batch_id, State.PUBLISHED, "batch.published", published_at=at, **answer)
        elif result.outcome == Outcome.DUPLICATE:
            self._duplicate(batch, result.duplicate_of or "an earlier batch", **answer)
        elif result.outcome == Outcome.REJECTED:
            reason = result.reason or "the pipeline rejected it without a reason"
            self._ledger.move(batch.batch_id, State.REJECTED, "batch.rejected", reason, **answer)
        else:
            reason = result.reason or "the pipeline failed without a reason"
            self._failed(batch, reason, is_death=False, is_retryable=result.retryable, **answer)

    def _duplicate(self, batch: Batch, twin: str, **answer: Any) -> None:
        # READY, and never dispatched again: its files have yet to be archived
        self._ledger.move(batch.batch_id, State.READY, "batch.duplicate", f"duplicate of {twin}", duplicate_of=twin, **answer)

    def _failed(self, batch: Batch, reason: str, *, is_death: bool, is_retryable: bool, **answer: Any) -> None:
        deaths = batch.deaths + is_death
        failure = Failure(attempts=batch.attempts, deaths=deaths, is_death=is_death, is_retryable=is_retryable)
        verdict = decide(failure, self._policy)
        if verdict == State.REJECTED:
            told = f"the worker died {deaths} times over this batch, which is set aside so that others go on; at last {reason}"
            self._ledger.move(batch.batch_id, State.REJECTED, "batch.rejected", told, deaths=deaths, **answer)
        elif verdict == State.FAILED:
            self._ledger.move(batch.batch_id, State.FAILED, "batch.failed", reason, deaths=deaths, **answer)
        else:
            seconds = wait_seconds(deaths if is_death else batch.attempts - deaths, self._policy)
            again = as_text(self._clock.now() + timedelta(seconds=seconds))
            self._ledger.move(batch.batch_id, State.READY, "batch.retry_scheduled", reason, deaths=deaths, next_attempt_at=again, **answer)

    def _hand_back(self, batch: Batch, reason: str) -> None:
        self._ledger.move(batch.batch_id, State.READY, "batch.handed_back", reason, attempts=max(0, batch.attempts - 1), next_attempt_at=None)

"""Hands batches to the worker, one at a time and oldest first, and turns its answers into states."""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from daemon.batch import Batch, State
from daemon.clock import Clock, as_text, from_text
from daemon.config.config import Config
from daemon.dispatch.process import Ended
from daemon.dispatch.worker import WarmWorker
from daemon.files.lock import HeldError
from daemon.intake.claim import Claim
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.retry import Failure, Policy, decide, is_final, wait_seconds
from daemon.text import format_seconds, join_names
from pipeline.contract import OrderFile, Outcome, Progress, Result, WorkOrder


class Dispatch:
    """The one batch that the worker has. Forgets all at a restart: the ledger says what was running."""

    def __init__(
        self,
        *,
        config: Config,
        ledger: Ledger,
        claim: Claim,
        log: Log,
        clock: Clock,
        worker: WarmWorker,
        policy: Policy,
    ) -> None:
        self._config, self._ledger, self._claim = config, ledger, claim
        self._log, self._clock = log, clock
        self._worker, self._policy = worker, policy
        self._running = ""  # batch id
        self._heard: deque[Progress | Result | Ended] = deque()  # what the worker said, until the ledger has it
        self._orphaned_by = "the daemon ended"
        self._stage = ""
        self._is_renewing = False
        self._lacking: dict[str, list[str]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether the worker has a batch."""
        return bool(self._running)

    def step(self, *, is_wanted: bool) -> None:
        """Hears the worker, watches over it, starts it when it is wanted, and gives it the next batch."""
        self._hear()
        if silence := self._worker.silence(is_busy=self.is_busy):
            self._heard.append(self._worker.replace(silence))
            self._settle()
        if not self._running:
            self._recover()
        if self._is_renewing and not self._running:
            self._worker.retire()
            self._is_renewing = False
        if is_wanted:
            self._worker.start_when_due()
        for batch_id, twin in self._ledger.ready_duplicates():
            self._duplicate(self._ledger.batch(batch_id), twin)
        if self._worker.is_ready and not self._running and (batch := self._next()):
            self._send(batch)

    def renew_worker(self) -> None:
        """Replaces the worker as soon as it has no batch: what it and its engine write to is opened anew."""
        self._is_renewing = True

    def next_due_in(self) -> float:
        """Seconds until something is to be done that no message announces."""
        return max(
            0.0,
            min(
                self._worker.next_due_in(is_busy=self.is_busy),
                *(self._back_off(b) for b in self._ledger.next_ready()),
                60.0,
            ),
        )

    def fail_hopeless(self) -> None:
        """For a run that has to end: what nobody can do fails with that sentence, and `retry` brings it back."""
        for batch in self._ledger.next_ready():
            lacking = join_names(self._claim.lacks(batch))
            reason = (
                f"{lacking}: not in {self._claim.path}; bring the folder back, then retry"
                if lacking
                else self._worker.trouble
            )
            if reason:
                self._ledger.move(batch.batch_id, State.FAILED, "batch.failed", reason)

    def leave_a_busy_lake(self) -> None:
        """For a run that has to end: raises HeldError where another process has written to the lake for too long."""
        if who := self._worker.kept_out:
            told = "nothing is lost and no attempt is counted; run it again when that has ended"
            raise HeldError(f"{who}, for more than {format_seconds(self._config.dispatch.timeout_seconds)}; {told}")

    def stop(self, wake: threading.Event) -> None:
        """Lets the worker finish its current write, within half of stop_seconds, then hands its batch back."""
        patience = self._config.dispatch.stop_seconds / 2
        try:
            self._finish_write(wake, patience)
        finally:
            self._heard.extend(self._worker.end(patience_seconds=min(2.0, patience / 5)))
        self._settle()
        if self._running:
            self._hand_back(self._ledger.batch(self._running), "the daemon was stopped")
            self._running = ""

    def _finish_write(self, wake: threading.Event, patience: float) -> None:
        until, sign = self._clock.monotonic() + patience, self._worker.last_sign
        while self._running and self._worker.last_sign == sign and self._clock.monotonic() < until:
            wake.clear()
            self._hear()
            if self._running and self._worker.last_sign == sign:
                wake.wait(min(0.2, patience))

    # ---- what the worker says

    def _hear(self) -> None:
        self._heard.extend(self._worker.hear())
        self._settle()

    def _settle(self) -> None:
        # a ledger that cannot be written raises, and the message is taken again at the next tick
        while self._heard:
            self._take(self._heard[0])
            self._heard.popleft()

    def _take(self, message: Progress | Result | Ended) -> None:
        if isinstance(message, Progress):
            self._progress(message)
        elif isinstance(message, Result):
            self._result(message)
        else:
            self._lost(message)

    def _lost(self, ended: Ended) -> None:
        if not self._running:
            return
        batch = self._ledger.batch(self._running)
        if batch.state == State.RUNNING:  # or the ledger has it, from a write that only seemed to fail
            where = f" in stage {self._stage}" if self._stage else ""
            self._failed(batch, f"the worker died{where}: {ended.reason}", is_death=True, is_retryable=True)
        self._running = ""

    # ---- what it is given

    def _recover(self) -> None:
        """What the ledger calls running and no worker has is to be done again; the worker knows if it was published."""
        for batch in self._ledger.batches(State.RUNNING):
            self._hand_back(batch, self._orphaned_by)
        self._orphaned_by = "the worker never got it"

    def _next(self) -> Batch | None:
        return next((b for b in self._ledger.next_ready() if self._back_off(b) <= 0 and self._is_whole(b)), None)

    def _back_off(self, batch: Batch) -> float:
        if not batch.next_attempt_at:
            return 0.0
        seconds = (from_text(batch.next_attempt_at) - self._clock.now()).total_seconds()
        # a wall clock that was set back must not hold a batch for longer than any back-off lasts
        return seconds if seconds <= self._policy.max_seconds else 0.0

    def _is_whole(self, batch: Batch) -> bool:
        lacking = self._claim.lacks(batch)
        if lacking and self._lacking.get(batch.batch_id) != lacking:
            told = f"{join_names(lacking)}: not in {self._claim.path}; the batch waits until the folder is back"
            self._log.error("claim.missing", batch_id=batch.batch_id, source=batch.source, reason=told)
        self._lacking[batch.batch_id] = lacking
        return not lacking

    def _send(self, batch: Batch) -> None:
        batch = self._ledger.move(
            batch.batch_id, State.RUNNING, "batch.started", attempts=batch.attempts + 1, next_attempt_at=None
        )
        self._running, self._stage = batch.batch_id, ""
        if not self._worker.send(self._order(batch)):
            self._heard.append(self._worker.replace("it took no work"))
            self._settle()

    def _order(self, batch: Batch) -> WorkOrder:
        assert batch.batch_date is not None
        files = tuple(
            OrderFile(
                name=f.name,
                feed=f.feed,
                path=str(self._claim.path / f.claim_name),
                sha256=f.sha256,
                bytes=f.bytes,
                revision=f.revision,
            )
            for f in batch.data_files
        )
        return WorkOrder(
            batch_id=batch.batch_id,
            source=batch.source,
            batch_date=batch.batch_date,
            files=files,
            attempt=batch.attempts,
            final=is_final(batch.attempts, batch.worker_crashes, self._policy),
            revision=batch.revision,
            snapshot=batch.snapshot,
            rows=batch.rows,
            trigger=batch.trigger,
            received_at=batch.received_at,
        )

    # ---- what it answers

    def _progress(self, message: Progress) -> None:
        if message.event.startswith("stage."):
            self._stage = message.stage
        batch = self._ledger.batch(message.batch_id) if self._ledger.has(message.batch_id) else None
        known: Mapping[str, Any] = {
            "batch_id": message.batch_id,
            "source": batch.source if batch else "",
            "stage": message.stage,
        }
        self._log.write(message.event, **{**message.values, **known})

    def _result(self, result: Result) -> None:
        if result.batch_id != self._running:
            self._log.warning(
                "worker.unexpected_result",
                batch_id=result.batch_id,
                reason=f"an answer for a batch that is not running: {result.outcome}",
            )
            return
        batch = self._ledger.batch(result.batch_id)
        if batch.state == State.RUNNING:  # or the ledger has it, from a write that only seemed to fail
            self._answered(batch, result)
        self._running = ""
        if result.error:
            about = {"batch_id": batch.batch_id, "source": batch.source, "attempt": batch.attempts}
            self._log.error("attempt.error", **about, reason=result.reason, trace=result.error)
        if result.retiring:
            self._worker.retire()

    def _answered(self, batch: Batch, result: Result) -> None:
        answer: dict[str, Any] = {"result": asdict(result)}
        if result.outcome == Outcome.PUBLISHED or (
            result.outcome == Outcome.DUPLICATE and result.duplicate_of == batch.batch_id
        ):
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
        reason = f"duplicate of {twin}"
        self._ledger.move(batch.batch_id, State.DUPLICATE, "batch.duplicate", reason, duplicate_of=twin, **answer)

    def _failed(self, batch: Batch, reason: str, *, is_death: bool, is_retryable: bool, **answer: Any) -> None:
        worker_crashes = batch.worker_crashes + is_death
        failure = Failure(
            attempts=batch.attempts, worker_crashes=worker_crashes, is_death=is_death, is_retryable=is_retryable
        )
        verdict = decide(failure, self._policy)
        if verdict == State.REJECTED:
            told = f"the worker died {worker_crashes} times over this batch, which is set aside so that others go on; at last {reason}"
            self._ledger.move(
                batch.batch_id, State.REJECTED, "batch.rejected", told, worker_crashes=worker_crashes, **answer
            )
        elif verdict == State.FAILED:
            self._ledger.move(
                batch.batch_id, State.FAILED, "batch.failed", reason, worker_crashes=worker_crashes, **answer
            )
        else:
            seconds = wait_seconds(worker_crashes if is_death else batch.attempts - worker_crashes, self._policy)
            again = as_text(self._clock.now() + timedelta(seconds=seconds))
            self._ledger.move(
                batch.batch_id,
                State.READY,
                "batch.retry_scheduled",
                reason,
                worker_crashes=worker_crashes,
                next_attempt_at=again,
                **answer,
            )

    def _hand_back(self, batch: Batch, reason: str) -> None:
        self._ledger.move(
            batch.batch_id,
            State.READY,
            "batch.requeued",
            reason,
            attempts=max(0, batch.attempts - 1),
            next_attempt_at=None,
        )

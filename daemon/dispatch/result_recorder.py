"""Records the results of attempts in the ledger: published, duplicate, rejected, failed, or to be tried again."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from daemon.batch import Batch, State
from daemon.clock import Clock, as_text
from daemon.config.config import RetryConfig
from daemon.ledger.ledger import Ledger
from daemon.retry import state_after_failure, wait_seconds
from pipeline.contract import Outcome, Result


class ResultRecorder:
    """Turns the end of an attempt into the next state of its batch."""

    def __init__(self, *, ledger: Ledger, clock: Clock, retry: RetryConfig, poison_after: int) -> None:
        self._ledger = ledger
        self._clock = clock
        self._retry = retry
        self._poison_after = poison_after

    def record(self, batch: Batch, result: Result) -> None:
        """Records the worker's result for a running batch."""
        answer: dict[str, Any] = {"result": asdict(result)}
        is_own = result.outcome == Outcome.DUPLICATE and result.duplicate_of == batch.batch_id
        if result.outcome == Outcome.PUBLISHED or is_own:
            at = result.published_at or as_text(self._clock.now())
            self._ledger.move(batch.batch_id, State.PUBLISHED, "batch.published", published_at=at, **answer)
        elif result.outcome == Outcome.DUPLICATE:
            self.record_duplicate(batch.batch_id, result.duplicate_of or "an earlier batch", **answer)
        elif result.outcome == Outcome.REJECTED:
            reason = result.reason or "the pipeline rejected it without a reason"
            self._ledger.move(batch.batch_id, State.REJECTED, "batch.rejected", reason, **answer)
        else:
            reason = result.reason or "the pipeline failed without a reason"
            self._record_failure(batch, reason, is_crash=False, is_retryable=result.retryable, **answer)

    def record_duplicate(self, batch_id: str, published_id: str, **answer: Any) -> None:
        """Records that another batch has published the same content."""
        reason = f"duplicate of {published_id}"
        self._ledger.move(batch_id, State.DUPLICATE, "batch.duplicate", reason, duplicate_of=published_id, **answer)

    def record_crash(self, batch: Batch, reason: str) -> None:
        """Records that the worker crashed while it had the batch."""
        self._record_failure(batch, reason, is_crash=True, is_retryable=True)

    def requeue(self, batch: Batch, reason: str) -> None:
        """Records that an attempt was interrupted; it does not count."""
        attempts = max(0, batch.attempts - 1)
        self._ledger.move(
            batch.batch_id, State.READY, "batch.requeued", reason, attempts=attempts, next_attempt_at=None
        )

    def _record_failure(self, batch: Batch, reason: str, *, is_crash: bool, is_retryable: bool, **answer: Any) -> None:
        crashes = batch.worker_crashes + is_crash
        state = state_after_failure(
            attempts=batch.attempts,
            worker_crashes=crashes,
            is_crash=is_crash,
            is_retryable=is_retryable,
            retry=self._retry,
            poison_after=self._poison_after,
        )
        values: dict[str, Any] = {"worker_crashes": crashes, **answer}
        if state == State.REJECTED:
            why = f"the worker died {crashes} times over this batch, which is set aside so that others go on"
            self._ledger.move(batch.batch_id, state, "batch.rejected", f"{why}; at last {reason}", **values)
        elif state == State.FAILED:
            self._ledger.move(batch.batch_id, state, "batch.failed", reason, **values)
        else:
            seconds = wait_seconds(crashes if is_crash else batch.attempts - crashes, self._retry)
            at = as_text(self._clock.now() + timedelta(seconds=seconds))
            self._ledger.move(batch.batch_id, state, "batch.retry_scheduled", reason, next_attempt_at=at, **values)

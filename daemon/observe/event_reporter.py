"""Reports each change of a batch and each trouble in the log."""

from typing import Any

from daemon.batch import Batch
from daemon.ledger.live_state import Trouble, TroubleKind
from daemon.observe.log import Log
from daemon.text import escape

COUNTS = ("rows_read", "rows_accepted", "rows_rejected", "score", "validation_status")


class EventReporter:
    """Writes to the log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def change(self, event: str, batch: Batch) -> None:
        """Reports that a batch has changed its state."""
        self._log.write(event, **self._values(event, batch))

    def trouble(self, event: str, trouble: Trouble) -> None:
        """Reports that a trouble opened or ended. A failure of the environment has events of its own."""
        is_over = event == "trouble.ended"
        if trouble.kind == TroubleKind.ENVIRONMENT:
            event = "environment.recovered" if is_over else "environment.failed"
            self._log.write(event, reason=trouble.reason)
        else:
            fields = ("kind", "subject", "source", "batch_id", "reason", "cure", "since", "tries")
            self._log.write(event, **{f: getattr(trouble, f) for f in fields if getattr(trouble, f) != ""})

    @staticmethod
    def _values(event: str, batch: Batch) -> dict[str, Any]:
        values: dict[str, Any] = {
            "batch_id": batch.batch_id,
            "source": batch.source,
            "trigger": batch.trigger,
            "state": batch.state,
        }
        if batch.batch_date:
            values["batch_date"] = batch.batch_date.isoformat()
        if batch.reason:
            values["reason"] = batch.reason
        if batch.attempts:
            values["attempt"] = batch.attempts
        if event in ("batch.received", "batch.ready"):
            values["files"] = [escape(f.name) for f in batch.data_files[:50]]
        if event == "batch.retry_scheduled":
            values["next_attempt_at"] = batch.next_attempt_at
        if event in ("batch.published", "batch.rejected", "batch.failed") and batch.result:
            values |= {k: batch.result[k] for k in COUNTS if batch.result.get(k) not in (None, "")}
            if "score" in values:
                values["score"] = round(values["score"], 4)
        return values

"""Reports to people: each change of a batch in the log, an alert for a decision, each failure once while it lasts."""

from typing import Any

from daemon.batch import Batch, State
from daemon.observe.alerts import Alerts
from daemon.observe.log import Log
from daemon.text import escape

COUNTS = ("rows_read", "rows_accepted", "rows_rejected", "score", "validation_status")


class EventReporter:
    """Knows the failures of this tick and of the last one, so that a lasting failure is logged once."""

    def __init__(self, log: Log, alerts: Alerts) -> None:
        self._log = log
        self._alerts = alerts
        self._failures: set[str] = set()
        self._failures_before: set[str] = set()

    def change(self, event: str, batch: Batch) -> None:
        """Reports that a batch has changed its state."""
        self._log.write(event, **self._values(event, batch))
        if batch.state in (State.REJECTED, State.FAILED):
            date = f" {batch.batch_date}" if batch.batch_date else ""
            title = f"Lakegate: {batch.state} {batch.source or batch.trigger}{date}"
            self._alerts.send(title, f"{batch.reason}\n\nbatch {batch.batch_id}")

    def environment_failed(self, reason: str) -> None:
        """Reports a failure of the daemon's surroundings, such as a full disk, that may end without the daemon."""
        if reason not in self._failures_before | self._failures:
            self._log.error("environment.failed", reason=reason)
        self._failures.add(reason)

    def end_tick(self) -> None:
        """Reports the failures of the last tick that this tick did not meet."""
        for reason in self._failures_before - self._failures:
            self._log.info("environment.recovered", reason=reason)
        self._failures_before = self._failures
        self._failures = set()

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

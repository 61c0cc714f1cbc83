"""Tells people: a log line for each change of a batch, an alert where somebody has to look, each trouble once while it lasts."""

from typing import Any

from daemon.batch import Batch, State
from daemon.observe.alerts import Alerts
from daemon.observe.log import Log
from daemon.text import escape

COUNTS = ("rows_read", "rows_accepted", "rows_rejected", "score", "validation_status")


class Report:
    """Remembers the troubles of this tick and the last, so that one that lasts is said once."""

    def __init__(self, log: Log, alerts: Alerts) -> None:
        self._log, self._alerts = log, alerts
        self._troubles: set[str] = set()
        self._before: set[str] = set()

    def change(self, event: str, batch: Batch) -> None:
        """A batch has changed its state."""
        values = self._values(event, batch)
        self._log.write(event, **values)
        if batch.state in (State.REJECTED, State.FAILED):
            date = f" {batch.batch_date}" if batch.batch_date else ""
            self._alerts.send(
                f"Lakegate: {batch.state} {batch.source or batch.trigger}{date}",
                f"{batch.reason}\n\nbatch {batch.batch_id}",
            )

    def trouble(self, sentence: str) -> None:
        """Something around us is not as it should be, and may mend itself."""
        if sentence not in self._before | self._troubles:
            self._log.error("environment.failed", reason=sentence)
        self._troubles.add(sentence)

    def turn(self) -> None:
        """A tick is over."""
        for sentence in self._before - self._troubles:
            self._log.info("environment.recovered", reason=sentence)
        self._before, self._troubles = self._troubles, set()

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
        return values

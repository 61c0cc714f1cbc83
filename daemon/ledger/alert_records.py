"""The alerts of the ledger: which causes have none yet, and which alerts some address has not taken."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from daemon.ledger.live_state import Trouble, to_trouble

_DECIDED_AT = """(
    SELECT coalesce(max(changed_at), batch.received_at) FROM history
    WHERE history.batch_id = batch.batch_id AND event IN ('batch.rejected', 'batch.failed')
)"""


@dataclass(frozen=True, kw_only=True)
class AlertRecord:
    """An alert that some address has not taken."""

    number: int
    source: str
    content: str
    taken_by: tuple[str, ...]


class AlertRecords:
    """The table of alerts, on the connection of the ledger. Every method is one statement, so all of it or nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def batches_without_alert(self) -> list[tuple[str, str]]:
        """Returns, oldest first, the ids of the batches that need a person, and the name of the alert that is due."""
        query = f"""
            SELECT batch_id, batch_id || ' ' || {_DECIDED_AT} AS about
            FROM batch
            WHERE state IN ('REJECTED', 'FAILED') AND dismissed_at IS NULL
                AND NOT EXISTS (SELECT 1 FROM alert WHERE alert.about = batch.batch_id || ' ' || {_DECIDED_AT})
                AND (state = 'FAILED' OR batch_id IN (SELECT batch_id FROM open_rejections))
            ORDER BY batch_seq
        """
        return [(r["batch_id"], r["about"]) for r in self._db.execute(query)]

    def batches_over(self) -> list[str]:
        """Returns the ids of the batches that had an alert and need a person no more, without an alert about that.

        A batch that a person dismissed or abandoned is left out.
        """
        query = """
            SELECT DISTINCT batch_id, batch_seq
            FROM batch JOIN alert ON alert.subject = batch.batch_id
            WHERE dismissed_at IS NULL
                AND NOT EXISTS (SELECT 1 FROM alert AS later WHERE later.about = batch.batch_id || ' over')
                AND (
                    state IN ('PUBLISHED', 'DUPLICATE', 'ARCHIVED')
                    OR (state = 'REJECTED' AND batch_id NOT IN (SELECT batch_id FROM open_rejections))
                )
            ORDER BY batch_seq
        """
        return [r["batch_id"] for r in self._db.execute(query)]

    def troubles_without_alert(self) -> list[Trouble]:
        """Returns the open troubles without an alert, oldest first.

        A trouble with the alerts themselves cannot be sent. A commit of another program is part of the alert about
        the batch that failed because of it, where there is one.
        """
        query = """
            SELECT * FROM trouble
            WHERE ended_at IS NULL AND kind <> 'alerts'
                AND NOT EXISTS (SELECT 1 FROM alert WHERE about = 'trouble ' || trouble.number)
                AND NOT (kind = 'external_commit' AND EXISTS (SELECT 1 FROM alert WHERE subject = trouble.batch_id))
            ORDER BY number
        """
        return [to_trouble(r) for r in self._db.execute(query)]

    def troubles_over(self) -> list[Trouble]:
        """Returns the ended troubles that had an alert, without an alert about their end."""
        query = """
            SELECT trouble.*
            FROM alert JOIN trouble ON alert.about = 'trouble ' || trouble.number
            WHERE trouble.ended_at IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM alert AS later WHERE later.about = alert.about || ' over')
            ORDER BY trouble.number
        """
        return [to_trouble(r) for r in self._db.execute(query)]

    def add(self, about: str, *, subject: str, source: str, content: str, now: str, is_sent: bool = False) -> int:
        """Records an alert. Returns its number; 0 where an alert of this name is on record already."""
        row = self._db.execute(
            "INSERT OR IGNORE INTO alert (about, subject, source, content, created_at, sent_at)"
            " VALUES (?, ?, ?, ?, ?, ?) RETURNING number",
            (about, subject, source, content, now, now if is_sent else None),
        ).fetchall()
        return int(row[0]["number"]) if row else 0

    def unsent(self) -> list[AlertRecord]:
        """Returns the alerts that some address has not taken, oldest first."""
        rows = self._db.execute("SELECT * FROM alert WHERE sent_at IS NULL ORDER BY number")
        return [
            AlertRecord(
                number=r["number"],
                source=r["source"],
                content=r["content"],
                taken_by=tuple(json.loads(r["taken_by"])),
            )
            for r in rows
        ]

    def take(self, number: int, taken_by: Iterable[str], *, sent_at: str | None) -> None:
        """Records the addresses that took an alert, by their keys, and when the last one did."""
        values = (json.dumps(sorted(taken_by)), sent_at, number)
        self._db.execute("UPDATE alert SET taken_by = ?, sent_at = ? WHERE number = ?", values)

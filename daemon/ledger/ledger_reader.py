"""Reads the ledger: batches by id and state, their history, and which of them are due for what. Writes nothing."""

import datetime as dt
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from daemon.batch import OPEN, Batch, BatchFile, State
from daemon.clock import as_text
from daemon.ledger.ledger_rows import to_batch, to_column, to_entry, to_file
from daemon.ledger.ledger_schema import open_for_reading
from daemon.ledger.live_state import Activity, Figure, Trouble, seconds_between, to_activity, to_trouble


class NoSuchBatchError(Exception):
    """No batch, or more than one, has that id."""


class LedgerReader:
    """The reading half of the ledger."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        self._db = connection

    @classmethod
    def reading(cls, path: Path) -> Self:
        """Opens the ledger for reading, safe beside a running daemon; a missing ledger reads as empty."""
        return cls(open_for_reading(path))

    def close(self) -> None:
        self._db.close()

    def batches(self, *states: State) -> list[Batch]:
        """Returns the batches of the given states, or all, newest first."""
        chosen = f"WHERE state IN ({marks(states)})" if states else ""
        return self._load(f"{chosen} ORDER BY batch_seq DESC", states)

    def newest(self, most: int, source: str = "") -> list[Batch]:
        """Returns the newest batches, of one source or of all, newest first."""
        chosen, values = ("WHERE source = ?", (source, most)) if source else ("", (most,))
        return self._load(f"{chosen} ORDER BY batch_seq DESC LIMIT ?", values)

    def newest_of_date(self, source: str) -> Batch | None:
        """Returns the published batch with the newest date of a source, or None."""
        found = self._load(
            "WHERE source = ? AND published_at IS NOT NULL AND duplicate_of = ''"
            " ORDER BY batch_date DESC, batch_seq DESC LIMIT 1",
            (source,),
        )
        return found[0] if found else None

    def batch(self, id_or_prefix: str) -> Batch:
        """Returns the batch whose id, or the part after its dash, begins so; `last` is the newest.

        Raises NoSuchBatchError.
        """
        if id_or_prefix == "last":
            found = self._load("ORDER BY batch_seq DESC LIMIT 1")
        else:
            found = self._load("WHERE batch_id = ?", (id_or_prefix,)) or self._with_prefix(id_or_prefix)
        if len(found) == 1:
            return found[0]
        if not found:
            absent = "there is no batch yet" if id_or_prefix == "last" else f"no batch begins with {id_or_prefix}"
            raise NoSuchBatchError(absent)
        ids = ", ".join(b.batch_id for b in found[:3])
        raise NoSuchBatchError(f"{len(found)} batches begin with {id_or_prefix}: {ids}; give more of the id")

    def has_open(self) -> bool:
        """Whether any batch is on its way."""
        found = self._db.execute(f"SELECT EXISTS (SELECT 1 FROM batch WHERE state IN ({marks(OPEN)}))", OPEN)
        return bool(found.fetchone()[0])

    def counts(self) -> dict[str, int]:
        """Returns the number of batches in each state; states without any are left out."""
        rows = self._db.execute("SELECT state, count(*) AS n FROM batch GROUP BY state ORDER BY state")
        return {r["state"]: r["n"] for r in rows}

    def waiting_for(self) -> list[dict[str, Any]]:
        """Returns, per waiting batch and oldest first, the files that it waits for."""
        waiting = reversed(self.batches(State.WAITING))
        return [
            {
                "batch_id": b.batch_id,
                "trigger": b.trigger,
                "since": b.received_at,
                "files": list(b.waiting_for),
                "reason": b.reason,
            }
            for b in waiting
        ]

    def last_published(self) -> Batch | None:
        found = self._load("WHERE published_at IS NOT NULL ORDER BY published_at DESC, batch_seq DESC LIMIT 1")
        return found[0] if found else None

    def last_of_date(self, source: str, batch_date: dt.date | None) -> Batch | None:
        """Returns the batch of a source and date that was published last."""
        where = "WHERE source = ? AND batch_date = ? AND published_at IS NOT NULL"
        found = self._load(f"{where} ORDER BY published_at DESC LIMIT 1", (source, to_column(batch_date)))
        return found[0] if found else None

    def history(self, batch_id: str) -> list[dict[str, str]]:
        """Returns the state changes of a batch, oldest first: changed_at, event, state, reason."""
        query = "SELECT changed_at, event, state, reason FROM history WHERE batch_id = ? ORDER BY rowid"
        return [dict(r) for r in self._db.execute(query, (batch_id,))]

    def next_ready(self) -> list[Batch]:
        """Returns per source the ready batch whose turn it is: oldest batch date, then revision, then arrival."""
        return self._load_view("next_ready")

    def ready_duplicates(self) -> list[tuple[str, str]]:
        """Returns the ids of ready batches whose content is published, each with the id of the published batch."""
        return [(r["batch_id"], r["published_id"]) for r in self._db.execute("SELECT * FROM ready_duplicates")]

    def awaiting_archive(self) -> list[Batch]:
        """Returns the decided batches whose files are still in the claim folder, oldest first."""
        return self._load_view("awaiting_archive")

    def awaiting_hook(self) -> list[Batch]:
        """Returns the published batches whose on_published command has not ended, oldest first."""
        return self._load_view("awaiting_hook")

    def open_rejections(self) -> list[Batch]:
        """Returns the rejected batches that still need a person, oldest first: neither dismissed nor resolved.

        A rejection is resolved when later batches of its source and date have published all feeds of its files.
        """
        return self._load_view("open_rejections")

    def troubles(self, *, ended: bool = False) -> list[Trouble]:
        """Returns the open troubles, oldest first; with `ended` those that are over, newest first."""
        where = "IS NOT NULL ORDER BY ended_at DESC, number DESC" if ended else "IS NULL ORDER BY number"
        return [to_trouble(r) for r in self._db.execute(f"SELECT * FROM trouble WHERE ended_at {where}")]

    def activity(self) -> Activity | None:
        """Returns the work on the running batch; None where no batch is running."""
        row = self._db.execute(
            "SELECT activity.* FROM activity JOIN batch USING (batch_id) WHERE batch.state = 'RUNNING'"
        ).fetchone()
        return to_activity(row) if row else None

    def figures(self) -> dict[Figure, float]:
        """Returns the figures that the daemon recorded last."""
        rows = self._db.execute("SELECT kind, source, name, value FROM daemon_figure")
        return {Figure(r["kind"], r["source"], r["name"]): r["value"] for r in rows}

    def gold_shows(self) -> list[dict[str, str]]:
        """Returns, per published source, its newest batch date and its last publication; the freshest source first."""
        query = """
            SELECT source, max(batch_date) AS batch_date, max(published_at) AS published_at
            FROM batch WHERE published_at IS NOT NULL GROUP BY source ORDER BY max(published_at) DESC
        """
        return [dict(r) for r in self._db.execute(query)]

    def figures_since(self, moment: dt.datetime) -> dict[str, int]:
        """Returns the number of batches that were published, rejected or failed since then, and the published rows."""
        since = as_text(moment)
        counts = dict.fromkeys(("published", "rejected", "failed", "rows_read", "rows_rejected"), 0)
        query = """
            SELECT event, count(DISTINCT batch_id) AS n FROM history
            WHERE changed_at >= ? AND event IN ('batch.published', 'batch.rejected', 'batch.failed') GROUP BY event
        """
        counts |= {r["event"].removeprefix("batch."): r["n"] for r in self._db.execute(query, (since,))}
        query = """
            SELECT coalesce(sum(json_extract(result, '$.rows_read')), 0) AS rows_read,
                coalesce(sum(json_extract(result, '$.rows_rejected')), 0) AS rows_rejected
            FROM batch WHERE published_at >= ? AND result IS NOT NULL
        """
        return counts | dict(self._db.execute(query, (since,)).fetchone())

    def fingerprints(self) -> dict[str, str]:
        """Returns, per published source, the fingerprint of its newest batch; '' where the ledger does not have it."""
        query = """
            WITH newest AS (
                SELECT source, batch_id, max(published_at) FROM batch WHERE published_at IS NOT NULL GROUP BY source
            )
            SELECT source, coalesce(json_extract(result, '$.fingerprint'), '') AS fingerprint
            FROM newest JOIN batch USING (source, batch_id)
        """
        return {r["source"]: r["fingerprint"] for r in self._db.execute(query)}

    def usual_seconds(self, source: str) -> float | None:
        """Returns the median time from start to publication of the source's last batches; None without any."""
        query = """
            SELECT max(iif(event = 'batch.started', changed_at, '')) AS started,
                max(iif(event = 'batch.published', changed_at, '')) AS published
            FROM history
            WHERE batch_id IN (
                SELECT batch_id FROM batch WHERE source = ? AND published_at IS NOT NULL
                ORDER BY published_at DESC LIMIT 20
            )
            GROUP BY batch_id
        """
        rows = self._db.execute(query, (source,)).fetchall()
        times = sorted(seconds_between(r["started"], r["published"]) for r in rows if r["started"] and r["published"])
        return times[len(times) // 2] if times else None

    def batch_that_took(self, name: str, *, other_than: str) -> str:
        """Returns the newest other batch that took a file of this name, or ''."""
        row = self._db.execute(
            "SELECT f.batch_id FROM file f JOIN batch b USING (batch_id)"
            " WHERE f.name = ? AND f.kind = 'data' AND f.sha256 <> '' AND f.batch_id <> ?"
            " ORDER BY b.batch_seq DESC LIMIT 1",
            (to_column(name), other_than),
        ).fetchone()
        return row["batch_id"] if row else ""

    def batches_of_date(self, source: str, batch_date: dt.date, *, other_than: str) -> list[Batch]:
        """Returns the other batches of a date whose rows count, oldest first: without rejected ones and duplicates."""
        return self._load(
            "WHERE source = ? AND batch_date = ? AND batch_id <> ? AND state <> 'REJECTED' AND duplicate_of = ''"
            " ORDER BY batch_seq",
            (source, batch_date.isoformat(), other_than),
        )

    def moving_triggers(self) -> set[tuple[str, int]]:
        """Returns name and inode of the trigger files that belong to a batch and could not be moved yet."""
        rows = self._db.execute("SELECT name, inode FROM file WHERE kind = 'trigger' AND state = 'MOVING'")
        return {to_entry(r) for r in rows}

    def has(self, batch_id: str) -> bool:
        return self._db.execute("SELECT 1 FROM batch WHERE batch_id = ?", (batch_id,)).fetchone() is not None

    def data_version(self) -> int:
        """Returns a number that changes when another process has written."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    # ---- details

    def _with_prefix(self, prefix: str) -> list[Batch]:
        if not prefix:
            return []
        begins = "instr(batch_id, ?) = 1 OR instr(substr(batch_id, instr(batch_id, '-') + 1), ?) = 1"
        return self._load(f"WHERE {begins} ORDER BY batch_seq DESC", (prefix, prefix))

    def _load_view(self, view: str) -> list[Batch]:
        return self._load(f"WHERE batch_id IN (SELECT batch_id FROM {view}) ORDER BY batch_seq")

    def _load(self, where: str, values: Sequence[Any] = ()) -> list[Batch]:
        # one read transaction, or a writer could change the files between the two statements
        is_own = not self._db.in_transaction
        if is_own:
            self._db.execute("BEGIN")
        try:
            rows = self._db.execute(f"SELECT * FROM batch {where}", tuple(values)).fetchall()
            chosen = f"SELECT * FROM file WHERE batch_id IN (SELECT batch_id FROM batch {where})"
            files: dict[str, list[BatchFile]] = {}
            for f in self._db.execute(f"{chosen} ORDER BY batch_id, number", tuple(values)):
                files.setdefault(f["batch_id"], []).append(to_file(f))
            return [to_batch(r, files.get(r["batch_id"], [])) for r in rows]
        finally:
            if is_own:
                self._db.execute("COMMIT")


def marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))

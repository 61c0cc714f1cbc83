"""The durable record of batches (SQLite). Decides nothing; every change of state goes through `move`."""

import datetime as dt
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from daemon.batch import TRANSITIONS, Batch, BatchFile, State
from daemon.clock import Clock, as_text
from daemon.ledger.alert_records import AlertRecords
from daemon.ledger.ledger_reader import LedgerReader, marks
from daemon.ledger.ledger_rows import to_column, to_file_columns
from daemon.ledger.ledger_schema import open_for_writing
from daemon.ledger.live_state import Activity, Figure, Trouble, to_activity_columns, to_trouble
from daemon.ledger.rejection_end import ABANDONED
from daemon.text import one_line

KEEP_TROUBLES = dt.timedelta(weeks=8)  # after their end


class TransitionError(ValueError):
    """A batch cannot change to that state; the message says from which and to which."""


OnChange = Callable[[str, Batch], None]  # event name, the batch after the change


class Ledger(LedgerReader):
    """The ledger, opened by the daemon and by `retry` for writing (`open`), by all other verbs for reading."""

    def __init__(
        self, connection: sqlite3.Connection, clock: Clock | None = None, on_change: OnChange | None = None
    ) -> None:
        super().__init__(connection)
        self._clock = clock or Clock()
        self._on_change = on_change

    @classmethod
    def open(
        cls,
        path: Path,
        clock: Clock | None = None,
        on_change: OnChange | None = None,
        *,
        wait_seconds: float = 10,
    ) -> Self:
        """Opens, creates or upgrades the ledger for writing. Raises SetupError, and LedgerOutOfReach."""
        return cls(open_for_writing(path, wait_seconds), clock, on_change)

    # ---- writing

    def new_id(self) -> str:
        """Returns a batch id that is not taken: short, and sorted by time."""
        now = self._clock.now().astimezone(dt.UTC)
        while True:
            # Three digits are the fraction of the second and three are random: ids sort by time, and two of one
            # millisecond differ.
            fraction = now.microsecond * 4096 // 1_000_000
            batch_id = f"{now:%Y%m%dT%H%M%S}-{fraction:03x}{secrets.randbelow(4096):03x}"
            if not self.has(batch_id):
                return batch_id

    def receive(
        self, batch_id: str, *, trigger: str, files: Sequence[BatchFile], source: str = "", **columns: Any
    ) -> Batch:
        """Records a new batch with every file that it expects or is about to move."""
        with self._transaction():
            batch = self._receive(batch_id, trigger, files, source=source, **columns)
        self._notify("batch.received", batch)
        return batch

    def refuse(self, batch_id: str, *, trigger: str, files: Sequence[BatchFile], reason: str) -> Batch:
        """Records a new batch that is rejected at once.

        It is one transaction: a kill between two would leave a batch that waits for nothing.
        """
        with self._transaction():
            received = self._receive(batch_id, trigger, files)
            rejected = self._move(batch_id, State.REJECTED, "batch.rejected", reason)
        self._notify("batch.received", received)
        self._notify("batch.rejected", rejected)
        return rejected

    def move(self, batch_id: str, to: State, event: str, reason: str = "", **columns: Any) -> Batch:
        """Changes the state of a batch: row, history and log line. `columns` change in the same transaction.

        Raises TransitionError for a change that batch.py does not allow.
        """
        with self._transaction():
            batch = self._move(batch_id, to, event, reason, **columns)
        self._notify(event, batch)
        return batch

    def update(self, batch_id: str, **columns: Any) -> None:
        """Changes columns other than the state."""
        if "state" in columns:
            raise ValueError("a state is changed by `move`")
        with self._transaction():
            self._update(batch_id, columns)

    def update_files(self, batch_id: str, files: Iterable[BatchFile]) -> None:
        """Records what is, or is about to be, true of these files; all or nothing."""
        with self._transaction():
            for f in files:
                values = to_file_columns(f)
                number = values.pop("number")
                assigned = f"UPDATE file SET {_assignments(values)} WHERE batch_id = ? AND number = ?"
                self._db.execute(assigned, (*values.values(), batch_id, number))

    def retry(self, batch_id: str) -> Batch:
        """Gives a failed batch all its attempts again.

        Raises NoSuchBatchError, or ValueError where the batch has not failed.
        """
        batch = self._require_failed(batch_id, "retried")
        return self.move(
            batch.batch_id, State.READY, "batch.retried", attempts=0, worker_crashes=0, next_attempt_at=None
        )

    def abandon(self, batch_id: str) -> Batch:
        """Rejects a failed batch: the daemon moves its files into rejected/.

        Raises NoSuchBatchError, or ValueError where the batch has not failed.
        """
        batch = self._require_failed(batch_id, "abandoned")
        reason = f"{ABANDONED} {batch.reason}"
        now = self._clock.text()  # the person who abandons a batch needs no reminder of it
        return self.move(batch.batch_id, State.REJECTED, "batch.rejected", reason, dismissed_at=now)

    def dismiss(self, batch_id: str) -> Batch:
        """Takes a rejected batch from the list of batches that need a person. Its state stays the same.

        Raises NoSuchBatchError, or ValueError where the batch is not rejected.
        """
        batch = self.batch(batch_id)
        if batch.state != State.REJECTED:
            raise ValueError(f"batch {batch.batch_id} is {batch.state}; only a REJECTED batch can be dismissed")
        with self._transaction():
            self._update(batch.batch_id, {"dismissed_at": self._clock.text()})
            self._add_history(batch.batch_id, "batch.dismissed", State.REJECTED, "")
        batch = self.batch(batch.batch_id)
        self._notify("batch.dismissed", batch)
        return batch

    # ---- live state

    def open_trouble(
        self, kind: str, subject: str, reason: str, *, cure: str = "", source: str = "", batch_id: str = ""
    ) -> Trouble:
        """Records a trouble. Where it is open already, this is one more try with the newest reason and cure."""
        now = self._clock.text()
        values = {"reason": one_line(reason), "cure": cure, "source": source, "batch_id": batch_id, "last_at": now}
        with self._transaction():
            known = self._open_troubles(kind, subject)
            if known:
                changed = f"{_assignments(values)}, tries = tries + 1"
                self._db.execute(f"UPDATE trouble SET {changed} WHERE number = ?", (*values.values(), known[0].number))
            else:
                self._insert("trouble", {"kind": kind, "subject": subject, "since": now, **values})
            [trouble] = self._open_troubles(kind, subject)
        return trouble

    def end_trouble(self, kind: str, subject: str) -> Trouble | None:
        """Records that a trouble is over. Returns it; None where no such trouble is open.

        Troubles that ended long ago are removed.
        """
        if not self._open_troubles(kind, subject):
            return None
        with self._transaction():
            now = self._clock.text()
            self._db.execute("DELETE FROM trouble WHERE ended_at < ?", (as_text(self._clock.now() - KEEP_TROUBLES),))
            changed = "UPDATE trouble SET ended_at = ? WHERE kind = ? AND subject = ? AND ended_at IS NULL RETURNING *"
            return next((to_trouble(r) for r in self._db.execute(changed, (now, kind, subject)).fetchall()), None)

    def set_activity(self, activity: Activity | None) -> None:
        """Records the work on the running batch; None where no batch runs. A power cut may lose this record."""
        with self._quick_transaction():
            self._db.execute("DELETE FROM activity")
            if activity:
                self._insert("activity", to_activity_columns(activity))

    def set_figures(self, figures: Mapping[Figure, float]) -> None:
        """Records the figures of the daemon in place of the earlier ones. A power cut may lose them."""
        with self._quick_transaction():
            self._db.execute("DELETE FROM daemon_figure")
            rows = [(*figure, value) for figure, value in figures.items()]
            self._db.executemany("INSERT INTO daemon_figure (kind, source, name, value) VALUES (?, ?, ?, ?)", rows)

    def alert_records(self) -> AlertRecords:
        """Returns the alerts of this ledger."""
        return AlertRecords(self._db)

    # ---- details

    def _receive(
        self, batch_id: str, trigger: str, files: Sequence[BatchFile], source: str = "", **columns: Any
    ) -> Batch:
        values = {"batch_id": batch_id, "source": source, "state": State.WAITING, "trigger": trigger, **columns}
        self._insert("batch", {**values, "received_at": self._clock.text()})
        for f in files:
            self._insert("file", {"batch_id": batch_id, **to_file_columns(f)})
        self._add_history(batch_id, "batch.received", State.WAITING, "")
        return self.batch(batch_id)

    def _move(self, batch_id: str, to: State, event: str, reason: str, **columns: Any) -> Batch:
        before = self.batch(batch_id).state
        if to not in TRANSITIONS[before]:
            raise TransitionError(f"batch {batch_id} is {before} and cannot become {to}")
        self._update(batch_id, {"state": to, "reason": one_line(reason), **columns})
        self._add_history(batch_id, event, to, one_line(reason))
        return self.batch(batch_id)

    def _notify(self, event: str, batch: Batch) -> None:
        if self._on_change:
            self._on_change(event, batch)

    def _open_troubles(self, kind: str, subject: str) -> list[Trouble]:
        query = "SELECT * FROM trouble WHERE kind = ? AND subject = ? AND ended_at IS NULL"
        return [to_trouble(r) for r in self._db.execute(query, (kind, subject))]

    def _require_failed(self, batch_id: str, verb: str) -> Batch:
        batch = self.batch(batch_id)
        if batch.state != State.FAILED:
            raise ValueError(f"batch {batch.batch_id} is {batch.state}; only a FAILED batch can be {verb}")
        return batch

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _quick_transaction(self) -> Iterator[None]:
        self._db.execute("PRAGMA synchronous = NORMAL")  # no wait for the disk, some times a second
        try:
            with self._transaction():
                yield
        finally:
            self._db.execute("PRAGMA synchronous = FULL")

    def _insert(self, table: str, values: Mapping[str, Any]) -> None:
        row = [to_column(v) for v in values.values()]
        self._db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks(row)})", row)

    def _update(self, batch_id: str, values: Mapping[str, Any]) -> None:
        row = (*(to_column(v) for v in values.values()), batch_id)
        self._db.execute(f"UPDATE batch SET {_assignments(values)} WHERE batch_id = ?", row)

    def _add_history(self, batch_id: str, event: str, state: State, reason: str) -> None:
        values = {"batch_id": batch_id, "changed_at": self._clock.text(), "event": event, "state": state}
        self._insert("history", {**values, "reason": reason})


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{column} = ?" for column in values)

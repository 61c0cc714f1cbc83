"""The durable record of batches and their state changes (SQLite). Decides nothing; every state change goes through `move`."""

import datetime as dt
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemon.batch import OPEN, Batch, BatchFile, FileState, State
from daemon.clock import Clock, as_text
from daemon.text import sentence

VERSION = 3
# What brings an older ledger to the next version; a new one is made as ledger.sql says.
UPGRADES = {
    1: "ALTER TABLE file ADD COLUMN packed_sha256 TEXT NOT NULL DEFAULT ''; ALTER TABLE file ADD COLUMN packed_bytes INTEGER NOT NULL DEFAULT 0;",
    2: "ALTER TABLE batch ADD COLUMN notes TEXT NOT NULL DEFAULT '[]'; ALTER TABLE file ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;"
    " CREATE INDEX batch_of_date ON batch (source, batch_date);",
}
SCHEMA = Path(__file__).with_name("ledger.sql")


# What sqlite3 says where the ledger itself is well and the disk, its rights or another process is in the way.
OUT_OF_REACH = (
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)


class LedgerError(Exception):
    """The ledger stays useless until a person acts; the message says which file, why, and what to do."""


class LedgerOutOfReach(OSError):
    """The ledger cannot be opened now, and may be later; the message says which file, why, and what to do."""


class NoSuchBatchError(Exception):
    """No batch, or more than one, answers to that id."""


Watcher = Callable[[str, Batch], None]  # event name, the batch as it is now


class Ledger:
    """Opened by the daemon and by `retry` for writing (`Ledger.opened`), by everyone else for reading (`Ledger.reading`)."""

    def __init__(
        self, connection: sqlite3.Connection, clock: Clock | None = None, on_change: Watcher | None = None
    ) -> None:
        connection.row_factory = sqlite3.Row
        self._db = connection
        self._clock = clock or Clock()
        self._on_change = on_change

    @classmethod
    def opened(
        cls,
        path: Path,
        clock: Clock | None = None,
        on_change: Watcher | None = None,
        *,
        wait_seconds: float = 10,
    ) -> "Ledger":
        """Opens, or creates, the ledger for writing. Raises LedgerError, and LedgerOutOfReach."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with _explained(path):
            db = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None)
            version = _version(db, path)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            if version == 0:
                db.executescript(f"BEGIN IMMEDIATE; {SCHEMA.read_text()} PRAGMA user_version = {VERSION}; COMMIT;")
            for older in range(version or VERSION, VERSION):
                db.executescript(f"BEGIN IMMEDIATE; {UPGRADES[older]} PRAGMA user_version = {older + 1}; COMMIT;")
            db.execute("SELECT 1 FROM batch LIMIT 1")  # it might be another program's database
            return cls(db, clock, on_change)

    @classmethod
    def reading(cls, path: Path) -> "Ledger":
        """Opens the ledger for reading, safe beside a running daemon; a ledger that is not there yet reads as empty."""
        with _explained(path):
            if path.exists():
                db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None)
                if _version(db, path):
                    db.execute("SELECT count(*) FROM batch").fetchone()
                    return cls(db)
                db.close()  # a daemon is just creating it
            empty = sqlite3.connect(":memory:", isolation_level=None)
            empty.executescript(SCHEMA.read_text())
            return cls(empty)

    def close(self) -> None:
        self._db.close()

    # ---- reading

    def batches(self, *states: State) -> list[Batch]:
        """Newest first; of the given states, or all."""
        chosen = f"WHERE state IN ({', '.join('?' * len(states))})" if states else ""
        return self._load(f"{chosen} ORDER BY batch_seq DESC", states)

    def batch(self, id_or_prefix: str) -> Batch:
        """The batch with that id, or whose id (or its part after the dash) begins so; `last` is the newest. Raises NoSuchBatchError."""
        if id_or_prefix == "last":
            found = self._load("ORDER BY batch_seq DESC LIMIT 1")
        else:
            exact = self._load("WHERE batch_id = ?", (id_or_prefix,))
            starts = "WHERE instr(batch_id, ?) = 1 OR instr(substr(batch_id, instr(batch_id, '-') + 1), ?) = 1 ORDER BY batch_seq DESC"
            found = exact or (self._load(starts, (id_or_prefix, id_or_prefix)) if id_or_prefix else [])
        if len(found) == 1:
            return found[0]
        if not found:
            raise NoSuchBatchError(
                "there is no batch yet" if id_or_prefix == "last" else f"no batch begins with {id_or_prefix}"
            )
        raise NoSuchBatchError(
            f"{len(found)} batches begin with {id_or_prefix}: {', '.join(b.batch_id for b in found[:3])}; give more of the id"
        )

    def has_open(self) -> bool:
        """Whether any batch is on its way."""
        marks = ", ".join("?" * len(OPEN))
        return bool(
            self._db.execute(f"SELECT EXISTS (SELECT 1 FROM batch WHERE state IN ({marks}))", OPEN).fetchone()[0]
        )

    def counts(self) -> dict[str, int]:
        """How many batches are in each state; states without any are left out."""
        return {
            r["state"]: r["n"]
            for r in self._db.execute("SELECT state, count(*) AS n FROM batch GROUP BY state ORDER BY state")
        }

    def waiting_for(self) -> list[dict[str, Any]]:
        """Per waiting batch, oldest first: what it waits for."""
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

    def history(self, batch_id: str) -> list[dict[str, str]]:
        """The state changes of a batch, oldest first: changed_at, event, state, reason."""
        return [
            dict(r)
            for r in self._db.execute(
                "SELECT changed_at, event, state, reason FROM history WHERE batch_id = ? ORDER BY rowid", (batch_id,)
            )
        ]

    def heads(self) -> list[Batch]:
        """Per source the ready batch whose turn it is: oldest batch date, then revision, then arrival."""
        return self._load(
            "WHERE batch_id IN (SELECT batch_id FROM (SELECT batch_id, row_number() OVER"
            " (PARTITION BY source ORDER BY batch_date, revision, batch_seq) AS place FROM batch WHERE state = 'READY' AND duplicate_of = '')"
            " WHERE place = 1) ORDER BY batch_seq"
        )

    def ready_twins(self) -> list[tuple[str, str]]:
        """(batch id, id of the published batch with the same content) of ready batches that have one."""
        rows = self._db.execute(
            "SELECT mine.batch_id AS batch_id, min(other.batch_id) AS twin FROM batch mine JOIN batch other USING (identity)"
            " WHERE mine.state = 'READY' AND mine.duplicate_of = '' AND mine.identity <> '' AND other.batch_id <> mine.batch_id"
            " AND other.published_at IS NOT NULL AND other.duplicate_of = '' GROUP BY mine.batch_id"
        )
        return [(r["batch_id"], r["twin"]) for r in rows]

    def taken_by(self, name: str, but: str) -> str:
        """The newest other batch that took a file of this name, or ''."""
        row = self._db.execute(
            "SELECT f.batch_id FROM file f JOIN batch b USING (batch_id) WHERE f.name = ? AND f.kind = 'data' AND f.sha256 <> '' AND f.batch_id <> ?"
            " ORDER BY b.batch_seq DESC LIMIT 1",
            (_stored(name), but),
        ).fetchone()
        return row["batch_id"] if row else ""

    def brought_for(self, source: str, batch_date: dt.date, but: str) -> list[Batch]:
        """Returns the other batches of a date, oldest first, that have brought files; those rejected and duplicates have not."""
        return self._load(
            "WHERE source = ? AND batch_date = ? AND batch_id <> ? AND state <> 'REJECTED' AND duplicate_of = '' ORDER BY batch_seq",
            (source, batch_date.isoformat(), but),
        )

    def to_put_away(self) -> list[Batch]:
        """Batches whose verdict stands and whose files do not yet stand where they end, oldest first."""
        return self._load(
            "WHERE is_put_away = 0 AND (state IN ('PUBLISHED', 'ARCHIVED', 'REJECTED') OR duplicate_of <> '') ORDER BY batch_seq"
        )

    def to_announce(self) -> list[Batch]:
        return self._load(
            "WHERE is_announced = 0 AND published_at IS NOT NULL AND duplicate_of = '' ORDER BY batch_seq"
        )

    def triggers_on_their_way(self) -> set[tuple[str, int]]:
        """(name, inode) of trigger files that already belong to a batch and could not be moved yet."""
        moving = self._db.execute("SELECT name, inode FROM file WHERE kind = 'trigger' AND state = 'MOVING'")
        return {(_named(r["name"]), _unsigned(r["inode"])) for r in moving}

    def knows(self, batch_id: str) -> bool:
        return self._db.execute("SELECT 1 FROM batch WHERE batch_id = ?", (batch_id,)).fetchone() is not None

    def data_version(self) -> int:
        """Changes when another process has written."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    # ---- writing

    def new_id(self) -> str:
        """A batch id that is not taken: short, and sorting by time."""
        now = self._clock.now().astimezone(dt.UTC)
        while True:
            # three digits of the second's fraction, three of chance: sorts by time and still differs within a millisecond
            batch_id = f"{now:%Y%m%dT%H%M%S}-{now.microsecond * 4096 // 1_000_000:03x}{secrets.randbelow(4096):03x}"
            if not self.knows(batch_id):
                return batch_id

    def receive(
        self, batch_id: str, *, trigger: str, files: Sequence[BatchFile], source: str = "", **columns: Any
    ) -> Batch:
        """Writes down a new batch with all that it expects and all that is about to move."""
        with self._transaction():
            batch = self._received(batch_id, trigger, files, source=source, **columns)
        self._tell("batch.received", batch)
        return batch

    def refuse(self, batch_id: str, *, trigger: str, files: Sequence[BatchFile], reason: str) -> Batch:
        """Writes down a new batch that is rejected as it comes.

        It is one step: a kill between two would leave a batch that waits for nothing.
        """
        with self._transaction():
            received = self._received(batch_id, trigger, files)
            rejected = self._moved(batch_id, State.REJECTED, "batch.rejected", reason)
        self._tell("batch.received", received)
        self._tell("batch.rejected", rejected)
        return rejected

    def move(self, batch_id: str, to: State, event: str, reason: str = "", **columns: Any) -> Batch:
        """The one way a batch changes its state: row, history and log line. `columns` change in the same transaction."""
        with self._transaction():
            batch = self._moved(batch_id, to, event, reason, **columns)
        self._tell(event, batch)
        return batch

    def note(self, batch_id: str, **columns: Any) -> None:
        """Changes columns that are no state."""
        with self._transaction():
            self._update(batch_id, columns)

    def note_files(self, batch_id: str, files: Iterable[BatchFile]) -> None:
        """Writes down what is, or is about to be, true of these files; all or nothing."""
        with self._transaction():
            for f in files:
                values = _file_values(f)
                number = values.pop("number")
                self._db.execute(
                    f"UPDATE file SET {_assigned(values)} WHERE batch_id = ? AND number = ?",
                    (*values.values(), batch_id, number),
                )

    def retry(self, batch_id: str) -> Batch:
        """A failed batch gets all its attempts anew. Raises NoSuchBatchError, or ValueError where it has not failed."""
        batch = self._failed(batch_id, "retried")
        return self.move(batch.batch_id, State.READY, "batch.retried", attempts=0, deaths=0, next_attempt_at=None)

    def abandon(self, batch_id: str) -> Batch:
        """A failed batch is given up: the daemon puts its files into rejected/. Raises NoSuchBatchError, or ValueError where it has not failed."""
        batch = self._failed(batch_id, "abandoned")
        return self.move(batch.batch_id, State.REJECTED, "batch.rejected", f"abandoned after: {batch.reason}")

    # ---- details

    def _received(
        self,
        batch_id: str,
        trigger: str,
        files: Sequence[BatchFile],
        source: str = "",
        **columns: Any,
    ) -> Batch:
        values = {"batch_id": batch_id, "source": source, "state": State.WAITING, "trigger": trigger, **columns}
        self._insert("batch", {**values, "received_at": self._clock.text()})
        for f in files:
            self._insert("file", {"batch_id": batch_id, **_file_values(f)})
        self._note_history(batch_id, "batch.received", State.WAITING, "")
        return self.batch(batch_id)

    def _moved(self, batch_id: str, to: State, event: str, reason: str, **columns: Any) -> Batch:
        self._update(batch_id, {"state": to, "reason": sentence(reason), **columns})
        self._note_history(batch_id, event, to, sentence(reason))
        return self.batch(batch_id)

    def _tell(self, event: str, batch: Batch) -> None:
        if self._on_change:
            self._on_change(event, batch)

    def _failed(self, batch_id: str, verb: str) -> Batch:
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

    def _insert(self, table: str, values: Mapping[str, Any]) -> None:
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", [_stored(v) for v in values.values()])

    def _update(self, batch_id: str, values: Mapping[str, Any]) -> None:
        self._db.execute(
            f"UPDATE batch SET {_assigned(values)} WHERE batch_id = ?",
            (*(_stored(v) for v in values.values()), batch_id),
        )

    def _note_history(self, batch_id: str, event: str, state: State, reason: str) -> None:
        self._insert(
            "history",
            {"batch_id": batch_id, "changed_at": self._clock.text(), "event": event, "state": state, "reason": reason},
        )

    def _load(self, where: str, values: Sequence[Any] = ()) -> list[Batch]:
        # one read transaction, or a writer could change the files between the two statements
        began = not self._db.in_transaction
        if began:
            self._db.execute("BEGIN")
        try:
            rows = self._db.execute(f"SELECT * FROM batch {where}", tuple(values)).fetchall()
            chosen = (
                f"SELECT * FROM file WHERE batch_id IN (SELECT batch_id FROM batch {where}) ORDER BY batch_id, number"
            )
            files: dict[str, list[BatchFile]] = {}
            for f in self._db.execute(chosen, tuple(values)):
                files.setdefault(f["batch_id"], []).append(_file(f))
            return [_batch(r, files.get(r["batch_id"], [])) for r in rows]
        finally:
            if began:
                self._db.execute("COMMIT")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in OUT_OF_REACH:
            advice = f"see to room and rights in {path.parent}, then start again"
            raise LedgerOutOfReach(f"the ledger {path} cannot be opened now ({error}); {advice}") from error
        advice = "move it away and start again: published batches are known to the lake and are not doubled"
        raise LedgerError(
            f"the ledger {path} cannot be read ({error}); restore it from a backup, or {advice}"
        ) from error


def _version(db: sqlite3.Connection, path: Path) -> int:
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise LedgerError(
            f"the ledger {path} was written by a newer Lakegate (version {found}, this one knows {VERSION}); install that version again"
        )
    return found


def _assigned(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{column} = ?" for column in values)


def _stored(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return as_text(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, dict | list | tuple):
        return json.dumps(value)
    if isinstance(value, str):
        # SQLite takes no lone surrogates: a name that is not UTF-8 goes in as its bytes
        return str(value) if value.isascii() or _is_utf8(value) else os.fsencode(value)
    return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _file_values(f: BatchFile) -> dict[str, Any]:
    values = {
        "number": f.number,
        "kind": f.kind,
        "name": f.name,
        "feed": f.feed,
        "state": f.state,
        "folder": f.folder,
        "opaque": f.opaque,
    }
    seen = {"inode": _signed(f.inode), "sha256": f.sha256, "bytes": f.bytes, "revision": f.revision}
    seen |= {"packed_sha256": f.packed_sha256, "packed_bytes": f.packed_bytes}
    return {k: _stored(v) for k, v in {**values, **seen}.items()}


def _named(value: str | bytes) -> str:
    return os.fsdecode(value)


def _signed(inode: int) -> int:
    # some file systems use all 64 bits of it, and an integer of SQLite has a sign
    return inode - (1 << 64) if inode >> 63 else inode


def _unsigned(inode: int) -> int:
    return inode + (1 << 64) if inode < 0 else inode


def _file(row: sqlite3.Row) -> BatchFile:
    values = {k: row[k] for k in ("number", "kind", "feed", "opaque", "sha256", "bytes")}
    values["inode"] = _unsigned(row["inode"])
    # An older ledger may be read before a daemon has opened it.
    values |= {k: row[k] for k in ("packed_sha256", "packed_bytes", "revision") if k in row.keys()}  # noqa: SIM118 - a Row is no mapping
    return BatchFile(**values, name=_named(row["name"]), folder=_named(row["folder"]), state=FileState(row["state"]))


def _batch(row: sqlite3.Row, files: list[BatchFile]) -> Batch:
    plain = (
        "batch_id",
        "source",
        "reason",
        "trigger",
        "attempts",
        "deaths",
        "received_at",
        "published_at",
        "archived_at",
        "next_attempt_at",
    )
    return Batch(
        **{k: row[k] for k in (*plain, "identity", "duplicate_of", "revision")},
        batch_date=dt.date.fromisoformat(row["batch_date"]) if row["batch_date"] else None,
        state=State(row["state"]),
        snapshot=tuple(json.loads(row["snapshot"])),
        rows=json.loads(row["rows"]),
        checksums=json.loads(row["checksums"]),
        waiting_for=tuple(json.loads(row["waiting_for"])),
        notes=tuple(json.loads(row["notes"])) if "notes" in row.keys() else (),  # noqa: SIM118 - a Row is no mapping
        result=json.loads(row["result"]) if row["result"] else None,
        is_put_away=bool(row["is_put_away"]),
        is_announced=bool(row["is_announced"]),
        all_files=tuple(files),
    )

"""Opens the SQLite file of the ledger: creates its tables, brings an older one to this version, explains errors."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.contract import SetupError

VERSION = 5
SCHEMA = Path(__file__).with_name("ledger.sql")
VIEWS = Path(__file__).with_name("ledger_views.sql")

# Each step brings a ledger of that version to the next one. A new ledger is created from ledger.sql.
UPGRADES = {
    1: """
        ALTER TABLE file ADD COLUMN packed_sha256 TEXT NOT NULL DEFAULT '';
        ALTER TABLE file ADD COLUMN packed_bytes INTEGER NOT NULL DEFAULT 0;
    """,
    2: """
        ALTER TABLE batch ADD COLUMN notes TEXT NOT NULL DEFAULT '[]';
        ALTER TABLE file ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX batch_of_date ON batch (source, batch_date);
    """,
    # SQLite cannot change a CHECK: the states move to a new column that allows the new ones.
    3: """
        DROP INDEX batch_state; DROP INDEX batch_to_put_away; DROP INDEX batch_to_announce; DROP INDEX file_moving;
        ALTER TABLE batch RENAME COLUMN state TO old_state;
        ALTER TABLE batch ADD COLUMN state TEXT NOT NULL DEFAULT 'WAITING' CHECK (state IN (
            'WAITING', 'READY', 'RUNNING', 'PUBLISHED', 'DUPLICATE', 'ARCHIVED', 'REJECTED', 'FAILED'
        ));
        UPDATE batch SET state = iif(old_state = 'READY' AND duplicate_of <> '', 'DUPLICATE', old_state);
        ALTER TABLE batch DROP COLUMN old_state;
        ALTER TABLE batch RENAME COLUMN deaths TO worker_crashes;
        ALTER TABLE batch RENAME COLUMN is_put_away TO is_archived;
        ALTER TABLE batch RENAME COLUMN is_announced TO hook_done;
        CREATE INDEX batch_state ON batch (state);
        CREATE INDEX batch_awaiting_archive ON batch (batch_seq) WHERE is_archived = 0;
        CREATE INDEX batch_awaiting_hook ON batch (batch_seq) WHERE hook_done = 0 AND published_at IS NOT NULL;
        ALTER TABLE file RENAME COLUMN state TO old_state;
        ALTER TABLE file ADD COLUMN state TEXT NOT NULL DEFAULT 'EXPECTED' CHECK (state IN (
            'EXPECTED', 'MOVING', 'CLAIMED', 'RETURNED', 'ARCHIVED'
        ));
        UPDATE file SET state = iif(old_state = 'PUT_AWAY', 'ARCHIVED', old_state);
        ALTER TABLE file DROP COLUMN old_state;
        ALTER TABLE file RENAME COLUMN opaque TO claim_name;
        CREATE INDEX file_moving ON file (kind) WHERE state = 'MOVING';
    """,
    # An old rejection has an alert of no subject: no message follows when its date is published.
    4: """
        CREATE INDEX history_time ON history (changed_at);
        ALTER TABLE batch ADD COLUMN dismissed_at TEXT;
        UPDATE batch SET dismissed_at = coalesce(archived_at, received_at)
        WHERE state = 'REJECTED' AND reason LIKE 'abandoned after:%';
        CREATE TABLE trouble (
            number     INTEGER PRIMARY KEY AUTOINCREMENT,
            kind       TEXT NOT NULL,
            subject    TEXT NOT NULL,
            source     TEXT NOT NULL DEFAULT '',
            batch_id   TEXT NOT NULL DEFAULT '',
            reason     TEXT NOT NULL,
            cure       TEXT NOT NULL DEFAULT '',
            since      TEXT NOT NULL,
            last_at    TEXT NOT NULL,
            tries      INTEGER NOT NULL DEFAULT 1,
            ended_at   TEXT
        ) STRICT;
        CREATE UNIQUE INDEX trouble_open ON trouble (kind, subject) WHERE ended_at IS NULL;
        CREATE TABLE alert (
            number     INTEGER PRIMARY KEY AUTOINCREMENT,
            about      TEXT NOT NULL UNIQUE,
            subject    TEXT NOT NULL,
            source     TEXT NOT NULL,
            content    TEXT NOT NULL,
            created_at TEXT NOT NULL,
            taken_by   TEXT NOT NULL DEFAULT '[]',
            sent_at    TEXT
        ) STRICT;
        CREATE INDEX alert_subject ON alert (subject);
        CREATE INDEX alert_unsent ON alert (number) WHERE sent_at IS NULL;
        INSERT INTO alert (about, subject, source, content, created_at, sent_at)
        SELECT
            batch_id || ' ' || decided_at, iif(state = 'REJECTED', '', batch_id), source, '', decided_at, decided_at
        FROM (
            SELECT *, coalesce((
                SELECT max(changed_at) FROM history
                WHERE history.batch_id = batch.batch_id AND event IN ('batch.rejected', 'batch.failed')
            ), received_at) AS decided_at
            FROM batch WHERE state IN ('REJECTED', 'FAILED')
        );
        CREATE TABLE activity (
            batch_id    TEXT PRIMARY KEY,
            attempt     INTEGER NOT NULL,
            since       TEXT NOT NULL,
            last_at     TEXT NOT NULL,
            stage       TEXT NOT NULL DEFAULT '',
            stage_since TEXT NOT NULL DEFAULT '',
            tasks       TEXT NOT NULL DEFAULT '[]',
            rows        INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE TABLE daemon_figure (
            kind   TEXT NOT NULL,
            source TEXT NOT NULL DEFAULT '',
            name   TEXT NOT NULL,
            value  REAL NOT NULL,
            PRIMARY KEY (kind, source, name)
        ) STRICT, WITHOUT ROWID;
    """,
}

# Errors of SQLite where the ledger itself is undamaged, and the disk, its rights or another process prevents its use.
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


class LedgerOutOfReach(OSError):
    """The ledger cannot be opened now, and may be later; the message says which file, why, and what to do."""


def open_for_writing(path: Path, wait_seconds: float) -> sqlite3.Connection:
    """Opens, creates or upgrades the ledger. Raises SetupError, and LedgerOutOfReach."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _explain(path):
        db = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None)
        version = _version(db, path)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if version < VERSION:
            _upgrade(db, version)
        db.execute("SELECT 1 FROM batch LIMIT 1")  # the file may be the database of another program
        return db


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Opens the ledger beside a running daemon. A missing ledger reads as empty, an older one as upgraded.

    Raises SetupError, and LedgerOutOfReach.
    """
    with _explain(path):
        copy = sqlite3.connect(":memory:", isolation_level=None)
        version = 0
        if path.exists():
            db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None)
            version = _version(db, path)
            if version == VERSION:
                db.execute("SELECT count(*) FROM batch").fetchone()
                return db
            if version:  # only the daemon changes the file
                db.backup(copy)
            db.close()
        _upgrade(copy, version)
        return copy


def _upgrade(db: sqlite3.Connection, version: int) -> None:
    """Brings a database of this version to VERSION in one transaction; version 0 is an empty one."""
    steps = [UPGRADES[older] for older in range(version, VERSION)] if version else [SCHEMA.read_text()]
    script = "".join([*steps, VIEWS.read_text()])
    try:
        db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {VERSION}; COMMIT;")
    except sqlite3.OperationalError:
        if db.in_transaction:
            db.execute("ROLLBACK")
        # The daemon and a command such as `retry` may open an old ledger at once: then the other one has upgraded it.
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            raise


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in OUT_OF_REACH:
            advice = f"see to room and rights in {path.parent}, then start again"
            raise LedgerOutOfReach(f"the ledger {path} cannot be opened now ({error}); {advice}") from error
        advice = "move it away and start again: published batches are known to the lake and are not doubled"
        raise SetupError(
            f"the ledger {path} cannot be read ({error}); restore it from a backup, or {advice}"
        ) from error


def _version(db: sqlite3.Connection, path: Path) -> int:
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        versions = f"version {found}, this one knows {VERSION}"
        raise SetupError(f"the ledger {path} was written by a newer Lakegate ({versions}); install that version again")
    return found

-- The daemon's durable record. Times are RFC 3339 text in UTC; names that are not UTF-8 are stored as blobs.
CREATE TABLE batch (
    batch_seq       INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival
    batch_id        TEXT NOT NULL UNIQUE,
    source          TEXT NOT NULL,                      -- '' where the files have no common source
    batch_date      TEXT,                               -- NULL where the trigger could not be understood
    state           TEXT NOT NULL CHECK (state IN (     -- the transitions are in batch.py
        'WAITING', 'READY', 'RUNNING', 'PUBLISHED', 'DUPLICATE', 'ARCHIVED', 'REJECTED', 'FAILED'
    )),
    reason          TEXT NOT NULL DEFAULT '',           -- one sentence for people; no decision depends on it
    trigger         TEXT NOT NULL,                      -- the trigger file's name, printable; of a bare batch the first
    revision        INTEGER NOT NULL DEFAULT 0,
    snapshot        TEXT NOT NULL DEFAULT '[]',         -- feeds delivered whole (JSON)
    rows            TEXT NOT NULL DEFAULT '{}',         -- file name -> promised records (JSON)
    checksums       TEXT NOT NULL DEFAULT '{}',         -- file name -> promised SHA-256 (JSON)
    identity        TEXT NOT NULL DEFAULT '',           -- source, date and content; '' until the claim is complete
    duplicate_of    TEXT NOT NULL DEFAULT '',           -- the batch that published the same content before
    attempts        INTEGER NOT NULL DEFAULT 0,         -- started and not requeued
    worker_crashes  INTEGER NOT NULL DEFAULT 0,         -- attempts among them in which the worker crashed
    next_attempt_at TEXT,                               -- back-off: not before
    waiting_for     TEXT NOT NULL DEFAULT '[]',         -- names that are missing or not settled (JSON)
    notes           TEXT NOT NULL DEFAULT '[]',         -- sentences of what was decided when it was received (JSON)
    result          TEXT,                               -- the worker's last answer (JSON)
    is_archived     INTEGER NOT NULL DEFAULT 0,         -- its files are in archive/ or rejected/
    hook_done       INTEGER NOT NULL DEFAULT 0,         -- the on_published command has ended
    received_at     TEXT NOT NULL,
    published_at    TEXT,
    archived_at     TEXT,
    dismissed_at    TEXT                                -- a person needs no reminder of this rejected batch any more
) STRICT;
CREATE INDEX batch_state ON batch (state);
CREATE INDEX batch_identity ON batch (identity);
CREATE INDEX batch_of_date ON batch (source, batch_date);
CREATE INDEX batch_awaiting_archive ON batch (batch_seq) WHERE is_archived = 0;
CREATE INDEX batch_awaiting_hook ON batch (batch_seq) WHERE hook_done = 0 AND published_at IS NOT NULL;
CREATE INDEX batch_published ON batch (published_at) WHERE published_at IS NOT NULL;

CREATE TABLE file (
    batch_id TEXT NOT NULL REFERENCES batch (batch_id),
    number   INTEGER NOT NULL,
    kind     TEXT NOT NULL CHECK (kind IN ('trigger', 'data')),
    name     ANY NOT NULL,                              -- what the sender called it
    feed     TEXT NOT NULL DEFAULT '',
    state    TEXT NOT NULL CHECK (state IN ('EXPECTED', 'MOVING', 'CLAIMED', 'RETURNED', 'ARCHIVED')),
    folder   ANY NOT NULL DEFAULT '',                   -- sub-folder of the landing folder that it came from
    claim_name TEXT NOT NULL DEFAULT '',                -- name in the claim folder, written down before the file moves
    inode    INTEGER NOT NULL DEFAULT 0,
    sha256   TEXT NOT NULL DEFAULT '',                  -- of what the file holds, unpacked
    bytes    INTEGER NOT NULL DEFAULT 0,
    packed_sha256 TEXT NOT NULL DEFAULT '',             -- of a packed file as it was delivered
    packed_bytes  INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,                -- the batch's, or the next where the file was sent again
    PRIMARY KEY (batch_id, number)
) STRICT;
CREATE INDEX file_name ON file (name);
CREATE INDEX file_moving ON file (kind) WHERE state = 'MOVING';

CREATE TABLE history (
    batch_id   TEXT NOT NULL REFERENCES batch (batch_id),
    changed_at TEXT NOT NULL,
    event      TEXT NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT NOT NULL
) STRICT;
CREATE INDEX history_batch ON history (batch_id);
CREATE INDEX history_time ON history (changed_at);

-- Conditions that keep Lakegate from work. One row of a kind and subject is open; ended ones stay for eight weeks.
CREATE TABLE trouble (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    source     TEXT NOT NULL DEFAULT '',
    batch_id   TEXT NOT NULL DEFAULT '',
    reason     TEXT NOT NULL,
    cure       TEXT NOT NULL DEFAULT '',
    since      TEXT NOT NULL,
    last_at    TEXT NOT NULL,                           -- when it was met last
    tries      INTEGER NOT NULL DEFAULT 1,              -- how often it was met
    ended_at   TEXT
) STRICT;
CREATE UNIQUE INDEX trouble_open ON trouble (kind, subject) WHERE ended_at IS NULL;

-- Alerts to people. Each stays unsent until the last of its addresses took it, also across restarts.
CREATE TABLE alert (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    about      TEXT NOT NULL UNIQUE,                    -- its cause: `BATCH TIME`, `trouble 5`, `BATCH over`
    subject    TEXT NOT NULL,                           -- the batch id, or `trouble 5`
    source     TEXT NOT NULL,
    content    TEXT NOT NULL,                           -- the message (JSON)
    created_at TEXT NOT NULL,
    taken_by   TEXT NOT NULL DEFAULT '[]',              -- hashes of the addresses that took it (JSON)
    sent_at    TEXT
) STRICT;
CREATE INDEX alert_subject ON alert (subject);
CREATE INDEX alert_unsent ON alert (number) WHERE sent_at IS NULL;

-- The running batch, at most one row. It is written often and not durable: no decision depends on it.
CREATE TABLE activity (
    batch_id    TEXT PRIMARY KEY,
    attempt     INTEGER NOT NULL,
    since       TEXT NOT NULL,
    last_at     TEXT NOT NULL,
    stage       TEXT NOT NULL DEFAULT '',
    stage_since TEXT NOT NULL DEFAULT '',
    tasks       TEXT NOT NULL DEFAULT '[]',             -- tasks at work, each with its start (JSON)
    rows        INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Figures of the running daemon, for the metrics that other processes compute: counts of log events, the state of its
-- watcher, the seconds of tasks. They are written every few seconds and not durable: no decision depends on them.
CREATE TABLE daemon_figure (
    kind   TEXT NOT NULL,                               -- event, watcher or task
    source TEXT NOT NULL DEFAULT '',
    name   TEXT NOT NULL,
    value  REAL NOT NULL,
    PRIMARY KEY (kind, source, name)
) STRICT, WITHOUT ROWID;

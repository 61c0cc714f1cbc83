"""Plain values of the ledger: a batch, its files, their states, and which state may follow which."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from daemon.text import one_line


class State(StrEnum):
    """Where a batch is on its way from its trigger to the archive."""

    WAITING = "WAITING"
    READY = "READY"
    RUNNING = "RUNNING"
    PUBLISHED = "PUBLISHED"
    DUPLICATE = "DUPLICATE"
    ARCHIVED = "ARCHIVED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"


MEANINGS: Mapping[State, str] = {
    State.WAITING: "A trigger was received; some files have not arrived or still change.",
    State.READY: "All files are claimed; the batch waits for the worker or for its next attempt.",
    State.RUNNING: "The worker processes the batch.",
    State.PUBLISHED: "The batch is in the tables and in the manifest; its files are still in the claim folder.",
    State.DUPLICATE: "The same content was published before; the files are still in the claim folder.",
    State.ARCHIVED: "The files are in the archive folder. This state is final.",
    State.REJECTED: "No retry can help; the files go to the rejected folder. This state is final.",
    State.FAILED: "No attempt is left; the files stay in the claim folder until an operator decides.",
}

# Each state with the states that may follow it, and when. The ledger refuses every other change.
TRANSITIONS: Mapping[State, Mapping[State, str]] = {
    State.WAITING: {State.READY: "all files are claimed", State.REJECTED: "a file or the trigger is not acceptable"},
    State.READY: {
        State.RUNNING: "an attempt starts",
        State.DUPLICATE: "the ledger knows the content",
        State.FAILED: "a run that must end cannot start it",
    },
    State.RUNNING: {
        State.PUBLISHED: "the worker published it",
        State.DUPLICATE: "the manifest knows the content",
        State.READY: "a retry is scheduled, or the daemon stops",
        State.REJECTED: "it breaks a limit, or crashed the worker too often",
        State.FAILED: "the last attempt failed",
    },
    State.PUBLISHED: {State.ARCHIVED: "the files are archived"},
    State.DUPLICATE: {State.ARCHIVED: "the files are archived"},
    State.FAILED: {State.READY: "lakegate retry", State.REJECTED: "lakegate abandon"},
    State.ARCHIVED: {},
    State.REJECTED: {},
}

# The events of the history that are an outcome, with the word for it.
OUTCOME_EVENTS: Mapping[str, str] = {
    f"batch.{outcome}": outcome for outcome in ("published", "duplicate", "rejected", "failed")
}
OPEN = (State.WAITING, State.READY, State.RUNNING, State.PUBLISHED, State.DUPLICATE)


class FileState(StrEnum):
    EXPECTED = "EXPECTED"  # named by a trigger, not claimed yet
    MOVING = "MOVING"  # about to move, or moved and not hashed yet
    CLAIMED = "CLAIMED"
    RETURNED = "RETURNED"  # back in the landing folder, or never claimed
    ARCHIVED = "ARCHIVED"  # in archive/ or rejected/


@dataclass(frozen=True, kw_only=True)
class BatchFile:
    number: int
    kind: str  # trigger | data
    name: str
    feed: str = ""
    state: FileState = FileState.EXPECTED
    folder: str = ""
    claim_name: str = ""  # its name in the claim folder
    inode: int = 0
    sha256: str = ""  # of the content, unpacked
    bytes: int = 0
    packed_sha256: str = ""  # of a packed file as it was delivered, else ''
    packed_bytes: int = 0
    revision: int = 0  # that of the batch, or the next one where the file was sent before with other content

    @property
    def delivered_sha256(self) -> str:
        """Returns the hash of the file as it was sent, packed or not."""
        return self.packed_sha256 or self.sha256

    @property
    def is_in_claim(self) -> bool:
        return self.state in (FileState.MOVING, FileState.CLAIMED)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One row of the ledger with its files."""

    batch_id: str
    source: str
    batch_date: dt.date | None
    state: State
    reason: str
    trigger: str
    attempts: int
    worker_crashes: int
    received_at: str
    published_at: str | None
    archived_at: str | None
    dismissed_at: str | None  # of a rejected batch that needs no attention any more
    next_attempt_at: str | None
    identity: str
    duplicate_of: str
    revision: int
    snapshot: tuple[str, ...]
    rows: Mapping[str, int]
    checksums: Mapping[str, str]
    waiting_for: tuple[str, ...]
    result: Mapping[str, Any] | None
    is_archived: bool  # its files are in archive/ or rejected/
    hook_done: bool  # the on_published command has ended
    notes: tuple[str, ...]  # sentences about decisions that may surprise, such as the date of a bare file
    all_files: tuple[BatchFile, ...] = field(repr=False)

    @property
    def explanation(self) -> str:
        """Returns the reason of the state, else the notes."""
        return self.reason or one_line("; ".join(self.notes))

    @property
    def data_files(self) -> tuple[BatchFile, ...]:
        return tuple(f for f in self.all_files if f.kind == "data")

    @property
    def files(self) -> tuple[BatchFile, ...]:
        """Returns the data files that were claimed: those with a known content."""
        return tuple(f for f in self.data_files if f.sha256)

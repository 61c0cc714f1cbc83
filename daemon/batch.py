"""The nouns of the ledger: a batch, its files, and the states of both. Plain values, nothing that acts."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from daemon.text import sentence


class State(StrEnum):
    WAITING = "WAITING"  # its files are not all here
    READY = "READY"  # claimed; may be dispatched, or is in back-off
    RUNNING = "RUNNING"  # the worker has it
    PUBLISHED = "PUBLISHED"  # in the manifest; its files are still in the claim
    ARCHIVED = "ARCHIVED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"  # keeps its claim until retry or abandon


OPEN = (State.WAITING, State.READY, State.RUNNING, State.PUBLISHED)


class FileState(StrEnum):
    EXPECTED = "EXPECTED"  # named, not taken
    MOVING = "MOVING"  # about to move, or moved and not yet hashed
    CLAIMED = "CLAIMED"
    RETURNED = "RETURNED"  # back in the landing folder, or never taken from it
    PUT_AWAY = "PUT_AWAY"  # in archive/ or rejected/


@dataclass(frozen=True, kw_only=True)
class BatchFile:
    number: int
    kind: str  # trigger | data
    name: str
    feed: str = ""
    state: FileState = FileState.EXPECTED
    folder: str = ""
    opaque: str = ""
    inode: int = 0
    sha256: str = ""  # of what the file holds, unpacked
    bytes: int = 0
    packed_sha256: str = ""  # of a packed file as it was delivered, else ''
    packed_bytes: int = 0
    revision: int = 0  # the batch's, or the next where other content came under this name before

    @property
    def delivered_sha256(self) -> str:
        """Of the file as it was sent: a sender hashes what he sends."""
        return self.packed_sha256 or self.sha256

    @property
    def is_in_claim(self) -> bool:
        return self.state in (FileState.MOVING, FileState.CLAIMED)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One row of the ledger with its files, as it was when it was read."""

    batch_id: str
    source: str
    batch_date: dt.date | None
    state: State
    reason: str
    trigger: str
    attempts: int
    deaths: int
    received_at: str
    published_at: str | None
    archived_at: str | None
    next_attempt_at: str | None
    identity: str
    duplicate_of: str
    revision: int
    snapshot: tuple[str, ...]
    rows: Mapping[str, int]
    checksums: Mapping[str, str]
    waiting_for: tuple[str, ...]
    result: Mapping[str, Any] | None
    is_put_away: bool
    is_announced: bool
    notes: tuple[str, ...]  # what was decided when it was received and may surprise: a date, files that came together
    all_files: tuple[BatchFile, ...] = field(repr=False)

    @property
    def explanation(self) -> str:
        """The reason of its state, else what there is to note of it."""
        return self.reason or sentence("; ".join(self.notes))

    @property
    def data_files(self) -> tuple[BatchFile, ...]:
        return tuple(f for f in self.all_files if f.kind == "data")

    @property
    def files(self) -> tuple[BatchFile, ...]:
        """The data files that were really taken: those whose content is known."""
        return tuple(f for f in self.data_files if f.sha256)

"""Puts the files of a decided batch where they end, archive/ or rejected/: a state, retried until done, safe to repeat.

What is put away is hashed once more. A file that is not what was claimed any more ends in rejected/, of a published
batch too, and the document beside the others says so: no receipt names a hash that its file does not have.
"""

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from daemon.batch import Batch, BatchFile, FileState, State
from daemon.clock import Clock
from daemon.config.config import Config
from daemon.files.entry_errors import is_of_one_entry
from daemon.files.safe_files import Place, Pulse, UnsafeError, exists, move, opened_safely, sha256, write_durably
from daemon.intake.claim import Claim
from daemon.landing.scan import Landing
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.retry import Policy, wait_seconds
from daemon.text import escape, join_names

RECEIPT, REASON = "receipt.json", "reason.json"
LONGEST_NAME_BYTES = 255
CHANGED = ".changed"  # ends the opaque name of a file that is not what was claimed

Change = dict[str, str]  # claimed_sha256, found_sha256 ('' of what is no file any more), found_in
Changes = Mapping[str, Change]  # by the sender's file name


class MissingError(OSError):
    """A claimed file is nowhere, perhaps with a claim folder that is not mounted; its batch waits for it."""


class Archive:
    """Remembers only when to try again what could not be moved."""

    def __init__(
        self,
        *,
        config: Config,
        ledger: Ledger,
        landing: Landing,
        claim: Claim,
        log: Log,
        clock: Clock,
        policy: Policy,
        alert: Callable[[str, str], None],
        pulse: Pulse,
    ) -> None:
        self._config, self._ledger, self._landing, self._claim = config.landing, ledger, landing, claim
        self._log, self._clock, self._alert, self._pulse = log, clock, alert, pulse
        self._policy = policy
        self._failures: dict[str, tuple[int, float]] = {}  # batch id -> how often, and when to try again

    def step(self) -> int:
        """Puts away every batch that is due; says how many are still to be tried again."""
        waiting = self._ledger.awaiting_archive()
        known = {b.batch_id for b in waiting}
        self._failures = {batch_id: failed for batch_id, failed in self._failures.items() if batch_id in known}
        due = [b for b in waiting if self._failures.get(b.batch_id, (0, 0.0))[1] <= self._clock.monotonic()]
        for batch in due:
            try:
                self._put_away(batch)
                self._failures.pop(batch.batch_id, None)
            except Exception as error:
                if not is_of_one_entry(error) and not isinstance(error, OSError):
                    raise
                self._postpone(batch, error)
        return len(self._failures)

    def has_given_up(self) -> bool:
        """Whether something could not be moved for as many times as a batch is tried. It is still tried again."""
        return any(count >= self._policy.attempts for count, _ in self._failures.values())

    def next_due_in(self) -> float:
        """Seconds until the next try of what could not be moved."""
        return min((max(0.0, at - self._clock.monotonic()) for _, at in self._failures.values()), default=float("inf"))

    def place_of(self, batch: Batch) -> Path:
        """The folder that the batch's files end in."""
        if batch.state == State.REJECTED:
            return self._config.rejected_path / batch.batch_id
        return self._config.archive_path / batch.source / str(batch.batch_date) / batch.batch_id

    # ---- details

    def _put_away(self, batch: Batch) -> None:
        is_rejected = batch.state == State.REJECTED
        if self._claim.take_triggers(batch):  # that of a batch refused as it came may still lie in the trigger folder
            batch = self._ledger.batch(batch.batch_id)
        now = self._clock.text()
        changes: dict[str, Change] = {}
        with self._landing.opened(self.place_of(batch), make=True) as place_fd, self._claim.opened() as claim_fd:
            for f, name in planned_names(batch.all_files):
                if not f.claim_name:
                    continue
                source = Place(claim_fd, f.claim_name)
                try:
                    if change := self._set_aside(batch, f, source):
                        changes[f.name] = change
                    else:
                        self._put_file(batch, f, source, Place(place_fd, name))
                except (
                    UnsafeError
                ) as error:  # a trigger that is a link or pipe cannot leave its file system; it stays in the claim
                    self._log.error(
                        "archive.blocked", batch_id=batch.batch_id, file=f.name, reason=f"{f.claim_name} {error}"
                    )
            document = reason_document(batch, now, changes) if is_rejected else receipt_document(batch, now, changes)
            write_durably(place_fd, REASON if is_rejected else RECEIPT, _as_text(document))
        if changes:
            self._tell_changes(batch, now, changes)
        self._claim.drop_sidecar(batch.batch_id)
        self._finish(batch, now, changes)

    def _finish(self, batch: Batch, now: str, changes: Changes) -> None:
        if batch.state == State.REJECTED:
            self._ledger.update(batch.batch_id, is_archived=1)
            return
        duplicate = f"duplicate of {batch.duplicate_of}" if batch.duplicate_of else ""
        reason = "; ".join(filter(None, (duplicate, changed_sentence(changes))))
        self._ledger.move(batch.batch_id, State.ARCHIVED, "batch.archived", reason, is_archived=1, archived_at=now)

    # ---- what is not what was claimed any more

    def _aside(self, batch: Batch) -> Path:
        return self._config.rejected_path / batch.batch_id

    def _set_aside(self, batch: Batch, f: BatchFile, source: Place) -> Change | None:
        if not f.sha256:  # a trigger, or a file that was never read
            return None
        name = f.claim_name + CHANGED
        if exists(*source):
            found = self._hash(source)
            if found == f.delivered_sha256:
                return None
            with self._landing.opened(self._aside(batch), make=True) as aside_fd:
                self._put_file(batch, f, source, Place(aside_fd, name))
        elif (before := self._hash_of_set_aside(batch, name)) is None:
            return None
        else:
            found = before
        where = str(self._aside(batch) / name)
        return {"claimed_sha256": f.delivered_sha256, "found_sha256": found, "found_in": where}

    def _hash_of_set_aside(self, batch: Batch, name: str) -> str | None:
        # a kill may have come between that and the document that says so
        try:
            with self._landing.opened(self._aside(batch)) as aside_fd:
                return self._hash(Place(aside_fd, name))
        except FileNotFoundError:
            return None

    def _hash(self, place: Place) -> str:
        try:
            with opened_safely(*place, may_be_linked=True) as descriptor:
                return sha256(descriptor, self._pulse)
        except UnsafeError:
            return ""

    def _tell_changes(self, batch: Batch, now: str, changes: Changes) -> None:
        said = changed_sentence(changes)
        self._log.error("archive.changed", batch_id=batch.batch_id, source=batch.source, reason=said)
        self._alert("Lakegate: a claimed file was changed", f"{said}\n\nbatch {batch.batch_id}")
        if batch.state != State.REJECTED:  # whose folder has its reason
            document = reason_document(replace(batch, reason=said), now, changes)
            with self._landing.opened(self._aside(batch), make=True) as aside_fd:
                write_durably(aside_fd, REASON, _as_text(document))

    # ---- one file

    def _put_file(self, batch: Batch, f: BatchFile, source: Place, target: Place) -> None:
        if not exists(*source):
            if f.state == FileState.CLAIMED:
                if not self._was_moved(f, target):
                    what = f"{f.claim_name} ({escape(f.name)}) is not in {self._claim.path}"
                    raise MissingError(f"{what}; bring it back, or put an empty file there if it is lost")
                self._ledger.update_files(batch.batch_id, [replace(f, state=FileState.ARCHIVED)])
            return
        for name in free_names(target.name):
            try:
                move(source, Place(target.folder_fd, name), self._pulse)
                break
            except FileExistsError:
                if self._is_same(source, Place(target.folder_fd, name)):
                    os.unlink(
                        source.name, dir_fd=source.folder_fd
                    )  # a copy that a kill interrupted before its original was removed
                    break
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                move(source, Place(target.folder_fd, f.claim_name), self._pulse)
                break
        self._ledger.update_files(batch.batch_id, [replace(f, state=FileState.ARCHIVED)])

    def _was_moved(self, f: BatchFile, target: Place) -> bool:
        # a kill may have come before that was noted; another file of its name may have been there first
        names = takewhile(lambda n: _fits(n) and exists(target.folder_fd, n), free_names(target.name))
        places = [Place(target.folder_fd, n) for n in (*names, f.claim_name) if exists(target.folder_fd, n)]
        return any(not f.sha256 or self._hash(place) == f.delivered_sha256 for place in places)

    def _is_same(self, one: Place, other: Place) -> bool:
        a_stat, b_stat = exists(*one), exists(*other)
        if a_stat and b_stat and os.path.samestat(a_stat, b_stat):
            return True
        try:
            with opened_safely(*one) as a, opened_safely(*other) as b:
                return os.fstat(a).st_size == os.fstat(b).st_size and sha256(a, self._pulse) == sha256(b, self._pulse)
        except UnsafeError:
            return False

    def _postpone(self, batch: Batch, error: Exception) -> None:
        count = self._failures.get(batch.batch_id, (0, 0.0))[0] + 1
        seconds = wait_seconds(count, self._policy)
        self._failures[batch.batch_id] = (count, self._clock.monotonic() + seconds)
        where = self.place_of(batch)
        self._log.error(
            "archive.failed",
            batch_id=batch.batch_id,
            folder=str(where),
            reason=str(error),
            attempt=count,
            retry_in_seconds=round(seconds, 1),
        )


def planned_names(files: Sequence[BatchFile]) -> Iterator[tuple[BatchFile, str]]:
    """Each file with its name in the archive: its own, unless another file of the batch or our own document has it already."""
    used = {RECEIPT, REASON}
    for f in sorted(files, key=lambda f: (f.kind != "data", f.number)):
        name = next(n for n in free_names(f.name) if n.casefold() not in used)
        used.add(name.casefold())
        yield f, name


def _fits(name: str) -> bool:
    return len(os.fsencode(name)) <= LONGEST_NAME_BYTES


def free_names(name: str) -> Iterator[str]:
    """The name itself, then `name.2`, `name.3`, …"""
    yield name
    for n in range(2, 1_000_000):
        yield f"{name}.{n}"


def receipt_document(batch: Batch, archived_at: str, changes: Changes) -> dict[str, Any]:
    """What receipt.json says: counts, hashes, timings, table versions."""
    result = batch.result or {}
    return {
        **_head(batch),
        "duplicate_of": batch.duplicate_of or None,
        "published_at": batch.published_at,
        "archived_at": archived_at,
        **{
            k: result.get(k)
            for k in ("batch_seq", "rows_read", "rows_accepted", "rows_rejected", "score", "validation_status")
        },
        "files": _files(batch, result, changes),
        "seconds": result.get("seconds", {}),
        "table_versions": result.get("table_versions", {}),
        "task_values": result.get("task_values", {}),
    }


def reason_document(batch: Batch, rejected_at: str, changes: Changes) -> dict[str, Any]:
    """What reason.json says: the sentence, the counts per rule, examples."""
    result = batch.result or {}
    return {
        **_head(batch),
        "reason": batch.reason,
        "rejected_at": rejected_at,
        **{k: result.get(k) for k in ("rows_read", "rows_accepted", "rows_rejected", "score", "validation_status")},
        "rules": [finding for finding in result.get("findings", ()) if finding.get("broken")],
        "files": _files(batch, result, changes),
    }


def _head(batch: Batch) -> dict[str, Any]:
    return {
        "batch_id": batch.batch_id,
        "source": batch.source or None,
        "batch_date": batch.batch_date.isoformat() if batch.batch_date else None,
        "revision": batch.revision,
        "trigger": batch.trigger,
        "received_at": batch.received_at,
        "attempts": batch.attempts,
        "notes": list(batch.notes),
    }


def changed_sentence(changes: Changes) -> str:
    """Returns what became of files that are not what was claimed any more, '' where there is none."""
    if not changes:
        return ""
    places = join_names(change["found_in"] for change in changes.values())
    names = join_names(escape(name) for name in changes)
    return f"{names}: changed after it was claimed, and not archived; what it holds now is in {places}"


def _as_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, default=str) + "\n"


def _files(batch: Batch, result: Mapping[str, Any], changes: Changes) -> list[dict[str, Any]]:
    counts = {c["name"]: c for c in result.get("files", ())}
    rows = ("rows_read", "rows_accepted", "rows_rejected")
    every = [(f, counts.get(f.name, {})) for f in batch.files]
    return [{**_told(f, changes.get(f.name)), **{k: count.get(k) for k in rows}} for f, count in every]


def _told(f: BatchFile, change: Change | None) -> dict[str, Any]:
    if change:  # no file has the hash that was claimed
        return {"name": f.name, "feed": f.feed, "sha256": None, "bytes": None, "changed": change}
    packed = ("packed_sha256", "packed_bytes") if f.packed_sha256 else ()
    return {k: v for k, v in asdict(f).items() if k in ("name", "feed", "sha256", "bytes", *packed)}

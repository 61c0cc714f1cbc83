"""Archives the files of decided batches in archive/ or rejected/: retried until done, and safe to repeat.

Each file is hashed once more. A file that changed after it was claimed goes to rejected/, of a published batch too, and
the documents say so: no receipt names a hash that its file does not have.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from daemon.batch import Batch, BatchFile, FileState, State
from daemon.clock import Clock
from daemon.config.config import LandingConfig, RetryConfig
from daemon.files.entry_errors import is_of_one_entry
from daemon.files.safe_files import DirEntry, Heartbeat, UnsafeError, exists, write_durably
from daemon.finish.archive_documents import REASON, RECEIPT, Change, Changes, change_reason, reason_text, receipt_text
from daemon.finish.archive_moves import MissingFileError, hash_of, planned_names, put_file
from daemon.intake.claim import Claim
from daemon.landing.scan import Landing
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.retry import wait_seconds
from daemon.text import escape

CHANGED = ".changed"  # the ending of a changed file, behind its name in the claim folder


class Archive:
    """Knows only when to try again the batches whose files could not be moved."""

    def __init__(
        self,
        config: LandingConfig,
        *,
        retry: RetryConfig,
        ledger: Ledger,
        landing: Landing,
        claim: Claim,
        log: Log,
        clock: Clock,
        on_changed_file: Callable[[Batch, str], None],
        heartbeat: Heartbeat,
    ) -> None:
        self._archive_path = config.archive_path
        self._rejected_path = config.rejected_path
        self._retry = retry
        self._ledger = ledger
        self._landing = landing
        self._claim = claim
        self._log = log
        self._clock = clock
        self._on_changed_file = on_changed_file
        self._heartbeat = heartbeat
        self._failures: dict[str, tuple[int, float]] = {}  # batch id -> number of failures, time of the next try

    def step(self) -> int:
        """Archives every batch that is due. Returns the number of batches that must be tried again."""
        waiting = self._ledger.awaiting_archive()
        known = {b.batch_id for b in waiting}
        self._failures = {batch_id: failure for batch_id, failure in self._failures.items() if batch_id in known}
        due = [b for b in waiting if self._failures.get(b.batch_id, (0, 0.0))[1] <= self._clock.monotonic()]
        for batch in due:
            try:
                self._archive(batch)
                self._failures.pop(batch.batch_id, None)
            except Exception as error:
                if not is_of_one_entry(error) and not isinstance(error, OSError):
                    raise
                self._postpone(batch, error)
        return len(self._failures)

    def has_given_up(self) -> bool:
        """Whether a batch failed as often as a batch is tried. It is still tried again."""
        return any(count >= self._retry.attempts for count, _ in self._failures.values())

    def next_due_in(self) -> float:
        """Returns the seconds until the next try."""
        now = self._clock.monotonic()
        return min((max(0.0, at - now) for _, at in self._failures.values()), default=float("inf"))

    def folder_of(self, batch: Batch) -> Path:
        """Returns the folder for the files of the batch."""
        if batch.state == State.REJECTED:
            return self._rejected_path / batch.batch_id
        return self._archive_path / batch.source / str(batch.batch_date) / batch.batch_id

    # ---- one batch

    def _archive(self, batch: Batch) -> None:
        # The trigger of a batch that was refused at once may still lie in the trigger folder.
        if self._claim.take_triggers(batch):
            batch = self._ledger.batch(batch.batch_id)
        now = self._clock.text()
        with self._landing.open(self.folder_of(batch), make=True) as target_fd:
            changes = self._move_files(batch, target_fd)
            if batch.state == State.REJECTED:
                write_durably(target_fd, REASON, reason_text(batch, now, changes))
            else:
                write_durably(target_fd, RECEIPT, receipt_text(batch, now, changes))
        if changes:
            self._report_changes(batch, now, changes)
        self._claim.delete_name_map(batch.batch_id)
        self._finish(batch, now, changes)

    def _move_files(self, batch: Batch, target_fd: int) -> Changes:
        changes = dict[str, Change]()
        with self._claim.open() as claim_fd:
            for f, name in planned_names(batch.all_files):
                if not f.claim_name:
                    continue
                source = DirEntry(claim_fd, f.claim_name)
                try:
                    if change := self._move_changed(batch, f, source):
                        changes[f.name] = change
                    else:
                        self._put_file(batch, f, source, DirEntry(target_fd, name))
                except UnsafeError as error:
                    # a trigger that is a link or a pipe cannot leave its file system: it stays in the claim
                    reason = f"{f.claim_name} {error}"
                    self._log.error("archive.blocked", batch_id=batch.batch_id, file=f.name, reason=reason)
        return changes

    def _put_file(self, batch: Batch, f: BatchFile, source: DirEntry, target: DirEntry) -> None:
        try:
            is_there = put_file(f, source, target, self._heartbeat)
        except MissingFileError:
            what = f"{f.claim_name} ({escape(f.name)}) is not in {self._claim.path}"
            advice = "bring it back, or put an empty file there if it is lost"
            raise MissingFileError(f"{what}; {advice}") from None
        if is_there:
            self._ledger.update_files(batch.batch_id, [replace(f, state=FileState.ARCHIVED)])

    def _finish(self, batch: Batch, now: str, changes: Changes) -> None:
        if batch.state == State.REJECTED:
            self._ledger.update(batch.batch_id, is_archived=1)
            return
        duplicate = f"duplicate of {batch.duplicate_of}" if batch.duplicate_of else ""
        reason = "; ".join(filter(None, (duplicate, change_reason(changes))))
        self._ledger.move(batch.batch_id, State.ARCHIVED, "batch.archived", reason, is_archived=1, archived_at=now)

    def _postpone(self, batch: Batch, error: Exception) -> None:
        count = self._failures.get(batch.batch_id, (0, 0.0))[0] + 1
        seconds = wait_seconds(count, self._retry)
        self._failures[batch.batch_id] = (count, self._clock.monotonic() + seconds)
        self._log.error(
            "archive.failed",
            batch_id=batch.batch_id,
            folder=str(self.folder_of(batch)),
            reason=str(error),
            attempt=count,
            retry_in_seconds=round(seconds, 1),
        )

    # ---- files that changed after they were claimed

    def _move_changed(self, batch: Batch, f: BatchFile, source: DirEntry) -> Change | None:
        """Moves a file to the rejected folder if it changed; None for an unchanged one."""
        if not f.sha256:  # a trigger, or a file that was never read
            return None
        name = f.claim_name + CHANGED
        if exists(*source):
            found = hash_of(source, self._heartbeat)
            if found == f.delivered_sha256:
                return None
            with self._landing.open(self._changed_folder(batch), make=True) as target_fd:
                self._put_file(batch, f, source, DirEntry(target_fd, name))
        elif (before := self._hash_of_changed(batch, name)) is not None:
            found = before
        else:
            return None
        found_in = str(self._changed_folder(batch) / name)
        return {"claimed_sha256": f.delivered_sha256, "found_sha256": found, "found_in": found_in}

    def _hash_of_changed(self, batch: Batch, name: str) -> str | None:
        # a kill may have come between the move of a changed file and the document that says so
        try:
            with self._landing.open(self._changed_folder(batch)) as folder_fd:
                return hash_of(DirEntry(folder_fd, name), self._heartbeat)
        except FileNotFoundError:
            return None

    def _report_changes(self, batch: Batch, now: str, changes: Changes) -> None:
        reason = change_reason(changes)
        self._log.error("archive.changed", batch_id=batch.batch_id, source=batch.source, reason=reason)
        self._on_changed_file(batch, reason)
        if batch.state != State.REJECTED:  # the folder of a rejected batch has a reason already
            with self._landing.open(self._changed_folder(batch), make=True) as folder_fd:
                write_durably(folder_fd, REASON, reason_text(replace(batch, reason=reason), now, changes))

    def _changed_folder(self, batch: Batch) -> Path:
        return self._rejected_path / batch.batch_id

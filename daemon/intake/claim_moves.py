"""Moves single files between the landing zone and the claim folder, and proves that a claimed file is complete."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any

from daemon.batch import BatchFile, FileState
from daemon.files.safe_files import (
    DirEntry,
    Heartbeat,
    UnsafeError,
    exists,
    finish_move,
    folder,
    is_being_written,
    move,
    open_safely,
)
from daemon.landing.scan import Landing
from pipeline.contract import UnpackError, digest


class ChangedError(Exception):
    """The file differs from its listing and is listed again. The message follows the name of the file."""


class ClaimMoves:
    """The moves of one landing zone. The ledger is written before and after them, by the caller."""

    def __init__(self, landing: Landing, heartbeat: Heartbeat) -> None:
        self._landing = landing
        self._heartbeat = heartbeat

    def claim(self, f: BatchFile, claim_fd: int) -> BatchFile:
        """Moves a data file into the claim folder and returns it with its content's hash.

        Raises ChangedError, UnsafeError, UnpackError or OSError.
        """
        if f.state != FileState.MOVING:
            raise ChangedError("is missing")
        target = DirEntry(claim_fd, f.claim_name)
        with self._home(f) as home_fd:
            source = DirEntry(home_fd, f.name)
            if not exists(*target):
                _check_unchanged(f, source)
                move(source, target, self._heartbeat)
            else:
                finish_move(source, f.inode, target, self._heartbeat)
        self._landing.forget("data", f.folder, f.name)
        try:
            return self._hash_claimed(f, target)
        except (UnsafeError, ChangedError):
            self.move_back(f, claim_fd)
            raise

    def claim_trigger(self, f: BatchFile, claim_fd: int) -> BatchFile:
        """Moves a trigger file into the claim folder and returns its new state. Raises UnsafeError or OSError."""
        target = DirEntry(claim_fd, f.claim_name)
        source = DirEntry(self._landing.trigger_fd, f.name)
        if exists(*target):
            finish_move(source, f.inode, target, self._heartbeat)
            _make_durable(target)
        else:
            seen = exists(*source)
            if seen is None or seen.st_ino != f.inode:
                # It is gone, or another trigger has its name. The ledger has its content.
                return replace(f, state=FileState.RETURNED)
            _make_durable(source)
            move(source, target, self._heartbeat)
        self._landing.forget("trigger", "", f.name)
        return replace(f, state=FileState.CLAIMED)

    def move_back(self, f: BatchFile, claim_fd: int) -> bool:
        """Moves a claimed data file back to its folder, or to the landing folder. Returns whether that was possible."""
        for home in dict.fromkeys((f.folder, "")):
            try:
                with self._home(replace(f, folder=home)) as home_fd:
                    move(DirEntry(claim_fd, f.claim_name), DirEntry(home_fd, f.name), self._heartbeat)
                return True
            except (OSError, ChangedError, UnsafeError):
                continue
        return False

    def move_trigger_back(self, f: BatchFile, claim_fd: int) -> bool:
        """Moves a claimed trigger file back to the trigger folder. Returns whether that was possible."""
        try:
            move(DirEntry(claim_fd, f.claim_name), DirEntry(self._landing.trigger_fd, f.name), self._heartbeat)
        except (OSError, UnsafeError):
            return False
        return True

    def is_back(self, f: BatchFile) -> bool:
        """Whether a data file was moved back before, and the ledger could not be written then."""
        for home in dict.fromkeys((f.folder, "")):
            try:
                with self._home(replace(f, folder=home)) as home_fd:
                    seen = exists(home_fd, f.name)
            except (OSError, ChangedError):
                continue
            if seen and seen.st_ino == f.inode:
                return True
        return False

    def _hash_claimed(self, f: BatchFile, target: DirEntry) -> BatchFile:
        with open_safely(*target) as descriptor:
            before = os.fstat(descriptor)
            os.fsync(descriptor)  # a kill may have come before, and a late writer since
            hashes, spoiled = dict[str, Any](), ""
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                try:
                    hashes = asdict(digest(file, f.name, self._heartbeat))
                except UnpackError as error:
                    spoiled = str(error)
            after = os.fstat(descriptor)
            is_same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            # A writer that opened the file between check and move still holds it: a rename does not stop a writer.
            if is_being_written(descriptor) or not is_same:
                raise ChangedError("is still being written")
        if spoiled:
            raise UnpackError(spoiled)
        return replace(f, state=FileState.CLAIMED, **hashes)

    @contextmanager
    def _home(self, f: BatchFile) -> Iterator[int]:
        if not f.folder:
            yield self._landing.landing_fd
            return
        try:
            with folder(f.folder, within=self._landing.landing_fd) as descriptor:
                yield descriptor
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                raise
            raise ChangedError("is missing") from None


def _check_unchanged(f: BatchFile, source: DirEntry) -> None:
    try:
        with open_safely(*source) as descriptor:
            if os.fstat(descriptor).st_ino != f.inode:
                raise ChangedError("was replaced")
            if is_being_written(descriptor):
                raise ChangedError("is still being written")
            os.fsync(descriptor)  # a move that survives a loss of power needs bytes that survive it
    except FileNotFoundError:
        raise ChangedError("is missing") from None


def _make_durable(trigger: DirEntry) -> None:
    seen = exists(*trigger)
    if seen is None or not seen.st_size:
        return
    # A link or a pipe holds no bytes; a file that its owner keeps private is moved as it is.
    with suppress(UnsafeError, PermissionError), open_safely(*trigger) as descriptor:
        os.fsync(descriptor)

"""Locks a landing zone and a ledger for one daemon. The kernel releases the locks when the process ends."""

import errno
import fcntl
import os
import stat
from pathlib import Path

from daemon.clock import as_text
from daemon.files.folder_access import FolderAccessError
from daemon.files.lock_holder import lock_holder

LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class AlreadyRunningError(Exception):
    """Another daemon, or another writer of the lake, works here; the message names it."""


def take_lock(descriptor: int, what: Path) -> None:
    """Locks the open file or folder until the process ends. Raises AlreadyRunningError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        other = lock_holder(what)
        since = f", since {as_text(other.since)}" if other and other.since else ""
        who = f" (process {other.pid}{since})" if other else ""
        raise AlreadyRunningError(
            f"another daemon{who} is at work on {what}; stop it first, or use a configuration of its own"
        ) from None


def lock_file(path: Path) -> int:
    """Makes and locks a file, and returns its descriptor.

    Raises AlreadyRunningError, or FolderAccessError where the file is not private.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = _open(path)
        try:
            take_lock(descriptor, path)
            if _is_in_place(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(
            descriptor
        )  # The file was replaced before it was locked: a lock on a removed file keeps no daemon away.


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, LOCK_FILE, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise FolderAccessError(
            f"{path} is a symbolic link; remove it, it is to be a file of the daemon's own"
        ) from None
    seen = os.fstat(descriptor)
    if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_nlink > 1:
        os.close(descriptor)
        raise FolderAccessError(
            f"{path} is not a plain file of user {os.geteuid()}, as whom the daemon runs; remove it"
        )
    os.fchmod(descriptor, 0o600)  # a user who can open the file can lock it, and so keep the daemon from starting
    return descriptor


def _is_in_place(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False

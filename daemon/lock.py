"""Keeps a second daemon away from the same landing zone and ledger. The lock is the kernel's: it ends with the process, however it ends."""

import fcntl
import os
from pathlib import Path

from daemon.clock import as_text
from daemon.holders import holder


class HeldError(Exception):
    """Another daemon, or another writer of the lake, is at work here; the message names it."""


def hold(descriptor: int, what: Path) -> None:
    """Locks the open file or folder until the process ends. Raises HeldError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        other = holder(what)
        since = f", since {as_text(other.since)}" if other and other.since else ""
        who = f" (process {other.pid}{since})" if other else ""
        raise HeldError(f"another daemon{who} is at work on {what}; stop it first, or use a configuration of its own") from None


def hold_file(path: Path) -> int:
    """Makes and locks a file, and tells its descriptor. Raises HeldError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        hold(descriptor, path)
    except HeldError:
        os.close(descriptor)
        raise
    return descriptor

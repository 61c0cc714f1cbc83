"""The lake's lock: its holder alone may write. In a folder it is the kernel's, in an object store it is a lease."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.contract import lake_version
from pipeline.place import Place, is_store
from pipeline.place.lease import LEASE_SECONDS, Lease

LOOK_SECONDS = 0.05, 1.0  # between two looks at a lock and at a lease


class LakeLocked(Exception):
    """Another process is writing to the lake. The message adds advice to `reason`, which names lake and process."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; try again when that has ended")
        self.reason = reason


class FileLock:
    """A lock of the kernel on an open file, for this process and all that inherit the file; a JVM may keep it."""

    def __init__(self, lake: Path) -> None:
        lake.mkdir(parents=True, exist_ok=True)
        # The file is written to below. It is never opened through a link to another file, and a pipe blocks nothing.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = os.open(lake / ".lock", flags, 0o644)
        self.inherited = (self._fd,)

    def try_lock(self) -> str:
        """Locks the file. Returns "", or a few words that name the holder."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            return self._holder()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        return ""

    def release(self) -> None:
        """Lets others write."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._fd)

    def _holder(self) -> str:
        # The process id only helps the reader of the message: the kernel keeps the lock itself.
        pid = os.pread(self._fd, 20, 0).decode(errors="replace").strip()
        return f"process {pid} or a program that it started" if pid else "another process"


class Lock:
    """The lock of a lake, which `acquire` and `release` take and give back. `inherited` are its open files."""

    def __init__(self, lake: Place, on_lost: Callable[[], None] | None = None) -> None:
        self._lake = lake
        self._gate = FileLock(lake) if isinstance(lake, Path) else Lease(lake, on_lost)
        self._look_seconds = LOOK_SECONDS[is_store(lake)]
        self.inherited = self._gate.inherited

    def acquire(self, wait_seconds: float = 0.0) -> None:
        """Locks the lake, and waits so long for another holder. Raises LakeLocked, and SetupError."""
        until = time.monotonic() + wait_seconds
        while holder := self._gate.try_lock():
            if time.monotonic() >= until:
                raise LakeLocked(f"{self._lake} is being written by {holder}")
            time.sleep(self._look_seconds)
        try:
            lake_version.write(self._lake)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Lets others write."""
        self._gate.release()

    def close(self) -> None:
        self._gate.close()


@contextlib.contextmanager
def lake_lock(lake: Place, wait_seconds: float = 0.0) -> Iterator[Lock]:
    """Holds the lake's lock within a `with` block. Raises LakeLocked, and SetupError.

    In a store it waits at least until the lease of a machine that is gone has run out.
    """
    lock = Lock(lake)
    try:
        lock.acquire(max(wait_seconds, LEASE_SECONDS + 5) if is_store(lake) else wait_seconds)
        yield lock
    finally:
        lock.close()

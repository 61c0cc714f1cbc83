"""The lake's lock: its holder alone may write. The lock lives with its open file, which a JVM may inherit and keep."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.contract import lake_version


class LakeLocked(Exception):
    """Another process is writing to the lake. The message adds advice to `reason`, which names lake and process."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; try again when that has ended")
        self.reason = reason


class Lock:
    """An open lock file. `acquire` and `release` act for this process and for all that inherited its descriptor."""

    def __init__(self, lake: Path) -> None:
        lake.mkdir(parents=True, exist_ok=True)
        self._lake = lake
        # The file is written to below. It is never opened through a link to another file, and a pipe blocks nothing.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self.fd = os.open(lake / ".lock", flags, 0o644)

    def acquire(self, wait_seconds: float = 0.0) -> None:
        """Locks the lake, and waits so long for another holder. Raises LakeLocked, and SetupError."""
        until = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
            if time.monotonic() >= until:
                raise LakeLocked(f"{self._lake} is being written by {self._holder()}")
            time.sleep(0.05)
        try:
            lake_version.write(self._lake)
        except BaseException:
            self.release()
            raise
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets others write."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self.fd)

    def _holder(self) -> str:
        # The process id only helps the reader of the message: the kernel keeps the lock itself.
        pid = os.pread(self.fd, 20, 0).decode(errors="replace").strip()
        return f"process {pid} or a program that it started" if pid else "another process"


@contextlib.contextmanager
def lake_lock(lake: Path, wait_seconds: float = 0.0) -> Iterator[Lock]:
    """Holds the lake's lock within a `with` block. Raises LakeLocked, and SetupError."""
    lock = Lock(lake)
    try:
        lock.acquire(wait_seconds)
        yield lock
    finally:
        lock.close()

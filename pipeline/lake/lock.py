"""The lake's lock: who holds it may write. It lives with its open file, so a JVM that inherits that keeps it while it lives."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.contract import lake_version


class LakeLocked(Exception):
    """Another process is writing to the lake; the message names the lake and the process, `what` does no more."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; try again when that has ended")
        self.what = what


class Lock:
    """An open lock file. `take` and `give` lock and unlock it for this process and all that inherited its descriptor."""

    def __init__(self, lake: Path) -> None:
        lake.mkdir(parents=True, exist_ok=True)
        self._lake = lake
        # It is written to below: never through a link to another file, and a pipe holds nobody up.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self.fd = os.open(lake / ".lock", flags, 0o644)

    def take(self, wait_seconds: float = 0.0) -> None:
        """Takes the lock, waiting for another holder to end. Raises LakeBusy when it does not, and NewerLake."""
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
            self.give()
            raise
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)

    def give(self) -> None:
        """Lets others write."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self.fd)

    def _holder(self) -> str:
        # Only a help for the reader: the lock itself is the kernel's.
        pid = os.pread(self.fd, 20, 0).decode(errors="replace").strip()
        return f"process {pid} or a program that it started" if pid else "another process"


@contextlib.contextmanager
def held(lake: Path, wait_seconds: float = 0.0) -> Iterator[Lock]:
    """Holds the lake's lock for a while. Raises LakeBusy."""
    lock = Lock(lake)
    try:
        lock.take(wait_seconds)
        yield lock
    finally:
        lock.close()

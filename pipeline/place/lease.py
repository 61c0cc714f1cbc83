"""A lease on a lake in an object store: at most one process writes at a time, without a kernel that watches over it.

A lease cannot stop a process that sleeps for long and then writes: for that the manifest has its fence.
"""

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline.place.store_path import StoreError, StorePath, Version

LEASE_SECONDS = 30.0
FILE_NAME = "_lease.json"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a lease. `boot` names the run of its machine's kernel, and `started` that of the process.

    A lease that was given back has no `token`.
    """

    token: str = ""
    host: str = ""
    boot: str = ""
    pid: int = 0
    started: str = ""
    renewals: int = 0

    @property
    def is_here(self) -> bool:
        """Whether the process ran on this machine, since its last start."""
        return self.boot == _boot()

    @property
    def has_ended(self) -> bool:
        """Whether nothing holds the lease: it was given back, or the kernel here says that its process is gone."""
        return not self.token or (self.is_here and _has_ended(self.pid, self.started))


def holder(lake: StorePath) -> Holder | None:
    """Returns the process that holds the lease of a lake, or held it until it died without a word; None without one."""
    try:
        found = _parse((lake / FILE_NAME).read_bytes())
    except FileNotFoundError:
        return None
    return None if found.has_ended else found


class Lease:
    """A lease of this process. `try_lock` and `release` may alternate. A lease that is lost ends the process.

    The lease is one object. Its holder writes the object anew every few seconds, and each write must follow the version
    that the holder wrote before. A taker watches the version by its own clock: where the version stays the same for
    `LEASE_SECONDS`, the lease has no holder any more. No two clocks are compared.
    """

    inherited = ()  # a lease has no open file

    def __init__(
        self, lake: StorePath, on_lost: Callable[[], None] | None = None, seconds: float = LEASE_SECONDS
    ) -> None:
        self._file = lake / FILE_NAME
        self._seconds = seconds
        self._on_lost = on_lost or _end_process
        self._own = Holder(
            token=secrets.token_hex(8),
            host=socket.gethostname(),
            boot=_boot(),
            pid=os.getpid(),
            started=_started(os.getpid()),
        )
        self._version: Version | None = None  # that this process wrote last
        self._seen: tuple[Version | None, float] = (None, 0.0)  # the version of another holder, and since when it stays
        self._released = threading.Event()
        self._renewed_at = 0.0
        self._threads: list[threading.Thread] = []

    def try_lock(self) -> str:
        """Takes the lease. Returns "", or a few words that name its holder."""
        if self._version and self._swap(self._own, self._version):  # no other came between: one request
            return self._hold()
        try:
            content, version = self._file.read()
        except FileNotFoundError:
            try:
                self._version = self._file.create(_text(self._own))
            except FileExistsError:
                return "another process, which has just come"
            return self._hold()
        other = _parse(content)
        if version != self._seen[0]:
            self._seen = (version, time.monotonic())
        is_own = other.token == self._own.token  # it could not be given back, for lack of an answer
        is_over = is_own or other.has_ended or time.monotonic() - self._seen[1] > self._seconds
        if is_over and self._swap(self._own, version):
            return self._hold()
        return f"process {other.pid} on {other.host}"

    def release(self) -> None:
        """Gives the lease back, by a write: a holder that was late could else be taken for the newest."""
        self._released.set()
        for thread in self._threads:
            thread.join()
        self._threads = []
        if self._version:
            with suppress(StoreError):  # the lease runs out by itself, and the work under it is done
                self._swap(Holder(), self._version)

    def close(self) -> None:
        """Gives the lease back if this process holds it."""
        if self._threads:
            self.release()

    def _swap(self, content: Holder, version: Version) -> bool:
        text = _text(content)
        for _ in range(2):
            try:
                self._version = self._file.replace(text, version)
                return True
            except FileExistsError:
                # The answer to an earlier write of this process may have been lost, although the store took the write.
                try:
                    found, version = self._file.read()
                except FileNotFoundError:
                    break
                if found == text:
                    self._version = version
                    return True
                if _parse(found).token != self._own.token:
                    break
        self._version = None
        return False

    def _hold(self) -> str:
        self._released.clear()
        self._renewed_at = time.monotonic()
        self._threads = [threading.Thread(target=run, name="lease", daemon=True) for run in (self._renew, self._watch)]
        for thread in self._threads:
            thread.start()
        return ""

    def _renew(self) -> None:
        while self._version and not self._released.wait(self._seconds / 3):
            began = time.monotonic()  # a taker counts from a moment after this one
            self._own = replace(self._own, renewals=self._own.renewals + 1)
            with suppress(StoreError):  # the next turn tries again
                if not self._swap(self._own, self._version):
                    self._lose()
                    return
                self._renewed_at = began

    def _watch(self) -> None:
        """Ends the process in time also where a request of `_renew` hangs."""
        while not self._released.wait(self._seconds / 12):
            if time.monotonic() - self._renewed_at > self._seconds * 3 / 4:
                self._lose()
                return

    def _lose(self) -> None:
        sentence = f"the lease {self._file} could not be renewed; another process may write to the lake by now"
        print(sentence, file=sys.stderr)
        self._on_lost()


def _end_process() -> None:
    os._exit(1)


def _text(content: Holder) -> bytes:
    # A lease that was given back twice must have two versions: some stores make the version of the content alone.
    return json.dumps({**asdict(content), "nonce": secrets.token_hex(8)}).encode()


def _parse(content: bytes) -> Holder:
    try:
        known = json.loads(content)
        return Holder(**{name: known[name] for name in Holder.__dataclass_fields__})
    except (ValueError, KeyError, TypeError):
        return Holder(token="?", host="an unknown machine")  # noqa: S106 - no secret: the lease runs out like others


def _boot() -> str:
    """Returns a name for this run of the kernel and the namespace of process ids; containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Returns when a process of this machine started, in the kernel's ticks; "" where it is gone or hidden."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _has_ended(pid: int, started: str) -> bool:
    """Returns whether the kernel says that a process of this machine is gone, or that its id is another process's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's process
    return _started(pid) not in ("", started)  # /proc may hide it

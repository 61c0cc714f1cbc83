"""Wakes the daemon when a file in the landing zone changes. A canary file proves that the kernel's events arrive.

Each canary has a new random name, so that no other user can put a file or a link in its place.
"""

import contextlib
import errno
import logging
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper
from watchdog.observers.polling import PollingObserverVFS

from daemon.clock import Clock
from daemon.files.file_systems import file_system_of, has_events
from daemon.files.safe_files import NEW_FILE, exists, folder
from daemon.landing.scan import OWN_PREFIX
from daemon.observe.log import Log

CANARY = re.compile(rf"{re.escape(OWN_PREFIX)}[0-9a-f]{{16}}")
CANARY_EVERY_SECONDS = 30.0
CANARY_LATE_SECONDS = 5.0
POLL_SECONDS = 1.0
CHANGE_EVENTS = [FileCreatedEvent, FileModifiedEvent, FileMovedEvent, FileClosedEvent]  # without those of readers
NO_WATCHES = (errno.ENOSPC, errno.EMFILE, errno.ENFILE)

# it logs threads that end in the wrong order; important failures are in the daemon's own log
logging.getLogger("watchdog").addHandler(logging.NullHandler())
# For half a second it delays every event behind a rename, to pair it with a later one. The daemon needs no pairs.
InotifyMoveEventGrouper.delay = 0.02


class FolderObserver:
    """An observer of some folders, restarted when its events no longer arrive."""

    def __init__(
        self, folders: Sequence[Path], ignored_folders: Sequence[Path], *, wake: threading.Event, clock: Clock, log: Log
    ) -> None:
        # a folder within another one is observed with it
        self._folders = [
            f for f in dict.fromkeys(folders) if not any(f != other and f.is_relative_to(other) for other in folders)
        ]
        self._ignored_folders = tuple(ignored_folders)
        self._wake = wake
        self._clock = clock
        self._log = log
        self._observer: BaseObserver | None = None
        self._observed: dict[Path, tuple[int, int]] = {}
        self._canary = ""  # the name of the newest one
        self._written_at: float | None = None  # the time of a canary that no event has confirmed yet
        self._next_canary_at = 0.0
        self._confirmed: set[Path] = set()
        self._is_polling = False
        self._missed_canaries = 0  # observers in a row that reported no canary

    @property
    def is_polling(self) -> bool:
        return self._is_polling

    @property
    def unwatched_folders(self) -> tuple[Path, ...]:
        """Returns the folders that are not observed, because they are not there."""
        return tuple(f for f in self._folders if f not in self._observed)

    def check(self) -> None:
        """Starts the observer, writes a canary, restarts the observer when no event confirms the canary in time."""
        now = self._clock.monotonic()
        if self._observer is None or self.is_stale():
            self._restart("the landing zone is watched" if self._observer is None else "a watched folder was replaced")
        elif self._written_at is not None and self._confirmed >= set(self._observed):
            self._remove_canary()
            self._next_canary_at = now + CANARY_EVERY_SECONDS
            self._missed_canaries = 0
        elif self._written_at is not None and now - self._written_at > self._patience():
            self._missed_canaries += 1
            self._restart("no event came for the canary file")
        elif self._written_at is None and now >= self._next_canary_at and self._observed:
            self._write_canary()

    def _patience(self) -> float:
        return CANARY_LATE_SECONDS + (POLL_SECONDS * 2 if self._is_polling else 0)

    def is_stale(self) -> bool:
        """Whether an observed folder is gone or was replaced: there is no event for that."""
        return self._observed != self._present()

    def next_due_in(self) -> float:
        """Returns the seconds until `check` must be called."""
        if self._written_at is None:
            return max(0.0, self._next_canary_at - self._clock.monotonic()) if self._observed else CANARY_LATE_SECONDS
        return CANARY_LATE_SECONDS / 2

    def stop(self) -> None:
        self._discard()
        self._remove_canary()

    # ---- details

    def _present(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for path in self._folders:
            try:
                seen = path.stat()
                found[path] = (seen.st_dev, seen.st_ino)
            except OSError:
                continue
        return found

    def _restart(self, reason: str) -> None:
        is_first = self._observer is None
        self._discard()
        self._remove_canary()
        present = self._present()
        for path in present:
            _remove_canaries(path)
        # watchdog reads all events of the process in one thread: if that died, a new observer gets no events either
        must_poll = self._missed_canaries > 1 or not all(has_events(file_system_of(path)) for path in present)
        try:
            self._start(present, _poller() if must_poll else Observer(), is_polling=must_poll)
        except OSError as error:
            if error.errno not in NO_WATCHES:
                self._log.warning("observer.failed", reason=str(error))
            self._start(present, _poller(), is_polling=True)
            reason = f"{reason}; the kernel gives no watch ({error.strerror}), so the folders are polled"
        event = "observer.started" if is_first else "observer.restarted"
        self._log.write(event, reason=reason, is_polling=self._is_polling, folders=[str(f) for f in present])
        self._observed = present
        self._next_canary_at = self._clock.monotonic()
        self._wake.set()  # for changes that no observer saw

    def _start(self, folders: dict[Path, tuple[int, int]], observer: BaseObserver, *, is_polling: bool) -> None:
        handler = _Handler(self._on_change)
        for path in folders:
            observer.schedule(handler, str(path), recursive=True, event_filter=CHANGE_EVENTS)
        try:
            observer.start()
        except BaseException:
            observer.unschedule_all()
            raise
        self._observer = observer
        self._is_polling = is_polling

    def _discard(self) -> None:
        observer = self._observer
        self._observer = None
        if observer is not None and observer.is_alive():
            # it joins its threads, which takes up to half a second
            threading.Thread(target=observer.stop, name="watch-end", daemon=True).start()

    def _write_canary(self) -> None:
        self._canary = f"{OWN_PREFIX}{secrets.token_hex(8)}"
        self._confirmed = set()
        self._written_at = self._clock.monotonic()
        for path in self._observed:
            try:
                with folder(path) as folder_fd:
                    os.close(os.open(self._canary, NEW_FILE, 0o600, dir_fd=folder_fd))
                    if not self._is_polling:  # the kernel reports the file all the same; a poller must find it
                        os.unlink(self._canary, dir_fd=folder_fd)
            except OSError:
                self._confirmed.add(path)  # in a folder without the right to write nothing can be proven

    def _remove_canary(self) -> None:
        self._written_at = None
        for path in self._observed:
            with contextlib.suppress(OSError), folder(path) as folder_fd:
                if self._canary and exists(folder_fd, self._canary):
                    os.unlink(self._canary, dir_fd=folder_fd)

    def _on_change(self, *paths: str) -> None:
        for path in map(Path, filter(None, paths)):
            if path.name == self._canary:
                self._confirmed.add(path.parent)
            elif not path.name.startswith(OWN_PREFIX) and not self._is_ignored(path):
                self._wake.set()

    def _is_ignored(self, path: Path) -> bool:
        return any(path.is_relative_to(ignored) for ignored in self._ignored_folders)


def _remove_canaries(path: Path) -> None:
    """Removes the canaries that a kill left in a polled folder."""
    with contextlib.suppress(OSError), folder(path) as folder_fd, os.scandir(folder_fd) as entries:
        for name in [entry.name for entry in entries if CANARY.fullmatch(entry.name)]:
            seen = exists(folder_fd, name)
            if seen and stat.S_ISREG(seen.st_mode) and seen.st_size == 0 and seen.st_uid == os.geteuid():
                os.unlink(name, dir_fd=folder_fd)


def _poller() -> BaseObserver:
    # by default it follows links, and one to / would list the whole machine
    return PollingObserverVFS(os.lstat, os.scandir, polling_interval=POLL_SECONDS)


class _Handler(FileSystemEventHandler):
    def __init__(self, on_change: Callable[..., None]) -> None:
        self._on_change = on_change

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._on_change(os.fsdecode(event.src_path), os.fsdecode(event.dest_path))

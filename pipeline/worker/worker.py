"""The worker: a warm session that takes one work order at a time. It ends with its daemon, and its JVM ends with it."""

import argparse
import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from pipeline import contract
from pipeline.commit.journal import recover
from pipeline.commit.maintenance import Maintenance
from pipeline.commit.manifest import Manifest
from pipeline.contract import Outcome, Ready, Refused, Result, Settings, Trial, Waiting, WorkOrder
from pipeline.contract.lake_version import NewerLake
from pipeline.engine.jars import JarsNotFound
from pipeline.engine.java import JavaNotFound
from pipeline.engine.session import Session, open_session
from pipeline.engine.time_zone import TimeZoneNotFound
from pipeline.lake.lake import Lake
from pipeline.lake.lock import LakeLocked, Lock

# A survivor of a killed daemon notices within a moment; its JVM may take some seconds to end. Who waits longer says so.
LOCK_SECONDS = 10.0
# Sail keeps some megabytes of every query for as long as its process lives, tried: 90 MB a batch. Its successor starts in a second.
RETIRE_BYTES = 2 << 30
# No order for so long: time for housekeeping.
IDLE_SECONDS = 2.0
# A worker that cannot start for one of these will not by itself.
FINAL = (JavaNotFound, JarsNotFound, TimeZoneNotFound, NewerLake, ValueError)


class DaemonConnection:
    """The connection to the daemon. When the daemon is gone, so is this process, whatever it is doing."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._sending = threading.Lock()
        self._messages: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._listen, name="daemon-listener", daemon=True).start()

    def send(self, message: Any) -> None:
        with self._sending:
            try:
                self._socket.sendall((contract.to_json(message) + "\n").encode())
            except OSError:
                exit_now()

    def receive(self, timeout_seconds: float | None = None) -> Any:
        """Waits for the daemon's next message; None when it takes too long."""
        try:
            return self._messages.get(timeout=timeout_seconds)
        except Empty:
            return None

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._socket.makefile("r", encoding="utf-8") as stream:
            for line in stream:
                self._messages.put(contract.from_json(line))
        exit_now()


class Worker:
    """Takes the lake's lock for each order, and only then writes."""

    def __init__(self, line: DaemonConnection, lock_seconds: float = LOCK_SECONDS) -> None:
        self._line = line
        self._lock_seconds = lock_seconds
        self._is_busy = self._is_ending = False

    def work(self) -> int:
        """Serves until the daemon is gone, the session is lost, or it is told to end. Tells the exit code."""
        began, settings = time.monotonic(), self._line.receive()
        if not isinstance(settings, Settings):
            raise TypeError(f"the first message must be Settings, not {type(settings).__name__}")
        signal.signal(signal.SIGTERM, self._end_after_this)
        try:
            session, lake, lock, undone = self._open(settings)
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon has to tell it to somebody
            print(contract.hide_secrets(traceback.format_exc(), contract.secrets_of(settings)), file=sys.stderr)
            self._line.send(Refused(reason=_sentence(error), retryable=not isinstance(error, FINAL)))
            return 1
        seconds = round(time.monotonic() - began, 2)
        self._line.send(Ready(pid=os.getpid(), engine=session.engine, seconds=seconds, undone=undone))
        self._report_outdated(settings, lake)
        try:
            return self._serve(settings, session, lake, lock)
        finally:
            session.stop()

    def _report_outdated(self, settings: Settings, lake: Lake) -> None:
        """Names the tables that hold rows of older definitions, once in a worker's life."""
        from pipeline.reader.outdated import change_event, outdated_by_source

        try:
            manifest = Manifest(lake)
            stored = {s: newest.fingerprint for s in manifest.sources() if (newest := manifest.newest(s, "batch"))}
            for tables in outdated_by_source(settings, stored).values():
                if tables:
                    self._line.send(change_event("", tables))
        except Exception:  # noqa: BLE001 - no reason to end; the next batch says what is wrong with the lake
            traceback.print_exc()

    def _open(self, settings: Settings) -> tuple[Session, Lake, Lock, tuple[str, ...]]:
        path = Path(settings.lake_path)
        lake = Lake(path, keep_days=settings.keep_days)
        lock = Lock(path)
        with self._locked(lock):
            undone = recover(lake, report=self._line.send)
            session = open_session(settings, inherit_fds=(lock.fd,))
        _leave_ctrl_c_to_the_daemon()  # once more: Sail's server, now answering, has installed a handler with which it ends
        return session, Lake(path, session, keep_days=settings.keep_days), lock, undone

    def _serve(self, settings: Settings, session: Session, lake: Lake, lock: Lock) -> int:
        upkeep = Maintenance(lake, settings.keep_days)
        while not self._is_ending:
            order = self._line.receive(IDLE_SECONDS if upkeep.is_due else None)
            if order is None:
                with contextlib.suppress(LakeLocked), self._locked(lock, patient=False):
                    upkeep.run()
                continue
            if isinstance(order, Trial):
                self._try(order, settings, lake)
                continue
            result = self._take(order, settings, lake, lock)
            self._line.send(replace(result, retiring=session.engine == "sail" and _resident_bytes() > RETIRE_BYTES))
            upkeep.note(result)
            if result.outcome == Outcome.FAILED and not _answers(session):
                print("the session is lost; a new worker has to be started", file=sys.stderr)
                return 1
        return 0

    def _try(self, order: Trial, settings: Settings, lake: Lake) -> None:
        from pipeline.worker.trial import trial

        self._line.send(trial(order.source, settings, lake, self._line.send))

    def _take(self, order: WorkOrder, settings: Settings, lake: Lake, lock: Lock) -> Result:
        from pipeline.worker.stream import take

        with self._locked(lock):
            self._is_busy = True
            try:
                return take(order, settings, lake, self._line.send)
            finally:
                self._is_busy = False

    @contextlib.contextmanager
    def _locked(self, lock: Lock, *, patient: bool = True) -> Iterator[None]:
        while True:
            try:
                lock.take(self._lock_seconds if patient else 0.0)
                break
            except LakeLocked as error:
                if not patient:
                    raise
                self._line.send(Waiting(reason=error.what))  # it is the daemon that may lose patience
        try:
            yield
        finally:
            lock.give()  # between orders `lakegate adopt` and `restore` have their turn

    def _end_after_this(self, _signal: int, _frame: FrameType | None) -> None:
        self._is_ending = True
        if not self._is_busy:
            exit_now()


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0  # not told here: then the unit's MemoryMax decides


def exit_now() -> None:
    """Ends this process and every process that it started, now. What was being written is undone when a worker starts."""
    for pid in _descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def main(arguments: Sequence[str]) -> int:
    """Runs a worker on an inherited socket."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description="The worker that `lakegate run` starts; it is of no use by itself."
    )
    parser.add_argument("--fd", type=int, required=True, help="the inherited socket to the daemon")
    parser.add_argument(
        "--lock-seconds",
        type=float,
        default=LOCK_SECONDS,
        help="how often to say that another process writes to the lake",
    )
    options = parser.parse_args(arguments)
    faulthandler.enable()
    _leave_ctrl_c_to_the_daemon()
    return Worker(DaemonConnection(options.fd), options.lock_seconds).work()


def _leave_ctrl_c_to_the_daemon() -> None:
    # It goes to the whole group of a terminal, and only the daemon decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _answers(session: Session) -> bool:
    try:
        return bool(session.spark.sql("SELECT 1").collect())
    except Exception:  # noqa: BLE001 - a JVM that is gone shows as many kinds of error
        return False


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, FINAL) else f"{type(error).__name__}: {text}"


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_descendants(child)]
    return found

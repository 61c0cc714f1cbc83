"""The worker: a process with a warm session that runs one work order at a time. It and its JVM end with the daemon."""

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
from pipeline.contract import Outcome, Progress, Ready, Refused, Result, Settings, SetupError, Trial, WorkOrder
from pipeline.contract.error_text import one_line
from pipeline.engine.connect_server import ServerAway
from pipeline.engine.session import Session, open_session
from pipeline.lake.lake import Lake
from pipeline.lake.lock import LOOK_SECONDS, LakeLocked, Lock
from pipeline.place import StoreError, StorePath
from pipeline.place.probe import probe
from pipeline.serve.serve import serve, serve_all

# The worker of a killed daemon notices that at once, and its JVM may take some seconds to end. A worker that waits
# longer for the lock reports the holder.
LOCK_SECONDS = 10.0
# Sail keeps some megabytes of every query as long as its process lives: tests showed 90 MB a batch. So the worker ends
# at this size. The next one starts in a second.
RETIRE_BYTES = 2 << 30
IDLE_SECONDS = 2.0  # after so long without an order, due housekeeping runs
# A worker that cannot start because of one of these errors fails again until a person acts.
FINAL_ERRORS = (SetupError, ValueError)
WRITTEN_FOR_OPERATORS = (*FINAL_ERRORS, ServerAway)  # their messages need no class name


class DaemonConnection:
    """The connection to the daemon. This process ends with the daemon, also in the middle of a batch."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._send_lock = threading.Lock()
        self._messages: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._listen, name="daemon-listener", daemon=True).start()

    def send(self, message: Any) -> None:
        """Sends a message. Ends this process where the daemon is gone."""
        with self._send_lock:
            try:
                self._socket.sendall((contract.to_json(message) + "\n").encode())
            except OSError:
                exit_now()

    def receive(self, timeout_seconds: float | None = None) -> Any:
        """Returns the daemon's next message; None where none comes in time."""
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
    """Runs the daemon's orders, each under the lake's lock: a worker without the lock never writes."""

    def __init__(self, daemon: DaemonConnection, lock_seconds: float = LOCK_SECONDS) -> None:
        self._daemon = daemon
        self._lock_seconds = lock_seconds
        self._is_busy = False
        self._is_ending = False

    def work(self) -> int:
        """Runs orders until SIGTERM, the daemon's end, or the loss of the session. Returns the exit code."""
        started = time.monotonic()
        settings = self._daemon.receive()
        if not isinstance(settings, Settings):
            raise TypeError(f"the first message must be Settings, not {type(settings).__name__}")
        signal.signal(signal.SIGTERM, self._end_after_order)
        try:
            session, lake, lock, undone = self._open(settings)
        except Exception as error:  # noqa: BLE001 - the daemon logs the reason, and an operator reads it there
            secrets = contract.secrets_of(settings)
            print(contract.hide_secrets(traceback.format_exc(), secrets), file=sys.stderr)
            is_final = isinstance(error, FINAL_ERRORS)
            reason = one_line(error, secrets, with_type=not isinstance(error, WRITTEN_FOR_OPERATORS))
            self._daemon.send(Refused(reason=reason, retryable=not is_final))
            return 1
        seconds = round(time.monotonic() - started, 2)
        self._daemon.send(Ready(pid=os.getpid(), engine=session.engine, seconds=seconds, undone=undone))
        self._report_outdated(settings, lake)
        try:
            return self._take_orders(settings, session, lake, lock)
        finally:
            session.stop()

    def _report_outdated(self, settings: Settings, lake: Lake) -> None:
        """Reports the tables that hold rows of older definitions, once in a worker's life."""
        from pipeline.reader.outdated import change_event, outdated_by_source

        try:
            manifest = Manifest(lake)
            stored = {s: newest.fingerprint for s in manifest.sources() if (newest := manifest.newest(s, "batch"))}
            for tables in outdated_by_source(settings, stored).values():
                if tables:
                    self._daemon.send(change_event("", tables))
        except Exception:  # noqa: BLE001 - the worker can still work; a fault of the lake fails the next batch
            traceback.print_exc()

    def _open(self, settings: Settings) -> tuple[Session, Lake, Lock, tuple[str, ...]]:
        path = settings.lake
        lake = Lake(path, keep_days=settings.keep_days, work=settings.work)
        if isinstance(path, StorePath) and (refusal := probe(path)):
            raise SetupError(refusal)
        lock = Lock(path, on_lost=exit_now)
        with self._locked(lock):
            undone = recover(lake, report=self._daemon.send)
            session = open_session(settings, inherit_fds=lock.inherited)
        _ignore_ctrl_c()  # again, because Sail's server has just installed a handler that ends this process
        return session, Lake(path, session, keep_days=settings.keep_days, work=settings.work), lock, undone

    def _take_orders(self, settings: Settings, session: Session, lake: Lake, lock: Lock) -> int:
        maintenance, is_new = Maintenance(lake, settings.keep_days), True
        while not self._is_ending:
            order = self._daemon.receive(IDLE_SECONDS if is_new or maintenance.is_due else None)
            if order is None:
                # Not before the first order: a fault of what serves readers must not keep a batch from its attempt.
                with contextlib.suppress(LakeLocked, StoreError), self._locked(lock, waits=False):
                    if maintenance.is_due:
                        maintenance.run()
                    serve_all(lake, settings, self._daemon.send)
                    is_new = False
                continue
            if isinstance(order, Trial):
                self._try_source(order, settings, lake)
                continue
            result = self._run_order(order, settings, lake, lock)
            serves = bool(settings.serve_layers) and result.outcome in (Outcome.PUBLISHED, Outcome.DUPLICATE)
            is_large = session.engine == "sail" and _resident_bytes() > RETIRE_BYTES
            self._daemon.send(replace(result, serves=serves, retiring=is_large))
            if serves:  # after the answer: no fault of it changes the verdict about the batch
                with self._locked(lock):
                    serve(lake, Manifest(lake), settings, order.source, self._daemon.send)
            maintenance.count(result)
            if result.outcome == Outcome.FAILED and not _answers(session):
                print("the session is lost; a new worker has to be started", file=sys.stderr)
                return 1
        return 0

    def _try_source(self, order: Trial, settings: Settings, lake: Lake) -> None:
        from pipeline.worker.trial import trial

        self._daemon.send(trial(order.source, settings, lake, self._daemon.send))

    def _run_order(self, order: WorkOrder, settings: Settings, lake: Lake, lock: Lock) -> Result:
        from pipeline.worker.stream import take

        with self._locked(lock):
            self._is_busy = True
            try:
                return take(order, settings, lake, self._daemon.send)
            finally:
                self._is_busy = False

    @contextlib.contextmanager
    def _locked(self, lock: Lock, *, waits: bool = True) -> Iterator[None]:
        while True:
            try:
                lock.acquire(self._lock_seconds if waits else 0.0)
                break
            except (LakeLocked, StoreError) as error:
                if not waits:
                    raise
                # The daemon decides how long a batch may wait.
                reason = error.reason if isinstance(error, LakeLocked) else f"the lake does not answer ({error})"
                self._daemon.send(Progress(batch_id="", event=contract.WAITING, values={"reason": reason}))
                time.sleep(0.0 if isinstance(error, LakeLocked) else LOOK_SECONDS[1])
        try:
            yield
        finally:
            lock.release()  # between orders `lakegate adopt` and `restore` can take the lock

    def _end_after_order(self, _signal: int, _frame: FrameType | None) -> None:
        self._is_ending = True
        if not self._is_busy:
            exit_now()


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0  # unknown on this machine: then the unit's MemoryMax decides


def exit_now() -> None:
    """Ends this process and every process that it started, at once. The next worker undoes an unfinished attempt."""
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
    _ignore_ctrl_c()
    return Worker(DaemonConnection(options.fd), options.lock_seconds).work()


def _ignore_ctrl_c() -> None:
    # A terminal sends Ctrl-C to the whole process group. The daemon alone decides when its worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _answers(session: Session) -> bool:
    try:
        return bool(session.spark.sql("SELECT 1").collect())
    except Exception:  # noqa: BLE001 - a lost JVM shows as one of many kinds of error
        return False


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_descendants(child)]
    return found

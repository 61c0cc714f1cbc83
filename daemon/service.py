"""THE STORY of the daemon. One tick lists the landing zone, registers triggers as batches, claims their files, gives
the next batch to the worker and archives decided batches. All state that matters is in the ledger and the folders: the
process may be killed between any two steps, and the next one goes on.
"""

import os
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from daemon.alerts.direct import send_start_failed
from daemon.batch import OPEN, Batch, State
from daemon.clock import Clock
from daemon.components import build
from daemon.config.config import Config
from daemon.dispatch.dispatch import WorkerUnavailable
from daemon.files.folder_access import FolderAccessError, exposed_reason
from daemon.files.lock import AlreadyRunningError
from daemon.files.safe_files import StoppingError
from daemon.landing.scan import Listing
from daemon.observe.log import Log
from daemon.observe.sd_notify import notify
from daemon.text import error_line
from daemon.wakeup import WakeEvents, stop_on_signals
from pipeline import contract

DONE = 0
SOME_FAILED = 1
BUSY = 75
CONFIG = 78
# Errors that end a run and stay until a person acts.
FOR_A_PERSON = (FolderAccessError, contract.SetupError)
WORKER = (sys.executable, "-m", "pipeline")
OPEN_SECONDS = 2.0
IDLE_SECONDS = 60.0
GLANCE_SECONDS = 1.0  # the time between two checks for changes without events


class Service:
    """The daemon of one landing zone."""

    def __init__(
        self,
        config: Config,
        *,
        once: bool,
        log: Log,
        command: Sequence[str],
        catalogue: Sequence[contract.CatalogSource],
        clock: Clock,
        wake_events: WakeEvents | None = None,
    ) -> None:
        self.config = config
        self.once = once
        self.log = log
        self.clock = clock
        self.wake_events = wake_events or WakeEvents()
        self.listing = Listing()
        self.pending = 0  # triggers that are not registered yet
        self.failures = 0  # failed ticks in a row
        self.taken: set[str] = set()  # batches of this run
        self.broken = [s for s in catalogue if s.broken]
        self.components = build(
            config,
            log=log,
            clock=clock,
            command=command,
            catalogue=catalogue,
            wake=self.wake_events.wake,
            on_change=self._add_taken,
            heartbeat=self._heartbeat,
        )
        self.ledger = self.components.ledger

    def __enter__(self) -> Self:
        """Locks the landing zone and repairs what the last daemon left half done.

        Raises AlreadyRunningError, and SetupError.
        """
        try:
            self.listing = self.components.landing.scan()
            self.log.info(
                "daemon.started",
                pid=os.getpid(),
                config=str(self.config.path),
                landing=str(self.config.landing.path),
                once=self.once,
            )
            for source in self.broken:
                self.log.error("source.load_failed", source=source.name, reason=source.broken)
            self.taken |= {b.batch_id for b in self.ledger.batches(*OPEN)}
            self._reconcile()
        except BaseException:
            self.components.close()
            raise
        return self

    def _reconcile(self) -> None:
        if self.listing.is_complete and self.components.claim.is_ours():
            try:
                self.components.claim.reconcile()
            except FolderAccessError as error:  # the folder was replaced since; each tick checks it again
                self.components.troubles.environment_failed(str(error))

    def tick(self) -> None:
        """Makes one tick: list, register triggers, claim files, dispatch, archive, run the hook."""
        components = self.components
        components.observer.check()
        listing = components.landing.scan()
        is_ours = components.claim.is_ours()
        # without a safe claim folder nothing can be taken
        self.listing = listing if is_ours else Listing(is_complete=False)
        if self.listing.is_complete:
            self.pending = components.intake.step(self.listing)
        components.completer.step(self.listing)
        components.dispatch.step(is_wanted=not self.once or self.has_work())
        if self.once:
            components.dispatch.fail_unrunnable()
            components.dispatch.stop_at_busy_lake()
        if is_ours:
            components.archive.step()
        if not components.dispatch.is_serving:  # the command may read the folder for readers
            components.publish_hook.step()
        if self.once and not self.pending and not self.ledger.awaiting_archive():
            components.dispatch.stop_without_worker()

    def loop(self) -> int:
        """Ticks until it is stopped or, once, until nothing is left to do."""
        notify("READY=1")
        while not self.wake_events.stopping.is_set():
            self.wake_events.wake.clear()
            self._reopen_when_asked()
            if self._tick_safely():
                break
            self._rest_safely()
        return DONE if not self.once or self._all_archived() else SOME_FAILED

    def _all_archived(self) -> bool:
        return self.failures == 0 and all(self.ledger.batch(b).state == State.ARCHIVED for b in self.taken)

    def has_work(self) -> bool:
        """Whether a trigger or a batch is on its way."""
        return self.pending > 0 or self.ledger.has_open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        notify("STOPPING=1")
        self.components.close()
        self.log.info(
            "daemon.stopped",
            pid=os.getpid(),
            reason=self.wake_events.stop_reason or str(error or "nothing left to do"),
        )

    # ---- between ticks

    def _reopen_when_asked(self) -> None:
        if self.wake_events.reopening.is_set():
            self.wake_events.reopening.clear()
            self.components.dispatch.recycle_worker()
            # the daemon's own log needs no more: each line goes to the file that has the name now
            self.log.info("log.reopened", path=str(self.config.log.path))

    def _tick_safely(self) -> bool:
        """Makes one tick, and survives a full disk. Returns whether a run that must end can do no more."""
        is_drained = False
        try:
            self.tick()
            is_drained = self.listing.is_complete and self._is_drained()
            self.failures = 0 if self.listing.is_complete else self.failures + 1
        except StoppingError:
            return False
        except (OSError, sqlite3.Error) as error:
            # a full disk or a folder without rights: nothing is lost, and it may be repaired meanwhile
            self.failures += 1
            self.components.troubles.environment_failed(error_line(error))
        self.components.end_tick(self.clock.now())
        self._feed_watchdog()
        return self.once and (is_drained or self._has_given_up())

    def _is_drained(self) -> bool:
        if self.has_work() or self.components.dispatch.is_busy or self.ledger.awaiting_archive():
            return False
        return self.components.publish_hook.is_idle()

    def _has_given_up(self) -> bool:
        is_stuck = self.components.archive.has_given_up() and not self.components.dispatch.is_busy
        return is_stuck or self.failures >= self.config.retry.attempts

    def _rest_safely(self) -> None:
        try:
            self._rest()
        except sqlite3.Error as error:  # without the ledger the time of the next tick is unknown
            self.components.troubles.environment_failed(error_line(error))
            self.wake_events.wake.wait(OPEN_SECONDS)

    def _rest(self) -> None:
        version = self.ledger.data_version()
        until = self.clock.monotonic() + self._next_due_in()
        while (seconds := until - self.clock.monotonic()) > 0 and not self.wake_events.stopping.is_set():
            if self.wake_events.wake.wait(min(seconds, GLANCE_SECONDS)):
                self.wake_events.stopping.wait(0.02)  # several events at a time are one reason for a tick
                return
            if (
                self.ledger.data_version() != version or self.components.observer.is_stale()
            ):  # `lakegate retry` wrote, or a volume was unmounted
                return
            self._feed_watchdog()

    def _next_due_in(self) -> float:
        components = self.components
        due = [components.next_due_in()]
        due.append(OPEN_SECONDS if self.failures or self.has_work() else IDLE_SECONDS)
        if components.intake.is_behind:
            due.append(0.0)
        seen_files = [*self.listing.triggers, *(f for files in self.listing.data.values() for f in files)]
        left = [self.config.debounce.quiet_seconds - f.unchanged_seconds for f in seen_files]
        due += [seconds + 0.005 for seconds in left if seconds > 0]
        return max(0.01, min(due))

    def _feed_watchdog(self) -> None:
        if not self.components.worker.is_stuck:
            notify("WATCHDOG=1")

    def _heartbeat(self) -> None:
        if self.wake_events.stopping.is_set():
            raise StoppingError
        self._feed_watchdog()

    def _add_taken(self, batch: Batch) -> None:
        self.taken.add(batch.batch_id)


def run(
    config: Config,
    *,
    once: bool,
    quiet: bool = False,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    command: Sequence[str] = WORKER,
    catalogue: Sequence[contract.CatalogSource] | None = None,
    clock: Clock | None = None,
    wake_events: WakeEvents | None = None,
) -> int:
    """Runs the daemon until SIGTERM or SIGINT, or `once` until nothing is left to do. Returns the exit code."""
    to_stderr = not quiet and on_event is None
    secrets = config.secrets(os.environ)
    log = Log(config.log.path, config.log.level, stderr=to_stderr, on_event=on_event, secrets=secrets)
    wake_events = wake_events or WakeEvents()
    try:
        if sentence := exposed_reason(config.landing):
            if not config.landing.allow_world_writable:
                raise contract.SetupError(sentence)
            log.warning("landing.exposed", reason=sentence)
        with stop_on_signals(wake_events):
            with suppress(contract.StoreError):  # the worker tries again until the store answers
                contract.check_lake(config.settings.lake)
            sources = (
                contract.catalog(config.settings.source_paths, config.settings.exclude)
                if catalogue is None
                else catalogue
            )
            with Service(
                config,
                once=once,
                log=log,
                command=command,
                catalogue=sources,
                clock=clock or Clock(),
                wake_events=wake_events,
            ) as service:
                return service.loop()
    except (AlreadyRunningError, WorkerUnavailable, *FOR_A_PERSON, OSError, sqlite3.Error) as refusal:
        log.error("daemon.start_failed", reason=str(refusal))  # noqa: TRY400  the sentence is complete
        if quiet or on_event:
            with suppress(OSError):  # the terminal was closed
                print(refusal, file=sys.stderr)
        return _exit_code_of(refusal, config, log)
    except Exception as error:
        log.error("daemon.crashed", reason=error_line(error), error=traceback.format_exc())  # noqa: TRY400  as one line
        raise


def _exit_code_of(refusal: Exception, config: Config, log: Log) -> int:
    if isinstance(refusal, AlreadyRunningError):
        return BUSY
    if not isinstance(refusal, FOR_A_PERSON):
        return SOME_FAILED
    # 78 keeps systemd from another start, so an alert must reach a person
    send_start_failed(str(refusal), config, log)
    return CONFIG

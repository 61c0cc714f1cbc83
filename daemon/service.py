"""THE STORY of the daemon. One tick looks at the landing zone, releases triggers as batches, collects their files, dispatches
the next batch to the worker and reports what became of it. All memory that matters is the ledger and the folders: the
process may be killed between any two steps, and the next one goes on.
"""

import os
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from daemon.batch import OPEN, Batch, State
from daemon.bell import Bell, rung_by_signals
from daemon.clock import Clock
from daemon.config import Config
from daemon.landing import Sight
from daemon.ledger import LedgerError
from daemon.lock import HeldError
from daemon.logs import Log
from daemon.notify import notify
from daemon.rooms import Rooms
from pipeline import contract

DONE, SOME_FAILED, BUSY = 0, 1, 75
WORKER = (sys.executable, "-m", "pipeline")
OPEN_SECONDS, IDLE_SECONDS = 2.0, 60.0  # the folder is looked at so often without any event
GLANCE_SECONDS = 1.0  # and so often for what makes no event at all


class StoppingError(Exception):
    """The daemon is asked to stop in the middle of a long read; what is half done is gone on with after the next start."""


class Service:
    """The daemon of one landing zone."""

    def __init__(
        self,
        config: Config,
        *,
        once: bool,
        log: Log,
        command: Sequence[str],
        catalogue: Sequence[contract.CatalogueSource],
        clock: Clock,
        bell: Bell | None = None,
    ) -> None:
        self.config, self.once, self.log, self.clock = config, once, log, clock
        self.bell = bell or Bell()
        self.sight = Sight()
        self.pending = 0  # triggers that are no batches yet
        self.failures = 0  # ticks in a row that could not do their work
        self.taken: set[str] = set()  # batches that this run has had to do with
        self.broken = [s for s in catalogue if s.broken]
        self.rooms = Rooms(config, log=log, clock=clock, command=command, catalogue=catalogue, wake=self.bell.wake, on_change=self._note, pulse=self._pulse)
        self.ledger = self.rooms.ledger

    def __enter__(self) -> Self:
        """Takes the landing zone and puts right what the last daemon left half done. Raises HeldError."""
        try:
            self.sight = self.rooms.landing.look()
            self.log.info("daemon.started", pid=os.getpid(), config=str(self.config.path), landing=str(self.config.landing.path), once=self.once)
            for source in self.broken:
                self.log.error("source.broken", source=source.name, reason=source.broken)
            self.taken |= {b.batch_id for b in self.ledger.batches(*OPEN)}
            self.rooms.dispatch.recover()
            if self.sight.is_whole:
                self.rooms.claim.reconcile()
        except BaseException:
            self.rooms.close()
            raise
        return self

    def tick(self) -> None:
        """One turn: look, release, collect, dispatch, report."""
        rooms = self.rooms
        rooms.watch.check()
        self.sight = rooms.landing.look()
        if self.sight.is_whole:
            self.pending = rooms.release.step(self.sight)
        rooms.collect.step(self.sight)
        rooms.dispatch.step(is_wanted=not self.once or self.has_work())
        if self.once:
            rooms.dispatch.fail_hopeless()
            rooms.dispatch.leave_a_busy_lake()
        rooms.archive.step()
        rooms.announce.step()

    def loop(self) -> int:
        """Ticks until it is stopped or, once, until nothing is left to do."""
        notify("READY=1")
        while not self.bell.stopping.is_set():
            self.bell.wake.clear()
            self._tick_safely()
            if self.once and self.is_drained():
                break
            self._rest()
        is_well = not self.once or (self.failures == 0 and all(self.ledger.batch(b).state == State.ARCHIVED for b in self.taken))
        return DONE if is_well else SOME_FAILED

    def has_work(self) -> bool:
        """Whether a trigger or batch is on its way."""
        return self.pending > 0 or self.ledger.has_open()

    def is_drained(self) -> bool:
        """Whether a run that is to end has nothing left that it can do."""
        rooms = self.rooms
        if self.failures >= self.config.retry.attempts or (rooms.archive.has_given_up() and not rooms.dispatch.is_busy):
            return True
        return self.failures == 0 and not self.has_work() and not self.ledger.to_put_away() and rooms.announce.is_quiet()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        notify("STOPPING=1")
        self.rooms.close()
        self.log.info("daemon.stopped", pid=os.getpid(), reason="asked to" if self.bell.stopping.is_set() else str(error or "nothing left to do"))

    # ---- between ticks

    def _tick_safely(self) -> None:
        try:
            self.tick()
            self.failures = 0 if self.sight.is_whole else self.failures + 1
        except StoppingError:
            return
        except (OSError, sqlite3.Error) as error:
            # a full disk or a folder without rights: nothing has been lost, and it may be mended while we wait
            self.failures += 1
            self.rooms.report.trouble(f"{type(error).__name__}: {error}")
        self.rooms.report.turn()
        self._feed_watchdog()

    def _rest(self) -> None:
        version = self.ledger.data_version()
        until = self.clock.monotonic() + self._next_due_in()
        while (seconds := until - self.clock.monotonic()) > 0 and not self.bell.stopping.is_set():
            if self.bell.wake.wait(min(seconds, GLANCE_SECONDS)):
                self.bell.stopping.wait(0.02)  # a burst of events is one reason to look
                return
            if self.ledger.data_version() != version or self.rooms.watch.is_stale():  # `lakegate retry` wrote, or a volume went
                return
            self._feed_watchdog()

    def _next_due_in(self) -> float:
        rooms, quiet = self.rooms, self.config.debounce.quiet_seconds
        due = [rooms.dispatch.next_due_in(), rooms.archive.next_due_in(), rooms.watch.next_due_in()]
        due.append(OPEN_SECONDS if self.failures or self.has_work() else IDLE_SECONDS)
        if rooms.release.is_behind:
            due.append(0.0)
        spots = [*self.sight.triggers, *(s for spots in self.sight.data.values() for s in spots)]
        due += [quiet - s.quiet_for + 0.005 for s in spots if s.quiet_for < quiet]
        return max(0.01, min(due))

    def _feed_watchdog(self) -> None:
        if not self.rooms.worker.is_stuck:
            notify("WATCHDOG=1")

    def _pulse(self) -> None:
        if self.bell.stopping.is_set():
            raise StoppingError
        self._feed_watchdog()

    def _note(self, batch: Batch) -> None:
        self.taken.add(batch.batch_id)


def run(
    config: Config,
    *,
    once: bool,
    quiet: bool = False,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    command: Sequence[str] = WORKER,
    catalogue: Sequence[contract.CatalogueSource] | None = None,
    clock: Clock | None = None,
    bell: Bell | None = None,
) -> int:
    """Runs the daemon until SIGTERM or SIGINT, or `once` until nothing is left to do. Returns the exit code."""
    log = Log(config.log.path, config.log.level, stderr=not quiet and on_event is None, on_event=on_event)
    bell = bell or Bell()
    try:
        with rung_by_signals(bell):
            sources = contract.catalogue(config.settings.source_paths, config.settings.without) if catalogue is None else catalogue
            with Service(config, once=once, log=log, command=command, catalogue=sources, clock=clock or Clock(), bell=bell) as service:
                return service.loop()
    except (HeldError, LedgerError, OSError) as refusal:
        log.error("daemon.refused", reason=str(refusal))  # noqa: TRY400  the sentence says it all
        if quiet or on_event:
            print(refusal, file=sys.stderr)
        return BUSY if isinstance(refusal, HeldError) else SOME_FAILED
    except Exception as error:
        log.error("daemon.crashed", reason=f"{type(error).__name__}: {error}", error=traceback.format_exc())  # noqa: TRY400  as one line
        raise

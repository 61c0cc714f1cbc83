"""THE STORY of the daemon. One tick looks at the landing zone, releases triggers as batches, collects their files, dispatches
the next batch to the worker and reports what became of it. All memory that matters is the ledger and the folders: the
process may be killed between any two steps and the next one goes on.
"""

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from daemon import lock
from daemon.alerts import Alerts
from daemon.announce import Announce
from daemon.archive import Archive
from daemon.batch import OPEN, Batch, State
from daemon.claim import Claim
from daemon.clock import Clock
from daemon.collect import Collect
from daemon.config import Config
from daemon.dispatch import Dispatch
from daemon.landing import Landing, Sight
from daemon.ledger import Ledger, LedgerError
from daemon.logs import Log
from daemon.moves import make_folder
from daemon.notify import notify
from daemon.release import Release
from daemon.report import Report
from daemon.watch import Watch
from pipeline import contract

DONE, SOME_FAILED, BUSY = 0, 1, 75
WORKER = (sys.executable, "-m", "pipeline")
OPEN_SECONDS, IDLE_SECONDS = 2.0, 60.0  # the folder is looked at so often without any event
GLANCE_SECONDS = 1.0  # and so often for what makes no event at all


class StoppingError(Exception):
    """The daemon is asked to stop in the middle of a long read; what is half done is gone on with after the next start."""


class Service:
    """The daemon of one landing zone."""

    def __init__(self, config: Config, *, once: bool, log: Log, command: Sequence[str], catalogue: Sequence[contract.CatalogueSource], clock: Clock) -> None:
        self.config, self.once, self.log, self.clock = config, once, log, clock
        self.wake, self.stopping = threading.Event(), threading.Event()
        self.alerts = Alerts(config.alerts.urls, log)
        self.report = Report(log, self.alerts)
        self.taken: set[str] = set()
        self.pending = 0  # triggers that are no batches yet
        self.failures = 0  # ticks in a row that met trouble
        self.sight = Sight()
        self._lock = lock.hold_file(config.ledger_path.with_name(config.ledger_path.name + ".lock"))
        self.ledger = Ledger.opened(config.ledger_path, clock, self._changed)
        self._make_folders()
        self.landing = Landing(config, clock, self.report.trouble, lambda descriptor: lock.hold(descriptor, config.landing.path))
        self.claim = Claim(config=config, ledger=self.ledger, landing=self.landing, log=log, pulse=self._pulse)
        self.release = Release(
            config=config, catalogue=catalogue, ledger=self.ledger, landing=self.landing, claim=self.claim, log=log, clock=clock,
            pulse=self._pulse,
        )
        self.collect = Collect(config=config, ledger=self.ledger, claim=self.claim, log=log, clock=clock, pulse=self._pulse)
        self.dispatch = Dispatch(
            config=config, ledger=self.ledger, claim=self.claim, log=log, clock=clock, wake=self.wake, command=command, alert=self.alerts.send
        )
        self.archive = Archive(config=config, ledger=self.ledger, claim=self.claim, log=log, clock=clock, pulse=self._pulse)
        self.announce = Announce(config.dispatch.on_published, self.ledger, log, self.wake.set)
        zone = config.landing
        self.watch = Watch(
            (zone.path, zone.trigger_path), (zone.claim_path, zone.archive_path, zone.rejected_path), wake=self.wake, clock=clock, log=log
        )

    def __enter__(self) -> Self:
        """Takes the landing zone and puts right what the last daemon left half done. Raises HeldError."""
        self.sight = self.landing.look()
        self.log.info("daemon.started", pid=os.getpid(), config=str(self.config.path), landing=str(self.config.landing.path), once=self.once)
        self.taken |= {b.batch_id for b in self.ledger.batches(*OPEN)}
        self.dispatch.recover()
        if self.sight.is_whole:
            self.claim.reconcile()
        return self

    def tick(self) -> None:
        """One turn: look, release, collect, dispatch, report."""
        self.watch.check()
        self.sight = self.landing.look()
        if self.sight.is_whole:
            self.pending = self.release.step(self.sight)
        self.collect.step(self.sight)
        self.dispatch.step(is_wanted=not self.once or self.has_work())
        if self.once:
            self.dispatch.fail_hopeless()
        self.archive.step()
        self.announce.step()

    def has_work(self) -> bool:
        """Whether a trigger or batch is on its way."""
        return self.pending > 0 or self.ledger.has_open()

    def is_drained(self) -> bool:
        """Whether a run that is to end has nothing left that it can do."""
        if self.failures >= self.config.retry.attempts or (self.archive.has_given_up() and not self.dispatch.is_busy):
            return True
        return self.failures == 0 and not self.has_work() and not self.ledger.to_put_away() and self.announce.is_quiet()

    def loop(self) -> int:
        """Ticks until it is stopped, or, once, until nothing is left to do."""
        notify("READY=1")
        while not self.stopping.is_set():
            self.wake.clear()
            self._tick_safely()
            if self.once and self.is_drained():
                break
            self._rest()
        is_well = not self.once or (self.failures == 0 and all(self.ledger.batch(b).state == State.ARCHIVED for b in self.taken))
        return DONE if is_well else SOME_FAILED

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        notify("STOPPING=1")
        try:
            self.dispatch.stop()
            self.watch.stop()
        except (OSError, sqlite3.Error) as trouble:  # the next start hands the batch back
            self.log.warning("trouble.seen", reason=f"{type(trouble).__name__}: {trouble}")
        self.alerts.finish(patience_seconds=self.config.dispatch.stop_seconds / 2)
        self.log.info("daemon.stopped", pid=os.getpid(), reason="asked to" if self.stopping.is_set() else str(error or "nothing left to do"))
        self.ledger.close()
        self.landing.close()
        os.close(self._lock)

    # ---- details

    def stop(self) -> None:
        self.stopping.set()
        self.wake.set()

    def _tick_safely(self) -> None:
        try:
            self.tick()
            self.failures = 0 if self.sight.is_whole else self.failures + 1
        except StoppingError:
            return
        except (OSError, sqlite3.Error) as error:
            # a full disk or a folder without rights: nothing has been lost, and it may be mended while we wait
            self.failures += 1
            self.report.trouble(f"{type(error).__name__}: {error}")
        self.report.turn()
        self._feed_watchdog()

    def _rest(self) -> None:
        version = self.ledger.data_version()
        until = self.clock.monotonic() + self._next_due_in()
        while (seconds := until - self.clock.monotonic()) > 0 and not self.stopping.is_set():
            if self.wake.wait(min(seconds, GLANCE_SECONDS)):
                self.stopping.wait(0.02)  # a burst of events is one reason to look
                return
            if self.ledger.data_version() != version or self.watch.is_stale():  # another process wrote, `lakegate retry`, or a volume went
                return
            self._feed_watchdog()

    def _next_due_in(self) -> float:
        due = [self.dispatch.next_due_in(), self.archive.next_due_in(), self.watch.next_due_in(), OPEN_SECONDS if self.has_work() else IDLE_SECONDS]
        if self.failures:
            due.append(OPEN_SECONDS)
        if self.release.is_behind:
            due.append(0.0)
        quiet = self.config.debounce.quiet_seconds
        spots = [*self.sight.triggers, *(s for spots in self.sight.data.values() for s in spots)]
        due += [quiet - s.quiet_for + 0.005 for s in spots if s.quiet_for < quiet]
        return max(0.01, min(due))

    def _feed_watchdog(self) -> None:
        if not self.dispatch.is_stuck:
            notify("WATCHDOG=1")

    def _pulse(self) -> None:
        if self.stopping.is_set():
            raise StoppingError
        self._feed_watchdog()

    def _changed(self, event: str, batch: Batch) -> None:
        self.taken.add(batch.batch_id)
        self.report.change(event, batch)

    def _make_folders(self) -> None:
        # only where nothing has ever been: later a missing folder is a volume that is not mounted, not an empty zone
        if not self.ledger.counts():
            for path in (self.config.landing.path, self.config.landing.trigger_path):
                make_folder(path)


def run(
    config: Config,
    *,
    once: bool,
    quiet: bool = False,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    command: Sequence[str] = WORKER,
    catalogue: Sequence[contract.CatalogueSource] | None = None,
    clock: Clock | None = None,
) -> int:
    """Runs the daemon until SIGTERM or SIGINT, or `once` until nothing is left to do. Returns the exit code."""
    log = Log(config.log.path, config.log.level, stderr=not quiet and on_event is None, on_event=on_event)
    try:
        sources = contract.catalogue() if catalogue is None else catalogue
        service = Service(config, once=once, log=log, command=command, catalogue=sources, clock=clock or Clock())
        with _signals(service), service:
            return service.loop()
    except (lock.HeldError, LedgerError, OSError) as refusal:
        log.error("daemon.refused", reason=str(refusal))  # noqa: TRY400  the sentence says it all
        if quiet or on_event:
            print(refusal, file=sys.stderr)
        return BUSY if isinstance(refusal, lock.HeldError) else SOME_FAILED


@contextmanager
def _signals(service: Service) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # in a thread of its own: the interrupted code may hold the very lock that an event needs to be set
        threading.Thread(target=service.stop, name="stop").start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

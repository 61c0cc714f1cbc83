"""THE STORY of the daemon. One tick looks at the landing zone, releases triggers as batches, collects their files, dispatches
the next batch to the worker and reports what became of it. All memory that matters is the ledger and the folders: the
process may be killed between any two steps, and the next one goes on.
"""

import os
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from daemon.batch import OPEN, Batch, State
from daemon.clock import Clock
from daemon.components import Rooms
from daemon.config.config import Config
from daemon.files.folder_access import ExposedError, GroundError, UnfitGroundError, exposed
from daemon.files.lock import HeldError
from daemon.files.safe_files import StoppingError
from daemon.landing.scan import Sight
from daemon.ledger.ledger import LedgerError
from daemon.observe.alerts import Alerts
from daemon.observe.log import Log
from daemon.observe.sd_notify import notify
from daemon.wakeup import Bell, rung_by_signals
from pipeline import contract

DONE, SOME_FAILED, BUSY, CONFIG = 0, 1, 75, 78
# What ends a run and stays as it is until a person acts.
FOR_A_PERSON = (LedgerError, ExposedError, GroundError, UnfitGroundError, contract.NewerLake)
WORKER = (sys.executable, "-m", "pipeline")
OPEN_SECONDS, IDLE_SECONDS = 2.0, 60.0  # the folder is looked at so often without any event
GLANCE_SECONDS = 1.0  # and so often for what makes no event at all


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
        bell: Bell | None = None,
    ) -> None:
        self.config, self.once, self.log, self.clock = config, once, log, clock
        self.bell = bell or Bell()
        self.sight = Sight()
        self.pending = 0  # triggers that are no batches yet
        self.failures = 0  # ticks in a row that could not do their work
        self.taken: set[str] = set()  # batches that this run has had to do with
        self.broken = [s for s in catalogue if s.broken]
        self.rooms = Rooms(
            config,
            log=log,
            clock=clock,
            command=command,
            catalogue=catalogue,
            wake=self.bell.wake,
            on_change=self._note,
            pulse=self._pulse,
        )
        self.ledger = self.rooms.ledger

    def __enter__(self) -> Self:
        """Takes the landing zone and puts right what the last daemon left half done.

        Raises HeldError, and UnfitGroundError.
        """
        try:
            self.sight = self.rooms.landing.look()
            self.log.info(
                "daemon.started",
                pid=os.getpid(),
                config=str(self.config.path),
                landing=str(self.config.landing.path),
                once=self.once,
            )
            for source in self.broken:
                self.log.error("source.broken", source=source.name, reason=source.broken)
            self.taken |= {b.batch_id for b in self.ledger.batches(*OPEN)}
            self._reconcile()
        except BaseException:
            self.rooms.close()
            raise
        return self

    def _reconcile(self) -> None:
        if self.sight.is_whole and self.rooms.claim.is_ours():
            try:
                self.rooms.claim.reconcile()
            except GroundError as error:  # it was swapped since; each tick looks again
                self.rooms.report.trouble(str(error))

    def tick(self) -> None:
        """One turn: look, release, collect, dispatch, report."""
        rooms = self.rooms
        rooms.watch.check()
        seen, is_ours = rooms.landing.look(), rooms.claim.is_ours()
        self.sight = seen if is_ours else Sight(is_whole=False)  # with nowhere safe to put it, nothing can be taken
        if self.sight.is_whole:
            self.pending = rooms.release.step(self.sight)
        rooms.collect.step(self.sight)
        rooms.dispatch.step(is_wanted=not self.once or self.has_work())
        if self.once:
            rooms.dispatch.fail_hopeless()
            rooms.dispatch.leave_a_busy_lake()
        if is_ours:
            rooms.archive.step()
        rooms.announce.step()

    def loop(self) -> int:
        """Ticks until it is stopped or, once, until nothing is left to do."""
        notify("READY=1")
        while not self.bell.stopping.is_set():
            self.bell.wake.clear()
            self._reopen_when_asked()
            if self._turn():
                break
            self._rest_safely()
        is_well = not self.once or (
            self.failures == 0 and all(self.ledger.batch(b).state == State.ARCHIVED for b in self.taken)
        )
        return DONE if is_well else SOME_FAILED

    def has_work(self) -> bool:
        """Whether a trigger or batch is on its way."""
        return self.pending > 0 or self.ledger.has_open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        notify("STOPPING=1")
        self.rooms.close()
        self.log.info(
            "daemon.stopped",
            pid=os.getpid(),
            reason="asked to" if self.bell.stopping.is_set() else str(error or "nothing left to do"),
        )

    # ---- between ticks

    def _reopen_when_asked(self) -> None:
        if self.bell.reopening.is_set():
            self.bell.reopening.clear()
            self.rooms.dispatch.renew_worker()
            # the daemon's own needs no more than a line: each goes to the file that has the name now
            self.log.info("log.reopened", path=str(self.config.log.path))

    def _turn(self) -> bool:
        """Makes one tick, which a full disk does not end. Returns whether a run that is to end can do no more."""
        is_drained = False
        try:
            self.tick()
            is_drained = self.sight.is_whole and self._is_drained()
            self.failures = 0 if self.sight.is_whole else self.failures + 1
        except StoppingError:
            return False
        except (OSError, sqlite3.Error) as error:
            # a full disk or a folder without rights: nothing has been lost, and it may be mended while we wait
            self.failures += 1
            self.rooms.report.trouble(f"{type(error).__name__}: {error}")
        self.rooms.report.turn()
        self._feed_watchdog()
        return self.once and (is_drained or self._has_given_up())

    def _is_drained(self) -> bool:
        return not self.has_work() and not self.ledger.to_put_away() and self.rooms.announce.is_quiet()

    def _has_given_up(self) -> bool:
        archive, dispatch = self.rooms.archive, self.rooms.dispatch
        return self.failures >= self.config.retry.attempts or (archive.has_given_up() and not dispatch.is_busy)

    def _rest_safely(self) -> None:
        try:
            self._rest()
        except sqlite3.Error as error:  # the ledger cannot say when the next tick is due
            self.rooms.report.trouble(f"{type(error).__name__}: {error}")
            self.bell.wake.wait(OPEN_SECONDS)

    def _rest(self) -> None:
        version = self.ledger.data_version()
        until = self.clock.monotonic() + self._next_due_in()
        while (seconds := until - self.clock.monotonic()) > 0 and not self.bell.stopping.is_set():
            if self.bell.wake.wait(min(seconds, GLANCE_SECONDS)):
                self.bell.stopping.wait(0.02)  # a burst of events is one reason to look
                return
            if (
                self.ledger.data_version() != version or self.rooms.watch.is_stale()
            ):  # `lakegate retry` wrote, or a volume went
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
    catalogue: Sequence[contract.CatalogSource] | None = None,
    clock: Clock | None = None,
    bell: Bell | None = None,
) -> int:
    """Runs the daemon until SIGTERM or SIGINT, or `once` until nothing is left to do. Returns the exit code."""
    to_stderr = not quiet and on_event is None
    secrets = config.secrets(os.environ)
    log = Log(config.log.path, config.log.level, stderr=to_stderr, on_event=on_event, secrets=secrets)
    bell = bell or Bell()
    try:
        if sentence := exposed(config.landing):
            if not config.landing.allow_world_writable:
                raise ExposedError(sentence)
            log.warning("landing.exposed", reason=sentence)
        with rung_by_signals(bell):
            contract.check_lake(Path(config.settings.lake_path))
            sources = (
                contract.catalog(config.settings.source_paths, config.settings.without)
                if catalogue is None
                else catalogue
            )
            with Service(
                config, once=once, log=log, command=command, catalogue=sources, clock=clock or Clock(), bell=bell
            ) as service:
                return service.loop()
    except (HeldError, *FOR_A_PERSON, OSError, sqlite3.Error) as refusal:
        log.error("daemon.refused", reason=str(refusal))  # noqa: TRY400  the sentence says it all
        if quiet or on_event:
            with suppress(OSError):  # a terminal that was closed
                print(refusal, file=sys.stderr)
        return _refused(refusal, config, log)
    except Exception as error:
        log.error("daemon.crashed", reason=f"{type(error).__name__}: {error}", error=traceback.format_exc())  # noqa: TRY400  as one line
        raise


def _refused(refusal: Exception, config: Config, log: Log) -> int:
    if isinstance(refusal, HeldError):
        return BUSY
    if not isinstance(refusal, FOR_A_PERSON):
        return SOME_FAILED
    # 78 keeps systemd from trying again: a person has to hear of it
    alerts = Alerts(config.alerts.urls, log)
    alerts.send("Lakegate: the daemon cannot start", str(refusal))
    alerts.finish(config.dispatch.stop_seconds)
    return CONFIG

"""Builds the components of the daemon and connects them. The order of a tick is in service.py."""

import contextlib
import datetime as dt
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daemon.alerts.desk import AlertDesk
from daemon.attention import status_line
from daemon.batch import Batch
from daemon.clock import Clock
from daemon.config.config import Config
from daemon.dispatch.dispatch import Dispatch
from daemon.dispatch.worker import WorkerSupervisor
from daemon.files import lock
from daemon.files.safe_files import Heartbeat, make_folder
from daemon.finish.archive import Archive
from daemon.finish.on_published import PublishHook
from daemon.intake.claim import Claim
from daemon.intake.complete import BatchCompleter
from daemon.intake.register import TriggerIntake
from daemon.landing.observer import FolderObserver
from daemon.landing.scan import Landing
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import Trouble, TroubleKind
from daemon.metrics.exporter import MetricsExporter
from daemon.metrics.recorder import FigureRecorder
from daemon.observe.event_reporter import EventReporter
from daemon.observe.log import Log
from daemon.observe.sd_notify import notify_status
from daemon.observe.troubles import Troubles
from daemon.openlineage.emitter import LineageEvents
from daemon.text import error_line
from pipeline.contract import CatalogSource


@dataclass(frozen=True, kw_only=True)
class Components:
    """The components of one daemon, which holds the lock of its ledger until `close`."""

    alerts: AlertDesk
    lineage_events: LineageEvents
    ledger: Ledger
    troubles: Troubles
    landing: Landing
    claim: Claim
    intake: TriggerIntake
    completer: BatchCompleter
    worker: WorkerSupervisor
    dispatch: Dispatch
    archive: Archive
    publish_hook: PublishHook
    observer: FolderObserver
    recorder: FigureRecorder
    exporter: MetricsExporter
    wake: threading.Event
    stop_seconds: float
    timeout_seconds: float  # after which a batch with missing files is rejected
    lock_fd: int

    def end_tick(self, now: dt.datetime) -> None:
        """Ends the troubles that are over, sends the alerts that are due, and sends systemd a line."""
        self.recorder.step()
        self.exporter.start()  # not before: until now another daemon might have held the landing zone
        for reason in filter(None, (self.recorder.failure, *self.exporter.failures)):
            self.troubles.environment_failed(reason)
        self.troubles.end_tick()
        self._note_deliveries(self.alerts.step())
        with contextlib.suppress(sqlite3.Error):  # the next tick sends it
            notify_status(lambda: status_line(self.ledger, now, missing_file_timeout_seconds=self.timeout_seconds))

    def next_due_in(self) -> float:
        """Returns the seconds until there is work that no event announces."""
        parts = (self.dispatch, self.archive, self.observer, self.recorder, self.alerts, self.troubles)
        return min(part.next_due_in() for part in parts)

    def close(self) -> None:
        """Stops the worker and the observer, requeues the running batch, and releases the locks."""
        self._end(lambda: self.dispatch.stop(self.wake))
        self._end(self.observer.stop)
        self.troubles.finish()
        self._note_deliveries(self.alerts.finish(self.stop_seconds / 5))  # the worker was given more than half
        self.lineage_events.finish(self.stop_seconds / 10)
        self._end(self.recorder.write)
        self.ledger.close()
        self.landing.close()
        self.exporter.stop()
        os.close(self.lock_fd)

    def _note_deliveries(self, tried: Sequence[tuple[str, str]]) -> None:
        for address, reason in tried:
            if reason:
                self.troubles.open(TroubleKind.ALERTS, address, reason)
            else:
                self.troubles.end(TroubleKind.ALERTS, address)

    def _end(self, end: Callable[[], None]) -> None:
        try:
            end()
        except (OSError, sqlite3.Error) as error:  # the next start requeues the batch
            self.troubles.environment_failed(error_line(error))


def build(
    config: Config,
    *,
    log: Log,
    clock: Clock,
    command: Sequence[str],
    catalogue: Sequence[CatalogSource],
    wake: threading.Event,
    on_change: Callable[[Batch], None],
    heartbeat: Heartbeat,
) -> Components:
    """Builds all components. Locks the ledger; the landing zone is locked when it is listed first.

    Raises AlreadyRunningError, FolderAccessError, SetupError and LedgerOutOfReach.
    """
    zone = config.landing
    lineage_events = LineageEvents(config, log, clock)
    reporter = EventReporter(log)
    lock_fd = lock.lock_file(config.ledger_path.with_name(config.ledger_path.name + ".lock"))

    def changed(event: str, batch: Batch) -> None:
        on_change(batch)
        reporter.change(event, batch)
        alerts.change(event)
        lineage_events.note(event, batch, ledger.history)

    def report_trouble(event: str, trouble: Trouble) -> None:
        reporter.trouble(event, trouble)
        alerts.trouble(event, trouble)

    ledger = Ledger.open(config.ledger_path, clock, changed)
    alerts = AlertDesk(config, ledger=ledger, log=log, clock=clock, wake=wake.set)
    troubles = Troubles(ledger, clock, report_trouble)
    troubles.end_all_but(TroubleKind.ALERTS, alerts.names)
    on_failure = troubles.environment_failed
    _make_folders(config, ledger)
    landing = Landing(zone, clock, on_failure, lambda descriptor: lock.take_lock(descriptor, zone.path))
    claim = Claim(zone, ledger=ledger, landing=landing, log=log, on_failure=on_failure, heartbeat=heartbeat)
    observer = FolderObserver(
        (zone.path, zone.trigger_path),
        (zone.claim_path, zone.archive_path, zone.rejected_path),
        wake=wake,
        clock=clock,
        log=log,
    )
    recorder = FigureRecorder(ledger, observer, clock)
    log.listeners.append(recorder.note)
    worker = WorkerSupervisor(config=config, log=log, clock=clock, wake=wake, command=command, troubles=troubles)
    return Components(
        alerts=alerts,
        lineage_events=lineage_events,
        ledger=ledger,
        troubles=troubles,
        landing=landing,
        claim=claim,
        intake=TriggerIntake(
            config=config,
            catalogue=catalogue,
            ledger=ledger,
            landing=landing,
            claim=claim,
            log=log,
            clock=clock,
            heartbeat=heartbeat,
            on_failure=on_failure,
        ),
        completer=BatchCompleter(
            quiet_seconds=config.debounce.quiet_seconds,
            timeout_seconds=zone.missing_file_timeout_seconds,
            ledger=ledger,
            claim=claim,
            log=log,
            clock=clock,
            heartbeat=heartbeat,
            on_failure=on_failure,
        ),
        worker=worker,
        dispatch=Dispatch(
            config=config, ledger=ledger, claim=claim, log=log, clock=clock, worker=worker, troubles=troubles
        ),
        archive=Archive(
            zone,
            retry=config.retry,
            ledger=ledger,
            landing=landing,
            claim=claim,
            log=log,
            clock=clock,
            on_changed_file=alerts.changed_file,
            heartbeat=heartbeat,
        ),
        publish_hook=PublishHook(config.dispatch.on_published, ledger, log, wake.set),
        observer=observer,
        recorder=recorder,
        exporter=MetricsExporter(config),
        wake=wake,
        stop_seconds=config.dispatch.stop_seconds,
        timeout_seconds=zone.missing_file_timeout_seconds,
        lock_fd=lock_fd,
    )


def _make_folders(config: Config, ledger: Ledger) -> None:
    # Only for a new ledger: later a missing folder is a volume that is not mounted, and not an empty landing zone.
    if not ledger.counts():
        for path in (config.landing.path, config.landing.trigger_path):
            make_folder(path)

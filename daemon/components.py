"""Builds the rooms of the daemon and joins them: what each does stands in its own file, the order of a tick in service.py."""

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence

from daemon.batch import Batch
from daemon.clock import Clock
from daemon.config.config import Config
from daemon.dispatch.dispatch import Dispatch
from daemon.dispatch.worker import WarmWorker
from daemon.files import lock
from daemon.files.safe_files import Pulse, make_folder
from daemon.finish.archive import Archive
from daemon.finish.on_published import Announce
from daemon.intake.claim import Claim
from daemon.intake.complete import Collect
from daemon.intake.register import Release
from daemon.landing.observer import Watch
from daemon.landing.scan import Landing
from daemon.ledger.ledger import Ledger
from daemon.observe.alerts import Alerts
from daemon.observe.event_reporter import Report
from daemon.observe.log import Log
from daemon.retry import Policy
from pipeline.contract import CatalogSource


class Rooms:
    """Everything that one daemon consists of. Takes the ledger's lock; the landing zone's is taken at the first look."""

    def __init__(
        self,
        config: Config,
        *,
        log: Log,
        clock: Clock,
        command: Sequence[str],
        catalogue: Sequence[CatalogSource],
        wake: threading.Event,
        on_change: Callable[[Batch], None],
        pulse: Pulse,
    ) -> None:
        self._wake = wake
        self.alerts = Alerts(config.alerts.urls, log)
        self.report = Report(log, self.alerts)
        self._lock = lock.hold_file(config.ledger_path.with_name(config.ledger_path.name + ".lock"))

        def changed(event: str, batch: Batch) -> None:
            on_change(batch)
            self.report.change(event, batch)

        policy = Policy(
            attempts=config.retry.attempts,
            initial_seconds=config.retry.initial_seconds,
            max_seconds=config.retry.max_seconds,
            poison_after=config.dispatch.poison_after,
        )
        zone = config.landing
        ledger = self.ledger = Ledger.opened(config.ledger_path, clock, changed)
        self._make_folders(config)
        landing = self.landing = Landing(
            config, clock, self.report.trouble, lambda descriptor: lock.hold(descriptor, zone.path)
        )
        claim = self.claim = Claim(
            config=config,
            ledger=ledger,
            landing=landing,
            log=log,
            on_trouble=self.report.trouble,
            pulse=pulse,
        )
        self.release = Release(
            config=config,
            catalogue=catalogue,
            ledger=ledger,
            landing=landing,
            claim=claim,
            log=log,
            clock=clock,
            pulse=pulse,
            on_trouble=self.report.trouble,
        )
        self.collect = Collect(
            config=config, ledger=ledger, claim=claim, log=log, clock=clock, pulse=pulse, on_trouble=self.report.trouble
        )  # fmt: skip
        self.worker = WarmWorker(
            config=config, policy=policy, log=log, clock=clock, wake=wake, command=command, alert=self.alerts.send
        )
        self.dispatch = Dispatch(
            config=config, ledger=ledger, claim=claim, log=log, clock=clock, worker=self.worker, policy=policy
        )
        self.archive = Archive(
            config=config,
            ledger=ledger,
            landing=landing,
            claim=claim,
            log=log,
            clock=clock,
            policy=policy,
            alert=self.alerts.send,
            pulse=pulse,
        )
        self.announce = Announce(config.dispatch.on_published, ledger, log, wake.set)
        own = (zone.claim_path, zone.archive_path, zone.rejected_path)
        self.watch = Watch((zone.path, zone.trigger_path), own, wake=wake, clock=clock, log=log)
        self._patience_seconds = config.dispatch.stop_seconds / 5  # the worker was given more than half

    def close(self) -> None:
        """Ends what runs, hands back what is under way, lets go of the locks."""
        self._safely(lambda: self.dispatch.stop(self._wake))
        self._safely(self.watch.stop)
        self.alerts.finish(self._patience_seconds)
        self.ledger.close()
        self.landing.close()
        os.close(self._lock)

    def _safely(self, end: Callable[[], None]) -> None:
        try:
            end()
        except (OSError, sqlite3.Error) as error:  # the next start hands the batch back
            self.report.trouble(f"{type(error).__name__}: {error}")

    def _make_folders(self, config: Config) -> None:
        # only where nothing has ever been: later a missing folder is a volume that is not mounted, not an empty zone
        if not self.ledger.counts():
            for path in (config.landing.path, config.landing.trigger_path):
                make_folder(path)

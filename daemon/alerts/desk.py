"""Keeps the alerts: finds in the ledger which are due, hands them to their addresses, records which were taken.

The ledger holds each alert until its last address took it, so a restart loses none. All of this runs between two ticks
and in threads: a slow or missing service delays no batch.
"""

import datetime as dt
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from daemon.alerts.address import Address
from daemon.alerts.alert import Alert, from_json, to_json, with_texts
from daemon.alerts.batch_alerts import batch_alert, batch_over_alert, changed_file_alert
from daemon.alerts.courier import Courier, Delivery, Pending
from daemon.alerts.trouble_alerts import trouble_alert, trouble_over_alert
from daemon.batch import Batch
from daemon.clock import Clock, from_text
from daemon.config.config import Config
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import Trouble, TroubleKind
from daemon.observe.log import Log
from daemon.text import error_line

# A disk or a network share that fails for a second and is back needs no person.
GRACE = {TroubleKind.ENVIRONMENT: dt.timedelta(seconds=30)}
OUT_OF_REACH_SECONDS = 5.0  # before the next look at a ledger that cannot be read
DECISIONS = ("batch.rejected", "batch.failed", "batch.published", "batch.duplicate")


class AlertDesk:
    """All alerts of one daemon. Only its owner's thread calls it."""

    def __init__(self, config: Config, *, ledger: Ledger, log: Log, clock: Clock, wake: Callable[[], None]) -> None:
        self._config = config
        self._ledger = ledger
        self._records = ledger.alert_records()
        self._log = log
        self._clock = clock
        self._outcomes: SimpleQueue[Delivery] = SimpleQueue()
        self._couriers = {
            url: Courier(Address(url, number), clock=clock, retry=config.retry, outcomes=self._outcomes, wake=wake)
            for number, url in enumerate(config.alerts.every_url, start=1)
        }
        self._must_look = True
        self._look_again_at = float("inf")
        self._unrecorded: set[str] = set()  # names of alerts on their way that the ledger does not have
        self._unwritable: set[str] = set()  # names of alerts that could not be written; logged once
        self._early: dict[tuple[str, str], Trouble] = {}  # open, and not in the ledger
        if self._couriers:
            self._load()

    @property
    def names(self) -> list[str]:
        """Returns the names of all addresses."""
        return [c.address.name for c in self._couriers.values()]

    def change(self, event: str) -> None:
        """Notes that a batch changed its state: the next step looks for alerts that are due."""
        self._must_look = self._must_look or event in DECISIONS

    def trouble(self, event: str, trouble: Trouble) -> None:
        """Notes that a trouble opened or ended. One that the ledger could not record is sent from memory."""
        self._must_look = True
        key = (trouble.kind, trouble.subject)
        if event == "trouble.opened" and not trouble.number and trouble.kind != TroubleKind.ALERTS:
            self._early[key] = trouble
        elif (early := self._early.pop(key, None)) and _name(early) in self._unrecorded:
            self._hand_over(self._in_memory(trouble_over_alert(trouble, self._config)), early.source)

    def changed_file(self, batch: Batch, reason: str) -> None:
        """Sends the alert about a claimed file that was changed."""
        alert = changed_file_alert(batch, reason, self._config)
        self._add(f"{batch.batch_id} changed", subject="", source=batch.source, alert=alert)

    def step(self, *, is_last: bool = False) -> list[tuple[str, str]]:
        """Sends what is due. Returns, for each message that was tried, the address and why it did not take it."""
        tried = []
        while not self._outcomes.empty():
            delivery = self._outcomes.get()
            tried.append((delivery.courier.address.name, self._settle(delivery)))
        if self._couriers and (self._must_look or is_last or self._clock.monotonic() >= self._look_again_at):
            self._look(is_last=is_last)
        for courier in self._couriers.values():
            courier.step(is_last=is_last)
        return tried

    def next_due_in(self) -> float:
        """Returns the seconds until `step` has something to do."""
        due = [c.next_due_in() for c in self._couriers.values()]
        return max(0.0, min((self._look_again_at - self._clock.monotonic(), *due), default=float("inf")))

    def finish(self, patience_seconds: float) -> list[tuple[str, str]]:
        """Sends all that waits, as a digest where it is much, and logs each alert that is not sent in time."""
        until = time.monotonic() + patience_seconds
        tried = self.step(is_last=True)
        while not all(c.is_idle() for c in self._couriers.values()) and time.monotonic() < until:
            time.sleep(0.02)
            tried += self.step(is_last=True)
        for courier in self._couriers.values():
            for alert in courier.unsent:
                reason = "the daemon ended before the service had taken it; the next start sends it"
                self._log.error("alert.failed", title=alert.title, address=courier.address.name, reason=reason)
        return tried

    # ---- which alerts are due

    def _load(self) -> None:
        """Takes up the alerts that the last daemon could not send."""
        for record in self._records.unsent():
            with self._writing(f"alert {record.number}"):
                pending = Pending(number=record.number, alert=from_json(record.content), taken_by=set(record.taken_by))
                self._hand_over(pending, record.source)

    def _look(self, *, is_last: bool) -> None:
        self._must_look = False
        try:
            self._look_at_batches()
            self._look_at_troubles(is_last=is_last)
        except sqlite3.Error:  # the ledger is out of reach
            self._look_again_at = self._clock.monotonic() + OUT_OF_REACH_SECONDS

    @contextmanager
    def _writing(self, about: str) -> Iterator[None]:
        """Logs an alert that cannot be written, once: it must end neither the daemon nor the alerts after it."""
        try:
            yield
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  a batch's result is any value that a worker may send
            if about not in self._unwritable:
                self._unwritable.add(about)
                self._log.error("alert.failed", reason=f"an alert could not be written: {error_line(error)} ({about})")

    def _look_at_batches(self) -> None:
        for batch_id, about in self._records.batches_without_alert():
            with self._writing(about):
                batch = self._ledger.batch(batch_id)
                alert = batch_alert(batch, self._ledger, self._config)
                self._add(about, subject=batch_id, source=batch.source, alert=alert)
        for batch_id in self._records.batches_over():
            with self._writing(f"{batch_id} over"):
                batch = self._ledger.batch(batch_id)
                alert = batch_over_alert(batch, self._ledger, self._config)
                self._add(f"{batch_id} over", subject=batch_id, source=batch.source, alert=alert)

    def _look_at_troubles(self, *, is_last: bool) -> None:
        self._look_again_at = float("inf")
        recorded = [t for t in self._records.troubles_without_alert() if (t.kind, t.subject) not in self._early]
        for trouble in (*recorded, *self._early.values()):
            with self._writing(_name(trouble)):
                self._look_at_trouble(trouble, is_last=is_last)
        for trouble in self._records.troubles_over():
            name = _name(trouble)
            with self._writing(f"{name} over"):
                alert = trouble_over_alert(trouble, self._config)
                self._add(f"{name} over", subject=name, source=trouble.source, alert=alert)

    def _look_at_trouble(self, trouble: Trouble, *, is_last: bool) -> None:
        name = _name(trouble)
        wait = (from_text(trouble.since) + GRACE.get(TroubleKind(trouble.kind), dt.timedelta())) - self._clock.now()
        if wait > dt.timedelta() and not is_last:
            due = self._clock.monotonic() + wait.total_seconds()
            self._look_again_at = min(self._look_again_at, due)
        elif trouble.number:
            self._add(name, subject=name, source=trouble.source, alert=trouble_alert(trouble, self._config))
        elif name not in self._unrecorded:
            self._unrecorded.add(name)
            self._hand_over(self._in_memory(trouble_alert(trouble, self._config)), trouble.source)

    # ---- on their way

    def _add(self, about: str, *, subject: str, source: str, alert: Alert) -> None:
        if not self._couriers:
            return
        alert = with_texts(alert, self._log.without_secrets)
        was_sent = about in self._unrecorded
        try:
            number = self._records.add(
                about, subject=subject, source=source, content=to_json(alert), now=self._clock.text(), is_sent=was_sent
            )
            self._unrecorded.discard(about)
        except sqlite3.Error:  # a full disk is a reason for an alert, and must not prevent it
            number = 0
            self._unrecorded.add(about)
        if not was_sent and (number or about in self._unrecorded):
            self._hand_over(Pending(number=number, alert=alert), source)

    def _in_memory(self, alert: Alert) -> Pending:
        return Pending(number=0, alert=with_texts(alert, self._log.without_secrets))

    def _hand_over(self, pending: Pending, source: str) -> None:
        couriers = [self._couriers[url] for url in self._config.alerts.urls_of(source)]
        open_couriers = [c for c in couriers if c.address.key not in pending.taken_by]
        pending.waits_for = {c.address.key for c in open_couriers}
        for courier in open_couriers:
            courier.add(pending)
        if not open_couriers:
            self._record([pending])

    def _settle(self, delivery: Delivery) -> str:
        """Notes the end of one try. Returns why the address did not take the message, without secrets; else ''."""
        courier, title = delivery.courier, delivery.alert.title
        reason = self._log.without_secrets(delivery.reason)
        taken = courier.settle(reason)
        if reason:
            about = {"title": title, "address": courier.address.name, "reason": reason}
            self._log.error("alert.failed", **about, retry_in_seconds=round(courier.retry_in_seconds, 1))
        else:
            self._log.info("alert.sent", title=title, address=courier.address.name)
            self._record(taken)
        return reason

    def _record(self, taken: Iterable[Pending]) -> None:
        for pending in taken:
            if not pending.number:
                continue
            sent_at = None if pending.waits_for else self._clock.text()
            try:
                self._records.take(pending.number, pending.taken_by, sent_at=sent_at)
            except sqlite3.Error:
                return  # after a restart the alert is sent once more, which is better than never


def _name(trouble: Trouble) -> str:
    return f"trouble {trouble.number or f'{trouble.kind} {trouble.subject} {trouble.since}'}"

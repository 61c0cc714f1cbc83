"""Carries alerts to one address: in a thread, one message at a time, few messages in a storm, again after a failure."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

from daemon.alerts.address import Address
from daemon.alerts.alert import Alert
from daemon.alerts.digest import digest
from daemon.clock import Clock
from daemon.config.config import RetryConfig
from daemon.retry import wait_seconds

BURST = 4  # messages at once
REFILL_SECONDS = 300.0  # for one further message


@dataclass(eq=False, kw_only=True)
class Pending:
    """An alert on its way."""

    number: int  # in the ledger; 0 where the ledger could not record it
    alert: Alert
    taken_by: set[str] = field(default_factory=set)  # keys of addresses
    waits_for: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The end of one try to send a message."""

    courier: "Courier"
    alert: Alert
    reason: str  # '' where the service took it


class Courier:
    """One address with the alerts that it has not taken. Without a message no thread runs."""

    def __init__(
        self,
        address: Address,
        *,
        clock: Clock,
        retry: RetryConfig,
        outcomes: "SimpleQueue[Delivery]",
        wake: Callable[[], None],
    ) -> None:
        self.address = address
        self._clock = clock
        self._retry = retry
        self._outcomes = outcomes
        self._wake = wake
        self._pending: list[Pending] = []
        self._in_flight: list[Pending] = []
        self._failures = 0
        self._not_before = 0.0
        self._spent: list[float] = []  # when each of the last messages was sent

    @property
    def retry_in_seconds(self) -> float:
        return max(0.0, self._not_before - self._clock.monotonic())

    @property
    def unsent(self) -> list[Alert]:
        return [p.alert for p in (*self._in_flight, *self._pending)]

    def add(self, pending: Pending) -> None:
        """Takes an alert, to be sent by `step`."""
        self._pending.append(pending)

    def step(self, *, is_last: bool = False) -> None:
        """Begins to send what is due: one alert, or all as a digest. The last step waits for no further alerts."""
        if self._in_flight or not self._pending or self.retry_in_seconds:
            return
        left = self._messages_left()
        if not left and not is_last:
            return
        self._in_flight = self._pending[:1] if len(self._pending) <= left else self._pending
        self._pending = self._pending[len(self._in_flight) :]
        alerts = [p.alert for p in self._in_flight]
        message = alerts[0] if len(alerts) == 1 else digest(alerts)
        threading.Thread(target=self._send, args=(message,), name="alerts", daemon=True).start()

    def settle(self, reason: str) -> list[Pending]:
        """Notes the end of a try. Returns the alerts that the address took; those of a failure wait for the next."""
        tried, self._in_flight = self._in_flight, []
        if reason:
            self._pending = [*tried, *self._pending]
            self._failures += 1
            self._not_before = self._clock.monotonic() + wait_seconds(self._failures, self._retry)
            return []
        self._failures = 0
        self._spent.append(self._clock.monotonic())
        for pending in tried:
            pending.taken_by.add(self.address.key)
            pending.waits_for.discard(self.address.key)
        return tried

    def next_due_in(self) -> float:
        """Returns the seconds until `step` may send a message; infinity where an end of a try comes first."""
        if self._in_flight or not self._pending:
            return float("inf")
        return max(self.retry_in_seconds, 0.0 if self._messages_left() else self._refill_in())

    def is_idle(self) -> bool:
        """Whether no message is on its way, and none could be sent now."""
        return not self._in_flight and self.next_due_in() > 0

    # ---- details

    def _send(self, message: Alert) -> None:
        reason = self.address.send(message)
        self._outcomes.put(Delivery(courier=self, alert=message, reason=reason))
        self._wake()

    def _messages_left(self) -> int:
        # Each message makes room again after BURST periods, so that a long storm has one message in each period.
        oldest = self._clock.monotonic() - BURST * REFILL_SECONDS
        self._spent = [t for t in self._spent if t > oldest]
        is_recent = bool(self._spent) and self._clock.monotonic() - self._spent[-1] < REFILL_SECONDS
        left = BURST - len(self._spent)
        return left if left > 0 else 0 if is_recent else 1

    def _refill_in(self) -> float:
        return max(0.0, self._spent[-1] + REFILL_SECONDS - self._clock.monotonic())

"""The two clocks: a monotonic one for waits, and the wall clock for records."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Clock:
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], dt.datetime] = _now

    def text(self) -> str:
        """Returns the time now, as RFC 3339 in UTC."""
        return as_text(self.now())


def as_text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_text(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)

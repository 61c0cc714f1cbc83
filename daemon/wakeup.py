"""What interrupts the daemon's rest: news, a rotated log, or the end.

Light to import, so that a signal finds its listener early.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class WakeEvents:
    """Rung from any thread."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.stopping = threading.Event()
        self.reopening = threading.Event()

    def stop(self) -> None:
        """Ends the daemon's loop soon."""
        self.stopping.set()
        self.wake.set()

    def reopen(self) -> None:
        """Has the daemon's loop open its logs anew soon."""
        self.reopening.set()
        self.wake.set()


@contextmanager
def stop_on_signals(wake_events: WakeEvents) -> Iterator[None]:
    """As long as this lasts, SIGTERM and SIGINT ask the daemon to end and SIGHUP to open its logs anew.

    Only the main thread can listen to signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked: dict[int, Callable[[], None]] = {
        signal.SIGTERM: wake_events.stop,
        signal.SIGINT: wake_events.stop,
        signal.SIGHUP: wake_events.reopen,
    }

    def ring(number: int, _frame: FrameType | None) -> None:
        # in a thread of its own: the interrupted code may hold the very lock that an event needs to be set
        threading.Thread(target=asked[number], name="bell").start()

    before = {number: signal.signal(number, ring) for number in asked}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""The events that end the daemon's wait: a change, a rotated log, or the end of the daemon.

The module imports little, so that signals are handled early.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class WakeEvents:
    """Events that any thread may set."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.stopping = threading.Event()
        self.reopening = threading.Event()
        self.stop_reason = ""

    def stop(self, by: str = "a program") -> None:
        """Asks the daemon's loop to end; `by` is a signal, or the keys of a terminal."""
        self.stop_reason = self.stop_reason or f"stopped by {by}"
        self.stopping.set()
        self.wake.set()

    def reopen(self) -> None:
        """Asks the daemon's loop to open its logs again."""
        self.reopening.set()
        self.wake.set()


@contextmanager
def stop_on_signals(wake_events: WakeEvents) -> Iterator[None]:
    """Within the context, SIGTERM and SIGINT ask the daemon to end, and SIGHUP to open its logs again.

    Only the main thread can handle signals; in another one the context does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    actions: dict[int, Callable[[], None]] = {
        signal.SIGTERM: lambda: wake_events.stop("SIGTERM"),
        signal.SIGINT: lambda: wake_events.stop("Ctrl-C"),
        signal.SIGHUP: wake_events.reopen,
    }

    def set_event(number: int, _frame: FrameType | None) -> None:
        # in a thread: the interrupted code may hold the lock that the event needs
        threading.Thread(target=actions[number], name="wake").start()

    before = {number: signal.signal(number, set_event) for number in actions}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

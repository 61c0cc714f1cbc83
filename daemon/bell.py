"""What interrupts the daemon's rest: news, or the end. Light to import, so that a signal finds its listener early."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Bell:
    """Rung from any thread."""

    def __init__(self) -> None:
        self.wake, self.stopping = threading.Event(), threading.Event()

    def stop(self) -> None:
        """Ends the daemon's loop soon."""
        self.stopping.set()
        self.wake.set()


@contextmanager
def rung_by_signals(bell: Bell) -> Iterator[None]:
    """SIGTERM and SIGINT ask the daemon to end, as long as this lasts; only the main thread can listen to signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # in a thread of its own: the interrupted code may hold the very lock that an event needs to be set
        threading.Thread(target=bell.stop, name="stop").start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

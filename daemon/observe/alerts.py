"""Sends alerts to the services of [alerts] urls, in a thread: a slow mail server delays only the alert."""

import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

from daemon.observe.log import Log
from daemon.text import error_line


class Alerts:
    """The queue of alerts. Its thread starts with the first alert; without urls no library is loaded."""

    def __init__(self, urls: Sequence[str], log: Log) -> None:
        self._urls = tuple(urls)
        self._log = log
        self._queue: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._pending: list[str] = []  # titles
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._services: Any = None
        self.outcomes: SimpleQueue[str] = SimpleQueue()  # per alert why it was not delivered, or ''

    def send(self, title: str, body: str) -> None:
        """Sends an alert soon; the log has `alert.sent` or `alert.failed`."""
        if not self._urls:
            return
        with self._lock:
            self._pending.append(title)
        self._queue.put((title, body))
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="alerts", daemon=True)
            self._thread.start()

    def is_idle(self) -> bool:
        """Whether every alert has been sent or has failed."""
        with self._lock:
            return not self._pending

    def finish(self, patience_seconds: float) -> None:
        """Waits for unsent alerts, and logs each that is not sent in time."""
        until = time.monotonic() + patience_seconds
        while not self.is_idle() and time.monotonic() < until:
            time.sleep(0.02)
        with self._lock:
            late = tuple(self._pending)
        for title in late:
            self._log.error("alert.failed", title=title, reason="the daemon ended before a service had taken it")

    def _deliver(self) -> None:
        while True:
            title, body = self._queue.get()
            try:
                reason = "" if self._load_services().notify(title=title, body=body) else "a service did not take it"
            except Exception as error:  # noqa: BLE001  the daemon survives every error of a notification library
                reason = error_line(error)  # the log hides secrets in it
            if reason:
                self._log.error("alert.failed", title=title, reason=reason)
            else:
                self._log.info("alert.sent", title=title)
            self.outcomes.put(reason)
            with self._lock:
                self._pending.remove(title)

    def _load_services(self) -> Any:
        if self._services is None:
            import apprise  # 40 MB that only a daemon with alerts has to carry

            self._services = apprise.Apprise()
            for number, url in enumerate(self._urls, start=1):
                if not self._services.add(url):  # the url itself may hold a password and stays out of the log
                    self._log.error(
                        "alert.failed", reason=f"[alerts] urls: number {number} is no address that apprise understands"
                    )
        return self._services

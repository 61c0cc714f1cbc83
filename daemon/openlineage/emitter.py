"""Delivers OpenLineage events in a thread of its own: an endpoint that is slow or down delays only the events."""

import json
import os
import sqlite3
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from daemon.batch import Batch, State
from daemon.clock import Clock
from daemon.config.config import Config
from daemon.observe.log import Log
from daemon.openlineage.run_events import ABORT, COMPLETE, FAIL, START, EventBuilder, RunChange, producer
from daemon.text import error_line
from pipeline.contract import lineage_of

MOST_WAITING = 1000  # events that wait for an endpoint; further ones are dropped
TIMEOUT_SECONDS = 10.0  # of one request
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
TRY_AGAIN = (408, 425, 429)  # answers below 500 after which the same event may be taken later

_ENDS = {
    "batch.published": COMPLETE,
    "batch.duplicate": COMPLETE,
    "batch.rejected": FAIL,
    "batch.failed": FAIL,
    "batch.retry_scheduled": FAIL,
    "batch.requeued": ABORT,
}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would send a GET without the event, and the key to the other address."""

    def redirect_request(self, *_: Any) -> None:
        """Returns no request, so that the answer is an error."""


_OPENER = urllib.request.build_opener(_NoRedirect)
History = Callable[[str], Sequence[Mapping[str, str]]]


class LineageEvents:
    """The queue of events. Its thread starts with the first event; without a target nothing is loaded."""

    def __init__(self, config: Config, log: Log, clock: Clock) -> None:
        self._target = config.openlineage
        self._settings = config.settings
        self._log = log
        self._clock = clock
        self._builder = EventBuilder(
            namespace=self._target.namespace,
            landing=config.landing.path,
            lake=config.settings.lake,
            producer=producer(),
        )
        self._waiting: deque[RunChange] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._is_ending = False
        self._thread: threading.Thread | None = None
        self._graphs: dict[str, Any] = {}  # by source
        self._is_failing = False

    def note(self, event: str, batch: Batch, history: History) -> None:
        """Notes a change of a batch, whose event goes out soon. Never fails and never waits."""
        if not self._target.is_on or not batch.source or not (event in _ENDS or event == "batch.started"):
            return
        try:
            changes = self._run_changes(event, batch, history(batch.batch_id))
        except sqlite3.Error as error:
            self._log.error("openlineage.failed", reason=error_line(error))
            return
        with self._changed:
            for change in changes:
                if len(self._waiting) < MOST_WAITING:
                    self._waiting.append(change)
                else:
                    self._dropped += 1
            self._changed.notify()
        if changes and self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="openlineage", daemon=True)
            self._thread.start()

    def finish(self, patience_seconds: float) -> None:
        """Waits for events that are not delivered, and logs the number of those that are lost."""
        until = time.monotonic() + patience_seconds
        with self._changed:
            self._is_ending = True
            self._changed.notify()
            while self._waiting and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            lost = len(self._waiting) + self._dropped
        if lost:
            self._log.error("openlineage.failed", reason="the daemon ended before they were taken", lost=lost)

    # ---- the runs of a batch

    def _run_changes(self, event: str, batch: Batch, history: Sequence[Mapping[str, str]]) -> Sequence[RunChange]:
        """Returns the start or the end of a run, or both for a batch that ends without one."""
        # The number of an attempt comes again after a retry by an operator, and after a stop. That of starts does not.
        run = str(sum(h["event"] == "batch.started" for h in history))
        at = history[-1]["changed_at"]
        if event == "batch.started":
            return [RunChange(event_type=START, run=run, at=at, batch=batch)]
        if len(history) > 1 and history[-2]["state"] == State.RUNNING:
            return [RunChange(event_type=_ENDS[event], run=run, at=at, batch=batch)]
        if _ENDS[event] != FAIL:
            return []
        alone = f"without attempt {len(history)}"
        return [RunChange(event_type=kind, run=alone, at=at, batch=batch) for kind in (START, FAIL)]

    # ---- in the thread

    def _deliver(self) -> None:
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                change = self._waiting[0]
            reason, may_help = self._send(change)
            self._note_outcome(reason)
            with self._changed:
                if reason and may_help and not self._is_ending:
                    self._changed.wait(wait_seconds)
                    wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
                    continue
                if reason:
                    self._dropped += 1
                self._waiting.popleft()
                self._changed.notify_all()
            wait_seconds = FIRST_WAIT_SECONDS

    def _note_outcome(self, reason: str) -> None:
        if reason and not self._is_failing:
            self._log.error("openlineage.failed", reason=reason)
        elif not reason and self._is_failing:
            with self._changed:
                lost, self._dropped = self._dropped, 0
            self._log.info("openlineage.recovered", lost=lost)
        self._is_failing = bool(reason)

    def _send(self, change: RunChange) -> tuple[str, bool]:
        """Sends one event. Returns the reason of a failure, or an empty text, and whether another try may help."""
        try:
            body = json.dumps(self._builder.event(change, self._graph(change.batch.source)))
            if self._target.path:
                append_line(self._target.path, body)
            else:
                self._post(body)
        except HTTPError as error:
            is_redirect = 300 <= error.code < 400
            advice = "; no redirect is followed: set the address that takes the events" if is_redirect else ""
            return (
                f"[openlineage] url: HTTP {error.code} {error.reason}{advice}",
                error.code >= 500 or error.code in TRY_AGAIN,
            )
        except (URLError, OSError) as error:
            return error_line(error), True
        except Exception as error:  # noqa: BLE001  a mistake in one event must not end the thread
            return error_line(error), False
        return "", False

    def _post(self, body: str) -> None:
        headers = {"Content-Type": "application/json"}
        if self._target.api_key:
            headers["Authorization"] = f"Bearer {self._target.api_key}"
        request = urllib.request.Request(self._target.url, data=body.encode(), headers=headers)  # noqa: S310
        with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
            answer.read()

    def _graph(self, source: str) -> Any:
        if source not in self._graphs:
            try:
                self._graphs[source] = lineage_of(source, self._settings.source_paths, self._settings.exclude)
            except LookupError:  # its declarations cannot be loaded; the event names the tables alone
                return None
        return self._graphs[source]


def append_line(path: Path, line: str) -> None:
    """Appends a line to a file: all of it, or nothing where the disk is full. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        left = f"{line}\n".encode()
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(size)  # the next try would continue the half line
            raise

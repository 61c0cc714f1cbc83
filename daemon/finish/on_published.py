"""Runs the [dispatch] on_published command for each published batch, in a thread, with its task values on stdin."""

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any

from daemon.batch import Batch
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.text import format_seconds, one_line

LONGEST_SECONDS = 3600


class PublishHook:
    """One command at a time, oldest batch first. The hook of a batch is done when the command ended, well or not.

    It runs once for a batch, or once more if the daemon is killed before the ledger has its end.
    """

    def __init__(self, command: Sequence[str], ledger: Ledger, log: Log, wake: Callable[[], None]) -> None:
        self._command = tuple(command)
        self._ledger = ledger
        self._log = log
        self._wake = wake
        self._running = ""  # batch id, until the ledger has the end of the command
        self._has_ended = threading.Event()

    def step(self) -> None:
        """Records the end of a command and starts the next one."""
        if self._has_ended.is_set():
            self._ledger.update(self._running, hook_done=1)
            self._has_ended.clear()
            self._running = ""
        waiting = [] if self._running else self._ledger.awaiting_hook()
        if not self._command:
            for batch in waiting:  # a command that is configured later does not run for old batches
                self._ledger.update(batch.batch_id, hook_done=1)
        elif waiting:
            self._running = waiting[0].batch_id
            threading.Thread(target=self._run, args=(waiting[0],), name="on-published", daemon=True).start()

    def is_idle(self) -> bool:
        """Whether no command runs and none is due."""
        return not self._running and (not self._command or not self._ledger.awaiting_hook())

    def _run(self, batch: Batch) -> None:
        outcome: dict[str, Any] = {"batch_id": batch.batch_id, "source": batch.source}
        outcome["command"] = program(self._command)
        try:
            values = task_values(batch).encode()
            done = subprocess.run(
                self._command, input=values, capture_output=True, timeout=LONGEST_SECONDS, check=False
            )
            if done.returncode == 0:
                self._log.info("on_published.finished", **outcome)
            else:
                stderr = self._log.without_secrets(done.stderr.decode(errors="replace"))[-2000:]
                self._log.error("on_published.failed", **outcome, exit_code=done.returncode, reason=one_line(stderr))
        except subprocess.TimeoutExpired:  # the text of this error has the arguments, and one of them may be a token
            self._log.error(
                "on_published.failed", **outcome, reason=f"it did not end within {format_seconds(LONGEST_SECONDS)}"
            )
        except Exception as error:  # noqa: BLE001 - the next batches must have their turn
            self._log.error("on_published.failed", **outcome, reason=one_line(str(error)))
        finally:
            self._has_ended.set()
            self._wake()


def program(command: Sequence[str]) -> str:
    """Returns the program of a command without its arguments: one of them may be a token."""
    return command[0].split()[0] if command[0].split() else command[0]


def task_values(batch: Batch) -> str:
    """Returns the batch's id, source, date and task values as one JSON object."""
    result = batch.result or {}
    own = {
        "batch_id": batch.batch_id,
        "source": batch.source,
        "batch_date": str(batch.batch_date),
        "validation_status": result.get("validation_status", ""),
    }
    return json.dumps({**own, **result.get("task_values", {})}) + "\n"

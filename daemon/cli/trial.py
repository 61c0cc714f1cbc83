"""Starts the engine and tries all declarations: a worker like the daemon's takes empty feeds into a scratch lake.

Touches neither the lake nor its lock, and removes all its files.
"""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty
from typing import Any

from daemon.config.config import Config
from daemon.dispatch.process import WorkerExited, WorkerProcess
from pipeline import contract
from pipeline.contract import Ready, Refused, Settings, Trial, Tried

SILENCE_SECONDS = 300.0  # the longest wait for a message; the first session on a slow machine takes a minute
LOG_LINES = 4
LONGEST_LOG_TEXT = 400  # characters


def run_trials(config: Config, command: Sequence[str]) -> Iterator[Ready | Tried | str]:
    """Starts a worker, and yields its Ready, then one Tried for each source. A worker that fails yields a sentence."""
    every = contract.catalog(config.settings.source_paths, config.settings.exclude)
    sources = [s.name for s in every if not s.broken]
    parent = _parent(config.settings)
    with tempfile.TemporaryDirectory(prefix="_lakegate-check-", dir=parent, ignore_cleanup_errors=True) as root:
        folder = Path(root)
        settings = _settings(config.settings, folder)
        secrets = config.secrets(os.environ)
        child = WorkerProcess(command, folder / "worker.log", threading.Event().set, secrets)
        try:
            for order in (settings, *(Trial(source=source) for source in sources)):
                child.send(order)
                answer = _next_answer(child, folder, secrets)
                yield answer
                if isinstance(answer, str):
                    return
        finally:
            child.end(patience_seconds=5.0)
            if contract.is_store(settings.lake):
                with contextlib.suppress(contract.StoreError):  # the worker has said before why it does not answer
                    contract.remove_tree(settings.lake)


def _settings(settings: Settings, folder: Path) -> Settings:
    """Returns the settings of the trial. Its lake lies in the folder, or in the store, which the engine has to reach.

    Sail has the library by which this process reaches the store, so that it needs no trial there.
    """
    in_store = settings.engine != "sail" and contract.is_store(settings.lake)
    lake = f"{settings.lake_path}/_check/{folder.name}" if in_store else str(folder / "lake")
    work = str(folder / "work") if in_store else ""
    return replace(settings, lake_path=lake, work_path=work, log_path=str(folder / "spark.log"))


def _parent(settings: Settings) -> str | None:
    """Returns a folder that an engine on other machines sees too, beside the lake; None where there is no need for one.

    None stands for the temporary folder of the system.
    """
    if not settings.is_elsewhere or contract.is_store(settings.lake):
        return None
    lake = settings.folder
    return str(next(p for p in (lake, *lake.parents) if p.is_dir()))


def _next_answer(child: WorkerProcess, folder: Path, secrets: Sequence[str]) -> Ready | Tried | str:
    until = time.monotonic() + SILENCE_SECONDS
    while (seconds := until - time.monotonic()) > 0:
        try:
            message: Any = child.messages.get(timeout=seconds)
        except Empty:
            break
        if isinstance(message, Ready | Tried):
            return message
        if isinstance(message, Refused):
            # A refusal that no retry helps is a sentence for the person, which needs no log.
            return message.reason + (_end_of_log(folder, secrets) if message.retryable else "")
        if isinstance(message, WorkerExited):
            return f"the worker ended: {message.reason}{_end_of_log(folder, secrets)}"
        until = time.monotonic() + SILENCE_SECONDS  # any other message is progress
    return f"the worker said nothing for {SILENCE_SECONDS:g} seconds{_end_of_log(folder, secrets)}"


def _end_of_log(folder: Path, secrets: Sequence[str]) -> str:
    # Spark's log comes first: it names the cause, while the worker's log has the trace of a wait for Spark.
    for name in ("spark.log", "worker.log"):
        path = folder / name
        text = path.read_text(errors="replace") if path.is_file() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            # Hidden before the cut: `hidden` does not recognise half a secret.
            return f"; at last: {contract.hide_secrets(' '.join(lines[-LOG_LINES:]), secrets)[:LONGEST_LOG_TEXT]}"
    return ""

"""Tries the engine and all declarations out: a worker, started as the daemon's, gets empty feeds and a scratch lake.

Touches neither the real lake nor its lock, and leaves nothing behind.
"""

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
from daemon.dispatch.process import Child, Ended
from pipeline import contract
from pipeline.contract import Ready, Refused, Settings, Trial, Tried

SECONDS = 300.0  # without a word: a first session on a slow machine takes one minute


def trials(config: Config, command: Sequence[str]) -> Iterator[Ready | Tried | str]:
    """Starts a worker and tries each source; yields what it says, last a sentence where it says no more."""
    every = contract.catalog(config.settings.source_paths, config.settings.without)
    sources = [s.name for s in every if not s.broken]
    place = _shared(config.settings)
    with tempfile.TemporaryDirectory(prefix="_lakegate-check-", dir=place, ignore_cleanup_errors=True) as root:
        folder = Path(root)
        settings = replace(config.settings, lake_path=str(folder / "lake"), log_path=str(folder / "spark.log"))
        secrets = config.secrets(os.environ)
        child = Child(command, folder / "worker.log", threading.Event().set, secrets)
        try:
            for order in (settings, *(Trial(source=source) for source in sources)):
                child.send(order)
                yield (answer := _heard(child, folder, secrets))
                if isinstance(answer, str):
                    return
        finally:
            child.end(patience_seconds=5.0)


def _shared(settings: Settings) -> str | None:
    """Gives a folder that an engine on other machines sees, too: where the lake is. Else the system's own serves."""
    if settings.engine == "sail" or (settings.engine == "spark" and settings.master.startswith("local")):
        return None
    lake = Path(settings.lake_path)
    return str(next(p for p in (lake, *lake.parents) if p.is_dir()))


def _heard(child: Child, folder: Path, secrets: Sequence[str]) -> Ready | Tried | str:
    until = time.monotonic() + SECONDS
    while (seconds := until - time.monotonic()) > 0:
        try:
            message: Any = child.messages.get(timeout=seconds)
        except Empty:
            break
        if isinstance(message, Ready | Tried):
            return message
        if isinstance(message, Refused):
            # what no retry helps is a sentence of ours
            return message.reason + (_last_words(folder, secrets) if message.retryable else "")
        if isinstance(message, Ended):
            return f"the worker ended: {message.reason}{_last_words(folder, secrets)}"
        until = time.monotonic() + SECONDS  # it reports stages
    return f"the worker said nothing for {SECONDS:g} seconds{_last_words(folder, secrets)}"


def _last_words(folder: Path, secrets: Sequence[str]) -> str:
    # What Java says of itself tells more than the trace of the worker that waited for it.
    texts = [path.read_text(errors="replace") for n in ("spark.log", "worker.log") if (path := folder / n).is_file()]
    lines = next(
        (found for text in texts if (found := [line.strip() for line in text.splitlines() if line.strip()])), []
    )
    said = contract.hide_secrets(" ".join(lines[-4:]), secrets)  # before it is cut: half a secret is none that is known
    return f"; at last: {said[:400]}" if lines else ""

"""A site in its own folder with a running daemon: its configuration, deliveries to it, and its log."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from delivery import Delivery
from processes import running

COMMAND = str(Path(sys.executable).with_name("lakegate"))
TIMEOUT_SECONDS = 300.0

Event = dict[str, Any]


class LiveSite:
    """One site. Its daemon runs inside of `with site.daemon()`."""

    def __init__(self, root: Path, *, engine: str, quiet_seconds: float) -> None:
        self.config = root / "config.toml"
        self._landing = root / "landing"
        self._log = root / "logs/lakegate.jsonl"
        self._output = root / "output"
        (self._landing / "trigger").mkdir(parents=True)
        self.config.write_text(f'[debounce]\nquiet_seconds = {quiet_seconds}\n[spark]\nengine = "{engine}"\n')

    @contextlib.contextmanager
    def daemon(self) -> Iterator[int]:
        """Runs `lakegate run` and yields its pid when its worker is warm."""
        with running([COMMAND, "--config", str(self.config), "run", "--quiet"], self._output) as process:
            self.await_events("worker.ready", 1)
            yield process.pid

    def run_once(self) -> None:
        """Runs `lakegate run --once` to its end."""
        subprocess.run([COMMAND, "--config", str(self.config), "run", "--once", "--quiet"], check=True)

    def deliver(self, delivery: Delivery, *, is_bare: bool = False, pause_seconds: float = 0.0) -> float:
        """Delivers files and, after a pause, their trigger, JSON or a bare touch file. Returns the time of the trigger.

        Each file is written under another name and then renamed, as a careful sender does.
        """
        for path in delivery.files.values():
            part = self._landing / f".{path.name}.part"
            shutil.copyfile(path, part)
            part.rename(self._landing / path.name)
        names = [path.name for path in delivery.files.values()]
        document = {
            "trigger_id": f"shop-{delivery.date}",
            "batch_date": delivery.date.isoformat(),
            "expected_files": names,
        }
        trigger = self._landing / "trigger" / (f"{delivery.date}.touch" if is_bare else f"{delivery.date}.json")
        time.sleep(pause_seconds)
        touched_at = time.time()
        part = trigger.with_name(f".{trigger.name}.part")
        part.write_text("" if is_bare else json.dumps(document))
        part.rename(trigger)
        return touched_at

    def await_events(self, name: str, count: int) -> list[Event]:
        """Returns the events of this name when the log has `count` of them. Raises RuntimeError for a failed batch."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < until:
            events = self.events()
            found = [e for e in events if e["event"] == name]
            if len(found) >= count:
                return found
            failed = [e for e in events if e["level"] == "error" or e["event"] == "batch.rejected"]
            if failed:
                raise RuntimeError(f"{failed[0]}")
            time.sleep(0.1)
        raise RuntimeError(f"no {name} within {TIMEOUT_SECONDS:.0f} seconds: {self._output.read_text()[-2000:]}")

    def events(self) -> list[Event]:
        """Returns all events in the log."""
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []

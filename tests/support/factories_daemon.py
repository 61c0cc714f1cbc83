"""A landing zone for each test: real folders, a real ledger, a real worker process without an engine."""

import ctypes
import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from child_processes import Child

from daemon import service
from daemon.batch import Batch
from daemon.clock import Clock
from daemon.config.config import Config
from daemon.config.load import load_config
from daemon.landing.scan import REGULAR, SeenFile
from daemon.ledger.ledger import Ledger
from daemon.observe.events import COMMON_FIELDS, EVENTS
from daemon.observe.log import Log
from pipeline.contract import CatalogFeed, CatalogSource

HERE = Path(__file__).parent
# Without the environment's own imports at the start (-I -S): the worker needs none of them.
WORKER = (sys.executable, "-I", "-S", str(HERE / "worker_for_daemon_tests.py"))
CATALOGUE = (
    CatalogSource(
        name="retail",
        feeds=(
            CatalogFeed(name="orders", files="orders_*.csv"),
            CatalogFeed(name="customers", files="customers_*.csv"),
        ),
    ),
    CatalogSource(
        name="crm",
        feeds=(CatalogFeed(name="people", files="people*.csv"), CatalogFeed(name="doubtful", files="*_people.csv")),
    ),
)
QUICK: dict[str, dict[str, Any]] = {
    "landing": {"missing_file_timeout_seconds": 1},
    "debounce": {"quiet_seconds": 0.1, "max_wait_seconds": 1},
    "dispatch": {"timeout_seconds": 20, "poison_after": 2, "stop_seconds": 2},
    "retry": {"attempts": 3, "initial_seconds": 0.05, "max_seconds": 0.2},
    "ledger": {"path": "state/ledger.sqlite"},
    "lake": {"path": "lake"},
    "log": {"path": "logs/lakegate.jsonl", "level": "debug"},
}


class HandClock:
    """A clock that only the test moves; `pass_` moves it by seconds."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.moment = dt.datetime(2026, 3, 2, 10, 0, tzinfo=dt.UTC)
        self.clock = Clock(monotonic=lambda: self.seconds, now=lambda: self.moment)

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds
        self.moment += dt.timedelta(seconds=seconds)


class Zone:
    """A landing zone in a folder, and the files, batches and events that the daemon leaves there."""

    def __init__(self, root: Path, **settings: dict[str, Any]) -> None:
        self.root = root
        self.landing = root / "landing"
        self.trigger = root / "landing" / "trigger"
        self.lake = root / "lake"
        self.trigger.mkdir(parents=True, exist_ok=True)
        sections = {name: {**QUICK.get(name, {}), **settings.get(name, {})} for name in {**QUICK, **settings}}
        lines = [
            f"[{s}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in keys.items()) for s, keys in sections.items()
        ]
        (root / "config.toml").write_text("\n".join(lines))
        self.config: Config = load_config(root / "config.toml", {})

    # ---- delivering

    def put(self, name: str, content: str | bytes = "ok\n", within: str = "") -> Path:
        path = self.landing / within / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def touch(self, name: str, content: str | bytes = "") -> Path:
        path = self.trigger / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def land(self, name: str, *files: str, date: str = "2026-03-02", **more: Any) -> Path:
        """Writes a JSON trigger."""
        return self.touch(
            f"{name}.json", json.dumps({"trigger_id": name, "batch_date": date, "expected_files": list(files), **more})
        )

    def deliver(self, name: str, content: str | bytes = "ok\n", date: str = "2026-03-02", **more: Any) -> str:
        """Delivers one file with its trigger and returns the file's name."""
        file = f"orders_{name}.csv"
        self.put(file, content)
        self.land(name, file, date=date, **more)
        return file

    # ---- running

    def once(self, **options: Any) -> int:
        usual: dict[str, Any] = {"quiet": True, "command": WORKER, "catalogue": CATALOGUE}
        debounce = self.config.debounce
        if debounce.quiet_seconds == QUICK["debounce"]["quiet_seconds"]:  # the files lie there before the run
            debounce = replace(debounce, quiet_seconds=0.02)
        return service.run(replace(self.config, debounce=debounce), once=True, **usual | options)

    @contextmanager
    def by_hand(self, clock: Clock) -> Iterator[service.Service]:
        """Yields a daemon that makes a tick only when the test calls it."""
        log = Log(self.config.log.path, "debug", stderr=False)
        with service.Service(
            self.config, once=False, log=log, command=WORKER, catalogue=CATALOGUE, clock=clock
        ) as daemon:
            yield daemon

    def start(self, *, once: bool = False) -> Child:
        """Starts a daemon in its own process group, so that a SIGKILL reaches every process that it started."""
        return Child(run_daemon, self.root / "config.toml", once, output=self.root / "daemon.err")

    def start_program(self) -> "subprocess.Popen[bytes]":
        """Starts a daemon as `start` does, but as a program of its own, with the memory and the imports of one."""
        command = [sys.executable, str(HERE / "factories_daemon.py"), str(self.root / "config.toml")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE.parents[1]), str(HERE)))}
        with (self.root / "daemon.err").open("ab") as output:
            return subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True, env=environment, cwd=self.root
            )

    def once_without_rights(self) -> int:
        """Runs `--once` without root's right to read every file, and returns the exit code."""
        return Child(run_without_rights, self.root / "config.toml", output=self.root / "daemon.err").wait(30)

    # ---- reading

    def batches(self) -> list[Batch]:
        """Returns all batches, the oldest first."""
        ledger = Ledger.reading(self.config.ledger_path)
        try:
            return ledger.batches()[::-1]
        finally:
            ledger.close()

    def batch(self, trigger: str) -> Batch:
        return next(b for b in self.batches() if b.trigger == f"{trigger}.json")

    def states(self) -> dict[str, int]:
        return dict(Counter(str(b.state) for b in self.batches()))

    def log(self, event: str = "") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.config.log.path.read_text().splitlines()]
        assert not [said for line in lines if (said := unregistered(line))]
        return [e for e in lines if event in ("", e["event"])]

    def manifest(self) -> list[dict[str, Any]]:
        path = self.lake / "manifest.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def orders(self) -> list[dict[str, Any]]:
        path = self.lake / "orders.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def files(self, folder: str) -> list[str]:
        """Returns the paths below a folder, without the daemon's own files."""
        found = (p for p in (self.root / folder).rglob("*") if not p.is_dir() or p.is_symlink())
        return sorted(str(p.relative_to(self.root / folder)) for p in found if not p.name.startswith(".lakegate-"))

    def everything(self) -> dict[bytes, int]:
        """Returns the number of files with each content in landing, archive and rejected."""
        folders = ("landing", "archive", "rejected")
        found = [p for f in folders for p in (self.root / f).rglob("*") if p.is_file() and not p.is_symlink()]
        return Counter(p.read_bytes() for p in found)


def make_seen_file(name: str, unchanged: float = 9.0, age: float = 9.0, mtime: float = 0.0) -> SeenFile:
    """A file of a landing or trigger folder, as a listing shows it."""
    return SeenFile(
        folder="",
        name=name,
        kind=REGULAR,
        inode=1,
        size=0,
        mtime=mtime,
        links=1,
        unchanged_seconds=unchanged,
        age_seconds=age,
    )


def unregistered(line: dict[str, Any]) -> str:
    """Returns how a line of the log differs from the registry of events; '' where it does not."""
    event = EVENTS.get(line["event"])
    if event is None:
        return f"{line['event']} is not registered"
    if event.level != line["level"]:
        return f"{line['event']} is {line['level']}, registered as {event.level}"
    unknown = line.keys() - {*COMMON_FIELDS, *event.fields}
    return f"{line['event']} has the fields {sorted(unknown)}" if unknown else ""


def wait_until(holds: Callable[[], Any], seconds: float = 20) -> Any:
    """Waits until `holds` returns a true value, and returns the value. Raises AssertionError after some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := holds():
            return value
        time.sleep(0.02)
    raise AssertionError(f"did not come within {seconds} s")


def end(process: "Child | subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> int:
    """Ends a daemon of a test and returns its exit code. A SIGKILL goes to its whole process group."""
    if process.poll() is None:
        (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
    return process.wait(20)


def hidden(folder: Path) -> Path:
    """Moves a folder away, as an unmount does, and returns its new path."""
    aside = folder.with_name(folder.name + ".away")
    shutil.move(folder, aside)
    return aside


def run_daemon(config: Path, once: bool) -> int:
    return service.run(load_config(config, {}), once=once, command=WORKER, catalogue=CATALOGUE)


def run_without_rights(config: Path) -> int:
    drop_capabilities((1, 2))  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    return run_daemon(config, once=True)


def drop_capabilities(capabilities: tuple[int, ...]) -> None:
    """Takes capabilities from this process and from all that it starts."""
    libc = ctypes.CDLL(None)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable
    assert libc.capget(header, data) == 0
    for capability in capabilities:
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: a program that is started does not get it back
        data[0] &= ~(1 << capability)
        data[1] &= ~(1 << capability)
    assert libc.capset(header, data) == 0


if __name__ == "__main__":
    sys.exit(run_daemon(Path(sys.argv[1]), once=False))

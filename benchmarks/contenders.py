"""The contenders of the benchmark, each in a process of its own: ours, by hand, and the bare floor of an engine."""

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from cost import Cost, Meter
from delivery import Delivery
from processes import work_seconds
from stage_clock import StageClock

from daemon.dispatch.process import WorkerExited, WorkerProcess
from pipeline.contract import Outcome, Progress, Ready, Result, Settings
from pipeline.lake.lake import Lake

HERE = Path(__file__).parent
TIMEOUT_SECONDS = 3600
SETTLED_SHARE = 0.1  # of a core
STAGE_ROWS = ("merge", "enrichment", "summary")  # of the log of tasks: whole stages
SERVE_ENDS = ("serve.finished", "serve.failed")


class Contender(Protocol):
    """A process that takes deliveries."""

    name: str

    @property
    def pid(self) -> int:
        """The process."""

    def take(self, delivery: Delivery) -> Cost:
        """Takes a delivery and returns its cost. Raises RuntimeError where it fails."""

    def stop(self) -> None:
        """Ends the process."""


class Ours:
    """The worker as the daemon starts it, with the default settings. A worker that retires is replaced in time."""

    def __init__(
        self,
        engine: str,
        folder: Path,
        name: str = "Lakegate",
        *,
        count_requests: Callable[[], int] | None = None,
        **more: Any,
    ) -> None:
        """Starts a worker. `more` are further settings; a lake outside of the folder is shown to no readers.

        `count_requests` counts the requests to the store of the lake so far.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.replacements = 0
        self._jobs = 0
        self._count_requests = count_requests or (lambda: 0)
        self._folder = folder
        given = {"lake_path": str(folder / "lake"), "serve_layers": () if "lake_path" in more else ("gold", "silver")}
        self._settings = Settings(engine=engine, log_path=str(folder / "engine.log"), **given | more)
        self._output = folder / "worker.log"
        self._queries = folder / "queries.txt"
        self._start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def take(self, delivery: Delivery) -> Cost:
        """Takes a delivery and returns its cost until it is published. Raises RuntimeError where it is not."""
        order = delivery.work_order()
        self._queries.write_text("")
        jobs = self._jobs
        meter = Meter(self._child.pid, self._folder)
        clock = StageClock()
        requests = self._count_requests()
        began = time.monotonic()
        self._child.send(order)
        while isinstance(message := self._receive(), Progress):
            clock.receive(message)
        seconds = time.monotonic() - began
        requests = self._count_requests() - requests
        if not isinstance(message, Result) or message.outcome != Outcome.PUBLISHED:
            raise RuntimeError(f"{delivery.date} was not published: {message}\n{self._output.read_text()[-2000:]}")
        serve_seconds = self._await_serve(began + seconds) if message.serves else None
        calls = self._queries.read_text().splitlines()
        self._jobs = int(calls[-1].split()[1]) if calls else jobs
        cost = meter.cost(
            rows=delivery.row_count,
            seconds=seconds,
            serve_seconds=serve_seconds,
            queries=len(calls),
            jobs=self._jobs - jobs if self._settings.engine == "spark" else None,
            requests=requests or None,
            stages={**message.seconds, "elsewhere": clock.elsewhere},
            tasks=self._task_seconds(order.batch_id),
        )
        if message.retiring:
            self.stop()
            self._start()
            self.replacements += 1
        return cost

    def stop(self) -> None:
        """Ends the worker."""
        self._child.end(patience_seconds=5.0)

    def _start(self) -> None:
        command = (sys.executable, str(HERE / "counted_worker.py"), str(self._queries))
        self._child = WorkerProcess(command, self._output, lambda: None)
        self._jobs = 0
        self._child.send(self._settings)
        while isinstance(message := self._receive(), Progress):
            pass
        if not isinstance(message, Ready):
            self._child.end()
            raise TypeError(f"the worker is not ready: {message}\n{self._output.read_text()[-2000:]}")

    def _await_serve(self, published: float) -> float:
        while isinstance(message := self._receive(), Progress):
            if message.event in SERVE_ENDS:
                return time.monotonic() - published
        raise RuntimeError(f"the worker ended while it served: {message}")

    def _task_seconds(self, batch_id: str) -> dict[str, float]:
        log = Lake(self._settings.lake, work=self._settings.work).arrow("ops.processing_log").to_pylist()
        return {
            row["task"]: (row["finished_at"] - row["started_at"]).total_seconds()
            for row in log
            if row["batch_id"] == batch_id and row["task"] not in STAGE_ROWS
        }

    def _receive(self) -> Any:
        try:
            return self._child.messages.get(timeout=TIMEOUT_SECONDS)
        except queue.Empty:
            return WorkerExited(reason=f"no word for {TIMEOUT_SECONDS} seconds")


class Child:
    """A child process of this benchmark; see `child.py`."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._folder = folder
        self._output = folder.with_suffix(".log")
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self._output.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"PYTHONPATH": path},
            )
        self._answer()

    @property
    def pid(self) -> int:
        return self._process.pid

    def take(self, delivery: Delivery) -> Cost:
        """Takes a delivery and returns its cost. Raises RuntimeError where the child ends."""
        assert self._process.stdin is not None, "the child has a pipe"
        meter = Meter(self._process.pid, self._folder)
        order = {"date": str(delivery.date), "files": {feed: str(path) for feed, path in delivery.files.items()}}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return meter.cost(rows=delivery.row_count, seconds=answer["seconds"], stages=answer["steps"])

    def stop(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None, "the child has a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} has ended:\n{self._output.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def by_hand(folder: Path) -> Child:
    """Starts the pipeline that is written by hand."""
    return Child("by hand", ["-m", "by_hand", str(folder)], folder)


def floor(engine: str, folder: Path) -> Child:
    """Starts the bare floor on an engine."""
    return Child("floor", [str(HERE / "floor.py"), engine, str(folder)], folder)


def settle(contenders: Iterable[Contender], seconds: float = 0.2, patience_seconds: float = 30.0) -> None:
    """Waits until all contenders rest, so that nothing of one batch is measured in the next one."""
    until = time.monotonic() + patience_seconds
    while time.monotonic() < until:
        before = {c.pid: work_seconds(c.pid) for c in contenders}
        time.sleep(seconds)
        if all(work_seconds(pid) - worked <= SETTLED_SHARE * seconds for pid, worked in before.items()):
            return

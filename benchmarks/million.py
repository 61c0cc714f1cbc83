"""Measures a large first batch and a day's batch after it in a worker process: seconds by stage, and peak memory.

A million orders are 2.1 million rows in five files. The day has 13,000 orders. Each is measured once, because a batch
takes minutes. Compare the figures with those of the same command on another commit.
"""

import argparse
import queue
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import machine, show
from processes import Memory, descendants, exit_on_sigterm, name_of, peak_mb
from retail_data import Shop
from stage_clock import StageClock
from warm_lake import work_order

from daemon.dispatch.process import WorkerExited, WorkerProcess
from daemon.service import WORKER
from pipeline.contract import Outcome, Progress, Ready, Result, Settings, WorkOrder

TIMEOUT_SECONDS = 1800


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One measured batch, with the peak memory of each stage in MB."""

    name: str
    rows: int
    seconds: float
    elsewhere: float  # seconds in which no stage ran
    result: Result
    memory: Memory


class MeasuredWorker:
    """A worker process as the daemon starts it."""

    def __init__(self, settings: Settings, output: Path) -> None:
        self._child = WorkerProcess(WORKER, output, lambda: None)
        self._output = output
        self._child.send(settings)
        ready = self._receive()
        if not isinstance(ready, Ready):
            self._child.end()
            raise TypeError(f"the worker is not ready: {ready}")
        self.warm_seconds = ready.seconds

    @property
    def pid(self) -> int:
        return self._child.pid

    def take(self, name: str, rows: int, order: WorkOrder) -> Batch:
        """Sends an order and returns the measured batch. Raises RuntimeError if the batch is not published."""
        began = time.monotonic()
        clock = StageClock()
        with Memory(self.pid) as memory:
            self._child.send(order)
            while isinstance(message := self._receive(), Progress):
                clock.receive(message)
                memory.phase = clock.stage
        if not isinstance(message, Result) or message.outcome != Outcome.PUBLISHED:
            raise RuntimeError(f"{name} was not published: {message}\n{self._output.read_text()[-2000:]}")
        return Batch(
            name=name,
            rows=rows,
            seconds=time.monotonic() - began,
            elsewhere=clock.elsewhere,
            result=message,
            memory=memory,
        )

    def peaks(self) -> tuple[float, float]:
        """Returns the peak memory of the Python process and of its JVM in MB, as the kernel counts it."""
        return peak_mb(self.pid), sum(peak_mb(pid) for pid in descendants(self.pid) if name_of(pid) == "java")

    def stop(self) -> None:
        """Ends the worker."""
        self._child.end(patience_seconds=5.0)

    def _receive(self) -> Any:
        try:
            return self._child.messages.get(timeout=TIMEOUT_SECONDS)
        except queue.Empty:
            return WorkerExited(reason=f"no word for {TIMEOUT_SECONDS} seconds")


def report(batch: Batch) -> None:
    """Prints one batch by stage."""
    memory = batch.memory
    result = batch.result
    stages = {f"  {stage}": (stage, seconds) for stage, seconds in result.seconds.items()}
    stages["  elsewhere"] = ("", batch.elsewhere)
    rows: list[tuple[object, ...]] = [("in all", batch.seconds, memory.peak("python"), memory.peak("jvm"))]
    rows += [
        (name, seconds, memory.peak("python", stage), memory.peak("jvm", stage))
        for name, (stage, seconds) in stages.items()
    ]
    title = (
        f"{batch.name}: {batch.rows:,} rows read, {result.rows_accepted:,} accepted, score {result.score or 0.0:.2f}"
    )
    show(title, ("", "seconds", "peak MB Python", "peak MB JVM"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("spark", "sail"), default="spark")
    parser.add_argument("--orders", type=int, default=1_000_000, help="in the first batch")
    parser.add_argument("--orders-a-day", type=int, default=13_000, help="in the second")
    parser.add_argument("--driver-memory", default=Settings.driver_memory, help="of engine spark")
    parser.add_argument("--folder", type=Path, help="folder for the lake; default: the temporary folder")
    options = parser.parse_args()
    exit_on_sigterm()
    print(f"{machine()}, engine {options.engine}", flush=True)
    shop = Shop(orders=options.orders, orders_a_day=options.orders_a_day)
    with tempfile.TemporaryDirectory(prefix="million_", dir=options.folder) as folder:
        root = Path(folder)
        deliveries = [shop.write(day, root / f"files/{day}") for day in (0, 1)]
        settings = Settings(
            lake_path=str(root / "lake"),
            engine=options.engine,
            driver_memory=options.driver_memory,
            log_path=str(root / "engine.log"),
        )
        worker = MeasuredWorker(settings, root / "worker.log")
        try:
            print(f"the worker is warm after {worker.warm_seconds:.1f} s", flush=True)
            for name, delivery in zip(("the first batch", "a later day"), deliveries, strict=True):
                report(worker.take(name, delivery.row_count, work_order(delivery)))
            python, jvm = worker.peaks()
            show(
                "peak resident memory, as the kernel counts it",
                ("process", "MB"),
                [("Python", python), *([("JVM", jvm)] if jvm else [])],
            )
        finally:
            worker.stop()


if __name__ == "__main__":
    main()

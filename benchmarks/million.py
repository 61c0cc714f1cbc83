"""Measures a large first batch, and a day's batch onto it, through a real worker process: seconds by stage, and peak memory.

A million orders are 2.1 million rows in five files; the day brings 13,000 orders. Each is one batch, for each is minutes long:
what it says is how it compares with SPEED.md's orders of magnitude and with the same command on another commit.
"""

import argparse
import queue
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import machine, show
from processes import Memory, descendants, end_tidily, name_of, peak_mb
from retail_data import Shop
from stage_clock import StageClock
from warm_lake import work_order

from daemon.dispatch.process import Child, Ended
from daemon.service import WORKER
from pipeline.contract import Outcome, Progress, Ready, Result, Settings, WorkOrder

LONGEST_SILENCE_SECONDS = 1800


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch through the worker, with the peaks of each stage in MB."""

    name: str
    rows: int
    seconds: float
    elsewhere: float  # seconds in which no stage ran
    result: Result
    memory: Memory


class HiredWorker:
    """The worker that the daemon would start, and its line."""

    def __init__(self, settings: Settings, output: Path) -> None:
        self._child = Child(WORKER, output, lambda: None)
        self._output = output
        self._child.send(settings)
        ready = self._hear()
        if not isinstance(ready, Ready):
            self._child.end()
            raise TypeError(f"the worker is not ready: {ready}")
        self.warm_seconds = ready.seconds

    @property
    def pid(self) -> int:
        return self._child.pid

    def take(self, name: str, rows: int, order: WorkOrder) -> Batch:
        """Gives it an order and waits for the result. Raises RuntimeError when the batch is not published."""
        began, clock = time.monotonic(), StageClock()
        with Memory(self.pid) as memory:
            self._child.send(order)
            while isinstance(message := self._hear(), Progress):
                clock.hear(message)
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
        """Tells the kernel's own account of the greatest memory of the Python process and of its JVM, in MB."""
        return peak_mb(self.pid), sum(peak_mb(pid) for pid in descendants(self.pid) if name_of(pid) == "java")

    def dismiss(self) -> None:
        self._child.end(patience_seconds=5.0)

    def _hear(self) -> Any:
        try:
            return self._child.messages.get(timeout=LONGEST_SILENCE_SECONDS)
        except queue.Empty:
            return Ended(reason=f"no word for {LONGEST_SILENCE_SECONDS} seconds")


def report(batch: Batch) -> None:
    """Prints one batch by stage."""
    memory, result = batch.memory, batch.result
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
    parser.add_argument("--folder", type=Path, help="where the lake may grow; default: the temporary folder")
    options = parser.parse_args()
    end_tidily()
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
        worker = HiredWorker(settings, root / "worker.log")
        try:
            print(f"the worker is warm after {worker.warm_seconds:.1f} s", flush=True)
            for name, delivery in zip(("the first batch", "a day onto it"), deliveries, strict=True):
                report(worker.take(name, delivery.row_count, work_order(delivery)))
            python, jvm = worker.peaks()
            show(
                "greatest resident memory, as the kernel saw it",
                ("process", "MB"),
                [("Python", python), *([("JVM", jvm)] if jvm else [])],
            )
        finally:
            worker.dismiss()


if __name__ == "__main__":
    main()

"""Watches processes through /proc: memory, processor time, descendants; and ends what a benchmark has started."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Self

SAMPLE_SECONDS = 0.05


def memory_mb(pid: int) -> float:
    """Tells the resident memory of a process; 0 when it is gone."""
    return _status_mb(pid, "VmRSS:")


def peak_mb(pid: int) -> float:
    """Tells the greatest resident memory that a process has ever had; 0 when it is gone."""
    return _status_mb(pid, "VmHWM:")


def processor_seconds(pid: int) -> float:
    """Tells how long a process has kept a core busy since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work_seconds(pid: int) -> float:
    """Tells how long a process and all below it have kept cores busy: on a loaded machine a better measure than the clock."""
    total = 0.0
    for process in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):  # it may just have ended
            total += processor_seconds(process)
    return total


def name_of(pid: int) -> str:
    """Tells the name of a process' program; '' when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def descendants(pid: int) -> list[int]:
    """Tells every process below this one, nearest first."""
    children: list[int] = []
    with contextlib.suppress(OSError):  # it may be gone any moment
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children += map(int, task.read_text().split())
    return children + [d for child in children for d in descendants(child)]


class Memory:
    """Samples a process and its JVM until it is told to stop; keeps the peak of each in each phase, in MB."""

    def __init__(self, pid: int) -> None:
        self.phase = ""
        self.peaks: dict[tuple[str, str], float] = {}
        self._pid = pid
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def peak(self, which: str, phase: str | None = None) -> float | None:
        """Tells the peak in a phase, or over all; None where nothing was seen."""
        seen = [mb for (of_phase, of), mb in self.peaks.items() if of == which and phase in (None, of_phase)]
        return max(seen, default=None)

    def _watch(self) -> None:
        while not self._stopping.wait(SAMPLE_SECONDS):
            phase = self.phase
            self._note(phase, "python", memory_mb(self._pid))
            jvms = [pid for pid in descendants(self._pid) if name_of(pid) == "java"]
            if jvms:
                self._note(phase, "jvm", sum(map(memory_mb, jvms)))

    def _note(self, phase: str, which: str, mb: float) -> None:
        self.peaks[phase, which] = max(self.peaks.get((phase, which), 0.0), mb)


@contextlib.contextmanager
def running(command: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a process for as long as the block lasts; asks it to end, then makes it."""
    with output.open("ab") as chatter:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=chatter, stderr=chatter)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_tidily() -> None:
    """Makes SIGTERM end this process as an exception does, so that no child and no folder stays behind."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(143)

    signal.signal(signal.SIGTERM, end)


def _status_mb(pid: int, field: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return 0.0

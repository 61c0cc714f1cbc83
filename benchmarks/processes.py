"""Reads memory, processor time and descendants of processes from /proc, and ends the processes of a benchmark."""

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
    """Returns the resident memory of a process in MB; 0 if it has ended."""
    return _status_mb(pid, "VmRSS:")


def peak_mb(pid: int) -> float:
    """Returns the peak resident memory of a process in MB; 0 if it has ended."""
    return _status_mb(pid, "VmHWM:")


def processor_seconds(pid: int) -> float:
    """Returns the processor seconds of a process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work_seconds(pid: int) -> float:
    """Returns the processor seconds of a process and its descendants: on a loaded machine better than the clock."""
    total = 0.0
    for process in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):  # the process may have ended meanwhile
            total += processor_seconds(process)
    return total


def name_of(pid: int) -> str:
    """Returns the program name of a process; empty if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def descendants(pid: int) -> list[int]:
    """Returns the descendants of a process, children first."""
    children: list[int] = []
    with contextlib.suppress(OSError):  # the process may end at any moment
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children += map(int, task.read_text().split())
    return children + [d for child in children for d in descendants(child)]


class Memory:
    """Samples the memory of a process and of its JVM inside of a `with` block; the peaks are in MB, by phase."""

    def __init__(self, pid: int) -> None:
        self.phase = ""
        self.peaks: dict[tuple[str, str], float] = {}
        self._pid = pid
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def peak(self, which: str, phase: str | None = None) -> float | None:
        """Returns the peak of "python" or "jvm" in a phase, or in all phases; None without a sample."""
        peaks = [mb for (of_phase, of), mb in self.peaks.items() if of == which and phase in (None, of_phase)]
        return max(peaks, default=None)

    def _sample(self) -> None:
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
    """Runs a process during the block. Afterwards it sends SIGTERM and, after 30 seconds, SIGKILL."""
    with output.open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def exit_on_sigterm() -> None:
    """Makes SIGTERM raise SystemExit, so that child processes and temporary folders are removed."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(143)

    signal.signal(signal.SIGTERM, end)


def _status_mb(pid: int, field: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return 0.0

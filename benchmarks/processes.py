"""Reads memory, processor time and descendants of processes from /proc, and ends the processes of a benchmark."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType


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

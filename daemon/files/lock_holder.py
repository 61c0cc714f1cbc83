"""Finds the process that holds a lock, in the files of the kernel: a test of the lock could disturb its holder."""

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """The process that holds a lock."""

    pid: int
    since: dt.datetime | None  # when the process started


def lock_holder(path: Path, proc: Path = Path("/proc")) -> LockHolder | None:
    """Returns the process that holds the flock on this file or folder; None where there is none."""
    try:
        inode = path.stat().st_ino
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # "1: FLOCK  ADVISORY  WRITE 19992 fe:00:9987094 0 EOF"; a waiting process has "->" after the number. The device
        # is not compared: on some file systems it differs from that of stat.
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            pid = int(words[4])
            return LockHolder(pid=pid, since=started_at(pid, proc))
    return None


def child_process(parent: int, module: str, proc: Path = Path("/proc")) -> int | None:
    """Returns the process that this parent started with `-m module`; None where there is none to see."""
    for stat in proc.glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) != parent:
                continue
            words = (stat.parent / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError, ValueError):
            continue  # the process has just ended
        if [b"-m", module.encode()] in [words[i : i + 2] for i in range(len(words))]:
            return int(stat.parent.name)
    return None


def started_at(pid: int, proc: Path = Path("/proc")) -> dt.datetime | None:
    """Returns when a process started; None where it is gone or not to see."""
    try:
        ticks = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        booted = next(
            int(line.split()[1]) for line in (proc / "stat").read_text().splitlines() if line.startswith("btime")
        )
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    return dt.datetime.fromtimestamp(booted + ticks / os.sysconf("SC_CLK_TCK"), dt.UTC)

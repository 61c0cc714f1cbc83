"""The cost of one batch: seconds, and what the kernel and the Delta logs count of a process and its children."""

import contextlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from processes import descendants, name_of, peak_mb, work_seconds

MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One delivery and its cost. Stages and tasks overlap: their seconds add up to more than the batch's.

    `read_mb` and `written_mb` are the bytes of all `read` and `write` calls (`rchar` and `wchar` of `/proc/PID/io`), so
    they have scratch files too, and do not depend on the cache of the disk. Files that a library maps into memory, as
    polars does, are not in `read_mb`. `table_mb` are the bytes of the data files that the Delta logs added.
    """

    rows: int
    seconds: float
    processor_seconds: float
    commits: int
    read_mb: float
    written_mb: float
    table_mb: float
    python_mb: float  # peak of the batch
    jvm_mb: float
    queries: int | None = None  # what the engine was asked to compute
    jobs: int | None = None  # Spark's own count
    serve_seconds: float | None = None  # after the batch is published
    requests: int | None = None  # to an object store
    stages: Mapping[str, float] = field(default_factory=dict)
    tasks: Mapping[str, float] = field(default_factory=dict)


class Meter:
    """Measures a process, its children and the tables below a folder, from when it is made."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self._folder = folder
        self._logs = _logs(folder)
        for process in self._processes():
            with contextlib.suppress(OSError):
                Path(f"/proc/{process}/clear_refs").write_text("5")  # the peak of memory starts anew
        self._io = self._bytes()
        self._worked = work_seconds(pid)

    def cost(self, *, rows: int, seconds: float, **more: object) -> Cost:
        """Returns the cost since the meter was made."""
        worked = work_seconds(self._pid) - self._worked
        read, written = (now - before for now, before in zip(self._bytes(), self._io, strict=True))
        commits = sorted(_logs(self._folder) - self._logs)
        peaks = [(name_of(pid) == "java", peak_mb(pid)) for pid in self._processes()]
        return Cost(
            rows=rows,
            seconds=seconds,
            processor_seconds=worked,
            commits=len(commits),
            read_mb=read / MB,
            written_mb=written / MB,
            table_mb=sum(map(_added_bytes, commits)) / MB,
            python_mb=sum(mb for is_jvm, mb in peaks if not is_jvm),
            jvm_mb=sum(mb for is_jvm, mb in peaks if is_jvm),
            **more,  # type: ignore[arg-type]  # the caller's own fields of Cost
        )

    def _processes(self) -> list[int]:
        return [self._pid, *descendants(self._pid)]

    def _bytes(self) -> tuple[int, int]:
        read = written = 0
        for pid in self._processes():
            with contextlib.suppress(OSError):  # the process may have ended meanwhile
                lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
                read += int(lines["rchar"])
                written += int(lines["wchar"])
        return read, written


def median(costs: Sequence[Cost], name: str) -> float | None:
    """Returns the median of a figure; None where it was not measured."""
    values = [value for cost in costs if (value := getattr(cost, name)) is not None]
    return statistics.median(values) if values else None


def medians(costs: Sequence[Cost], group: str) -> dict[str, float]:
    """Returns the median seconds of each stage or task, the longest first."""
    names = dict.fromkeys(name for cost in costs for name in getattr(cost, group))
    seconds = {n: statistics.median(getattr(c, group).get(n, 0.0) for c in costs) for n in names}
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _logs(folder: Path) -> set[Path]:
    # Not what is shown to readers in `lake/published`: it lies deeper.
    return {log for depth in range(1, 5) for log in folder.glob(f"{'[!_]*/' * depth}_delta_log/*.json")}


def _added_bytes(commit: Path) -> int:
    with contextlib.suppress(OSError):
        actions = map(json.loads, commit.read_text().splitlines())
        return sum(action["add"]["size"] for action in actions if "add" in action)
    return 0

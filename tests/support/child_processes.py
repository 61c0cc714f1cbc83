"""Child processes of tests that start in hundredths of a second: from a process that has imported the code already."""

import contextlib
import multiprocessing as mp
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# What a child would import: the fork server imports it once.
IMPORTED = [
    "daemon.service",
    "deltalake",
    "duckdb",
    "pipeline.commit.attempt",
    "pipeline.serve.serve",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.parquet",
]


def processes() -> Any:
    # A fork of this process would inherit the threads of the Delta library. A fork server that only imported the
    # library has none.
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def children_of(pid: int, named: str = "") -> list[int]:
    """Returns the child processes of a process whose command line holds a name.

    Threads and processes may end while it looks: each is read once, and those that have ended are left out.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and named.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


class Child:
    """A child process in a process group of its own, which ends with the exit code that a function returns.

    It has this process's environment variables, and the folder of its output is its working folder.
    """

    def __init__(self, run: Callable[..., int], *arguments: object, output: Path) -> None:
        started, starts = processes().Pipe(duplex=False)
        self._process = processes().Process(
            target=_run, args=(starts, dict(os.environ), output, run, arguments), daemon=True
        )
        self._process.start()
        starts.close()
        with started:
            started.recv()  # a signal to its process group reaches it from here on
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode  # type: ignore[no-any-return]

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("a child process", timeout)
        return code

    def terminate(self) -> None:
        self._process.terminate()


def _run(
    starts: Connection,
    environment: dict[str, str],
    output: Path,
    run: Callable[..., int],
    arguments: tuple[object, ...],
) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(output.parent)
    written = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.close(written)
    starts.send(None)
    starts.close()
    sys.exit(run(*arguments))

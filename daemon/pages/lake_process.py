"""Reads the lake in a process of its own, which ends when it has been idle: DuckDB needs more memory than the server.

The functions below run in that process.
"""

import asyncio
import contextlib
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from daemon.pages.facts import LakeFacts
from pipeline.contract import Settings

IDLE_SECONDS = 20
Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")


class LakeProcess:
    """Runs one function at a time in another process, which starts when it is needed."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._pool: ProcessPoolExecutor | None = None
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None

    async def run(
        self, function: Callable[Parameters, Value], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Value:
        """Returns the result of the function. A process that died is started again once."""
        async with self._lock:
            if self._timer:
                self._timer.cancel()
            try:
                return await self._run(function, *args, **kwargs)
            except BrokenExecutor:
                self.close()
                return await self._run(function, *args, **kwargs)
            finally:
                self._timer = asyncio.get_running_loop().call_later(self._idle_seconds, self.close)

    async def _run(
        self, function: Callable[Parameters, Value], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Value:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        return await asyncio.wrap_future(self._pool.submit(function, *args, **kwargs))

    def close(self) -> None:
        """Ends the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def read_facts(settings: Settings, batches: Sequence[str]) -> LakeFacts:
    """Returns the facts that the lake holds about these batches."""
    from daemon.pages.lake_facts import gather

    return gather(settings, batches)


def write_table(settings: Settings, table: str, form: str, grain: Sequence[str]) -> Path:
    """Writes a published table to a temporary file, which the caller removes. Raises UnknownTableError."""
    from pipeline import reader
    from pipeline.reader.export import export

    folder = Path(tempfile.mkdtemp(prefix="lakegate-ui-"))
    path = folder / f"{table}.{form}"
    try:
        export(reader.published(Path(settings.lake_path)), table, form, path, order_by=grain)
    except BaseException:
        remove(path)
        raise
    return path


def remove(path: Path) -> None:
    """Removes a file of `write_table` with its folder."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()

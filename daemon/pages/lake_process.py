"""Reads the lake in a process of its own, which ends when it is idle: DuckDB needs more memory than the server."""

import asyncio
import contextlib
import pickle
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from daemon.pages.facts import LakeFacts
from pipeline.contract import Settings

IDLE_SECONDS = 20
LONGEST_SECONDS = 300  # of one call: the export of a large table
LENGTH = struct.Struct(">Q")  # stands before each message
Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")


class LakeProcessError(Exception):
    """The process that reads the lake ended, or did not answer in time."""


class LakeProcess:
    """Runs one function at a time in another process, which starts when it is needed."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._child: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None

    async def run(
        self, function: Callable[Parameters, Value], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Value:
        """Returns the result of one of `FUNCTIONS`, or raises its exception. Raises LakeProcessError."""
        async with self._lock:
            if self._timer:
                self._timer.cancel()
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    answer = await self._ask(pickle.dumps((function.__name__, args, kwargs)))
            except BaseException as error:
                self.close()  # its next answer would belong to this question
                if isinstance(error, OSError | EOFError | TimeoutError | asyncio.IncompleteReadError):
                    sentence = f"the process that reads the lake ended ({type(error).__name__})"
                    raise LakeProcessError(sentence) from None
                raise
            self._timer = asyncio.get_running_loop().call_later(self._idle_seconds, self.close)
        result = pickle.loads(answer)  # noqa: S301 - it comes from our own child
        if isinstance(result, LookupError):
            raise result
        if isinstance(result, Exception):
            raise LakeProcessError(str(result))
        value: Value = result
        return value

    async def _ask(self, question: bytes) -> bytes:
        if self._child is None or self._child.returncode is not None:
            command = (sys.executable, "-m", "daemon.pages.lake_process")
            pipe = asyncio.subprocess.PIPE
            self._child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert self._child.stdin  # both are pipes
        assert self._child.stdout
        self._child.stdin.write(LENGTH.pack(len(question)) + question)
        await self._child.stdin.drain()
        (length,) = LENGTH.unpack(await self._child.stdout.readexactly(LENGTH.size))
        return await self._child.stdout.readexactly(length)

    def close(self) -> None:
        """Ends the process."""
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
        self._child = None


# ---- the functions that run in the process


def read_facts(settings: Settings, batches: Sequence[str]) -> LakeFacts:
    """Returns the facts that the lake holds about these batches."""
    from daemon.pages.lake_facts import gather

    return gather(settings, batches)


def write_table(settings: Settings, table: str, form: str, grain: Sequence[str]) -> Path:
    """Writes a published table to a temporary file, which the caller removes. Raises UnknownTableError."""
    from pipeline import reader
    from pipeline.reader.export import export

    path = Path(tempfile.mkdtemp(prefix="lakegate-ui-")) / f"{table.replace('/', '_')}.{form}"
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


FUNCTIONS = {f.__name__: f for f in (read_facts, write_table)}


def _serve() -> None:
    """Answers questions on stdin until its end, which comes when the server ends."""
    while len(head := sys.stdin.buffer.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        answer = pickle.dumps(_answer(sys.stdin.buffer.read(length)))
        sys.stdout.buffer.write(LENGTH.pack(len(answer)) + answer)
        sys.stdout.buffer.flush()


def _answer(question: bytes) -> object:
    name, args, kwargs = pickle.loads(question)  # noqa: S301 - it comes from our own parent
    try:
        return FUNCTIONS[name](*args, **kwargs)
    except LookupError as error:
        return LookupError(str(error))
    except Exception as error:  # noqa: BLE001 - the parent raises it; it has the same builtin classes
        return RuntimeError(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    _serve()

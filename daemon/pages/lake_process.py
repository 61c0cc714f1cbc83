"""Reads the lake in a process of its own, which ends when it is idle: DuckDB needs more memory than the server."""

import os
import pickle
import shutil
import struct
import subprocess
import sys
import threading
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
    """Runs one function at a time in another process, which starts when it is needed. Safe to use from threads."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        self._timer: threading.Timer | None = None

    def run(self, function: Callable[Parameters, Value], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Value:
        """Returns the result of one of `FUNCTIONS`. Raises LakeProcessError, and LookupError from the function."""
        with self._lock:
            self._end_after(LONGEST_SECONDS, idle=False)
            try:
                answer = self._ask(pickle.dumps((function.__name__, args, kwargs)))
                result = pickle.loads(answer)  # noqa: S301 - it comes from our own child
            except Exception as error:  # noqa: BLE001 - after any of them, the next answer may begin anywhere
                self._end()
                raise LakeProcessError(f"the process that reads the lake ended ({type(error).__name__})") from None
            finally:
                self._end_after(self._idle_seconds, idle=True)
        if isinstance(result, LookupError):
            raise result
        if isinstance(result, Exception):
            raise LakeProcessError(str(result))
        value: Value = result
        return value

    def close(self) -> None:
        """Ends the process; a function that is at work raises LakeProcessError."""
        self._is_closed = True
        self._kill()
        with self._lock:
            self._end()

    def _ask(self, question: bytes) -> bytes:
        if self._is_closed:
            raise EOFError
        if self._child is None or self._child.poll() is not None:
            self._end()
            command = (sys.executable, "-m", "daemon.pages.lake_process")
            self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.stdin  # both are pipes
        assert self._child.stdout
        self._child.stdin.write(LENGTH.pack(len(question)) + question)
        self._child.stdin.flush()
        (length,) = LENGTH.unpack(self._child.stdout.read(LENGTH.size))
        return self._child.stdout.read(length)

    def _end_after(self, seconds: float, *, idle: bool) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, self._end_idle if idle else self._kill)
        self._timer.daemon = True
        self._timer.start()

    def _kill(self) -> None:
        # Without the lock, which the call holds that takes too long: it reads the end of the pipe then.
        if self._child:
            self._child.kill()

    def _end_idle(self) -> None:
        if self._lock.acquire(blocking=False):  # a function at work sets the timer again
            self._end()
            self._lock.release()

    def _end(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._child:
            self._child.kill()
            self._child.communicate()  # closes the pipes and takes the exit code
        self._child = None


# ---- the functions that run in the process


def read_facts(settings: Settings, batches: Sequence[str]) -> LakeFacts:
    """Returns the facts that the lake holds about these batches."""
    from daemon.pages.lake_facts import gather

    return gather(settings, batches)


def write_table(settings: Settings, table: str, form: str, grain: Sequence[str], path: Path) -> None:
    """Writes a published table to a file. Raises UnknownTableError."""
    from pipeline import reader
    from pipeline.reader.export import export

    export(reader.published(settings.lake), table, form, path, order_by=grain)


def remove(folder: Path) -> None:
    """Removes the folder of a file of `write_table`, also with the part of a file that a killed process left."""
    shutil.rmtree(folder, ignore_errors=True)


FUNCTIONS = {f.__name__: f for f in (read_facts, write_table)}


def _serve() -> None:
    """Answers questions on stdin until its end, which comes when the server ends."""
    os.nice(10)  # the batch at work goes first
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a declaration may print
    while len(head := sys.stdin.buffer.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        answer = pickle.dumps(_answer(sys.stdin.buffer.read(length)))
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


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

"""The worker as a process: started with a socket, read by a thread, killed by its pid. Knows no batches."""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pipeline import contract

SEND_SECONDS = 10
PR_SET_PDEATHSIG = 1
# Arrow's own allocator, and one of the C library for each thread, keep most of the memory that a large batch took.
MEMORY = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
CONNECTION_CLOSED = "it closed its connection"

_libc = ctypes.CDLL(None)


@dataclass(frozen=True, kw_only=True)
class WorkerExited:
    """The last message of a worker process: it closed its socket, died, or sent an unknown message."""

    reason: str


def _end_with_the_daemon() -> None:
    # This runs in the child before exec. The kernel kills the worker with its parent, also while it does not read its
    # socket. A terminal sends Ctrl-C, and its own end, to the whole group: only the daemon decides what follows.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class WorkerProcess:
    """One worker process."""

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        wake: Callable[[], None],
        secrets: Sequence[str] = (),
    ) -> None:
        self._wake = wake
        self._secrets = tuple(secrets)
        self.messages: SimpleQueue[Any] = SimpleQueue()
        self._socket, worker_socket = socket.socketpair()
        # A worker that does not read must not block the daemon. This limit of the kernel is for sending only.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        with worker_socket, _open_output(output) as output_fd:
            self._process = subprocess.Popen(
                [*command, "--fd", str(worker_socket.fileno())],
                pass_fds=[worker_socket.fileno()],
                env=os.environ | {name: value for name, value in MEMORY.items() if not os.environ.get(name)},
                stdin=subprocess.DEVNULL,
                stdout=output_fd,
                stderr=output_fd,
                preexec_fn=_end_with_the_daemon,  # noqa: PLW1509  two calls that take no lock
            )
        threading.Thread(target=self._listen, name="worker-listener", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Any) -> bool:
        """Sends one message; False when the worker does not take it."""
        try:
            self._socket.sendall((contract.to_json(message) + "\n").encode())
        except OSError:
            return False
        return True

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ending(self) -> str:
        """Returns a sentence about the end of the process."""
        code = self._process.poll()
        if code is None:
            return CONNECTION_CLOSED
        return f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"

    def end(self, patience_seconds: float = 0.0) -> bool:
        """Closes the connection, which asks a worker to end, and kills it later. Returns whether it has ended."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(subprocess.TimeoutExpired):
            if patience_seconds > 0:
                self._process.wait(patience_seconds)
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._socket.close()
        return self.has_ended()

    def _listen(self) -> None:
        reason = CONNECTION_CLOSED
        try:
            with self._socket.makefile("rb") as stream:
                for line in stream:
                    self.messages.put(self._without_secrets(contract.from_json(line.decode())))
                    self._wake()
        except OSError:
            pass
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"it said something that is no message: {error}"
        self.messages.put(WorkerExited(reason=reason))
        self._wake()

    def _without_secrets(self, message: Any) -> Any:
        # an engine may repeat its settings in an error, and the ledger would show their secrets
        texts = {name: getattr(message, name) for name in ("reason", "error") if hasattr(message, name)}
        return replace(message, **{name: contract.hide_secrets(text, self._secrets) for name, text in texts.items()})


@contextlib.contextmanager
def _open_output(path: Path) -> Iterator[int]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # a full or broken log disk does not stop the work
    try:
        yield descriptor
    finally:
        os.close(descriptor)

"""The worker as a process: started with a socket, heard by a thread, killed by its pid. Knows nothing of batches."""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pipeline import contract

SEND_SECONDS = 10
PR_SET_PDEATHSIG = 1
HUNG_UP = "it closed its connection"

_libc = ctypes.CDLL(None)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The worker's end of the line: it closed its socket, died, or spoke what nobody understands."""

    reason: str


def _die_with_the_daemon() -> None:
    # runs in the child before exec: the kernel kills it with its parent even where it does not listen to its socket;
    # Ctrl-C in a terminal goes to the whole group, and only the daemon decides what it means
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the same of a terminal that is closed


class Child:
    """One worker process."""

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        wake: Callable[[], None],
        secrets: Sequence[str] = (),
    ) -> None:
        self._wake, self._secrets = wake, tuple(secrets)
        self.messages: SimpleQueue[Any] = SimpleQueue()
        self._socket, theirs = socket.socketpair()
        # a worker that does not read must not hold the daemon: the kernel's own limit, which leaves reading untouched
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        with theirs, _appended(output) as chatter:
            self._process = subprocess.Popen(
                [*command, "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=chatter,
                stderr=chatter,
                preexec_fn=_die_with_the_daemon,  # noqa: PLW1509  two calls that take no lock
            )
        threading.Thread(target=self._listen, name="worker-listener", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Any) -> bool:
        """Sends one message; False when the worker is not there to take it."""
        try:
            self._socket.sendall((contract.to_json(message) + "\n").encode())
        except OSError:
            return False
        return True

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ending(self) -> str:
        """How the process ended, in words."""
        code = self._process.poll()
        if code is None:
            return HUNG_UP
        return f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"

    def end(self, patience_seconds: float = 0.0) -> bool:
        """Hangs up, which asks a worker to end; kills it when it has not ended in time. Says whether it is gone."""
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
        reason = HUNG_UP
        try:
            with self._socket.makefile("rb") as stream:
                for line in stream:
                    self.messages.put(self._without_secrets(contract.from_json(line.decode())))
                    self._wake()
        except OSError:
            pass
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"it said something that is no message: {error}"
        self.messages.put(Ended(reason=reason))
        self._wake()

    def _without_secrets(self, message: Any) -> Any:
        # an engine may repeat its settings in an error, which goes into the ledger and from there to people
        said = {name: getattr(message, name) for name in ("reason", "error") if hasattr(message, name)}
        return replace(message, **{name: contract.hide_secrets(text, self._secrets) for name, text in said.items()})


@contextlib.contextmanager
def _appended(path: Path) -> Any:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # a full or broken log disk does not stop the work
    try:
        yield descriptor
    finally:
        os.close(descriptor)

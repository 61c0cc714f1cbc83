"""Servers of engines in processes of their own, on loopback."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

CLUSTER_OF_SAIL = {"SAIL_MODE": "local-cluster", "SAIL_CLUSTER__WORKER_INITIAL_COUNT": "2", "RUST_LOG": "warn"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(root: Path, port: int, command: Sequence[object], environment: Mapping[str, str]) -> Iterator[str]:
    """A server that listens on loopback, with its address."""
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=root,
            env=os.environ | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        else:
            pytest.fail((root / "server.log").read_text()[-3000:])
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def sail_server(root: Path, through: Sequence[str] = ()) -> Iterator[str]:
    """A server of Sail with two workers of its own. `through` is a command that runs it, such as `unshare`."""
    port = free_port()
    sail = Path(sys.executable).parent / "sail"
    command = [*through, sail, "spark", "server", "--ip", "127.0.0.1", "--port", port]
    with started(root, port, command, CLUSTER_OF_SAIL) as address:
        yield address

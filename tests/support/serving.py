"""Serves the pages of a site on a free port of this machine."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from factories_daemon import end, wait_until

from daemon.config.config import Config
from daemon.pages.server import create_app

PROJECT = Path(__file__).parents[2]


@contextmanager
def served(config: Config, name: str = "127.0.0.1") -> Iterator[httpx.Client]:
    """Serves the pages from a thread, and yields a client that calls the server by this name."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(create_app(config), log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers={"host": f"{name}:{port}"}, timeout=60
            ) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def ui_process(config: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Runs `lakegate ui`, and yields its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "daemon", "--config", str(config), "ui", "--listen", address]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(address))
        yield f"http://{address}", process
    finally:
        end(process)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/healthz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False

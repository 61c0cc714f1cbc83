"""Writes the metrics to a file and serves them by HTTP, in threads: a slow disk or reader never delays the daemon."""

import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from daemon.config.config import Config
from daemon.files.safe_files import NEW_FILE, exists, folder, make_folder
from daemon.metrics.collect import CONTENT_TYPE, Metrics
from daemon.text import error_line
from pipeline.contract import SetupError

EVERY_SECONDS = 15.0
READER_SECONDS = 10  # for one request
MOST_READERS = 16  # connections at once; further ones are closed
JOIN_SECONDS = 5.0
EXPECTED = (OSError, sqlite3.Error, SetupError)


class MetricsExporter:
    """The file of [metrics] path and the server of [metrics] listen. Without both it has no thread."""

    def __init__(self, config: Config, every_seconds: float = EVERY_SECONDS) -> None:
        self._config = config
        self._settings = config.metrics
        self._every_seconds = every_seconds
        self._metrics: Metrics | None = None
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self.failures: tuple[str, ...] = ()  # of the last try; sentences

    @property
    def port(self) -> int:
        """Returns the port at which the metrics are served; 0 without a server."""
        return self._server.server_port if self._server else 0

    def start(self) -> None:
        """Starts the thread where there is work for it; a second call does nothing."""
        if self._thread is None and (self._settings.path or self._settings.listen):
            self._metrics = Metrics(self._config)
            self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread and the server, and writes the file for the last time: it says that the daemon is down."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join(JOIN_SECONDS)
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        if not self._thread.is_alive():
            self._try(self._write_file)

    def _run(self) -> None:
        while True:
            self.failures = tuple(filter(None, (self._try(self._serve), self._try(self._write_file))))
            if self._stopping.wait(self._every_seconds):
                return

    def _try(self, step: Callable[[], None]) -> str:
        try:
            step()
        except EXPECTED as error:
            return error_line(error)
        return ""

    def _write_file(self) -> None:
        if self._settings.path:
            assert self._metrics
            write_file(self._settings.path, self._metrics.render())

    def _serve(self) -> None:
        if not self._settings.listen or self._server:
            return
        host, _, port = self._settings.listen.rpartition(":")
        try:
            self._server = make_server(
                host.strip("[]"), int(port), self._answer, _server_class(host), handler_class=_Handler
            )
        except OSError as error:
            advice = "end the program that uses it, or set another address; the daemon tries again"
            raise OSError(f"[metrics] listen: {self._settings.listen} cannot be used ({error}); {advice}") from error
        threading.Thread(target=self._server.serve_forever, name="metrics-server", daemon=True).start()

    def _answer(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        status, kind = HTTPStatus.OK, CONTENT_TYPE
        assert self._metrics
        if request["PATH_INFO"] != "/metrics" or request["REQUEST_METHOD"] != "GET":
            status, kind, body = HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"The metrics are at GET /metrics\n"
        else:
            try:
                body = self._metrics.render()
            except EXPECTED as error:
                sentence = f"the metrics cannot be computed now: {error_line(error)}\n"
                status, kind, body = HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", sentence.encode()
        start(f"{status.value} {status.phrase}", [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]


def write_file(path: Path, content: bytes) -> None:
    """Writes a file that every user may read; a reader sees all of it or none. Raises OSError."""
    # Without fsync: after a power cut the next write comes within seconds.
    make_folder(path.parent)
    part = f".{path.name}.part"
    with folder(path.parent) as folder_fd:
        if exists(folder_fd, part):
            os.unlink(part, dir_fd=folder_fd)  # of a kill, or another entry
        with os.fdopen(os.open(part, NEW_FILE, 0o644, dir_fd=folder_fd), "wb") as stream:
            os.fchmod(stream.fileno(), 0o644)  # in spite of the umask: the collector is another user
            stream.write(content)
        os.rename(part, path.name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._places = threading.BoundedSemaphore(MOST_READERS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints nothing: a reader that is silent or gone is no error of the daemon."""

    def server_bind(self) -> None:
        # WSGIServer looks up the name of its host, which can take seconds
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server_class(host: str) -> type[_Server]:
    return _Server6 if ":" in host else _Server


class _Handler(WSGIRequestHandler):
    timeout = READER_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the library
        """Logs no request."""

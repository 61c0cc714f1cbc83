"""A real object store on loopback, and the same store behind a server that ignores conditions."""

import contextlib
import http.client
import os
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from servers import ObjectStore, store_server

CONDITIONS = {"if-match", "if-none-match"}


@contextlib.contextmanager
def object_store(root: Path) -> Iterator[ObjectStore]:
    """A store that runs within a `with` block, and to which the environment leads."""
    with store_server(root) as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        yield store


class _Forgetful(BaseHTTPRequestHandler):
    """Passes requests on without their conditions, as some stores do that accept a condition and ignore it."""

    protocol_version = "HTTP/1.1"
    target = 0

    def _pass_on(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in CONDITIONS}
        connection = http.client.HTTPConnection("127.0.0.1", self.target)
        connection.request(self.command, self.path, self.rfile.read(length), headers)
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "connection", "transfer-encoding", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - the names that the library asks for

    def log_message(self, *_values: object) -> None:
        """Prints nothing."""


@contextlib.contextmanager
def forgetful_store(store: ObjectStore) -> Iterator[Mapping[str, str]]:
    """The same store behind a server that drops the conditions of writes, with the environment that leads there."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Forgetful,), {"target": store.port}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {**os.environ, **store.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
    finally:
        server.shutdown()
        server.server_close()

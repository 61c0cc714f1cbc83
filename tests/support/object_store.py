"""A real object store on loopback: moto speaks S3 and keeps objects in memory. And a store that ignores conditions."""

import contextlib
import http.client
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
from factories_servers import free_port, started

CONDITIONS = {"if-match", "if-none-match"}


class ObjectStore:
    """A store with one bucket. `environment` is what a shop would set for a store of its own."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "a-key-of-tests",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        self._request("PUT", "/shop")

    def new_prefix(self) -> str:
        """Returns an address below which nothing lies."""
        return f"s3://shop/{uuid4().hex[:8]}/lake"

    def requests(self) -> list[str]:
        """Returns the requests so far: `GET /shop/…`."""
        return [line.split('"')[1] for line in self._log.read_text().splitlines() if '"' in line]

    def _request(self, method: str, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request(method, path)
        assert connection.getresponse().status == 200
        connection.close()


@contextlib.contextmanager
def object_store(root: Path) -> Iterator[ObjectStore]:
    """A store that runs within a `with` block, and to which the environment leads."""
    port = free_port()
    serve = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    with started(root, port, [sys.executable, "-c", serve], {}), pytest.MonkeyPatch.context() as patch:
        store = ObjectStore(port, root / "server.log")
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

"""A worker process for tests, and a batch of the example landing zone. Two engines do not fit into one process."""

import datetime as dt
import hashlib
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pipeline.contract import OrderFile, Outcome, Progress, Ready, Result, Settings, WorkOrder, from_json, to_json
from pipeline.lake.lake import Lake

SEQ = "_batch_seq"
EXAMPLE = Path(__file__).parents[2] / "landing_zone_example" / "2026-03-02"


def example(*feeds: str) -> WorkOrder:
    """Returns a work order for the first day of the example, with all feeds or some of them."""
    files = []
    for feed in feeds or ("orders", "customers", "products", "inventory", "shipping"):
        path = EXAMPLE / f"{feed}_2026_03_02.csv"
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        files.append(OrderFile(name=path.name, feed=feed, path=str(path), sha256=sha256, bytes=len(content)))
    return WorkOrder(batch_id="b1", source="retail", batch_date=dt.date(2026, 3, 2), files=tuple(files))


class Worker:
    """A worker process behind a socket, as the daemon starts it. `through` is a command that runs it, such as `env`."""

    def __init__(self, settings: Settings, log: Path, through: Sequence[str] = ()) -> None:
        self._socket, worker_socket = socket.socketpair()
        self._socket.settimeout(180)
        command = [*through, sys.executable, "-m", "pipeline", "--fd", str(worker_socket.fileno())]
        with worker_socket, log.open("ab") as output:
            self._process = subprocess.Popen(
                command, pass_fds=[worker_socket.fileno()], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._stream = self._socket.makefile("r")
        self._send(settings)
        while isinstance(ready := self._receive(), Progress):  # messages about attempts that the worker undoes
            pass
        assert isinstance(ready, Ready), ready

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()
        self._process.wait(60)

    def run(self, order: WorkOrder) -> Result:
        """Sends a batch and returns its result."""
        self._send(order)
        while not isinstance(message := self._receive(), Result):
            pass
        return message

    def kill_at(self, order: WorkOrder, event: str) -> None:
        """Sends a batch and kills the process at the first message of the event. Its JVM ends with it."""
        self._send(order)
        while not (isinstance(message := self._receive(), Progress) and message.event == event):
            assert not isinstance(message, Result), f"no {event} before the result: {message}"
        self._process.kill()

    def _send(self, message: Any) -> None:
        self._socket.sendall((to_json(message) + "\n").encode())

    def _receive(self) -> Any:
        line = self._stream.readline()
        assert line, "the worker has died"
        return from_json(line)


def tables_of_a_day(settings: Settings, root: Path, killed_at: str = "") -> dict[str, list[str]]:
    """Returns the rows of every table of the shop after the first day of the example, as text and in order.

    With `killed_at` a first worker is killed at the first message of this event, and another one runs the batch.
    """
    log = root / f"{settings.engine}.log"
    if killed_at:
        worker = Worker(settings, log)
        worker.kill_at(example(), killed_at)
        with worker:
            pass
    with Worker(settings, log) as worker:
        result = worker.run(example())
    assert result.outcome == Outcome.PUBLISHED, (result.reason, result.error)
    assert result.rows_read == result.rows_accepted + result.rows_rejected == 86
    lake = Lake(settings.lake, work=settings.work)
    tables = {name: version for name, version in result.table_versions.items() if name.startswith("retail.")}
    every = {name: lake.arrow(name, version) for name, version in tables.items()}
    # An attempt that was undone took a number, too.
    numbered = {name: rows.drop_columns(SEQ) if SEQ in rows.column_names else rows for name, rows in every.items()}
    return {name: sorted(map(repr, rows.to_pylist())) for name, rows in numbered.items()}


def assert_same(there: dict[str, list[str]], here: dict[str, list[str]]) -> None:
    """Compares the tables of two lakes."""
    assert there.keys() == here.keys()
    differing = {name: (rows, here[name]) for name, rows in there.items() if rows != here[name]}
    assert differing == {}
    assert sum(map(len, there.values())) > 200

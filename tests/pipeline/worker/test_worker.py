"""The worker as the daemon meets it: a child process on a socket, real engines, real signals."""

import contextlib
import datetime as dt
import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from child_processes import children_of

from pipeline import contract
from pipeline.commit.manifest import Manifest
from pipeline.contract import WAITING, OrderFile, Outcome, Progress, Ready, Refused, Result, Settings, WorkOrder
from pipeline.lake.lake import Lake

EXAMPLE = Path(__file__).parents[3] / "landing_zone_example" / "2026-03-02"
SECONDS = 120


class Daemon:
    """The other end of the socket."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(SECONDS)
        command = [sys.executable, "-m", "pipeline", "--fd", str(theirs.fileno()), *arguments]
        self._log = (folder / "worker.log").open("ab")
        with theirs:
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
            )
        self._stream = self._socket.makefile("r")

    def send(self, message: Any) -> None:
        self._socket.sendall((contract.to_json(message) + "\n").encode())

    def receive(self) -> Any:
        line = self._stream.readline()
        return contract.from_json(line) if line else None

    def receive_until(self, kind: type) -> Any:
        while not isinstance(message := self.receive(), (kind, type(None))):
            pass
        return message

    def hang_up(self) -> None:
        self._stream.close()
        self._socket.close()

    def close(self) -> None:
        self.hang_up()
        self.process.kill()
        self.process.wait()
        self._log.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> Daemon:
            one = Daemon(tmp_path, *arguments)
            stack.callback(one.close)
            return one

        yield start


def settings(tmp_path: Path, engine: str = "sail") -> Settings:
    return Settings(
        lake_path=str(tmp_path / "lake"),
        engine=engine,
        master="local[1]",
        driver_memory="512m",
        log_path=str(tmp_path / "spark.log"),
    )


def order(batch_id: str = "b1", attempt: int = 1, feeds: tuple[str, ...] = ("customers",)) -> WorkOrder:
    files = []
    for feed in feeds:
        path = EXAMPLE / f"{feed}_2026_03_02.csv"
        content = path.read_bytes()
        files.append(
            OrderFile(
                name=path.name,
                feed=feed,
                path=str(path),
                sha256=hashlib.sha256(content).hexdigest(),
                bytes=len(content),
            )
        )
    return WorkOrder(
        batch_id=batch_id, source="retail", batch_date=dt.date(2026, 3, 2), files=tuple(files), attempt=attempt
    )


def ends(pid: int, within_seconds: float = 10) -> bool:
    until = time.monotonic() + within_seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, IndexError):
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                time.sleep(0.02)
                continue
        return True
    return False


@pytest.mark.sail
def test_a_worker_says_it_is_ready_takes_orders_and_ends_with_its_daemon(
    tmp_path: Path, daemon: Callable[..., Daemon]
) -> None:
    here = daemon()
    here.send(settings(tmp_path))
    ready = here.receive()
    assert isinstance(ready, Ready)
    assert (ready.pid, ready.engine, ready.undone) == (here.process.pid, "sail", ())
    here.send(order())
    result = here.receive_until(Result)
    assert (result.outcome, result.batch_seq) == (Outcome.PUBLISHED, 1), result.reason
    assert result.rows_read == result.rows_accepted + result.rows_rejected > 0
    here.send(order("b2"))
    assert here.receive_until(Result).duplicate_of == "b1"
    here.hang_up()
    assert here.process.wait(SECONDS) == 0


@pytest.mark.sail
def test_a_worker_killed_in_the_middle_of_a_batch_is_followed_by_one_that_publishes_it_once(
    tmp_path: Path, daemon: Callable[..., Daemon]
) -> None:
    first = daemon()
    first.send(settings(tmp_path))
    first.send(order())
    while True:
        message = first.receive()
        assert isinstance(message, (Ready, Progress)), message
        if isinstance(message, Progress) and message.event == "table.committed":
            break
    first.process.kill()
    second = daemon()
    second.send(settings(tmp_path))
    assert second.receive_until(Ready).undone == ("b1",)
    second.send(order(attempt=2))
    assert second.receive_until(Result).outcome == Outcome.PUBLISHED
    lake = Lake(tmp_path / "lake")
    assert [(r["batch_id"], r["kind"]) for r in lake.arrow("ops.batches").sort_by("batch_seq").to_pylist()] == [
        ("b1", "taken"),
        ("b1", "undone"),
        ("b1", "batch"),
    ]
    rows = lake.arrow("retail.bronze.customers", Manifest(lake).versions("retail")["retail.bronze.customers"])
    published = Manifest(lake).published_row("b1")
    assert published is not None
    assert rows.num_rows == published.rows_accepted > 0
    assert len({(r["_source_file"], r["_record"]) for r in rows.to_pylist()}) == rows.num_rows


def waiting(reason: str) -> Progress:
    return Progress(batch_id="", event=WAITING, values={"reason": reason})


@pytest.mark.sail
def test_between_orders_the_lake_is_free_for_others_and_during_one_it_is_not(
    tmp_path: Path, daemon: Callable[..., Daemon]
) -> None:
    here = daemon("--lock-seconds", "0.2")
    here.send(settings(tmp_path))
    assert isinstance(here.receive(), Ready)
    with (tmp_path / "lake" / ".lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        here.send(order())
        for _ in range(2):
            assert here.receive() == waiting(
                f"{tmp_path}/lake is being written by process {here.process.pid} or a program that it started"
            )
    while not (isinstance(message := here.receive(), Progress) and message.batch_id):
        assert not isinstance(message, Result)
    with (tmp_path / "lake" / ".lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert here.receive_until(Result).outcome == Outcome.PUBLISHED


@pytest.mark.sail
def test_a_worker_that_must_end_finishes_its_batch_first_and_leaves_ctrl_c_to_the_daemon(
    tmp_path: Path, daemon: Callable[..., Daemon]
) -> None:
    here = daemon()
    here.send(settings(tmp_path))
    here.send(order())
    here.receive_until(Progress)
    here.process.send_signal(signal.SIGTERM)
    here.process.send_signal(signal.SIGINT)
    assert here.receive_until(Result).outcome == Outcome.PUBLISHED
    assert here.receive() is None
    assert here.process.wait(SECONDS) == 0


@pytest.mark.sail
def test_an_idle_worker_ends_at_the_first_signal(tmp_path: Path, daemon: Callable[..., Daemon]) -> None:
    here = daemon()
    here.send(settings(tmp_path))
    assert isinstance(here.receive(), Ready)
    here.process.send_signal(signal.SIGTERM)
    assert here.process.wait(SECONDS) == 0


@pytest.mark.sail
def test_a_worker_waits_for_a_lake_that_another_writes_to_and_says_so(
    tmp_path: Path, daemon: Callable[..., Daemon]
) -> None:
    (tmp_path / "lake").mkdir()
    with (tmp_path / "lake" / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        here = daemon("--lock-seconds", "0.1")
        here.send(settings(tmp_path))
        for _ in range(3):
            assert here.receive() == waiting(f"{tmp_path}/lake is being written by another process")
    assert isinstance(here.receive_until(Ready), Ready)


@pytest.mark.sail
@pytest.mark.parametrize("has_an_order", [False, True])
def test_a_worker_that_waits_for_the_lake_ends_at_the_first_signal(
    tmp_path: Path, daemon: Callable[..., Daemon], *, has_an_order: bool
) -> None:
    here = daemon("--lock-seconds", "0.1")
    here.send(settings(tmp_path))
    assert not has_an_order or isinstance(here.receive(), Ready)
    (tmp_path / "lake").mkdir(exist_ok=True)
    with (tmp_path / "lake" / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        if has_an_order:
            here.send(order())
        assert here.receive_until(Progress).event == WAITING
        here.process.send_signal(signal.SIGTERM)
        assert here.process.wait(10) == 0


def test_a_worker_refuses_what_no_retry_mends(tmp_path: Path, daemon: Callable[..., Daemon]) -> None:
    here = daemon()
    here.send(Settings(lake_path=str(tmp_path / "lake[1]"), engine="sail"))
    refused = here.receive()
    assert isinstance(refused, Refused)
    assert not refused.retryable
    assert "choose another [lake] path" in refused.reason


def test_a_worker_refuses_a_lake_of_a_newer_version_for_good(tmp_path: Path, daemon: Callable[..., Daemon]) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "_version").write_text("99\n")
    here = daemon()
    here.send(settings(tmp_path))
    refused = here.receive()
    assert isinstance(refused, Refused)
    assert not refused.retryable
    assert refused.reason.startswith(f"the lake {tmp_path}/lake was written by a newer Lakegate (version 99")


def test_a_worker_whose_daemon_is_gone_before_it_spoke_ends(daemon: Callable[..., Daemon]) -> None:
    here = daemon()
    here.hang_up()
    assert here.process.wait(SECONDS) == 0


@pytest.mark.spark
def test_a_worker_takes_its_jvm_with_it_and_the_jvm_holds_the_lock_while_it_lives(
    tmp_path: Path, daemon: Callable[..., Daemon]
) -> None:
    here = daemon()
    here.send(settings(tmp_path, "spark"))
    assert isinstance(here.receive(), Ready)
    (jvm,) = children_of(here.process.pid)
    lock = (tmp_path / "lake" / ".lock").stat().st_ino
    held = [fd.stat().st_ino for fd in Path(f"/proc/{jvm}/fd").iterdir() if fd.exists()]
    assert lock in held
    here.hang_up()
    assert here.process.wait(SECONDS) == 0
    assert ends(jvm)


@pytest.mark.spark
def test_a_worker_whose_jvm_died_fails_the_batch_and_ends(tmp_path: Path, daemon: Callable[..., Daemon]) -> None:
    here = daemon()
    here.send(settings(tmp_path, "spark"))
    assert isinstance(here.receive(), Ready)
    (jvm,) = children_of(here.process.pid)
    os.kill(jvm, signal.SIGKILL)
    here.send(order())
    result = here.receive_until(Result)
    assert (result.outcome, result.retryable) == (Outcome.FAILED, True)
    assert here.receive() is None
    assert here.process.wait(SECONDS) == 1


@pytest.mark.sail
def test_readers_see_a_batch_after_its_result_and_after_a_crash_with_the_next_worker(
    tmp_path: Path, daemon: Callable[..., Daemon]
) -> None:
    def served(one: Daemon) -> Progress:
        while not (isinstance(message := one.receive(), Progress) and message.stage == "serve"):
            assert message is not None
        return message

    asked = replace(settings(tmp_path), serve_layers=("gold", "silver"))
    first = daemon()
    first.send(asked)
    first.send(order())
    assert first.receive_until(Result).serves, "the answer comes first: no fault of serving changes it"
    assert served(first).event == "serve.finished"
    shown = (tmp_path / "lake/published/retail").resolve()
    first.process.kill()
    first.process.wait()
    (tmp_path / "lake/published/retail").unlink()  # as before the crash
    second = daemon()
    second.send(asked)
    assert served(second).batch_id == "b1"
    assert (tmp_path / "lake/published/retail").resolve() != shown

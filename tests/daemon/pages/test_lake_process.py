"""The process that reads the lake: it is started again after a fault, leaves no files, and delays no other request."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from child_processes import children_of
from factories_daemon import wait_until
from factories_pages import PagesSite
from serving import served

from daemon.pages import server
from daemon.pages.lake_process import LakeProcess, LakeProcessError, read_facts

pytestmark = pytest.mark.long  # with real processes and servers, they take seconds together

SALES = "/data/retail.gold.daily_sales.csv"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files, of this process and of its children."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def readers() -> list[int]:
    return children_of(os.getpid(), named="lake_process")


@contextmanager
def stopped_reader(client: httpx.Client) -> Iterator[int]:
    """Stops the process that reads the lake, as a very large table would keep it, and yields its id."""
    assert client.get("/figures/retail").status_code == 200
    wait_until(lambda: client.get(SALES).status_code == 200)
    (reader,) = readers()
    os.kill(reader, signal.SIGSTOP)
    try:
        yield reader
    finally:
        if reader in readers():
            os.kill(reader, signal.SIGCONT)


def test_a_declaration_that_prints_disturbs_no_answer(tmp_path: Path) -> None:
    folder = tmp_path / "club"
    folder.mkdir()
    (folder / "feeds.py").write_text(
        """print("loading the club")
from pipeline.model import Feed, Scd1, Source

members = Feed(name="members", files="members_*.csv", columns="id INT NOT NULL", key="id", stored_as=Scd1())
CLUB = Source(name="club", feeds=(members,))
"""
    )
    site = PagesSite(tmp_path, f'[sources]\npaths = ["{folder}"]\n')
    site.publish(2)
    process = LakeProcess()
    try:
        for _ in range(2):
            assert "retail" in process.run(read_facts, site.config.settings, []).sources
    finally:
        process.close()


def test_an_answer_that_cannot_be_read_ends_the_process(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    site.publish(2)
    process = LakeProcess()
    try:
        process.run(read_facts, site.config.settings, [])
        (reader,) = readers()
        pipes = [f for f in Path(f"/proc/{reader}/fd").iterdir() if str(f.readlink()).startswith("pipe:")]
        for pipe in pipes:
            if pipe.name != "0":  # those in which it writes
                pipe.write_bytes(b"x" * 8)
        with pytest.raises(LakeProcessError):
            process.run(read_facts, site.config.settings, [])
        assert "retail" in process.run(read_facts, site.config.settings, []).sources
    finally:
        process.close()


def test_exports_leave_no_file_behind(tmp_path: Path, temporary: Path) -> None:
    site = PagesSite(tmp_path / "site")
    site.publish(2)
    with served(site.config) as client:
        assert client.get("/data/retail.gold.daily_sales%00.csv").status_code == 404
        assert client.get(f"/data/{'a' * 300}.csv").status_code == 404
        with stopped_reader(client) as reader:
            answers = []
            thread = threading.Thread(target=lambda: answers.append(client.get(SALES)))
            thread.start()
            wait_until(lambda: any(temporary.iterdir()))
            (folder,) = temporary.iterdir()
            (folder / ".table.csv.1.part").write_text("a half of it")
            os.kill(reader, signal.SIGKILL)
            thread.join()
        assert [a.status_code for a in answers] == [503]
        assert not list(temporary.iterdir())


@pytest.mark.long
def test_long_exports_delay_no_other_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "EXPORT_WAIT_SECONDS", 1)
    site = PagesSite(tmp_path)
    site.publish(2)
    with served(site.config) as client:
        answers: list[httpx.Response] = []
        asks = [threading.Thread(target=lambda: answers.append(client.get(SALES))) for _ in range(12)]
        with stopped_reader(client):
            for ask in asks:
                ask.start()
            time.sleep(0.3)
            assert client.get("/healthz", timeout=2).status_code == 200
            wait_until(lambda: len(answers) == 11)
            assert {(a.status_code, a.headers["retry-after"]) for a in answers} == {(503, "1")}
        for ask in asks:
            ask.join()
        assert answers[-1].status_code == 200

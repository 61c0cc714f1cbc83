"""The verbs `report` and `ui` on the command line."""

import re
import socket
from pathlib import Path

import pytest
from factories_pages import PagesSite

from daemon.cli.main import main


def test_report_writes_one_file_and_says_what_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = PagesSite(tmp_path)
    for day in (2, 3):
        site.publish(day)
    monkeypatch.chdir(tmp_path)
    assert main(["--config", str(site.path), "report", "--batches", "1"]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(r"lakegate-report\.html: \d+\.\d kB, the newest 1 of 2 batches\n", said), said
    assert [p.name for p in tmp_path.glob("*report*")] == ["lakegate-report.html"]


@pytest.mark.parametrize(
    ("listen", "sentence"),
    [
        ("0.0.0.0:8765", "listen is 0.0.0.0:8765, which other machines can reach, and token is empty"),
        ("8765", "8765 is not a host and a port"),
        ("localhost:99999", "is not a host and a port"),
    ],
)
def test_ui_refuses_an_address_that_it_should_not_serve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listen: str, sentence: str
) -> None:
    site = PagesSite(tmp_path)
    assert main(["--config", str(site.path), "ui", "--listen", listen]) == 2
    assert sentence in capsys.readouterr().err


def test_ui_names_an_address_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = PagesSite(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["--config", str(site.path), "ui", "--listen", address]) == 2
    assert f"{address} cannot be served: Address already in use" in capsys.readouterr().err


def test_a_token_is_hidden_in_the_log(tmp_path: Path) -> None:
    site = PagesSite(tmp_path, '[ui]\ntoken = "correct-horse-battery"\n')
    assert "correct-horse-battery" in site.config.secrets({})

"""Alerts go out by real mail, off the loop."""

import socket
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler
from factories_daemon import Zone, wait_until

from daemon.observe.alerts import Alerts
from daemon.observe.log import Log

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise loads it


class Inbox(MessageHandler):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Message] = []

    def handle_message(self, message: Message) -> None:
        self.mails.append(message)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def server() -> Iterator[Controller]:
    controller = Controller(Inbox(), hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller
    controller.stop()


def address(server: Controller) -> str:
    return f"mailto://127.0.0.1:{server.port}?from=lakegate@example.com&to=someone@example.com"


def test_a_rejected_batch_sends_a_mail_that_says_why(tmp_path: Path, server: Controller) -> None:
    zone = Zone(
        tmp_path,
        alerts={"urls": [address(server)]},
        dispatch={"timeout_seconds": 20, "poison_after": 2, "stop_seconds": 100},
    )
    zone.deliver("1", "reject column order_amount is missing\n")
    assert zone.once() == 1
    [mail] = server.handler.mails
    assert mail["Subject"] == "Lakegate: REJECTED retail 2026-03-02"
    assert "column order_amount is missing" in str(mail)
    assert len(zone.log("alert.sent")) == 1


def test_a_daemon_that_cannot_start_until_a_person_acts_sends_a_mail(tmp_path: Path, server: Controller) -> None:
    zone = Zone(tmp_path, alerts={"urls": [address(server)]}, dispatch={"stop_seconds": 20})
    zone.lake.mkdir()
    (zone.lake / "_version").write_text("99")
    assert zone.once() == 78
    [mail] = server.handler.mails
    assert mail["Subject"] == "Lakegate: the daemon cannot start"
    assert "was written by a newer Lakegate" in str(mail)


def test_an_alert_that_fails_is_logged_and_delays_nothing() -> None:
    events: list[dict[str, Any]] = []
    alerts = Alerts(
        ["mailto://127.0.0.1:1?from=a@example.com&to=b@example.com", "no address"],
        Log(None, stderr=False, on_event=events.append),
    )
    began = time.monotonic()
    alerts.send("title", "body")
    assert time.monotonic() - began < 0.1
    wait_until(alerts.is_idle)
    assert {e["event"] for e in events} == {"alert.failed"}


def test_an_alert_that_no_service_takes_before_the_daemon_ends_is_logged() -> None:
    events: list[dict[str, Any]] = []
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it accepts and never says a word
        alerts = Alerts(
            [f"mailto://127.0.0.1:{mute.getsockname()[1]}?from=a@example.com&to=b@example.com"],
            Log(None, stderr=False, on_event=events.append),
        )
        alerts.send("Lakegate: FAILED retail", "body")
        alerts.finish(0.1)
        # The server is still there: when it closes, the service's thread reports its own failure.
        assert [(e["event"], e["title"], e["reason"]) for e in events] == [
            ("alert.failed", "Lakegate: FAILED retail", "the daemon ended before a service had taken it")
        ]


def test_without_urls_nothing_is_loaded_or_started() -> None:
    alerts = Alerts([], Log(None, stderr=False))
    alerts.send("title", "body")
    assert alerts.is_idle()
    assert alerts._thread is None  # noqa: SLF001

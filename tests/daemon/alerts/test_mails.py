"""The mails word by word, as a mail server receives them, and as a browser shows what strangers put into them."""

import datetime as dt
import re
import socket
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path

import pytest
from factories_daemon import HandClock, Zone
from factories_services import Inbox, free_port, mail_address, mail_server, part
from playwright.sync_api import sync_playwright

from daemon.alerts import render
from daemon.alerts.alert import Alert, Severity, from_json, to_json
from daemon.alerts.batch_alerts import batch_alert
from daemon.alerts.desk import AlertDesk
from daemon.alerts.wording import period, short_cause
from daemon.batch import Batch, BatchFile, State
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise loads it

MAILS = Path(__file__).parent / "mails"
DAY = dt.date(2026, 3, 5)
FINDINGS = [
    {
        "feed": "orders",
        "rule": "amount_is_positive",
        "severity": "HIGH",
        "action": "REJECT",
        "checked": 2036,
        "broken": 1404,
        "description": "an order has an amount",
        "examples": ["O1,C7,-5.00,2026-03-05", "O2,C9,,2026-03-05", "O3,C1,0.00,2026-03-05", "O4,C1,0.00,2026-03-05"],
        "advice": "",
    },
    {
        "feed": "orders",
        "rule": "phone_has_twelve_characters",
        "severity": "LOW",
        "action": "WARN",
        "checked": 2036,
        "broken": 3,
        "description": "",
        "examples": [],
        "advice": "",
    },
]
HOSTILE = (
    "<script>fetch('http://evil.example')</script><img src=x onerror=alert(1)>\x1b[31m\r\nBcc: x@evil.example\u202e"
)


def received(ledger: Ledger, clock: HandClock, name: str = "orders_2026_03_05.csv") -> str:
    batch_id = ledger.new_id()
    files = [BatchFile(number=1, kind="data", name=name, feed="orders", bytes=250_912)]
    ledger.receive(batch_id, trigger="day.done", files=files, source="retail", batch_date=DAY)
    ledger.move(batch_id, State.READY, "batch.ready")
    clock.pass_(1)
    ledger.move(batch_id, State.RUNNING, "batch.started")
    clock.pass_(1)
    return batch_id


def publish(ledger: Ledger, clock: HandClock) -> None:
    counts = {"rows_read": 2036, "rows_accepted": 2030, "rows_rejected": 6}
    batch_id = received(ledger, clock)
    ledger.move(batch_id, State.PUBLISHED, "batch.published", published_at=clock.moment, result=counts)


def as_file(mail: Message, zone: Zone) -> str:
    """Returns the headers that people see, and both parts, without the paths, ids and names of this run."""
    headers = "".join(
        f"{h}: {make_header(decode_header(mail[h]))}\n" for h in ("Subject", "To", "Importance") if mail[h]
    )
    text = f"{headers}\n{part(mail, 'text/plain')}\n\n{part(mail, 'text/html')}"
    text = text.replace(str(zone.root), "/srv/shop").replace(f"[lakegate {socket.gethostname()}]", "[lakegate shop-1]")
    return re.sub(r"\b(20260302T1\d{5}-)?[0-9a-f]{6}\b(?!;)", "ID", text.replace("\r\n", "\n"))


def test_the_mails_about_a_rejected_batch_and_its_correction_say_all_word_by_word(tmp_path: Path) -> None:
    inbox, port, by_hand = Inbox(), free_port(), HandClock()
    zone = Zone(tmp_path, alerts={"urls": [mail_address(port)], "page_url": "http://shop-1:8765"})
    ledger = Ledger.open(zone.config.ledger_path, by_hand.clock, lambda event, _: desk.change(event))
    log = Log(zone.config.log.path, stderr=False)
    desk = AlertDesk(zone.config, ledger=ledger, log=log, clock=by_hand.clock, wake=lambda: None)
    with mail_server(inbox, port):
        batch_id = received(ledger, by_hand)
        reason = "orders: 1,404 of 2,036 rows are rejected, which is more than [quality] max_rejected_share = 0.1"
        ledger.move(batch_id, State.REJECTED, "batch.rejected", reason, result={"findings": FINDINGS})
        desk.finish(10)
        by_hand.pass_(3600)
        publish(ledger, by_hand)
        desk.finish(10)
    ledger.close()
    for mail, name in zip(inbox.mails, ("rejected", "resolved"), strict=True):
        assert as_file(mail, zone) == (MAILS / f"{name}.txt").read_text()


def hostile_batch(zone: Zone) -> tuple[Batch, Ledger]:
    by_hand = HandClock()
    ledger = Ledger.open(zone.config.ledger_path, by_hand.clock)
    batch_id = received(ledger, by_hand, HOSTILE)
    finding = {**FINDINGS[0], "rule": HOSTILE, "description": HOSTILE, "examples": [HOSTILE, "=1+1", "x" * 9000]}
    ledger.move(batch_id, State.REJECTED, "batch.rejected", f"{HOSTILE} is bad", result={"findings": [finding]})
    return ledger.batch(batch_id), ledger


@pytest.mark.long
def test_names_and_rows_of_strangers_stay_text(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    batch, ledger = hostile_batch(zone)
    alert = batch_alert(batch, ledger, zone.config)
    ledger.close()
    assert from_json(to_json(alert)) == alert
    for text in (render.subject(alert), render.text(alert), render.html(alert)):
        assert "\x1b" not in text
        assert "\r" not in text
        assert "\u202e" not in text
    assert "\n" not in render.subject(alert)
    assert len(render.text(alert)) < 5000
    page = tmp_path / "mail.html"
    page.write_text(render.html(alert))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        tab = browser.new_page()
        requests: list[str] = []
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("dialog", lambda dialog: requests.append(dialog.message))
        tab.goto(page.as_uri())
        assert requests == [page.as_uri()]
        assert tab.locator("script, img, iframe, form, link").count() == 0
        assert (
            tab.inner_text("body").count("<script>fetch('http://evil.example')</script><img src=x onerror=alert(1)>")
            >= 3
        )
        browser.close()


def test_rows_stay_on_this_machine_where_the_configuration_says_so(tmp_path: Path) -> None:
    zone = Zone(tmp_path, alerts={"example_rows": False})
    by_hand = HandClock()
    ledger = Ledger.open(zone.config.ledger_path, by_hand.clock)
    batch_id = received(ledger, by_hand)
    ledger.move(batch_id, State.REJECTED, "batch.rejected", "why", result={"findings": FINDINGS})
    text = render.text(batch_alert(ledger.batch(batch_id), ledger, zone.config))
    ledger.close()
    assert "1,404 of 2,036 rows break orders.amount_is_positive" in text
    assert "O1,C7" not in text


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("a column is missing.", "a column is missing"),
        (f"{'a' * 60}; {'b' * 40}; {'c' * 40}", f"{'a' * 60}; {'b' * 40}"),
        ("x" * 200, "x" * 109 + "…"),
    ],
)
def test_a_title_has_whole_clauses_of_the_cause(reason: str, shown: str) -> None:
    assert short_cause(reason) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(34.2, "34 s"), (720, "12 min"), (11100, "3 h 5 min"), (7190, "1 h 59 min"), (200_000, "2 days")],
)
def test_a_period_is_short(seconds: float, shown: str) -> None:
    assert period(seconds) == shown


def test_a_title_ends_in_no_bracket_and_names_its_trigger_once(tmp_path: Path) -> None:
    near = "column order_amount is missing (10 expected, 10 found; the nearest is order_amuont, see the header)"
    assert short_cause(f"orders_2026_03_04.csv: {near}; correct it").endswith("…")
    assert short_cause(f"o.csv: {near}; correct the header of this file") == f"o.csv: {near}"
    zone = Zone(tmp_path)
    ledger = Ledger.open(zone.config.ledger_path)
    batch = ledger.refuse(ledger.new_id(), trigger="a.done", files=[], reason="a.done: no data file")
    assert batch_alert(batch, ledger, zone.config).title == "REJECTED a.done: no data file"
    ledger.close()


def test_commands_in_html_are_code_and_their_text_stays_text() -> None:
    alert = Alert(severity=Severity.INFO, title="t", summary="`<b>` & more", facts=(("Next", "then `lakegate check`"),))
    page = render.html(alert)
    assert "<code>&lt;b&gt;</code> &amp; more" in page
    assert "then <code>lakegate check</code>" in page
    assert "`lakegate check`" in render.text(alert)

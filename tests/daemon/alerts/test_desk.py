"""Each cause sends one alert, and one more when it is over."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories_alerts import desk_of, reject, settle, subject, zone_of
from factories_daemon import HandClock, Zone, hidden
from factories_services import Inbox, free_port, mail_address, mail_server, part, web_hook

from daemon.batch import State
from daemon.clock import Clock
from daemon.ledger.ledger import Ledger
from daemon.observe.troubles import CALM_SECONDS

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise loads it

HOST = socket.gethostname()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def port(inbox: Inbox) -> Iterator[int]:
    port = free_port()
    with mail_server(inbox, port):
        yield port


# ---- one cause, one alert, one more when it is over


def test_a_rejected_batch_sends_a_mail_with_the_story(tmp_path: Path, inbox: Inbox, port: int) -> None:
    zone = zone_of(tmp_path, mail_address(port), page_url="http://shop-1:8765/")
    zone.deliver("1", "reject orders_1.csv has 9 of 10 columns; order_amount is missing\n")
    assert zone.once() == 1
    [mail] = inbox.mails
    cause = "orders_1.csv has 9 of 10 columns; order_amount is missing"
    assert subject(mail) == f"[lakegate {HOST}] REJECTED retail 2026-03-02: {cause}"
    assert mail["Importance"] == "high"
    assert mail["Auto-Submitted"] == "auto-generated"
    batch_id = zone.batch("1").batch_id
    for kind in ("text/plain", "text/html"):
        body = part(mail, kind)
        assert "no table changed; gold is empty" in body
        assert "correct what the cause names, deliver the file" in body
        assert f"{tmp_path}/rejected/{batch_id}/" in body
        assert "1 of 3 rows break orders.amount (HIGH REJECT)" in body
        assert "O1,-5" in body
        assert f"lakegate batches {batch_id[-6:]}" in body
        assert f"http://shop-1:8765/batch/{batch_id}" in body
    [sent] = zone.log("alert.sent")
    assert sent["address"] == "address 1 (mailto) to ops@example.com"


def test_the_mail_that_it_is_over_is_in_the_same_thread(tmp_path: Path, inbox: Inbox, port: int) -> None:
    zone = zone_of(tmp_path, mail_address(port))
    zone.deliver("1", "reject a column is missing\n")
    assert zone.once() == 1
    zone.deliver("other", "ok\n", date="2026-03-03")  # another date resolves nothing
    assert zone.once() == 0
    assert len(inbox.mails) == 1
    zone.deliver("2", "ok 2\n")
    assert zone.once() == 0
    assert zone.once() == 0
    first, over = inbox.mails
    published = zone.batch("2").batch_id[-6:]
    assert subject(over) == f"[lakegate {HOST}] RESOLVED retail 2026-03-02: published by batch {published}"
    assert over["References"] == over["In-Reply-To"] == first["References"]
    assert over["Message-ID"] != first["Message-ID"]
    assert over["Importance"] is None
    assert "a column is missing" in part(over, "text/plain")


def test_a_failed_batch_sends_one_mail_for_all_attempts_and_one_when_it_is_published(
    tmp_path: Path, inbox: Inbox, port: int
) -> None:
    zone = zone_of(tmp_path, mail_address(port))
    zone.deliver("1", "fail 3 no room on the disk\n")
    assert zone.once() == 1
    assert [subject(m) for m in inbox.mails] == [f"[lakegate {HOST}] FAILED retail 2026-03-02: no room on the disk"]
    ledger = Ledger.open(zone.config.ledger_path)
    batch_id = zone.batch("1").batch_id
    ledger.retry(batch_id)
    ledger.close()
    assert zone.once() == 1  # it fails again, after a person acted: that is news
    assert len(inbox.mails) == 2
    assert "lakegate retry" in part(inbox.mails[0], "text/plain")
    with desk_of(zone, Clock()) as (desk, ledger):
        ledger.retry(batch_id)
        ledger.move(batch_id, State.RUNNING, "batch.started")
        desk.finish(10)
        assert len(inbox.mails) == 2
        ledger.move(batch_id, State.PUBLISHED, "batch.published", published_at=ledger.batch(batch_id).received_at)
        desk.finish(10)
    over = inbox.mails[2]
    assert subject(over) == f"[lakegate {HOST}] RESOLVED retail 2026-03-02: published by batch {batch_id[-6:]}"
    assert over["In-Reply-To"] == inbox.mails[0]["References"] == inbox.mails[1]["References"]


def test_a_dismissed_batch_sends_no_mail_that_it_is_over(tmp_path: Path, inbox: Inbox, port: int) -> None:
    zone = zone_of(tmp_path, mail_address(port))
    zone.deliver("1", "reject why\n")
    assert zone.once() == 1
    ledger = Ledger.open(zone.config.ledger_path)
    ledger.dismiss(zone.batch("1").batch_id)
    ledger.close()
    zone.deliver("2", "ok 2\n")
    assert zone.once() == 0
    assert len(inbox.mails) == 1


def test_a_worker_that_cannot_start_sends_one_mail_and_one_when_it_starts(
    tmp_path: Path, inbox: Inbox, port: int
) -> None:
    zone = zone_of(tmp_path, mail_address(port))
    zone.lake.mkdir()
    (zone.lake / "refuse").write_text("retryable")
    zone.deliver("1")
    assert zone.once() == 1
    assert zone.once() == 1
    [mail] = inbox.mails
    assert "TROUBLE the worker cannot start: there is no Java here" in subject(mail)
    assert "batches wait as READY and lose no attempt" in part(mail, "text/plain")
    (zone.lake / "refuse").unlink()
    assert zone.once() == 0
    over = inbox.mails[1]
    assert "RESOLVED the worker cannot start" in subject(over)
    assert over["In-Reply-To"] == mail["References"]
    assert len(inbox.mails) == 2


def test_a_folder_that_is_back_at_once_sends_no_mail_and_one_that_stays_away_sends_one(tmp_path: Path) -> None:
    by_hand = HandClock()
    with web_hook() as (hook, received):
        zone = Zone(tmp_path, alerts={"urls": [hook]}, dispatch={"timeout_seconds": 1000})
        with zone.by_hand(by_hand.clock) as daemon:
            for seconds, titles in ((5, []), (31, ["TROUBLE", "RESOLVED"])):
                aside = hidden(zone.landing)
                daemon._tick_safely()  # noqa: SLF001
                by_hand.pass_(seconds)
                daemon._tick_safely()  # noqa: SLF001
                settle(daemon.components.alerts)
                aside.rename(zone.landing)
                by_hand.pass_(CALM_SECONDS)
                daemon._tick_safely()  # noqa: SLF001
                settle(daemon.components.alerts)
                assert [r["title"].split()[2] for r in received] == titles


def test_an_external_commit_is_part_of_the_alert_about_its_batch(tmp_path: Path) -> None:
    with web_hook() as (hook, received), desk_of(zone_of(tmp_path, hook), Clock()) as (desk, ledger):
        batch = ledger.receive(ledger.new_id(), trigger="1", files=[], source="retail")
        ledger.move(batch.batch_id, State.READY, "batch.ready")
        ledger.move(batch.batch_id, State.FAILED, "batch.failed", "retail.gold.x has a commit")
        about = {"source": "retail", "batch_id": batch.batch_id}
        trouble = ledger.open_trouble("external_commit", "retail.gold.x", "retail.gold.x has a commit", **about)
        desk.trouble("trouble.opened", trouble)
        settle(desk)
        assert [r["title"].split()[2] for r in received] == ["FAILED"]


def test_a_changed_file_is_a_warning_of_its_own(tmp_path: Path) -> None:
    with web_hook() as (hook, received), desk_of(zone_of(tmp_path, hook), Clock()) as (desk, ledger):
        batch = ledger.receive(ledger.new_id(), trigger="1", files=[], source="retail")
        for _ in range(2):
            desk.changed_file(batch, "orders_1.csv: changed after it was claimed")
        desk.finish(10)
    [warning] = received
    assert warning["type"] == "warning"
    assert warning["title"] == f"[lakegate {HOST}] CHANGED retail: a claimed file was changed"
    assert "orders_1.csv: changed after it was claimed" in warning["message"]


def test_a_result_that_no_alert_can_show_stops_no_other_alert_and_is_logged_once(tmp_path: Path) -> None:
    with web_hook() as (hook, received), desk_of(zone_of(tmp_path, hook), Clock()) as (desk, ledger):
        batch_id = reject(ledger, 1)
        ledger.update(batch_id, result={"findings": [{"broken": 1}]})
        reject(ledger, 2, "another cause")
        ledger.open_trouble("worker", "worker", "no Java")
        desk.finish(10)
        assert [r["title"].split()[2] for r in received] == ["REJECTED", "TROUBLE"]
        zone_log = (tmp_path / "logs" / "lakegate.jsonl").read_text()
        assert zone_log.count("an alert could not be written: KeyError") == 1


@pytest.mark.parametrize("secret", ["summary", "failure", "a", '"'])
def test_a_secret_that_is_a_word_of_the_record_is_hidden_and_stops_no_alert(tmp_path: Path, secret: str) -> None:
    with web_hook() as (hook, received), desk_of(zone_of(tmp_path, hook), Clock(), [secret]) as (desk, ledger):
        reject(ledger, 1, f"the password {secret} is wrong")
        desk.finish(10)
        [alert] = received
        assert "***" in alert["title"]
        assert f" {secret} " not in alert["message"]
        assert desk._records.unsent() == []  # noqa: SLF001


def test_a_record_that_cannot_be_read_stops_no_start(tmp_path: Path) -> None:
    zone = zone_of(tmp_path, "json://127.0.0.1:1/")
    with desk_of(zone, Clock()) as (_, ledger):
        about = {"subject": "", "source": "", "now": "2026-03-02T10:00:00.000Z"}
        ledger.alert_records().add("old", content="no JSON", **about)
    with desk_of(zone, Clock()) as (desk, _):
        assert desk.step() == []
    assert "an alert could not be written: JSONDecodeError" in zone.config.log.path.read_text()


def test_a_daemon_that_cannot_start_until_a_person_acts_sends_a_mail(tmp_path: Path, inbox: Inbox, port: int) -> None:
    zone = zone_of(tmp_path, mail_address(port))
    zone.lake.mkdir()
    (zone.lake / "_version").write_text("99")
    assert zone.once() == 78
    [mail] = inbox.mails
    assert subject(mail).startswith(f"[lakegate {HOST}] STOPPED the daemon cannot start: ")
    assert "was written by a newer Lakegate" in part(mail, "text/plain")
    assert "no delivery is taken" in part(mail, "text/html")
    assert len(zone.log("alert.sent")) == 1

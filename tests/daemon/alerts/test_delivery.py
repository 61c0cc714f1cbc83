"""Alerts reach real services: routes, storms, services that fail and come back, restarts and kills."""

import signal
import socket
import sqlite3
import time
from pathlib import Path

import pytest
from factories_alerts import PATIENT, desk_of, reject, settle, subject, troubles, zone_of
from factories_daemon import HandClock, Zone, end, wait_until
from factories_services import Inbox, free_port, mail_address, mail_server, web_hook

from daemon.alerts.courier import BURST, REFILL_SECONDS
from daemon.batch import State
from daemon.clock import Clock
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import Trouble

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise loads it

HOST = socket.gethostname()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


# ---- services, routes, storms


def test_a_web_hook_gets_severity_and_plain_text(tmp_path: Path) -> None:
    with web_hook() as (hook, received):
        zone = zone_of(tmp_path, hook)
        zone.deliver("1", "reject a column is missing\n")
        assert zone.once() == 1
        zone.deliver("2", "ok 2\n")
        assert zone.once() == 0
    failure, success = received
    assert (failure["type"], success["type"]) == ("failure", "success")
    assert failure["title"] == f"[lakegate {HOST}] REJECTED retail 2026-03-02: a column is missing"
    assert "\nEffect    no table changed; gold is empty\nNext      correct" in failure["message"]
    assert "\n    O1,-5\n" in failure["message"]
    assert "<" not in failure["message"]


def test_alerts_of_a_source_go_to_its_own_addresses_as_well(tmp_path: Path) -> None:
    with web_hook() as (every, at_every), web_hook() as (retail, at_retail), web_hook() as (crm, at_crm):
        routes = {"alerts.routes": {"retail": [retail], "crm": [crm, every]}}
        zone = Zone(tmp_path, alerts={"urls": [every]}, dispatch=PATIENT, **routes)
        with desk_of(zone, Clock()) as (desk, ledger):
            for source in ("retail", "crm"):
                batch = ledger.receive(ledger.new_id(), trigger=source, files=[], source=source)
                ledger.move(batch.batch_id, State.REJECTED, "batch.rejected", "why")
            desk.trouble("trouble.opened", ledger.open_trouble("worker", "worker", "no Java"))
            desk.finish(10)
    words = [[r["title"].split()[3] for r in received] for received in (at_every, at_retail, at_crm)]
    assert words[1:] == [["retail:"], ["crm:"]]
    assert words[0] in (["retail:", "crm:", "the"], ["retail:", "1"])  # one by one, or the last ones together


def test_routes_alone_receive_the_alerts_of_the_daemon(tmp_path: Path) -> None:
    with web_hook() as (retail, received):
        zone = Zone(tmp_path, dispatch=PATIENT, **{"alerts.routes": {"retail": [retail]}})
        with desk_of(zone, Clock()) as (desk, ledger):
            desk.trouble("trouble.opened", ledger.open_trouble("worker", "worker", "no Java"))
            desk.finish(10)
    assert len(received) == 1


def test_a_storm_becomes_few_messages_that_name_every_batch(tmp_path: Path) -> None:
    by_hand = HandClock()
    with web_hook() as (hook, received), desk_of(zone_of(tmp_path, hook), by_hand.clock) as (desk, ledger):
        for number in range(30):
            reject(ledger, number, f"reason {number}")
            by_hand.pass_(2)
            settle(desk)
        assert len(received) == BURST
        by_hand.pass_(REFILL_SECONDS)
        settle(desk)
        assert len(received) == BURST + 1
        assert received[-1]["title"] == f"[lakegate {HOST}] 26 alerts: 26 REJECTED"
        assert received[-1]["type"] == "failure"
        assert "REJECTED 29.done: reason 29" in received[-1]["message"]
        assert "Left out  the first 6" in received[-1]["message"]
        reject(ledger, 30)
        settle(desk)
        assert len(received) == BURST + 1
        by_hand.pass_((BURST + 1) * REFILL_SECONDS)
        settle(desk)
        assert len(received) == BURST + 2
        assert "REJECTED 30.done" in received[-1]["title"]


@pytest.mark.long
def test_thirty_batches_that_are_rejected_at_once_send_few_messages(tmp_path: Path) -> None:
    with web_hook() as (hook, received):
        zone = zone_of(tmp_path, hook)
        for number in range(30):
            zone.deliver(f"{number:02}", f"reject reason {number}\n")
        assert zone.once() == 1
    assert len(received) <= BURST + 1
    alerts = sum(int(r["title"].split()[2]) if "alerts:" in r["title"] else 1 for r in received)
    assert (alerts, zone.states()) == (30, {"REJECTED": 30})


# ---- failures and restarts


@pytest.mark.long
def test_a_daemon_that_is_killed_while_no_service_answers_loses_no_alert(tmp_path: Path, inbox: Inbox) -> None:
    port = free_port()
    zone = zone_of(tmp_path, mail_address(port))
    for number in range(2):
        zone.deliver(str(number), f"reject reason {number}\n")
        daemon = zone.start()
        wait_until(lambda: zone.config.log.path.exists() and zone.log("alert.failed"))
        end(daemon, signal.SIGKILL)
    with mail_server(inbox, port):
        daemon = zone.start()
        wait_until(lambda: len(inbox.mails) == 2)
        zone.deliver("2", "ok\n")
        wait_until(lambda: len(inbox.mails) == 4)
        assert end(daemon) == 0
    assert [subject(m).split()[2] for m in inbox.mails] == ["REJECTED", "REJECTED", "RESOLVED", "RESOLVED"]
    assert troubles(zone) == []


def test_an_alert_that_was_not_taken_is_sent_by_the_next_start_and_only_once(tmp_path: Path, inbox: Inbox) -> None:
    port = free_port()
    zone = zone_of(tmp_path, mail_address(port))
    zone.deliver("1", "reject why\n")
    assert zone.once() == 1
    failed = zone.log("alert.failed")
    assert "Connection refused" in failed[0]["reason"]
    assert failed[-1]["reason"] == "the daemon ended before the service had taken it; the next start sends it"
    [trouble] = troubles(zone)
    assert (trouble.kind, trouble.subject) == ("alerts", "address 1 (mailto) to ops@example.com")
    with mail_server(inbox, port):
        assert zone.once() == 0
        assert zone.once() == 0
    assert ["REJECTED" in subject(m) for m in inbox.mails] == [True]
    assert troubles(zone) == []


def test_a_service_that_comes_back_gets_what_waited(tmp_path: Path, inbox: Inbox) -> None:
    port = free_port()
    by_hand = HandClock()
    zone = zone_of(tmp_path, mail_address(port))
    with desk_of(zone, by_hand.clock) as (desk, ledger):
        for number in range(3):
            reject(ledger, number)
        settle(desk)
        by_hand.pass_(1)
        settle(desk)
        assert [e["title"] for e in zone.log("alert.failed")] == ["REJECTED 0.done: a column is missing"] * 2
        with mail_server(inbox, port):
            by_hand.pass_(1)
            settle(desk)
    assert [subject(m).split()[3] for m in inbox.mails] == ["0.done:", "1.done:", "2.done:"]


def test_a_kill_after_the_decision_loses_no_alert(tmp_path: Path) -> None:
    with web_hook() as (hook, received):
        zone = zone_of(tmp_path, hook)
        ledger = Ledger.open(zone.config.ledger_path)  # as if the daemon had ended before it looked for alerts
        reject(ledger, 1)
        ledger.close()
        for _ in range(2):
            with desk_of(zone, Clock()) as (desk, _):
                desk.finish(10)
    assert len(received) == 1


def test_an_address_that_took_an_alert_does_not_get_it_again_for_the_sake_of_another(tmp_path: Path) -> None:
    port = free_port()
    with web_hook() as (hook, received):
        zone = zone_of(tmp_path, mail_address(port), hook)
        zone.deliver("1", "reject why\n")
        assert [zone.once(), zone.once(), len(received)] == [1, 0, 1]


def test_a_trouble_that_the_ledger_cannot_record_sends_its_alerts(tmp_path: Path) -> None:
    by_hand = HandClock()
    with web_hook() as (hook, received), desk_of(zone_of(tmp_path, hook), by_hand.clock) as (desk, _):
        full = Trouble(
            number=0,
            kind="environment",
            subject="disk",
            source="",
            batch_id="",
            reason="OSError: no space left on device",
            cure="see to room",
            since=by_hand.clock.text(),
            last_at=by_hand.clock.text(),
            tries=1,
            ended_at=None,
        )
        desk.trouble("trouble.opened", full)
        settle(desk)
        assert received == []
        by_hand.pass_(desk.next_due_in())
        settle(desk)
        settle(desk)
        assert [r["title"].split()[2] for r in received] == ["TROUBLE"]
        desk.trouble("trouble.ended", full)
        settle(desk)
        assert [r["title"].split()[2] for r in received] == ["TROUBLE", "RESOLVED"]


def test_a_ledger_that_cannot_be_written_delays_no_alert_and_repeats_none(tmp_path: Path) -> None:
    with web_hook() as (hook, received), desk_of(zone_of(tmp_path, hook), Clock()) as (desk, ledger):
        reject(ledger, 1)
        connection: sqlite3.Connection = ledger._db  # noqa: SLF001
        connection.execute("PRAGMA query_only = ON")  # as on a full disk, every write is an error
        settle(desk)
        connection.execute("PRAGMA query_only = OFF")
        for _ in range(2):
            desk.change("batch.rejected")
            settle(desk)
        assert len(received) == 1


def test_a_service_that_never_answers_delays_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it accepts and never sends a word
        zone = zone_of(tmp_path, mail_address(mute.getsockname()[1]))
        with desk_of(zone, Clock()) as (desk, ledger):
            reject(ledger, 1)
            began = time.monotonic()
            desk.step()
            assert time.monotonic() - began < 0.5
            desk.finish(0.1)
            assert [(e["title"], e["reason"]) for e in zone.log("alert.failed")] == [
                (
                    "REJECTED 1.done: a column is missing",
                    "the daemon ended before the service had taken it; the next start sends it",
                )
            ]


def test_an_address_that_is_removed_ends_its_trouble_and_its_alerts(tmp_path: Path) -> None:
    zone = zone_of(tmp_path, "nonsense://x")
    zone.deliver("1", "reject why\n")
    assert zone.once() == 1
    assert [t.subject for t in troubles(zone)] == ["address 1 (nonsense)"]
    assert zone.log("alert.failed")[0]["reason"].startswith("apprise does not understand this address")
    with web_hook() as (hook, received):
        zone = zone_of(tmp_path, hook)
        assert zone.once() == 0
    assert len(received) == 1
    assert troubles(zone) == []


def test_without_addresses_nothing_is_loaded_or_recorded(tmp_path: Path) -> None:
    zone = zone_of(tmp_path)
    with desk_of(zone, Clock()) as (desk, ledger):
        reject(ledger, 1)
        assert desk.finish(1) == []
        assert ledger.alert_records().unsent() == []
        assert desk.next_due_in() == float("inf")

"""Troubles open once and end once, in the log and in the ledger, also while the ledger cannot be written."""

import datetime as dt
import sqlite3
from pathlib import Path

import pytest
from factories_daemon import HandClock, Zone, wait_until

from daemon.batch import State
from daemon.clock import Clock, as_text
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import TroubleKind
from daemon.observe.troubles import Troubles
from pipeline.contract import Progress

Reports = list[tuple[str, str, int]]


@pytest.fixture
def hand() -> HandClock:
    return HandClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path, hand: HandClock) -> Ledger:
    return Ledger.open(path, hand.clock, wait_seconds=0.01)


@pytest.fixture
def reports() -> Reports:
    return []


@pytest.fixture
def troubles(ledger: Ledger, hand: HandClock, reports: Reports) -> Troubles:
    return Troubles(ledger, hand.clock, lambda event, t: reports.append((event, t.reason, t.tries)))


def test_a_trouble_is_reported_when_it_opens_and_when_it_ends(troubles: Troubles, reports: Reports) -> None:
    for _ in range(3):
        troubles.open(TroubleKind.WORKER, "worker", "no Java")
        troubles.end_tick()
    troubles.end(TroubleKind.WORKER, "worker")
    troubles.end(TroubleKind.WORKER, "worker")
    assert reports == [("trouble.opened", "no Java", 1), ("trouble.ended", "no Java", 3)]


def test_a_failure_of_the_environment_lasts_while_each_tick_meets_it(
    troubles: Troubles, ledger: Ledger, hand: HandClock, reports: Reports
) -> None:
    for _ in range(100):
        troubles.environment_failed("the disk\nis full")
        troubles.end_tick()
        hand.pass_(1)
    [trouble] = ledger.troubles()
    assert (trouble.reason, trouble.tries) == ("the disk is full", 2)  # one record a minute
    troubles.end_tick()
    assert ledger.troubles() == [trouble]
    hand.pass_(troubles.next_due_in())
    troubles.end_tick()
    assert ledger.troubles() == []
    assert troubles.next_due_in() == float("inf")
    assert [event for event, _, _ in reports] == ["trouble.opened", "trouble.ended"]


def test_failures_that_alternate_are_open_until_both_are_over(
    troubles: Troubles, ledger: Ledger, hand: HandClock, reports: Reports
) -> None:
    for n in range(45):
        troubles.environment_failed("full /a" if n % 2 else "full /b")
        troubles.end_tick()
        hand.pass_(2)
    since = hand.moment - dt.timedelta(seconds=90)
    assert [(t.reason, t.since) for t in ledger.troubles()] == [
        ("full /b", as_text(since)),
        ("full /a", as_text(since + dt.timedelta(seconds=2))),
    ]
    assert ledger.troubles(ended=True) == []
    assert len(reports) == 2
    troubles.end_tick()
    troubles.finish()  # the daemon ends: the last tick met neither
    assert ledger.troubles() == []


def test_ended_troubles_are_removed_after_some_weeks(ledger: Ledger, hand: HandClock) -> None:
    for subject, days in (("old", 30), ("recent", 30), ("new", 0)):
        ledger.open_trouble("serve", subject, "disk full")
        ledger.end_trouble("serve", subject)
        hand.pass_(days * 86400)
    assert [t.subject for t in ledger.troubles(ended=True)] == ["new", "recent"]


def test_while_the_ledger_cannot_be_written_troubles_are_reported_once_and_recorded_later(
    troubles: Troubles, ledger: Ledger, path: Path, reports: Reports
) -> None:
    troubles.open(TroubleKind.SERVE, "crm", "disk full")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        troubles.open(TroubleKind.WORKER, "worker", "no Java")
        troubles.open(TroubleKind.ALERTS, "mail", "no answer")
        troubles.end(TroubleKind.SERVE, "crm")
        troubles.end_tick()
    troubles.end(TroubleKind.ALERTS, "mail")
    assert [t.kind for t in ledger.troubles()] == ["serve"]
    other.execute("ROLLBACK")
    other.close()
    troubles.end_tick()
    assert [(t.kind, t.reason) for t in ledger.troubles()] == [("worker", "no Java")]
    assert reports == [
        ("trouble.opened", "disk full", 1),
        ("trouble.opened", "no Java", 1),
        ("trouble.opened", "no answer", 1),
        ("trouble.ended", "disk full", 1),
        ("trouble.ended", "no answer", 2),
    ]


def test_a_new_daemon_goes_on_with_the_troubles_of_the_last_one(
    troubles: Troubles, ledger: Ledger, hand: HandClock, reports: Reports
) -> None:
    troubles.open(TroubleKind.WORKER, "worker", "no Java")
    troubles.environment_failed("the disk is full")
    after = Troubles(ledger, hand.clock, lambda event, t: reports.append((event, t.reason, t.tries)))
    after.open(TroubleKind.WORKER, "worker", "no Java")
    after.end_tick()
    assert [(t.kind, t.tries) for t in ledger.troubles()] == [("worker", 2)]
    assert reports[2:] == [("trouble.ended", "the disk is full", 1)]


def test_a_trouble_that_a_command_ended_is_reported_by_the_daemon(
    troubles: Troubles, path: Path, reports: Reports
) -> None:
    troubles.open(TroubleKind.EXTERNAL_COMMIT, "retail.gold.daily_sales", "a commit", source="retail", batch_id="b1")
    command = Ledger.open(path)
    command.end_trouble("external_commit", "retail.gold.daily_sales")
    command.close()
    troubles.end_tick()
    assert reports[1:] == [("trouble.ended", "a commit", 1)]


# ---- the daemon


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path / "site")


def troubles_of(zone: Zone, *, ended: bool = False) -> list[tuple[str, str, str]]:
    ledger = Ledger.reading(zone.config.ledger_path)
    found = [(t.kind, t.subject, t.batch_id) for t in ledger.troubles(ended=ended)]
    ledger.close()
    return found


def test_a_worker_that_dies_over_a_batch_is_one_trouble_until_the_batch_is_decided(zone: Zone) -> None:
    zone.deliver("1", "die\n")
    assert zone.once() == 1
    assert zone.states() == {"REJECTED": 1}
    assert len(zone.log("worker.died")) == 2
    assert [e["kind"] for e in zone.log("trouble.opened")] == ["worker_died"]
    assert troubles_of(zone) == []


def test_a_published_batch_ends_the_trouble_of_a_dead_worker(zone: Zone) -> None:
    zone.deliver("1", "die-once\n")
    assert zone.once() == 0
    assert (troubles_of(zone), troubles_of(zone, ended=True)) == ([], [("worker_died", "worker", "")])


def test_a_commit_of_another_program_is_a_trouble_until_its_source_publishes(zone: Zone) -> None:
    zone.deliver("1", "external retail.gold.daily_sales\n", date="2026-03-01")
    assert zone.once() == 1
    [batch] = zone.batches()
    assert batch.state == State.FAILED
    assert troubles_of(zone) == [("external_commit", "retail.gold.daily_sales", batch.batch_id)]
    [opened] = zone.log("trouble.opened")
    assert opened["cure"] == (
        "`lakegate adopt retail.gold.daily_sales` publishes it, `lakegate restore retail.gold.daily_sales` undoes it"
    )
    zone.deliver("2")
    assert zone.once() == 0
    assert troubles_of(zone) == []


def test_a_folder_for_readers_that_is_not_served_is_a_trouble_and_no_failure(zone: Zone) -> None:
    zone.deliver("1", "serve-failed no room\n", date="2026-03-01")
    assert zone.once() == 0
    [batch] = zone.batches()
    assert (batch.state, troubles_of(zone)) == (State.ARCHIVED, [("serve", "retail", batch.batch_id)])
    zone.deliver("2", "serve-finished\n")
    assert zone.once() == 0
    assert troubles_of(zone) == []


@pytest.mark.parametrize("fault", ["serve-die", "serve-hang"])
@pytest.mark.long
def test_a_worker_that_dies_or_hangs_while_it_serves_readers_costs_no_batch(tmp_path: Path, fault: str) -> None:
    zone = Zone(tmp_path, dispatch={"timeout_seconds": 1.5, "poison_after": 1, "stop_seconds": 2})
    zone.deliver("1", f"{fault}\n", date="2026-03-01")
    zone.deliver("2", "ok\n", date="2026-03-02")
    assert zone.once() == 0
    assert [(b.state, b.attempts, b.worker_crashes) for b in zone.batches()] == [(State.ARCHIVED, 1, 0)] * 2
    assert ("serve", "retail", zone.batch("1").batch_id) in troubles_of(zone)


def test_a_batch_that_the_ledger_does_not_know_has_its_trouble_under_the_source(zone: Zone) -> None:
    zone.lake.mkdir()
    with zone.by_hand(Clock()) as daemon:
        handle = daemon.components.dispatch._handle_progress  # noqa: SLF001  a worker reports this at its start
        values = {"reason": "no room", "source": "retail"}
        handle(Progress(batch_id="lost", event="serve.failed", stage="serve", values=values))
        assert troubles_of(zone) == [("serve", "retail", "lost")]
        handle(Progress(batch_id="lost", event="serve.finished", stage="serve", values={"source": "retail"}))
        assert troubles_of(zone) == []


def test_alerts_that_no_service_takes_are_a_trouble(tmp_path: Path, hand: HandClock) -> None:
    urls = ["mailto://127.0.0.1:1?from=a@example.com&to=b@example.com"]
    zone = Zone(tmp_path, alerts={"urls": urls}, dispatch={"stop_seconds": 20})  # a busy machine loads apprise slowly
    zone.deliver("1", "reject no column\n")
    assert zone.once() == 1
    with zone.by_hand(hand.clock) as daemon:
        daemon.components.end_tick(hand.moment)
        assert troubles_of(zone) == [("alerts", "address 1 (mailto) to b@example.com", "")]


@pytest.mark.long
def test_the_ledger_shows_the_stage_and_the_task_of_the_running_batch(zone: Zone) -> None:
    zone.deliver("1", "busy\n")
    with zone.by_hand(Clock()) as daemon:
        reading = Ledger.reading(zone.config.ledger_path)
        wait_until(lambda: daemon.tick() or _task(reading) == "merge retail.silver.orders")
        activity = reading.activity()
        assert activity is not None
        assert (activity.stage, activity.rows, activity.attempt) == ("stage, merge", 1500, 1)
        assert len(activity.tasks) == 1
    assert reading.activity() is None
    reading.close()


def _task(ledger: Ledger) -> str:
    activity = ledger.activity()
    return activity.tasks[0].name if activity and activity.tasks else ""

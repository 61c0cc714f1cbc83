"""Troubles, the running batch, and the batches that need a person, in a real ledger."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from factories_daemon import HandClock

from daemon.attention import Need, needs
from daemon.batch import Batch, BatchFile, State
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import Activity, RunningTask


@pytest.fixture
def hand() -> HandClock:
    return HandClock()


@pytest.fixture
def ledger(tmp_path: Path, hand: HandClock) -> Ledger:
    return Ledger.open(tmp_path / "ledger.sqlite", hand.clock)


def batch_of(
    ledger: Ledger, state: State, feeds: str = "orders", date: str | None = "2026-03-02", **more: Any
) -> Batch:
    """Returns a batch with a file of each feed, moved to this state."""
    files = [BatchFile(number=n, kind="data", name=f"{f}_1.csv", feed=f) for n, f in enumerate(feeds.split())]
    batch_id = ledger.new_id()
    ledger.receive(batch_id, trigger="t.json", files=files, source="retail" if date else "", batch_date=date)
    if state == State.WAITING:
        ledger.update(batch_id, **more)
        return ledger.batch(batch_id)
    ledger.move(batch_id, State.READY, "batch.ready")
    ledger.move(batch_id, State.RUNNING, "batch.started", attempts=1)
    if state == State.ARCHIVED:
        ledger.move(batch_id, State.PUBLISHED, "batch.published", published_at="2026-03-02T10:00:00.000Z")
    return (
        ledger.move(batch_id, state, f"batch.{state.lower()}", **more)
        if state != State.RUNNING
        else ledger.batch(batch_id)
    )


def listed(ledger: Ledger, hand: HandClock) -> list[Need]:
    return needs(ledger, hand.moment, missing_file_timeout_seconds=60)


# ---- troubles


def test_a_trouble_counts_its_tries_and_ends_once(ledger: Ledger, hand: HandClock) -> None:
    ledger.open_trouble("worker", "start", "no Java", cure="install Java")
    hand.pass_(60)
    again = ledger.open_trouble("worker", "start", "no\nJava at all", cure="install Java 17")
    assert (again.tries, again.reason, again.cure) == (2, "no Java at all", "install Java 17")
    assert (again.since, again.last_at) == ("2026-03-02T10:00:00.000Z", "2026-03-02T10:01:00.000Z")
    assert ledger.troubles() == [again]
    ended = ledger.end_trouble("worker", "start")
    assert ended is not None
    assert (ended.ended_at, ended.tries) == ("2026-03-02T10:01:00.000Z", 2)
    assert ledger.end_trouble("worker", "start") is None
    assert (ledger.troubles(), ledger.troubles(ended=True)) == ([], [ended])


def test_the_same_trouble_can_open_again_and_of_each_subject_one_is_open(ledger: Ledger) -> None:
    for subject in ("a", "b", "a"):
        ledger.open_trouble("serve", subject, "disk full", source=subject)
    ledger.end_trouble("serve", "a")
    ledger.open_trouble("serve", "a", "disk full again", source="a", batch_id="b7")
    assert [(t.subject, t.tries, t.batch_id) for t in ledger.troubles()] == [("b", 1, ""), ("a", 1, "b7")]
    assert [(t.subject, t.tries) for t in ledger.troubles(ended=True)] == [("a", 2)]


# ---- the running batch


def test_the_activity_is_that_of_the_running_batch_alone(ledger: Ledger) -> None:
    batch = batch_of(ledger, State.RUNNING)
    now = "2026-03-02T10:00:00.000Z"
    activity = Activity(
        batch_id=batch.batch_id,
        attempt=1,
        since=now,
        last_at=now,
        stage="merge",
        stage_since=now,
        tasks=(RunningTask(name="merge retail.silver.orders", since=now),),
        rows=670_650,
    )
    ledger.set_activity(activity)
    assert ledger.activity() == activity
    ledger.move(batch.batch_id, State.READY, "batch.requeued", "the daemon ended")
    assert ledger.activity() is None  # also where the daemon died before it could clear the row
    ledger.set_activity(None)
    assert ledger._db.execute("SELECT count(*) FROM activity").fetchone()[0] == 0  # noqa: SLF001
    assert ledger._db.execute("PRAGMA synchronous").fetchone()[0] == 2  # noqa: SLF001


def test_the_usual_time_is_the_median_of_the_last_batches_of_the_source(ledger: Ledger, hand: HandClock) -> None:
    assert ledger.usual_seconds("retail") is None
    for seconds in (5, 40, 600):
        batch = batch_of(ledger, State.RUNNING)
        hand.pass_(seconds)
        ledger.move(batch.batch_id, State.PUBLISHED, "batch.published", published_at=hand.clock.text())
    assert (ledger.usual_seconds("retail"), ledger.usual_seconds("crm")) == (40.0, None)


# ---- needs


def test_needs_come_worst_first_each_with_its_command(ledger: Ledger, hand: HandClock) -> None:
    waiting = batch_of(ledger, State.WAITING, "orders shipping", waiting_for=("shipping_1.csv",))
    rejected = batch_of(ledger, State.REJECTED, reason="column order_amount is missing")
    failed = batch_of(ledger, State.FAILED, reason="disk full", date="2026-03-09")
    ledger.open_trouble("worker", "start", "no Java", cure="install Java")
    ledger.open_trouble("worker", "start", "no Java", cure="install Java")
    hand.pass_(20)
    found = listed(ledger, hand)
    assert [(n.kind, n.subject, n.batch_id, n.reason, n.command, n.until) for n in found] == [
        ("worker", "start", "", "no Java (2 times)", "lakegate check", None),
        ("FAILED", "2026-03-09", failed.batch_id, "disk full", f"lakegate batches {failed.batch_id[-6:]}", None),
        (
            "REJECTED",
            "2026-03-02",
            rejected.batch_id,
            "column order_amount is missing",
            f"lakegate batches {rejected.batch_id[-6:]}",
            None,
        ),
        (
            "WAITING",
            "2026-03-02",
            waiting.batch_id,
            "1 of 2 files came; waits for shipping_1.csv",
            f"lakegate batches {waiting.batch_id[-6:]}",
            "2026-03-02T10:01:00.000Z",
        ),
    ]
    assert [n.is_trouble for n in found] == [True, False, False, False]


def test_a_batch_whose_files_just_come_needs_no_person(ledger: Ledger, hand: HandClock) -> None:
    batch_of(ledger, State.WAITING, waiting_for=("orders_1.csv",))
    hand.pass_(9)
    assert listed(ledger, hand) == []


def test_the_wait_counts_from_the_start_of_the_daemon(ledger: Ledger, hand: HandClock) -> None:
    batch_of(ledger, State.WAITING, waiting_for=("orders_1.csv",))
    hand.pass_(50)
    [need] = needs(ledger, hand.moment, missing_file_timeout_seconds=60, daemon_since=hand.moment)
    assert need.until == "2026-03-02T10:01:50.000Z"


def test_a_foreign_commit_is_one_need_while_its_batch_has_failed(ledger: Ledger, hand: HandClock) -> None:
    failed = batch_of(ledger, State.FAILED, reason="retail.gold.daily_sales has a commit that no batch published")
    ledger.open_trouble("external_commit", "retail.gold.daily_sales", "a commit", batch_id=failed.batch_id)
    assert [n.kind for n in listed(ledger, hand)] == ["FAILED"]
    ledger.abandon(failed.batch_id)
    assert [n.kind for n in listed(ledger, hand)] == ["external_commit"]


def test_a_rejection_is_resolved_by_later_batches_that_publish_all_its_feeds(ledger: Ledger, hand: HandClock) -> None:
    batch_of(ledger, State.ARCHIVED, "orders shipping")
    rejected = batch_of(ledger, State.REJECTED, "orders shipping")
    batch_of(ledger, State.ARCHIVED, "orders shipping", date="2026-03-03")
    batch_of(ledger, State.ARCHIVED, "orders customers")
    assert [n.batch_id for n in listed(ledger, hand)] == [rejected.batch_id]
    batch_of(ledger, State.ARCHIVED, "shipping")
    assert listed(ledger, hand) == []


def test_a_rejection_without_a_date_stays_until_it_is_dismissed(ledger: Ledger, hand: HandClock) -> None:
    rejected = batch_of(ledger, State.REJECTED, "", date=None)
    batch_of(ledger, State.ARCHIVED)
    assert [n.batch_id for n in listed(ledger, hand)] == [rejected.batch_id]
    assert ledger.dismiss(rejected.batch_id).dismissed_at == "2026-03-02T10:00:00.000Z"
    assert listed(ledger, hand) == []
    assert [(h["event"], h["state"]) for h in ledger.history(rejected.batch_id)][-1] == ("batch.dismissed", "REJECTED")


def test_only_a_rejected_batch_can_be_dismissed(ledger: Ledger) -> None:
    failed = batch_of(ledger, State.FAILED)
    with pytest.raises(ValueError, match="is FAILED; only a REJECTED batch can be dismissed"):
        ledger.dismiss(failed.batch_id)


def test_a_batch_that_a_person_gave_up_needs_no_person(ledger: Ledger, hand: HandClock) -> None:
    ledger.abandon(batch_of(ledger, State.FAILED).batch_id)
    assert listed(ledger, hand) == []


def test_a_batch_that_was_given_up_before_the_upgrade_needs_no_person(tmp_path: Path, hand: HandClock) -> None:
    path = tmp_path / "old.sqlite"
    ledger = Ledger.open(path, hand.clock)
    batch = ledger.abandon(batch_of(ledger, State.FAILED).batch_id)
    ledger.close()
    with sqlite3.connect(path) as db:
        db.executescript("""
            DROP VIEW open_rejections; DROP INDEX history_time;
            DROP TABLE trouble; DROP TABLE alert; DROP TABLE activity; DROP TABLE daemon_figure;
            ALTER TABLE batch DROP COLUMN dismissed_at; PRAGMA user_version = 4;
        """)
    db.close()
    for ledger in (Ledger.reading(path), Ledger.open(path)):
        assert ledger.batch(batch.batch_id).dismissed_at == batch.received_at
        assert (ledger.open_rejections(), ledger.troubles(), ledger.activity()) == ([], [], None)

"""The orders that a worker gets, and the daemon's reaction to its answers, also where it does not answer."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from factories_daemon import CATALOGUE, HandClock, Zone, end, wait_until

from daemon.batch import State
from daemon.clock import Clock
from daemon.dispatch import worker
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import engine_of_worker
from daemon.observe.log import Log
from daemon.service import Service


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path)


def test_the_work_order_says_all_that_the_trigger_said(zone: Zone) -> None:
    zone.deliver("1_v2", rows={"orders_1_v2.csv": 3}, snapshot=["orders"])
    assert zone.once() == 0
    [order] = zone.orders()
    [batch] = zone.batches()
    assert {
        k: order[k]
        for k in ("batch_id", "source", "batch_date", "attempt", "final", "revision", "snapshot", "rows", "trigger")
    } == {
        "batch_id": batch.batch_id,
        "source": "retail",
        "batch_date": "2026-03-02",
        "attempt": 1,
        "final": False,
        "revision": 2,
        "snapshot": ["orders"],
        "rows": {"orders_1_v2.csv": 3},
        "trigger": "1_v2.json",
    }
    assert order["files"][0]["name"] == "orders_1_v2.csv"
    assert Path(order["files"][0]["path"]).parent == zone.config.landing.claim_path


def test_the_oldest_date_goes_first_and_one_at_a_time(zone: Zone) -> None:
    for name, date in (("c", "2026-03-03"), ("a", "2026-03-01"), ("b", "2026-03-02")):
        zone.deliver(name, f"ok {name}\n", date=date)
    assert zone.once() == 0
    assert [o["trigger"] for o in zone.orders()] == ["a.json", "b.json", "c.json"]


def test_a_batch_in_back_off_holds_back_younger_ones_of_its_source_alone(tmp_path: Path) -> None:
    zone = Zone(tmp_path, retry={"attempts": 3, "initial_seconds": 0.3, "max_seconds": 0.4})
    zone.deliver("old", "fail 1 busy\n", date="2026-03-01")
    zone.deliver("young", "ok\n", date="2026-03-02")
    zone.put("people_1.csv", "ok people\n")
    zone.land("other", "people_1.csv", date="2026-03-05")
    assert zone.once() == 0
    assert [(o["trigger"], o["attempt"]) for o in zone.orders()] == [
        ("old.json", 1),
        ("other.json", 1),
        ("old.json", 2),
        ("young.json", 1),
    ]


def test_a_failed_batch_holds_back_no_other(zone: Zone) -> None:
    zone.deliver("bad", "break a foreign commit\n", date="2026-03-01")
    zone.deliver("good", "ok\n", date="2026-03-02")
    assert zone.once() == 1
    assert (zone.batch("bad").state, zone.batch("bad").reason, zone.batch("bad").attempts) == (
        State.FAILED,
        "a foreign commit",
        1,
    )
    assert zone.batch("good").state == State.ARCHIVED


def test_retries_are_used_up_and_the_last_one_is_announced(zone: Zone) -> None:
    zone.deliver("1", "fail 9 busy\n")
    assert zone.once() == 1
    assert [(o["attempt"], o["final"]) for o in zone.orders()] == [(1, False), (2, False), (3, True)]
    assert (zone.states(), len(zone.log("batch.retry_scheduled"))) == ({"FAILED": 1}, 2)
    assert zone.files("landing") == [
        f".claim/{zone.batches()[0].batch_id}-0000{n}{s}" for n, s in ((0, ".json"), (1, ".csv"))
    ] + [f".claim/{zone.batches()[0].batch_id}.names"]


def test_a_failed_batch_that_is_retried_goes_through(zone: Zone) -> None:
    zone.deliver("1", "fail 3 busy\n")
    zone.once()
    ledger = Ledger.open(zone.config.ledger_path)
    ledger.retry("last")
    ledger.close()
    (zone.config.landing.claim_path / zone.batches()[0].files[0].claim_name).write_text("ok\n")
    assert zone.once() == 0
    assert zone.states() == {"ARCHIVED": 1}


def test_a_batch_that_kills_workers_is_set_aside_and_the_queue_goes_on(zone: Zone) -> None:
    zone.deliver("poison", "die\n", date="2026-03-01")
    zone.deliver("good", "ok\n", date="2026-03-02")
    assert zone.once() == 1
    poison = zone.batch("poison")
    assert (poison.state, poison.worker_crashes) == (State.REJECTED, 2)
    assert poison.reason.startswith("the worker died 2 times over this batch")
    assert zone.batch("good").state == State.ARCHIVED
    assert len(zone.log("worker.died")) == 2


def test_one_death_is_forgiven(zone: Zone) -> None:
    zone.deliver("1", "die-once\n")
    assert zone.once() == 0
    assert (zone.batches()[0].attempts, zone.batches()[0].worker_crashes) == (2, 1)


def test_a_worker_that_is_recycled_makes_room_for_the_next_without_an_alert(zone: Zone) -> None:
    zone.deliver("1", "retire\n", date="2026-03-01")
    zone.deliver("2", "ok\n", date="2026-03-02")
    assert zone.once() == 0
    assert [(b.state, b.attempts, b.worker_crashes) for b in zone.batches()] == [(State.ARCHIVED, 1, 0)] * 2
    started = [e["pid"] for e in zone.log("worker.started")]
    assert len(set(started)) == 2
    assert [e["pid"] for e in zone.log("worker.recycled")] == started[:1]
    assert zone.log("worker.died") == []


@pytest.mark.parametrize(
    ("events", "where"),
    [
        ("finished:stage started:merge started:enrich finished:merge", " in stage enrich"),
        ("finished:stage started:merge started:enrich", " in stage merge, enrich"),
        ("finished:stage", ""),
    ],
)
def test_a_death_names_the_stages_that_had_not_finished(zone: Zone, events: str, where: str) -> None:
    zone.deliver("1", f"die-after {events}\n")
    assert zone.once() == 1
    assert f"; at last the worker died{where}: " in zone.batches()[0].reason


@pytest.mark.long
def test_silence_is_death_but_progress_is_life(tmp_path: Path) -> None:
    zone = Zone(tmp_path, dispatch={"timeout_seconds": 0.9, "poison_after": 1, "stop_seconds": 2})
    zone.deliver("long", "slow 1.2\n", date="2026-03-01")
    zone.deliver("hung", "hang\n", date="2026-03-02")
    assert zone.once() == 1
    assert zone.batch("long").state == State.ARCHIVED
    hung = zone.batch("hung")
    assert (hung.state, hung.attempts) == (State.REJECTED, 1)
    assert hung.reason.endswith("the worker died in stage stage: it made no progress for 0.9 seconds and was killed")


def test_a_worker_that_babbles_is_replaced(zone: Zone) -> None:
    zone.deliver("1", "babble\n")
    zone.once()
    assert "said something that is no message" in zone.log("worker.died")[0]["reason"]


@pytest.mark.parametrize(
    ("file", "starts", "says"),
    [
        (("refuse", ""), 1, "no Java here"),
        (("refuse", "retryable"), 3, "no Java here"),
        (("crash", ""), 3, "exit code 3"),
    ],
)
def test_without_a_worker_a_run_ends_with_one_sentence_and_its_batches_wait(
    zone: Zone, capfd: pytest.CaptureFixture[str], file: tuple[str, str], starts: int, says: str
) -> None:
    zone.lake.mkdir()
    (zone.lake / file[0]).write_text(file[1])
    zone.deliver("1")
    assert zone.once() == 1
    [sentence] = capfd.readouterr().err.splitlines()
    assert says in sentence
    assert sentence.endswith("; 1 batch waits as READY, with all attempts: run it again when the cause is removed")
    [batch] = zone.batches()
    assert (batch.state, batch.attempts, len(zone.log("worker.started"))) == (State.READY, 0, starts)
    ledger = Ledger.reading(zone.config.ledger_path)
    [trouble] = ledger.troubles()
    assert (trouble.kind, says in trouble.reason, trouble.tries) == ("worker", True, starts)
    (zone.lake / file[0]).unlink()
    assert zone.once() == 0
    assert (ledger.troubles(), len(zone.log("trouble.opened")), len(zone.log("trouble.ended"))) == ([], 1, 1)
    ledger.close()


def test_a_start_that_takes_long_is_a_trouble_until_the_worker_is_ready(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LONG_START_SECONDS", 0.3)
    zone.lake.mkdir()
    (zone.lake / "slow").write_text("0.8")
    zone.deliver("1")
    assert zone.once() == 0
    [opened], [ended] = zone.log("trouble.opened"), zone.log("trouble.ended")
    assert (opened["kind"], ended["kind"]) == ("worker_starting", "worker_starting")
    assert opened["reason"] == "the worker has been starting for more than 0.3 seconds (engine spark)"
    assert opened["cure"].startswith("`lakegate check` tests the engine")
    ledger = Ledger.reading(zone.config.ledger_path)
    [pid] = [f["pid"] for f in zone.log("worker.ready")]
    assert (ledger.troubles(), engine_of_worker(ledger.figures(), pid)) == ([], "none")
    assert engine_of_worker(ledger.figures(), pid + 1) == ""
    ledger.close()


def test_the_log_counts_the_starts_that_failed(zone: Zone) -> None:
    zone.lake.mkdir()
    (zone.lake / "refuse").touch()
    zone.deliver("1")
    zone.once()
    assert [(e["attempt"], e["is_retryable"]) for e in zone.log("worker.start_failed")] == [(1, False)]


def test_a_run_without_a_worker_still_gives_up_the_batches_whose_files_do_not_come(zone: Zone) -> None:
    zone.lake.mkdir()
    (zone.lake / "refuse").touch()
    zone.deliver("1")
    zone.land("2", "orders_2.csv")
    assert zone.once() == 1
    assert zone.states() == {"READY": 1, "REJECTED": 1}
    assert zone.files("rejected") != []


# ---- a lake that another process writes to, and the real worker, which waits for it before it opens an engine

PATIENT = (sys.executable, "-m", "pipeline", "--lock-seconds", "0.1")


@contextmanager
def busy(lake: Path) -> Iterator[int]:
    """Yields the id of another process that holds the lake's lock."""
    lake.mkdir(exist_ok=True)
    command = ["flock", lake / ".lock", "sh", "-c", "echo; read _"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        yield other.pid
        other.stdin.close()


@pytest.mark.long
def test_a_run_that_finds_the_lake_busy_for_long_ends_with_75_and_its_batch_keeps_all_attempts(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    zone = Zone(tmp_path, dispatch={"timeout_seconds": 3, "poison_after": 2, "stop_seconds": 2})
    zone.deliver("1")
    with busy(zone.lake):
        assert zone.once(command=PATIENT) == 75
    [batch] = zone.batches()
    assert (batch.state, batch.attempts, batch.worker_crashes) == (State.READY, 0, 0)
    assert f"{zone.lake} is being written by another process, for more than 3 seconds" in capfd.readouterr().err
    assert len(zone.log("worker.waiting")) == 1
    assert [zone.log(e) for e in ("worker.start_failed", "worker.died", "batch.failed")] == [[]] * 3
    assert zone.once() == 0


def test_a_daemon_waits_for_a_busy_lake_longer_than_a_worker_may_be_silent(tmp_path: Path) -> None:
    zone = Zone(tmp_path, dispatch={"timeout_seconds": 1.5, "poison_after": 2, "stop_seconds": 2})
    zone.deliver("1")
    hand = HandClock()  # the worker's start takes none of its time, however busy the machine is
    log = Log(zone.config.log.path, "debug", stderr=False)
    with (
        busy(zone.lake),
        Service(zone.config, once=False, log=log, command=PATIENT, catalogue=CATALOGUE, clock=hand.clock) as daemon,
    ):
        worker = daemon.components.worker
        daemon.tick()
        hand.pass_(1)  # the files settle
        wait_until(lambda: daemon.tick() or zone.log("worker.waiting"))
        for _ in range(4):
            hand.pass_(1)
            wait_until(lambda: daemon.tick() or worker.last_sign == hand.seconds)
        assert worker.lake_writer
        assert len(zone.log("worker.started")) == len(zone.log("worker.waiting")) == 1
    assert [(b.state, b.attempts) for b in zone.batches()] == [(State.READY, 0)]
    assert zone.log("worker.start_failed") == []


@pytest.mark.sail
def test_a_batch_that_the_worker_has_waits_for_a_busy_lake_and_is_taken_once(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "landing_zone_example" / "2026-03-02" / "customers_2026_03_02.csv"
    zone = Zone(tmp_path, spark={"engine": "sail"})
    zone.put("customers_1.csv", example.read_bytes())
    log = Log(zone.config.log.path, "debug", stderr=False)
    with Service(zone.config, once=False, log=log, command=PATIENT, catalogue=CATALOGUE, clock=Clock()) as daemon:
        wait_until(lambda: daemon.tick() or daemon.components.worker.is_ready)
        with busy(zone.lake):
            zone.land("1", "customers_1.csv")
            wait_until(lambda: daemon.tick() or zone.log("worker.waiting"))
            assert zone.batches()[0].state == State.RUNNING
        wait_until(lambda: daemon.tick() or zone.batches()[0].state == State.ARCHIVED)
    assert [(b.attempts, b.worker_crashes) for b in zone.batches()] == [(1, 0)]
    assert zone.log("batch.retry_scheduled") == []


def test_no_worker_is_started_where_there_is_no_work(zone: Zone) -> None:
    assert zone.once() == 0
    assert zone.log("worker.started") == []


def test_the_worker_is_warm_before_the_first_batch_and_stays_so(zone: Zone) -> None:
    hand = HandClock()
    with zone.by_hand(hand.clock) as daemon:
        daemon.tick()
        assert len(zone.log("worker.started")) == 1
        for name in ("1", "2"):
            zone.deliver(name, f"ok {name}\n")
            daemon.tick()
            hand.pass_(0.2)
            wait_until(lambda: daemon.tick() or zone.batches()[-1].state == State.ARCHIVED)
    assert len(zone.log("worker.started")) == 1


def test_what_was_published_when_the_daemon_died_is_recognised(zone: Zone) -> None:
    zone.deliver("1")
    zone.once()
    [batch] = zone.batches()
    ledger = Ledger.open(zone.config.ledger_path)
    place = zone.root / "archive" / "retail" / "2026-03-02" / batch.batch_id
    for f in batch.all_files:  # as if the daemon had been killed between the worker's commit and its answer
        (place / f.name).rename(zone.config.landing.claim_path / f.claim_name)
    ledger.update_files(batch.batch_id, [f.__class__(**{**f.__dict__, "state": "CLAIMED"}) for f in batch.all_files])
    ledger.update(batch.batch_id, published_at=None, archived_at=None, is_archived=0)
    ledger._db.execute("UPDATE batch SET state = 'RUNNING'")  # noqa: SLF001
    ledger.close()
    assert zone.once() == 0
    [again] = zone.batches()
    assert (again.state, again.duplicate_of, again.published_at is not None, again.attempts) == (
        State.ARCHIVED,
        "",
        True,
        1,
    )
    assert (len(zone.manifest()), zone.log("batch.requeued")[0]["reason"]) == (1, "the daemon ended")


def test_the_command_for_published_batches_gets_the_task_values_on_stdin(tmp_path: Path) -> None:
    script = tmp_path / "next.sh"
    script.write_text(f"#!/bin/sh\ncat >> {tmp_path}/task_values.jsonl\n")
    script.chmod(0o755)
    zone = Zone(
        tmp_path, dispatch={"on_published": [str(script)], "timeout_seconds": 20, "poison_after": 2, "stop_seconds": 2}
    )
    zone.deliver("1")
    assert zone.once() == 0
    values = json.loads((tmp_path / "task_values.jsonl").read_text())
    assert (values["batch_id"], values["total_orders"], values["validation_status"]) == (
        zone.batches()[0].batch_id,
        "3",
        "PASS",
    )
    assert len(zone.log("on_published.finished")) == 1
    assert zone.once() == 0
    assert len((tmp_path / "task_values.jsonl").read_text().splitlines()) == 1


def test_a_command_that_fails_is_logged_and_changes_nothing(tmp_path: Path) -> None:
    zone = Zone(
        tmp_path,
        dispatch={
            "on_published": ["sh", "-c", "echo no >&2; exit 3"],
            "timeout_seconds": 20,
            "poison_after": 2,
            "stop_seconds": 2,
        },
    )
    zone.deliver("1")
    assert zone.once() == 0
    [line] = zone.log("on_published.failed")
    assert (line["exit_code"], line["reason"], zone.states()) == (3, "no", {"ARCHIVED": 1})


@pytest.mark.parametrize("command", [["true", "a\0b"], ["a\0b"], ["no such program"], [str(Path(__file__))]])
def test_a_command_that_cannot_be_started_is_logged_and_holds_nothing(tmp_path: Path, command: list[str]) -> None:
    zone = Zone(tmp_path, dispatch={"on_published": command, "stop_seconds": 2})
    zone.deliver("1")
    zone.deliver("2", "ok\n2\n")
    process = zone.start(once=True)
    try:
        assert process.wait(20) == 0
    finally:
        end(process)
    assert (zone.states(), len(zone.log("on_published.failed"))) == ({"ARCHIVED": 2}, 2)
    assert all(e["reason"] for e in zone.log("on_published.failed"))


def test_from_settled_to_the_work_order_is_less_than_half_a_second_more_than_the_quiet_period(tmp_path: Path) -> None:
    zone = Zone(tmp_path, debounce={"quiet_seconds": 0.4, "max_wait_seconds": 5})
    process = zone.start()
    try:
        wait_until(lambda: zone.config.log.path.exists() and zone.log("worker.ready"))
        zone.put("orders_1.csv")
        began = time.time()
        zone.land("1", "orders_1.csv")
        wait_until((zone.lake / "orders.jsonl").exists)
        assert time.time() - began < 0.4 + 0.5
    finally:
        process.terminate()
        assert process.wait(10) == 0

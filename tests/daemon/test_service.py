"""The daemon as a process: alone in its zone, stopped, killed, without a folder, without room."""

import json
import os
import random
import resource
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from factories_daemon import HandClock, Zone, end, hidden, wait_until

from daemon import service
from daemon.batch import State
from daemon.files.lock_holder import lock_holder
from daemon.ledger.ledger import Ledger
from daemon.observe import sd_notify


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path)


def is_up(zone: Zone) -> bool:
    return zone.config.log.path.exists() and bool(zone.log("worker.ready"))


def test_a_second_daemon_is_refused_and_learns_who_is_there(zone: Zone) -> None:
    process = zone.start()
    try:
        wait_until(lambda: is_up(zone))
        assert zone.once() == 75
        assert f"process {process.pid}" in zone.log("daemon.start_failed")[0]["reason"]
        other = Zone(zone.root, ledger={"path": "other/ledger.sqlite"})  # the same zone, another ledger
        assert other.once() == 75
        found = lock_holder(zone.landing)
        assert found is not None
        assert found.pid == process.pid
    finally:
        assert end(process) == 0
    assert zone.once() == 0


def test_sigterm_hands_the_running_batch_back_and_counts_no_attempt(zone: Zone) -> None:
    process = zone.start()
    zone.deliver("1", "hang\n")
    wait_until(lambda: "RUNNING" in zone.states() and zone.orders())
    began = time.monotonic()
    assert end(process) == 0
    assert time.monotonic() - began < zone.config.dispatch.stop_seconds
    [batch] = zone.batches()
    assert (batch.state, batch.attempts, batch.worker_crashes) == (State.READY, 0, 0)
    assert zone.log("daemon.stopped")
    assert lock_holder(zone.landing) is None


def test_sigterm_lets_the_current_write_end(zone: Zone) -> None:
    process = zone.start()
    zone.deliver("1", "slow 30\n")
    wait_until(lambda: "RUNNING" in zone.states() and zone.log("table.committed"))
    began = time.monotonic()
    assert end(process, signal.SIGINT) == 0
    assert time.monotonic() - began < 3
    assert zone.states() == {"READY": 1}


def test_the_worker_dies_with_its_daemon(zone: Zone) -> None:
    process = zone.start()
    zone.deliver("1", "hang\n")
    wait_until(lambda: "RUNNING" in zone.states() and zone.orders())
    worker = zone.log("worker.started")[0]["pid"]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(5)
    wait_until(
        lambda: not Path(f"/proc/{worker}").exists() or Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z",
        seconds=5,
    )


@pytest.mark.long
def test_sigkill_at_any_instant_loses_nothing_and_publishes_nothing_twice(zone: Zone) -> None:
    chance = random.Random(7)
    delivered = []
    for n in range(10):
        process = zone.start()
        for part in "ab":
            content = f"{chance.choice(['ok', 'slow 0.1', 'fail 1 busy'])} {n}{part}\n"
            delivered.append(content)
            if chance.random() < 0.5:
                zone.deliver(f"{n}{part}", content, date=f"2026-02-{n + 1:02d}")
            else:
                zone.put(f"orders_2026_02_{n + 1:02d}_{part}.csv", content)
                zone.touch(f"orders_2026_02_{n + 1:02d}_{part}.csv.done")
        time.sleep(chance.uniform(0.15, 0.5))
        end(process, signal.SIGKILL)
        assert set(zone.everything()) >= {c.encode() for c in delivered}
    assert zone.once() == 0
    assert set(zone.states()) == {"ARCHIVED"}
    assert [f for f in zone.files("landing") if not f.startswith(".claim/.")] == []
    assert [zone.everything()[c.encode()] for c in delivered] == [1] * len(delivered)
    published = [name for line in zone.manifest() for name in line["names"]]
    assert len(published) == len(set(published)) == len(delivered)


@pytest.mark.long
def test_files_that_lay_there_before_and_files_that_come_later_are_all_taken(zone: Zone) -> None:
    zone.deliver("before", "ok before\n")
    process = zone.start()
    try:
        wait_until(lambda: is_up(zone))
        for n in range(30):
            zone.deliver(f"later{n}", f"ok {n}\n")
        wait_until(lambda: zone.states() == {"ARCHIVED": 31})
    finally:
        assert end(process) == 0


@pytest.mark.long
def test_a_zone_that_vanishes_is_taken_up_again_when_it_is_back(zone: Zone) -> None:
    process = zone.start()
    try:
        wait_until(lambda: is_up(zone))
        zone.land("waiting", "orders_1.csv")
        wait_until(lambda: zone.states() == {"WAITING": 1})
        aside = hidden(zone.landing)
        wait_until(lambda: zone.log("environment.failed"))
        time.sleep(1.2)
        assert zone.states() == {"WAITING": 1}  # an unmounted folder is no missing file
        aside.rename(zone.landing)
        zone.put("orders_1.csv")
        wait_until(lambda: zone.states() == {"ARCHIVED": 1})
        wait_until(lambda: zone.log("environment.recovered"))
        aside = hidden(zone.landing)
        zone.trigger.mkdir(parents=True)
        zone.deliver("new", "ok new\n")
        wait_until(lambda: zone.states() == {"ARCHIVED": 2})
    finally:
        assert end(process) == 0


def test_a_claim_that_is_not_there_is_not_worked_on(zone: Zone) -> None:
    zone.deliver("1", "break oops\n")
    zone.once()
    aside = hidden(zone.config.landing.claim_path)
    ledger = Ledger.open(zone.config.ledger_path)
    ledger.retry("last")
    ledger.close()
    assert zone.once() == 1
    assert "bring the folder back" in zone.batches()[0].reason
    assert len(zone.orders()) == 1
    zone.config.landing.claim_path.rmdir()
    aside.rename(zone.config.landing.claim_path)


def test_a_retry_is_noticed_by_the_running_daemon(zone: Zone) -> None:
    zone.deliver("1", "break oops\n")
    process = zone.start()
    try:
        wait_until(lambda: zone.states() == {"FAILED": 1})
        (zone.config.landing.claim_path / zone.batches()[0].files[0].claim_name).write_text("ok\n")
        ledger = Ledger.open(zone.config.ledger_path)
        ledger.retry("last")
        ledger.close()
        wait_until(lambda: zone.states() == {"ARCHIVED": 1}, seconds=6)
    finally:
        assert end(process) == 0


def test_a_full_disk_is_one_line_and_no_loss(tmp_path: Path) -> None:
    zone = Zone(tmp_path, retry={"attempts": 2, "initial_seconds": 0.05, "max_seconds": 0.2})
    # the limit on file size stands in for a full disk: the ledger cannot grow, as with ENOSPC
    zone.deliver("1")
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 * 32, 4096 * 32))
        os._exit(zone.once())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert zone.everything()[b"ok\n"] == 1
    assert len(zone.log("environment.failed")) == 1
    assert zone.once() == 0
    assert zone.states() == {"ARCHIVED": 1}


def test_a_damaged_ledger_is_refused_before_anything_is_touched(zone: Zone, capfd: pytest.CaptureFixture[str]) -> None:
    zone.deliver("1")
    zone.config.ledger_path.parent.mkdir()
    zone.config.ledger_path.write_bytes(b"no database at all, but long enough for one page " * 200)
    assert zone.once() == 78
    said = capfd.readouterr().err
    assert "restore it from a backup" in said
    assert "Traceback" not in said
    assert zone.files("landing") == ["orders_1.csv", "trigger/1.json"]


def newer_ledger(zone: Zone) -> None:
    Ledger.open(zone.config.ledger_path).close()
    with sqlite3.connect(zone.config.ledger_path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def newer_lake(zone: Zone) -> None:
    zone.lake.mkdir()
    (zone.lake / "_version").write_text("99\n")


def another_database(zone: Zone) -> None:
    zone.config.ledger_path.parent.mkdir()
    with sqlite3.connect(zone.config.ledger_path) as db:
        db.execute("PRAGMA user_version = 2")
        db.execute("CREATE TABLE other (x)")
    db.close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (newer_ledger, "written by a newer Lakegate (version 99"),
        (newer_lake, "written by a newer Lakegate (version 99"),
        (another_database, "restore it from a backup"),
    ],
)
def test_what_only_a_person_can_mend_ends_a_run_with_78(
    zone: Zone,
    capfd: pytest.CaptureFixture[str],
    spoil: Callable[[Zone], None],
    says: str,
) -> None:
    zone.deliver("1")
    spoil(zone)
    assert zone.once() == 78
    assert says in capfd.readouterr().err
    assert says in zone.log("daemon.start_failed")[0]["reason"]
    assert zone.files("landing") == ["orders_1.csv", "trigger/1.json"]


def test_a_ledger_that_cannot_be_opened_now_ends_a_run_with_1(zone: Zone) -> None:
    zone.deliver("1")
    zone.config.ledger_path.mkdir(parents=True)  # stands for a disk without room or rights: it may be mended by itself
    assert zone.start(once=True).wait(20) == 1
    assert "cannot be opened now" in zone.log("daemon.start_failed")[0]["reason"]
    zone.config.ledger_path.rmdir()
    assert zone.once() == 0


def test_bare_touch_files_that_never_stop_are_taken_at_the_longest_wait(zone: Zone) -> None:
    process = zone.start()
    try:
        wait_until(lambda: is_up(zone))
        zone.put("orders_2026_03_02.csv")
        began = time.monotonic()
        while not zone.orders() and time.monotonic() - began < 4:
            zone.touch("orders_2026_03_02.csv.done") if not zone.batches() else None
            time.sleep(0.04)
        assert 0.8 < time.monotonic() - began < 2.5
        wait_until(lambda: zone.states() == {"ARCHIVED": 1})
    finally:
        assert end(process) == 0


@pytest.mark.long
def test_an_idle_daemon_costs_next_to_nothing(zone: Zone) -> None:
    process = zone.start_program()
    try:
        wait_until(lambda: is_up(zone))
        time.sleep(0.3)
        before = cpu_seconds(process.pid)
        time.sleep(1.5)
        assert cpu_seconds(process.pid) - before <= 0.03
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert int(status.partition("VmRSS:")[2].split()[0]) < 80_000
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
        assert not [
            heavy for heavy in ("pyspark", "duckdb", "deltalake", "pyarrow", "pydantic", "numpy") if heavy in loaded
        ]
    finally:
        assert end(process) == 0


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_systemd_learns_that_the_daemon_is_ready_alive_and_stopping(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(zone.root / "notify"))
        channel.settimeout(10)

        def listen() -> None:
            while said[-1:] != ["STOPPING=1"]:
                said.append(channel.recv(1000).decode())

        listening = threading.Thread(target=listen)
        listening.start()
        monkeypatch.setenv("NOTIFY_SOCKET", str(zone.root / "notify"))
        zone.deliver("1")
        assert zone.once() == 0
        listening.join()
    lines = {line.removeprefix("STATUS=") for line in said if line.startswith("STATUS=")}
    assert (said[0], {line for line in said[1:-1] if not line.startswith("STATUS=")}) == ("READY=1", {"WATCHDOG=1"})
    assert [line for line in said if line.startswith("STATUS=")][-1] == "STATUS=idle"
    assert all(line == "idle" or line.startswith("retail 2026-03-02: ") for line in lines)


def test_a_listener_that_does_not_read_blocks_no_sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setattr(sd_notify, "SEND_SECONDS", 0.2)
        fill = [threading.Thread(target=sd_notify.notify, args=("WATCHDOG=1",)) for _ in range(30)]
        for thread in fill:
            thread.start()
        for thread in fill:
            thread.join(5)
        assert not any(thread.is_alive() for thread in fill)


def test_a_worker_that_does_not_die_stops_the_feeding_of_the_watchdog(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    notified: list[str] = []
    monkeypatch.setattr(service, "notify", notified.append)
    with zone.by_hand(HandClock().clock) as daemon:
        daemon._feed_watchdog()  # noqa: SLF001
        daemon.components.worker.is_stuck = True
        daemon._feed_watchdog()  # noqa: SLF001
        daemon.components.worker.is_stuck = False
    assert notified.count("WATCHDOG=1") == 1


def test_one_event_is_one_line_with_every_file_name(zone: Zone) -> None:
    names = [
        "a\n{}.done",
        "b\x1b[31m.done",
        "c\u2028.done",
        "d\udcff.done",
        "-e.done",
        "_f.done",
        "g;h$(i).done",
        "j" * 250 + ".x",
    ]
    for name in names:
        (zone.trigger / name).write_text("")
    zone.put("orders_\n.csv")
    zone.put("orders_2026_03_02.csv", "good\n")
    assert zone.once() == 0
    lines = zone.config.log.path.read_text().splitlines()
    assert all(line.isascii() and json.loads(line)["event"] for line in lines)
    assert len(zone.log("trigger.seen")) == len(names)
    assert zone.everything()[b"ok\n"] == zone.everything()[b"good\n"] == 1
    assert [e["reason"].partition(" in ")[0] for e in zone.log("environment.failed")] == ["orders_\\n.csv"]
    assert [f for f in zone.files("landing") if f.startswith("trigger/")] == []


def test_events_are_shown_to_who_asks_and_then_not_on_stderr(zone: Zone, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    zone.deliver("1")
    assert zone.once(quiet=False, on_event=lambda e: seen.append(e["event"])) == 0
    assert {"daemon.started", "trigger.seen", "daemon.stopped"} <= set(seen)
    assert capfd.readouterr().err == ""


# ---- SIGHUP


def hears_hang_ups(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) & 1 << signal.SIGHUP - 1)


def test_a_hang_up_reopens_the_logs_and_ends_nothing(zone: Zone) -> None:
    process = zone.start()
    try:
        wait_until(lambda: is_up(zone))
        logs = zone.config.log.path.parent
        first = zone.log("worker.started")[0]["pid"]
        logs.rename(logs.with_name("logs.1"))
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: is_up(zone))
        assert len(zone.log("log.reopened")) == 1
        assert {p.name for p in logs.iterdir()} == {"lakegate.jsonl", "worker.log"}
        assert zone.log("worker.started")[0]["pid"] != first
        opened = [f.readlink() for f in Path(f"/proc/{zone.log('worker.started')[0]['pid']}/fd").iterdir()]
        assert logs / "worker.log" in opened
        zone.deliver("1")
        wait_until(lambda: zone.states() == {"ARCHIVED": 1})
    finally:
        assert end(process) == 0
    assert zone.log("daemon.stopped")[0]["reason"] == "stopped by SIGTERM"


def test_hang_ups_before_the_daemon_is_ready_do_not_end_it(zone: Zone) -> None:
    zone.deliver("1")
    process = zone.start_program()
    try:
        wait_until(lambda: process.poll() is not None or hears_hang_ups(process.pid))
        while not (zone.config.log.path.exists() and zone.log("log.reopened")) and process.poll() is None:
            os.kill(process.pid, signal.SIGHUP)
            time.sleep(0.01)
        wait_until(lambda: zone.states() == {"ARCHIVED": 1})
    finally:
        assert end(process) == 0


def test_a_hang_up_of_the_whole_group_ends_neither_a_run_nor_the_attempt_of_its_worker(zone: Zone) -> None:
    zone.deliver("1", "slow 0.5\n")
    process = zone.start(once=True)
    wait_until(lambda: zone.config.ledger_path.exists() and "RUNNING" in zone.states() and zone.orders())
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(20) == 0
    [batch] = zone.batches()
    assert (batch.state, batch.attempts, batch.worker_crashes) == (State.ARCHIVED, 1, 0)
    assert zone.log("worker.died") == []

"""A ledger that cannot be written for a moment, at any write: each batch still ends once, and nothing is forgotten."""

import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from factories_daemon import CATALOGUE, WORKER, Zone, wait_until

from daemon import service
from daemon.clock import Clock
from daemon.observe.log import Log
from daemon.wakeup import WakeEvents

pytestmark = pytest.mark.long

FULL = sqlite3.OperationalError("database or disk is full")


class Failing:
    """The ledger's connection, of which one write transaction fails: as it begins, as it commits, or just after it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._is_writing = False
        self._left, self._where = 0, ""

    def fail(self, number: int, where: str) -> None:
        """The transaction of this number, from now on, fails `where` it says."""
        self._where, self._left = where, number

    def never(self) -> None:
        self._left = 0

    @property
    def has_failed(self) -> bool:
        return self._left <= 0

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        begins = sql == "BEGIN IMMEDIATE"
        if begins:
            self._left -= 1
        is_it = self._left == 0 and (begins or self._is_writing)
        self._is_writing = begins or (self._is_writing and sql not in ("COMMIT", "ROLLBACK"))
        if is_it and begins and self._where == "begin":
            self._is_writing = False
            raise FULL
        if is_it and sql == "COMMIT":
            self._is_writing = False
            if self._where == "commit":
                raise FULL
            done = self._connection.execute(sql, *values)
            if self._where == "after commit":
                raise FULL
            return done
        return self._connection.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class Daemon:
    """The real loop in a thread of its own, on a ledger that fails when it is asked to."""

    def __init__(self, zone: Zone, *, fails_at_first: bool = False) -> None:
        self.zone, self.wake_events, self._fails_at_first = zone, WakeEvents(), fails_at_first
        self.ledger: Failing | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="daemon")

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.ledger or self.error)
        return self

    def __exit__(self, *_: object) -> None:
        self.wake_events.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        log = Log(self.zone.config.log.path, "debug", stderr=False)
        options: dict[str, Any] = {"once": False, "log": log, "command": WORKER, "catalogue": CATALOGUE}
        try:
            with service.Service(self.zone.config, clock=Clock(), wake_events=self.wake_events, **options) as daemon:
                failing = Failing(daemon.ledger._db)  # noqa: SLF001  where every write comes by
                daemon.ledger._db = failing  # type: ignore[assignment]  # noqa: SLF001
                if self._fails_at_first:
                    failing.fail(1, "commit")
                self.ledger = failing
                daemon.loop()
        except BaseException as error:  # noqa: BLE001  the test raises it
            self.error = error


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    script = tmp_path / "next.py"
    script.write_text(f"import sys; open({str(tmp_path / 'announced')!r}, 'a').write(sys.stdin.read())\n")
    return Zone(
        tmp_path,
        landing={"missing_file_timeout_seconds": 0.3},
        debounce={"quiet_seconds": 0.03, "max_wait_seconds": 1},
        dispatch={"on_published": [sys.executable, "-I", "-S", str(script)], "timeout_seconds": 20, "poison_after": 3},
        retry={"attempts": 3, "initial_seconds": 0.02, "max_seconds": 0.05},
    )


def two_files(zone: Zone, name: str) -> None:
    zone.put(f"orders_{name}.csv", f"ok {name}\n")
    zone.put(f"customers_{name}.csv", f"ok too {name}\n")
    zone.land(name, f"orders_{name}.csv", f"customers_{name}.csv")


def busy_once(zone: Zone, name: str) -> None:
    zone.deliver(name, f"fail 1 busy {name}\n")


def one_death(zone: Zone, name: str) -> None:
    zone.deliver(name, f"die-once {name}\n")


def touched(zone: Zone, name: str) -> None:
    zone.put(f"orders_{name}_2026_03_02.csv", f"ok {name}\n")
    zone.touch(f"orders_{name}_2026_03_02.csv.done")


def rejected(zone: Zone, name: str) -> None:
    zone.deliver(name, f"reject wrong {name}\n")


def no_trigger_at_all(zone: Zone, name: str) -> None:
    zone.touch(f"{name}.json", "{")


def one_missing(zone: Zone, name: str) -> None:
    zone.put(f"orders_{name}.csv", f"ok {name}\n")
    zone.land(name, f"orders_{name}.csv", f"customers_{name}.csv")


ENDS = {
    two_files: "ARCHIVED",
    touched: "ARCHIVED",
    busy_once: "ARCHIVED",
    one_death: "ARCHIVED",
    rejected: "REJECTED",
    no_trigger_at_all: "REJECTED",
    one_missing: "REJECTED",
}
WHERE = ("begin", "commit", "after commit")
# `make test` tries a plain batch at every place and each other one at one place; `make test-all` tries all of them.
QUICK = {(two_files, where) for where in WHERE} | set(zip(list(ENDS)[1:], WHERE * 2, strict=True))


@pytest.mark.parametrize(
    ("deliver", "ends", "where"),
    [
        pytest.param(deliver, ends, where, marks=() if (deliver, where) in QUICK else pytest.mark.slow)
        for deliver, ends in ENDS.items()
        for where in WHERE
    ],
)
def test_whichever_write_fails_a_batch_ends_once_and_is_announced_once(
    zone: Zone,
    deliver: Callable[[Zone, str], None],
    ends: str,
    where: str,
) -> None:
    announced = zone.root / "announced"
    with Daemon(zone) as daemon:
        assert daemon.ledger is not None
        number, has_failed = 0, True
        while has_failed:
            number += 1
            assert number < 60, "the write that fails is never reached, or there is no end of writes"
            daemon.ledger.fail(number, where)
            deliver(zone, f"{number:02d}")
            wait_for_the_end(daemon, number, ends)
            has_failed = daemon.ledger.has_failed
            daemon.ledger.never()
    batches = zone.batches()
    assert number > 3
    assert (zone.states(), len(batches)) == ({ends: number}, number)
    attempts = {busy_once: 2, one_death: 2, no_trigger_at_all: 0, one_missing: 0}.get(deliver, 1)
    assert [(b.attempts, b.worker_crashes) for b in batches] == [(attempts, int(deliver is one_death))] * number
    assert all(b.reason for b in batches if ends == "REJECTED")
    published = [line["batch_id"] for line in zone.manifest()]
    announcements = announced.read_text().splitlines() if announced.exists() else []
    wanted = number if ends == "ARCHIVED" else 0
    assert (len(set(published)), len(published), len(announcements)) == (wanted, wanted, wanted)
    lying = zone.everything()
    assert all(lying[content] == 1 for content in lying if content not in (b"", b"{"))
    assert [f for f in zone.files("landing") if f.startswith(("trigger/", ".claim/"))] == []
    assert {f.state for b in batches for f in b.all_files} <= {"ARCHIVED", "EXPECTED", "RETURNED"}


def wait_for_the_end(daemon: Daemon, number: int, ends: str) -> None:
    """Waits until the batch of this number has ended; events keep the daemon from resting."""

    def has_ended() -> bool:
        daemon.wake_events.wake.set()
        assert daemon.error is None
        batches = daemon.zone.batches()
        is_over = len(batches) == number and batches[-1].state == ends and batches[-1].is_archived
        return is_over and (ends == "REJECTED" or batches[-1].hook_done)

    wait_until(has_ended, seconds=10)


@pytest.mark.parametrize("where", WHERE)
def test_a_write_that_fails_as_the_daemon_stops_is_made_good_at_the_next_start(zone: Zone, where: str) -> None:
    zone.deliver("1", "slow 2\n")
    with Daemon(zone) as daemon:
        wait_until(lambda: zone.orders() and "RUNNING" in zone.states())
        assert daemon.ledger is not None
        daemon.ledger.fail(1, where)
    assert daemon.error is None
    assert zone.states() == {"READY" if where == "after commit" else "RUNNING": 1}
    worker = zone.log("worker.started")[0]["pid"]
    assert not Path(f"/proc/{worker}").exists()
    with Daemon(zone) as daemon:
        wait_for_the_end(daemon, 1, "ARCHIVED")
    [batch] = zone.batches()
    assert (batch.attempts, batch.worker_crashes, len(zone.manifest())) == (1, 0, 1)


def test_a_write_that_fails_as_the_daemon_starts_is_tried_again(zone: Zone) -> None:
    zone.deliver("1", "slow 2\n")
    with Daemon(zone) as daemon:
        wait_until(lambda: zone.orders() and "RUNNING" in zone.states())
        assert daemon.ledger is not None
        daemon.ledger.fail(1, "commit")
    with Daemon(zone, fails_at_first=True) as daemon:
        wait_for_the_end(daemon, 1, "ARCHIVED")
        assert daemon.ledger.has_failed
    assert [line["reason"] for line in zone.log("batch.requeued")] == ["the daemon ended"]

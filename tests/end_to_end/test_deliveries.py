"""The real daemon with its real worker and real deliveries: files, signals, and commands in a second terminal."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from factories_daemon import wait_until

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "landing_zone_example"
LAKEGATE = str(Path(sys.executable).parent / "lakegate")
DAYS = ("2026_03_02", "2026_03_03")
CONFIG = """
[landing]
path = "landing"
missing_file_timeout_seconds = 30
[debounce]
quiet_seconds = 0.3
max_wait_seconds = 3
[dispatch]
poison_after = 1000
[retry]
initial_seconds = 0.2
max_seconds = 1
[lake]
path = "lake"
[log]
path = "lakegate.jsonl"
"""


class Zone:
    """A landing zone with its daemon. The tests use only the command and the folders."""

    def __init__(self, root: Path, engine: str = "sail") -> None:
        self.root, self.landing = root, root / "landing"
        (self.landing / "trigger").mkdir(parents=True)
        self.config = root / "config.toml"
        self.config.write_text(f'{CONFIG}[spark]\nengine = "{engine}"\nmaster = "local[2]"\ndriver_memory = "1g"\n')
        self.environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    def lakegate(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        command = [LAKEGATE, "--config", str(self.config), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, env=self.environment, cwd=self.root
        )
        assert code is None or done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
        )
        return done

    def start(self) -> subprocess.Popen[bytes]:
        with (self.root / "daemon.err").open("ab") as log:
            command = [LAKEGATE, "--config", str(self.config), "run"]
            return subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=self.environment, cwd=self.root
            )

    def deliver(self, day: str) -> None:
        names = []
        for file in sorted(EXAMPLE.rglob(f"*_{day}.csv")):
            shutil.copyfile(file, self.landing / file.name)
            names.append(file.name)
        document = {"trigger_id": day, "batch_date": day.replace("_", "-"), "expected_files": names}
        part = self.landing / "trigger" / f".{day}.part"
        part.write_text(json.dumps(document))
        part.rename(part.with_name(f"day_{day}.json"))

    def batches(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.lakegate("batches", "--json").stdout)
        return found

    def settled(self, count: int, seconds: float = 120) -> list[dict[str, Any]]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.batches()
            if len(found) >= count and all(b["state"] in ("ARCHIVED", "REJECTED", "FAILED") for b in found):
                return found
            time.sleep(0.3)
        raise AssertionError(f"not settled: {[(b['state'], b['reason']) for b in self.batches()]}")

    def manifest(self) -> list[dict[str, Any]]:
        rows = DeltaTable(str(self.root / "lake" / "ops" / "batches")).to_pyarrow_table().to_pylist()
        return sorted((r for r in rows if r["kind"] == "batch"), key=lambda r: r["batch_seq"])

    def tables(self) -> dict[str, list[tuple[str, ...]]]:
        """Returns the rows of every published table as text, without the columns that name a batch."""
        newest = json.loads(
            self.lakegate(
                "sql",
                "SELECT map_entries(table_versions) AS v FROM ops.batches ORDER BY batch_seq DESC LIMIT 1",
                "--json",
            ).stdout
        )
        found = {}
        for entry in newest[0]["v"]:
            name, version = entry["key"], entry["value"]
            if not name.startswith("ops."):
                found[name] = self.rows(self.root.joinpath("lake", *name.split(".")), version)
        return found

    @staticmethod
    def rows(folder: Path, version: int | None = None) -> list[tuple[str, ...]]:
        rows = DeltaTable(str(folder), version=version).to_pyarrow_table().to_pylist()
        return sorted(
            tuple(f"{c}={v}" for c, v in r.items() if not c.startswith("_") and "batch" not in c) for r in rows
        )

    def served_versions(self) -> dict[str, int]:
        """Returns the version of each table that readers see now; empty where they see none."""
        generation = Path(os.path.realpath(self.root / "lake" / "published" / "retail"))
        links = [p for p in generation.glob("*/*") if p.is_symlink()]
        return {f"retail.{p.parent.name}.{p.name}": int(p.readlink().name.partition("-")[0]) for p in links}

    def served_tables(self) -> dict[str, list[tuple[str, ...]]]:
        """Returns the rows that readers see, as `tables` does."""
        folder = self.root / "lake" / "published"
        return {table: self.rows(folder.joinpath(*table.split("."))) for table in self.served_versions()}


class Watcher(threading.Thread):
    """Notes every set of versions that readers see while the daemon works."""

    def __init__(self, zone: Zone) -> None:
        super().__init__(daemon=True)
        self.zone, self.seen, self.must_end = zone, list[dict[str, int]](), threading.Event()

    def run(self) -> None:
        while not self.must_end.wait(0.02):
            versions = self.zone.served_versions()
            if versions not in self.seen:
                self.seen.append(versions)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Zone:
    zone = Zone(tmp_path_factory.mktemp("undisturbed"))
    for day in DAYS:
        zone.deliver(day)
        zone.lakegate("run", "--once")
    return zone


@pytest.mark.sail
def test_a_delivery_becomes_tables_an_archive_and_a_log(undisturbed: Zone) -> None:
    assert [(b["state"], str(b["batch_date"])) for b in undisturbed.batches()] == [
        ("ARCHIVED", "2026-03-03"),
        ("ARCHIVED", "2026-03-02"),
    ]
    assert [p for p in undisturbed.landing.rglob("*.csv") if ".claim" not in p.parts] == []
    for day in DAYS:
        for file in EXAMPLE.rglob(f"*_{day}.csv"):
            copies = list((undisturbed.root / "archive").rglob(file.name))
            assert [c.read_bytes() for c in copies] == [file.read_bytes()]
    events = [json.loads(line)["event"] for line in (undisturbed.root / "lakegate.jsonl").read_text().splitlines()]
    assert {
        "daemon.started",
        "trigger.seen",
        "batch.received",
        "batch.started",
        "stage.finished",
        "batch.published",
        "batch.archived",
    } <= set(events)
    assert events.count("batch.published") == len(DAYS)
    for row in undisturbed.manifest():
        assert row["rows_read"] == row["rows_accepted"] + row["rows_rejected"] > 0


@pytest.mark.slow
@pytest.mark.sail
def test_a_daemon_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing(
    undisturbed: Zone, tmp_path: Path
) -> None:
    zone, chance = Zone(tmp_path), random.Random(7)
    watcher = Watcher(zone)
    watcher.start()
    zone.deliver(DAYS[0])
    for n in range(6):
        daemon = zone.start()
        time.sleep(chance.uniform(0.2, 5.0))
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
        if n == 2:
            zone.deliver(DAYS[1])
    daemon = zone.start()
    assert [b["state"] for b in zone.settled(2)] == ["ARCHIVED", "ARCHIVED"]
    # A batch that was archived before the last kill is shown to readers by the next worker, once that has started.
    wait_until(lambda: zone.served_tables() == {t: r for t, r in zone.tables().items() if ".bronze." not in t})
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert [str(r["batch_date"]) for r in zone.manifest()] == ["2026-03-02", "2026-03-03"]
    assert zone.tables() == undisturbed.tables()
    watcher.must_end.set()
    watcher.join()
    served = {table: rows for table, rows in zone.tables().items() if ".bronze." not in table}
    assert zone.served_tables() == served
    # Readers saw the tables of one row of the manifest, always.
    rows = DeltaTable(str(zone.root / "lake" / "ops" / "batches")).to_pyarrow_table()["table_versions"].to_pylist()
    published = [{t: v for t, v in row if t in served} for row in rows]
    assert [versions for versions in watcher.seen if versions and versions not in published] == []
    assert len(watcher.seen) >= 2
    assert sorted(p.name for p in (zone.root / "archive").rglob("*.csv")) == sorted(
        p.name for p in (undisturbed.root / "archive").rglob("*.csv")
    )


@pytest.mark.sail
def test_sigterm_in_the_middle_of_a_batch_hands_it_back_and_the_next_run_publishes_it(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    zone.deliver(DAYS[0])
    daemon = zone.start()
    log = zone.root / "lakegate.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end and not (log.exists() and '"batch.started"' in log.read_text()):
        time.sleep(0.05)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0
    requeued = zone.batches()[0]
    assert requeued["state"] in ("READY", "PUBLISHED", "ARCHIVED")
    zone.lakegate("run", "--once")
    assert [(b["state"], b["attempts"]) for b in zone.batches()] == [("ARCHIVED", 1)]
    assert len(zone.manifest()) == 1


@pytest.mark.sail
def test_a_second_daemon_refuses_to_start_and_names_the_first(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    daemon = zone.start()
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end and not json.loads(zone.lakegate("status", "--json").stdout)["daemon"]["running"]:
            time.sleep(0.1)
        refused = zone.lakegate("run", "--once", code=75)
        assert str(daemon.pid) in refused.stderr
        status = json.loads(zone.lakegate("status", "--json").stdout)
        assert (status["daemon"]["pid"], status["worker"]["running"]) == (daemon.pid, True)
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0


@pytest.mark.spark
def test_the_default_engine_gives_the_tables_of_the_other(undisturbed: Zone, tmp_path: Path) -> None:
    zone = Zone(tmp_path, engine="spark")
    for day in DAYS:
        zone.deliver(day)
    zone.lakegate("run", "--once")
    assert [b["state"] for b in zone.batches()] == ["ARCHIVED", "ARCHIVED"]
    assert zone.tables() == undisturbed.tables()

"""The daemon with its lake in an object store: the same figures as in a folder, after kills, too; and every verb."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from object_store import ObjectStore, forgetful_store
from servers import free_port

pytestmark = pytest.mark.sail
PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "landing_zone_example"
LAKEGATE = [sys.executable, "-m", "daemon"]
DAYS = ("2026-03-02", "2026-03-03")
FIGURES = "SELECT * FROM retail.gold.daily_sales ORDER BY ALL"
CONFIG = """
[landing]
path = "landing"
[debounce]
quiet_seconds = 0.2
[retry]
initial_seconds = 0.2
max_seconds = 1
[lake]
path = "{lake}"
[spark]
engine = "sail"
"""


class Site:
    """A folder with a configuration whose lake is at an address."""

    def __init__(self, root: Path, lake: str, environment: dict[str, str] | None = None) -> None:
        (root / "landing" / "trigger").mkdir(parents=True)
        (root / "config.toml").write_text(CONFIG.format(lake=lake))
        self.root = root
        self.environment = {**os.environ, **(environment or {}), "PYTHONPATH": str(PROJECT)}

    def deliver(self, day: str) -> None:
        files = sorted((EXAMPLE / day).glob("*.csv"))
        for file in files:
            shutil.copyfile(file, self.root / "landing" / file.name)
        document = {"trigger_id": day, "batch_date": day, "expected_files": [f.name for f in files]}
        part = self.root / "landing" / "trigger" / f".{day}.part"
        part.write_text(json.dumps(document))
        part.rename(part.with_name(f"{day}.json"))

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [*LAKEGATE, *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def states(self) -> list[str]:
        return [batch["state"] for batch in self.json("batches")]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the two days show where the lake is a folder."""
    site = Site(tmp_path_factory.mktemp("folder"), "lake")
    for day in DAYS:
        site.deliver(day)
        site.run("run", "--once", "--quiet")
    return site.json("sql", FIGURES)


@pytest.mark.slow
def test_a_lake_in_a_store_shows_the_same_figures_and_every_verb_reads_it(
    tmp_path: Path, store: ObjectStore, figures: Any
) -> None:
    lake = store.new_prefix()
    site = Site(tmp_path / "site", lake)
    checked = {d["subject"]: d["verdict"] for d in site.json("check")}
    assert (checked["store"], checked["readers"], checked["tables"]) == ("ok", "ok", "ok")
    for day in DAYS:
        site.deliver(day)
        site.run("run", "--once", "--quiet")
    assert site.states() == ["ARCHIVED", "ARCHIVED"]
    assert site.json("sql", FIGURES) == figures
    assert not (tmp_path / "site" / "s3:").exists()
    assert not (tmp_path / "site" / "lake").exists()
    assert "retail.gold.daily_sales" in site.run("tables")
    assert f"LOCATION '{lake}/retail/gold/daily_sales'" in site.run("catalog", "daily_sales")
    assert site.json("status")["lake"] == {"held_by": None, "unreadable": None}
    assert {d["verdict"] for d in site.json("check") if d["subject"] in ("store", "tables")} == {"ok"}
    site.run("export", "retail.gold.daily_sales", "--to", "csv", "--out", str(tmp_path / "sales.csv"))
    assert len((tmp_path / "sales.csv").read_text().splitlines()) == len(figures) + 1
    again = site.json("sql", "SELECT count(*) AS n FROM ops.quarantine")
    assert again[0]["n"] > 0
    assert "nothing to undo" in site.run("restore", "retail.silver.orders", "--yes")


@pytest.mark.slow
def test_kills_in_the_middle_of_batches_lose_nothing_and_double_nothing(
    tmp_path: Path, store: ObjectStore, figures: Any
) -> None:
    site = Site(tmp_path / "site", store.new_prefix())
    for day in DAYS:
        site.deliver(day)
    for seconds in (2.5, 4.0, 6.0):
        daemon = subprocess.Popen(
            [*LAKEGATE, "run", "--quiet"], cwd=site.root, env=site.environment, start_new_session=True
        )
        time.sleep(seconds)
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
    site.run("run", "--once", "--quiet")
    assert site.states() == ["ARCHIVED", "ARCHIVED"]
    assert site.json("sql", FIGURES) == figures
    published = site.json("sql", "SELECT batch_id FROM ops.batches WHERE kind = 'batch'")
    assert len(published) == 2


@pytest.mark.slow
def test_a_store_that_ignores_conditions_is_refused_before_anything_is_written(
    tmp_path: Path, store: ObjectStore
) -> None:
    address = store.new_prefix()
    with forgetful_store(store) as environment:
        site = Site(tmp_path / "site", address, dict(environment))
        site.deliver(DAYS[0])
        [verdict] = [d for d in json.loads(site.run("check", "--json", code=1)) if d["subject"] == "store"]
        assert verdict["verdict"] == "bad"
        refused = f"the store s3://{store.bucket} cannot hold a lake: it writes an object anew that must not exist"
        assert refused in verdict["says"]
        site.run("run", "--once", "--quiet", code=1)
        assert "cannot hold a lake" in (site.root / "logs" / "lakegate.jsonl").read_text()
    prefix = address.removeprefix("s3://")
    written = {r.split()[1] for r in store.requests() if r.startswith("PUT") and prefix in r}
    assert written
    assert all("_probe" in path for path in written), written


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_named_and_nothing_else_fails(tmp_path: Path, store: ObjectStore) -> None:
    environment = {**store.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    site = Site(tmp_path / "site", store.new_prefix(), environment)
    [verdict] = [d for d in json.loads(site.run("check", "--json", code=1)) if d["subject"] == "store"]
    assert "cannot be looked at: Generic S3 error: Error performing PUT http://127.0.0.1" in verdict["says"]
    assert "\n" not in verdict["says"]
    status = site.json("status")
    assert "Error performing GET http://127.0.0.1" in status["lake"]["unreadable"]
    daemon = subprocess.Popen([*LAKEGATE, "run", "--quiet"], cwd=site.root, env=site.environment)
    log = site.root / "logs" / "lakegate.jsonl"
    site.deliver(DAYS[0])
    until = time.monotonic() + 60
    while time.monotonic() < until and not (log.exists() and "Error performing" in log.read_text()):
        time.sleep(0.2)
    assert daemon.poll() is None  # it waits for the store
    daemon.terminate()
    assert daemon.wait(30) == 0
    assert "Error performing" in log.read_text()

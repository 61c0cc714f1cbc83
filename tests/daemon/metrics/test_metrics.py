"""The metrics are the ledger's numbers: read with Prometheus's own parser and compared with SQL over the ledger."""

import datetime as dt
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from factories_command import Site, answer
from factories_daemon import Zone
from metric_samples import Samples

from daemon.batch import State
from daemon.ledger.live_state import Activity, Figure
from daemon.metrics import CONTENT_TYPE, Metrics, render
from daemon.metrics.registry import HISTOGRAM, METRICS
from daemon.observe.events import EVENTS

ENDS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, '[spark]\nengine = "sail"\n')


def samples(site: Site) -> Samples:
    return Samples(render(site.config))


def sql(site: Site, query: str) -> Any:
    with sqlite3.connect(site.config.ledger_path) as db:
        [[value]] = db.execute(query).fetchall()
    db.close()
    return value


def counts(feed: str, accepted: int, rejected: int) -> dict[str, Any]:
    numbers = {"rows_read": accepted + rejected, "rows_accepted": accepted, "rows_rejected": rejected}
    return {"name": f"{feed}.csv", "feed": feed, **numbers}


def result(batch_id: str, *files: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**answer(batch_id, **values), "files": files}


def publish(site: Site, batch_id: str, *files: dict[str, Any], day: int = 4, **values: Any) -> None:
    columns = {
        "published_at": f"2026-03-05T08:00:{int(batch_id[1:]) * 10 + 20}.500000+00:00",
        "result": result(batch_id, *files, **values),
    }
    site.batch(State.ARCHIVED, batch_id, date=dt.date(2026, 3, day), **columns)


def test_a_new_site_has_every_counter_of_its_sources_at_zero(site: Site) -> None:
    seen = samples(site)
    for source in ("retail", "crm_erp", "clickstream"):
        assert seen.of("lakegate_batches_total", source=source) == 0
        assert seen.of("lakegate_batch_processing_seconds_count", source=source) == 0
        assert seen.of("lakegate_open_batches", source=source) == 0
        assert not seen.has("lakegate_last_published_timestamp_seconds", source=source)
    assert seen.of("lakegate_rows_total", source="retail", feed="orders", verdict="rejected") == 0
    assert (seen.of("lakegate_daemon_up"), seen.of("lakegate_worker_up")) == (0, 0)
    assert seen.of("lakegate_build_info", engine="sail") == 1
    assert not seen.has("lakegate_needs")
    assert sum(name == "lakegate_events_total" for name, _, _ in seen.all) == len(EVENTS)
    assert not site.config.ledger_path.exists()


def test_every_sample_has_the_kind_and_labels_of_the_registry_and_every_metric_is_documented(site: Site) -> None:
    publish(site, "b1", counts("orders", 3, 1), score=90.0, seconds={"merge": 1.5})
    site.batch(State.READY, "b2")
    ledger = site.ledger()
    ledger.move("b2", State.RUNNING, "batch.started", attempts=1)
    ledger.set_figures({Figure("task", "retail", "merge retail.silver.orders"): 0.5})
    ledger.set_activity(
        Activity(batch_id="b2", attempt=1, since="2026-03-05T08:00:00Z", last_at="2026-03-05T08:00:01Z")
    )
    ledger.close()
    seen = samples(site)
    kinds = {f.name + ("_total" if f.type == "counter" else ""): (f.type, f.documentation) for f in seen.families}
    assert kinds == {name: (m.kind, m.meaning) for name, m in METRICS.items()}
    for name, labels, _ in seen.all:
        metric = next(m for n, m in METRICS.items() for end in ENDS[m.kind] if name == n.removesuffix("_total") + end)
        assert labels.keys() - {"le"} == set(metric.labels), name


def test_outcomes_rows_and_times_equal_the_sums_of_the_ledger(site: Site) -> None:
    publish(site, "b1", counts("orders", 10, 2), counts("customers", 4, 0), score=95.0, seconds={"merge": 1.5})
    publish(site, "b2", counts("orders", 5, 0), day=3, score=88.5, seconds={"merge": 0.5, "publish": 0.25})
    site.batch(State.REJECTED, "b3", "a column is missing")
    site.batch(State.DUPLICATE, "b4", duplicate_of="b1")
    site.batch(State.FAILED, "b5", "the disk is full")
    ledger = site.ledger()
    ledger.retry("b5")
    ledger.close()
    seen = samples(site)
    for outcome in ("published", "duplicate", "rejected", "failed"):
        counted = sql(site, f"SELECT count(*) FROM history WHERE event = 'batch.{outcome}'")
        assert seen.of("lakegate_batches_total", source="retail", outcome=outcome) == counted > 0
    for verdict in ("accepted", "rejected"):
        query = f"""SELECT sum(json_extract(file.value, '$.rows_{verdict}'))
            FROM batch, json_each(batch.result, '$.files') AS file WHERE published_at IS NOT NULL"""
        assert seen.of("lakegate_rows_total", source="retail", verdict=verdict) == sql(site, query) > 0
    assert seen.of("lakegate_newest_batch_rows", source="retail") == 5
    assert seen.of("lakegate_newest_batch_score", source="retail") == 88.5
    assert seen.of("lakegate_newest_batch_stage_seconds", source="retail", stage="publish") == 0.25
    published = dt.datetime.fromisoformat(sql(site, "SELECT max(published_at) FROM batch"))
    assert seen.of("lakegate_last_published_timestamp_seconds", source="retail") == published.timestamp()
    newest = dt.datetime(2026, 3, 4, tzinfo=dt.UTC).timestamp()
    assert seen.of("lakegate_newest_batch_date_timestamp_seconds", source="retail") == newest


def test_the_histograms_have_each_published_batch_once(site: Site) -> None:
    publish(site, "b1")
    publish(site, "b2")
    site.batch(State.REJECTED, "b3")
    seen = samples(site)
    query = """SELECT sum(julianday(published_at) - julianday(changed_at)) * 86400
        FROM history JOIN batch USING (batch_id) WHERE published_at IS NOT NULL AND event = 'batch.started'"""
    processing = seen.of("lakegate_batch_processing_seconds_sum", source="retail")
    assert processing == pytest.approx(sql(site, query), abs=0.01)
    assert 0 < processing < seen.of("lakegate_batch_delivery_seconds_sum", source="retail")
    query = "SELECT sum(julianday(published_at) - julianday(received_at)) * 86400 FROM batch"
    assert seen.of("lakegate_batch_delivery_seconds_sum", source="retail") == pytest.approx(sql(site, query), abs=0.01)
    for name in (n for n, m in METRICS.items() if m.kind == HISTOGRAM):
        limits = [
            (float(labels["le"]), v)
            for n, labels, v in seen.all
            if n == f"{name}_bucket" and labels["source"] == "retail"
        ]
        assert limits == sorted(limits)
        assert limits[-1] == (float("inf"), 2)
        assert seen.of(f"{name}_count", source="retail") == 2


def test_open_batches_have_their_number_and_the_arrival_of_the_oldest(site: Site) -> None:
    site.batch(State.READY, "b1")
    site.batch(State.READY, "b2")
    site.batch(State.WAITING, "b3", waiting_for=["orders.csv"])
    site.batch(State.ARCHIVED, "b4")
    seen = samples(site)
    assert seen.of("lakegate_open_batches", source="retail", state="READY") == 2
    assert seen.of("lakegate_open_batches", source="retail") == 3
    oldest = sql(site, "SELECT unixepoch(min(received_at)) FROM batch WHERE state = 'READY'")
    assert seen.of("lakegate_oldest_open_batch_timestamp_seconds", source="retail", state="READY") == oldest
    assert seen.of("lakegate_needs", source="retail", kind="WAITING") == 1


def test_needs_are_those_that_status_lists(site: Site) -> None:
    site.batch(State.FAILED, "b1", "the disk is full")
    site.batch(State.REJECTED, "b2")
    ledger = site.ledger()
    ledger.open_trouble("worker", "start", "no Java")
    seen = samples(site)
    assert {(labels["source"], labels["kind"]): v for n, labels, v in seen.all if n == "lakegate_needs"} == {
        ("retail", "FAILED"): 1,
        ("retail", "REJECTED"): 1,
        ("none", "worker"): 1,
    }
    ledger.end_trouble("worker", "start")
    ledger.dismiss("b2")
    ledger.close()
    assert samples(site).of("lakegate_needs") == 1


def test_metrics_that_read_only_new_outcomes_equal_those_that_read_all(site: Site) -> None:
    kept = Metrics(site.config)
    publish(site, "b1", counts("orders", 10, 2), score=95.0)
    assert kept.render() == render(site.config)
    site.batch(State.REJECTED, "b2")
    publish(site, "b3", counts("orders", 1, 1), score=50.0)
    assert kept.render() == render(site.config)
    assert Samples(kept.render()).of("lakegate_rows_total", feed="orders") == 14
    site.config.ledger_path.unlink()
    publish(site, "b1", counts("orders", 1, 0))
    assert Samples(kept.render()).of("lakegate_rows_total", feed="orders") == 1


def test_hostile_names_stay_values_of_labels(site: Site) -> None:
    hostile = 'a"} 1\nlakegate_daemon_up 7\\'
    publish(site, "b1", counts(hostile, 1, 0))
    ledger = site.ledger()
    ledger.receive("b2", trigger="x", files=[], source=hostile)
    ledger.close()
    seen = samples(site)
    assert seen.of("lakegate_rows_total", feed=hostile, verdict="accepted") == 1
    assert seen.of("lakegate_open_batches", source=hostile, state="WAITING") == 1
    assert seen.of("lakegate_daemon_up") == 0


def test_the_daemon_records_its_events_watcher_and_tasks(tmp_path: Path) -> None:
    zone = Zone(tmp_path)
    zone.deliver("1", "ok\n")
    zone.deliver("2", "die-once\n")
    assert zone.once() == 0
    seen = Samples(render(zone.config))
    logged = [line["event"] for line in zone.log()]
    for event in ("daemon.started", "batch.published", "worker.started", "worker.died", "stage.finished"):
        assert seen.of("lakegate_events_total", event=event, level=EVENTS[event].level) == logged.count(event) > 0
    assert seen.of("lakegate_newest_batch_task_seconds", source="retail", task="load_orders") == 0.25
    assert not seen.has("lakegate_watcher_polling"), "the daemon has ended"
    zone.deliver("3", "ok again\n")
    assert zone.once() == 0
    again = Samples(render(zone.config))
    assert again.of("lakegate_events_total", event="daemon.started") == 2
    assert again.of("lakegate_events_total", event="batch.published") == 3


def test_the_command_prints_the_same_text(site: Site) -> None:
    publish(site, "b1", counts("orders", 10, 2))
    command = [sys.executable, "-m", "daemon", "--config", str(site.path), "metrics"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == render(site.config)
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")

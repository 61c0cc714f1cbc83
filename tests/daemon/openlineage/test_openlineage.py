"""Each batch leaves events of OpenLineage, in a file or at a real HTTP server, and no endpoint delays a batch."""

import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from factories_daemon import Zone, end, wait_until
from openlineage_rules import check, check_by_standard

from daemon.clock import Clock
from daemon.openlineage.emitter import append_line
from daemon.openlineage.run_events import EventBuilder, RunChange, producer
from pipeline.contract import lineage_of
from pipeline.sources.registry import SOURCES

pytestmark = pytest.mark.long  # with real processes and servers, they take seconds together

PATIENT = {"stop_seconds": 60}  # a tenth of it is there for events: a busy machine takes a while to load sqlglot
STANDARD = os.environ.get("LAKEGATE_OPENLINEAGE_SPEC", "")  # a folder with the standard's own schema files


class Endpoint(ThreadingHTTPServer):
    """A server that takes events, or answers with an error."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.events: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer = 201
        self.delay_seconds = 0.0
        self.location = ""
        self.gets = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v1/lineage"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.delay_seconds)
        if self.server.answer < 300:
            self.server.events.append(json.loads(body))
            self.server.headers.append(dict(self.headers))
        self.send_response(self.server.answer)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.gets += 1
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""


@contextmanager
def serving(port: int = 0) -> Iterator[Endpoint]:
    with Endpoint(port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def zone_with_file(root: Path, **settings: dict[str, Any]) -> Zone:
    return Zone(root, **{"dispatch": PATIENT, "openlineage": {"path": "logs/lineage.jsonl"}, **settings})


def events(zone: Zone) -> list[dict[str, Any]]:
    """Returns the events in the file; each follows the standard."""
    path = zone.root / "logs" / "lineage.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for event in found:
        check(event)
        if STANDARD:
            check_by_standard(event, Path(STANDARD))
    return found


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [e["eventType"] for e in found]


def test_a_published_batch_starts_and_completes_one_run(tmp_path: Path) -> None:
    zone = zone_with_file(tmp_path)
    zone.deliver("1", date="2026-03-02")
    assert zone.once() == 0
    start, complete = events(zone)
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert (complete["job"]["namespace"], complete["job"]["name"]) == ("lakegate", "retail")
    facets = complete["run"]["facets"]
    assert facets["nominalTime"]["nominalStartTime"] == "2026-03-02T00:00:00Z"
    tags = {t["key"]: t["value"] for t in facets["tags"]["tags"]}
    assert tags["batch_id"] == zone.batches()[0].batch_id
    assert (tags["attempt"], tags["score"]) == ("1", "100.0")


def test_inputs_are_files_and_outputs_are_tables_with_columns(tmp_path: Path) -> None:
    zone = zone_with_file(tmp_path)
    name = zone.deliver("1")
    zone.once()
    complete = events(zone)[-1]
    (batch,) = zone.batches()
    (file,) = batch.files
    files = complete["inputs"][0]
    assert (files["namespace"], files["name"]) == ("file", str(zone.landing / "orders_*.csv"))
    assert files["inputFacets"]["lakegate_files"]["files"] == [{"name": name, "sha256": file.sha256, "bytes": 3}]
    statistics = files["inputFacets"]["inputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (3, 3, 1)
    tables = {o["name"]: o for o in complete["outputs"]}
    assert set(tables) == {"retail.bronze.orders", "retail.silver.orders"}
    silver = tables["retail.silver.orders"]
    assert silver["outputFacets"]["outputStatistics"]["rowCount"] == 4
    assert silver["facets"]["version"]["datasetVersion"] == "1"
    assert {"name": "order_date", "type": "DATE"} in silver["facets"]["schema"]["fields"]
    (location,) = silver["facets"]["symlinks"]["identifiers"]
    assert location["name"] == str(zone.lake / "retail" / "silver" / "orders")
    fields = tables["retail.bronze.orders"]["facets"]["columnLineage"]["fields"]
    (source,) = fields["order_amount"]["inputFields"]
    assert (source["namespace"], source["name"], source["field"]) == (files["namespace"], files["name"], "order_amount")
    assert source["transformations"] == [{"type": "DIRECT", "subtype": "IDENTITY"}]


@pytest.mark.parametrize("source", [s.name for s in SOURCES])
def test_every_column_of_every_table_has_a_valid_event(tmp_path: Path, source: str) -> None:
    zone = Zone(tmp_path)
    zone.deliver("1")
    zone.once()
    graph = lineage_of(source)
    written = [t.name for t in graph.tables if not t.files]
    files = tuple(replace(zone.batches()[0].files[0], feed=t.name.rpartition(".")[2]) for t in graph.tables if t.files)
    batch = replace(zone.batches()[0], source=source, all_files=files, result={"table_rows": dict.fromkeys(written, 7)})
    builder = EventBuilder(namespace="shop", landing=zone.landing, lake=zone.lake, producer=producer())
    at = "2026-03-02T10:00:00.000Z"
    event = builder.event(RunChange(event_type="COMPLETE", run="1", at=at, batch=batch), graph)
    check(event)
    if STANDARD:
        check_by_standard(event, Path(STANDARD))
    outputs = {o["name"]: o["facets"] for o in event["outputs"]}
    for table in (t for t in graph.tables if t.layer in ("silver", "gold")):
        reached = set(outputs[table.name]["columnLineage"]["fields"])
        assert {e.to_column for e in graph.edges_into(table.name) if e.from_column and e.to_column} == reached


def test_each_attempt_is_a_run_of_its_own_below_one_parent(tmp_path: Path) -> None:
    zone = zone_with_file(tmp_path)
    zone.deliver("1", "fail 1 the disk is full\n")
    assert zone.once() == 0
    found = events(zone)
    assert kinds(found) == ["START", "FAIL", "START", "COMPLETE"]
    assert len({e["run"]["runId"] for e in found}) == 2
    assert len({e["run"]["facets"]["parent"]["run"]["runId"] for e in found}) == 1
    assert found[1]["run"]["facets"]["errorMessage"]["message"] == "the disk is full"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("reject a column is missing\n", ["START", "FAIL"]),
        ("break the table is locked\n", ["START", "FAIL"]),
        ("die\n", ["START", "FAIL", "START", "FAIL"]),
    ],
)
def test_a_batch_that_is_not_published_fails_its_runs(tmp_path: Path, content: str, expected: list[str]) -> None:
    zone = zone_with_file(tmp_path)
    zone.deliver("1", content)
    assert zone.once() == 1
    found = events(zone)
    assert kinds(found) == expected
    assert found[-1]["outputs"] == []
    assert found[-1]["run"]["facets"]["errorMessage"]["message"] == zone.batches()[0].reason


def test_a_batch_that_is_rejected_before_any_attempt_has_a_run(tmp_path: Path) -> None:
    zone = zone_with_file(tmp_path)
    zone.land("1", "orders_1.csv")
    assert zone.once() == 1
    found = events(zone)
    assert kinds(found) == ["START", "FAIL"]
    assert "orders_1.csv" in found[1]["run"]["facets"]["errorMessage"]["message"]


def test_the_same_files_again_complete_a_run_that_wrote_nothing(tmp_path: Path) -> None:
    zone = zone_with_file(tmp_path)
    zone.deliver("1")
    zone.once()
    (zone.root / "state" / "ledger.sqlite").rename(zone.root / "state" / "old.sqlite")  # so that the worker decides
    zone.deliver("1")
    zone.once()
    found = events(zone)
    assert kinds(found) == ["START", "COMPLETE", "START", "COMPLETE"]
    assert found[-1]["outputs"] == []


@pytest.mark.long
def test_a_stop_aborts_the_run_and_the_next_start_is_another_run(tmp_path: Path) -> None:
    zone = zone_with_file(tmp_path, dispatch={"stop_seconds": 2})
    zone.deliver("1", "hang\n")
    daemon = zone.start()
    try:
        wait_until(lambda: kinds(events(zone)) == ["START"])
    finally:
        assert end(daemon) == 0
    with zone.by_hand(Clock()) as again:
        wait_until(lambda: (again.tick(), len(events(zone)) == 3)[1])
    found = events(zone)
    assert kinds(found)[:3] == ["START", "ABORT", "START"]
    assert found[0]["run"]["runId"] == found[1]["run"]["runId"] != found[2]["run"]["runId"]


def test_a_hostile_file_name_stays_text(tmp_path: Path) -> None:
    zone = zone_with_file(tmp_path)
    zone.put(name := 'orders_<script>"{{1}}\N{RIGHT-TO-LEFT OVERRIDE}.csv')
    zone.touch("day.done")
    zone.once()
    files = events(zone)[-1]["inputs"][0]["inputFacets"]
    assert files["lakegate_files"]["files"][0]["name"] == name
    assert files["subset"]["inputCondition"]["locations"] == [str(zone.landing / name)]


def test_a_source_whose_declarations_are_gone_has_events_without_columns(tmp_path: Path) -> None:
    zone = zone_with_file(tmp_path, sources={"exclude": ["retail"]})
    zone.deliver("1")
    zone.once()
    complete = events(zone)[-1]
    assert "schema" not in complete["outputs"][0]["facets"]


# ---- the endpoint


def test_events_reach_an_endpoint_with_the_key(tmp_path: Path) -> None:
    with serving() as server:
        target = {"url": server.url, "api_key": "a-key-of-the-shop", "namespace": "shop"}
        zone = Zone(tmp_path, openlineage=target, dispatch=PATIENT)
        zone.deliver("1")
        assert zone.once() == 0
        assert kinds(server.events) == ["START", "COMPLETE"]
    assert server.events[0]["job"]["namespace"] == "shop"
    assert server.headers[0]["Authorization"] == "Bearer a-key-of-the-shop"
    assert server.headers[0]["Content-Type"] == "application/json"


@pytest.mark.long
def test_an_endpoint_that_is_down_is_logged_once_and_gets_the_events_later(tmp_path: Path) -> None:
    port = free_port()
    zone = Zone(tmp_path, openlineage={"url": f"http://127.0.0.1:{port}/api/v1/lineage"})
    for name in ("1", "2", "3"):
        zone.deliver(name, f"ok {name}\n")
    daemon = zone.start()
    try:
        wait_until(lambda: zone.config.ledger_path.exists() and zone.states() == {"ARCHIVED": 3})
        wait_until(lambda: zone.log("openlineage.failed"))
        with serving(port) as server:
            wait_until(lambda: kinds(server.events) == ["START", "COMPLETE"] * 3)
            wait_until(lambda: zone.log("openlineage.recovered"))
    finally:
        assert end(daemon) == 0
    assert len(zone.log("openlineage.failed")) == 1


def test_a_slow_endpoint_delays_no_batch_and_lost_events_are_counted(tmp_path: Path) -> None:
    with serving() as server:
        server.delay_seconds = 5
        zone = Zone(tmp_path, openlineage={"url": server.url})
        zone.deliver("1")
        began = time.monotonic()
        assert zone.once() == 0
        assert time.monotonic() - began < 4.5
        assert zone.log("openlineage.failed")[-1]["lost"] == 2


def test_an_event_that_the_endpoint_refuses_does_not_hold_up_the_next(tmp_path: Path) -> None:
    with serving() as server:
        server.answer = 400
        zone = Zone(tmp_path, openlineage={"url": server.url}, dispatch=PATIENT)
        zone.deliver("1")
        assert zone.once() == 0
        assert "HTTP 400" in zone.log("openlineage.failed")[0]["reason"]


@pytest.mark.parametrize("answer", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_the_key_goes_to_no_other_address(tmp_path: Path, answer: int) -> None:
    with serving() as server, serving() as other:
        server.answer, server.location = answer, other.url
        target = {"url": server.url, "api_key": "a-key-of-the-shop"}
        zone = Zone(tmp_path, openlineage=target, dispatch=PATIENT)
        zone.deliver("1")
        assert zone.once() == 0
        assert (other.gets, other.events) == (0, [])
    reason = zone.log("openlineage.failed")[0]["reason"]
    assert f"HTTP {answer}" in reason
    assert "no redirect is followed" in reason


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "lineage.jsonl"
    append_line(path, '{"event": 1}')
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
        try:
            append_line(path, '{"event": 2}')
        except OSError:
            os._exit(3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    append_line(path, '{"event": 2}')
    assert path.read_text() == '{"event": 1}\n{"event": 2}\n'


def test_the_address_and_the_key_stay_out_of_the_log(tmp_path: Path) -> None:
    secret = "token-of-the-lineage-server"
    url = f"http://127.0.0.1:{free_port()}/{secret}/lineage"
    zone = Zone(tmp_path, openlineage={"url": url, "api_key": "another-secret-key"})
    zone.deliver("1")
    zone.once()
    text = zone.config.log.path.read_text()
    assert "openlineage.failed" in text
    assert secret not in text
    assert "another-secret-key" not in text


def test_without_a_target_nothing_is_written_or_started(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    zone = Zone(tmp_path)
    zone.deliver("1")
    zone.once()
    assert zone.files("logs") == ["lakegate.jsonl", "worker.log"]
    assert "openlineage" not in {t.name for t in set(threading.enumerate()) - before}

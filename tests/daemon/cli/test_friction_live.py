"""The exact texts of the live state, at 80 and 120 columns: `status`, the story of an open batch, `run`, `check`."""

import datetime as dt
import fcntl
import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from factories_command import DAY, Site, answer
from rich.console import Console

from daemon.batch import State
from daemon.cli import show_batches, show_status, status
from daemon.cli.checks.troubles import troubles
from daemon.cli.live_view import LiveView, Work
from daemon.cli.main import main
from daemon.clock import Clock
from daemon.ledger.live_state import Activity, Figure, RunningTask

pytestmark = pytest.mark.long  # with real processes and servers, they take seconds together

ROOT = Path(__file__).parents[3]
NOW = dt.datetime(2026, 3, 5, 9, 0, 0, tzinfo=dt.UTC)
CLOCK = Clock(now=lambda: NOW)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site", '[spark]\nengine = "sail"\n')


@contextmanager
def daemon_runs(site: Site) -> Iterator[None]:
    """Holds the lock of the landing zone, as a daemon does."""
    site.config.landing.path.mkdir(exist_ok=True)
    landing = os.open(site.config.landing.path, os.O_RDONLY)
    fcntl.flock(landing, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(landing)


def shown(site: Site, width: int) -> list[str]:
    ledger = site.ledger()
    try:
        return show_status.lines(status.status(site.config, ledger, CLOCK), width)
    finally:
        ledger.close()


def story(site: Site) -> list[str]:
    ledger = site.ledger()
    try:
        return show_batches.story(ledger.batch("last"), ledger, site.config)
    finally:
        ledger.close()


# ---- status begins with the things that need a person (rows 1, 3 and 13)


def in_need(site: Site) -> None:
    site.batch(State.ARCHIVED, "20260305T075900-aaaaaa", result=answer("x", rows_read=1000, rows_rejected=3))
    site.batch(
        State.FAILED,
        "20260305T080000-e77bfe",
        "retail.gold.daily_sales has version 7 (WRITE) that no batch published",
        dt.date(2026, 3, 9),
    )
    site.batch(State.REJECTED, "20260305T080000-dbe812", "column order_amount is missing", dt.date(2026, 3, 3))
    site.batch(State.WAITING, "20260305T080000-fc4ffb", waiting_for=["customers_2026_03_04.csv"])


def test_status_names_each_need_with_its_command_at_120_columns(site: Site) -> None:
    in_need(site)
    assert shown(site, 120) == [
        "needs you  3",
        "  FAILED    retail 2026-03-09  e77bfe  → lakegate batches e77bfe",
        "            retail.gold.daily_sales has version 7 (WRITE) that no batch published",
        "  REJECTED  retail 2026-03-03  dbe812  column order_amount is missing  → lakegate batches dbe812",
        "  WAITING   retail 2026-03-04  fc4ffb  → lakegate batches fc4ffb",
        "            1 of 2 files came; waits for customers_2026_03_04.csv, until 09:00:17 UTC, then it is rejected",
        "running    nothing",
        "gold shows retail 2026-03-04 (59 min ago)",
        "last 24 h  1 published, 1 rejected, 1 failed · 1,000 rows, 0.3 % rejected",
        "daemon     not running",
    ]


def test_status_names_each_need_with_its_command_at_80_columns(site: Site) -> None:
    in_need(site)
    lines = shown(site, 80)
    assert lines[:7] == [
        "needs you  3",
        "  FAILED    retail 2026-03-09  e77bfe  → lakegate batches e77bfe",
        "            retail.gold.daily_sales has version 7 (WRITE) that no batch",
        "            published",
        "  REJECTED  retail 2026-03-03  dbe812  → lakegate batches dbe812",
        "            column order_amount is missing",
        "  WAITING   retail 2026-03-04  fc4ffb  → lakegate batches fc4ffb",
    ]
    assert max(map(len, lines)) <= 80


def test_a_rejection_leaves_status_when_it_is_dismissed(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.batch(State.REJECTED, "20260305T080000-dbe812", "column order_amount is missing")
    assert shown(site, 80)[0] == "needs you  1"
    assert main(["--config", str(site.path), "dismiss", "dbe812", "--yes"]) == 0
    assert capsys.readouterr().err == (
        "retail 2026-03-04 · batch 20260305T080000-dbe812 needs you no more; its files stay where they are\n"
    )
    assert shown(site, 80)[0] == "needs you  nothing"
    [end] = [line for line in story(site) if line.startswith(("  over", "  next"))]
    assert end.startswith("  over    dismissed at 20")
    assert main(["--config", str(site.path), "dismiss", "dbe812", "--yes"]) == 2
    assert "was dismissed at 2026" in capsys.readouterr().err
    site.batch(State.FAILED, "20260305T080000-e77bfe")
    assert main(["--config", str(site.path), "dismiss", "e77bfe"]) == 2
    assert "only a REJECTED batch can take `dismiss`" in capsys.readouterr().err


def test_a_corrected_rejection_names_the_batch_that_corrected_it(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.batch(State.REJECTED, "20260305T080000-dbe812", "column order_amount is missing")
    assert any(line.startswith("  next    correct what the cause names") for line in story(site))
    site.batch(State.ARCHIVED, "20260305T081000-43e570", published_at="2026-03-05T08:00:20.000Z")
    command = ["--config", str(site.path)]
    assert main([*command, "batches", "dbe812"]) == 0
    out = capsys.readouterr().out
    assert ("  over    corrected by 43e570 at 2026-03-05 08:00:20Z\n" in out, "  next " in out) == (True, False)
    assert main([*command, "batches", "--state", "rejected"]) == 0
    assert "corrected by 43e570 at 2026-03-05 08:00:20Z · column order" in capsys.readouterr().out
    over = {"how": "corrected", "at": "2026-03-05T08:00:20.000Z", "by": "20260305T081000-43e570"}
    for ask in (["batches", "dbe812", "--json"], ["batches", "--state", "rejected", "--json"]):
        main([*command, *ask])
        answer_ = json.loads(capsys.readouterr().out)
        assert (answer_[0] if isinstance(answer_, list) else answer_)["over"] == over
    assert main([*command, "dismiss", "dbe812"]) == 2
    assert "was corrected by batch 20260305T081000-43e570" in capsys.readouterr().err


@pytest.mark.parametrize("width", [80, 120])
def test_a_worker_that_cannot_start_is_the_first_need(site: Site, width: int) -> None:
    site.batch(State.READY)
    ledger = site.ledger()
    for _ in range(6):
        ledger.open_trouble("worker", "worker", "there is no Java here; install one", cure="install Java")
    ledger.close()
    with daemon_runs(site):
        lines = shown(site, width)
    assert (
        lines[:2]
        == {
            80: ["needs you  1", "  TROUBLE   worker, for 59 min  → lakegate check"],
            120: [
                "needs you  1",
                "  TROUBLE   worker, for 59 min  there is no Java here; install one (6 times)  → lakegate check",
            ],
        }[width]
    )
    assert "ready      1 batch, each begins when its turn comes" in lines
    text = re.sub(r"\s+", " ", " ".join(lines))
    assert f"daemon process {os.getpid()} since " in text
    worker = "worker cannot start (6 tries, the last at 08:00:09 UTC)"
    assert worker in text
    assert text.count("there is no Java here") == 1


def test_a_worker_without_an_engine_is_starting(site: Site) -> None:
    ours, its = socket.socketpair()
    command = [sys.executable, "-m", "pipeline", "--fd", str(its.fileno())]
    with ours, its, subprocess.Popen(command, pass_fds=[its.fileno()]) as worker:
        its.close()
        with daemon_runs(site):
            # The clock of the site stands still long before this process started.
            assert f"worker starting for 0 s, process {worker.pid}" in re.sub(r"\s+", " ", " ".join(shown(site, 120)))
            ledger = site.ledger()
            ledger.open_trouble("worker", "worker", "no answer")
            again = re.sub(r"\s+", " ", " ".join(shown(site, 120)))
            assert f"worker starting for 0 s, process {worker.pid}, after 1 failed start" in again
            ledger.end_trouble("worker", "worker")
            ledger.set_figures({Figure("worker", "", "connect"): worker.pid})
            ledger.close()
            assert f"worker running, process {worker.pid}, connect" in re.sub(r"\s+", " ", " ".join(shown(site, 120)))
        worker.kill()


@pytest.mark.parametrize("width", [80, 120])
def test_a_file_of_no_feed_is_named_with_the_nearest_pattern(site: Site, width: int) -> None:
    site.config.landing.trigger_path.mkdir(parents=True)
    for name in ("ordres_2026_03_08.csv", "zzz.csv", "orders_2026_03_08.csv"):
        (site.config.landing.path / name).touch()
    lines = shown(site, width)
    assert (
        lines[-3 if width == 80 else -2 :]
        == {
            80: [
                "landing    2 files match no feed: ordres_2026_03_08.csv (near orders_*.csv),",
                "           zzz.csv",
                "landing    1 data file that no trigger names: orders_2026_03_08.csv",
            ],
            120: [
                "landing    2 files match no feed: ordres_2026_03_08.csv (near orders_*.csv), zzz.csv",
                "landing    1 data file that no trigger names: orders_2026_03_08.csv",
            ],
        }[width]
    )


# ---- the running batch (row 2)


def run_a_batch(site: Site) -> None:
    batch = site.batch(State.RUNNING, "20260305T085900-8d3475")
    ledger = site.ledger()
    ledger.set_activity(
        Activity(
            batch_id=batch.batch_id,
            attempt=1,
            since="2026-03-05T08:58:48.000Z",
            last_at="2026-03-05T09:00:00.000Z",
            stage="merge",
            stage_since="2026-03-05T08:59:26.000Z",
            tasks=(RunningTask(name="merge retail.silver.orders", since="2026-03-05T08:59:30.000Z"),),
            rows=670_650,
        )
    )
    ledger.close()


@pytest.mark.parametrize("width", [80, 120])
def test_status_shows_the_stage_the_task_and_the_time_of_the_running_batch(site: Site, width: int) -> None:
    site.batch(State.ARCHIVED)  # three seconds from its start to its end, by the clock of the site
    run_a_batch(site)
    running = "running    retail 2026-03-04  8d3475  merge, 34 s of 1 min 12 s so far · merge retail.silver.orders"
    lines = shown(site, width)
    assert (
        lines[:3]
        == {
            80: [
                "needs you  nothing",
                "running    retail 2026-03-04  8d3475  merge, 34 s of 1 min 12 s so far ·",
                "           merge retail.silver.orders · 670,650 rows · usual time 1 s",
            ],
            120: [
                "needs you  nothing",
                f"{running} · 670,650 rows ·",
                "           usual time 1 s",
            ],
        }[width]
    )


def test_the_story_of_the_running_batch_shows_its_stage(site: Site) -> None:
    run_a_batch(site)
    [stage] = [line for line in story(site) if line.startswith("  stage")]
    assert re.fullmatch(
        r"  stage   merge, \d+ days · merge retail\.silver\.orders · 670,650 rows", stage
    )  # the time passes


# ---- the story of a batch that waits (rows 11, 12 and 21)


def test_the_story_of_a_waiting_batch_says_until_when(site: Site) -> None:
    site.batch(State.WAITING, waiting_for=["customers_2026_03_04.csv"])
    assert "  missing 1 of 2 files came; waits for customers_2026_03_04.csv; no daemon runs" in story(site)
    with daemon_runs(site):
        [missing] = [line for line in story(site) if line.startswith("  missing")]
    until = r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d UTC"
    waits = r"1 of 2 files came; waits for customers_2026_03_04\.csv"
    assert re.fullmatch(rf"  missing {waits} until {until}, then it is rejected", missing)
    assert "  files   2 files: orders_2026_03_04.csv, customers_2026_03_04.csv" in story(site)


def test_the_story_of_a_ready_batch_says_what_starts_it(site: Site) -> None:
    site.batch(State.READY)
    assert "  next    it begins when the daemon runs: lakegate run" in story(site)
    with daemon_runs(site):
        assert "  next    it begins when the worker is ready and its turn comes: lakegate status" in story(site)


def test_the_history_has_its_dates_and_its_zone(site: Site) -> None:
    site.batch(State.ARCHIVED)
    history = "received 2026-03-05 08:00:02 · ready 08:00:03 · started 08:00:04 · published 08:00:05"
    assert f"  history {history} · archived 08:00:06 UTC" in story(site)


# ---- check


def test_check_names_each_open_trouble_with_its_cure(site: Site) -> None:
    ledger = site.ledger()
    ledger.open_trouble("serve", "retail", "no room in lake/published", cure="see to room", source="retail")
    ledger.close()
    sentence = "retail: no room in lake/published (since 2026-03-05 08:00:01Z, 1 try); see to room"
    assert [(d.verdict, d.sentence) for d in troubles(site.config)] == [
        ("note", f"when the daemon ran last: {sentence}")
    ]
    with daemon_runs(site):
        assert [(d.verdict, d.sentence) for d in troubles(site.config)] == [("bad", sentence)]
    ledger = site.ledger()
    ledger.end_trouble("serve", "retail")
    ledger.close()
    assert [(d.verdict, d.sentence) for d in troubles(site.config)] == [("ok", "none is open")]


# ---- run on a terminal (rows 4, 16 and 21)

EVENTS: tuple[dict[str, Any], ...] = (
    {"event": "batch.received", "batch_id": "b-8d3475", "source": "retail", "batch_date": "2026-03-02", "files": ["a"]},
    {"event": "batch.ready", "batch_id": "b-8d3475"},
    {"event": "batch.started", "batch_id": "b-8d3475"},
    {"event": "stage.started", "batch_id": "b-8d3475", "stage": "validate"},
    {"event": "table.created", "batch_id": "b-8d3475", "table": "retail.bronze.orders"},
    {
        "event": "stage.finished",
        "batch_id": "b-8d3475",
        "stage": "validate",
        "rows_in": 670650,
        "accepted": 664075,
        "rejected": 6575,
        "seconds": 17.6,
    },
    {"event": "journal.written", "batch_id": "b-8d3475", "tables": 28},
    {"event": "batch.rejected", "batch_id": "b-8d3475", "level": "error", "reason": "a [bold]\x1b[2J name"},
    {"event": "trouble.opened", "kind": "serve", "level": "error", "reason": "no room", "cure": "make room"},
    {"event": "trouble.ended", "kind": "serve", "level": "info", "reason": "no room"},
    {"event": "claim.missing", "level": "error", "batch_id": "b-8d3475", "reason": "orders.csv: gone"},
)


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_a_line_for_each_result_and_no_noise(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, highlight=False, soft_wrap=True)
    view = LiveView(console, with_times=False)
    for event in EVENTS:
        view.show({"timestamp": "2026-03-02T13:55:27Z", "level": "info", **event})
    view.close()
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "  8d3475  received   retail 2026-03-02, 1 file",
        "  8d3475  validate    17.6 s  670,650 rows, 664,075 accepted, 6,575 rejected",
        "  8d3475  rejected: a [bold]\\x1b[2J name",
        "  trouble: no room; make room",
        "  over: no room",
        "  !! claim.missing          b-8d3475 orders.csv: gone",
    ]


def test_the_spinner_shows_the_stage_its_rows_and_its_tasks() -> None:
    work = Work()
    for event in (
        {"event": "batch.started", "batch_id": "b-8d3475"},
        {"event": "file.read", "feed": "orders", "rows": 1000},
        {"event": "stage.started", "stage": "merge"},
        {"event": "task.started", "task": "append retail.bronze.orders"},
        {"event": "task.started", "task": "merge retail.silver.orders"},
        {"event": "task.finished", "task": "append retail.bronze.orders"},
    ):
        work.note(event)
    assert work.is_busy
    assert work.__rich__().plain == "8d3475  merge      0 s  1,000 rows  merge retail.silver.orders"
    work.note({"event": "batch.published", "batch_id": "b-8d3475"})
    assert not work.is_busy


def on_a_terminal(site: Site, *arguments: str, columns: int) -> list[str]:
    """Runs the command with stdout and stderr on a terminal, and returns its lines without colours."""
    parent, child = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(columns), "TERM": "xterm", "TZ": "UTC"}
    command = [sys.executable, "-m", "daemon", "--config", str(site.path), *arguments]
    with subprocess.Popen(command, stdin=child, stdout=child, stderr=child, cwd=site.root, env=environment) as process:
        os.close(child)
        output = b""
        try:
            while chunk := os.read(parent, 4096):
                output += chunk
        except OSError:  # the terminal's other side was closed
            pass
        assert process.wait(20) == 0
    os.close(parent)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.decode()).splitlines()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_run_begins_with_its_folders_and_ends_with_its_reason(site: Site, columns: int) -> None:
    assert on_a_terminal(site, "run", "--once", columns=columns) == [
        "Processing the deliveries in landing/ (trigger: landing/trigger/, engine sail).",
        "nothing left to do",
    ]


def test_ctrl_c_is_named_as_the_end(site: Site) -> None:
    parent, child = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    command = [sys.executable, "-m", "daemon", "--config", str(site.path), "run"]
    with subprocess.Popen(command, stdin=child, stdout=child, stderr=child, cwd=site.root, env=environment) as process:
        os.close(child)
        output, is_asked = b"", False
        try:
            while chunk := os.read(parent, 4096):
                output += chunk
                if b"Stop with Ctrl-C" in output and not is_asked:
                    is_asked = True
                    process.send_signal(signal.SIGINT)
        except OSError:
            pass
        assert process.wait(20) == 0
    os.close(parent)
    lines = output.decode().splitlines()
    assert "Watching landing/ (trigger: landing/trigger/, engine sail). Stop with Ctrl-C." in lines[0]
    assert "stopped by Ctrl-C" in lines[-1]


def test_in_a_pipe_a_run_prints_json(site: Site) -> None:
    command = [sys.executable, "-m", "daemon", "--config", str(site.path), "run", "--once"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert (events[0], events[-1], done.stdout) == ("daemon.started", "daemon.stopped", "")


def test_a_story_on_a_terminal_has_the_local_time(site: Site) -> None:
    site.batch(State.ARCHIVED, date=DAY)
    history = next(line for line in on_a_terminal(site, "batches", "last", columns=120) if "history" in line)
    assert history.endswith("archived 08:00:06 UTC")

"""The command `lakegate`: the output of its verbs, their exit codes, and their speed."""

import ast
import datetime as dt
import fcntl
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from factories_command import DAY, Site, answer, finding
from factories_published import PublishedLake, sale
from source_code import MODULES, nodes

from daemon.batch import State
from daemon.cli.main import EXIT_CODES, lakegate, main
from pipeline.model.definition_history import CHANGED, WHOLE, changed_tables
from pipeline.model.fingerprints import fingerprint
from pipeline.sources import registry

ROOT = Path(__file__).parents[3]
DAILY = "retail.gold.daily_sales"
ORDERS = "retail.silver.orders"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def lake(site: Site) -> PublishedLake:
    made = PublishedLake(site.root / "lake")
    made.create(DAILY)
    made.publish("retail", {DAILY: made.write(DAILY, [sale(1, "0.10"), sale(2, "1234567890.12")])})
    return made


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Command:
    """Runs the command within this process."""

    def __init__(self, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
        self._site, self._capsys = site, capsys

    def __call__(self, *arguments: str) -> Done:
        self._capsys.readouterr()
        code = main(["--config", str(self._site.path), *arguments])
        return Done(code, *self._capsys.readouterr())


@pytest.fixture
def run(site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.delenv("LAKEGATE_CONFIG", raising=False)
    return Command(site, capsys)


def started(*arguments: str, folder: Path = ROOT, **environ: str) -> Done:
    """Runs the command as a child process, without a terminal."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    command = [sys.executable, "-m", "daemon", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Done(done.returncode, done.stdout, done.stderr)


# ---- how it ends


def test_no_verb_shows_the_help_and_is_a_usage_error() -> None:
    done = started()
    assert (done.code, done.out) == (2, "")
    assert "batches" in done.err


def test_a_mistyped_verb_and_option_get_a_suggestion(run: Command) -> None:
    assert (run("batchs").code, "'batches'" in run("batchs").err) == (2, True)
    assert (run("batches", "--jsn").code, "'--json'" in run("batches", "--jsn").err) == (2, True)


def test_a_broken_configuration_ends_with_78_and_every_mistake(run: Command, site: Site) -> None:
    site.path.write_text("[debounce]\nquiet_second = 1\n[lok]\n")
    done = run("status")
    assert (done.code, done.out) == (78, "")
    assert done.err.splitlines()[-1] == "2 mistakes. Nothing was started."


def test_without_a_configuration_one_sentence_explains_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAKEGATE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    code, said = main(["run", "--once"]), capsys.readouterr()
    assert (code, said.out, len(said.err.splitlines())) == (78, "", 1)
    assert "`lakegate init` writes one" in said.err
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_is_named_before_or_after_the_verb_or_by_the_environment(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches(*arguments: str) -> int:
        assert main([*arguments]) == 0
        return len(json.loads(capsys.readouterr().out))

    site.batch(State.FAILED)
    shutil.copy(site.path, site.root / "other.toml")
    monkeypatch.delenv("LAKEGATE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert batches("--config", str(site.path), "batches", "--json") == 1
    assert batches("batches", "--json", "--config", str(site.path)) == 1
    monkeypatch.setenv("LAKEGATE_CONFIG", str(site.path))
    assert batches("batches", "--json") == 1
    monkeypatch.delenv("LAKEGATE_CONFIG")
    monkeypatch.chdir(site.root)
    assert batches("batches", "--json") == 1


def test_an_unexpected_error_is_one_line_and_a_trace_only_with_its_option(run: Command, site: Site) -> None:
    site.path.write_text("[log]\npath = 'folder/'\n")
    (site.root / "folder").mkdir()
    done = run("tail", "--no-follow")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    with pytest.raises(OSError, match="directory"):
        run("--trace", "tail", "--no-follow")


def test_an_unreadable_ledger_is_reported_and_nothing_is_changed(run: Command, site: Site) -> None:
    site.config.ledger_path.parent.mkdir()
    site.config.ledger_path.write_bytes(b"this is no database" * 100)
    done = run("batches")
    assert (done.code, len(done.err.splitlines())) == (78, 1)
    assert str(site.config.ledger_path) in done.err


def test_a_closed_pipe_ends_the_command_quietly(site: Site) -> None:
    for number in range(3):
        site.batch(State.READY, batch_id=f"20260305T080000-{number:06x}", reason="long " * 70)
    command = f"{sys.executable} -m daemon --config {site.path} batches --json | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.stderr) == ("[", "")


# ---- batches


def test_batches_have_the_shape_that_programs_rely_on(run: Command, site: Site) -> None:
    site.batch(State.ARCHIVED, archived_at="2026-03-05T08:00:10.000Z")
    site.batch(State.REJECTED, batch_id="20260305T090000-abc000", reason="orders.csv: column order_amount is missing")
    newest, oldest = json.loads(run("batches", "--json").out)
    assert newest["batch_id"] == "20260305T090000-abc000"
    assert oldest == {
        "batch_id": "20260305T080000-4f1c00",
        "source": "retail",
        "batch_date": "2026-03-04",
        "state": "ARCHIVED",
        "reason": "",
        "trigger": "trigger_4.json",
        "files": [
            {"name": "orders_2026_03_04.csv", "feed": "orders", "sha256": f"{1:064x}", "bytes": 1000},
            {"name": "customers_2026_03_04.csv", "feed": "customers", "sha256": f"{2:064x}", "bytes": 2000},
        ],
        "attempts": 1,
        "received_at": oldest["received_at"],
        "published_at": "2026-03-05T08:00:09.000Z",
        "archived_at": "2026-03-05T08:00:10.000Z",
        "over": None,
    }
    assert dt.datetime.fromisoformat(oldest["received_at"]).tzinfo == dt.UTC


def test_no_batches_are_an_empty_list_and_no_message_on_stdout(run: Command) -> None:
    assert json.loads(run("batches", "--json").out) == []
    assert (run("batches").out, run("batches").err) == ("", "no batch yet\n")


def test_batches_can_be_narrowed(run: Command, site: Site) -> None:
    for number, state in enumerate((State.READY, State.FAILED, State.FAILED)):
        site.batch(state, batch_id=f"20260305T080000-00000{number}")
    assert [b["batch_id"][-1] for b in json.loads(run("batches", "--state", "failed", "--json").out)] == ["2", "1"]
    assert [b["batch_id"][-1] for b in json.loads(run("batches", "--limit", "1", "--json").out)] == ["2"]
    done = run("batches", "--limit", "2")
    assert len(done.out.splitlines()) == 3
    assert "1 older" in done.err


def test_a_table_in_a_pipe_is_whole_and_plain(run: Command, site: Site) -> None:
    reason = "word " * 70
    site.batch(State.REJECTED, reason=reason)
    out = run("batches").out
    assert out.splitlines()[2] == f"    {reason.strip()}"
    assert "\x1b" not in out


@pytest.mark.parametrize("name", ["last", "20260305T080000-4f1c00", "20260305T08", "4f1"])
def test_last_and_the_first_letters_stand_for_a_batch(run: Command, site: Site, name: str) -> None:
    site.batch(State.FAILED, reason="the disk was full")
    assert json.loads(run("batches", name, "--json").out)["batch_id"] == "20260305T080000-4f1c00"


def test_an_unknown_batch_ends_with_4(run: Command, site: Site) -> None:
    assert (run("batches", "last").code, run("batches", "last").out) == (4, "")
    site.batch(State.FAILED)
    assert run("batches", "zzz").code == 4
    assert run("retry", "zzz").code == 4


# ---- retry and abandon


def test_retry_prints_its_effect_and_needs_no_terminal(site: Site) -> None:
    site.batch(State.FAILED, reason="the disk was full")
    done = started("--config", str(site.path), "retry", "4f1")
    assert (done.code, done.out) == (0, "")
    effect = "will be tried again, with all its attempts, by the daemon (`lakegate run`)"
    assert done.err == f"retail 2026-03-04 · batch 20260305T080000-4f1c00 {effect}\n"
    assert site.ledger().batch("last").state == State.READY


def test_a_dry_run_changes_nothing(run: Command, site: Site) -> None:
    site.batch(State.FAILED)
    assert (run("retry", "last", "--dry-run").code, site.ledger().batch("last").state) == (0, State.FAILED)


def test_a_failed_batch_can_be_given_up(run: Command, site: Site) -> None:
    site.batch(State.FAILED, reason="the disk was full")
    assert run("abandon", "last", "--yes").code == 0
    assert site.ledger().batch("last").state == State.REJECTED


def test_only_a_failed_batch_can_be_retried(run: Command, site: Site) -> None:
    site.batch(State.ARCHIVED)
    done = run("retry", "last")
    assert (done.code, "only a FAILED batch" in done.err) == (2, True)


# ---- run


def test_a_run_with_nothing_to_do_ends_well(run: Command, site: Site) -> None:
    done = started("--config", str(site.path), "run", "--once")
    assert (done.code, done.out) == (0, "")
    events = [json.loads(line)["event"] for line in done.err.splitlines()]
    assert (events[0], events[-1]) == ("daemon.started", "daemon.stopped")
    assert run("run", "--once", "--quiet").err == ""


def test_a_run_that_could_not_archive_a_batch_ends_with_1_and_its_story(run: Command, site: Site) -> None:
    site.path.write_text("[debounce]\nquiet_seconds = 0.1\n")
    site.config.landing.trigger_path.mkdir(parents=True)
    (site.config.landing.trigger_path / "trigger_x.json").write_text("{")
    done = run("run", "--once")
    assert (done.code, done.out) == (1, "")
    story = [line for line in done.err.splitlines() if not line.startswith("{")]
    assert story[0].startswith("REJECTED  trigger_x.json · batch ")
    assert len(story) <= 12
    assert "Traceback" not in done.err
    assert run("run", "--once").code == 0


def test_a_second_daemon_ends_with_75_and_names_the_first(run: Command, site: Site) -> None:
    site.config.landing.trigger_path.mkdir(parents=True)
    landing = os.open(site.config.landing.path, os.O_RDONLY)
    fcntl.flock(landing, fcntl.LOCK_EX)
    done = run("run", "--once", "--quiet")
    os.close(landing)
    assert (done.code, f"process {os.getpid()}" in done.err) == (75, True)


def test_a_newer_ledger_ends_every_verb_that_needs_it_with_78(run: Command, site: Site) -> None:
    ledger = site.ledger()
    ledger._db.execute("PRAGMA user_version = 99")  # noqa: SLF001
    ledger.close()
    for verb in (("run", "--once", "--quiet"), ("batches",), ("status",), ("retry", "last")):
        done = run(*verb)
        assert (done.code, "was written by a newer Lakegate" in done.err) == (78, True), verb


def test_a_newer_lake_ends_every_verb_that_needs_it_with_78(run: Command, site: Site, lake: PublishedLake) -> None:
    (site.root / "lake" / "_version").write_text("99")
    for verb in (("run", "--once", "--quiet"), ("sql", "SELECT 1"), ("tables",), ("adopt", DAILY)):
        done = run(*verb)
        assert (done.code, "was written by a newer Lakegate" in done.err) == (78, True), verb
    assert "was written by a newer Lakegate" in run("check", "--no-engine").out


# ---- tables and sql


def test_sql_gives_a_list_of_rows_with_exact_numbers(run: Command, lake: PublishedLake) -> None:
    done = run("sql", f'SELECT order_date, revenue, "at", orders FROM {DAILY} ORDER BY 1', "--json")
    assert '"revenue": 1234567890.12' in done.out
    assert json.loads(done.out) == [
        {"order_date": "2026-03-01", "revenue": 0.1, "at": None, "orders": 1},
        {"order_date": "2026-03-02", "revenue": 1234567890.12, "at": None, "orders": 1},
    ]


def test_sql_is_read_from_stdin_too(run: Command, lake: PublishedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"SELECT count(*) AS n FROM {DAILY}"))
    assert json.loads(run("sql", "-", "--json").out) == [{"n": 2}]


def test_numbers_that_json_does_not_know_are_null(run: Command) -> None:
    assert json.loads(run("sql", "SELECT 'nan'::DOUBLE AS a, 'inf'::DOUBLE AS b", "--json").out) == [
        {"a": None, "b": None}
    ]


def test_an_unknown_table_ends_with_4_and_bad_sql_with_2(run: Command, lake: PublishedLake) -> None:
    done = run("sql", "FROM retail.gold.daily_sale")
    assert (done.code, done.out, done.err) == (4, "", f"no table retail.gold.daily_sale; did you mean {DAILY}?\n")
    assert run("sql", "SELEC 1").code == 2
    assert run("tables", "retail.gold.x").code == 4


def test_tables_are_listed_and_shown(run: Command, lake: PublishedLake) -> None:
    listed = {t["name"]: t for t in json.loads(run("tables", "--json").out)}
    assert (listed[DAILY]["version"], listed[DAILY]["rows"]) == (1, 2)
    assert DAILY in run("tables").out
    shown = json.loads(run("tables", DAILY, "--limit", "1", "--json").out)
    about = "Sum of the order amounts."
    assert shown["columns"][1] == {"name": "revenue", "type": "DECIMAL(12,2)", "description": about}
    assert (shown["description"], shown["grain"]) == ("Orders, revenue and profit by order date.", ["order_date"])
    assert len(shown["rows"]) == 1
    lines = run("tables", DAILY).out.splitlines()
    assert lines[0] == "Orders, revenue and profit by order date. One row per order_date."
    assert any(line.split() == ["revenue", "DECIMAL(12,2)", *about.split()] for line in lines)


def test_an_empty_lake_has_no_tables(run: Command, site: Site) -> None:
    assert (run("tables", "--json").out, run("tables").out) == ("[]\n", "")
    assert not (site.root / "lake").exists()


def test_tables_as_an_older_batch_published_them(run: Command, site: Site, lake: PublishedLake) -> None:
    site.batch(State.ARCHIVED, batch_id="20260305T080000-aaa000")
    lake.publish("retail", {DAILY: 1}, batch_id="20260305T080000-aaa000")
    lake.publish("retail", {DAILY: lake.write(DAILY, [sale(3)])})
    assert json.loads(run("sql", f"SELECT count(*) AS n FROM {DAILY}", "--json", "--batch", "aaa").out) == [{"n": 2}]
    assert json.loads(run("sql", f"SELECT count(*) AS n FROM {DAILY}", "--json").out) == [{"n": 3}]


@pytest.mark.parametrize("verb", ["adopt", "restore"])
def test_only_an_existing_table_can_be_adopted_or_restored(run: Command, lake: PublishedLake, verb: str) -> None:
    done = run(verb, "retail.gold.daily_sale", "--dry-run")
    assert (done.code, f"did you mean {DAILY}?" in done.err) == (4, True)
    assert run(verb, DAILY, "--dry-run").code == 0


# ---- status


def test_status_has_the_shape_that_programs_rely_on(run: Command, site: Site) -> None:
    empty = json.loads(run("status", "--json").out)
    assert dt.datetime.fromisoformat(empty.pop("now")).tzinfo == dt.UTC
    assert empty == {
        "needs": [],
        "running": None,
        "troubles": [],
        "gold_shows": [],
        "last_24_hours": {"published": 0, "rejected": 0, "failed": 0, "rows_read": 0, "rows_rejected": 0},
        "daemon": {"running": False, "pid": None, "since": None},
        "worker": {"running": False, "pid": None, "since": None, "ready": False, "engine": None},
        "engine": "spark",
        "lake": {"held_by": None, "unreadable": None},
        "batches": {},
        "last_published": None,
        "waiting_for": [],
        "unclaimed": [],
        "triggers": 0,
        "no_feed": [],
        "set_aside": [],
        "outdated": [],
    }
    site.batch(State.ARCHIVED)
    site.batch(State.WAITING, batch_id="20260305T090000-abc000", waiting_for=["orders_2026_03_04.csv"])
    now = json.loads(run("status", "--json").out)
    assert now["batches"] == {"ARCHIVED": 1, "WAITING": 1}
    assert now["last_published"]["batch_date"] == DAY.isoformat()
    assert now["waiting_for"][0]["files"] == ["orders_2026_03_04.csv"]
    assert [(n["kind"], n["batch_id"]) for n in now["needs"]] == [("WAITING", "20260305T090000-abc000")]
    assert now["gold_shows"] == [
        {"source": "retail", "batch_date": DAY.isoformat(), "published_at": "2026-03-05T08:00:09.000Z"}
    ]


@pytest.mark.parametrize("kind", ["no commit", "no file", "newer", "no version"])
def test_status_shows_a_lake_that_cannot_be_read_in_one_line_and_all_the_rest(
    run: Command,
    site: Site,
    lake: PublishedLake,
    kind: str,
) -> None:
    site.batch(State.ARCHIVED)
    lake.publish("retail", {DAILY: 1})
    manifest = site.root / "lake" / "ops" / "batches"
    match kind:
        case "no commit":
            (manifest / "_delta_log" / f"{0:020d}.json").write_text("this is no commit\n")
        case "no file":
            for part in manifest.rglob("*.parquet"):
                part.unlink()
        case _:
            (site.root / "lake" / "_version").write_text("99" if kind == "newer" else "what")
    done = run("status")
    [line] = [line for line in done.out.splitlines() if line.startswith("lake")]
    assert (done.code, line.startswith("lake       cannot be read: ")) == (0, True)
    assert "gold shows retail 2026-03-04 (" in done.out
    now = json.loads(run("status", "--json").out)
    assert (now["outdated"], line.endswith(now["lake"]["unreadable"])) == ([], True)


def test_status_and_check_name_a_table_that_holds_an_older_definition(
    run: Command, site: Site, lake: PublishedLake
) -> None:
    now = json.loads(fingerprint(registry.source("retail"), site.config.settings.sources["retail"]))
    lake.publish("retail", {DAILY: 1}, fingerprint=json.dumps(now))
    assert json.loads(run("status", "--json").out)["outdated"] == []
    lake.publish("retail", {DAILY: 1}, fingerprint=json.dumps({**now, DAILY: "an older one"}))
    assert json.loads(run("status", "--json").out)["outdated"] == [DAILY]
    assert (
        f"{DAILY}: not all rows follow the current definition; `lakegate check` names the batches" in run("status").out
    )
    lake.publish("retail", {DAILY: 1}, fingerprint=json.dumps({**now, DAILY: "old", ORDERS: "old"}))
    done = run("check", "--no-engine").out
    assert f"{DAILY}: {WHOLE}" in done
    assert f"{ORDERS}: {CHANGED}" in done


def test_status_and_check_name_a_table_while_rows_of_an_older_definition_stand(
    run: Command,
    site: Site,
    lake: PublishedLake,
) -> None:
    now = json.loads(fingerprint(registry.source("retail"), site.config.settings.sources["retail"]))
    follows = {table: [[digest, "b1"]] for table, digest in now.items()}
    monthly = next(t for t in now if ".gold." in t and t != DAILY)
    both = {table: [["an older one", "b1"], [now[table], "b7"]] for table in (DAILY, ORDERS)}
    mixed = {**follows, **both, monthly: [["", ""], [now[monthly], "b8"]]}  # so an older release wrote of gold tables
    for _ in range(2):
        lake.publish("retail", {DAILY: 1}, fingerprint=json.dumps(mixed))
        assert json.loads(run("status", "--json").out)["outdated"] == sorted([DAILY, monthly, ORDERS])
        done = run("check", "--no-engine").out
        assert f"{ORDERS}: since batch b7 new rows follow another definition than older ones" in done
        assert all(table in line for line in done.splitlines() if WHOLE in line for table in (DAILY, monthly))
    lake.publish("retail", {DAILY: 1}, fingerprint=json.dumps(follows))
    assert json.loads(run("status", "--json").out)["outdated"] == []


def test_status_knows_the_definitions_of_published_batches_without_the_lake(
    run: Command, site: Site, lake: PublishedLake
) -> None:
    now = json.loads(fingerprint(registry.source("retail"), site.config.settings.sources["retail"]))
    older = json.dumps({**now, DAILY: "an older one"})
    site.batch(State.ARCHIVED, result=answer("x", fingerprint=older))
    for part in (site.root / "lake").rglob("*.parquet"):
        part.unlink()  # the lake cannot be read
    current = json.loads(run("status", "--json").out)
    assert (current["outdated"], current["lake"]["unreadable"]) == ([DAILY], None)


def test_a_changed_setting_changes_the_definitions_that_use_it() -> None:
    retail = registry.source("retail")
    before = fingerprint(retail, {"profit_margin": 0.3, "currency": "USD"})
    after = fingerprint(retail, {"profit_margin": 0.4, "currency": "USD"})
    assert changed_tables(before, after) == ("retail.silver.enriched_orders",)


def test_status_names_the_daemon_and_the_worker_by_their_locks(run: Command, site: Site) -> None:
    site.config.landing.path.mkdir()
    (site.root / "lake").mkdir()
    landing = os.open(site.config.landing.path, os.O_RDONLY)
    lake = os.open(site.root / "lake" / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(landing, fcntl.LOCK_EX)
    fcntl.flock(lake, fcntl.LOCK_EX)
    now = json.loads(run("status", "--json").out)
    os.close(landing)
    os.close(lake)
    assert (now["daemon"]["pid"], now["worker"]["pid"]) == (os.getpid(), os.getpid())
    began = dt.datetime.fromisoformat(now["daemon"]["since"])
    assert began < dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    assert json.loads(run("status", "--json").out)["daemon"]["running"] is False


def test_status_and_check_name_another_process_that_writes_to_the_lake(run: Command, site: Site) -> None:
    site.config.landing.path.mkdir()
    (site.root / "lake").mkdir()
    landing = os.open(site.config.landing.path, os.O_RDONLY)
    fcntl.flock(landing, fcntl.LOCK_EX)
    with subprocess.Popen(
        ["flock", site.root / "lake" / ".lock", "sh", "-c", "echo; read _"], stdin=-1, stdout=-1
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        now = json.loads(run("status", "--json").out)
        shown = run("status").out
        checked = [
            f
            for f in json.loads(run("check", "--no-engine", "--json").out)
            if f["subject"] == "lake" and f["verdict"] == "note"
        ]
        other.stdin.close()
    os.close(landing)
    assert (now["worker"]["running"], now["worker"]["pid"], now["lake"]["held_by"]) == (False, None, other.pid)
    assert f"process {other.pid} writes to it; the worker waits for its end" in shown
    assert [f"process {other.pid}," in f["says"] and "the worker waits" in f["says"] for f in checked] == [True]


def test_status_lists_data_files_that_no_trigger_names(run: Command, site: Site) -> None:
    landing = site.config.landing.path
    (landing / "monday").mkdir(parents=True)
    (landing / "trigger").mkdir()
    for name in ("orders_2026_03_04.csv", "orders_x.csv", "monday/orders_y.csv", ".hidden.csv", "orders_z.csv.part"):
        (landing / name).touch()
    site.batch(State.WAITING)
    assert json.loads(run("status", "--json").out)["unclaimed"] == ["monday/orders_y.csv", "orders_x.csv"]
    assert json.loads(run("status", "--json").out)["triggers"] == 0
    assert "2 data files that no trigger names" in run("status").out
    (landing / "trigger" / "x.json").touch()  # it may name them: a batch is made of it when the daemon runs
    assert "2 data files and 1 trigger for the next start of the daemon: monday" in run("status").out
    held = os.open(landing, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)  # as a running daemon does
    assert "2 data files and 1 trigger, not yet taken by the daemon: monday" in run("status").out
    os.close(held)


def test_status_names_the_reason_for_each_file_that_no_trigger_can_take(run: Command, site: Site) -> None:
    (site.config.landing.path / "trigger").mkdir(parents=True)
    for name in ("ORDERS_2026_03_04.CSV", "notes.txt", os.fsdecode(b"orders_\xff.csv")):
        (site.config.landing.path / name).touch()
    aside = {one["file"]: one["reason"] for one in json.loads(run("status", "--json").out)["set_aside"]}
    sentence = "matches no feed: only capitals differ: orders_*.csv; call the file so"
    assert aside["ORDERS_2026_03_04.CSV"].startswith(sentence)
    assert aside["orders_\\udcff.csv"] == "is not valid Unicode; rename the file"
    assert len(aside) == 2
    assert "set aside  ORDERS_2026_03_04.CSV matches no feed: only capitals differ" in run("status").out


def test_reading_verbs_suggest_no_verb_that_changes_anything(run: Command, site: Site, lake: PublishedLake) -> None:
    site.batch(State.FAILED, reason="it broke")
    lake.publish("retail", {DAILY: 1})
    lake.write(DAILY, [sale(3)])
    done = [
        run(*verb)
        for verb in (("check", "--no-engine"), ("status",), ("batches",), ("tables",), ("sql", f"FROM {DAILY}"))
    ]
    assert "another program's commit" in done[0].out
    for verb in ("run", "retry", "abandon", "adopt", "restore"):
        assert not [one for one in done if f"lakegate {verb}" in one.out + one.err]


# ---- a batch's story


def test_the_story_of_a_failure_has_at_most_twelve_lines(run: Command, site: Site) -> None:
    site.batch(State.ARCHIVED, batch_id="20260304T080000-000001", date=dt.date(2026, 3, 3))
    findings = [
        finding(f"rule_{n}", broken=n, severity=s)
        for n, s in ((1, "LOW"), (5, "HIGH"), (7, "HIGH"), (2, "MEDIUM"), (9, "LOW"))
    ]
    reason = "orders_2026_03_04.csv: column order_amount is missing (10 expected, 9 found)"
    site.batch(State.REJECTED, reason=reason, result=answer("x", *findings))
    lines = run("batches", "last").out.splitlines()
    assert len(lines) <= 12
    assert lines[0] == "REJECTED  retail 2026-03-04 · batch 20260305T080000-4f1c00 · attempt 1"
    by_label = {line.split()[0]: line for line in reversed(lines[1:])}
    assert by_label["cause"].endswith(reason)
    assert by_label["effect"].endswith("no table changed; gold shows 2026-03-03")
    assert "rejected/20260305T080000-4f1c00/" in by_label["files"]
    assert by_label["next"].endswith("correct what the cause names, deliver the 2 files and a new trigger")
    assert "7 of 100 break orders.rule_7 (HIGH REJECT)" in by_label["rules"]
    assert "and 2 more rules" in "".join(lines)


def test_the_story_of_a_published_batch_has_its_counts(run: Command, site: Site) -> None:
    result = answer("x", rows_read=10, rows_accepted=9, rows_rejected=1, score=97.5, validation_status="PASS")
    site.batch(State.ARCHIVED, result=result)
    out = run("batches", "last").out
    assert "  rows    10 read, 9 accepted, 1 rejected · score 97.50\n" in out
    assert "archive/retail/2026-03-04/20260305T080000-4f1c00/" in out


@pytest.mark.parametrize(
    ("state", "columns", "sentence"),
    [
        (State.FAILED, {}, "lakegate retry 20260305T080000-4f1c00"),
        (State.WAITING, {"waiting_for": ["a.csv", "b.csv"]}, "a.csv, b.csv"),
        (
            State.READY,
            {"attempts": 2, "next_attempt_at": "2026-03-05T08:10:00.000Z"},
            "attempt 3 begins at 2026-03-05 08:10:00Z",
        ),
    ],
)
def test_the_story_of_an_open_batch_names_the_cause_of_its_wait(
    run: Command, site: Site, state: State, columns: dict[str, Any], sentence: str
) -> None:
    site.batch(state, **columns)
    assert sentence in run("batches", "last").out


# ---- how quickly


READING = (
    ("--help",),
    ("check", "--no-engine", "--json"),
    ("status", "--json"),
    ("sql", f"FROM {DAILY}"),
)
# These load no more than the ones above.
OTHERS = (
    ("batches",),
    ("batches", "last"),
    ("tail", "--no-follow"),
    ("tables",),
    ("tables", DAILY),
    ("sources",),
    ("sources", "retail", "--json"),
    ("metrics",),
)


@pytest.mark.parametrize("arguments", [*READING, *(pytest.param(verb, marks=pytest.mark.long) for verb in OTHERS)])
def test_reading_verbs_take_less_than_half_a_second_of_work(
    site: Site, lake: PublishedLake, arguments: tuple[str, ...]
) -> None:
    site.batch(State.ARCHIVED)
    taken = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert started("--config", str(site.path), *arguments, LAKEGATE_SPARK__ENGINE="sail").code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # CPU time, not elapsed time: other processes of the machine must not change the result.
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if taken[-1] < 0.5:
            break
    assert min(taken) < 0.5


def test_every_error_with_an_exit_code_of_its_own_is_a_class_of_the_code() -> None:
    classes = {n.name for path in MODULES for n in nodes(path) if isinstance(n, ast.ClassDef)}
    assert set(EXIT_CODES) <= classes


def test_every_verb_has_a_help_text_and_takes_the_configuration() -> None:
    for name, command in lakegate.commands.items():
        assert command.help, name
        assert "config" in {p.name for p in command.params}, name

"""The first hour of a new user: the exact texts of the command, on terminals of 80 and 120 columns."""

import datetime as dt
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from factories_command import Site, answer
from factories_published import PublishedLake, sale
from terminal import ROOT, on_terminal

from daemon.batch import State
from daemon.cli.main import VERBS, first_sentence, lakegate, main
from pipeline.contract import RuleResult

pytestmark = pytest.mark.long  # with real processes and servers, they take seconds together

DAILY = "retail.gold.daily_sales"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def lake(site: Site) -> PublishedLake:
    made = PublishedLake(site.root / "lake")
    made.publish("retail", {DAILY: made.write(DAILY, [sale(2, "1117.20"), sale(1, "250.05")])})
    return made


def run(site: Site, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["--config", str(site.path), *arguments])
    done = capsys.readouterr()
    return code, done.out, done.err


# ---- the help


HELP = """\
Run:
  run         Watch the landing zone and process its batches
  demo        Run three days of an example shop in a new FOLDER

Look:
  status      {status}
  batches     List batches, newest first, or show one: cause, effect, next step
  quarantine  Show the rejected rows of a batch or source, or export them
  tail        Follow the log, one readable line for each event
  metrics     Print the metrics for Prometheus, as text
  tables      List the published tables, or show one
  sql         Query the published tables with SQL
  export      Write a published table to a file
  catalog     Print SQL that puts the tables into a catalog
  report      Write all pages as one HTML file, which needs no server
  ui          Serve the pages and the tables over HTTP, live and read-only
  why         Explain a figure of a gold table
  sources     Show the feeds, rules and tables of sources, or draft one

Mend:
  retry       Give a failed batch all its attempts again
  abandon     Give up a failed batch; its files go to the rejected ones
  dismiss     Take a rejected batch from the list of `status`
  adopt       Publish a table as it is, with the commits of other programs
  restore     Undo the commits of other programs to a table

Set up:
  init        Write a configuration and the folders of a new site
  check       Check the configuration, the machine, the engine, the sources
  service     Print or install the systemd unit
  completion  Print the script with which a shell completes the command
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_the_help_has_every_verb_by_its_use_in_one_whole_line(columns: int) -> None:
    lines = on_terminal(columns, "--help")
    expected = HELP.format(status=first_sentence(lakegate.commands["status"])).splitlines()
    assert lines[lines.index("Run:") :] == expected
    assert max(map(len, lines)) <= 80
    assert "..." not in "".join(lines).replace("[ARGS]...", "")


def test_a_suggestion_never_names_a_verb_that_changes_a_batch_or_a_table(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    end = "(see `lakegate --help`)\n"
    for verb in VERBS["Mend"]:
        mistyped = str(verb.name)[:-1]
        code, out, said = run(site, capsys, mistyped)
        assert (code, out) == (2, "")
        assert said in [
            f"lakegate: No such command {mistyped!r}. {hint}{end}" for hint in ("", "Did you mean 'report'? ")
        ]
    assert (
        run(site, capsys, "quarantin")[2] == f"lakegate: No such command 'quarantin'. Did you mean 'quarantine'? {end}"
    )


# ---- a new site


INIT = """\
config.toml is written, with landing/, landing/trigger/, archive/, rejected/, lake/, state/, logs/
next
  1  lakegate check
     says whether this machine can do what config.toml says
  2  lakegate sources new NAME --from FILE…
     drafts a source from samples of your files; three example sources ship
  3  lakegate run
     then copy files into landing/ and an empty file, such as day.done, into
     landing/trigger/
"""


def command(*arguments: str, folder: Path, umask: int = 0o022) -> tuple[int, str, str]:
    environment = {k: v for k, v in os.environ.items() if k != "LAKEGATE_CONFIG"} | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "daemon", *arguments]
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60, umask=umask
    )
    return done.returncode, done.stdout, done.stderr


def test_init_makes_a_site_and_says_the_next_three_steps(tmp_path: Path) -> None:
    assert command("init", folder=tmp_path, umask=0) == (0, "", INIT)
    folders = ["archive", "lake", "landing", "landing/trigger", "logs", "rejected", "state"]
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_dir()) == folders
    assert {oct((tmp_path / f).stat().st_mode)[-3:] for f in folders} == {"755"}
    code, out, _ = command("check", "--no-engine", folder=tmp_path)
    assert (code, "bad" in out) == (0, False)


def test_init_never_changes_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[log]\n")
    sentence = f"{tmp_path}/config.toml exists already, and nothing was changed; edit it, or name another folder\n"
    assert command("init", folder=tmp_path) == (2, "", sentence)
    assert [p.name for p in tmp_path.iterdir()] == ["config.toml"]


def test_init_takes_a_folder_and_an_engine(tmp_path: Path) -> None:
    code, _, err = command("init", "sites/shop", "--engine", "sail", folder=tmp_path)
    assert (code, err.splitlines()[2]) == (0, "  1  lakegate --config sites/shop/config.toml check")
    path = tmp_path / "sites" / "shop" / "config.toml"
    changed = set(path.read_text().splitlines()) ^ set((ROOT / "config.toml").read_text().splitlines())
    assert changed == {'engine = "sail"', 'engine = "spark"'}


def test_without_a_configuration_init_is_named(tmp_path: Path) -> None:
    ways = "`lakegate init` writes one, --config PATH or LAKEGATE_CONFIG name another, and `lakegate demo` needs none"
    assert command("run", folder=tmp_path) == (78, "", f"{tmp_path}/config.toml: there is no such file; {ways}\n")


# ---- batches


def batches(site: Site) -> None:
    result = answer("x", rows_read=670650, rows_accepted=664075, rows_rejected=6575, score=96.59123)
    site.batch(State.ARCHIVED, result=result)
    reason = "orders_2026_03_04.csv: column order_amount is missing (10 expected, 9 found); " + 29 * "word "
    site.batch(State.REJECTED, batch_id="20260306T090000-abc000", reason=reason)
    site.batch(State.WAITING, batch_id="20260306T100000-def000", waiting_for=["orders_2026_03_04.csv"])


LIST = """\
BATCH   SOURCE  DATE        STATE     ROWS     REJ    SCORE  RECEIVED UTC
def000  retail  2026-03-04  WAITING                          2026-03-05 08:00
abc000  retail  2026-03-04  REJECTED                         2026-03-05 08:00
{reason}
4f1c00  retail  2026-03-04  ARCHIVED  670,650  6,575  96.59  2026-03-05 08:00
"""
NARROW = """\
    orders_2026_03_04.csv: column order_amount is missing (10 expected, 9
    found); word word word word word word word word word word word word word …"""
WIDE = """\
    orders_2026_03_04.csv: column order_amount is missing (10 expected, 9 found); word word word word word word word
    word word word word word word word word word word word word word word word word word word word word word word"""


@pytest.mark.parametrize(("columns", "reason"), [(80, NARROW), (120, WIDE)])
def test_the_list_of_batches_shows_each_reason_below_its_line(site: Site, columns: int, reason: str) -> None:
    batches(site)
    lines = on_terminal(columns, "--config", str(site.path), "batches")
    expected = LIST.format(reason=reason).splitlines()
    assert [" ".join(line.split()) for line in lines] == [" ".join(line.split()) for line in expected]
    assert max(map(len, lines)) <= columns


def test_a_date_lists_the_batches_of_this_batch_date(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.batch(State.ARCHIVED)
    site.batch(State.ARCHIVED, batch_id="20260305T090000-abc000", date=dt.date(2026, 3, 5))
    lines = run(site, capsys, "batches", "2026-03-04")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["BATCH", "4f1c00"]
    assert run(site, capsys, "batches", "2026-03-06") == (0, "", "no batch of 2026-03-06\n")


def test_a_file_without_a_source_is_named_by_its_trigger(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = site.ledger()
    ledger.receive("20260305T080000-000001", trigger="a.json", files=[], source="")
    ledger.move("20260305T080000-000001", State.REJECTED, "batch.rejected", "it is no JSON")
    ledger.close()
    assert run(site, capsys, "batches")[1].splitlines()[2] == "    a.json: it is no JSON"


def test_a_batch_without_files_can_be_dismissed(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = site.ledger()
    ledger.refuse("20260305T080000-000001", trigger="a.done", files=[], reason="a.done: no data file")
    ledger.close()
    step = (
        "see to the cause, then deliver the files with a new trigger; or `lakegate dismiss 000001`, if none is to come"
    )
    assert f"  next    {step}\n" in run(site, capsys, "batches", "last")[1]


def test_the_sentence_about_high_rules_counts_also_those_that_need_a_decision(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = (rule("rows_come_once", 1, 19, "WARN"), rule("order_has_shipping", 15, 19, "WARN"))
    findings = [{**asdict(rules[0]), "advice": "decide"}, asdict(rules[1])]
    result = {"rows_read": 19, "rows_accepted": 19, "rows_rejected": 0, "findings": findings}
    site.batch(State.ARCHIVED, result=result)
    shown = run(site, capsys, "batches", "last")[1]
    assert "published, with 2 HIGH rules broken by accepted rows: " in shown
    assert "action  1 of 19 break orders.rows_come_once (HIGH WARN)" in shown


def rule(name: str, broken: int, checked: int, action: str) -> RuleResult:
    return RuleResult(feed="orders", rule=name, severity="HIGH", action=action, checked=checked, broken=broken)


STORY = """\
ARCHIVED  retail 2026-03-04 · batch 20260305T080000-4f1c00 · attempt 1
  trigger trigger_4.json, received 2026-03-05 08:00:01Z
  rows    36 read, 31 accepted, 5 rejected · score 96.59
  files   2 files, 3.0 kB: orders_2026_03_04.csv, customers_2026_03_04.csv · {folder}
  rules   published, with 2 HIGH rules broken by accepted rows: order_has_shipping (15 of 19), order_has_stock (2 of 19)
  rules   5 of 24 break orders.amount_is_positive (HIGH REJECT)
  history received 2026-03-05 08:00:02 · ready 08:00:03 · started 08:00:04 · published 08:00:05 · archived 08:00:06 UTC
  look    lakegate quarantine 4f1c00 (5 rows)
"""


def test_the_story_of_a_published_batch_has_one_label_for_one_meaning(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = (
        rule("order_has_shipping", 15, 19, "WARN"),
        rule("amount_is_positive", 5, 24, "REJECT"),
        rule("order_has_stock", 2, 19, "WARN"),
    )
    counts: dict[str, Any] = {"rows_read": 36, "rows_accepted": 31, "rows_rejected": 5, "score": 96.59123}
    site.batch(State.ARCHIVED, result=answer("x", *rules, **counts, validation_status="FAIL"))
    folder = "archive/retail/2026-03-04/20260305T080000-4f1c00/"
    assert run(site, capsys, "batches", "4f1c00") == (0, STORY.format(folder=folder), "")


MISSING = """\
REJECTED  retail 2026-03-04 · batch 20260305T080000-4f1c00 · attempt 1
  trigger trigger_4.json, received 2026-03-05 08:00:01Z
  cause   1 of 2 files did not come within 3 seconds: customers_2026_03_04.csv; land a new trigger
  effect  no table changed; gold is empty
  files   1 of 2 files came · rejected/20260305T080000-4f1c00/ (reason.json has more)
  next    deliver the missing file and a new trigger
  history received 2026-03-05 08:00:02 · ready 08:00:03 · started 08:00:04 · rejected 08:00:05 UTC
"""


def test_the_story_of_a_batch_of_missing_files_counts_those_that_came(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "1 of 2 files did not come within 3 seconds: customers_2026_03_04.csv; land a new trigger"
    site.batch(State.REJECTED, reason=reason, waiting_for=["customers_2026_03_04.csv"])
    assert run(site, capsys, "batches", "last") == (0, MISSING, "")


# ---- the log


def test_tail_without_a_log_says_who_writes_it(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    path = site.root / "logs" / "lakegate.jsonl"
    sentence = f"no log yet at {path}; the daemon writes it: lakegate run\n"
    assert run(site, capsys, "tail", "--no-follow") == (0, "", sentence)


# ---- tables and SQL


TABLE = """\
COLUMN      TYPE
order_date  DATE
revenue     DECIMAL(12,2)
orders      BIGINT

order_date  revenue  orders
2026-03-01   250.05       1
2026-03-02  1117.20       1
"""


def test_a_table_is_in_the_order_of_its_grain_with_as_many_decimals_as_it_needs(
    site: Site, lake: PublishedLake, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "SELECT order_date, revenue, orders FROM daily_sales ORDER BY 1"
    assert run(site, capsys, "sql", query)[1] == TABLE.partition("\n\n")[2]
    lines = run(site, capsys, "tables", "daily_sales")[1].splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["2026-03-01", "2026-03-02"]
    one = "SELECT revenue FROM daily_sales WHERE order_date = '2026-03-02'"
    assert run(site, capsys, "sql", one)[1] == "revenue\n 1117.2\n"
    assert run(site, capsys, "sql", one, "--json")[1] == '[{"revenue": 1117.20}]\n'


def test_the_tables_of_a_schema_are_listed(site: Site, lake: PublishedLake, capsys: pytest.CaptureFixture[str]) -> None:
    lake.publish("crm", {"crm.gold.customers": lake.create("crm.gold.customers")})
    for below in ("retail", "retail.gold"):
        names = [line.split()[0] for line in run(site, capsys, "tables", below)[1].splitlines()]
        assert names == ["TABLE", DAILY]
    assert run(site, capsys, "sql", "SHOW TABLES")[1].split() == ["name", "crm.gold.customers", "ops.batches", DAILY]


def test_tables_of_a_source_without_a_published_batch_are_one_line(
    site: Site, lake: PublishedLake, capsys: pytest.CaptureFixture[str]
) -> None:
    lake.publish("crm", {f"crm.gold.{n}": lake.create(f"crm.gold.{n}") for n in ("a", "b")})
    code, out, err = run(site, capsys, "tables")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["TABLE", "ops.batches", DAILY])
    assert err == "crm: 2 tables, all empty: no batch of it is published yet\n"


def test_a_table_of_another_source_is_not_in_a_batch(
    site: Site, lake: PublishedLake, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = site.batch(State.ARCHIVED, batch_id="20260305T080000-abc000")
    lake.publish("crm", {"crm.gold.a": lake.create("crm.gold.a")}, batch_id=batch.batch_id)
    sentence = f"no table {DAILY} in batch {batch.batch_id}, which is of crm; name a batch of retail\n"
    assert run(site, capsys, "tables", DAILY, "--batch", "last") == (4, "", sentence)


# ---- commits of other programs


def test_a_decision_about_a_table_names_each_foreign_commit(
    site: Site, lake: PublishedLake, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = f"{DAILY}: its newest version 0 is published, so nothing changes\n"
    unchanged = "dry run: nothing was changed\n"
    assert run(site, capsys, "restore", DAILY, "--dry-run") == (0, "", nothing + unchanged)
    lake.write(DAILY, [sale(3), sale(4)])
    DeltaTable(lake.folder(DAILY)).delete("revenue > 1000")
    ends = {
        "restore": "it goes back to its published version; these commits stay in its history",
        "adopt": "it is published as it is now, with these commits",
    }
    for verb, end in ends.items():
        code, out, err = run(site, capsys, verb, DAILY, "--dry-run")
        head, write, delete, effect, _ = err.splitlines()
        assert (code, out, effect) == (0, "", end)
        assert head == f"{DAILY} has 2 commits after its published version 0:"
        for line, version, operation, rows in ((write, 1, "WRITE", "+2 rows"), (delete, 2, "DELETE", "-1 row")):
            first, at, rest = line[:11], line[13:33], line[35:]
            assert (first, rest[: len(operation) + 4], rest.endswith(f"  {rows}")) == (
                f"  version {version}",
                f"{operation} by ",
                True,
            )
            assert abs(dt.datetime.fromisoformat(at) - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


# ---- shells


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(site: Site, capsys: pytest.CaptureFixture[str], shell: str) -> None:
    code, out, _ = run(site, capsys, "completion", shell)
    assert (code, f"_LAKEGATE_COMPLETE={shell}_complete" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("qua", ["quarantine"]),
        ("batches 4", ["4f1c00"]),
        ("retry la", ["last"]),
        ("tables retail.g", [DAILY]),
        ("export re", [DAILY]),
        ("sources re", ["retail"]),
        ("export x --to p", ["parquet"]),
        ("--config nowhere.toml batches 4", []),
    ],
)
def test_a_shell_completes_verbs_ids_tables_and_sources(
    site: Site, lake: PublishedLake, words: str, expected: list[str]
) -> None:
    site.batch(State.FAILED)
    given = f"lakegate {words}"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LAKEGATE_CONFIG": str(site.path),
        "_LAKEGATE_COMPLETE": "bash_complete",
        "COMP_WORDS": given,
        "COMP_CWORD": str(given.count(" ")),
    }
    done = subprocess.run(
        [sys.executable, "-m", "daemon"], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout.split(), done.stderr) == ([f"plain,{word}" for word in expected], "")

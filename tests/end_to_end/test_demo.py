"""The demo as a user runs it, and the documented ways to read tables, on the lake that the demo leaves."""

import fcntl
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, PAGES, Block, blocks

from pipeline import reader

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "landing_zone_example"
READ_TABLES = DOCS / "how-to" / "read-tables.md"
LAKEGATE = str(Path(sys.executable).parent / "lakegate")

pytestmark = pytest.mark.sail


@dataclass(frozen=True, kw_only=True)
class Demo:
    site: Path
    done: subprocess.CompletedProcess[str]

    def json(self, *arguments: str) -> Any:
        return json.loads(
            run(LAKEGATE, "--config", str(self.site / "config.toml"), *arguments, "--json", cwd=self.site).stdout
        )

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Returns the rows that `lakegate sql` shows, without a process for each query."""
        answer = reader.sql(reader.published(self.site / "lake"), query)
        return [dict(zip((c.name for c in answer.columns), row, strict=True)) for row in answer.rows]


def run(*command: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    modules = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    environment = {
        **os.environ,
        "PYTHONPATH": modules,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Demo:
    """The site of one demo, which all processes of the tests share: no test changes its lake."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "demo"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = folder / "done.json"
        if not kept.exists():
            made = run(LAKEGATE, "demo", "site", "--engine", "sail", cwd=folder, check=False)
            kept.write_text(json.dumps(vars(made)))
    return Demo(site=folder / "site", done=subprocess.CompletedProcess(**json.loads(kept.read_text())))


def python_blocks() -> list[Block]:
    return blocks(READ_TABLES, "python")


def documented_rejects() -> Counter[tuple[str, str]]:
    rows = re.findall(
        r"^\| `(\w+\.csv)` \| .*? \| .*? \| `([\w:]+)` \|$", (EXAMPLE / "README.md").read_text(), re.MULTILINE
    )
    return Counter(rows)


def test_the_statements_for_a_catalog_make_a_view_of_every_gold_table(demo: Demo) -> None:
    command = (LAKEGATE, "--config", str(demo.site / "config.toml"), "catalog", "retail.gold", "--catalog", "main")
    lines = run(*command, cwd=demo.site).stdout.splitlines()
    views = [line.partition(" (")[0].rpartition(" ")[2] for line in lines if line.startswith("CREATE OR REPLACE VIEW")]
    tables = [t["name"].split(".") for t in demo.json("tables") if t["name"].startswith("retail.gold.")]
    assert views == [f"`main`.`retail_gold`.`{name}`" for _, _, name in tables]
    assert all(line.endswith(";") for line in lines)


def test_the_demo_ends_well_and_prints_no_control_characters_into_a_pipe(demo: Demo) -> None:
    assert demo.done.returncode == 0, demo.done.stdout[-3000:] + demo.done.stderr[-3000:]
    assert demo.done.stdout.isprintable() or set(demo.done.stdout) & set(map(chr, range(32))) == {"\n"}
    assert demo.done.stderr == ""


def test_every_batch_ends_as_in_the_example(demo: Demo) -> None:
    ends = {b["trigger"]: (b["state"], b["reason"].split(" of ")[0]) for b in demo.json("batches")}
    published = ("ARCHIVED", "")
    assert ends == {
        "trigger_2026_03_02.json": published,
        "day_2026_03_03.done": published,
        "trigger_inventory_2026_03_03.json": published,
        "trigger_2026_03_04.json": ("REJECTED", "1"),
        "trigger_inventory_2026_03_03_sent_again.json": ("ARCHIVED", "duplicate"),
        "trigger_2026_03_04_without_shipping.json": published,
        "trigger_office_2026_03_04.json": published,
        "trigger_visitors_2026_03_04.json": published,
    }


def test_exactly_the_rows_that_the_example_names_are_rejected_and_for_its_reasons(demo: Demo) -> None:
    rejected = demo.sql("SELECT source_file, reasons FROM ops.quarantine")
    assert Counter((r["source_file"], ",".join(r["reasons"])) for r in rejected) == documented_rejects()
    assert sum(documented_rejects().values()) == 24


def test_the_demo_shows_the_figures_that_the_lake_holds(demo: Demo) -> None:
    last = demo.sql(
        "SELECT total_orders, total_revenue FROM retail.gold.analytics_summary ORDER BY total_orders DESC LIMIT 1"
    )[0]
    assert (last["total_orders"], Decimal(str(last["total_revenue"]))) == (42, Decimal("3209.2"))
    assert "3,209.20" in demo.done.stdout


def test_the_demo_ends_with_the_path_of_its_report(demo: Demo) -> None:
    assert "report.html" in demo.done.stdout[demo.done.stdout.index("Open it in a browser") :]
    text = re.sub(r"<[^>]+>", " ", (demo.site / "report.html").read_text())
    (newest,) = demo.sql("SELECT max_by(total_revenue, total_orders) AS revenue FROM retail.gold.analytics_summary")
    assert f"{newest['revenue']:,.1f}" in text
    assert "shipping_2026_03_04.csv; those that came are still in the landing folder" in text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "SELECT order_status AS a FROM retail.silver.orders WHERE order_id = 'O-1001' ORDER BY effective_from",
            ["pending", "confirmed", "shipped"],
        ),
        (
            "SELECT order_status AS a FROM retail.silver.orders WHERE order_id = 'O-1002' ORDER BY effective_from",
            ["confirmed", "shipped", "delivered"],
        ),
        ("SELECT count(*) AS a FROM retail.silver.customers WHERE customer_id = 'C-101'", [1]),
        (
            "SELECT city AS a FROM retail.silver.customers WHERE customer_id = 'C-103' ORDER BY effective_from",
            ["Port Amber", "Saltmere"],
        ),
        ("SELECT DISTINCT city AS a FROM retail.silver.enriched_orders WHERE order_id = 'O-1003'", ["Saltmere"]),
        (
            "SELECT DISTINCT price AS a FROM retail.silver.enriched_orders WHERE product_id = 'LAN-01' ORDER BY a",
            [89, 94],
        ),
        ("SELECT shipment_count AS a FROM retail.silver.enriched_orders WHERE order_id = 'O-1028'", [2]),
        ("SELECT marital_status AS a FROM crm_erp.gold.dim_customer WHERE customer_id = 502", ["Married"]),
        ("SELECT gender AS a FROM crm_erp.gold.dim_customer WHERE customer_id = 503", ["Female"]),
        ("SELECT age_group AS a FROM crm_erp.gold.dim_customer WHERE customer_id = 504", ["n/a"]),
        (
            (
                "SELECT start_date::VARCHAR AS a FROM crm_erp.gold.cost_history"
                " WHERE product_number = 'STORM-1' ORDER BY a"
            ),
            ["2025-01-01", "2026-01-01"],
        ),
        (
            (
                "SELECT sales_amount AS a FROM crm_erp.gold.fact_sales"
                " WHERE order_number IN ('W-2', 'W-5') AND cost = 0 ORDER BY a"
            ),
            [32, 96],
        ),
        (
            "SELECT order_number AS a FROM crm_erp.gold.fact_sales WHERE product_match = 'earliest_version' ORDER BY a",
            ["W-3", "W-4"],
        ),
        ("SELECT revenue AS a FROM crm_erp.gold.revenue_by_country WHERE country IS NULL", [94]),
        (
            (
                "SELECT price AS a FROM clickstream.silver.enriched_events"
                " WHERE itemid = 1 AND event = 'view' ORDER BY event_time"
            ),
            [89, 94, 94],
        ),
        ("SELECT count(*) AS a FROM clickstream.gold.fact_sales WHERE transactionid = 501", [1]),
        ("SELECT count(price) + count(category_id) AS a FROM clickstream.silver.enriched_events WHERE itemid = 6", [0]),
        ("SELECT price AS a FROM clickstream.gold.fact_sales WHERE itemid = 3", [None]),
        (
            (
                "SELECT root AS a FROM clickstream.silver.categories"
                " WHERE categoryid IN (111, 310, 900) ORDER BY categoryid"
            ),
            [100, 310, None],
        ),
        (
            "SELECT description AS a FROM retail.silver.products WHERE product_id = 'KIT-02' LIMIT 1",
            ["Slow, dignified,\nhard to land"],
        ),
    ],
)
def test_rows_of_interest_are_as_in_the_example(demo: Demo, query: str, expected: list[Any]) -> None:
    assert [r["a"] for r in demo.sql(query)] == expected


@pytest.mark.parametrize(("word", "action"), [("warning", "WARN"), ("repair", "REPAIR")])
def test_the_warnings_and_repairs_that_the_example_names_were_counted(demo: Demo, word: str, action: str) -> None:
    named = set(re.findall(rf"a {word}[^:`|]*: `(\w+)`", (EXAMPLE / "README.md").read_text()))
    counted = {
        r["rule"]
        for r in demo.sql(f"SELECT DISTINCT rule FROM ops.validation_results WHERE action = '{action}' AND broken > 0")
    }
    assert named
    assert named <= counted


def test_a_folder_that_holds_something_is_left_alone(demo: Demo) -> None:
    refused = run(LAKEGATE, "demo", str(demo.site), cwd=demo.site, check=False)
    assert (refused.returncode, "is not empty" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    "block", [b for b in python_blocks() if "spark.read" not in b.text], ids=lambda block: block.text.split()[1]
)
def test_the_documented_python_runs_as_it_stands(demo: Demo, block: Block) -> None:
    if "polars" in block.text:
        pytest.importorskip("polars")
    for _ in range(5):
        done = run(sys.executable, "-c", block.text, cwd=demo.site, check=False)
        # On a busy machine the threads of Arrow's reader now and then outlive the interpreter, after all is printed.
        if "terminate called without an active exception" not in done.stderr:
            break
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout or (demo.site / "daily_sales.csv").read_text(encoding="utf-8-sig").count("\n") > 2


def test_the_documented_spark_runs_as_it_stands(demo: Demo) -> None:
    (block,) = (b for b in python_blocks() if "spark.read" in b.text)
    session = (
        "from pipeline import contract\nfrom pipeline.engine.session import open_session\n"
        'spark = open_session(contract.Settings(lake_path="lake", engine="sail")).spark\n'
    )
    assert "Lanterns" in run(sys.executable, "-c", session + block.text, cwd=demo.site).stdout


def test_the_documented_reading_commands_run_as_they_stand(demo: Demo) -> None:
    shown = [
        line
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.text.splitlines()
        if line.startswith("lakegate ")
    ]
    commands = {tuple(shlex.split(line, comments=True)) for line in shown}
    reading = [c for c in commands if c[1] in {"tables", "sql", "status", "batches"} and "ID" not in c]
    assert len(reading) >= 5
    for command in reading:
        assert run(*command, cwd=demo.site).stdout


def test_the_readme_shows_what_the_demo_prints(demo: Demo) -> None:
    (shown,) = (b for b in blocks(PROJECT / "README.md", "text") if "The shop, batch by batch" in b.text)
    printed = [" ".join(re.sub(r"^  [0-9a-f]{6}  ", "", line).split()) for line in demo.done.stdout.splitlines()]
    for line in shown.text.splitlines():
        words = " ".join(re.sub(r"^  [0-9a-f]{6}  ", "", line).split()).removesuffix(" …").rstrip(",")
        assert any(one.startswith(words) for one in printed), line

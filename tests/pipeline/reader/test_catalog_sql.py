"""The SQL for catalogs: a real Spark takes it, and its views show the published versions and no internal column."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from factories_published import PublishedLake, sale

from pipeline import reader
from pipeline.reader.catalog_sql import catalog_statements

SALES = "shop.gold.daily_sales"
DESCRIBED = {
    SALES: {
        "description": "Sales by day; it's the shop's own",
        "columns": [{"name": "revenue", "description": r"Net, in \ EUR"}],
    }
}
RUNS = """
import json, sys
from pipeline.contract import Settings
from pipeline.engine.session import open_session
root, *batches = sys.argv[1:]
session = open_session(Settings(lake_path=root, engine="spark", master="local[1]", driver_memory="512m"))
shown = []
for statements in map(json.loads, batches):
    for statement in statements + statements:
        session.spark.sql(statement)
    shown.append([list(map(str, row)) for row in session.spark.table("shop_gold.daily_sales").collect()])
columns = session.spark.sql("DESCRIBE TABLE shop_gold.daily_sales").collect()
about = session.spark.sql("DESCRIBE TABLE EXTENDED shop_gold.daily_sales").collect()
comment = [row.data_type for row in about if row.col_name == "Comment"]
print(json.dumps([shown, {column.col_name: column.comment for column in columns}, comment]))
session.stop()
"""


@pytest.fixture
def lake(tmp_path: Path) -> PublishedLake:
    return PublishedLake(tmp_path / "a lake's folder")


def commits(lake: PublishedLake) -> list[Path]:
    return sorted(lake.path.rglob("_delta_log/*"))


def statements(lake: PublishedLake, catalog: str = "") -> list[str]:
    return list(catalog_statements(reader.published(lake.path), [SALES], DESCRIBED, catalog))


def test_a_catalog_of_unity_stands_before_each_schema(lake: PublishedLake) -> None:
    lake.create(SALES)
    lake.publish("shop", {SALES: 0})
    created = [s.partition(" (")[0].partition(" USING")[0] for s in statements(lake, "main")]
    assert created == [
        "CREATE SCHEMA IF NOT EXISTS `main`.`shop_gold`",
        "CREATE SCHEMA IF NOT EXISTS `main`.`shop_gold_tables`",
        "CREATE TABLE IF NOT EXISTS `main`.`shop_gold_tables`.`daily_sales`",
        "CREATE OR REPLACE VIEW `main`.`shop_gold`.`daily_sales`",
    ]


@pytest.mark.spark
def test_spark_shows_the_published_versions_after_every_batch(lake: PublishedLake) -> None:
    lake.create(SALES)
    lake.publish("shop", {SALES: lake.write(SALES, [sale(1)])})
    lake.write(SALES, [sale(2, "9.00")])  # of a batch that still runs
    first = statements(lake)
    lake.publish("shop", {SALES: lake.write(SALES, [sale(3)])})
    second = statements(lake)
    commits_before = commits(lake)
    arguments = [str(lake.path.parent / "work"), json.dumps(first), json.dumps(second)]
    done = subprocess.run([sys.executable, "-c", RUNS, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    shown, comments, about = json.loads(done.stdout.splitlines()[-1])
    assert [len(rows) for rows in shown] == [1, 3]
    assert commits(lake) == commits_before  # a catalog only reads
    assert shown[0][0][:2] == ["2026-03-01", "1.50"]
    assert comments["revenue"] == r"Net, in \ EUR"
    assert about == ["Sales by day; it's the shop's own"]

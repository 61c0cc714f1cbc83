"""The records of sources have what the pages and other programs show of a table."""

from typing import Any

import pytest

from pipeline.contract import Settings
from pipeline.reader.describe import describe_sources, describe_table
from pipeline.sources.registry import SOURCES
from pipeline.stages.batch_record import tables as tables_of

SETTINGS = Settings(lake_path="lake", sources={"retail": {"currency": "EUR"}})


@pytest.fixture(scope="module")
def records() -> dict[str, dict[str, Any]]:
    return {t["name"]: t for source in describe_sources(SETTINGS) for t in source["tables"]}


def test_every_table_of_the_lake_is_described_with_its_columns(records: dict[str, dict[str, Any]]) -> None:
    assert set(records) == {name for source in SOURCES for name in tables_of(source)}
    assert all(t["columns"] for t in records.values())


def test_a_gold_table_has_the_sql_the_description_and_the_unit_of_its_columns() -> None:
    table = describe_table(SETTINGS, "retail.gold.daily_sales")
    columns = {c["name"]: c for c in table["columns"]}
    assert columns["revenue"] == {
        "name": "revenue",
        "type": "DECIMAL(30,6)",
        "description": "Sum of the order amounts.",
        "sql": "sum(order_amount)",
        "unit": "EUR",
    }
    assert (table["kind"], table["headline"], table["grain"]) == ("aggregate", ["revenue", "orders"], ["order_date"])


def test_joins_name_their_tables_and_columns(records: dict[str, dict[str, Any]]) -> None:
    joins = {j["table"]: (j["kind"], j["on"]) for j in records["retail.silver.enriched_orders"]["joins"]}
    assert joins["retail.silver.customers"] == ("point_in_time", ["customer_id"])
    assert joins["retail.silver.shipping"] == ("latest", ["order_id"])
    (category,) = (j for j in records["clickstream.silver.enriched_events"]["joins"] if j["kind"] == "hierarchy")
    assert category["on"] == ["category_id"]
    (dimension,) = records["retail.gold.customer_analytics"]["joins"]
    assert dimension["table"] == "retail.silver.customers"


def test_an_unknown_table_has_an_empty_record() -> None:
    assert describe_table(SETTINGS, "retail.gold.unknown") == {}

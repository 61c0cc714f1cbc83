"""The lineage of every declaration: all columns, all tables, a way from each column to the files, and no guess."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from factories_source import kiosk
from factories_source_club import CLUB, DESK, TILL

from pipeline.lineage import ROWS, Edge, Effect, Kind, Layer, Lineage, Origin, lineage
from pipeline.model import Source
from pipeline.sources.external import load
from pipeline.sources.registry import SOURCES
from pipeline.stages.batch_record import tables as tables_of

PROJECT = Path(__file__).parents[3]
RETAIL, CRM_ERP, CLICKSTREAM = SOURCES
EVERY = (*SOURCES, CLUB, DESK, TILL)

# The columns of silver and gold that no column leads to, with the reason.
COUNT_ROWS = "it is the number of rows"
OF_BATCH = "it is the batch's own"
WITHOUT_COLUMN = {
    "retail.silver.enriched_orders.warehouse_count": COUNT_ROWS,
    "retail.silver.enriched_orders.shipment_count": COUNT_ROWS,
    "retail.gold.analytics_summary.batch_id": OF_BATCH,
    "retail.gold.analytics_summary.report_date": OF_BATCH,
    "retail.gold.analytics_summary._batch_seq": OF_BATCH,
    "retail.gold.analytics_summary.total_orders": COUNT_ROWS,
    "retail.gold.customer_analytics.total_orders": COUNT_ROWS,
    "retail.gold.product_analytics.total_orders": COUNT_ROWS,
    "retail.gold.segment_analysis.customers": COUNT_ROWS,
    "retail.gold.seasonal_analysis.orders": COUNT_ROWS,
    "retail.gold.category_analysis.orders": COUNT_ROWS,
    "retail.gold.daily_sales.orders": COUNT_ROWS,
    "retail.gold.delivery_performance.shipments": COUNT_ROWS,
    "clickstream.gold.daily_sales_by_category.items_sold": COUNT_ROWS,
    "till.gold.takings.items": COUNT_ROWS,
    "kiosk.gold.by_stall.receipts": COUNT_ROWS,
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, ...]:
    return (*EVERY, load(kiosk(tmp_path_factory.mktemp("sources"))))


def into(graph: Lineage, column: str) -> set[str]:
    """Returns the upstream columns of a column, both by their full names."""
    table, _, name = column.rpartition(".")
    return {f"{e.from_table}.{e.from_column}" for e in graph.edges_into(table, name)}


def edge(graph: Lineage, column: str) -> Edge:
    table, _, name = column.rpartition(".")
    (only,) = graph.edges_into(table, name)
    return only


# ---- all declarations


def test_the_tables_have_the_columns_of_the_lake(sources: tuple[Source, ...]) -> None:
    for source in sources:
        found = {t.name: [c.name for c in t.columns] for t in lineage(source).tables if t.layer is not Layer.FILES}
        declared = {
            name: columns.names if isinstance(columns, pa.Schema) else [c.name for c in columns]
            for name, columns in tables_of(source).items()
        }
        assert found == declared


def test_each_column_leads_back_to_a_file(sources: tuple[Source, ...]) -> None:
    unreached = {}
    for source in sources:
        graph = lineage(source)
        files = {t.name for t in graph.tables if t.layer is Layer.FILES}
        for table in graph.tables:
            for column in table.columns if table.layer in (Layer.SILVER, Layer.GOLD) else ():
                steps = graph.path_to(table.name, column.name)
                by_columns = [e for e in graph.edges_into(table.name, column.name) if e.from_column != ROWS]
                ends_in_batch = {e.from_column for e in steps} & {"_batch_date", "_revision", "_deleted"}
                if not by_columns or not ({e.from_table for e in steps} & files or ends_in_batch):
                    unreached[f"{table.name}.{column.name}"] = column.origin
    counted = {name for name in unreached if name.endswith("._rows")}
    assert set(unreached) - counted == set(WITHOUT_COLUMN)
    assert {n for n, origin in unreached.items() if origin is Origin.BATCH} == {
        n for n, why in WITHOUT_COLUMN.items() if why == OF_BATCH
    }


def test_every_step_is_certain_and_names_columns_that_are_there(sources: tuple[Source, ...]) -> None:
    for source in sources:
        graph = lineage(source)
        names = {(t.name, c.name) for t in graph.tables for c in t.columns} | {(t.name, ROWS) for t in graph.tables}
        assert [e for e in graph.edges if not e.is_certain] == []
        assert [e for e in graph.edges if not {(e.from_table, e.from_column), (e.to_table, e.to_column)} <= names] == []


def test_each_table_comes_after_its_upstream_tables(sources: tuple[Source, ...]) -> None:
    for source in sources:
        graph = lineage(source)
        order = [t.name for t in graph.tables]
        assert all(order.index(e.from_table) < order.index(e.to_table) for e in graph.edges)
        assert all(graph.upstreams(t.name) for t in graph.tables if t.layer is not Layer.FILES)
        assert {t.layer for t in graph.tables} >= {Layer.FILES, Layer.BRONZE, Layer.SILVER}


def test_the_lineage_of_the_largest_source_loads_no_engine_and_is_quick() -> None:
    heavy = "pyspark", "pysail", "deltalake", "pyarrow", "duckdb", "numpy", "pandas"
    code = (
        "import sys, time; from pipeline.sources.registry import SOURCES; began = time.process_time();"
        "from pipeline.lineage import lineage; lineage(SOURCES[0]); seconds = time.process_time() - began;"
        f"assert not [m for m in {heavy} if m in sys.modules]; print(seconds)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.6  # with the import of sqlglot


# ---- the meaning of an edge


def test_a_figure_of_gold_leads_through_the_join_to_the_files() -> None:
    graph = lineage(RETAIL)
    assert into(graph, "retail.gold.daily_sales.revenue") == {"retail.silver.enriched_orders.order_amount"}
    step = edge(graph, "retail.gold.daily_sales.revenue")
    assert (step.effect, step.sql) == (Effect.AGGREGATE, "sum(order_amount)")
    path = graph.path_to("retail.gold.daily_sales", "revenue")
    assert [f"{e.from_table}.{e.from_column}" for e in path] == [
        "retail.silver.enriched_orders.order_amount",
        "retail.silver.orders.order_amount",
        "retail.bronze.orders.order_amount",
        "retail.files.orders.order_amount",
    ]


def test_a_column_of_the_function_leads_to_the_columns_of_the_sums_in_it() -> None:
    graph = lineage(RETAIL)
    assert into(graph, "retail.gold.analytics_summary.revenue_per_customer") == {
        "retail.silver.enriched_orders.order_amount",
        "retail.silver.enriched_orders.customer_id",
    }
    column = graph.table("retail.gold.analytics_summary").column("revenue_per_customer")
    assert column.sql.startswith("CAST(CAST(total_revenue AS DECIMAL(30,6)) / nullif(CAST(unique_customers")


def test_columns_of_an_earlier_step_are_written_out_where_the_table_lacks_them() -> None:
    graph = lineage(CLICKSTREAM)
    spend = graph.table("clickstream.gold.visitor_purchases").column("spend")
    assert spend.sql == "sum(sum(coalesce(price, 0)))"
    segment = graph.table("clickstream.gold.visitor_segments").column("segment")
    assert "(rank() OVER (ORDER BY spend DESC)) <= 500" in segment.sql


def test_both_parts_of_a_union_lead_to_a_column() -> None:
    graph = lineage(RETAIL)
    assert into(graph, "retail.gold.inventory_movements.movement_date") == {
        "retail.silver.inventory.effective_from",
        "retail.silver.inventory.effective_to",
    }


def test_a_dimension_gives_its_columns_and_joins() -> None:
    graph = lineage(RETAIL)
    assert edge(graph, "retail.gold.customer_analytics.email").from_table == "retail.silver.customers"
    rows = {(e.from_table, e.from_column, e.effect) for e in graph.edges_into("retail.gold.customer_analytics", ROWS)}
    assert rows == {
        ("retail.silver.customers", "customer_id", Effect.JOIN),
        ("retail.silver.enriched_orders", "customer_id", Effect.GROUP),
    }


def test_derived_columns_lead_through_other_derived_columns() -> None:
    graph = lineage(RETAIL)
    assert into(graph, "retail.silver.customers.age_segment") == {
        "retail.bronze.customers.created_timestamp",
        "retail.bronze.customers.date_of_birth",
    }


def test_names_are_found_without_case() -> None:
    graph = lineage(CRM_ERP)
    assert into(graph, "crm_erp.silver.products.maintenance") == {"crm_erp.silver.erp_categories.MAINTENANCE"}


def test_rules_name_the_columns_that_they_read() -> None:
    table = lineage(CRM_ERP).table("crm_erp.silver.crm_sales")
    rules = {r.name: r.columns for r in table.rules}
    assert rules["order_is_shipped_after_its_date"] == ("order_date", "shipping_date")
    assert rules["sale_has_customer"] == ("cst_id",)
    assert table.kind is Kind.FEED


def test_rules_that_reject_decide_which_rows_bronze_has() -> None:
    graph = lineage(DESK)
    filters = {e.from_column for e in graph.edges_into("desk.bronze.tickets", ROWS) if e.effect is Effect.FILTER}
    assert filters == {"ticket_id", "agent", "minutes", "opened_at"}


def test_a_copied_column_has_the_description_of_its_upstream_column(tmp_path: Path) -> None:
    feeds = (tmp_path / "kiosk").parent
    folder = kiosk(feeds)
    text = (folder / "feeds.py").read_text()
    described = text.replace('key=("stall",),', 'key=("stall",), descriptions={"place": "Where the stall is."},')
    (folder / "feeds.py").write_text(described)
    graph = lineage(load(folder))
    layers = ("files", "bronze", "silver")
    assert {graph.table(f"kiosk.{layer}.stalls").column("place").description for layer in layers} == {
        "Where the stall is."
    }

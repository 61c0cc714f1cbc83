"""Restatements: figures of a past period that were published and that a batch changes, on record in `ops`."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories_pipeline import Site, on_sail
from factories_shop_rows import SHOP

from pipeline import reader
from pipeline.contract.decimals import decimal_text
from pipeline.engine.session import Session
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.model import GoldKind, GoldTable
from pipeline.reader.why import UnknownFigureError, why
from pipeline.sources.retail.feeds import RETAIL
from pipeline.transform.change import TableChange
from pipeline.transform.restatements import first_open_day, restatements_of

DAILY = "retail.gold.daily_sales"


def table(grain: tuple[str, ...] = ("day", "shop"), period: Any = "day") -> GoldTable:
    return GoldTable(
        name="sales",
        kind=GoldKind.AGGREGATE,
        upstream="tickets",
        grain=grain,
        columns="day DATE, shop STRING, revenue DECIMAL(12,2), tickets BIGINT, note STRING, _rows BIGINT",
        build=lambda rows: rows,
        period=period,
    )


def change(folder: Path, *rows: tuple[int, str | None, str | None, int, int]) -> TableChange:
    """Rows of day, shop, revenue, tickets, sign."""
    names = ("day", "shop", "revenue", "tickets", "_sign")
    days = [{**dict(zip(names, row, strict=True)), "day": dt.date(2026, 3, row[0])} for row in rows]
    text = pa.Table.from_pylist(days)
    kinds = {"revenue": pa.decimal128(12, 2), "tickets": pa.int64(), "_sign": pa.int32()}
    schema = pa.schema([(f.name, kinds.get(f.name, f.type)) for f in text.schema])
    pq.write_table(text.cast(schema), folder / "change.parquet")
    rows_of = MaterializedRows(path=folder / "change.parquet", schema=schema)
    return TableChange(table="shop.gold.sales", key=("day", "shop"), rows=rows_of)


def found(given: TableChange, until: int, of: GoldTable | None = None) -> list[tuple[Any, ...]]:
    rows = restatements_of(of or table(), given, dt.date(2026, 3, until))
    return [(r["figure_date"].day, dict(r["grain"])["shop"], r["column_name"], r["before"], r["after"]) for r in rows]


def test_a_figure_that_differs_is_restated_and_one_that_stays_is_not(tmp_path: Path) -> None:
    given = change(tmp_path, (1, "a", "10.50", 3, -1), (1, "a", "9.00", 3, 1))
    assert found(given, until=2) == [(1, "a", "revenue", "10.5", "9")]


def test_no_digit_of_a_figure_is_rounded() -> None:
    assert decimal_text(Decimal("12345678901234567890123456789.01")) == "12345678901234567890123456789.01"
    texts = [decimal_text(Decimal(t)) for t in ("10410.00", "0.50", "100", "-0.00", "0E-6", "-7.10")]
    assert texts == ["10410", "0.5", "100", "0", "0", "-7.1"]


def test_a_row_that_is_gone_has_no_value_after(tmp_path: Path) -> None:
    given = change(tmp_path, (1, "a", "10.00", 3, -1))
    assert found(given, until=2) == [(1, "a", "revenue", "10", None), (1, "a", "tickets", "3", None)]


def test_a_new_row_and_a_day_that_is_open_are_no_restatement(tmp_path: Path) -> None:
    given = change(tmp_path, (1, "b", "5.00", 1, 1), (2, "a", "1.00", 1, -1), (2, "a", "2.00", 2, 1))
    assert found(given, until=2) == []


def test_a_null_in_the_grain_is_a_group_of_its_own(tmp_path: Path) -> None:
    given = change(tmp_path, (1, None, None, 3, -1), (1, None, "2.00", 3, 1), (1, "a", "7.00", 1, 1))
    assert found(given, until=2) == [(1, None, "revenue", None, "2")]


def test_a_table_without_a_date_in_its_grain_has_no_restatement(tmp_path: Path) -> None:
    given = change(tmp_path, (1, "a", "10.00", 3, -1), (1, "a", "9.00", 3, 1))
    assert found(given, until=2, of=table(grain=("shop",))) == []


@pytest.mark.parametrize(
    ("period", "first"),
    [("day", "2026-03-12"), ("week", "2026-03-09"), ("month", "2026-03-01"), ("year", "2026-01-01")],
)
def test_a_period_is_open_until_a_batch_of_the_next_one(period: str, first: str) -> None:
    newest = dt.date(2026, 3, 12)  # a Thursday
    assert first_open_day(table(period=period), newest, is_complete=False).isoformat() == first
    assert first_open_day(table(period=period), newest, is_complete=True) == dt.date(2026, 3, 13)


# ---- through the pipeline


@pytest.fixture
def site(session: Session, tmp_path: Path) -> Site:
    return Site(tmp_path, session, RETAIL, fill=SHOP)


@on_sail
def test_late_news_are_on_record_with_the_figures_before_and_after(site: Site) -> None:
    first = site.deliver(
        "2026-03-12",
        customers="customer_id\n c1",
        products="product_id\n p1",
        orders="""
        order_id | order_date | order_amount
        o1       | 2026-03-12 | 10000
        o2       | 2026-03-12 | 410""",
    )
    again = site.deliver("2026-03-12", orders="order_id | order_date | order_amount\n o3 | 2026-03-12 | 1")
    assert site.rows("ops.restatements") == [], "the day was still open"
    late = site.deliver(
        "2026-03-14",
        orders="""
        order_id | order_date | order_amount | created_timestamp
        o2       | 2026-03-12 | 395          | 2026-03-14 09:00:00
        o4       | 2026-03-11 | 7            | 2026-03-14 09:00:00
        o5       | 2026-03-14 | 20           | 2026-03-14 09:00:00""",
    )
    sales = [r for r in site.rows("ops.restatements") if r["table_name"] == DAILY and r["column_name"] == "revenue"]
    assert [(r["figure_date"].day, r["before"], r["after"], r["batch_id"]) for r in sales] == [
        (12, "10411", "10396", late.batch_id)
    ]

    state = reader.published(site.lake.path)
    story = why(site.settings, state, DAILY, "2026-03-12")
    assert [(r["column"], r["before"], r["after"]) for r in story.restatements if r["column"] == "revenue"] == [
        ("revenue", "10411", "10396")
    ]
    assert (story.rows_of, story.row_count, story.gap) == ("retail.silver.enriched_orders", 3, "")
    assert [(r["order_id"], str(r["revenue"])) for r in story.rows] == [
        ("o1", "10000.00"),
        ("o2", "395.00"),
        ("o3", "1.00"),
    ]
    assert sum(r["revenue"] for r in story.rows) == story.figures["revenue"]
    assert [(r["batch_id"], r["record"]) for r in story.records] == [
        (late.batch_id, 1),
        (again.batch_id, 1),
        (first.batch_id, 1),
        (first.batch_id, 2),
    ]
    assert story.records[0]["raw"].startswith("o2,")

    # A chain of gold tables, and a table that takes row by row.
    segment = site.rows("gold.segment_analysis")[0]
    behind = why(site.settings, state, "retail.gold.segment_analysis", segment["customer_segment"])
    assert (behind.rows_of, behind.row_count) == ("retail.silver.enriched_orders", 5)
    fact = why(site.settings, state, "retail.gold.fact_orders", "order_id=o2", limit=1)
    assert (fact.row_count, fact.record_count, len(fact.records)) == (1, 2, 1)
    assert fact.records[0]["batch_id"] == late.batch_id
    with pytest.raises(UnknownFigureError, match="a key has this form: order_date=…"):
        why(site.settings, state, DAILY, "")
    with pytest.raises(UnknownFigureError, match="has no row 2026-04-01; one that exists: 2026-03-14"):
        why(site.settings, state, DAILY, "2026-04-01")


@on_sail
def test_a_correction_of_the_newest_day_restates_it(site: Site) -> None:
    rows = "order_id | order_date | order_amount\n o1 | 2026-03-12 | "
    site.deliver("2026-03-11", orders="order_id | order_date\n o0 | 2026-03-11")
    site.deliver_named("2026-03-12", "day", orders=f"{rows}100")
    site.deliver_named("2026-03-12", "day", orders=f"{rows}90")
    figures = [r for r in site.rows("ops.restatements") if r["table_name"] == DAILY]
    assert {(r["column_name"], r["before"], r["after"]) for r in figures} >= {("revenue", "100", "90")}


@on_sail
def test_figures_that_change_with_a_definition_are_no_restatements(site: Site) -> None:
    rows = "order_id | order_date | order_amount\n o1 | 2026-03-{} | 100"
    site.deliver("2026-03-11", orders=rows.format("11"))
    site.deliver("2026-03-12", orders=rows.replace("o1", "o2").format("12"))
    (orders,) = RETAIL.enriched
    profit = next(d for d in orders.derived if d.name == "order_profit_margin")
    other = tuple(replace(d, sql=f"({d.sql}) * 2") if d is profit else d for d in orders.derived)
    before = {r["order_date"]: r["profit"] for r in site.rows("gold.daily_sales")}
    site.source = replace(RETAIL, enriched=(replace(orders, derived=other),))
    site.deliver("2026-03-13", orders=rows.replace("o1", "o3").format("13"))
    after = {r["order_date"]: r["profit"] for r in site.rows("gold.daily_sales")}
    assert {day: after[day] for day in before} == {day: 2 * value for day, value in before.items()}
    assert site.rows("ops.restatements") == []

"""Two engines, one lake: both compute the same rows, and each reads and continues the tables of the other."""

import datetime as dt
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from itertools import product
from pathlib import Path
from random import Random

import odd_values
import pyarrow.parquet as pq
import pytest
from drawing import parsed
from factories_pipeline import Site, on_spark
from factories_shop_rows import SHOP
from factories_worker import Worker
from random_shop import random_batches

from pipeline.commit.manifest import Manifest
from pipeline.contract import Outcome, Quality, Result, Settings, WorkOrder
from pipeline.engine.session import Session
from pipeline.lake.lake import Lake
from pipeline.model import Feed, Source
from pipeline.run import run
from pipeline.sources.crm_erp.feeds import CRM_ERP
from pipeline.sources.retail.feeds import RETAIL

pytestmark = pytest.mark.sail  # beside the session's own engine, with which every test compares Sail

ANY_SHRINK = Quality(max_snapshot_shrink=1.0)
ANY_TIME = Quality(max_snapshot_shrink=1.0, max_future_hours=1e8, min_event_time=dt.date(1, 1, 1))


def settings(lake: Path, engine: str, quality: Quality = ANY_SHRINK) -> Settings:
    lake.mkdir(parents=True, exist_ok=True)
    return Settings(lake_path=str(lake), engine=engine, quality=quality, log_path=str(lake.parent / "spark.log"))


def on_session(session: Session, lake: Path, orders: Sequence[WorkOrder], quality: Quality = ANY_SHRINK) -> None:
    opened = Lake(lake, session)
    for order in orders:
        must_be_published(run(order, settings(lake, session.engine, quality), opened, lambda _: None))


def on_sail(lake: Path, orders: Sequence[WorkOrder], quality: Quality = ANY_SHRINK) -> None:
    with Worker(settings(lake, "sail", quality), lake.parent / "worker.log") as worker:
        for order in orders:
            must_be_published(worker.run(order))


def must_be_published(result: Result) -> None:
    assert result.outcome == Outcome.PUBLISHED, f"{result.reason}\n{result.error}"


def shown(lake: Path, batch: str) -> dict[str, Counter[str]]:
    """The rows of every table as a batch published them, without the table of times."""
    opened = Lake(lake)
    row = Manifest(opened).published_row(batch)
    assert row is not None
    found = {}
    for table, version in row.table_versions.items():
        rows = opened.arrow(table, version).to_pylist(maps_as_pydicts="strict")
        if table != "ops.processing_log":
            found[table] = Counter(map(str, rows))
    return found


@on_spark
def test_engines_agree_on_every_function_that_declarations_and_stages_use(session: Session, tmp_path: Path) -> None:
    subprocess.run([sys.executable, odd_values.__file__, str(tmp_path)], check=True, timeout=300)
    differ = []
    for name, table in odd_values.compute(session, tmp_path).items():
        of_sail = pq.read_table(tmp_path / f"{name}.parquet")
        given = odd_values.TABLES[name].to_pylist() if name in odd_values.TABLES else [{}]
        for sql in table.column_names:
            both = zip(given, odd_values.values(table[sql]), odd_values.values(of_sail[sql]), strict=True)
            differ += [(sql, row, spark, sail) for row, spark, sail in both if spark != sail]
    assert not differ, "\n".join(ascii(one) for one in differ[:20])


Fill = dict[str, dict[str, str]]
OFFICE: Fill = {
    "crm_customers": {"cst_firstname": "Ann", "cst_marital_status": "M", "cst_gndr": "F"},
    "crm_products": {"prd_id": "1", "prd_nm": "Lamp", "prd_cost": "3", "prd_line": "R", "prd_start_dt": "2020-01-01"},
    "crm_sales": {
        "sls_order_dt": "20260101",
        "sls_ship_dt": "20260102",
        "sls_due_dt": "20260103",
        "sls_sales": "10",
        "sls_quantity": "1",
        "sls_price": "10",
    },
    "erp_customers": {"BDATE": "1990-01-01", "GEN": "F"},
}
DATED_TEXTS = ("sls_order_dt", "sls_ship_dt", "sls_due_dt")


def rows_of_any_day(feed: Feed) -> list[dict[str, str]]:
    """A row for each day and each column of days, with that day in it; it meets those of its number elsewhere."""
    dated = [c.name for c in feed.schema if c.type in ("DATE", "TIMESTAMP") or c.name in DATED_TEXTS]
    rows = []
    for n, (name, day) in enumerate(product(dated, odd_values.DAYS)):
        keys = {key: f"{key[0]}{n}" for key in ("order_id", "customer_id", "product_id", "shipping_id")}
        keys |= {"cst_id": str(n), "cst_key": f"AW{n}", "CID": f"NASAW{n}", "prd_key": f"AC-HE-P{n}"}
        keys |= {"sls_cust_id": str(n), "sls_prd_key": f"P{n}", "sls_ord_num": f"S{n}"}
        types = {c.name: c.type for c in feed.schema}
        as_time = f"{day} 00:00:00" if types[name] == "TIMESTAMP" else day
        written = day.replace("-", "") if name in DATED_TEXTS else as_time
        rows.append({key: value for key, value in (keys | {name: written}).items() if key in types})
    return rows


@on_spark
@pytest.mark.parametrize(("source", "fill"), [(RETAIL, SHOP), (CRM_ERP, OFFICE)], ids=["retail", "crm_erp"])
def test_no_day_in_any_column_fails_a_batch(session: Session, tmp_path: Path, source: Source, fill: Fill) -> None:
    site = Site(tmp_path, session, source, fill=fill)
    order = site.order("2026-03-02", **{name: rows_of_any_day(source.feed(name)) for name in fill})
    on_session(session, tmp_path / "spark" / "lake", [order], ANY_TIME)
    on_sail(tmp_path / "sail" / "lake", [order], ANY_TIME)
    expected, found = (shown(tmp_path / engine / "lake", order.batch_id) for engine in ("spark", "sail"))
    for table, rows in expected.items():
        assert found[table] == rows, f"{table}: {list(((found[table] - rows) + (rows - found[table])).items())[:4]!a}"


@on_spark
def test_no_number_at_its_limit_fails_a_batch(session: Session, tmp_path: Path) -> None:
    most, money, weight = str(2**31 - 1), "9999999999.99", "9999999.999"
    shop = Site(tmp_path / "shop", session, RETAIL, fill=SHOP).order(
        "2026-03-02",
        orders=[{"order_id": "o1", "order_date": "2026-03-02", "order_amount": money}],
        products=[
            {"product_id": "p1", "price": money, "weight_kg": weight, "dimensions_cm": "0.1x0.1x0.1"},
            {"product_id": "p2", "dimensions_cm": "x".join(["999999.999"] * 3)},
        ],
        inventory=[{"product_id": "p1", "available_quantity": most, "reorder_level": "2000000000"}],
        shipping=[{"order_id": "o1", "shipping_id": "s1", "shipping_cost": money, "package_weight": "0.001"}],
    )
    office = Site(tmp_path / "office", session, CRM_ERP, fill=OFFICE).order(
        "2026-03-02",
        crm_sales=[
            {"sls_ord_num": "S1", "sls_prd_key": "P1", "sls_quantity": most, "sls_price": money, "sls_sales": money},
            {"sls_ord_num": "S2", "sls_prd_key": "P1", "sls_quantity": "3", "sls_price": None, "sls_sales": money},
        ],
    )
    for name, order in (("shop", shop), ("office", office)):
        on_session(session, tmp_path / name / "spark" / "lake", [order])
        on_sail(tmp_path / name / "sail" / "lake", [order])
        expected, found = (shown(tmp_path / name / engine / "lake", order.batch_id) for engine in ("spark", "sail"))
        assert found == expected
    products = Lake(tmp_path / "shop" / "sail" / "lake").arrow("retail.silver.products", 1).sort_by("product_id")
    assert products["volume_cm3"].to_pylist() == [Decimal("0.001"), None]
    assert "amount_or_price_is_given" in str(expected["ops.quarantine"])


@on_spark
def test_engines_give_equal_tables_and_go_on_with_each_others(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, RETAIL, fill=SHOP)
    batches = random_batches(Random(7))[:3]
    bad = """
        order_id | order_date | order_amount | currency
        o90      | 2026-01-02 | -1           | USD
        o91      | 2026-01-02 | 1            | EUR
        o92      | soon       | 1            | USD
        o93      | 2026-01-02 | 1            | USD
    """
    batches[0]["orders"] += [{"created_timestamp": "2026-01-02 10:00:00", **row} for row in parsed(bad)]
    orders = [site.order(**batch) for batch in batches]
    first, rest = orders[:1], orders[1:]
    lakes = {name: tmp_path / name / "lake" for name in ("spark", "sail", "spark then sail", "sail then spark")}

    on_session(session, lakes["spark"], first)
    shutil.copytree(lakes["spark"], lakes["spark then sail"])
    on_session(session, lakes["spark"], rest)

    on_sail(lakes["sail"], first)
    shutil.copytree(lakes["sail"], lakes["sail then spark"])
    on_sail(lakes["sail"], rest)

    on_sail(lakes["spark then sail"], rest)
    on_session(session, lakes["sail then spark"], rest)

    for order in orders:
        expected = shown(lakes["spark"], order.batch_id)
        assert len(expected["ops.quarantine"]) == 3
        for name in ("sail", "spark then sail", "sail then spark"):
            found = shown(lakes[name], order.batch_id)
            for table, rows in expected.items():
                assert found[table] == rows, f"{table} of {name} after {order.batch_id}"

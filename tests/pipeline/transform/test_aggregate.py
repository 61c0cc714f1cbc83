"""Gold is kept by difference; here it is computed anew from silver, in plain Python, and compared."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from drawing import draw, drawn
from factories_pipeline import Site, on_sail
from factories_shop_rows import SHOP
from factories_source import FEEDS, changed, kiosk
from factories_source_club import TILL
from random_shop import random_batches
from reference_enriched_orders import enriched_orders
from reference_retail import gold, key_figures, public

from pipeline import model
from pipeline.contract import Outcome, Quality, Result
from pipeline.engine.session import Session
from pipeline.sources.external import load
from pipeline.sources.retail.feeds import RETAIL

ANY_SHRINK = Quality(max_snapshot_shrink=1.0)

# ---- aggregates


def test_aggregates_follow_rows_that_come_change_move_and_go(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, TILL)
    columns = ("note", "items", "total", "names", "first_name", "last_name")
    site.deliver(
        "2026-03-01", prices="item | price | note\n tea | 1.50 | drink\n milk | 1 | drink\n cake | 3 |\n pie | 4 |"
    )
    assert site.draw("gold.takings", *columns) == drawn("""
        note  | items | total | names | first_name | last_name
              | 2     | 7     | 2     | cake       | pie
        drink | 2     | 2.5   | 2     | milk       | tea
    """)
    site.deliver("2026-03-02", prices="item | price | note\n pie | 5 |\n milk | 2 |\n roll | 1 | bread")
    assert site.draw("gold.takings", *columns) == drawn("""
        note  | items | total | names | first_name | last_name
              | 3     | 10    | 3     | cake       | pie
        bread | 1     | 1     | 1     | roll       | roll
        drink | 1     | 1.5   | 1     | tea        | tea
    """)
    site.deliver("2026-03-03", prices="item | price | note\n cake | 3 | bread\n pie | 5 | bread\n milk | 2 | drink")
    assert site.draw("gold.takings", *columns) == drawn("""
        note  | items | total | names | first_name | last_name
        bread | 3     | 9     | 3     | cake       | roll
        drink | 2     | 3.5   | 2     | milk       | tea
    """)


@on_sail
def test_a_check_that_fails_rejects_the_batch(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, TILL)
    site.deliver("2026-03-01", prices="item | price | note\n tea | 60 | drink")
    before = {table: site.rows(table.removeprefix("till.")) for table in site.versions()}

    result = site.attempt(
        "2026-03-02", prices="item | price | note\n milk | 40 | drink", visits="member_id | room\n m1 | hall"
    )
    assert (result.outcome, result.retryable) == (Outcome.REJECTED, False)
    assert result.reason == (
        "till.gold.takings: 1 rows break its check the_total_is_below_a_hundred, the first where note = drink; "
        "no table was changed"
    )
    assert {table: site.rows(table.removeprefix("till.")) for table in site.versions()} == before
    newest = site.manifest.newest("till")
    assert newest is not None
    assert (newest.kind, newest.reason) == ("rejected", result.reason)

    site.deliver("2026-03-02", revision=1, prices="item | price | note\n milk | 39.99 | drink")
    assert site.draw("gold.takings", "note", "items", "total", "names") == drawn(
        "note | items | total | names\n drink | 2 | 99.99 | 2"
    )


BUSY = """
from pipeline.model import aggregate

@aggregate(
    upstream="takings", where="is_current", grain=("quantity",), per=("stall",),
    columns="quantity INT, receipts BIGINT, stalls BIGINT, busy_stalls BIGINT",
    sum={"receipts": "count(*)", "stalls": "max(1)", "busy_stalls": "CASE WHEN count(*) > 1 THEN 1 ELSE 0 END"},
)
def by_quantity(sums):
    return sums
"""


def test_sums_add_up_over_what_all_rows_of_each_give_together(session: Session, tmp_path: Path) -> None:
    site = Site(
        tmp_path,
        session,
        load(
            kiosk(
                tmp_path, feeds=changed(FEEDS, "stall STRING NOT NULL, quantity", "stall STRING, quantity"), gold=BUSY
            )
        ),
    )
    columns = ("quantity", "receipts", "stalls", "busy_stalls")
    site.deliver(
        "2026-03-01",
        takings="""
            receipt | stall | quantity | sold_at
            r1      | north | 1        | 2026-03-01 10:00:00
            r2      | south | 1        | 2026-03-01 10:00:00
            r3      |       | 1        | 2026-03-01 10:00:00
            r4      | north | 2        | 2026-03-01 10:00:00
        """,
    )
    assert site.draw("gold.by_quantity", *columns) == drawn(
        "quantity | receipts | stalls | busy_stalls\n 1 | 3 | 3 | 0\n 2 | 1 | 1 | 0"
    )

    more = site.deliver(
        "2026-03-02",
        takings="""
            receipt | stall | quantity | sold_at
            r5      | north | 1        | 2026-03-02 10:00:00
            r6      |       | 1        | 2026-03-02 10:00:00
        """,
    )
    assert site.draw("gold.by_quantity", *columns) == drawn(
        "quantity | receipts | stalls | busy_stalls\n 1 | 5 | 3 | 2\n 2 | 1 | 1 | 0"
    )
    assert site.written("gold.by_quantity", more) == 1

    moved = """
        receipt | stall | quantity | sold_at
        r1      | south | 1        | 2026-03-03 10:00:00
        r4      | north | 3        | 2026-03-03 10:00:00
    """
    site.deliver("2026-03-03", takings=moved)
    assert site.draw("gold.by_quantity", *columns) == drawn(
        "quantity | receipts | stalls | busy_stalls\n 1 | 5 | 3 | 2\n 3 | 1 | 1 | 0"
    )


WITHOUT_KEY = """
from pipeline.model import recompute

@recompute(upstream="takings", key=("stall",), grain=("stall",), columns="stall STRING, pieces BIGINT")
def by_stall(takings):
    pieces = takings.where("is_current").groupBy("stall").agg({"quantity": "sum"})
    return pieces.selectExpr("stall", "`sum(quantity)` AS pieces")

@recompute(
    upstream="by_stall", key=("stall", "pieces"), grain=("stall", "pieces"),
    columns="stall STRING, pieces BIGINT, twice BIGINT",
)
def twice(stalls):
    return stalls.selectExpr("stall", "pieces", "pieces * 2 AS twice")
"""


def test_rows_without_a_key_are_a_group_of_a_keys_table(session: Session, tmp_path: Path) -> None:
    feeds = changed(
        changed(FEEDS, "stall STRING NOT NULL, quantity INT NOT NULL", "stall STRING, quantity INT"),
        "quantity <=",
        "coalesce(quantity, 0) <=",
    )
    site = Site(tmp_path, session, load(kiosk(tmp_path, feeds=feeds, gold=WITHOUT_KEY)))
    head = "receipt | stall | quantity | sold_at"
    site.deliver(
        "2026-03-01",
        takings=f"{head}\n r1 | | 1 | 2026-03-01 10:00:00\n r2 | north | 2 | 2026-03-01 10:00:00"
        "\n r3 | east | | 2026-03-01 10:00:00",
    )
    assert site.draw("gold.twice", "stall", "pieces", "twice") == drawn(
        "stall | pieces | twice\n | 1 | 2\n east | | \n north | 2 | 4"
    )
    site.deliver("2026-03-02", takings=f"{head}\n r4 | | 3 | 2026-03-02 10:00:00\n r3 | north | | 2026-03-02 10:00:00")
    assert site.draw("gold.by_stall", "stall", "pieces") == drawn("stall | pieces\n | 4\n north | 2")
    assert site.draw("gold.twice", "stall", "pieces", "twice") == drawn(
        "stall | pieces | twice\n | 4 | 8\n north | 2 | 4"
    )


EXTREMES = """
from pipeline.model import aggregate

@aggregate(
    upstream="takings", where="is_current", grain=("stall",),
    columns="stall STRING, fewest INT, most BIGINT, first_at TIMESTAMP",
    min={"fewest": "quantity", "first_at": "sold_at"}, max={"most": "quantity"},
)
def by_stall(sums):
    return sums
"""


def test_extremes_of_numbers_follow_their_order(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, load(kiosk(tmp_path, gold=EXTREMES)))
    head = "receipt | stall | quantity | sold_at"
    rows = "r1 | north | 9 | 2026-03-01 10:00:00\n r2 | north | 10 | 2026-03-01 09:00:00"
    site.deliver("2026-03-01", takings=f"{head}\n {rows}\n r3 | south | 2 | 2026-03-01 08:00:00")
    columns = ("stall", "fewest", "most", "first_at")
    assert site.draw("gold.by_stall", *columns) == drawn(
        "stall | fewest | most | first_at\n north | 9 | 10 | 2026-03-01 09:00\n south | 2 | 2 | 2026-03-01 08:00"
    )
    site.deliver("2026-03-02", takings=f"{head}\n r2 | south | 10 | 2026-03-02 07:00:00")
    assert site.draw("gold.by_stall", *columns) == drawn(
        "stall | fewest | most | first_at\n north | 9 | 9 | 2026-03-01 10:00\n south | 2 | 10 | 2026-03-01 08:00"
    )


SOLD = (
    'enriched=(Enriched(name="sold", upstream="takings", '
    'joins=(LatestJoin(feed="stalls", on=("stall",), prefix="stall_"),)),), settings='
)
SOLD = changed(changed(FEEDS, "settings=", SOLD), "import HIGH", "import Enriched, LatestJoin, HIGH")
FURTHER = """
from pipeline.model import aggregate

@aggregate(
    upstream="sold", grain=("place",), per=("stall",), columns="place STRING, stalls BIGINT, pieces BIGINT",
    sum={"stalls": "max(1)", "pieces": "sum(quantity)"},
)
def by_place(sums):
    return sums

@aggregate(
    upstream="by_place", grain=("stalls",), per=("place",), columns="stalls BIGINT, places BIGINT",
    sum={"places": "max(1)"},
)
def by_stalls(sums):
    return sums
"""


def test_sums_add_up_over_rows_of_enriched_and_of_gold_tables_too(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, load(kiosk(tmp_path, feeds=SOLD, gold=FURTHER)))
    takings = """
        receipt | stall | quantity | sold_at
        r1      | north | 1        | 2026-03-01 10:00:00
        r2      | south | 2        | 2026-03-01 10:00:00
    """
    site.deliver("2026-03-01", stalls="stall | place\n north | gate\n south | gate\n west | hall", takings=takings)
    site.deliver(
        "2026-03-02",
        takings="""
            receipt | stall | quantity | sold_at
            r3      | west  | 1        | 2026-03-02 10:00:00
            r4      | north | 3        | 2026-03-02 10:00:00
        """,
    )
    assert site.draw("gold.by_place", "place", "stalls", "pieces") == drawn(
        "place | stalls | pieces\n gate | 2 | 6\n hall | 1 | 1"
    )
    assert site.draw("gold.by_stalls", "stalls", "places") == drawn("stalls | places\n 1 | 1\n 2 | 1")
    site.deliver("2026-03-03", stalls="stall | place\n south | hall")
    assert site.draw("gold.by_place", "place", "stalls", "pieces") == drawn(
        "place | stalls | pieces\n gate | 1 | 4\n hall | 2 | 3"
    )
    assert site.draw("gold.by_stalls", "stalls", "places") == drawn("stalls | places\n 1 | 1\n 2 | 1")


@on_sail
def test_a_new_table_starts_with_all_rows_of_the_table_that_it_follows(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, load(kiosk(tmp_path / "before")))
    site.deliver(
        "2026-03-01",
        takings="""
            receipt | stall | quantity | sold_at
            r1      | north | 1        | 2026-03-01 10:00:00
            r2      | north | 1        | 2026-03-01 10:00:00
        """,
    )
    site.source = load(kiosk(tmp_path / "after", gold=BUSY))
    site.deliver("2026-03-02", takings="receipt | stall | quantity | sold_at\n r3 | north | 1 | 2026-03-02 10:00:00")
    assert site.draw("gold.by_quantity", "quantity", "receipts", "stalls", "busy_stalls") == drawn(
        "quantity | receipts | stalls | busy_stalls\n 1 | 3 | 1 | 1"
    )


@pytest.mark.parametrize("declare", [model.select_rows, model.recompute])
def test_only_aggregates_take_per(declare: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="gold table visits: `per` is for @aggregate"):

        @declare(upstream="takings", grain=("stall",), columns="stall STRING", per=("item",))
        def visits(takings: object) -> object:
            return takings


# ---- tables whose declaration is unusual, or was another

GOLD = """
from pipeline.model import aggregate, recompute

@aggregate(upstream="takings", grain=("stall",), columns="stall STRING, receipts BIGINT", sum={"receipts": "1"})
def by_stall(sums):
    return sums

@recompute(upstream="by_stall", key=(), grain=("stall",), columns="stall STRING, receipts BIGINT")
def busy(stalls):
    return stalls.where("receipts > 1")
"""
BY_KEY = changed(GOLD, 'aggregate(upstream="takings", grain', 'recompute(upstream="takings", key=("stall",), grain')
BY_KEY = changed(BY_KEY, 'receipts BIGINT", sum={"receipts": "1"})', 'receipts BIGINT")')
BY_KEY = changed(
    BY_KEY,
    "(sums):\n    return sums",
    '(takings):\n    counts = takings.groupBy("stall").agg({"receipt": "count"})'
    '\n    return counts.withColumnRenamed("count(receipt)", "receipts")',
)
LOUD = changed(
    FEEDS,
    'key=("stall",), stored_as=Scd1()',
    'key=("stall",), stored_as=Scd1(), derived=(Derived("loud", "STRING", "upper(place)"),)',
)
LOUD = changed(LOUD, "import HIGH", "import Derived, HIGH")


def test_tables_that_were_declared_otherwise_go_on_with_what_they_hold(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, load(kiosk(tmp_path / "before", feeds=LOUD, gold=GOLD)))
    site.deliver(
        "2026-03-01",
        stalls="stall | place\n north | gate\n south | hall",
        takings="""
            receipt | stall | quantity | sold_at
            r1      | north | 1        | 2026-03-01 10:00:00
            r2      | south | 1        | 2026-03-01 11:00:00
        """,
    )
    site.source = load(kiosk(tmp_path / "after", gold=BY_KEY))
    site.deliver(
        "2026-03-02",
        stalls="stall | place\n north | yard",
        takings="receipt | stall | quantity | sold_at\n r3 | north | 2 | 2026-03-02 10:00:00",
    )
    assert site.draw("silver.stalls", "stall", "place") == drawn("stall | place\n north | yard\n south | hall")
    assert site.draw("gold.by_stall", "stall", "receipts") == drawn("stall | receipts\n north | 2\n south | 1")
    assert site.draw("gold.busy", "stall", "receipts") == drawn("stall | receipts\n north | 2")


@on_sail
def test_a_table_may_take_its_attributes_from_the_enriched_table_that_it_follows(
    session: Session, tmp_path: Path
) -> None:
    gold = """
from pipeline.model import aggregate

@aggregate(
    upstream="sold", grain=("receipt",), dimension="sold", columns="receipt STRING, pieces BIGINT, place STRING",
    sum={"pieces": "quantity"},
)
def receipts(sums):
    return sums
"""
    site = Site(tmp_path, session, load(kiosk(tmp_path, feeds=SOLD, gold=gold)))
    site.deliver(
        "2026-03-01",
        stalls="stall | place\n north | gate",
        takings="receipt | stall | quantity | sold_at\n r1 | north | 2 | 2026-03-01 10:00:00",
    )
    site.deliver("2026-03-02", stalls="stall | place\n north | yard")
    assert site.draw("gold.receipts", "receipt", "pieces", "place") == drawn("receipt | pieces | place\n r1 | 2 | yard")


@on_sail
def test_an_event_time_that_is_a_date_is_the_start_of_that_day_from_the_first_batch_on(
    session: Session, tmp_path: Path
) -> None:
    gold = """
from pipeline.model import aggregate

@aggregate(
    upstream="takings", grain=("stall",), columns="stall STRING, since TIMESTAMP", where="is_current",
    min={"since": "effective_from"},
)
def oldest(sums):
    return sums
"""
    site = Site(
        tmp_path, session, load(kiosk(tmp_path, feeds=changed(FEEDS, "sold_at TIMESTAMP", "sold_at DATE"), gold=gold))
    )
    site.deliver("2026-03-01", takings="receipt | stall | quantity | sold_at\n r1 | north | 1 | 2026-03-01")
    site.deliver("2026-03-02", takings="receipt | stall | quantity | sold_at\n r1 | north | 2 | 2026-03-02")
    assert site.draw("gold.oldest", "stall", "since") == drawn("stall | since\n north | 2026-03-02")


# ---- retail: difference and recomputation agree


# The seventh is the history on which the engines are compared: what holds of it here holds of both.
@on_sail
@pytest.mark.parametrize("seed", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_gold_kept_by_difference_is_what_silver_says_after_every_batch(
    session: Session, tmp_path: Path, seed: int
) -> None:
    _agrees(Site(tmp_path, session, RETAIL, fill=SHOP, quality=ANY_SHRINK), seed)


def _agrees(site: Site, seed: int) -> None:
    figures: list[dict[str, Any]] = []
    as_of = dt.date.min
    for batch in random_batches(Random(seed)):
        result = site.deliver(**batch)
        as_of = max(as_of, dt.date.fromisoformat(batch["day"]))
        silver = {feed.name: site.rows(f"silver.{feed.name}", result) for feed in RETAIL.feeds}
        where = f"seed {seed}, batch of {batch['day']}"
        orders = enriched_orders(silver)
        assert site.draw("silver.enriched_orders", *orders[0], result=result) == draw(orders, *orders[0]), where
        for name, expected in gold(silver, as_of).items():
            columns = [
                c for c in public(name) if not (name.startswith("dim_") and c in ("customer_key", "product_key"))
            ]
            assert draw(_by_what_keys_stand_for(site, name, result), *columns) == draw(expected, *columns), (
                f"{name}, {where}"
            )
        figures.append({"batch_id": result.batch_id, "report_date": batch["day"], **key_figures(orders)})
        assert site.draw("gold.analytics_summary", *public("analytics_summary"), result=result) == draw(
            figures, *public("analytics_summary")
        ), where
        assert {k: result.task_values[k] for k in ("total_orders", "unique_customers")} == {
            "total_orders": str(len(orders)),
            "unique_customers": str(figures[-1]["unique_customers"]),
        }


def _by_what_keys_stand_for(site: Site, name: str, result: Result) -> list[dict[str, Any]]:
    """The rows of a gold table; a fact's keys are followed to the starts of the versions that they name."""
    rows = site.rows(f"gold.{name}", result)
    if name.startswith("dim_"):
        keys = [next(v for c, v in r.items() if c.endswith("_key")) for r in rows]
        assert None not in keys
        assert len(set(keys)) == len(keys)
    if name == "fact_orders":
        for dim in ("customer", "product"):
            known = {r[f"{dim}_key"]: r for r in site.rows(f"gold.dim_{dim}", result)}
            for row in rows:
                version = known[row[f"{dim}_key"]] if row[f"{dim}_key"] is not None else None
                assert version is None or version[f"{dim}_id"] == row[f"{dim}_id"]
                row[f"{dim}_key"] = version and version["effective_from"]
    return rows


# ---- retail: what moves, what only grows older, what stays


@on_sail
def test_an_order_that_moves_leaves_no_trace_and_counts_once_with_every_join(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, RETAIL, fill=SHOP)
    site.deliver(
        "2026-03-05",
        orders="""
            order_id | customer_id | product_id | order_date | order_amount | created_timestamp
            o1       | c1          | p1         | 2026-03-02 | 100          | 2026-03-02 10:00:00
            o2       | c2          | p1         | 2026-03-03 | 250          | 2026-03-03 10:00:00
            o3       | c2          | p1         | 2026-03-03 | 10           | 2026-03-03 10:00:00
        """,
        customers="customer_id | customer_tier\n c1 | gold\n c2 | basic",
        products="product_id | category\n p1 | light\n p2 | seat",
        inventory="warehouse_id | product_id\n W1 | p1\n W2 | p1\n W1 | p2",
        shipping="shipping_id | order_id\n s1 | o1\n s2 | o1",
    )
    tables = {
        "gold.daily_sales": ("order_date", "orders", "revenue", "profit", "unique_customers"),
        "gold.customer_analytics": (
            "customer_id",
            "total_orders",
            "total_spent",
            "unique_products",
            "first_order_date",
            "customer_segment",
            "city",
        ),
        "gold.product_analytics": (
            "product_id",
            "total_orders",
            "total_revenue",
            "unique_customers",
            "last_order_date",
        ),
        "gold.category_analysis": ("category", "products_ordered", "orders", "revenue", "avg_order_value"),
        "gold.segment_analysis": ("customer_segment", "customers", "revenue", "avg_customer_value"),
        "gold.dim_date": ("date_key", "date", "day_of_week"),
    }
    assert [site.draw(table, *columns) for table, columns in tables.items()] == [
        drawn("""
            order_date | orders | revenue | profit | unique_customers
            2026-03-02 | 1      | 100     | 30     | 1
            2026-03-03 | 2      | 260     | 78     | 1
        """),
        drawn("""
            customer_id | total_orders | total_spent | unique_products | first_order_date | customer_segment | city
            c1          | 1            | 100         | 1               | 2026-03-02       | Low Value        | Leeds
            c2          | 2            | 260         | 1               | 2026-03-03       | Medium Value     | Leeds
        """),
        drawn("""
            product_id | total_orders | total_revenue | unique_customers | last_order_date
            p1         | 3            | 360           | 2                | 2026-03-03
        """),
        drawn("""
            category | products_ordered | orders | revenue | avg_order_value
            light    | 1                | 3      | 360     | 120
        """),
        drawn("""
            customer_segment | customers | revenue | avg_customer_value
            Low Value        | 1         | 100     | 100
            Medium Value     | 1         | 260     | 260
        """),
        drawn("""
            date_key | date       | day_of_week
            20260302 | 2026-03-02 | 2
            20260303 | 2026-03-03 | 3
        """),
    ]

    moved = site.deliver(
        "2026-03-06",
        orders="""
            order_id | customer_id | product_id | order_date | order_amount | created_timestamp
            o1       | c2          | p2         | 2026-03-01 | 90           | 2026-03-06 10:00:00
        """,
    )
    assert [site.draw(table, *columns) for table, columns in tables.items()] == [
        drawn("""
            order_date | orders | revenue | profit | unique_customers
            2026-03-01 | 1      | 90      | 27     | 1
            2026-03-03 | 2      | 260     | 78     | 1
        """),
        drawn("""
            customer_id | total_orders | total_spent | unique_products | first_order_date | customer_segment | city
            c2          | 3            | 350         | 2               | 2026-03-01       | Medium Value     | Leeds
        """),
        drawn("""
            product_id | total_orders | total_revenue | unique_customers | last_order_date
            p1         | 2            | 260           | 1                | 2026-03-03
            p2         | 1            | 90            | 1                | 2026-03-01
        """),
        drawn("""
            category | products_ordered | orders | revenue | avg_order_value
            light    | 1                | 2      | 260     | 130
            seat     | 1                | 1      | 90      | 90
        """),
        drawn("""
            customer_segment | customers | revenue | avg_customer_value
            Medium Value     | 1         | 350     | 350
        """),
        drawn("""
            date_key | date       | day_of_week
            20260301 | 2026-03-01 | 1
            20260303 | 2026-03-03 | 3
        """),
    ]

    login = site.deliver(
        "2026-03-07",
        customers="""
            customer_id | customer_tier | last_login
            c1          | gold          | 2026-03-07 09:00:00
            c2          | basic         | 2026-03-07 09:00:00
        """,
    )
    changed = {table for table, version in login.table_versions.items() if moved.table_versions[table] != version}
    assert {table for table in changed if table.startswith("retail.")} == {
        "retail.bronze.customers",
        "retail.silver.customers",
        "retail.gold.analytics_summary",  # a row for every batch
    }


@on_sail
def test_stages_of_life_are_as_of_the_newest_batch_date_also_for_keys_without_incoming_rows(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session, RETAIL, fill=SHOP)
    stages = ("customer_id", "last_order_date", "lifecycle_stage")
    site.deliver(
        "2026-03-01",
        orders="""
            order_id | customer_id | product_id | order_date
            o1       | day-30      | p1         | 2026-01-30
            o2       | day-31      | p1         | 2026-01-29
            o3       | day-90      | p2         | 2025-12-01
            o4       | day-180     | p2         | 2025-09-02
            o5       | day-181     | p3         | 2025-09-01
        """,
        products="product_id | discontinued\n p1 | false\n p2 | true\n p3 | true",
    )
    assert site.draw("gold.customer_analytics", *stages) == drawn("""
        customer_id | last_order_date | lifecycle_stage
        day-30      | 2026-01-30      | Active
        day-31      | 2026-01-29      | At Risk
        day-90      | 2025-12-01      | At Risk
        day-180     | 2025-09-02      | Inactive
        day-181     | 2025-09-01      | Lost
    """)
    assert site.draw("gold.product_analytics", "product_id", "product_lifecycle") == drawn("""
        product_id | product_lifecycle
        p1         | Active
        p2         | Declining
        p3         | Discontinued
    """)

    older = site.deliver(
        "2026-03-02", orders="order_id | customer_id | product_id | order_date\n o6 | new | p4 | 2026-03-02"
    )
    assert site.draw("gold.customer_analytics", *stages) == drawn("""
        customer_id | last_order_date | lifecycle_stage
        day-30      | 2026-01-30      | At Risk
        day-31      | 2026-01-29      | At Risk
        day-90      | 2025-12-01      | Inactive
        day-180     | 2025-09-02      | Lost
        day-181     | 2025-09-01      | Lost
        new         | 2026-03-02      | Active
    """)
    # One is new and three reached the next stage; a customer who stays in a stage is not written again.
    assert site.written("gold.customer_analytics", older) == 4
    assert site.draw("gold.product_analytics", "product_id", "product_lifecycle") == drawn("""
        product_id | product_lifecycle
        p1         | Declining
        p2         | Discontinued
        p3         | Discontinued
        p4         | Active
    """)

    # A batch of an older date turns no clock back.
    late = site.deliver(
        "2026-02-01",
        orders="""
            order_id | customer_id | product_id | order_date | created_timestamp
            o7       | day-181     | p1         | 2026-01-31 | 2026-01-31 10:00:00
        """,
    )
    assert site.written("gold.customer_analytics", late) == 1
    rows = [r for r in site.rows("gold.customer_analytics") if r["customer_id"] == "day-181"]
    assert draw(rows, *stages) == drawn("""
        customer_id | last_order_date | lifecycle_stage
        day-181     | 2026-01-31      | Active
    """)

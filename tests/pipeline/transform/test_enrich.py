"""Enriched orders: the versions that an order is joined to, and the orders that late rows recompute, in two batches."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from drawing import draw, drawn
from factories_pipeline import Site, on_sail
from factories_shop_rows import SHOP
from factories_source_club import CLUB

from pipeline.contract import Quality, Result
from pipeline.engine.session import Session
from pipeline.model import Append, Derived, Enriched, Feed, LatestJoin, PointInTimeJoin, Scd2, Source
from pipeline.sources.retail.feeds import RETAIL
from pipeline.stages import comparison

WITHOUT_GOLD = replace(RETAIL, gold_module="")

# Each customer and product has a story of its own; the orders are named after it.
FIRST_ROWS = {
    "orders": """
        order_id | customer_id | product_id | order_date
        late-1   | late        | lamp       | 2026-03-02
        late-2   | late        | lamp       | 2026-03-04
        late-3   | late        | lamp       | 2026-03-06
        edge-1   | edge        | lamp       | 2026-03-02
        brink-1  | brink       | lamp       | 2026-03-02
        young-1  | young       | lamp       | 2026-03-02
        young-2  | young       | lamp       | 2026-03-06
        old-1    | old         | lamp       | 2026-03-02
        wait-1   | soon        | lamp       | 2026-03-02
        price-1  | calm        | vase       | 2026-03-02
        price-2  | calm        | vase       | 2026-03-04
        none-1   | nobody      | nothing    | 2026-03-02
        desk-1   | calm        | desk       | 2026-03-02
        desk-2   | calm        | desk       | 2026-03-04
        ship-1   | calm        | lamp       | 2026-03-02
        ship-2   | calm        | lamp       | 2026-03-02
        fix-1    | calm        | lamp       | 2026-03-02
        both-1   | late        | lamp       | 2026-03-04
        """,
    "customers": """
        customer_id | customer_tier | created_timestamp
        late        | basic         | 2026-03-01 08:00:00
        late        | gold          | 2026-03-05 08:00:00
        edge        | basic         | 2026-03-01 08:00:00
        edge        | silver        | 2026-03-02 23:59:59.999999
        edge        | gold          | 2026-03-03 00:00:00
        brink       | basic         | 2026-03-01 08:00:00
        young       | basic         | 2026-03-05 08:00:00
        old         | basic         | 2026-03-01 08:00:00
        calm        | basic         | 2026-03-01 08:00:00
        """,
    "products": """
        product_id | price  | stock_quantity | created_timestamp
        lamp       | 100.00 | 10             | 2026-03-01 08:00:00
        vase       | 100.00 | 10             | 2026-03-01 08:00:00
        desk       | 100.00 | 18             | 2026-03-01 08:00:00
        """,
    "inventory": """
        warehouse_id|product_id|stock_quantity|reserved_quantity|available_quantity|reorder_level|created_timestamp
        W1          |desk      |10            |2                |8                 |3            |2026-03-01 08:00:00
        W2          |desk      |8             |5                |3                 |3            |2026-03-05 08:00:00
        W1          |lamp      |10            |10               |0                 |1            |2026-03-01 08:00:00
        """,
    "shipping": """
        shipping_id | order_id | carrier | created_timestamp
        s1          | ship-1   | Post    | 2026-03-02 10:00:00
        s2          | ship-1   | Rail    | 2026-03-03 10:00:00
        s1          | ship-2   | Post    | 2026-03-02 10:00:00
        s2          | ship-2   | Rail    | 2026-03-02 10:00:00
        """,
}
LATE_ROWS = {
    "orders": """
        order_id | customer_id | product_id | order_date | order_amount | created_timestamp
        fix-1    | calm        | lamp       | 2026-03-02 | 80.00        | 2026-03-03 09:00:00
        late-1   | late        | lamp       | 2026-03-02 | 100.00       | 2026-03-01 10:00:00
        both-1   | late        | lamp       | 2026-03-04 | 80.00        | 2026-03-05 09:00:00
        """,
    "customers": """
        customer_id | customer_tier | last_login          | created_timestamp
        late        | silver        | 2026-03-01 07:00:00 | 2026-03-03 08:00:00
        brink       | silver        | 2026-03-01 07:00:00 | 2026-03-02 23:59:59.999999
        young       | silver        | 2026-03-01 07:00:00 | 2026-03-04 08:00:00
        soon        | gold          | 2026-03-01 07:00:00 | 2026-03-01 08:00:00
        old         | basic         | 2026-03-09 07:00:00 | 2026-03-09 08:00:00
        calm        | premium       | 2026-03-09 07:00:00 | 2026-03-09 08:00:00
        """,
    "products": """
        product_id | price  | created_timestamp
        vase       | 120.00 | 2026-03-03 08:00:00
        """,
    "inventory": """
        warehouse_id|product_id|stock_quantity|reserved_quantity|available_quantity|reorder_level|created_timestamp
        W1          |desk      |7             |2                |5                 |3            |2026-03-03 08:00:00
        """,
    "shipping": """
        shipping_id | order_id | carrier | shipping_status | created_timestamp
        s1          | ship-1   | Post    | delivered       | 2026-03-05 10:00:00
        """,
}
RECOMPUTED = {"late-2", "brink-1", "young-1", "wait-1", "price-2", "desk-2", "ship-1", "fix-1", "both-1"}


@dataclass(frozen=True)
class TwoBatches:
    site: Site
    first: Result
    then: Result

    def draw(self, which: str, *columns: str) -> str:
        """Draws the orders of a story after the first batch and after the late rows."""
        before = [
            {"after": "first", **r}
            for r in self.site.rows("silver.enriched_orders", self.first)
            if r["order_id"].startswith(which)
        ]
        after = [
            {"after": "then", **r}
            for r in self.site.rows("silver.enriched_orders", self.then)
            if r["order_id"].startswith(which)
        ]
        return draw(before + after, "order_id", "after", *columns)


@pytest.fixture(scope="module")
def batches(session: Session, tmp_path_factory: pytest.TempPathFactory) -> TwoBatches:
    site = Site(tmp_path_factory.mktemp("enrich"), session, WITHOUT_GOLD, fill=SHOP)
    return TwoBatches(
        site=site, first=site.deliver("2026-03-10", **FIRST_ROWS), then=site.deliver("2026-03-11", **LATE_ROWS)
    )


def test_late_rows_recompute_the_orders_that_they_affect_and_no_other(batches: TwoBatches) -> None:
    before = {r["order_id"]: r for r in batches.site.rows("silver.enriched_orders", batches.first)}
    after = {r["order_id"]: r for r in batches.site.rows("silver.enriched_orders", batches.then)}
    assert before.keys() == after.keys()
    assert {key for key, row in after.items() if row != before[key]} == RECOMPUTED
    # Not even written again: rows that come out as they were stay untouched.
    assert batches.site.written("silver.enriched_orders", batches.then) == len(RECOMPUTED)


def test_an_order_that_changes_together_with_its_customer_is_recomputed_once(batches: TwoBatches) -> None:
    assert batches.draw("both", "customer_tier", "order_amount") == drawn("""
        order_id | after | customer_tier | order_amount
        both-1   | first | basic         | 100
        both-1   | then  | silver        | 80
    """)


def test_an_order_sees_the_versions_that_are_valid_at_the_end_of_its_day(batches: TwoBatches) -> None:
    assert batches.draw("late", "order_date", "customer_tier", "estimated_clv") == drawn("""
        order_id | after | order_date | customer_tier | estimated_clv
        late-1   | first | 2026-03-02 | basic         | 300
        late-1   | then  | 2026-03-02 | basic         | 300
        late-2   | first | 2026-03-04 | basic         | 300
        late-2   | then  | 2026-03-04 | silver        | 500
        late-3   | first | 2026-03-06 | gold          | 700
        late-3   | then  | 2026-03-06 | gold          | 700
    """)
    assert batches.draw("price", "price") == drawn("""
        order_id | after | price
        price-1  | first | 100
        price-1  | then  | 100
        price-2  | first | 100
        price-2  | then  | 120
    """)


def test_the_last_microsecond_of_a_day_belongs_to_it_and_midnight_to_the_next(batches: TwoBatches) -> None:
    assert batches.draw("edge", "customer_tier") == drawn(
        "order_id | after | customer_tier\n edge-1 | first | silver\n edge-1 | then | silver"
    )
    assert batches.draw("brink", "customer_tier") == drawn(
        "order_id | after | customer_tier\n brink-1 | first | basic\n brink-1 | then | silver"
    )


def test_an_order_older_than_the_first_version_takes_the_first(batches: TwoBatches) -> None:
    assert batches.draw("young", "order_date", "customer_tier", "_customer_from") == drawn("""
        order_id | after | order_date | customer_tier | _customer_from
        young-1  | first | 2026-03-02 | basic         | 2026-03-05 08:00
        young-1  | then  | 2026-03-02 | silver        | 2026-03-04 08:00
        young-2  | first | 2026-03-06 | basic         | 2026-03-05 08:00
        young-2  | then  | 2026-03-06 | basic         | 2026-03-05 08:00
    """)


def test_an_unknown_join_is_null_until_its_row_is_known(batches: TwoBatches) -> None:
    assert batches.draw("wait", "customer_tier", "city") == drawn("""
        order_id | after | customer_tier | city
        wait-1   | first |               |
        wait-1   | then  | gold          | Leeds
    """)
    assert batches.draw(
        "none", "customer_tier", "category", "inventory_stock_quantity", "warehouse_count", "carrier", "estimated_clv"
    ) == drawn("""
        order_id|after|customer_tier|category|inventory_stock_quantity|warehouse_count|carrier|estimated_clv
        none-1  |first|             |        |                        |               |       |300
        none-1  |then |             |        |                        |               |       |300
    """)


def test_stock_is_the_sum_over_warehouses_each_by_its_version_of_the_day(batches: TwoBatches) -> None:
    quantities = ("inventory_stock_quantity", "reserved_quantity", "available_quantity")
    assert batches.draw("desk", *quantities) == drawn("""
        order_id | after | inventory_stock_quantity | reserved_quantity | available_quantity
        desk-1   | first | 18                       | 7                 | 11
        desk-1   | then  | 18                       | 7                 | 11
        desk-2   | first | 18                       | 7                 | 11
        desk-2   | then  | 15                       | 7                 | 8
    """)
    assert batches.draw("desk", "inventory_stock_status", "warehouse_count") == drawn("""
        order_id | after | inventory_stock_status | warehouse_count
        desk-1   | first | Low Stock              | 2
        desk-1   | then  | Low Stock              | 2
        desk-2   | first | Low Stock              | 2
        desk-2   | then  | Low Stock              | 2
    """)
    assert batches.draw("old", *quantities) == drawn("""
        order_id | after | inventory_stock_quantity | reserved_quantity | available_quantity
        old-1    | first | 10                       | 10                | 0
        old-1    | then  | 10                       | 10                | 0
    """)
    assert batches.draw("old", "inventory_stock_status", "warehouse_count") == drawn("""
        order_id | after | inventory_stock_status | warehouse_count
        old-1    | first | Out of Stock           | 1
        old-1    | then  | Out of Stock           | 1
    """)


def test_of_several_shipments_the_newest_counts(batches: TwoBatches) -> None:
    assert batches.draw("ship", "shipping_id", "carrier", "shipping_status", "shipment_count") == drawn("""
        order_id | after | shipping_id | carrier | shipping_status | shipment_count
        ship-1   | first | s2          | Rail    | sent            | 2
        ship-1   | then  | s1          | Post    | delivered       | 2
        ship-2   | first | s2          | Rail    | sent            | 2
        ship-2   | then  | s2          | Rail    | sent            | 2
    """)


def test_a_login_or_a_change_after_the_day_recomputes_nothing(batches: TwoBatches) -> None:
    assert batches.draw("old", "customer_tier") == drawn(
        "order_id | after | customer_tier\n old-1 | first | basic\n old-1 | then | basic"
    )
    logins = [r["last_login"].isoformat() for r in batches.site.rows("silver.customers") if r["customer_id"] == "old"]
    assert logins == ["2026-03-09T07:00:00+00:00"]  # the late row did arrive


def test_a_corrected_order_is_recomputed_with_all_that_follows_from_it(batches: TwoBatches) -> None:
    assert batches.draw(
        "fix",
        "order_amount",
        "order_profit_margin",
        "estimated_clv",
        "season",
        "day_of_week",
        "is_weekend",
        "time_of_day",
    ) == drawn("""
        order_id|after|order_amount|order_profit_margin|estimated_clv|season|day_of_week|is_weekend|time_of_day
        fix-1   |first|100         |30                 |300          |Spring|2          |false     |Morning
        fix-1   |then |80          |24                 |240          |Spring|2          |false     |Morning
    """)


def test_rules_over_the_enriched_table_judge_the_batchs_own_rows(batches: TwoBatches) -> None:
    first, then = batches.site.broken(batches.first), batches.site.broken(batches.then)
    # Two of the second batch's three orders cost another amount than the lamp.
    # Recomputed orders of older batches are not validated again.
    assert (first["order_amount_is_the_price"], then["order_amount_is_the_price"]) == ((17, 0), (3, 2))
    assert first["stock_agrees_with_product"] == (15, 0)


@on_sail
def test_enriched_orders_are_the_same_for_every_order_of_arrival(
    session: Session, tmp_path: Path, batches: TwoBatches
) -> None:
    site = Site(tmp_path, session, WITHOUT_GOLD, fill=SHOP)
    site.deliver("2026-03-11", **LATE_ROWS)
    site.deliver("2026-03-10", **FIRST_ROWS)
    columns = [c.name for c in WITHOUT_GOLD.enriched_columns(WITHOUT_GOLD.enriched[0])]
    assert site.draw("silver.enriched_orders", *columns) == batches.site.draw("silver.enriched_orders", *columns)


ORDERS = "order_id | order_date\n o1 | 2026-03-01\n o2 | 2026-03-03\n o3 | 2026-03-05\n o4 | 2026-03-07"
PRESENT = "customer_id | customer_tier\n c1 | basic\n c2 | basic"
ABSENT = "customer_id | customer_tier\n c2 | basic"


@on_sail
@pytest.mark.parametrize("few", [comparison.IN_PROCESS_ROWS, 0], ids=["in this process", "by the engine"])
@pytest.mark.parametrize("arrival", [(0, 1, 2, 3), (3, 2, 1, 0)], ids=["in order", "backwards"])
def test_in_the_gap_after_a_delete_an_order_has_no_customer(
    session: Session, tmp_path: Path, arrival: Sequence[int], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "IN_PROCESS_ROWS", few)
    site = Site(tmp_path, session, WITHOUT_GOLD, fill=SHOP, quality=Quality(max_snapshot_shrink=1.0))
    deliveries = [
        {"day": "2026-03-02", "customers": PRESENT, "snapshot": ["customers"]},
        {"day": "2026-03-03", "customers": ABSENT, "snapshot": ["customers"]},
        {"day": "2026-03-05", "customers": PRESENT, "snapshot": ["customers"]},
        {"day": "2026-03-07", "orders": ORDERS},
    ]
    for at in arrival:
        site.deliver(**deliveries[at])  # type: ignore[arg-type]
    # Gone from 4 March, back from 6 March; the first order is older than all.
    assert site.draw("silver.enriched_orders", "order_id", "customer_tier", "_customer_from") == drawn("""
        order_id | customer_tier | _customer_from
        o1       | basic         | 2026-03-01 08:00
        o2       | basic         | 2026-03-01 08:00
        o3       |               |
        o4       | basic         | 2026-03-06
    """)


# ---- a join by columns that are not the key of the joined feed

BASKETS = Source(
    name="shop",
    feeds=(
        Feed(
            name="baskets",
            files="baskets_*.csv",
            columns="basket STRING NOT NULL, sold_at TIMESTAMP NOT NULL",
            key=("basket",),
            stored_as=Scd2(sequence_by="sold_at"),
        ),
        Feed(
            name="lines",
            files="lines_*.csv",
            columns="line STRING NOT NULL, basket STRING, price INT, put_at TIMESTAMP NOT NULL",
            key=("line",),
            stored_as=Scd2(sequence_by="put_at"),
        ),
    ),
    enriched=(
        Enriched(
            name="summed",
            upstream="baskets",
            as_of="sold_at",
            joins=(
                PointInTimeJoin(
                    feed="lines", on=("basket",), prefix="line_", aggregates=(Derived("total", "BIGINT", "sum(price)"),)
                ),
            ),
        ),
    ),
)


@pytest.mark.parametrize("few", [comparison.IN_PROCESS_ROWS, 0], ids=["in this process", "by the engine"])
def test_lines_are_summed_onto_their_baskets_in_every_batch(
    session: Session, tmp_path: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "IN_PROCESS_ROWS", few)
    site = Site(tmp_path, session, BASKETS)
    lines = "line | basket | price | put_at"
    baskets = "basket | sold_at\n b1 | 2026-03-01 10:00:00\n b2 | 2026-03-01 10:00:00\n b3 | 2026-03-01 10:00:00"
    site.deliver(
        "2026-03-01",
        baskets=baskets,
        lines=f"{lines}\n l1 | b1 | 1 | 2026-03-01 09:00:00\n l2 | b1 | 2 | 2026-03-01 11:00:00",
    )
    assert site.draw("silver.summed", "basket", "total") == drawn("basket | total\n b1 | 3\n b2 |\n b3 |")
    # A later batch: a new line, and one that moves; of a line that moved after the sale, the first version counts.
    site.deliver("2026-03-02", lines=f"{lines}\n l3 | b2 | 5 | 2026-03-01 09:00:00\n l2 | b3 | 2 | 2026-03-02 09:00:00")
    assert site.draw("silver.summed", "basket", "total") == drawn("basket | total\n b1 | 3\n b2 | 5\n b3 |")
    # A late row: the line was in another basket at first, so the basket that had it loses it.
    site.deliver("2026-03-03", lines=f"{lines}\n l2 | b3 | 4 | 2026-03-01 10:30:00")
    assert site.draw("silver.summed", "basket", "total") == drawn("basket | total\n b1 | 1\n b2 | 5\n b3 | 4")


@pytest.mark.parametrize("few", [comparison.IN_PROCESS_ROWS, 0], ids=["in this process", "by the engine"])
def test_the_last_of_several_rows_is_joined_with_their_number(
    session: Session, tmp_path: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "IN_PROCESS_ROWS", few)
    latest = LatestJoin(feed="lines", on=("basket",), prefix="line_", order_by=("price", "line"), count="lines")
    marks = Feed(name="marks", files="marks_*.csv", columns="basket STRING, mark INT", key=(), stored_as=Append())
    of_marks = LatestJoin(feed="marks", on=("basket",), prefix="m_", order_by=("mark",), count="marks")
    source = replace(
        BASKETS,
        feeds=(*BASKETS.feeds, marks),
        enriched=(Enriched(name="summed", upstream="baskets", joins=(latest, of_marks)),),
    )
    site, shown = Site(tmp_path, session, source), ("basket", "line", "price", "lines", "mark", "marks")
    lines = "line | basket | price | put_at"
    at = "2026-03-01 10:00:00"
    site.deliver(
        "2026-03-01",
        baskets=f"basket | sold_at\n b1 | {at}\n b2 | {at}\n b3 | {at}\n b4 | {at}",
        # Of two rows with one price the higher line is the last one. A row without a price comes before all others.
        lines=f"{lines}\n l1 | b1 | 7 | {at}\n l2 | b1 | 7 | {at}\n l3 | b1 | | {at}\n l4 | b2 | 1 | {at}"
        f"\n l5 | | 1 | {at}\n l6 | | 2 | {at}\n l7 | b4 | | {at}\n l8 | b4 | | {at}",
        marks="basket | mark\n b1 | 1\n b1 | 3\n b1 | 2\n b3 | 5",
    )
    assert site.draw("silver.summed", *shown) == drawn("""
        basket | line | price | lines | mark | marks
        b1     | l2   | 7     | 3     | 3    | 3
        b2     | l4   | 1     | 1     |      |
        b3     |      |       |       | 5    | 1
        b4     | l8   |       | 2     |      |
    """)
    site.deliver("2026-03-02", lines=f"{lines}\n l2 | b2 | 7 | 2026-03-02 10:00:00", marks="basket | mark\n b2 | 4")
    assert site.draw("silver.summed", *shown) == drawn("""
        basket | line | price | lines | mark | marks
        b1     | l1   | 7     | 2     | 3    | 3
        b2     | l2   | 7     | 2     | 4    | 1
        b3     |      |       |       | 5    | 1
        b4     | l8   |       | 2     |      |
    """)


def test_orders_of_the_last_day_and_the_first_keep_their_joins(session: Session, tmp_path: Path) -> None:
    any_time = Quality(max_future_hours=1e8, min_event_time=dt.date(1, 1, 1))
    site = Site(tmp_path, session, RETAIL, fill=SHOP, quality=any_time)
    last, columns = "9999-12-31 23:59:59.999999", "customer_id | customer_tier | created_timestamp"
    orders = """
        order_id | customer_id | order_date
        first    | ann         | 0001-01-01
        last     | ann         | 9999-12-31
        wait     | bob         | 9999-12-31
        """
    site.deliver(
        "2026-03-02",
        orders=orders,
        customers=f"{columns}\n ann | basic | 0001-01-01 00:00:00\n ann | gold | {last}",
        products="product_id\n p1",
    )
    shown = ("order_id", "customer_tier", "category")
    assert site.draw("silver.enriched_orders", *shown) == drawn("""
        order_id | customer_tier | category
        first    | basic         | light
        last     | gold          | light
        wait     |               | light
    """)
    late = f"bob | premium | {last}\n ann | silver | 0001-01-01 00:00:00.000001"
    site.deliver("2026-03-03", customers=f"{columns}\n {late}")
    assert site.draw("silver.enriched_orders", *shown) == drawn("""
        order_id | customer_tier | category
        first    | silver        | light
        last     | gold          | light
        wait     | premium       | light
    """)
    days = drawn("order_date | orders\n 0001-01-01 | 1\n 9999-12-31 | 2")
    assert site.draw("gold.daily_sales", "order_date", "orders") == days


@on_sail
def test_what_sees_the_newest_of_everything_sees_the_last_instant(session: Session, tmp_path: Path) -> None:
    now = Enriched(
        name="rooms_now", upstream="rooms", joins=(PointInTimeJoin(feed="members", on=("room_id",), prefix="member_"),)
    )
    members = replace(CLUB.feeds[0], columns=CLUB.feeds[0].columns.replace("member_id", "room_id"), key=("room_id",))
    club = replace(CLUB, feeds=(members, CLUB.feeds[1]), enriched=(now,))
    site = Site(tmp_path, session, club, quality=Quality(max_future_hours=1e8))
    rows = "room_id | tier | changed_at\n A | old | 2026-03-01 10:00:00\n A | new | 9999-12-31 23:59:59.999999"
    site.deliver("2026-03-02", rooms="room_id | seats\n A | 1", members=rows)
    assert site.draw("silver.rooms_now", "room_id", "tier") == drawn("room_id | tier\n A | new")

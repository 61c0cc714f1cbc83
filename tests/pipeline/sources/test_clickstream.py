"""Clickstream: enriched events, hierarchy and gold after two batches, the second with late properties."""

from pathlib import Path

import pytest
from drawing import draw, drawn
from factories_clickstream import (
    FIRST,
    ITEM_COLUMNS,
    LATE,
    MIDNIGHT,
    LateProperty,
    deliver_batch,
    deliver_late_property,
    draw_events,
)
from factories_pipeline import Site, on_sail

from pipeline.engine.session import Session
from pipeline.sources.clickstream.feeds import CLICKSTREAM


@pytest.fixture(scope="module")
def delivered(session: Session, tmp_path_factory: pytest.TempPathFactory) -> LateProperty:
    return deliver_late_property(tmp_path_factory.mktemp("clicks"), session)


def test_an_event_joins_the_values_of_its_millisecond(delivered: LateProperty) -> None:
    assert draw_events(delivered.site, "itemid", "event", *ITEM_COLUMNS, result=delivered.first) == drawn("""
        at   | itemid | event       | category_id | parent_category_id | root_category_id | available | price
        999  | 1      | view        |             |                    |                  |           |
        1000 | 1      | view        | 20          | 10                 | 1                |           | 10.5
        1999 | 1      | view        | 20          | 10                 | 1                |           | 10.5
        2000 | 1      | addtocart   | 20          | 10                 | 1                | true      | 10.5
        2001 | 1      | view        | 20          | 10                 | 1                |           | 10.5
        3000 | 1      | transaction | 20          | 10                 | 1                |           | 10.5
        3500 | 1      | view        | 20          | 10                 | 1                |           |
        1000 | 2      | view        |             |                    |                  |           |
        5000 | 2      | transaction | 30          | 99                 | 30               | false     | 7.25
        5000 | 9      | view        |             |                    |                  |           |
    """)


def test_a_late_property_recomputes_only_its_events(delivered: LateProperty) -> None:
    before = {r["_row"]: r for r in delivered.site.rows("silver.enriched_events", delivered.first)}
    after = {r["_row"]: r for r in delivered.site.rows("silver.enriched_events", delivered.late)}
    changed = [{"at": r["timestamp"] - MIDNIGHT, **r} for key, r in after.items() if r != before[key]]
    assert draw(changed, "at", "itemid", "category_id") == drawn("""
        at   | itemid | category_id
        1999 | 1      | 30
        2000 | 1      | 30
        2001 | 1      | 20
        3000 | 1      | 20
        3500 | 1      | 20
        5000 | 9      | 40
    """)
    assert delivered.site.written("silver.enriched_events", delivered.late) == len(changed)
    # These events show the same category as before, but join another version: the one that the late property started.
    assert {r["at"] for r in changed if r["category_id"] == 20} == {2001, 3000, 3500}


def test_values_of_another_form_are_unknown_and_counted(delivered: LateProperty) -> None:
    broken = delivered.site.broken(delivered.first)
    assert {rule: broken[rule] for rule in ("category_is_a_number", "available_is_0_or_1", "price_is_a_price")} == {
        "category_is_a_number": (3, 1),
        "available_is_0_or_1": (3, 1),
        "price_is_a_price": (3, 1),
    }


def test_a_hierarchy_has_the_root_of_each_node_and_counts_errors(delivered: LateProperty) -> None:
    assert delivered.site.draw("silver.categories", "categoryid", "parentid", "root") == drawn("""
        categoryid | parentid | root
        1          |          | 1
        10         | 1        | 1
        20         | 10       | 1
        30         | 99       | 30
        40         | 41       |
        41         | 40       |
        42         | 41       |
    """)
    broken = delivered.site.broken(delivered.first)
    assert (broken["parent_is_listed"], broken["node_has_a_root"]) == ((7, 1), (7, 3))
    assert "parent_is_listed" not in delivered.site.broken(delivered.late)


def test_the_nodes_of_a_hierarchy_are_no_versions_that_changed(delivered: LateProperty) -> None:
    progress = delivered.site.progress
    ended = [p.values for p in progress if p.event == "task.finished"]
    merged = [v["rows"] for v in ended if v["task"].startswith("merge clickstream.silver.")]
    stages = [p.values["versions_changed"] for p in progress if (p.event, p.stage) == ("stage.finished", "merge")]
    assert sum(stages) == sum(merged) > 0


def test_an_event_of_a_category_on_a_cycle_has_no_root(delivered: LateProperty) -> None:
    (event,) = [r for r in delivered.site.rows("silver.enriched_events") if r["itemid"] == 9]
    assert (event["category_id"], event["parent_category_id"], event["root_category_id"]) == (40, 41, None)


def test_sales_have_the_category_and_price_of_their_millisecond(delivered: LateProperty) -> None:
    assert delivered.site.draw(
        "gold.fact_sales", "transactionid", "event_date", "visitorid", "itemid", "category_id", "price"
    ) == drawn("""
        transactionid | event_date | visitorid | itemid | category_id | price
        70            | 2026-03-02 | 1         | 1      | 20          | 10.5
        71            | 2026-03-02 | 2         | 2      | 30          | 7.25
    """)
    assert delivered.site.draw(
        "gold.daily_sales_by_category", "event_date", "category_id", "transactions", "items_sold", "revenue"
    ) == drawn("""
        event_date | category_id | transactions | items_sold | revenue
        2026-03-02 | 20          | 1            | 1          | 10.5
        2026-03-02 | 30          | 1            | 1          | 7.25
    """)


def test_the_funnel_counts_visitors_and_has_no_rate_for_a_divisor_of_zero(delivered: LateProperty) -> None:
    columns = (
        "itemid",
        "unique_views",
        "unique_addtocarts",
        "unique_purchases",
        "view_to_cart_rate",
        "cart_to_purchase_rate",
    )
    assert delivered.site.draw("gold.funnel", *columns) == drawn("""
        itemid | unique_views | unique_addtocarts | unique_purchases | view_to_cart_rate | cart_to_purchase_rate
        1      | 2            | 1                 | 1                | 0.5               | 1
        2      | 1            | 0                 | 1                | 0                 |
        9      | 1            | 0                 | 0                | 0                 |
    """)


def test_the_lists_rank_by_views_and_by_spend(delivered: LateProperty) -> None:
    assert delivered.site.draw("gold.top_viewed_items", "itemid", "views", "unique_visitors", "rank") == drawn("""
        itemid | views | unique_visitors | rank
        1      | 5     | 2               | 1
        2      | 1     | 1               | 2
        9      | 1     | 1               | 3
    """)
    assert delivered.site.draw(
        "gold.visitor_segments", "visitorid", "purchases", "spend", "last_purchase_at", "segment"
    ) == drawn("""
        visitorid | purchases | spend | last_purchase_at    | segment
        1         | 1         | 10.5  | 2026-03-02 00:00:03 | Top 500 Spenders
        2         | 1         | 7.25  | 2026-03-02 00:00:05 | Top 500 Spenders
    """)


@on_sail
def test_tables_do_not_depend_on_the_order_of_arrival(
    session: Session, tmp_path: Path, delivered: LateProperty
) -> None:
    site = Site(tmp_path, session, CLICKSTREAM)
    deliver_batch(site, LATE)
    first = FIRST["item_properties"]
    for part in (first[1], first[0]):
        site.deliver("2026-03-02", item_properties=part)
    site.deliver("2026-03-02", category_tree=FIRST["category_tree"])
    site.deliver("2026-03-02", events=FIRST["events"][6:])
    site.deliver("2026-03-02", events=FIRST["events"][:7])
    tables = [f"silver.{t.name}" for t in (*CLICKSTREAM.feeds, *CLICKSTREAM.hierarchies, *CLICKSTREAM.enriched)] + [
        f"gold.{t.name}" for t in CLICKSTREAM.gold
    ]
    for table in tables:
        expected = delivered.site.rows(table)
        assert site.draw(table, *expected[0]) == draw(expected, *expected[0]), table

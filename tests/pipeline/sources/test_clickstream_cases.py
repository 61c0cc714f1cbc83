"""Clickstream: invalid events, extreme times, moved categories, failed checks, ranks."""

from dataclasses import replace
from pathlib import Path

from drawing import draw, drawn
from factories_clickstream import (
    MIDNIGHT,
    WITHOUT_GOLD,
    draw_events,
    timed,
)
from factories_pipeline import Site, on_sail

from pipeline.contract import Outcome, Quality
from pipeline.engine.session import Session
from pipeline.model import HIGH, Rule
from pipeline.sources.clickstream.feeds import CLICKSTREAM
from pipeline.transform.hierarchy import roots


@on_sail
def test_one_purchase_of_three_items_is_one_purchase(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, CLICKSTREAM)
    first = timed("""
        at | visitorid | event       | itemid | transactionid
        1  | 1         | transaction | 1      | 70
        2  | 1         | transaction | 2      | 70
        3  | 1         | transaction | 3      | 70
    """)
    site.deliver("2026-03-02", events=first)
    assert site.draw("gold.visitor_segments", "visitorid", "purchases") == drawn("visitorid | purchases\n 1 | 1")
    second = timed("""
        at | visitorid | event       | itemid | transactionid
        4  | 1         | transaction | 1      | 71
        5  | 1         | transaction | 4      | 70
    """)
    site.deliver("2026-03-02", events=second)
    assert site.draw("gold.visitor_segments", "visitorid", "purchases") == drawn("visitorid | purchases\n 1 | 2")


@on_sail
def test_an_invalid_event_is_rejected_with_its_reason(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, WITHOUT_GOLD)
    good = MIDNIGHT + 1
    rows = [
        f"{good},1,view,1,",
        "soon,1,view,1,",
        "12.5,1,view,1,",
        f"{good},,view,1,",
        f"{good},1,view,,",
        f"{good},1,purchase,1,",
        f"{good},1,transaction,1,",
    ]
    rows += [f"{10**18},1,view,1,", "-1,1,view,1,", f"{MIDNIGHT + 3 * 86_400_000},1,view,1,"]
    site.deliver("2026-03-02", raw_events="\n".join(["timestamp,visitorid,event,itemid,transactionid", *rows]))
    reasons = {r["raw"].replace(str(good), "t"): r["reasons"] for r in site.rows("ops.quarantine")}
    assert reasons == {
        "soon,1,view,1,": ["type:timestamp"],
        "12.5,1,view,1,": ["type:timestamp"],
        "t,,view,1,": ["visitorid_is_given"],
        "t,1,view,,": ["itemid_is_given"],
        "t,1,purchase,1,": ["event_is_known"],
        "t,1,transaction,1,": ["transaction_has_an_id"],
        f"{10**18},1,view,1,": ["event_time_is_given"],
        "-1,1,view,1,": ["event_time_is_given"],
        f"{MIDNIGHT + 3 * 86_400_000},1,view,1,": ["event_time_is_not_in_the_future"],
    }
    assert draw_events(site, "visitorid", "itemid") == drawn("at | visitorid | itemid\n 1 | 1 | 1")


@on_sail
def test_times_in_seconds_are_rejected_as_events_of_1970(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, WITHOUT_GOLD)
    seconds = MIDNIGHT // 1000
    view = {"visitorid": "1", "event": "view", "itemid": "1"}
    site.deliver(
        "2026-03-02",
        events=[{"timestamp": str(at), **view} for at in (0, seconds, MIDNIGHT)],
        raw_item_properties=f"timestamp,itemid,property,value\n{seconds},1,790,n1.000\n{MIDNIGHT},1,790,n2.000\n",
    )
    assert site.draw("ops.quarantine", "feed", "record", "reasons") == drawn("""
        feed            | record | reasons
        events          | 1      | event_time_is_not_before_min_event_time
        events          | 2      | event_time_is_not_before_min_event_time
        item_properties | 1      | event_time_is_not_before_min_event_time
    """)
    assert draw_events(site, "price") == drawn("at | price\n 0 | 2")


@on_sail
def test_an_event_of_the_last_instant_joins_the_values_of_its_item(session: Session, tmp_path: Path) -> None:
    last = 253402300799999  # 9999-12-31 23:59:59.999
    site = Site(tmp_path, session, CLICKSTREAM, quality=Quality(max_future_hours=1e8))
    site.deliver(
        "2026-03-02",
        raw_events=f"timestamp,visitorid,event,itemid,transactionid\n{last},1,transaction,1,7\n{last},1,view,1,\n",
        item_properties=[
            {"timestamp": str(at), "itemid": "1", "property": name, "value": value}
            for at, name, value in ((last, "790", "n1.000"), (MIDNIGHT, "790", "n2.000"), (MIDNIGHT, "available", "1"))
        ],
    )
    assert draw(site.rows("silver.enriched_events"), "event", "available", "price") == drawn("""
        event       | available | price
        transaction | true      | 1
        view        | true      | 1
    """)
    site.deliver("2026-03-03", raw_item_properties=f"timestamp,itemid,property,value\n{last},1,available,0\n")
    assert draw(site.rows("silver.enriched_events"), "event", "available") == drawn("""
        event       | available
        transaction | false
        view        | false
    """)


@on_sail
def test_a_changed_hierarchy_recomputes_the_events_of_moved_categories(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, WITHOUT_GOLD)
    site.deliver(
        "2026-03-02",
        events=timed("at | visitorid | event | itemid\n 5 | 1 | view | 1\n 5 | 1 | view | 2\n 5 | 1 | view | 3"),
        item_properties=timed("""
            at | itemid | property   | value
            1  | 1      | categoryid | 10
            1  | 2      | categoryid | 20
            1  | 3      | categoryid | 30
        """),
        category_tree="categoryid | parentid\n 1 |\n 2 |\n 10 | 1\n 20 | 10\n 30 | 2",
    )
    moved = site.deliver("2026-03-03", category_tree="categoryid | parentid\n 1 |\n 2 |\n 10 | 2\n 20 | 10\n 30 | 2")
    assert draw_events(site, "itemid", "parent_category_id", "root_category_id") == drawn("""
        at | itemid | parent_category_id | root_category_id
        5  | 1      | 2                  | 2
        5  | 2      | 10                 | 2
        5  | 3      | 2                  | 2
    """)
    assert site.written("silver.enriched_events", moved) == 2
    older = site.deliver("2026-03-01", category_tree="categoryid | parentid\n 10 |")
    assert (
        older.table_versions["clickstream.silver.categories"] == moved.table_versions["clickstream.silver.categories"]
    )


@on_sail
def test_a_failed_check_of_the_enriched_table_rejects_the_batch(session: Session, tmp_path: Path) -> None:
    (table,) = WITHOUT_GOLD.enriched
    doubtful = replace(
        table, checks=(*table.checks, Rule("price_is_small", "price < 10", severity=HIGH, where="price IS NOT NULL"))
    )
    site = Site(tmp_path, session, replace(WITHOUT_GOLD, enriched=(doubtful,)))
    properties = timed("at | itemid | property | value\n 1 | 1 | 790 | n11.000")
    result = site.attempt(
        "2026-03-02", events=timed("at | visitorid | event | itemid\n 5 | 1 | view | 1"), item_properties=properties
    )
    assert result.outcome == Outcome.REJECTED
    assert (
        "clickstream.silver.enriched_events: 1 rows break its check price_is_small, the first where event_time"
        in result.reason
    )
    assert site.versions().get("clickstream.silver.events", 0) == 0 or not site.rows("silver.events")
    cheap = timed("at | itemid | property | value\n 1 | 1 | 790 | n9.000")
    site.deliver(
        "2026-03-02", events=timed("at | visitorid | event | itemid\n 5 | 1 | view | 1"), item_properties=cheap
    )
    late = site.attempt("2026-03-03", item_properties=timed("at | itemid | property | value\n 2 | 1 | 790 | n11.000"))
    assert late.outcome == Outcome.REJECTED
    assert "clickstream.silver.enriched_events: 1 rows break its check price_is_small" in late.reason
    assert draw_events(site, "price") == drawn("at | price\n 5 | 9")


@on_sail
def test_the_price_property_is_a_setting(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, WITHOUT_GOLD, values={"price_property": "77"})
    properties = timed("at | itemid | property | value\n 1 | 1 | 790 | n11.000\n 1 | 1 | 77 | n3")
    site.deliver(
        "2026-03-02", events=timed("at | visitorid | event | itemid\n 5 | 1 | view | 1"), item_properties=properties
    )
    assert draw_events(site, "price") == drawn("at | price\n 5 | 3")


@on_sail
def test_the_top_list_has_a_hundred_items_and_ties_share_a_segment(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, CLICKSTREAM)
    sold = [
        {
            "timestamp": str(MIDNIGHT + v),
            "visitorid": str(v),
            "event": "transaction",
            "itemid": "1",
            "transactionid": str(v),
        }
        for v in range(499)
    ]
    tied = [
        {
            "timestamp": str(MIDNIGHT + v),
            "visitorid": str(v),
            "event": "transaction",
            "itemid": "2",
            "transactionid": str(v),
        }
        for v in range(499, 520)
    ]
    views = [
        {"timestamp": str(MIDNIGHT + i), "visitorid": "1", "event": "view", "itemid": str(i)} for i in range(1, 151)
    ]
    views += [{"timestamp": str(MIDNIGHT + 999), "visitorid": "1", "event": "view", "itemid": "150"}]
    prices = timed("at | itemid | property | value\n 0 | 1 | 790 | n5.000\n 0 | 2 | 790 | n4.000")
    late = {
        "timestamp": str(MIDNIGHT),
        "visitorid": "9999",
        "event": "transaction",
        "itemid": "3",
        "transactionid": "9999",
    }
    site.deliver("2026-03-02", events=[*sold, *tied, late, *views], item_properties=prices)
    top = sorted(site.rows("gold.top_viewed_items"), key=lambda r: r["rank"])
    assert [(r["itemid"], r["rank"]) for r in top] == [(150, 1), *((n, n + 1) for n in range(1, 100))]
    segments = {r["visitorid"]: r["segment"] for r in site.rows("gold.visitor_segments")}
    # All visitors who spent 4 share rank 500. A visitor who bought for an unknown price comes after them.
    assert {segments[v] for v in range(520)} == {"Top 500 Spenders"}
    assert segments[9999] == "Top 5000 Spenders"


def test_roots_end_in_a_root_or_in_a_cycle() -> None:
    assert roots({1: None, 2: 1, 3: 2, 4: 99, 5: 4, 6: 6, 7: 8, 8: 9, 9: 8}) == {
        1: 1,
        2: 1,
        3: 1,
        4: 4,
        5: 4,
        6: None,
        7: None,
        8: None,
        9: None,
    }
    deep = {n: n - 1 for n in range(1, 5000)} | {0: None}
    assert set(roots(deep).values()) == {0}

"""What a visitor did, seen with what the item was at that very millisecond; late news; the tree; and the tables made of it."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from drawing import draw, drawn, parsed
from effort import tries
from factories_pipeline import Site, on_sail
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.contract import Outcome, Quality, Result
from pipeline.engine.session import Session
from pipeline.model import HIGH, Rule
from pipeline.sources.clickstream.feeds import CLICKSTREAM
from pipeline.transform.hierarchy import roots

MIDNIGHT = 1_772_409_600_000  # 2026-03-02 00:00 UTC in milliseconds
WITHOUT_GOLD = replace(CLICKSTREAM, gold_module="")
SEEN = ("category_id", "parent_category_id", "root_category_id", "available", "price")


def timed(drawing: str) -> list[dict[str, str | None]]:
    """Rows of a drawing whose `at` is in milliseconds after midnight."""
    return [
        {"timestamp": str(MIDNIGHT + int(row["at"] or 0)), **{k: v for k, v in row.items() if k != "at"}}
        for row in parsed(drawing)
    ]


def seen(site: Site, *names: str, result: Result | None = None) -> str:
    """Draws the enriched events with their time in milliseconds after midnight."""
    rows = [{"at": r["timestamp"] - MIDNIGHT, **r} for r in site.rows("silver.enriched_events", result)]
    return draw(rows, "at", *names)


# ---- a story: two batches, the second of them late news

FIRST: dict[str, Any] = {
    "day": "2026-03-02",
    "events": timed("""
        at   | visitorid | event       | itemid | transactionid
        999  | 1         | view        | 1      |
        1000 | 1         | view        | 1      |
        1999 | 1         | view        | 1      |
        2000 | 1         | addtocart   | 1      |
        2001 | 2         | view        | 1      |
        3000 | 1         | transaction | 1      | 70
        3500 | 2         | view        | 1      |
        3500 | 2         | view        | 1      |
        1000 | 2         | view        | 2      |
        5000 | 2         | transaction | 2      | 71
        5000 | 2         | view        | 9      |
        """),
    "item_properties": [
        timed("""
        at   | itemid | property   | value
        1000 | 1      | categoryid | 20
        1000 | 1      | 790        | n10.500
        2000 | 1      | available  | 1
        2001 | 1      | available  |
        3500 | 1      | 790        |
        """),
        timed("""
        at   | itemid | property   | value
        500  | 2      | categoryid | twenty
        500  | 2      | available  | yes
        500  | 2      | 790        | 12.000
        4000 | 2      | categoryid | 30
        4000 | 2      | available  | 0
        4000 | 2      | 790        | n7.25
        4000 | 2      | 888        | 1052 n12.000
        """),
    ],
    "category_tree": "categoryid | parentid\n 1 |\n 10 | 1\n 20 | 10\n 30 | 99\n 40 | 41\n 41 | 40\n 42 | 41",
}
LATE: dict[str, Any] = {
    "day": "2026-03-03",
    "item_properties": timed("""
        at   | itemid | property   | value
        1999 | 1      | categoryid | 30
        2001 | 1      | categoryid | 20
        0    | 9      | categoryid | 40
        """),
}


def delivered(site: Site, batch: Mapping[str, Any]) -> Result:
    """Delivers a batch; several parts of the properties are several files."""
    parts = batch.get("item_properties", [])
    several = (
        [site.csv(CLICKSTREAM.feed("item_properties"), part) for part in parts]
        if parts and isinstance(parts[0], list)
        else None
    )
    rest = {name: value for name, value in batch.items() if name != "item_properties"}
    return site.deliver(
        **rest, **({"raw_item_properties": several} if several else {"item_properties": parts} if parts else {})
    )


@dataclass(frozen=True)
class Told:
    site: Site
    first: Result
    late: Result


@pytest.fixture(scope="module")
def told(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Told:
    site = Site(tmp_path_factory.mktemp("clicks"), session, CLICKSTREAM)
    return Told(site=site, first=delivered(site, FIRST), late=delivered(site, LATE))


def test_an_event_sees_what_is_valid_at_its_own_millisecond(told: Told) -> None:
    assert seen(told.site, "itemid", "event", *SEEN, result=told.first) == drawn("""
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


def test_a_late_property_restates_its_events_and_no_other(told: Told) -> None:
    before = {r["_row"]: r for r in told.site.rows("silver.enriched_events", told.first)}
    after = {r["_row"]: r for r in told.site.rows("silver.enriched_events", told.late)}
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
    assert told.site.written("silver.enriched_events", told.late) == len(changed)
    # What shows the same as before is another version all the same: the one that a late property opened.
    assert {r["at"] for r in changed if r["category_id"] == 20} == {2001, 3000, 3500}


def test_values_that_do_not_fit_are_unknown_and_counted(told: Told) -> None:
    broken = told.site.broken(told.first)
    assert {rule: broken[rule] for rule in ("category_is_a_number", "available_is_0_or_1", "price_is_a_price")} == {
        "category_is_a_number": (3, 1),
        "available_is_0_or_1": (3, 1),
        "price_is_a_price": (3, 1),
    }


def test_a_tree_tells_each_node_its_root_and_counts_what_is_wrong_with_it(told: Told) -> None:
    assert told.site.draw("silver.categories", "categoryid", "parentid", "root") == drawn("""
        categoryid | parentid | root
        1          |          | 1
        10         | 1        | 1
        20         | 10       | 1
        30         | 99       | 30
        40         | 41       |
        41         | 40       |
        42         | 41       |
    """)
    broken = told.site.broken(told.first)
    assert (broken["parent_is_listed"], broken["node_has_a_root"]) == ((7, 1), (7, 3))
    assert "parent_is_listed" not in told.site.broken(told.late)


def test_an_event_of_a_category_on_a_circle_has_no_root(told: Told) -> None:
    (event,) = [r for r in told.site.rows("silver.enriched_events") if r["itemid"] == 9]
    assert (event["category_id"], event["parent_category_id"], event["root_category_id"]) == (40, 41, None)


def test_sales_have_the_category_and_price_of_their_millisecond(told: Told) -> None:
    assert told.site.draw(
        "gold.fact_sales", "transactionid", "event_date", "visitorid", "itemid", "category_id", "price"
    ) == drawn("""
        transactionid | event_date | visitorid | itemid | category_id | price
        70            | 2026-03-02 | 1         | 1      | 20          | 10.5
        71            | 2026-03-02 | 2         | 2      | 30          | 7.25
    """)
    assert told.site.draw(
        "gold.daily_sales_by_category", "event_date", "category_id", "transactions", "items_sold", "revenue"
    ) == drawn("""
        event_date | category_id | transactions | items_sold | revenue
        2026-03-02 | 20          | 1            | 1          | 10.5
        2026-03-02 | 30          | 1            | 1          | 7.25
    """)


def test_the_funnel_counts_visitors_and_has_no_rate_without_a_base(told: Told) -> None:
    columns = (
        "itemid",
        "unique_views",
        "unique_addtocarts",
        "unique_purchases",
        "view_to_cart_rate",
        "cart_to_purchase_rate",
    )
    assert told.site.draw("gold.funnel", *columns) == drawn("""
        itemid | unique_views | unique_addtocarts | unique_purchases | view_to_cart_rate | cart_to_purchase_rate
        1      | 2            | 1                 | 1                | 0.5               | 1
        2      | 1            | 0                 | 1                | 0                 |
        9      | 1            | 0                 | 0                | 0                 |
    """)


def test_the_lists_rank_by_views_and_by_spend(told: Told) -> None:
    assert told.site.draw("gold.top_viewed_items", "itemid", "views", "unique_visitors", "rank") == drawn("""
        itemid | views | unique_visitors | rank
        1      | 5     | 2               | 1
        2      | 1     | 1               | 2
        9      | 1     | 1               | 3
    """)
    assert told.site.draw(
        "gold.visitor_segments", "visitorid", "purchases", "spend", "last_purchase_at", "segment"
    ) == drawn("""
        visitorid | purchases | spend | last_purchase_at    | segment
        1         | 1         | 10.5  | 2026-03-02 00:00:03 | Top 500 Spenders
        2         | 1         | 7.25  | 2026-03-02 00:00:05 | Top 500 Spenders
    """)


@on_sail
def test_one_purchase_of_three_items_is_one_purchase(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, CLICKSTREAM)
    bought = "at | visitorid | event | itemid | transactionid\n 1 | 1 | transaction | 1 | 70\n 2 | 1 | transaction | 2 | 70\n 3 | 1 | transaction | 3 | 70"
    site.deliver("2026-03-02", events=timed(bought))
    assert site.draw("gold.visitor_segments", "visitorid", "purchases") == drawn("visitorid | purchases\n 1 | 1")
    site.deliver(
        "2026-03-02",
        events=timed(
            "at | visitorid | event | itemid | transactionid\n 4 | 1 | transaction | 1 | 71\n 5 | 1 | transaction | 4 | 70"
        ),
    )
    assert site.draw("gold.visitor_segments", "visitorid", "purchases") == drawn("visitorid | purchases\n 1 | 2")


# ---- what else may come


@on_sail
def test_what_is_no_event_is_rejected_with_its_reason(session: Session, tmp_path: Path) -> None:
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
    assert seen(site, "visitorid", "itemid") == drawn("at | visitorid | itemid\n 1 | 1 | 1")


@on_sail
def test_seconds_where_milliseconds_are_meant_are_no_events_of_1970(session: Session, tmp_path: Path) -> None:
    site, seconds = Site(tmp_path, session, WITHOUT_GOLD), MIDNIGHT // 1000
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
    assert seen(site, "price") == drawn("at | price\n 0 | 2")


@on_sail
def test_an_event_of_the_last_instant_keeps_what_its_item_was(session: Session, tmp_path: Path) -> None:
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
def test_a_tree_that_is_another_restates_the_events_of_what_moved(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, WITHOUT_GOLD)
    site.deliver(
        "2026-03-02",
        events=timed("at | visitorid | event | itemid\n 5 | 1 | view | 1\n 5 | 1 | view | 2\n 5 | 1 | view | 3"),
        item_properties=timed(
            "at | itemid | property | value\n 1 | 1 | categoryid | 10\n 1 | 2 | categoryid | 20\n 1 | 3 | categoryid | 30"
        ),
        category_tree="categoryid | parentid\n 1 |\n 2 |\n 10 | 1\n 20 | 10\n 30 | 2",
    )
    moved = site.deliver("2026-03-03", category_tree="categoryid | parentid\n 1 |\n 2 |\n 10 | 2\n 20 | 10\n 30 | 2")
    assert seen(site, "itemid", "parent_category_id", "root_category_id") == drawn("""
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
def test_a_check_of_the_enriched_table_that_fails_rejects_the_batch(session: Session, tmp_path: Path) -> None:
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
    assert seen(site, "price") == drawn("at | price\n 5 | 9")


@on_sail
def test_another_property_may_be_the_price(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, WITHOUT_GOLD, values={"price_property": "77"})
    properties = timed("at | itemid | property | value\n 1 | 1 | 790 | n11.000\n 1 | 1 | 77 | n3")
    site.deliver(
        "2026-03-02", events=timed("at | visitorid | event | itemid\n 5 | 1 | view | 1"), item_properties=properties
    )
    assert seen(site, "price") == drawn("at | price\n 5 | 3")


@on_sail
def test_lists_end_after_a_hundred_items_and_ties_share_a_segment(session: Session, tmp_path: Path) -> None:
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
    # All who spent 4 share rank 500; who bought for an unknown price comes after them.
    assert {segments[v] for v in range(520)} == {"Top 500 Spenders"}
    assert segments[9999] == "Top 5000 Spenders"


def test_the_way_up_ends_in_a_root_or_in_a_circle() -> None:
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


# ---- the law: whatever the order of arrival, the tables are what a plain look at all rows gives

AT = st.sampled_from([0, 1, 2, 10, 11, 500, 501, 1000])
ITEM = st.integers(1, 4)
VALUES = {
    "categoryid": ["1", "2", "3", "4", "x", None],
    "available": ["0", "1", "maybe", None],
    "790": ["n1.500", "n2", "n2.5000", "7", None],
    "888": ["n9"],
}
events = st.tuples(
    AT, st.integers(1, 3), st.sampled_from(["view", "view", "addtocart", "transaction"]), ITEM, st.integers(1, 3)
)
properties = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.tuples(AT, ITEM, st.just(name), st.sampled_from(VALUES[name]))
)
hierarchies = st.dictionaries(st.integers(1, 4), st.sampled_from([None, 1, 2, 3, 4, 5]), min_size=2, max_size=4)

Event = tuple[int, int, str, int, int | None]
Property = tuple[int, int, str, str | None]


@dataclass(frozen=True)
class Batch:
    day: int
    events: tuple[Event, ...] = ()
    properties: tuple[Property, ...] = ()
    hierarchy: tuple[tuple[int, int | None], ...] = ()

    def deliver(self, site: Site) -> None:
        given: dict[str, Any] = {}
        if self.events:
            names = ("timestamp", "visitorid", "event", "itemid", "transactionid")
            given["events"] = [_cells(names, (MIDNIGHT + e[0], *e[1:])) for e in self.events]
        if self.properties:
            given["item_properties"] = [
                _cells(("timestamp", "itemid", "property", "value"), (MIDNIGHT + p[0], *p[1:])) for p in self.properties
            ]
        if self.hierarchy:
            given["category_tree"] = [_cells(("categoryid", "parentid"), node) for node in self.hierarchy]
        result = site.attempt(f"2026-03-{self.day:02}", **given)
        assert result.outcome in (Outcome.PUBLISHED, Outcome.DUPLICATE), f"{result.reason}\n{result.error}"


def _cells(names: Sequence[str], values: Iterable[Any]) -> dict[str, str | None]:
    return {name: None if value is None else str(value) for name, value in zip(names, values, strict=True)}


def enriched(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """What every event must show, from all rows at once."""
    histories: dict[tuple[int, str], dict[int, str | None]] = defaultdict(dict)
    newest: dict[tuple[int, str, int], int] = {}
    for b in batches:
        for (
            at,
            item,
            name,
            value,
        ) in b.properties:  # each batch is one file of a day of its own: its later record stands
            if b.day >= newest.get((item, name, at), 0):
                newest[item, name, at] = b.day
                histories[item, name][at] = value
    hierarchy = (
        dict(max((b for b in batches if b.hierarchy), key=lambda b: b.day).hierarchy)
        if any(b.hierarchy for b in batches)
        else {}
    )
    tops = roots(hierarchy)

    def valid(item: int, name: str, at: int) -> str | None:
        history = sorted(histories[item, name])
        place = bisect_right(history, at)
        return histories[item, name][history[place - 1]] if place else None

    rows = []
    for event in {e for b in batches for e in b.events}:
        at, visitor, kind, item, transaction = event
        category, available, price = (valid(item, name, at) for name in ("categoryid", "available", "790"))
        category_id = int(category) if category and category.isdigit() else None
        fits = price is not None and price.startswith("n") and len(price.partition(".")[2]) <= 3
        rows.append(
            {
                "at": at,
                "visitorid": visitor,
                "event": kind,
                "itemid": item,
                "transactionid": transaction,
                "category_id": category_id,
                "parent_category_id": hierarchy.get(category_id),
                "root_category_id": tops.get(category_id),
                "available": {"0": False, "1": True}.get(available or ""),
                "price": Decimal(price[1:]) if fits and price else None,
            }
        )
    return rows


def golden(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What gold must show of these events."""
    sales = [r for r in rows if r["event"] == "transaction"]
    days = defaultdict[int, list[Mapping[str, Any]]](list)
    for r in sales:
        if r["category_id"] is not None:
            days[r["category_id"]].append(r)
    daily = [
        {
            "category_id": c,
            "transactions": len({r["transactionid"] for r in some}),
            "items_sold": len(some),
            "revenue": sum((r["price"] or 0) for r in some),
        }
        for c, some in days.items()
    ]
    visitors = [
        {
            "visitorid": v,
            "purchases": len({r["transactionid"] for r in some}),
            "spend": sum((r["price"] or 0) for r in some),
        }
        for v in {r["visitorid"] for r in sales}
        if (some := [r for r in sales if r["visitorid"] == v])
    ]

    def members(item: int, event: str) -> int:
        return len({r["visitorid"] for r in rows if r["itemid"] == item and r["event"] == event})

    items = {r["itemid"] for r in rows}
    funnel = [
        {
            "itemid": i,
            "unique_views": members(i, "view"),
            "unique_addtocarts": members(i, "addtocart"),
            "unique_purchases": members(i, "transaction"),
        }
        for i in items
    ]
    views = {i: sum(r["itemid"] == i and r["event"] == "view" for r in rows) for i in items}
    ranked = sorted((i for i in items if views[i]), key=lambda i: (-views[i], i))
    top = [
        {"itemid": i, "views": views[i], "unique_visitors": members(i, "view"), "rank": n}
        for n, i in enumerate(ranked, 1)
    ]
    drawn_of = {
        "daily_sales_by_category": daily,
        "visitor_segments": visitors,
        "funnel": funnel,
        "top_viewed_items": top,
    }
    return {name: draw(some, *some[0]) if some else "" for name, some in drawn_of.items()} | {
        "fact_sales": draw(sales, "transactionid", "itemid", "price")
    }


def test_any_order_and_any_batching_give_what_a_plain_look_at_all_rows_gives(
    session: Session, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def holds(
        some: list[Event],
        others: list[Property],
        first: dict[int, int | None],
        then: dict[int, int | None],
        chance: Random,
    ) -> None:
        site = Site(tmp_path_factory.mktemp("law"), session, CLICKSTREAM, quality=Quality(max_snapshot_shrink=1.0))
        told = [
            (at, visitor, kind, item, number if kind == "transaction" else None)
            for at, visitor, kind, item, number in some
        ]
        cut, split = chance.randrange(len(told) + 1), chance.randrange(len(others) + 1)
        batches = [
            Batch(day=2, events=tuple(told[:cut]), properties=tuple(others[:split]), hierarchy=tuple(first.items())),
            Batch(day=3, events=tuple(told[cut:]) + tuple(told[:2]), properties=tuple(others[split:])),
            Batch(day=4, properties=tuple(others[:1]), hierarchy=tuple(then.items())),
        ]
        chance.shuffle(batches)
        for batch in batches:
            batch.deliver(site)
        expected = enriched(batches)
        assert seen(site, *list(expected[0])[1:]) == draw(expected, *expected[0])
        for table, rows in golden(expected).items():
            if rows:
                names = [name.strip() for name in rows.splitlines()[0].split("|")]
                assert site.draw(f"gold.{table}", *names) == rows, table

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    examples = {"sail": tries(quick=3, every=8), "spark": 2}[session.engine]
    given_as = (
        st.lists(events, min_size=4, max_size=30),
        st.lists(properties, min_size=4, max_size=30),
        hierarchies,
        hierarchies,
        st.randoms(use_true_random=False),
    )
    settings(max_examples=examples, deadline=None, phases=phases, suppress_health_check=checks, print_blob=True)(
        given(*given_as)(holds)
    )()


def test_an_event_of_an_item_with_many_versions_sees_what_one_of_few_does(session: Session, tmp_path: Path) -> None:
    prices = [(1000 + 7 * n, 1, "790", f"n{n}.500") for n in range(150)]
    others = [
        (1003, 1, "available", "1"),
        (1700, 1, "available", None),
        (1701, 1, "available", "0"),
        (1400, 1, "categoryid", "2"),
        (1200, 2, "790", "n9"),
    ]
    instants = sorted({at + by for at, item, _, _ in (*prices, *others) if item == 1 for by in (-1, 0)} | {0, 999_999})
    clicks = [(at, n, "view", item, None) for n, at in enumerate(instants) for item in (1, 2)]
    batch = Batch(day=2, events=tuple(clicks), properties=(*prices, *others), hierarchy=((2, None),))
    site = Site(tmp_path, session, WITHOUT_GOLD)
    batch.deliver(site)
    expected = enriched([batch])
    assert seen(site, *list(expected[0])[1:]) == draw(expected, *expected[0])


@on_sail
def test_tables_are_equal_in_every_column_whatever_arrives_first(session: Session, tmp_path: Path, told: Told) -> None:
    site = Site(tmp_path, session, CLICKSTREAM)
    delivered(site, LATE)
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
        expected = told.site.rows(table)
        assert site.draw(table, *expected[0]) == draw(expected, *expected[0]), table

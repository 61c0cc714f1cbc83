"""The reference for clickstream: plain Python that computes its tables from the rows of all batches."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from drawing import draw
from factories_clickstream import MIDNIGHT
from factories_pipeline import Site

from pipeline.contract import Outcome
from pipeline.transform.hierarchy import roots

Event = tuple[int, int, str, int, int | None]
Property = tuple[int, int, str, str | None]


@dataclass(frozen=True)
class Batch:
    """One batch: a day, and rows of the three feeds."""

    day: int
    events: tuple[Event, ...] = ()
    properties: tuple[Property, ...] = ()
    hierarchy: tuple[tuple[int, int | None], ...] = ()

    def deliver(self, site: Site) -> None:
        """Delivers the batch and asserts that it is published or a duplicate."""
        feeds: dict[str, Any] = {}
        if self.events:
            names = ("timestamp", "visitorid", "event", "itemid", "transactionid")
            feeds["events"] = [_cells(names, (MIDNIGHT + e[0], *e[1:])) for e in self.events]
        if self.properties:
            feeds["item_properties"] = [
                _cells(("timestamp", "itemid", "property", "value"), (MIDNIGHT + p[0], *p[1:])) for p in self.properties
            ]
        if self.hierarchy:
            feeds["category_tree"] = [_cells(("categoryid", "parentid"), node) for node in self.hierarchy]
        result = site.attempt(f"2026-03-{self.day:02}", **feeds)
        assert result.outcome in (Outcome.PUBLISHED, Outcome.DUPLICATE), f"{result.reason}\n{result.error}"


def _cells(names: Sequence[str], values: Iterable[Any]) -> dict[str, str | None]:
    return {name: None if value is None else str(value) for name, value in zip(names, values, strict=True)}


def enriched(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """Returns the expected enriched events, computed from all rows at once."""
    histories: dict[tuple[int, str], dict[int, str | None]] = defaultdict(dict)
    newest: dict[tuple[int, str, int], int] = {}
    for b in batches:
        # A batch is one file of its own day, so its later record of a time counts.
        for at, item, name, value in b.properties:
            if b.day >= newest.get((item, name, at), 0):
                newest[item, name, at] = b.day
                histories[item, name][at] = value
    snapshots = [b for b in batches if b.hierarchy]
    hierarchy = dict(max(snapshots, key=lambda b: b.day).hierarchy) if snapshots else {}
    top = roots(hierarchy)

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
                "root_category_id": top.get(category_id),
                "available": {"0": False, "1": True}.get(available or ""),
                "price": Decimal(price[1:]) if fits and price else None,
            }
        )
    return rows


def gold(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns drawings of the expected gold tables for these enriched events."""
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
    tables = {
        "daily_sales_by_category": daily,
        "visitor_segments": visitors,
        "funnel": funnel,
        "top_viewed_items": top,
    }
    return {name: draw(some, *some[0]) if some else "" for name, some in tables.items()} | {
        "fact_sales": draw(sales, "transactionid", "itemid", "price")
    }

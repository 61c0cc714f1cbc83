"""Deliveries of clickstream for tests: two batches with a late property, and drawings with times after midnight."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drawing import draw, parsed
from factories_pipeline import Site

from pipeline.contract import Result
from pipeline.engine.session import Session
from pipeline.sources.clickstream.feeds import CLICKSTREAM

MIDNIGHT = 1_772_409_600_000  # 2026-03-02 00:00 UTC in milliseconds
WITHOUT_GOLD = replace(CLICKSTREAM, gold_module="")
ITEM_COLUMNS = ("category_id", "parent_category_id", "root_category_id", "available", "price")


def timed(drawing: str) -> list[dict[str, str | None]]:
    """Returns the rows of a drawing; its column `at` is in milliseconds after midnight."""
    return [
        {"timestamp": str(MIDNIGHT + int(row["at"] or 0)), **{k: v for k, v in row.items() if k != "at"}}
        for row in parsed(drawing)
    ]


def draw_events(site: Site, *names: str, result: Result | None = None) -> str:
    """Returns a drawing of the enriched events, with their time `at` in milliseconds after midnight."""
    rows = [{"at": r["timestamp"] - MIDNIGHT, **r} for r in site.rows("silver.enriched_events", result)]
    return draw(rows, "at", *names)


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


def deliver_batch(site: Site, batch: Mapping[str, Any]) -> Result:
    """Publishes a batch and returns its result. A list of property drawings becomes one file each."""
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
class LateProperty:
    """A site after a first batch and a batch of late properties."""

    site: Site
    first: Result
    late: Result


def deliver_late_property(root: Path, session: Session) -> LateProperty:
    """Publishes the two batches on a new site."""
    site = Site(root, session, CLICKSTREAM)
    return LateProperty(site=site, first=deliver_batch(site, FIRST), late=deliver_batch(site, LATE))

"""Writes clickstream deliveries of any size, drawn from a seed: events and item properties, evenly spread or with one hot item.

The first delivery brings a month; the next a day's events, and properties of the week before it that come late. The same
arguments give the same bytes.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv
from retail_data import Delivery

LAST_DATE = dt.date(2026, 3, 31)  # of the first delivery
MONTH_DAYS, LATE_DAYS = 30, 7
DAY_MS = 86_400_000
HOT_ITEM, HOT_SHARE, HOT_VERSIONS = 0, 0.2, 5_000
CATEGORIES = 1_000
PROPERTIES = ("categoryid", "available", "790", "888")
PROPERTY_SHARES = (0.3, 0.3, 0.3, 0.1)


@dataclass(frozen=True, kw_only=True)
class Clicks:
    """A shop whose visitors leave this many traces. With `hot`, a fifth of all events and thousands of versions are one item's."""

    events: int
    properties: int
    events_a_day: int
    late_properties: int
    items: int = 20_000
    hot: bool = False
    seed: int = 1

    def write(self, day: int, folder: Path) -> Delivery:
        """Writes the first delivery (day 0) or one of the later ones."""
        folder.mkdir(parents=True, exist_ok=True)
        chance = np.random.default_rng([self.seed, day, int(self.hot)])
        date = LAST_DATE + dt.timedelta(days=day)
        end = (date - dt.date(1970, 1, 1)).days * DAY_MS + DAY_MS
        tables = {
            "events": self._events(chance, self.events_a_day if day else self.events, end, 1 if day else MONTH_DAYS),
            "item_properties": self._properties(
                chance, self.late_properties if day else self.properties, end, LATE_DAYS if day else MONTH_DAYS
            ),
        }
        if not day:
            tables["category_tree"] = _tree()
        files = {}
        for feed, table in tables.items():
            files[feed] = folder / f"{feed}{'_part1' if feed == 'item_properties' else ''}_{date:%Y_%m_%d}.csv"
            csv.write_csv(table, files[feed])
        return Delivery(
            source="clickstream", date=date, files=files, rows={feed: t.num_rows for feed, t in tables.items()}
        )

    def _events(self, chance: np.random.Generator, count: int, end: int, days: int) -> pa.Table:
        items = chance.integers(1, self.items, count)
        if self.hot:
            items[chance.random(count) < HOT_SHARE] = HOT_ITEM
        kinds = chance.choice(3, count, p=(0.96, 0.03, 0.01))
        return pa.table(
            {
                "timestamp": np.sort(chance.integers(end - days * DAY_MS, end, count)),
                "visitorid": chance.integers(0, max(1, self.events // 3), count),
                "event": pa.array(("view", "addtocart", "transaction")).take(pa.array(kinds)),
                "itemid": items,
                "transactionid": pa.array(chance.integers(0, max(1, self.events // 150), count), mask=kinds != 2),
            }
        )

    def _properties(self, chance: np.random.Generator, count: int, end: int, days: int) -> pa.Table:
        items = chance.integers(1, self.items, count)
        if self.hot:
            items[: HOT_VERSIONS * count // self.properties] = HOT_ITEM
        which = chance.choice(len(PROPERTIES), count, p=PROPERTY_SHARES)
        values = np.stack(
            [
                chance.integers(0, CATEGORIES, count).astype(str),
                chance.integers(0, 2, count).astype(str),
                np.char.add(np.char.add("n", chance.integers(1, 99_999, count).astype(str)), ".500"),
                np.full(count, "1052 n12.000"),
            ]
        )
        return pa.table(
            {
                "timestamp": chance.integers(end - days * DAY_MS, end, count),
                "itemid": items,
                "property": pa.array(PROPERTIES).take(pa.array(which)),
                "value": values[which, np.arange(count)],
            }
        )


def _tree() -> pa.Table:
    nodes = np.arange(CATEGORIES)
    return pa.table({"categoryid": nodes, "parentid": pa.array(nodes // 4, mask=nodes < 10)})

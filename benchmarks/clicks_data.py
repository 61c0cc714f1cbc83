"""Writes random clickstream deliveries of any size, with events and properties spread evenly or with one hot item.

The first delivery holds a month. Each later one holds the events of a day, and late properties of the week before.
Equal arguments give equal bytes.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from delivery import Delivery
from pyarrow import csv

LAST_DATE = dt.date(2026, 3, 31)  # of the first delivery
MONTH_DAYS = 30
LATE_DAYS = 7
DAY_MS = 86_400_000
HOT_ITEM = 0
HOT_SHARE = 0.2  # of all events
HOT_VERSIONS = 5_000
CATEGORIES = 1_000
PROPERTIES = ("categoryid", "available", "790", "888")
PROPERTY_SHARES = (0.3, 0.3, 0.3, 0.1)


@dataclass(frozen=True, kw_only=True)
class Clicks:
    """A shop with these numbers of events. With `hot`, one item has a fifth of all events and thousands of versions."""

    events: int
    properties: int
    events_a_day: int
    late_properties: int
    items: int = 20_000
    hot: bool = False
    seed: int = 1

    def write(self, day: int, folder: Path) -> Delivery:
        """Writes the first delivery (day 0) or a later one, and returns it."""
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng([self.seed, day, int(self.hot)])
        date = LAST_DATE + dt.timedelta(days=day)
        end = (date - dt.date(1970, 1, 1)).days * DAY_MS + DAY_MS
        tables = {
            "events": self._events(random, self.events_a_day if day else self.events, end, 1 if day else MONTH_DAYS),
            "item_properties": self._properties(
                random, self.late_properties if day else self.properties, end, LATE_DAYS if day else MONTH_DAYS
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

    def _events(self, random: np.random.Generator, count: int, end: int, days: int) -> pa.Table:
        items = random.integers(1, self.items, count)
        if self.hot:
            items[random.random(count) < HOT_SHARE] = HOT_ITEM
        kinds = random.choice(3, count, p=(0.96, 0.03, 0.01))
        return pa.table(
            {
                "timestamp": np.sort(random.integers(end - days * DAY_MS, end, count)),
                "visitorid": random.integers(0, max(1, self.events // 3), count),
                "event": pa.array(("view", "addtocart", "transaction")).take(pa.array(kinds)),
                "itemid": items,
                "transactionid": pa.array(random.integers(0, max(1, self.events // 150), count), mask=kinds != 2),
            }
        )

    def _properties(self, random: np.random.Generator, count: int, end: int, days: int) -> pa.Table:
        items = random.integers(1, self.items, count)
        if self.hot:
            items[: HOT_VERSIONS * count // self.properties] = HOT_ITEM
        which = random.choice(len(PROPERTIES), count, p=PROPERTY_SHARES)
        values = np.stack(
            [
                random.integers(0, CATEGORIES, count).astype(str),
                random.integers(0, 2, count).astype(str),
                np.char.add(np.char.add("n", random.integers(1, 99_999, count).astype(str)), ".500"),
                np.full(count, "1052 n12.000"),
            ]
        )
        return pa.table(
            {
                "timestamp": random.integers(end - days * DAY_MS, end, count),
                "itemid": items,
                "property": pa.array(PROPERTIES).take(pa.array(which)),
                "value": values[which, np.arange(count)],
            }
        )


def _tree() -> pa.Table:
    nodes = np.arange(CATEGORIES)
    return pa.table({"categoryid": nodes, "parentid": pa.array(nodes // 4, mask=nodes < 10)})

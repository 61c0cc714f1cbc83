"""Takes deliveries: files to bronze, silver, enriched orders and gold."""

import datetime as dt
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from .enriched import enriched_orders
from .gold import gold_tables
from .silver import FEEDS, HandFeed, read_csv, split_by_rules, versions
from .tables import EXTRA, Tables

THREADS = 4  # one waits for the disk while another computes
EVENT = ("_batch_date", "_revision", "_record")  # of bronze's bookkeeping, the columns that history needs


class ByHand:
    """The tables of a shop below a folder."""

    def __init__(self, root: Path) -> None:
        self.tables = Tables(root)

    def take(self, batch_date: dt.date, files: Mapping[str, Path]) -> dict[str, float]:
        """Takes the files of a delivery, one of each feed. Returns the seconds by step; the tables are up to date."""
        batch_id = f"{batch_date:%Y%m%d}"
        clock = [time.monotonic()]
        with ThreadPoolExecutor(THREADS) as pool:
            taken = list(pool.map(lambda feed: self._take_feed(feed, files, batch_id, batch_date), FEEDS))
            silver = {feed.name: rows for feed, (rows, _) in zip(FEEDS, taken, strict=True)}
            rejected = pl.concat([bad for _, bad in taken])
            writes = [pool.submit(self.tables.append, "ops/quarantine", rejected)]
            writes += [pool.submit(self.tables.overwrite, f"silver/{name}", rows) for name, rows in silver.items()]
            clock.append(time.monotonic())
            orders = enriched_orders(silver)
            stored = orders.drop("_customer", "_product")
            writes.append(pool.submit(self.tables.overwrite, "silver/enriched_orders", stored))
            clock.append(time.monotonic())
            gold = gold_tables(orders, silver, batch_id, batch_date, self._as_of(batch_date))
            writes.append(pool.submit(self.tables.append, "gold/analytics_summary", gold.pop("analytics_summary")))
            writes += [pool.submit(self.tables.overwrite, f"gold/{name}", rows) for name, rows in gold.items()]
            clock.append(time.monotonic())
            for write in writes:
                write.result()
        clock.append(time.monotonic())
        steps = ("feeds", "enrich", "gold", "last writes")
        return {name: end - start for name, start, end in zip(steps, clock, clock[1:], strict=False)}

    def _take_feed(
        self, feed: HandFeed, files: Mapping[str, Path], batch_id: str, batch_date: dt.date
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Appends a file to bronze, and returns the versions of all keys and the rejected rows."""
        rows = read_csv(feed, files[feed.name], batch_id, batch_date)
        accepted, rejected = split_by_rules(feed, rows, batch_date)
        bronze = f"bronze/{feed.name}"
        columns = [*feed.types, *EVENT]
        events = [self.tables.read(bronze, columns)] if self.tables.exists(bronze) else []
        self.tables.append(bronze, accepted, [EXTRA])
        found = rejected.select(
            "_batch_id", pl.lit(feed.name).alias("feed"), "_source_file", "_record", "_raw", "reasons"
        )
        return versions(feed, pl.concat([*events, accepted.select(columns)])), found

    def _as_of(self, batch_date: dt.date) -> dt.date:
        """Returns the newest batch date so far."""
        if not self.tables.exists("gold/analytics_summary"):
            return batch_date
        dates: list[dt.date] = self.tables.read("gold/analytics_summary", ["report_date"])["report_date"].to_list()
        return max(batch_date, *dates)

"""Writes random retail deliveries of any size and prints how long it takes: five CSV files a day.

The first delivery holds a shop with its past. Each later one holds new orders, older orders with a new status, changed
customers, products and stock, some late events, and some rejected rows. Equal arguments give equal bytes.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from arrow_columns import HOUR, seconds_of
from delivery import Delivery, date_of
from figures import show
from pyarrow import csv
from shop_rows import ShopRows

WINDOW_DAYS = 5  # the status of an order changes within this many days
ROWS_AN_ORDER = 2.1  # in all feeds: the order, 0.97 shipments, 0.1 customers, 0.01 products, 0.02 stocks


@dataclass(frozen=True, kw_only=True)
class Shop(ShopRows):
    """A shop of some size that writes its deliveries."""

    def write(self, day: int, folder: Path) -> Delivery:
        """Writes the delivery of a day, where 0 is the first, and returns it."""
        folder.mkdir(parents=True, exist_ok=True)
        date = date_of(day)
        files = {}
        rows = {}
        for feed, table in self._tables(day).items():
            files[feed] = folder / f"{feed}_{date:%Y_%m_%d}.csv"
            csv.write_csv(table, files[feed])
            rows[feed] = table.num_rows
        return Delivery(date=date, files=files, rows=rows)

    def _tables(self, day: int) -> dict[str, pa.Table]:
        return self._past() if day == 0 else self._later(day)

    def _past(self) -> dict[str, pa.Table]:
        numbers = np.arange(self.orders)
        orders = self._order_rows(numbers, self._ordered_at(numbers), self._draw("status", numbers, 2))
        return {
            "orders": pa.concat_tables([orders, self._bad_orders(orders, 0)]),
            "customers": self._customer_rows(np.arange(self.customers), 0),
            "products": self._product_rows(np.arange(self.products), 0),
            "inventory": self._inventory_rows(np.arange(self.products), 0),
            "shipping": self._shipping_rows(numbers, self._date(numbers) + 18 * HOUR, is_delivered=False),
        }

    def _later(self, day: int) -> dict[str, pa.Table]:
        known = self._orders_before(day)
        window = min(WINDOW_DAYS * self.orders_a_day, known)
        random = np.random.default_rng((self.seed, day))
        new = np.arange(known, known + self._new)
        moved = known - window + random.choice(window, min(self._moved, window), replace=False)
        late = random.choice(known - window, min(self._late, known - window), replace=False)
        today = seconds_of(date_of(day))
        moved_at = today + 8 * HOUR + self._draw(f"moved {day}", moved, 10 * HOUR)
        # A late event is of the morning before the first event of its order.
        late_at = self._date(late) + self._draw("late", late, 8 * HOUR)
        orders = pa.concat_tables(
            [
                self._order_rows(new, self._ordered_at(new), self._draw("status", new, 2)),
                self._order_rows(moved, moved_at, 2 + self._draw(f"status {day}", moved, 3)),
                self._order_rows(late, late_at, self._draw("late status", late, 2)),
            ]
        )
        old_customers = random.choice(self.customers, min(self._new_customers, self.customers), replace=False)
        products = random.choice(self.products, min(max(1, self.orders_a_day // 100), self.products), replace=False)
        new_customers = self.customers + (day - 1) * self._new_customers + np.arange(self._new_customers)
        return {
            "orders": pa.concat_tables([orders, self._bad_orders(orders, day)]),
            "customers": self._customer_rows(np.concatenate([old_customers, new_customers]), day),
            "products": self._product_rows(products, day),
            "inventory": self._inventory_rows(products, day),
            "shipping": pa.concat_tables(
                [
                    self._shipping_rows(new, self._date(new) + 18 * HOUR, is_delivered=False),
                    self._shipping_rows(moved, moved_at + HOUR, is_delivered=True),
                ]
            ),
        }


def orders_for(rows: int) -> int:
    """Returns the number of orders in a delivery of about this many rows in all feeds."""
    return max(1, round(rows / ROWS_AN_ORDER))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=100_000, help="in the first delivery")
    parser.add_argument("--orders-a-day", type=int, default=1_000, help="in each later one")
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--moved-share", type=float, default=Shop.moved_share, help="of a later day: older orders")
    parser.add_argument(
        "--late-share", type=float, default=Shop.late_share, help="of a later day: events older than the known ones"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="write the files here, one sub-folder a day")
    options = parser.parse_args()
    shop = Shop(
        orders=options.orders,
        orders_a_day=options.orders_a_day,
        moved_share=options.moved_share,
        late_share=options.late_share,
        seed=options.seed,
    )
    with tempfile.TemporaryDirectory() as scratch:
        rows = []
        for day in range(options.days):
            began = time.monotonic()
            delivery = shop.write(day, (options.folder or Path(scratch)) / str(day))
            seconds = time.monotonic() - began
            megabytes = sum(f.stat().st_size for f in delivery.files.values()) / 1e6
            rows.append((delivery.date, *delivery.rows.values(), delivery.row_count, megabytes, seconds))
        show("deliveries written", ("date", *delivery.files, "rows", "MB", "seconds"), rows)


if __name__ == "__main__":
    main()

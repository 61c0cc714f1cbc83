"""Writes retail deliveries of any size, drawn from a seed, and measures how fast: five CSV files a day, in seconds for millions.

The first delivery brings a shop with its past; each later one new orders, orders that moved on, changed customers, products
and stock, some late news and some rows that have to be rejected. The same arguments give the same bytes.
"""

import argparse
import datetime as dt
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from figures import show
from pyarrow import csv

FIRST_DATE = dt.date(2026, 3, 2)
PAST_DAYS = 60  # over so many days the orders of the first delivery are spread
SHIPPED_PERCENT = 97
MOVED_SHARE = 0.3
WINDOW_DAYS = 5  # an order moves on within so many days
ROWS_AN_ORDER = 2.1  # rows in all feeds for one order: itself, .97 shipments, .1 customers, .01 products, .02 stocks
WAREHOUSES = (("WH-N", "North Pier"), ("WH-S", "South Quay"))

HOUR = 3600
DAY = 24 * HOUR

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One day's files, by feed, with the records in each."""

    date: dt.date
    files: Mapping[str, Path]
    rows: Mapping[str, int]
    source: str = "retail"

    @property
    def row_count(self) -> int:
        return sum(self.rows.values())


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A shop of some size. What any of its rows says follows from the seed, the row's number and the day, and from nothing before."""

    orders: int  # in the first delivery
    orders_a_day: int  # in each later one
    late_share: float = 0.02  # of a later day's orders: news that are older than what is known already
    bad_share: float = 0.001  # rows beside the orders that no lake accepts, one at least
    seed: int = 1

    def write(self, day: int, folder: Path) -> Delivery:
        """Writes the delivery of a day, 0 being the first."""
        folder.mkdir(parents=True, exist_ok=True)
        date = date_of(day)
        files, rows = {}, {}
        for feed, table in self._tables(day).items():
            files[feed] = folder / f"{feed}_{date:%Y_%m_%d}.csv"
            csv.write_csv(table, files[feed])
            rows[feed] = table.num_rows
        return Delivery(date=date, files=files, rows=rows)

    # ---- sizes

    @property
    def customers(self) -> int:
        return max(1, self.orders // 10)

    @property
    def products(self) -> int:
        return max(1, self.orders // 100)

    @property
    def _late(self) -> int:
        return max(1, round(self.late_share * self.orders_a_day)) if self.late_share else 0

    @property
    def _new(self) -> int:
        return max(1, self.orders_a_day - self._late - round(MOVED_SHARE * self.orders_a_day))

    @property
    def _new_customers(self) -> int:
        return max(1, self.orders_a_day // 20)

    def _orders_before(self, day: int) -> int:
        return 0 if day == 0 else self.orders + (day - 1) * self._new

    # ---- which rows a day brings

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
        moved = (
            known - window + random.choice(window, min(round(MOVED_SHARE * self.orders_a_day), window), replace=False)
        )
        late = random.choice(known - window, min(self._late, known - window), replace=False)
        today = _seconds(date_of(day))
        moved_at = today + 8 * HOUR + self._draw(f"moved {day}", moved, 10 * HOUR)
        late_at = self._date(late) + self._draw(
            "late", late, 8 * HOUR
        )  # in the morning before the order was first heard of
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

    # ---- what stands in a row

    def _order_rows(self, numbers: Numbers, at: Numbers, status: Numbers) -> pa.Table:
        customers, products = self._customer_of(numbers), self._product_of(numbers)
        pieces = 1 + (self._draw("pieces", numbers, 10) == 0)
        return pa.table(
            {
                "order_id": _ids("O", numbers),
                "customer_id": _ids("C", customers),
                "product_id": _ids("P", products),
                "order_date": _dates(self._date(numbers)),
                "order_amount": _decimals(pieces * self._price(products, 0), 2),
                "currency": _same("USD", numbers),
                "payment_method": _one_of(
                    ("card", "paypal", "bank_transfer", "gift_card"), self._draw("payment", numbers, 4)
                ),
                "shipping_address": self._address(customers),
                "order_status": _one_of(("pending", "confirmed", "processing", "shipped", "delivered"), status),
                "created_timestamp": _instants(at),
            }
        )

    def _bad_orders(self, orders: pa.Table, day: int) -> pa.Table:
        count = min(max(1, round(self.bad_share * orders.num_rows)), orders.num_rows) if self.bad_share else 0
        rows = orders.slice(0, count)
        amounts = _one_of(("-5.00", "12,50", "0.00"), np.arange(count) % 3)
        rows = rows.set_column(rows.schema.get_field_index("order_amount"), "order_amount", amounts)
        return rows.set_column(0, "order_id", _ids(f"X{day}-", np.arange(count)))

    def _customer_rows(self, numbers: Numbers, day: int) -> pa.Table:
        # A third of those that come again has only logged in: everything but the login is as on the first day.
        version = np.where(self._draw(f"login {day}", numbers, 3) == 0, 0, day)
        first = self._draw("first name", numbers, 26)
        today = _seconds(date_of(day))
        at = today + 5 * HOUR + self._draw(f"customer {day}", numbers, HOUR) - (PAST_DAYS + 1) * DAY * (day == 0)
        return pa.table(
            {
                "customer_id": _ids("C", numbers),
                "first_name": _one_of([f"{chr(65 + n)}lma" for n in range(26)], first),
                "last_name": _joined("Moor, ", _text(self._draw("last name", numbers, 9000))),
                "email": _joined("user", _text(numbers), "@example.com"),
                "phone": _joined("555-010-", _text(self._draw("phone", numbers, 10_000), 4)),
                "date_of_birth": _dates(_seconds(dt.date(1950, 1, 1)) + DAY * self._draw("birth", numbers, 20_000)),
                "registration_date": _dates(
                    _seconds(dt.date(2020, 1, 1)) + DAY * self._draw("registration", numbers, 2_000)
                ),
                "address": _joined(_text(1 + self._draw("house", numbers + 7919 * version, 200)), " Main St"),
                "city": _one_of(
                    ("Port Amber", "Little Wick", "Saltmere", "Newport", "Washington, DC"),
                    self._draw("city", numbers, 5),
                ),
                "state": _one_of(("ME", "NH", "RI", "MA"), self._draw("state", numbers, 4)),
                "zip_code": _text(self._draw("zip", numbers, 99_999), 5),
                "country": _same("USA", numbers),
                "customer_tier": _one_of(
                    ("standard", "silver", "gold", "premium"), self._draw("tier", numbers + 104729 * version, 4)
                ),
                "last_login": _instants(at - self._draw("login", numbers, DAY)),
                "created_timestamp": _instants(at),
            }
        )

    def _product_rows(self, numbers: Numbers, day: int) -> pa.Table:
        side = 5 + self._draw("side", numbers, 40)
        stock = self._stock(numbers, 0, day) + self._stock(numbers, 1, day)
        category = self._draw("category", numbers, 12)
        return pa.table(
            {
                "product_id": _ids("P", numbers),
                "product_name": _joined("Thing ", _text(numbers)),
                "category": _joined("Category ", _text(category)),
                "subcategory": _joined("Shelf ", _text(12 * self._draw("shelf", numbers, 5) + category)),
                "brand": _joined("Brand ", _text(self._draw("brand", numbers, 50))),
                "price": _decimals(self._price(numbers, day), 2),
                "currency": _same("USD", numbers),
                "stock_quantity": stock,
                "weight_kg": _decimals(50 + self._draw("weight", numbers, 20_000), 3),
                "dimensions_cm": _joined(_text(side), "x", _text(side), "x", _text(side + 3)),
                "color": _one_of(("red", "green", "blue", "sea, stormy"), self._draw("color", numbers, 4)),
                "material": _one_of(("wool", "brass", "paper"), self._draw("material", numbers, 3)),
                "description": _joined("A good thing, number ", _text(numbers)),
                "launch_date": _dates(_seconds(dt.date(2023, 1, 1)) + DAY * self._draw("launch", numbers, 1_000)),
                "discontinued": pa.array(self._draw("discontinued", numbers, 100) == 0),
                "created_timestamp": _instants(self._morning(day) + self._draw(f"product {day}", numbers, HOUR)),
            }
        )

    def _inventory_rows(self, products: Numbers, day: int) -> pa.Table:
        tables = []
        for place, (warehouse, name) in enumerate(WAREHOUSES):
            numbers = 2 * products + place
            stock = self._stock(products, place, day)
            reserved = np.minimum(stock, self._draw(f"reserved {day}", numbers, 20))
            table = pa.table(
                {
                    "inventory_id": _ids("I", numbers),
                    "product_id": _ids("P", products),
                    "warehouse_id": _same(warehouse, products),
                    "warehouse_name": _same(name, products),
                    "location": _joined(
                        "R", _text(self._draw("row", numbers, 40)), "-", _text(self._draw("bin", numbers, 90))
                    ),
                    "stock_quantity": stock,
                    "reserved_quantity": reserved,
                    "available_quantity": stock - reserved,
                    "reorder_level": 10 + self._draw("reorder", numbers, 20),
                    "last_restocked": _dates(self._morning(day) - DAY * self._draw("restocked", numbers, 30)),
                    "last_audit": _dates(self._morning(day) - DAY * self._draw("audit", numbers, 120)),
                    "created_timestamp": _instants(self._morning(day) + self._draw(f"stock {day}", numbers, HOUR)),
                }
            )
            tables.append(table)
        return pa.concat_tables(tables)

    def _shipping_rows(self, numbers: Numbers, at: Numbers, *, is_delivered: bool) -> pa.Table:
        chosen = self._draw("shipped", numbers, 100) < SHIPPED_PERCENT
        numbers, at = numbers[chosen], at[chosen]
        customers, side = self._customer_of(numbers), 5 + self._draw("parcel", numbers, 40)
        delivered = _dates(at) if is_delivered else pa.nulls(len(numbers), pa.date32())
        return pa.table(
            {
                "shipping_id": _ids("S", numbers),
                "order_id": _ids("O", numbers),
                "tracking_number": _ids("TRK", numbers),
                "carrier": _one_of(
                    ("Seabird Post", "Meridian Express", "Grey Gull Freight"), self._draw("carrier", numbers, 3)
                ),
                "service_type": _one_of(("Standard", "Express", "Ground"), self._draw("carrier", numbers, 3)),
                "origin_warehouse": _one_of([w for w, _ in WAREHOUSES], self._draw("origin", numbers, 2)),
                "destination_address": self._address(customers),
                "shipping_cost": _decimals(300 + self._draw("cost", numbers, 2_500), 2),
                "currency": _same("USD", numbers),
                "estimated_delivery": _dates(self._date(numbers) + DAY * (1 + self._draw("estimate", numbers, 4))),
                "actual_delivery": delivered,
                "shipping_status": _same("delivered" if is_delivered else "in_transit", numbers),
                "package_weight": _decimals(50 + self._draw("package", numbers, 20_000), 3),
                "package_dimensions": _joined(_text(side), "x", _text(side), "x", _text(side)),
                "insurance_value": _decimals(self._price(self._product_of(numbers), 0), 2),
                "created_timestamp": _instants(at),
            }
        )

    # ---- what follows from a number

    def _draw(self, what: str, numbers: Numbers, below: int) -> Numbers:
        # splitmix64: every bit of the number moves every bit of the answer, and no state is carried from one to the next
        bits = numbers.astype(np.uint64) + np.uint64(zlib.crc32(f"{self.seed} {what}".encode()) << 20)
        bits = (bits + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0x94D049BB133111EB)
        drawn: Numbers = ((bits ^ (bits >> np.uint64(31))) % np.uint64(below)).astype(np.int64)
        return drawn

    def _day_of(self, orders: Numbers) -> Numbers:
        return np.where(orders < self.orders, 0, 1 + (orders - self.orders) // self._new)

    def _date(self, orders: Numbers) -> Numbers:
        days_ago = PAST_DAYS - 1 - orders * PAST_DAYS // self.orders
        seconds: Numbers = _seconds(FIRST_DATE) + DAY * np.where(orders < self.orders, -days_ago, self._day_of(orders))
        return seconds

    def _ordered_at(self, orders: Numbers) -> Numbers:
        evening = self._draw("evening", orders, 20) == 0
        opens, hours = np.where(evening, 18, 8) * HOUR, np.where(evening, 5, 10)
        seconds: Numbers = self._date(orders) + opens + self._draw("second", orders, HOUR) * hours
        return seconds

    def _customer_of(self, orders: Numbers) -> Numbers:
        known = self.customers + self._day_of(orders) * self._new_customers
        # The square makes some customers regulars: the first tenth has a third of the orders.
        share = self._draw("customer", orders, 1 << 30) / (1 << 30)
        return (known * share**2).astype(np.int64)

    def _product_of(self, orders: Numbers) -> Numbers:
        return self._draw("product", orders, self.products)

    def _price(self, products: Numbers, day: int) -> Numbers:
        base = 500 + self._draw("price", products, 60_000)
        return base * (90 + self._draw(f"price {day}", products, 21)) // 100 if day else base

    def _stock(self, products: Numbers, place: int, day: int) -> Numbers:
        return self._draw(f"stock {place} {day}", products, 400)

    def _address(self, customers: Numbers) -> pa.Array:
        return _joined(_text(1 + self._draw("house", customers, 200)), " Main St, Port Amber, ME")

    def _morning(self, day: int) -> int:
        return _seconds(date_of(day)) + 4 * HOUR - (PAST_DAYS + 1) * DAY * (day == 0)


def date_of(day: int) -> dt.date:
    """Tells the batch date of a day's delivery."""
    return FIRST_DATE + dt.timedelta(days=day)


def orders_for(rows: int) -> int:
    """Tells how many orders make a delivery of about so many rows in all feeds."""
    return max(1, round(rows / ROWS_AN_ORDER))


def _seconds(date: dt.date) -> int:
    return (date - dt.date(1970, 1, 1)).days * DAY


def _dates(seconds: Numbers | int) -> pa.Array:
    return pa.array((np.asarray(seconds) // DAY).astype("datetime64[D]"))


def _instants(seconds: Numbers) -> pa.Array:
    return pa.array(seconds.astype("datetime64[s]"))


def _text(numbers: Numbers, width: int = 0) -> pa.Array:
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")


def _ids(prefix: str, numbers: Numbers) -> pa.Array:
    return _joined(prefix, _text(numbers, 9))


def _decimals(numbers: Numbers, places: int) -> pa.Array:
    return _joined(_text(numbers // 10**places), ".", _text(numbers % 10**places, places))


def _joined(*parts: "pa.Array | str") -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _one_of(choices: Sequence[str], numbers: Numbers) -> pa.Array:
    return pa.array(choices).take(pa.array(numbers))


def _same(value: str, numbers: Numbers) -> pa.Array:
    return pa.repeat(value, len(numbers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=100_000, help="in the first delivery")
    parser.add_argument("--orders-a-day", type=int, default=1_000, help="in each later one")
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the files here, one sub-folder a day")
    options = parser.parse_args()
    shop = Shop(orders=options.orders, orders_a_day=options.orders_a_day, seed=options.seed)
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

"""Makes the rows of the retail feeds. A row depends only on the seed, its number and the day."""

import datetime as dt
import zlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from arrow_columns import (
    DAY,
    HOUR,
    Numbers,
    choose,
    concatenate,
    dates,
    decimals,
    ids,
    repeat,
    seconds_of,
    text,
    timestamps,
)
from delivery import FIRST_DATE, date_of

PAST_DAYS = 60  # the orders of the first delivery are spread over this many days
SHIPPED_PERCENT = 97
WAREHOUSES = (("WH-N", "North Pier"), ("WH-S", "South Quay"))


@dataclass(frozen=True, kw_only=True)
class ShopRows:
    """The size of a shop, and its rows by feed."""

    orders: int  # in the first delivery
    orders_a_day: int  # in each later one
    moved_share: float = 0.3  # of a later day's orders: older orders, most of them with a new status
    late_share: float = 0.02  # of a later day's orders: among the moved ones, events that are older than the known ones
    bad_share: float = 0.001  # additional orders that validation rejects, at least one
    seed: int = 1

    # ---- sizes

    @property
    def customers(self) -> int:
        """The number of customers in the first delivery."""
        return max(1, self.orders // 10)

    @property
    def products(self) -> int:
        """The number of products."""
        return max(1, self.orders // 100)

    @property
    def _late(self) -> int:
        return max(1, round(self.late_share * self.orders_a_day)) if self.late_share else 0

    @property
    def _moved(self) -> int:
        return max(0, round(self.moved_share * self.orders_a_day) - self._late)

    @property
    def _new(self) -> int:
        # Days with and without late events have equal numbers of new orders, so that they can follow each other.
        return max(1, self.orders_a_day - round(self.moved_share * self.orders_a_day))

    @property
    def _new_customers(self) -> int:
        return max(1, self.orders_a_day // 20)

    def _orders_before(self, day: int) -> int:
        return 0 if day == 0 else self.orders + (day - 1) * self._new

    # ---- rows

    def _order_rows(self, numbers: Numbers, at: Numbers, status: Numbers) -> pa.Table:
        customers = self._customer_of(numbers)
        products = self._product_of(numbers)
        pieces = 1 + (self._draw("pieces", numbers, 10) == 0)
        return pa.table(
            {
                "order_id": ids("O", numbers),
                "customer_id": ids("C", customers),
                "product_id": ids("P", products),
                "order_date": dates(self._date(numbers)),
                "order_amount": decimals(pieces * self._price(products, 0), 2),
                "currency": repeat("USD", numbers),
                "payment_method": choose(
                    ("card", "paypal", "bank_transfer", "gift_card"), self._draw("payment", numbers, 4)
                ),
                "shipping_address": self._address(customers),
                "order_status": choose(("pending", "confirmed", "processing", "shipped", "delivered"), status),
                "created_timestamp": timestamps(at),
            }
        )

    def _bad_orders(self, orders: pa.Table, day: int) -> pa.Table:
        count = min(max(1, round(self.bad_share * orders.num_rows)), orders.num_rows) if self.bad_share else 0
        rows = orders.slice(0, count)
        amounts = choose(("-5.00", "12,50", "0.00"), np.arange(count) % 3)
        rows = rows.set_column(rows.schema.get_field_index("order_amount"), "order_amount", amounts)
        return rows.set_column(0, "order_id", ids(f"X{day}-", np.arange(count)))

    def _customer_rows(self, numbers: Numbers, day: int) -> pa.Table:
        # A third of the repeated customers changes only the login: all other values are those of the first day.
        version = np.where(self._draw(f"login {day}", numbers, 3) == 0, 0, day)
        first = self._draw("first name", numbers, 26)
        today = seconds_of(date_of(day))
        at = today + 5 * HOUR + self._draw(f"customer {day}", numbers, HOUR) - (PAST_DAYS + 1) * DAY * (day == 0)
        return pa.table(
            {
                "customer_id": ids("C", numbers),
                "first_name": choose([f"{chr(65 + n)}lma" for n in range(26)], first),
                "last_name": concatenate("Moor, ", text(self._draw("last name", numbers, 9000))),
                "email": concatenate("user", text(numbers), "@example.com"),
                "phone": concatenate("555-010-", text(self._draw("phone", numbers, 10_000), 4)),
                "date_of_birth": dates(seconds_of(dt.date(1950, 1, 1)) + DAY * self._draw("birth", numbers, 20_000)),
                "registration_date": dates(
                    seconds_of(dt.date(2020, 1, 1)) + DAY * self._draw("registration", numbers, 2_000)
                ),
                "address": concatenate(text(1 + self._draw("house", numbers + 7919 * version, 200)), " Main St"),
                "city": choose(
                    ("Port Amber", "Little Wick", "Saltmere", "Newport", "Washington, DC"),
                    self._draw("city", numbers, 5),
                ),
                "state": choose(("ME", "NH", "RI", "MA"), self._draw("state", numbers, 4)),
                "zip_code": text(self._draw("zip", numbers, 99_999), 5),
                "country": repeat("USA", numbers),
                "customer_tier": choose(
                    ("standard", "silver", "gold", "premium"), self._draw("tier", numbers + 104729 * version, 4)
                ),
                "last_login": timestamps(at - self._draw("login", numbers, DAY)),
                "created_timestamp": timestamps(at),
            }
        )

    def _product_rows(self, numbers: Numbers, day: int) -> pa.Table:
        side = 5 + self._draw("side", numbers, 40)
        stock = self._stock(numbers, 0, day) + self._stock(numbers, 1, day)
        category = self._draw("category", numbers, 12)
        return pa.table(
            {
                "product_id": ids("P", numbers),
                "product_name": concatenate("Thing ", text(numbers)),
                "category": concatenate("Category ", text(category)),
                "subcategory": concatenate("Shelf ", text(12 * self._draw("shelf", numbers, 5) + category)),
                "brand": concatenate("Brand ", text(self._draw("brand", numbers, 50))),
                "price": decimals(self._price(numbers, day), 2),
                "currency": repeat("USD", numbers),
                "stock_quantity": stock,
                "weight_kg": decimals(50 + self._draw("weight", numbers, 20_000), 3),
                "dimensions_cm": concatenate(text(side), "x", text(side), "x", text(side + 3)),
                "color": choose(("red", "green", "blue", "sea, stormy"), self._draw("color", numbers, 4)),
                "material": choose(("wool", "brass", "paper"), self._draw("material", numbers, 3)),
                "description": concatenate("A good thing, number ", text(numbers)),
                "launch_date": dates(seconds_of(dt.date(2023, 1, 1)) + DAY * self._draw("launch", numbers, 1_000)),
                "discontinued": pa.array(self._draw("discontinued", numbers, 100) == 0),
                "created_timestamp": timestamps(self._morning(day) + self._draw(f"product {day}", numbers, HOUR)),
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
                    "inventory_id": ids("I", numbers),
                    "product_id": ids("P", products),
                    "warehouse_id": repeat(warehouse, products),
                    "warehouse_name": repeat(name, products),
                    "location": concatenate(
                        "R", text(self._draw("row", numbers, 40)), "-", text(self._draw("bin", numbers, 90))
                    ),
                    "stock_quantity": stock,
                    "reserved_quantity": reserved,
                    "available_quantity": stock - reserved,
                    "reorder_level": 10 + self._draw("reorder", numbers, 20),
                    "last_restocked": dates(self._morning(day) - DAY * self._draw("restocked", numbers, 30)),
                    "last_audit": dates(self._morning(day) - DAY * self._draw("audit", numbers, 120)),
                    "created_timestamp": timestamps(self._morning(day) + self._draw(f"stock {day}", numbers, HOUR)),
                }
            )
            tables.append(table)
        return pa.concat_tables(tables)

    def _shipping_rows(self, numbers: Numbers, at: Numbers, *, is_delivered: bool) -> pa.Table:
        chosen = self._draw("shipped", numbers, 100) < SHIPPED_PERCENT
        numbers = numbers[chosen]
        at = at[chosen]
        customers = self._customer_of(numbers)
        side = 5 + self._draw("parcel", numbers, 40)
        delivered = dates(at) if is_delivered else pa.nulls(len(numbers), pa.date32())
        return pa.table(
            {
                "shipping_id": ids("S", numbers),
                "order_id": ids("O", numbers),
                "tracking_number": ids("TRK", numbers),
                "carrier": choose(
                    ("Seabird Post", "Meridian Express", "Grey Gull Freight"), self._draw("carrier", numbers, 3)
                ),
                "service_type": choose(("Standard", "Express", "Ground"), self._draw("carrier", numbers, 3)),
                "origin_warehouse": choose([w for w, _ in WAREHOUSES], self._draw("origin", numbers, 2)),
                "destination_address": self._address(customers),
                "shipping_cost": decimals(300 + self._draw("cost", numbers, 2_500), 2),
                "currency": repeat("USD", numbers),
                "estimated_delivery": dates(self._date(numbers) + DAY * (1 + self._draw("estimate", numbers, 4))),
                "actual_delivery": delivered,
                "shipping_status": repeat("delivered" if is_delivered else "in_transit", numbers),
                "package_weight": decimals(50 + self._draw("package", numbers, 20_000), 3),
                "package_dimensions": concatenate(text(side), "x", text(side), "x", text(side)),
                "insurance_value": decimals(self._price(self._product_of(numbers), 0), 2),
                "created_timestamp": timestamps(at),
            }
        )

    # ---- values from a number

    def _draw(self, name: str, numbers: Numbers, below: int) -> Numbers:
        # splitmix64: each bit of the number changes every bit of the result, and no state is kept between numbers.
        bits = numbers.astype(np.uint64) + np.uint64(zlib.crc32(f"{self.seed} {name}".encode()) << 20)
        bits = (bits + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0x94D049BB133111EB)
        drawn: Numbers = ((bits ^ (bits >> np.uint64(31))) % np.uint64(below)).astype(np.int64)
        return drawn

    def _day_of(self, orders: Numbers) -> Numbers:
        return np.where(orders < self.orders, 0, 1 + (orders - self.orders) // self._new)

    def _date(self, orders: Numbers) -> Numbers:
        days_ago = PAST_DAYS - 1 - orders * PAST_DAYS // self.orders
        seconds: Numbers = seconds_of(FIRST_DATE) + DAY * np.where(
            orders < self.orders, -days_ago, self._day_of(orders)
        )
        return seconds

    def _ordered_at(self, orders: Numbers) -> Numbers:
        evening = self._draw("evening", orders, 20) == 0
        opens = np.where(evening, 18, 8) * HOUR
        hours = np.where(evening, 5, 10)
        seconds: Numbers = self._date(orders) + opens + self._draw("second", orders, HOUR) * hours
        return seconds

    def _customer_of(self, orders: Numbers) -> Numbers:
        known = self.customers + self._day_of(orders) * self._new_customers
        # The square gives some customers many orders: the first tenth of them has a third of the orders.
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
        return concatenate(text(1 + self._draw("house", customers, 200)), " Main St, Port Amber, ME")

    def _morning(self, day: int) -> int:
        return seconds_of(date_of(day)) + 4 * HOUR - (PAST_DAYS + 1) * DAY * (day == 0)

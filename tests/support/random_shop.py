"""Random batches of a small shop for the source retail."""

import datetime as dt
from random import Random
from typing import Any


def random_batches(random: Random) -> list[dict[str, Any]]:
    """Returns five batches of a small shop: one late, one without orders, two with snapshots. Stages change."""
    seen: list[str] = []
    dates = ["2026-01-10", "2026-02-20", "2026-01-25", "2026-05-01", "2026-12-01"]
    snapshots: list[list[str]] = [[], ["shipping"], [], ["inventory", "orders"], []]
    orders = (9, 9, 6, 7, 0)
    batches = []
    for date, count, snapshot in zip(dates, orders, snapshots, strict=True):
        day = dt.date.fromisoformat(date)
        feeds = {
            "orders": [_order(random, day, seen) for _ in range(count)],
            "customers": [_customer(random, day) for _ in range(4)],
            "products": [_product(random, day) for _ in range(3)],
            "inventory": [_stock(random, day) for _ in range(3)],
            "shipping": [_shipment(random, day, seen) for _ in range(5)] if seen else [],
        }
        batches.append({"day": date, "snapshot": snapshot, **{name: rows for name, rows in feeds.items() if rows}})
    return batches


def _timestamp(random: Random, day: dt.date, days: int = 60) -> str:
    at = dt.datetime.combine(day, dt.time()) - dt.timedelta(minutes=random.randrange(0, days * 24 * 60, 60))
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _order(random: Random, day: dt.date, seen: list[str]) -> dict[str, str | None]:
    order = random.choice(seen) if seen and random.random() < 0.4 else f"o{len(seen):02}"
    if order not in seen:
        seen.append(order)
    return {
        "order_id": order,
        "customer_id": random.choice(["c1", "c2", "c3", "c4", "nobody"]),
        "product_id": random.choice(["p1", "p2", "p3", "nothing"]),
        "order_date": (day - dt.timedelta(days=random.randrange(50))).isoformat(),
        "order_amount": f"{random.choice((0.01, 19.99, 120, 333.33, 700))}",
        "order_status": random.choice(["new", "paid"]),
        "created_timestamp": _timestamp(random, day),
    }


def _customer(random: Random, day: dt.date) -> dict[str, str | None]:
    tier = random.choice(["premium", "gold", "silver", "basic"])
    at = _timestamp(random, day, 90)
    return {
        "customer_id": random.choice(["c1", "c2", "c3", "c4", "c5"]),
        "customer_tier": tier,
        "last_login": at,
        "created_timestamp": at,
    }


def _product(random: Random, day: dt.date) -> dict[str, str | None]:
    return {
        "product_id": random.choice(["p1", "p2", "p3", "p4"]),
        "category": random.choice(["light", "seat"]),
        "price": random.choice(["19.99", "120.00", "700.00"]),
        "discontinued": random.choice(["true", "false"]),
        "created_timestamp": _timestamp(random, day, 90),
    }


def _stock(random: Random, day: dt.date) -> dict[str, str | None]:
    return {
        "warehouse_id": random.choice(["W1", "W2"]),
        "product_id": random.choice(["p1", "p2", "p3"]),
        "stock_quantity": str(random.randrange(4)),
        "created_timestamp": _timestamp(random, day, 90),
    }


def _shipment(random: Random, day: dt.date, seen: list[str]) -> dict[str, str | None]:
    at = _timestamp(random, day, 20)
    sent = dt.date.fromisoformat(at[:10])
    delivered = random.choice([None, (sent + dt.timedelta(days=random.randrange(1, 6))).isoformat()])
    return {
        "shipping_id": random.choice(["s1", "s2"]),
        "order_id": random.choice(seen),
        "carrier": random.choice(["Post", "Rail"]),
        "shipping_cost": random.choice(["5.00", "12.50"]),
        "estimated_delivery": (sent + dt.timedelta(days=3)).isoformat(),
        "actual_delivery": delivered,
        "created_timestamp": at,
    }

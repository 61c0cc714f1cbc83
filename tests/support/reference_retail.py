"""Retail's enriched and gold tables computed anew from silver, in plain Python; and random histories of a small shop."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from random import Random
from typing import Any

from pipeline.model import GoldTable
from pipeline.sources.retail.feeds import RETAIL

Rows = list[dict[str, Any]]
DAY = dt.timedelta(days=1)
MARGIN = Decimal("0.30")


# ---- enriched orders


def enriched_orders(silver: Mapping[str, Rows]) -> Rows:
    """Each current order with the world of its day, as far as the columns here show it."""
    return [_enriched(order, silver) for order in silver["orders"] if order["is_current"]]


def _enriched(order: dict[str, Any], silver: Mapping[str, Rows]) -> dict[str, Any]:
    at = dt.datetime.combine(order["order_date"] + DAY, dt.time(), dt.UTC) - dt.timedelta(microseconds=1)
    customer = _valid([c for c in silver["customers"] if c["customer_id"] == order["customer_id"]], at)
    product = _valid([p for p in silver["products"] if p["product_id"] == order["product_id"]], at)
    stock = sorted(
        (i for i in silver["inventory"] if i["product_id"] == order["product_id"]), key=lambda i: str(i["warehouse_id"])
    )
    stocks = [s for _, versions in groupby(stock, key=lambda i: i["warehouse_id"]) if (s := _valid(list(versions), at))]
    shipments = sorted(
        (s for s in silver["shipping"] if s["order_id"] == order["order_id"] and s["is_current"]),
        key=lambda s: (s["effective_from"], s["shipping_id"]),
    )
    newest = shipments[-1] if shipments else {}
    tier = customer.get("customer_tier")
    return {
        **{
            name: order[name]
            for name in ("order_id", "customer_id", "product_id", "order_date", "order_amount", "order_status")
        },
        "customer_tier": tier,
        "_customer_from": customer.get("effective_from"),
        "price": product.get("price"),
        "category": product.get("category"),
        "_product_from": product.get("effective_from"),
        "inventory_stock_quantity": sum(s["stock_quantity"] for s in stocks) if stocks else None,
        "warehouse_count": len(stocks) or None,
        "shipping_id": newest.get("shipping_id"),
        "delivery_performance": newest.get("delivery_performance"),
        "shipment_count": len(shipments) or None,
        "order_profit_margin": order["order_amount"] * MARGIN,
        "estimated_clv": order["order_amount"] * {"premium": 10, "gold": 7, "silver": 5}.get(str(tier), 3),
        "season": ("Winter", "Winter", *["Spring"] * 3, *["Summer"] * 3, *["Fall"] * 3, "Winter")[
            order["order_date"].month - 1
        ],
    }


def _valid(versions: Rows, at: dt.datetime) -> dict[str, Any]:
    in_order = sorted(versions, key=lambda v: v["effective_from"])
    if in_order and at < in_order[0]["effective_from"]:
        return in_order[0]
    return next(
        (v for v in in_order if v["effective_from"] <= at and (v["effective_to"] is None or at < v["effective_to"])), {}
    )


# ---- gold


def gold(silver: Mapping[str, Rows], as_of: dt.date) -> dict[str, Rows]:
    """Every gold table but the one of batches, from silver alone. Keys of versions are told by what they stand for."""
    orders = enriched_orders(silver)
    customers, products = _customers(orders, silver, as_of), _products(orders, silver, as_of)
    days, shipments = _by(orders, "order_date"), [s for s in silver["shipping"] if s["is_current"]]
    return {
        "customer_analytics": customers,
        "product_analytics": products,
        "segment_analysis": [
            {
                "customer_segment": s,
                "customers": len(rows),
                **_mean("revenue", "avg_customer_value", [r["total_spent"] for r in rows]),
            }
            for s, rows in _by(customers, "customer_segment").items()
        ],
        "seasonal_analysis": [
            {"season": s, "orders": len(rows), **_mean("revenue", "avg_order_value", _amounts(rows))}
            for s, rows in _by(orders, "season").items()
        ],
        "category_analysis": [
            {
                "category": c,
                "products_ordered": _distinct(rows, "product_id"),
                "orders": len(rows),
                **_mean("revenue", "avg_order_value", _amounts(rows)),
            }
            for c, rows in _by(orders, "category").items()
            if c is not None
        ],
        "daily_sales": [
            {
                "order_date": day,
                "orders": len(rows),
                "revenue": sum(_amounts(rows)),
                "profit": sum(r["order_profit_margin"] for r in rows),
                "unique_customers": _distinct(rows, "customer_id"),
            }
            for day, rows in days.items()
        ],
        "inventory_movements": list(_movements(silver["inventory"])),
        "delivery_performance": [
            _performance(*item) for item in _by(shipments, "carrier", "delivery_performance").items()
        ],
        "dim_customer": silver["customers"],
        "dim_product": silver["products"],
        "dim_date": [_day(day) for day in days],
        "fact_orders": [_fact(order) for order in orders],
    }


def key_figures(orders: Rows) -> dict[str, Any]:
    """The cumulative figures of one batch."""
    revenue, count, customers = sum(_amounts(orders)), len(orders), _distinct(orders, "customer_id")
    profit = sum(o["order_profit_margin"] for o in orders)
    return {
        "total_orders": count,
        "total_revenue": revenue,
        "avg_order_value": ratio(revenue, count),
        "unique_customers": customers,
        "unique_products": _distinct(orders, "product_id"),
        "total_profit": profit,
        "profit_margin_percentage": ratio(100 * profit, revenue),
        "avg_estimated_clv": ratio(sum(o["estimated_clv"] for o in orders), count),
        "revenue_per_customer": ratio(revenue, customers),
        "orders_per_customer": ratio(count, customers),
    }


def ratio(total: Decimal | int, of: Decimal | int) -> Decimal | None:
    return (Decimal(total) / Decimal(of)).quantize(Decimal("0.0001"), ROUND_HALF_UP) if of else None


def _customers(orders: Rows, silver: Mapping[str, Rows], as_of: dt.date) -> Rows:
    current = {c["customer_id"]: c for c in silver["customers"] if c["is_current"]}
    found = []
    for customer, rows in _by(orders, "customer_id").items():
        spent, count, last = sum(_amounts(rows)), len(rows), max(r["order_date"] for r in rows)
        age = (as_of - last).days
        found.append(
            {
                **_attributes("customer_analytics", current.get(customer, {})),
                "customer_id": customer,
                "total_orders": count,
                **_mean("total_spent", "avg_order_value", _amounts(rows)),
                "first_order_date": min(r["order_date"] for r in rows),
                "last_order_date": last,
                "unique_products": _distinct(rows, "product_id"),
                "unique_categories": _distinct(rows, "category"),
                "total_profit": sum(r["order_profit_margin"] for r in rows),
                "avg_estimated_clv": ratio(sum(r["estimated_clv"] for r in rows), count),
                "customer_segment": _grade(
                    spent,
                    count,
                    (1000, 5, "VIP"),
                    (500, 3, "High Value"),
                    (200, 2, "Medium Value"),
                    (0, 0, "Low Value"),
                ),
                "lifecycle_stage": "Active"
                if age <= 30
                else "At Risk"
                if age <= 90
                else "Inactive"
                if age <= 180
                else "Lost",
            }
        )
    return found


def _products(orders: Rows, silver: Mapping[str, Rows], as_of: dt.date) -> Rows:
    current = {p["product_id"]: p for p in silver["products"] if p["is_current"]}
    found = []
    for product, rows in _by(orders, "product_id").items():
        revenue, count, last = sum(_amounts(rows)), len(rows), max(r["order_date"] for r in rows)
        age, now = (as_of - last).days, current.get(product, {})
        stars = (
            (5000, 20, "Star"),
            (2000, 10, "High Performer"),
            (500, 5, "Medium Performer"),
            (0, 0, "Low Performer"),
        )
        found.append(
            {
                **_attributes("product_analytics", now),
                "product_id": product,
                "total_orders": count,
                **_mean("total_revenue", "avg_order_value", _amounts(rows)),
                "unique_customers": _distinct(rows, "customer_id"),
                "total_profit": sum(r["order_profit_margin"] for r in rows),
                "first_order_date": min(r["order_date"] for r in rows),
                "last_order_date": last,
                "performance_category": _grade(revenue, count, *stars),
                "product_lifecycle": "Active"
                if age <= 30
                else "Declining"
                if age <= 90
                else "Discontinued"
                if now.get("discontinued")
                else "Stagnant",
            }
        )
    return found


def _attributes(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in public(table)}


def _movements(inventory: Rows) -> Iterable[dict[str, Any]]:
    for (warehouse, product), versions in _by(inventory, "warehouse_id", "product_id").items():
        before = 0
        days = {at.date() for v in versions for at in (v["effective_from"], v["effective_to"]) if at}
        for day in sorted(days):
            end = dt.datetime.combine(day + DAY, dt.time(), dt.UTC) - dt.timedelta(microseconds=1)
            valid = [
                v
                for v in versions
                if v["effective_from"] <= end and (v["effective_to"] is None or end < v["effective_to"])
            ]
            stock = valid[0]["stock_quantity"] if valid else 0
            if stock != before:
                yield {
                    "warehouse_id": warehouse,
                    "product_id": product,
                    "movement_date": day,
                    "opening_stock": before,
                    "closing_stock": stock,
                    "movement": stock - before,
                }
            before = stock


def _performance(group: tuple[str, str], rows: Rows) -> dict[str, Any]:
    days = [r["delivery_days"] for r in rows if r["delivery_days"] is not None]
    cost = sum(r["shipping_cost"] for r in rows)
    return {
        "carrier": group[0],
        "delivery_performance": group[1],
        "shipments": len(rows),
        "avg_delivery_days": ratio(sum(days), len(days)),
        "shipping_cost": cost,
    }


def _day(day: dt.date) -> dict[str, Any]:
    weekday = day.isoweekday() % 7 + 1
    return {
        "date_key": int(day.strftime("%Y%m%d")),
        "date": day,
        "year": day.year,
        "quarter": (day.month + 2) // 3,
        "month": day.month,
        "day": day.day,
        "day_of_week": weekday,
        "is_weekend": weekday in (1, 7),
    }


def _fact(order: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **order,
        "date_key": int(order["order_date"].strftime("%Y%m%d")),
        "profit": order["order_profit_margin"],
        "customer_key": order["_customer_from"],
        "product_key": order["_product_from"],
        "payment_method": "card",
    }


def _grade(money: Decimal | int, count: int, *grades: tuple[int, int, str]) -> str:
    return next(name for least, orders, name in grades if money >= least and count >= orders)


def _mean(total: str, mean: str, values: list[Decimal]) -> dict[str, Any]:
    return {total: sum(values), mean: ratio(sum(values), len(values))}


def _amounts(rows: Rows) -> list[Decimal]:
    return [r["order_amount"] for r in rows]


def _distinct(rows: Rows, column: str) -> int:
    return len({r[column] for r in rows} - {None})


def _by(rows: Rows, *columns: str) -> dict[Any, Rows]:
    groups: dict[Any, Rows] = defaultdict(list)
    for row in rows:
        groups[tuple(row[c] for c in columns) if len(columns) > 1 else row[columns[0]]].append(row)
    return groups


def table(name: str) -> GoldTable:
    """The declaration of a gold table."""
    return next(t for t in RETAIL.gold if t.name == name)


def public(name: str) -> list[str]:
    """The columns of a gold table that others rely on."""
    return [c.name for c in table(name).schema if not c.name.startswith("_")]


# ---- a shop's year


def history(chance: Random) -> list[dict[str, Any]]:
    """Five batches of a small shop, one of them late, one without orders, two with whole deliveries; stages change in between."""
    seen: list[str] = []
    dates = ["2026-01-10", "2026-02-20", "2026-01-25", "2026-05-01", "2026-12-01"]
    whole: list[list[str]] = [[], ["shipping"], [], ["inventory", "orders"], []]
    orders = (9, 9, 6, 7, 0)
    batches = []
    for date, count, snapshot in zip(dates, orders, whole, strict=True):
        day = dt.date.fromisoformat(date)
        feeds = {
            "orders": [_order(chance, day, seen) for _ in range(count)],
            "customers": [_customer(chance, day) for _ in range(4)],
            "products": [_product(chance, day) for _ in range(3)],
            "inventory": [_stock(chance, day) for _ in range(3)],
            "shipping": [_shipment(chance, day, seen) for _ in range(5)] if seen else [],
        }
        batches.append({"day": date, "snapshot": snapshot, **{name: rows for name, rows in feeds.items() if rows}})
    return batches


def _moment(chance: Random, day: dt.date, days: int = 60) -> str:
    at = dt.datetime.combine(day, dt.time()) - dt.timedelta(minutes=chance.randrange(0, days * 24 * 60, 60))
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _order(chance: Random, day: dt.date, seen: list[str]) -> dict[str, str | None]:
    order = chance.choice(seen) if seen and chance.random() < 0.4 else f"o{len(seen):02}"
    if order not in seen:
        seen.append(order)
    return {
        "order_id": order,
        "customer_id": chance.choice(["c1", "c2", "c3", "c4", "nobody"]),
        "product_id": chance.choice(["p1", "p2", "p3", "nothing"]),
        "order_date": (day - dt.timedelta(days=chance.randrange(50))).isoformat(),
        "order_amount": f"{chance.choice((0.01, 19.99, 120, 333.33, 700))}",
        "order_status": chance.choice(["new", "paid"]),
        "created_timestamp": _moment(chance, day),
    }


def _customer(chance: Random, day: dt.date) -> dict[str, str | None]:
    tier = chance.choice(["premium", "gold", "silver", "basic"])
    at = _moment(chance, day, 90)
    return {
        "customer_id": chance.choice(["c1", "c2", "c3", "c4", "c5"]),
        "customer_tier": tier,
        "last_login": at,
        "created_timestamp": at,
    }


def _product(chance: Random, day: dt.date) -> dict[str, str | None]:
    return {
        "product_id": chance.choice(["p1", "p2", "p3", "p4"]),
        "category": chance.choice(["light", "seat"]),
        "price": chance.choice(["19.99", "120.00", "700.00"]),
        "discontinued": chance.choice(["true", "false"]),
        "created_timestamp": _moment(chance, day, 90),
    }


def _stock(chance: Random, day: dt.date) -> dict[str, str | None]:
    return {
        "warehouse_id": chance.choice(["W1", "W2"]),
        "product_id": chance.choice(["p1", "p2", "p3"]),
        "stock_quantity": str(chance.randrange(4)),
        "created_timestamp": _moment(chance, day, 90),
    }


def _shipment(chance: Random, day: dt.date, seen: list[str]) -> dict[str, str | None]:
    at = _moment(chance, day, 20)
    sent = dt.date.fromisoformat(at[:10])
    delivered = chance.choice([None, (sent + dt.timedelta(days=chance.randrange(1, 6))).isoformat()])
    return {
        "shipping_id": chance.choice(["s1", "s2"]),
        "order_id": chance.choice(seen),
        "carrier": chance.choice(["Post", "Rail"]),
        "shipping_cost": chance.choice(["5.00", "12.50"]),
        "estimated_delivery": (sent + dt.timedelta(days=3)).isoformat(),
        "actual_delivery": delivered,
        "created_timestamp": at,
    }

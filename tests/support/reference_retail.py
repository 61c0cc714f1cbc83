"""The reference for retail's gold tables: plain Python that computes them whole from silver."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from reference_enriched_orders import DAY, Rows, enriched_orders

from pipeline.model import GoldTable
from pipeline.sources.retail.feeds import RETAIL


def gold(silver: Mapping[str, Rows], as_of: dt.date) -> dict[str, Rows]:
    """Returns the rows of every gold table except the one per batch. A version key is the start of its version."""
    orders = enriched_orders(silver)
    customers = _customers(orders, silver, as_of)
    products = _products(orders, silver, as_of)
    days = _by(orders, "order_date")
    shipments = [s for s in silver["shipping"] if s["is_current"]]
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
    """Returns the cumulative figures of one batch."""
    revenue = sum(_amounts(orders))
    count = len(orders)
    customers = _distinct(orders, "customer_id")
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
    """Returns the ratio with four decimal places; None for a divisor of 0."""
    return (Decimal(total) / Decimal(of)).quantize(Decimal("0.0001"), ROUND_HALF_UP) if of else None


def _customers(orders: Rows, silver: Mapping[str, Rows], as_of: dt.date) -> Rows:
    current = {c["customer_id"]: c for c in silver["customers"] if c["is_current"]}
    found = []
    for customer, rows in _by(orders, "customer_id").items():
        spent = sum(_amounts(rows))
        count = len(rows)
        last = max(r["order_date"] for r in rows)
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
        revenue = sum(_amounts(rows))
        count = len(rows)
        last = max(r["order_date"] for r in rows)
        age = (as_of - last).days
        now = current.get(product, {})
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
    """Returns the declaration of a gold table."""
    return next(t for t in RETAIL.gold if t.name == name)


def public(name: str) -> list[str]:
    """Returns the public columns of a gold table."""
    return [c.name for c in table(name).schema if not c.name.startswith("_")]

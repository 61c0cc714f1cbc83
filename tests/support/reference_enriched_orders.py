"""The reference for retail's enriched orders: plain Python that joins each order to the versions of its day."""

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from itertools import groupby
from typing import Any

Rows = list[dict[str, Any]]
DAY = dt.timedelta(days=1)
MARGIN = Decimal("0.30")


def enriched_orders(silver: Mapping[str, Rows]) -> Rows:
    """Returns each current order with its joined columns, as far as the tests compare them."""
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

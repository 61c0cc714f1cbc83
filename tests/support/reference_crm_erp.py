"""The reference for the gold tables of crm_erp: plain Python that computes them whole from the silver of the feeds."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

Rows = list[dict[str, Any]]


def gold(silver: Mapping[str, Rows], as_of: dt.date) -> dict[str, Rows]:
    """Returns the rows of every public gold table, without surrogate keys, which are hashes."""
    customers = _customers(silver, as_of)
    products = _products(silver)
    lines = [_fact(line, customers, products) for line in silver["crm_sales"]]
    current = {p["product_number"]: p for p in products if p["is_current"]}
    sold = [_sold(number, some, current.get(number, {})) for number, some in _by(lines, "product_number").items()]
    whole = sum(p["profit"] for p in sold)
    return {
        "dim_customer": list(customers.values()),
        "dim_product": products,
        "fact_sales": lines,
        "cost_history": products,
        "revenue_by_month": [{"month": key, **_sums(some)} for key, some in _by(lines, "month").items()],
        "revenue_by_country": [{"country": key, **_sums(some)} for key, some in _by(lines, "country").items()],
        "revenue_by_age_group": [
            {"age_group": a, "gender": g, **_sums(some)} for (a, g), some in _by(lines, "age_group", "gender").items()
        ],
        "product_profit": [{**p, "rank": 1 + sum(q["profit"] > p["profit"] for q in sold)} for p in sold],
        "maintenance_burden": [
            {
                "maintenance": m,
                "category": c,
                "revenue": sum(p["revenue"] for p in kind),
                **_share(sum(p["profit"] for p in kind), whole),
            }
            for (m, c), kind in _by(sold, "maintenance", "category").items()
        ],
    }


def _customers(silver: Mapping[str, Rows], as_of: dt.date) -> dict[int, dict[str, Any]]:
    erp = {r["customer_number"]: r for r in silver["erp_customers"] if r["is_current"]}
    places = {r["customer_number"]: r["country"] for r in silver["erp_locations"] if r["is_current"]}
    found = {}
    for c in (r for r in silver["crm_customers"] if r["is_current"]):
        known = erp.get(c["customer_number"], {})
        found[c["cst_id"]] = {
            **c,
            "customer_id": c["cst_id"],
            "country": places.get(c["customer_number"], "n/a"),
            "gender": c["gender"] if c["gender"] != "n/a" else known.get("gender", "n/a"),
            "birth_date": known.get("birth_date"),
            "age_group": _age_group(known.get("birth_date"), as_of),
            "create_date": c["cst_create_date"],
        }
    return found


def _age_group(born: dt.date | None, as_of: dt.date) -> str:
    if born is None:
        return "n/a"
    age = as_of.year - born.year - ((as_of.month, as_of.day) < (born.month, born.day))
    return "under 30" if age < 30 else "60 and over" if age >= 60 else f"{age // 10}0-{age // 10}9"


def _products(silver: Mapping[str, Rows]) -> Rows:
    categories = {r["category_id"]: r for r in silver["erp_categories"] if r["is_current"]}
    found = []
    for versions in _by(silver["crm_products"], "product_number").values():
        starts = sorted(v["prd_start_dt"] for v in versions)
        for version in versions:
            later = [s for s in starts if s > version["prd_start_dt"]]
            kind = categories.get(version["category_id"], {})
            found.append(
                {
                    **version,
                    "product_id": version["prd_id"],
                    "category": kind.get("category"),
                    "subcategory": kind.get("subcategory"),
                    "maintenance": kind.get("MAINTENANCE"),
                    "start_date": version["prd_start_dt"],
                    "end_date": later[0] if later else None,
                    "is_current": not later,
                }
            )
    return found


def _fact(line: Mapping[str, Any], customers: Mapping[int, Mapping[str, Any]], products: Rows) -> dict[str, Any]:
    day = line["order_date"]
    versions = [p for p in products if p["product_number"] == line["product_number"]]
    versions.sort(key=lambda p: p["start_date"])
    valid = [p for p in versions if day and p["start_date"] <= day]
    version = valid[-1] if valid else versions[0] if versions else None
    cost = version["cost"] if version else None
    known: Mapping[str, Any] = customers.get(line["cst_id"], {})
    return {
        **line,
        "order_number": line["sls_ord_num"],
        "quantity": line["sls_quantity"],
        "cost": cost,
        "profit": None if cost is None else line["sales_amount"] - line["sls_quantity"] * cost,
        "product_match": "by_date" if valid else "earliest_version" if versions else None,
        "month": day and day.replace(day=1),
        "version": version and version["start_date"],
        **{name: known.get(name) for name in ("country", "gender", "age_group")},
    }


def _sold(number: str, lines: Rows, now: Mapping[str, Any]) -> dict[str, Any]:
    sums = _sums(lines)
    attributes = {name: now.get(name) for name in ("product_name", "category", "maintenance")}
    return {
        "product_number": number,
        **attributes,
        "revenue": sums["revenue"],
        "profit": sums["profit"],
        "quantity": sum(r["quantity"] for r in lines),
    }


def _sums(lines: Rows) -> dict[str, Any]:
    return {
        "revenue": sum(r["sales_amount"] for r in lines),
        "profit": sum((r["profit"] or Decimal(0)) for r in lines),
        "orders": len({(r["sls_ord_num"], r["cst_id"]) for r in lines}),
        "customers": len({r["cst_id"] for r in lines} - {None}),
    }


def _share(profit: Decimal, whole: Decimal) -> dict[str, Any]:
    return {
        "profit": profit,
        "profit_share": (profit / whole).quantize(Decimal("0.0001"), ROUND_HALF_UP) if whole else None,
    }


def _by(rows: Rows, *columns: str) -> dict[Any, Rows]:
    groups: dict[Any, Rows] = defaultdict(list)
    for row in rows:
        groups[tuple(row[c] for c in columns) if len(columns) > 1 else row[columns[0]]].append(row)
    return groups

"""The gold tables, each computed whole from the enriched orders or from silver."""

import datetime as dt
from collections.abc import Mapping

import polars as pl

from .enriched import CUSTOMER, PRODUCT
from .silver import cases, quotient

MONEY = pl.Decimal(30, 6)
MEAN = pl.Decimal(30, 4)
ORDERS = pl.len().cast(pl.Int64)
CODES = {"customer_id": "_customer_code", "product_id": "_product_code", "category": "_category_code"}


def gold_tables(
    orders: pl.DataFrame, silver: Mapping[str, pl.DataFrame], batch_id: str, batch_date: dt.date, as_of: dt.date
) -> dict[str, pl.DataFrame]:
    """Returns the rows of every gold table; of the one with a row per batch, the row of this batch."""
    orders = _with_codes(orders)
    customers = _customers(orders, silver["customers"], as_of)
    days = _days(orders)
    keys = {
        "customer": _version_keys(silver["customers"], "customer_id"),
        "product": _version_keys(silver["products"], "product_id"),
    }
    return {
        "analytics_summary": _summary(orders, batch_id, batch_date),
        "customer_analytics": customers,
        "product_analytics": _products(orders, silver["products"], as_of),
        "segment_analysis": customers.group_by("customer_segment")
        .agg(customers=ORDERS, revenue=_sum("total_spent"), _rows=ORDERS)
        .with_columns(avg_customer_value=_ratio("revenue", "customers")),
        "seasonal_analysis": _orders_by(orders, "season"),
        "category_analysis": _categories(orders),
        "daily_sales": days,
        "inventory_movements": _movements(silver["inventory"]),
        "delivery_performance": _deliveries(silver["shipping"]),
        "dim_customer": _dimension(silver["customers"], keys["customer"], "customer", CUSTOMER),
        "dim_product": _dimension(silver["products"], keys["product"], "product", PRODUCT),
        "dim_date": _dates(days),
        "fact_orders": _facts(orders, keys),
    }


def _sum(column: str) -> pl.Expr:
    return pl.col(column).sum().cast(MONEY)


def _ratio(total: str, of: str) -> pl.Expr:
    return quotient(pl.col(total), pl.col(of), 4).cast(MEAN)


def _with_codes(orders: pl.DataFrame) -> pl.DataFrame:
    """Adds a number for each customer, product and category: numbers are grouped quicker than texts."""
    return orders.with_columns(
        pl.col(name).cast(pl.Categorical).to_physical().cast(pl.UInt64).alias(code) for name, code in CODES.items()
    )


def _distinct(column: str) -> pl.Expr:
    return pl.col(CODES[column]).drop_nulls().n_unique().cast(pl.Int64)


def _with_distinct(sums: pl.DataFrame, orders: pl.DataFrame, group: str, **columns: str) -> pl.DataFrame:
    """Adds the number of distinct values of some columns, by group: quicker than aggregates over many small groups."""
    for name, column in columns.items():
        pair = pl.col(group).cast(pl.UInt64) * 2**32 + pl.col(CODES[column])
        pairs = orders.select(pair.alias("_pair")).drop_nulls().unique()
        counts = pairs.group_by((pl.col("_pair") // 2**32).alias("_group")).agg(ORDERS.alias(name))
        sums = sums.join(counts, left_on=pl.col(group).cast(pl.UInt64), right_on="_group", how="left")
        sums = sums.drop("_group", strict=False).with_columns(pl.col(name).fill_null(0))
    return sums


def _summary(orders: pl.DataFrame, batch_id: str, batch_date: dt.date) -> pl.DataFrame:
    sums = orders.select(
        pl.lit(batch_id).alias("batch_id"),
        pl.lit(batch_date).alias("report_date"),
        total_orders=ORDERS,
        total_revenue=_sum("order_amount"),
        unique_customers=_distinct("customer_id"),
        unique_products=_distinct("product_id"),
        total_profit=_sum("order_profit_margin"),
        _estimated_clv=_sum("estimated_clv"),
        _rows=ORDERS,
    )
    return sums.with_columns(
        avg_order_value=_ratio("total_revenue", "total_orders"),
        profit_margin_percentage=quotient(100 * pl.col("total_profit"), pl.col("total_revenue"), 4).cast(MEAN),
        avg_estimated_clv=_ratio("_estimated_clv", "total_orders"),
        revenue_per_customer=_ratio("total_revenue", "unique_customers"),
        orders_per_customer=_ratio("total_orders", "unique_customers"),
    )


def _customers(orders: pl.DataFrame, customers: pl.DataFrame, as_of: dt.date) -> pl.DataFrame:
    sums = orders.group_by(CODES["customer_id"]).agg(
        pl.col("customer_id").first(),
        total_orders=ORDERS,
        total_spent=_sum("order_amount"),
        first_order_date=pl.col("order_date").min(),
        last_order_date=pl.col("order_date").max(),
        total_profit=_sum("order_profit_margin"),
        _estimated_clv=_sum("estimated_clv"),
    )
    code = CODES["customer_id"]
    sums = _with_distinct(sums, orders, code, unique_products="product_id", unique_categories="category").drop(code)
    current = customers.filter("is_current").select("customer_id", *CUSTOMER)
    count, spent = pl.col("total_orders"), pl.col("total_spent")
    age = (pl.lit(as_of) - pl.col("last_order_date")).dt.total_days()
    return sums.join(current, "customer_id", "left").with_columns(
        _rows="total_orders",
        avg_order_value=_ratio("total_spent", "total_orders"),
        avg_estimated_clv=_ratio("_estimated_clv", "total_orders"),
        customer_segment=cases(
            ((spent >= 1000) & (count >= 5), "VIP"),
            ((spent >= 500) & (count >= 3), "High Value"),
            ((spent >= 200) & (count >= 2), "Medium Value"),
            otherwise="Low Value",
        ),
        lifecycle_stage=cases(
            (age <= 30, "Active"), (age <= 90, "At Risk"), (age <= 180, "Inactive"), otherwise="Lost"
        ),
    )


def _products(orders: pl.DataFrame, products: pl.DataFrame, as_of: dt.date) -> pl.DataFrame:
    sums = orders.group_by(CODES["product_id"]).agg(
        pl.col("product_id").first(),
        total_orders=ORDERS,
        total_revenue=_sum("order_amount"),
        total_profit=_sum("order_profit_margin"),
        first_order_date=pl.col("order_date").min(),
        last_order_date=pl.col("order_date").max(),
    )
    code = CODES["product_id"]
    sums = _with_distinct(sums, orders, code, unique_customers="customer_id").drop(code)
    current = products.filter("is_current").select("product_id", *PRODUCT)
    count, revenue = pl.col("total_orders"), pl.col("total_revenue")
    age = (pl.lit(as_of) - pl.col("last_order_date")).dt.total_days()
    return sums.join(current, "product_id", "left").with_columns(
        _rows="total_orders",
        avg_order_value=_ratio("total_revenue", "total_orders"),
        performance_category=cases(
            ((revenue >= 5000) & (count >= 20), "Star"),
            ((revenue >= 2000) & (count >= 10), "High Performer"),
            ((revenue >= 500) & (count >= 5), "Medium Performer"),
            otherwise="Low Performer",
        ),
        product_lifecycle=cases(
            (age <= 30, "Active"),
            (age <= 90, "Declining"),
            (pl.col("discontinued"), "Discontinued"),
            otherwise="Stagnant",
        ),
    )


def _orders_by(orders: pl.DataFrame, group: str, *more: pl.Expr) -> pl.DataFrame:
    sums = orders.group_by(group).agg(*more, orders=ORDERS, revenue=_sum("order_amount"), _rows=ORDERS)
    return sums.with_columns(avg_order_value=_ratio("revenue", "orders"))


def _categories(orders: pl.DataFrame) -> pl.DataFrame:
    code = CODES["category"]
    sums = _orders_by(orders, code, pl.col("category").first()).drop_nulls("category")
    return _with_distinct(sums, orders, code, products_ordered="product_id").drop(code)


def _days(orders: pl.DataFrame) -> pl.DataFrame:
    sums = orders.group_by("order_date").agg(
        orders=ORDERS, revenue=_sum("order_amount"), profit=_sum("order_profit_margin"), _rows=ORDERS
    )
    return _with_distinct(sums, orders, "order_date", unique_customers="customer_id")


def _movements(inventory: pl.DataFrame) -> pl.DataFrame:
    key = ["warehouse_id", "product_id"]
    days = (
        inventory.sort("effective_from")
        .with_columns(movement_date=pl.col("effective_from").dt.date())
        .unique([*key, "movement_date"], keep="last", maintain_order=True)
        .select(*key, "movement_date", closing_stock=pl.col("stock_quantity").cast(pl.Int64))
        .with_columns(opening_stock=pl.col("closing_stock").shift().over(key).fill_null(0))
    )
    days = days.with_columns(movement=pl.col("closing_stock") - pl.col("opening_stock"))
    return days.filter(pl.col("movement") != 0)


def _deliveries(shipping: pl.DataFrame) -> pl.DataFrame:
    days = pl.col("delivery_days")
    sums = (
        shipping.filter("is_current")
        .group_by("carrier", "delivery_performance")
        .agg(
            shipments=ORDERS,
            shipping_cost=_sum("shipping_cost"),
            _delivered=days.count().cast(pl.Int64),
            _delivery_days=days.sum().cast(pl.Int64),
            _rows=ORDERS,
        )
    )
    return sums.with_columns(avg_delivery_days=_ratio("_delivery_days", "_delivered"))


def _version_keys(versions: pl.DataFrame, key: str) -> pl.Series:
    """Returns a surrogate key per version: a hash of its key and its start."""
    return versions.select(pl.struct(key, "effective_from").hash().reinterpret(signed=True)).to_series()


def _dimension(versions: pl.DataFrame, keys: pl.Series, name: str, columns: tuple[str, ...]) -> pl.DataFrame:
    history = ("effective_from", "effective_to", "is_current")
    return versions.select(keys.alias(f"{name}_key"), f"{name}_id", *columns, *history)


def _date_key(column: str) -> pl.Expr:
    date = pl.col(column).dt
    return 10000 * date.year() + 100 * date.month().cast(pl.Int32) + date.day()


def _dates(days: pl.DataFrame) -> pl.DataFrame:
    date = pl.col("order_date").dt
    day_of_week = (date.weekday() % 7 + 1).cast(pl.Int32)
    return days.select(
        date_key=_date_key("order_date"),
        date="order_date",
        year=date.year(),
        quarter=date.quarter().cast(pl.Int32),
        month=date.month().cast(pl.Int32),
        day=date.day().cast(pl.Int32),
        day_of_week=day_of_week,
        is_weekend=day_of_week.is_in([1, 7]),
    )


def _facts(orders: pl.DataFrame, keys: Mapping[str, pl.Series]) -> pl.DataFrame:
    return orders.select(
        "order_id",
        *(s.gather(orders[f"_{name}"]).alias(f"{name}_key") for name, s in keys.items()),
        _date_key("order_date").alias("date_key"),
        "customer_id",
        "product_id",
        "order_date",
        "order_amount",
        pl.col("order_profit_margin").cast(MONEY).alias("profit"),
        "estimated_clv",
        "order_status",
        "payment_method",
    )

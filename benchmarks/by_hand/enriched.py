"""Each current order with the customer, product and stock of its day, and its newest shipment."""

from collections.abc import Mapping
from decimal import Decimal

import polars as pl

from .silver import AT, cases

MARGIN = Decimal("0.30")
CUSTOMER = (
    "first_name",
    "last_name",
    "email",
    "phone",
    "date_of_birth",
    "registration_date",
    "address",
    "city",
    "state",
    "zip_code",
    "country",
    "customer_tier",
    "age",
    "age_segment",
    "registration_stage",
)
PRODUCT = (
    "product_name",
    "category",
    "subcategory",
    "brand",
    "price",
    "currency",
    "stock_quantity",
    "weight_kg",
    "dimensions_cm",
    "color",
    "material",
    "description",
    "launch_date",
    "discontinued",
    "price_segment",
    "stock_status",
    "launch_stage",
    "volume_cm3",
    "density_kg_per_cm3",
)
HISTORY = ("effective_from", "effective_to", "is_current", "_event_at", "_batch_date", "_revision")


def enriched_orders(silver: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Returns the enriched orders, with `_customer` and `_product`: the places of the joined versions."""
    orders = silver["orders"].filter("is_current").drop(HISTORY)
    customers, products = silver["customers"], silver["products"]
    at = (pl.col("order_date").cast(pl.Datetime("us", "UTC")) + pl.duration(days=1)).alias("_end")
    days = orders.select("customer_id", "product_id", at)
    customer = _version_of_the_day(days, customers, "customer_id")
    product = _version_of_the_day(days, products, "product_id")
    parts = [
        orders,
        _take(customers, customer, {c: c for c in CUSTOMER} | {"effective_from": "_customer_from"}),
        _take(
            products,
            product,
            {c: f"product_{c}" if c in ("currency", "stock_quantity", "stock_status") else c for c in PRODUCT}
            | {"effective_from": "_product_from"},
        ),
        _stock(days, silver["inventory"]),
        _newest_shipment(orders, silver["shipping"]),
        pl.DataFrame({"_customer": customer, "_product": product}),
    ]
    return _derived(pl.concat(parts, how="horizontal"))


def _version_of_the_day(days: pl.DataFrame, versions: pl.DataFrame, key: str) -> pl.Series:
    """Returns, per order, the place of the version that is valid before `_end`, or of the first version."""
    places = versions.select(key, "effective_from").with_row_index("_place").sort("effective_from")
    is_first = places[key].is_first_distinct()
    first = days.select(key).join(places.filter(is_first).select(key, "_place"), key, "left", maintain_order="left")
    later = places.filter(~is_first)
    if not later.height:
        return first["_place"]
    changed = (
        days.with_row_index("_row")
        .join(later, key)
        .filter(pl.col("effective_from") < pl.col("_end"))
        .sort("effective_from")
        .unique("_row", keep="last")
    )
    place = first["_place"].clone()
    place[changed["_row"]] = changed["_place"]
    return place


def _take(versions: pl.DataFrame, place: pl.Series, names: Mapping[str, str]) -> pl.DataFrame:
    return versions.select(pl.col(c).gather(place).alias(name) for c, name in names.items())


def _stock(days: pl.DataFrame, inventory: pl.DataFrame) -> pl.DataFrame:
    """Returns the stock of each order's product at the end of the day, over all warehouses."""
    key = ["warehouse_id", "product_id"]
    rows = inventory.sort("effective_from")
    rows = rows.with_columns(_is_first=pl.struct(key).is_first_distinct(), _next=pl.col("effective_to"))
    moved = rows.filter(~pl.col("_is_first"))["product_id"].unique().implode()
    is_moved = pl.col("product_id").is_in(moved)
    always = _sums(rows.filter(~is_moved).group_by("product_id"))
    points = days.filter(is_moved).select("product_id", "_end").unique()
    valid = points.join(rows.filter(is_moved), "product_id").filter(
        pl.col("_is_first") | (pl.col("effective_from") < pl.col("_end")),
        pl.col("_next").is_null() | (pl.col("_next") >= pl.col("_end")),
    )
    then = _sums(valid.group_by("product_id", "_end"))
    names = [c for c in always.columns if c != "product_id"]
    joined = days.select("product_id", "_end").join(always, "product_id", "left", maintain_order="left")
    if not then.height:
        return joined.select(names)
    joined = joined.join(then, ["product_id", "_end"], "left", maintain_order="left", suffix="_then")
    return joined.select(pl.coalesce(c, f"{c}_then").alias(c) for c in names)


def _sums(groups: "pl.dataframe.group_by.GroupBy") -> pl.DataFrame:
    available = pl.col("available_quantity")
    sums = groups.agg(
        inventory_stock_quantity=pl.col("stock_quantity").sum().cast(pl.Int64),
        reserved_quantity=pl.col("reserved_quantity").sum().cast(pl.Int64),
        available_quantity=available.sum().cast(pl.Int64),
        reorder_level=pl.col("reorder_level").sum().cast(pl.Int64),
        warehouse_count=pl.len().cast(pl.Int64),
    )
    status = cases(
        (available == 0, "Out of Stock"),
        (available <= pl.col("reorder_level"), "Reorder Required"),
        (available <= 2 * pl.col("reorder_level"), "Low Stock"),
        otherwise="In Stock",
    )
    return sums.with_columns(inventory_stock_status=status).drop("reorder_level")


def _newest_shipment(orders: pl.DataFrame, shipping: pl.DataFrame) -> pl.DataFrame:
    rows = shipping.filter("is_current")
    counted = rows["order_id"].is_duplicated()
    shipments = rows.select("order_id").with_row_index("_place").filter(~counted).with_columns(shipment_count=1)
    if counted.any():
        several = rows.with_row_index("_place").filter(counted).sort("effective_from", "shipping_id")
        newest = several.group_by("order_id").agg(pl.col("_place").last(), shipment_count=pl.len())
        shipments = pl.concat([shipments, newest.select(shipments.columns)], how="vertical_relaxed")
    found = orders.select("order_id").join(shipments, "order_id", "left", maintain_order="left")
    names = {
        c: "shipping_currency" if c == "currency" else c for c in rows.columns if c not in ("order_id", AT, *HISTORY)
    }
    return _take(rows, found["_place"], names).with_columns(found["shipment_count"].cast(pl.Int64))


def _derived(rows: pl.DataFrame) -> pl.DataFrame:
    amount = pl.col("order_amount")
    month = pl.col("order_date").dt.month()
    day_of_week = (pl.col("order_date").dt.weekday() % 7 + 1).cast(pl.Int32)  # Sunday is 1
    hour = pl.col(AT).dt.hour()
    tier = pl.col("customer_tier").replace_strict({"premium": 10, "gold": 7, "silver": 5}, default=3)
    return rows.with_columns(
        order_profit_margin=(amount.cast(pl.Decimal(20, 6)) * pl.lit(MARGIN)).cast(pl.Decimal(20, 6)),
        estimated_clv=(amount * tier).cast(pl.Decimal(20, 2)),
        season=cases(
            (month.is_in([12, 1, 2]), "Winter"),
            (month.is_in([3, 4, 5]), "Spring"),
            (month.is_in([6, 7, 8]), "Summer"),
            otherwise="Fall",
        ),
        day_of_week=day_of_week,
        is_weekend=day_of_week.is_in([1, 7]),
        time_of_day=cases(
            (hour < 6, "Early Morning"), (hour < 12, "Morning"), (hour < 18, "Afternoon"), otherwise="Evening"
        ),
    )

"""The feeds: types, rules, the history of each key, and derived columns."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.sources.retail.feeds import RETAIL

DAY = pl.col("effective_from").dt.date()
CURRENCY = "USD"
FUTURE = dt.timedelta(days=2)  # an event may be a day later than the end of its batch date
EARLIEST = dt.datetime(1971, 1, 1, tzinfo=dt.UTC)
AT = "created_timestamp"


@dataclass(frozen=True, kw_only=True)
class HandFeed:
    """A feed: its key, the columns without history, the rules that reject a row, and its derived columns."""

    name: str
    key: tuple[str, ...]
    untracked: tuple[str, ...] = ()
    rules: Callable[[dt.date], Mapping[str, pl.Expr]]
    derived: Callable[[pl.DataFrame], pl.DataFrame]

    @property
    def types(self) -> dict[str, pl.DataType]:
        """The types of the delivered columns."""
        return {c.name: polars_type(c.type) for c in RETAIL.feed(self.name).schema}

    @property
    def required(self) -> list[str]:
        """The names of the columns that must not be empty."""
        return [c.name for c in RETAIL.feed(self.name).schema if c.required]

    @property
    def tracked(self) -> list[str]:
        """The names of the columns whose change starts a version."""
        return [c for c in self.types if c not in (*self.key, *self.untracked, AT)]


def polars_type(sql: str) -> pl.DataType:
    """Returns the polars type of an SQL type."""
    if sql.startswith("DECIMAL"):
        precision, scale = sql[len("DECIMAL(") : -1].split(",")
        return pl.Decimal(int(precision), int(scale))
    types: dict[str, pl.DataType] = {
        "STRING": pl.String(),
        "DATE": pl.Date(),
        "INT": pl.Int32(),
        "BOOLEAN": pl.Boolean(),
        "TIMESTAMP": pl.Datetime("us", "UTC"),
    }
    return types[sql]


def read_csv(feed: HandFeed, path: Path, batch_id: str, batch_date: dt.date) -> pl.DataFrame:
    """Returns the records of a file with their types. A value that does not fit its type is null."""
    times = [name for name, kind in feed.types.items() if kind == pl.Datetime]
    rows = pl.read_csv(path, schema=feed.types | dict.fromkeys(times, pl.Datetime("us")), ignore_errors=True)
    raw = pl.read_csv(path, separator="\x01", quote_char=None, infer_schema=False)
    return rows.with_columns(
        pl.col(times).dt.replace_time_zone("UTC"),
        pl.lit(batch_id).alias("_batch_id"),
        pl.lit(batch_date).alias("_batch_date"),
        pl.lit(0, pl.Int32).alias("_revision"),
        pl.lit(value=False).alias("_deleted"),
        pl.lit(value=False).alias("_superseded"),
        pl.lit(path.name).alias("_source_file"),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("_record"),
        raw.to_series().alias("_raw"),
    )


def split_by_rules(feed: HandFeed, rows: pl.DataFrame, batch_date: dt.date) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns the accepted rows, and the rejected ones with their `reasons`."""
    end = dt.datetime.combine(batch_date, dt.time(), dt.UTC) + FUTURE
    rules = {f"{c}_is_given": pl.col(c).is_not_null() for c in feed.required if rows[c].null_count()}
    rules["event_time_is_in_its_range"] = pl.col(AT).is_between(EARLIEST, end)
    rules |= feed.rules(batch_date)
    good = rows.select(good=pl.all_horizontal(rule.fill_null(value=False) for rule in rules.values()))["good"]
    broken = [pl.when(~rule.fill_null(value=False)).then(pl.lit(name)) for name, rule in rules.items()]
    rejected = rows.filter(~good).with_columns(reasons=pl.concat_list(broken).list.drop_nulls())
    return rows.filter(good), rejected


def versions(feed: HandFeed, events: pl.DataFrame) -> pl.DataFrame:
    """Returns the versions of all keys. Most keys have one event, so only the others are sorted."""
    key = list(feed.key)
    repeated = (events[key[0]] if len(key) == 1 else events.select(key)).is_duplicated()
    alone = events.filter(~repeated).with_columns(effective_from=AT, effective_to=pl.lit(None, events.schema[AT]))
    several = events.filter(repeated).sort(*key, AT, "_batch_date", "_record")
    several = several.unique([*key, AT], keep="last", maintain_order=True)
    is_same_key = pl.all_horizontal(pl.col(c) == pl.col(c).shift() for c in key).fill_null(value=False)
    differs = pl.any_horizontal(pl.col(c).ne_missing(pl.col(c).shift()) for c in feed.tracked)
    several = several.with_columns(_opens=~is_same_key | differs, _goes_on=is_same_key.shift(-1, fill_value=False))
    several = several.with_columns(
        effective_from=pl.when("_opens").then(AT).forward_fill(),
        effective_to=pl.when("_goes_on").then(pl.col(AT).shift(-1)),
    ).filter(pl.col("_opens").shift(-1, fill_value=True))
    rows = pl.concat([alone, several.drop("_opens", "_goes_on")])
    rows = feed.derived(rows.with_columns(pl.col("effective_to").is_null().alias("is_current")))
    return rows.drop("_record").with_columns(pl.col(AT).alias("_event_at"))


# ---- the feeds


def cases(*branches: tuple[pl.Expr, str], otherwise: str) -> pl.Expr:
    """Returns the text of the first branch whose condition is true."""
    return pl.coalesce(*(pl.when(condition).then(pl.lit(text)) for condition, text in branches), pl.lit(otherwise))


def quotient(total: pl.Expr, of: pl.Expr, places: int) -> pl.Expr:
    """Returns a quotient, rounded half up to these places; null for a divisor of 0."""
    divisor = pl.when(of != 0).then(of.cast(pl.Decimal(38, 3)))
    return (total.cast(pl.Decimal(38, places + 4)) / divisor).round(places, mode="half_away_from_zero")


def days_until(column: str) -> pl.Expr:
    """Returns the days from the start of a version to a date."""
    return (pl.col(column) - DAY).dt.total_days().cast(pl.Int32)


def _customers(rows: pl.DataFrame) -> pl.DataFrame:
    birth = pl.col("date_of_birth")
    is_before_birthday = 100 * DAY.dt.month().cast(pl.Int32) + DAY.dt.day() < (
        100 * birth.dt.month().cast(pl.Int32) + birth.dt.day()
    )
    age = pl.col("age")
    days = -days_until("registration_date")
    return rows.with_columns(
        age=DAY.dt.year() - birth.dt.year() - is_before_birthday.cast(pl.Int32),
    ).with_columns(
        age_segment=cases((age < 25, "Gen Z"), (age < 40, "Millennial"), (age < 55, "Gen X"), otherwise="Boomer+"),
        registration_stage=cases((days < 30, "New"), (days < 365, "Active"), otherwise="Established"),
    )


def _products(rows: pl.DataFrame) -> pl.DataFrame:
    price = pl.col("price")
    stock = pl.col("stock_quantity")
    days = -days_until("launch_date")
    sides = pl.col("dimensions_cm").str.split("x").list
    volume = sides.get(0, null_on_oob=True).cast(pl.Decimal(38, 9), strict=False)
    for n in (1, 2):
        volume *= sides.get(n, null_on_oob=True).cast(pl.Decimal(38, 9), strict=False)
    density = pl.col("weight_kg").cast(pl.Decimal(38, 9)) / pl.when(pl.col("volume_cm3") != 0).then("volume_cm3")
    return rows.with_columns(
        price_segment=cases(
            (price < 50, "Budget"), (price < 150, "Mid-range"), (price < 300, "Premium"), otherwise="Luxury"
        ),
        stock_status=cases(
            (stock == 0, "Out of Stock"),
            (stock < 10, "Low Stock"),
            (stock < 50, "Medium Stock"),
            otherwise="High Stock",
        ),
        launch_stage=cases(
            (days < 30, "New"), (days < 365, "Growth"), (pl.col("discontinued"), "Discontinued"), otherwise="Mature"
        ),
        volume_cm3=volume.round(3, mode="half_away_from_zero").cast(pl.Decimal(18, 3)),
    ).with_columns(density_kg_per_cm3=density.cast(pl.Decimal(18, 9)))


def _inventory(rows: pl.DataFrame) -> pl.DataFrame:
    available = pl.col("available_quantity")
    reorder = pl.col("reorder_level").cast(pl.Int64)
    days = -days_until("last_audit")
    return rows.with_columns(
        stock_utilization_rate=quotient(pl.col("reserved_quantity"), pl.col("stock_quantity"), 4).cast(
            pl.Decimal(18, 4)
        ),
        stock_status=cases(
            (available == 0, "Out of Stock"),
            (available <= reorder, "Reorder Required"),
            (available <= 2 * reorder, "Low Stock"),
            otherwise="In Stock",
        ),
        audit_status=cases((days > 90, "Overdue"), (days > 60, "Due Soon"), otherwise="Current"),
    )


def _shipping(rows: pl.DataFrame) -> pl.DataFrame:
    cost = pl.col("shipping_cost")
    delay = (pl.col("actual_delivery") - pl.col("estimated_delivery")).dt.total_days()
    return rows.with_columns(
        delivery_days=days_until("actual_delivery"),
        estimated_delivery_days=days_until("estimated_delivery"),
        delivery_performance=cases(
            (pl.col("actual_delivery").is_null(), "Pending"),
            (delay <= 0, "On Time"),
            (delay == 1, "Slightly Delayed"),
            otherwise="Delayed",
        ),
        cost_category=cases((cost < 10, "Low Cost"), (cost < 20, "Medium Cost"), otherwise="High Cost"),
        cost_per_kg=quotient(cost, pl.col("package_weight"), 4).cast(pl.Decimal(18, 4)),
    )


FEEDS = (
    HandFeed(
        name="orders",
        key=("order_id",),
        rules=lambda _: {
            "order_amount_is_positive": pl.col("order_amount") > 0,
            "currency_is_the_lakes": pl.col("currency") == CURRENCY,
        },
        derived=lambda rows: rows,
    ),
    HandFeed(
        name="customers",
        key=("customer_id",),
        untracked=("last_login",),
        rules=lambda batch_date: {
            "email_has_an_at_and_a_dot": pl.col("email").str.contains("@", literal=True)
            & pl.col("email").str.contains(".", literal=True),
            "birth_is_not_in_the_future": pl.col("date_of_birth") <= batch_date,
        },
        derived=_customers,
    ),
    HandFeed(
        name="products",
        key=("product_id",),
        rules=lambda batch_date: {
            "price_is_positive": pl.col("price") > 0,
            "stock_is_not_negative": pl.col("stock_quantity") >= 0,
            "launch_is_not_in_the_future": pl.col("launch_date") <= batch_date,
        },
        derived=_products,
    ),
    HandFeed(
        name="inventory",
        key=("warehouse_id", "product_id"),
        rules=lambda _: {
            "quantities_are_not_negative": pl.all_horizontal(
                pl.col("stock_quantity", "reserved_quantity", "available_quantity", "reorder_level") >= 0
            ),
        },
        derived=_inventory,
    ),
    HandFeed(
        name="shipping",
        key=("order_id", "shipping_id"),
        rules=lambda _: {
            "shipping_cost_is_not_negative": pl.col("shipping_cost") >= 0,
            "package_weight_is_positive": pl.col("package_weight") > 0,
            "insurance_value_is_not_negative": pl.col("insurance_value") >= 0,
        },
        derived=_shipping,
    ),
)

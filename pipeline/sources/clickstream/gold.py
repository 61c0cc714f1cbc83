"""The gold tables of clickstream: one decorated function each, with grain, columns, sums and checks."""

from typing import TYPE_CHECKING

from pipeline.model import Rule, aggregate, recompute, select_rows

if TYPE_CHECKING:  # declarations are also loaded without an engine
    from pyspark.sql import DataFrame

PRICE = "DECIMAL(18,3)"
MONEY = "DECIMAL(30,3)"
RATE = "DECIMAL(10,4)"
MOST_VIEWED = 100


def rate(part: str, of: str) -> str:
    """Returns SQL for a ratio with four decimal places; null for a divisor of 0."""
    return f"CAST(CAST({part} AS DECIMAL(24,6)) / nullif(CAST({of} AS DECIMAL(20,2)), 0) AS {RATE})"


@select_rows(
    upstream="enriched_events",
    where="event = 'transaction'",
    grain=("event_time", "transactionid", "visitorid", "itemid"),
    columns=(
        "transactionid BIGINT, event_time TIMESTAMP, event_date DATE, visitorid BIGINT, itemid BIGINT, "
        f"category_id BIGINT, price {PRICE}"
    ),
    checks=(Rule("price_is_not_negative", "price IS NULL OR price >= 0"),),
)
def fact_sales(events: "DataFrame") -> "DataFrame":
    """A row per item of a transaction, with the category and price at that millisecond."""
    return events


@recompute(
    upstream="fact_sales",
    key=("event_date", "category_id"),
    grain=("event_date", "category_id"),
    columns=f"event_date DATE, category_id BIGINT, transactions BIGINT, items_sold BIGINT, revenue {MONEY}",
    checks=(Rule("transactions_are_not_more_than_items", "transactions <= items_sold"),),
)
def daily_sales_by_category(sales: "DataFrame") -> "DataFrame":
    """Transactions, items and revenue by day and by the category of the item at the time of the sale."""
    sold = sales.where("category_id IS NOT NULL").selectExpr(
        "event_date", "category_id", "transactionid", "1 AS items", "coalesce(price, 0) AS price"
    )
    by_transaction = sold.groupBy("event_date", "category_id", "transactionid").agg({"items": "sum", "price": "sum"})
    by_category = by_transaction.groupBy("event_date", "category_id").agg(
        {"transactionid": "count", "sum(items)": "sum", "sum(price)": "sum"}
    )
    named = (
        "`count(transactionid)` AS transactions",
        "`sum(sum(items))` AS items_sold",
        "`sum(sum(price))` AS revenue",
    )
    return by_category.selectExpr("event_date", "category_id", *named)


def whether(event: str) -> str:
    """Returns SQL for 1 if at least one event is of this kind, else 0."""
    return f"max(CASE WHEN event = '{event}' THEN 1 ELSE 0 END)"


@aggregate(
    upstream="events",
    grain=("itemid",),
    per=("visitorid",),
    columns=f"""itemid BIGINT, unique_views BIGINT, unique_addtocarts BIGINT, unique_purchases BIGINT, view_to_cart_rate {RATE}, cart_to_purchase_rate {RATE},
        _views BIGINT""",  # noqa: E501
    # A batch reads the events of its pairs of item and visitor again, not those of the whole item.
    sum={
        "unique_views": whether("view"),
        "unique_addtocarts": whether("addtocart"),
        "unique_purchases": whether("transaction"),
        "_views": "sum(CASE WHEN event = 'view' THEN 1 ELSE 0 END)",
    },
    checks=(Rule("visitors_are_not_more_than_views", "unique_views <= _views"),),
)
def funnel(sums: "DataFrame") -> "DataFrame":
    """The number of visitors who viewed an item, put it into the cart and bought it, and the rates between steps."""
    rates = {
        "view_to_cart_rate": rate("unique_addtocarts", "unique_views"),
        "cart_to_purchase_rate": rate("unique_purchases", "unique_addtocarts"),
    }
    return sums.selectExpr("*", *(f"{sql} AS {name}" for name, sql in rates.items()))


@recompute(
    upstream="funnel",
    key=(),
    grain=("itemid",),
    columns="itemid BIGINT, views BIGINT, unique_visitors BIGINT, rank INT",
    checks=(Rule("rank_is_within_the_list", f"rank BETWEEN 1 AND {MOST_VIEWED}"),),
)
def top_viewed_items(items: "DataFrame") -> "DataFrame":
    """The most viewed items. Of items with equal views the lower id comes first."""
    viewed = items.where("_views > 0").selectExpr("itemid", "_views AS views", "unique_views AS unique_visitors")
    first = viewed.orderBy("views", "itemid", ascending=[False, True]).limit(MOST_VIEWED)
    return first.selectExpr("*", "row_number() OVER (ORDER BY views DESC, itemid) AS rank")


@recompute(
    upstream="fact_sales",
    key=("visitorid",),
    grain=("visitorid",),
    columns=f"visitorid BIGINT, purchases BIGINT, spend {MONEY}, last_purchase_at TIMESTAMP",
)
def visitor_purchases(sales: "DataFrame") -> "DataFrame":
    """The purchases of each visitor: number of transactions, total spend, time of the last one."""
    bought = sales.selectExpr("visitorid", "transactionid", "coalesce(price, 0) AS price", "event_time")
    by_transaction = bought.groupBy("visitorid", "transactionid").agg({"price": "sum", "event_time": "max"})
    by_visitor = by_transaction.groupBy("visitorid").agg(
        {"transactionid": "count", "sum(price)": "sum", "max(event_time)": "max"}
    )
    named = (
        "`count(transactionid)` AS purchases",
        "`sum(sum(price))` AS spend",
        "`max(max(event_time))` AS last_purchase_at",
    )
    return by_visitor.selectExpr("visitorid", *named)


@recompute(
    upstream="visitor_purchases",
    key=(),
    grain=("visitorid",),
    columns=f"visitorid BIGINT, purchases BIGINT, spend {MONEY}, last_purchase_at TIMESTAMP, segment STRING",
)
def visitor_segments(visitors: "DataFrame") -> "DataFrame":
    """Visitors with a purchase, in segments by their rank in spend. Equal spend gives an equal rank."""
    ranked = visitors.selectExpr("*", "rank() OVER (ORDER BY spend DESC) AS rank")
    return ranked.selectExpr(
        "*",
        "CASE WHEN rank <= 500 THEN 'Top 500 Spenders' WHEN rank <= 5000 THEN 'Top 5000 Spenders'"
        " ELSE 'Other' END AS segment",
    )

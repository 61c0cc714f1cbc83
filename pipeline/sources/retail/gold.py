"""The gold tables of retail: one decorated function each, with grain, columns, sums and checks.

The text of `columns` is hashed into the fingerprint with its line breaks, so its long lines stay as they are.
"""

from typing import TYPE_CHECKING

from pipeline.model import Rule, aggregate, recompute, select_rows
from pipeline.sources.retail import readers
from pipeline.sources.retail.gold_parts import CUSTOMER, MEAN, MONEY, PRODUCT, ratio

if TYPE_CHECKING:  # declarations are also loaded without an engine
    from pyspark.sql import DataFrame


@aggregate(
    upstream="enriched_orders",
    grain=("batch_id",),
    row_per_batch=True,
    columns=f"""batch_id STRING, report_date DATE, total_orders BIGINT, total_revenue {MONEY}, avg_order_value {MEAN}, unique_customers BIGINT,
        unique_products BIGINT, total_profit {MONEY}, profit_margin_percentage {MEAN}, avg_estimated_clv {MEAN}, revenue_per_customer {MEAN},
        orders_per_customer {MEAN}, _estimated_clv {MONEY}""",  # noqa: E501
    sum={
        "total_orders": "1",
        "total_revenue": "order_amount",
        "total_profit": "order_profit_margin",
        "_estimated_clv": "estimated_clv",
    },
    count_distinct={"unique_customers": "customer_id", "unique_products": "product_id"},
    checks=(
        Rule("customers_are_not_more_than_orders", "unique_customers <= total_orders"),
        Rule("revenue_is_not_negative", "total_revenue >= 0"),
    ),
    **readers.ANALYTICS_SUMMARY,
)
def analytics_summary(sums: "DataFrame") -> "DataFrame":
    """The key figures of all orders up to each batch."""
    return sums.selectExpr(
        "*",
        "batch_date AS report_date",
        f"{ratio('total_revenue', 'total_orders')} AS avg_order_value",
        f"{ratio('100 * total_profit', 'total_revenue')} AS profit_margin_percentage",
        f"{ratio('_estimated_clv', 'total_orders')} AS avg_estimated_clv",
        f"{ratio('total_revenue', 'unique_customers')} AS revenue_per_customer",
        f"{ratio('total_orders', 'unique_customers')} AS orders_per_customer",
    )


@aggregate(
    upstream="enriched_orders",
    grain=("customer_id",),
    dimension="customers",
    columns=f"""customer_id STRING, total_orders BIGINT, total_spent {MONEY}, avg_order_value {MEAN}, first_order_date DATE, last_order_date DATE,
        unique_products BIGINT, unique_categories BIGINT, total_profit {MONEY}, avg_estimated_clv {MEAN}, customer_segment STRING,
        lifecycle_stage STRING, {CUSTOMER}, _estimated_clv {MONEY}""",  # noqa: E501
    sum={
        "total_orders": "1",
        "total_spent": "order_amount",
        "total_profit": "order_profit_margin",
        "_estimated_clv": "estimated_clv",
    },
    count_distinct={"unique_products": "product_id", "unique_categories": "category"},
    min={"first_order_date": "order_date"},
    max={"last_order_date": "order_date"},
    as_of_columns={
        "lifecycle_stage": (
            "CASE WHEN datediff($as_of, last_order_date) <= 30 THEN 'Active'"
            " WHEN datediff($as_of, last_order_date) <= 90 THEN 'At Risk'"
            " WHEN datediff($as_of, last_order_date) <= 180 THEN 'Inactive' ELSE 'Lost' END"
        )
    },
    checks=(
        Rule("first_order_is_not_after_the_last", "first_order_date <= last_order_date"),
        Rule("a_customer_here_has_orders", "total_orders > 0"),
    ),
    **readers.CUSTOMER_ANALYTICS,
)
def customer_analytics(sums: "DataFrame") -> "DataFrame":
    """The orders and spend of each customer, the customer's current data, and the lifecycle stage."""
    return sums.selectExpr(
        "*",
        f"{ratio('total_spent', 'total_orders')} AS avg_order_value",
        f"{ratio('_estimated_clv', 'total_orders')} AS avg_estimated_clv",
        "CASE WHEN total_spent >= 1000 AND total_orders >= 5 THEN 'VIP'"
        " WHEN total_spent >= 500 AND total_orders >= 3 THEN 'High Value'"
        " WHEN total_spent >= 200 AND total_orders >= 2 THEN 'Medium Value' ELSE 'Low Value' END AS customer_segment",
    )


@aggregate(
    upstream="enriched_orders",
    grain=("product_id",),
    dimension="products",
    columns=f"""product_id STRING, total_orders BIGINT, total_revenue {MONEY}, avg_order_value {MEAN}, unique_customers BIGINT, total_profit {MONEY},
        first_order_date DATE, last_order_date DATE, performance_category STRING, product_lifecycle STRING, {PRODUCT}""",  # noqa: E501
    sum={"total_orders": "1", "total_revenue": "order_amount", "total_profit": "order_profit_margin"},
    count_distinct={"unique_customers": "customer_id"},
    min={"first_order_date": "order_date"},
    max={"last_order_date": "order_date"},
    as_of_columns={
        "product_lifecycle": (
            "CASE WHEN datediff($as_of, last_order_date) <= 30 THEN 'Active'"
            " WHEN datediff($as_of, last_order_date) <= 90 THEN 'Declining' WHEN discontinued THEN 'Discontinued'"
            " ELSE 'Stagnant' END"
        )
    },
    checks=(Rule("customers_are_not_more_than_orders", "unique_customers <= total_orders"),),
    **readers.PRODUCT_ANALYTICS,
)
def product_analytics(sums: "DataFrame") -> "DataFrame":
    """The sales of each product, the product's current data, and its performance category."""
    return sums.selectExpr(
        "*",
        f"{ratio('total_revenue', 'total_orders')} AS avg_order_value",
        "CASE WHEN total_revenue >= 5000 AND total_orders >= 20 THEN 'Star'"
        " WHEN total_revenue >= 2000 AND total_orders >= 10 THEN 'High Performer'"
        " WHEN total_revenue >= 500 AND total_orders >= 5 THEN 'Medium Performer'"
        " ELSE 'Low Performer' END AS performance_category",
    )


@aggregate(
    upstream="customer_analytics",
    grain=("customer_segment",),
    columns=f"customer_segment STRING, customers BIGINT, revenue {MONEY}, avg_customer_value {MEAN}",
    sum={"customers": "1", "revenue": "total_spent"},
    **readers.SEGMENT_ANALYSIS,
)
def segment_analysis(sums: "DataFrame") -> "DataFrame":
    """Customers and revenue by segment."""
    return sums.selectExpr("*", f"{ratio('revenue', 'customers')} AS avg_customer_value")


@aggregate(
    upstream="enriched_orders",
    grain=("season",),
    columns=f"season STRING, orders BIGINT, revenue {MONEY}, avg_order_value {MEAN}",
    sum={"orders": "1", "revenue": "order_amount"},
    **readers.ORDERS_AND_REVENUE,
)
def seasonal_analysis(sums: "DataFrame") -> "DataFrame":
    """Orders and revenue by season."""
    return sums.selectExpr("*", f"{ratio('revenue', 'orders')} AS avg_order_value")


@aggregate(
    upstream="enriched_orders",
    grain=("category",),
    where="category IS NOT NULL",
    columns=f"category STRING, products_ordered BIGINT, orders BIGINT, revenue {MONEY}, avg_order_value {MEAN}",
    sum={"orders": "1", "revenue": "order_amount"},
    count_distinct={"products_ordered": "product_id"},
    **readers.ORDERS_AND_REVENUE,
)
def category_analysis(sums: "DataFrame") -> "DataFrame":
    """Orders and revenue by the category of the product on the order's day."""
    return sums.selectExpr("*", f"{ratio('revenue', 'orders')} AS avg_order_value")


@aggregate(
    upstream="enriched_orders",
    grain=("order_date",),
    columns=f"order_date DATE, orders BIGINT, revenue {MONEY}, profit {MONEY}, unique_customers BIGINT",
    sum={"orders": "1", "revenue": "order_amount", "profit": "order_profit_margin"},
    count_distinct={"unique_customers": "customer_id"},
    **readers.DAILY_SALES,
)
def daily_sales(sums: "DataFrame") -> "DataFrame":
    """Orders, revenue and profit by order date."""
    return sums


@recompute(
    upstream="inventory",
    key=("warehouse_id", "product_id"),
    grain=("warehouse_id", "product_id", "movement_date"),
    columns=(
        "warehouse_id STRING, product_id STRING, movement_date DATE, opening_stock BIGINT, closing_stock BIGINT,"
        " movement BIGINT"
    ),
    checks=(Rule("stock_adds_up", "opening_stock + movement = closing_stock"),),
)
def inventory_movements(versions: "DataFrame") -> "DataFrame":
    """The daily change of a product's stock in a warehouse. The first stock is a movement from 0."""
    # A delete closes a version and starts none. So the end of a version counts as a stock of 0 until the next start.
    starts = versions.selectExpr(
        "*", "effective_from AS at", "CAST(stock_quantity AS BIGINT) AS closing_stock", "1 AS rank"
    )
    ends = versions.where("effective_to IS NOT NULL").selectExpr(
        "*", "effective_to AS at", "CAST(0 AS BIGINT) AS closing_stock", "0 AS rank"
    )
    moves = starts.unionByName(ends).selectExpr(
        "warehouse_id", "product_id", "to_date(at) AS movement_date", "at", "rank", "closing_stock"
    )
    last = (
        "row_number() OVER (PARTITION BY warehouse_id, product_id, movement_date ORDER BY at DESC, rank DESC) AS place"
    )
    days = moves.selectExpr("*", last).where("place = 1")
    before = "lag(closing_stock) OVER (PARTITION BY warehouse_id, product_id ORDER BY movement_date)"
    days = days.selectExpr(
        "warehouse_id", "product_id", "movement_date", "closing_stock", f"coalesce({before}, 0) AS opening_stock"
    )
    return days.selectExpr("*", "closing_stock - opening_stock AS movement").where("movement <> 0")


@aggregate(
    upstream="shipping",
    grain=("carrier", "delivery_performance"),
    where="is_current",
    columns=f"""carrier STRING, delivery_performance STRING, shipments BIGINT, avg_delivery_days {MEAN}, shipping_cost {MONEY},
        _delivered BIGINT, _delivery_days BIGINT""",  # noqa: E501
    sum={
        "shipments": "1",
        "shipping_cost": "shipping_cost",
        "_delivered": "CASE WHEN delivery_days IS NULL THEN 0 ELSE 1 END",
        "_delivery_days": "coalesce(delivery_days, 0)",
    },
    **readers.DELIVERY_PERFORMANCE,
)
def delivery_performance(sums: "DataFrame") -> "DataFrame":
    """Current shipments by carrier and delivery performance."""
    return sums.selectExpr("*", f"{ratio('_delivery_days', '_delivered')} AS avg_delivery_days")


@select_rows(
    upstream="customers",
    grain=("customer_key",),
    columns=(
        f"customer_key BIGINT, customer_id STRING, {CUSTOMER}, effective_from TIMESTAMP, effective_to TIMESTAMP,"
        " is_current BOOLEAN"
    ),
)
def dim_customer(versions: "DataFrame") -> "DataFrame":
    """A row per version of a customer. The key is a hash of id and start, so it is the same after every rebuild."""
    return versions.selectExpr("*", "xxhash64(customer_id, unix_micros(effective_from)) AS customer_key")


@select_rows(
    upstream="products",
    grain=("product_key",),
    columns=(
        f"product_key BIGINT, product_id STRING, {PRODUCT}, effective_from TIMESTAMP, effective_to TIMESTAMP,"
        " is_current BOOLEAN"
    ),
)
def dim_product(versions: "DataFrame") -> "DataFrame":
    """A row per version of a product. The key is a hash of id and start, so it is the same after every rebuild."""
    return versions.selectExpr("*", "xxhash64(product_id, unix_micros(effective_from)) AS product_key")


@select_rows(
    upstream="daily_sales",
    grain=("date_key",),
    columns="date_key INT, date DATE, year INT, quarter INT, month INT, day INT, day_of_week INT, is_weekend BOOLEAN",
)
def dim_date(days: "DataFrame") -> "DataFrame":
    """A row per day with an order. The key is the number yyyymmdd."""
    return days.selectExpr(
        f"{date_key('order_date')} AS date_key",
        "order_date AS date",
        "year(order_date) AS year",
        "quarter(order_date) AS quarter",
        "month(order_date) AS month",
        "day(order_date) AS day",
        "dayofweek(order_date) AS day_of_week",
        "dayofweek(order_date) IN (1, 7) AS is_weekend",
    )


@select_rows(
    upstream="enriched_orders",
    grain=("order_id",),
    columns=f"""order_id STRING, customer_key BIGINT, product_key BIGINT, date_key INT, customer_id STRING, product_id STRING, order_date DATE,
        order_amount DECIMAL(12,2), profit {MONEY}, estimated_clv DECIMAL(20,2), order_status STRING, payment_method STRING""",  # noqa: E501
)
def fact_orders(orders: "DataFrame") -> "DataFrame":
    """A row per order, with the keys of its customer version and its product version, or null."""
    return orders.selectExpr(
        "*",
        "CASE WHEN _customer_from IS NOT NULL THEN xxhash64(customer_id, unix_micros(_customer_from))"
        " END AS customer_key",
        "CASE WHEN _product_from IS NOT NULL THEN xxhash64(product_id, unix_micros(_product_from)) END AS product_key",
        f"{date_key('order_date')} AS date_key",
        "order_profit_margin AS profit",
    )


def date_key(column: str) -> str:
    """Returns SQL for a date as the number yyyymmdd."""
    return f"CAST(10000 * year({column}) + 100 * month({column}) + day({column}) AS INT)"

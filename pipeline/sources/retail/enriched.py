"""Each retail order with its customer, product, stock and shipment. Declarations only."""

from pipeline.model import HIGH, LOW, MEDIUM, Derived, Enriched, LatestJoin, PointInTimeJoin, Rule

ENRICHED_ORDERS = Enriched(
    name="enriched_orders",
    upstream="orders",
    description="An order with its customer, product and stock at the end of its day, and its newest shipment.",
    as_of="CAST(date_add(order_date, 1) AS TIMESTAMP) - INTERVAL '1' MICROSECOND",
    joins=(
        PointInTimeJoin(feed="customers", on=("customer_id",), prefix="customer_"),
        PointInTimeJoin(feed="products", on=("product_id",), prefix="product_"),
        PointInTimeJoin(
            feed="inventory",
            on=("product_id",),
            prefix="inventory_",
            aggregates=(
                Derived("inventory_stock_quantity", "BIGINT", "sum(stock_quantity)"),
                Derived("reserved_quantity", "BIGINT", "sum(reserved_quantity)"),
                Derived("available_quantity", "BIGINT", "sum(available_quantity)"),
                Derived(
                    "inventory_stock_status",
                    "STRING",
                    "CASE WHEN sum(available_quantity) = 0 THEN 'Out of Stock'"
                    " WHEN sum(available_quantity) <= sum(reorder_level) THEN 'Reorder Required'"
                    " WHEN sum(available_quantity) <= 2 * sum(reorder_level) THEN 'Low Stock' ELSE 'In Stock' END",
                ),
                Derived("warehouse_count", "BIGINT", "count(*)"),
            ),
        ),
        LatestJoin(
            feed="shipping",
            on=("order_id",),
            prefix="shipping_",
            order_by=("effective_from", "shipping_id"),
            count="shipment_count",
        ),
    ),
    derived=(
        Derived("order_profit_margin", "DECIMAL(20,6)", "order_amount * $profit_margin"),
        Derived(
            "estimated_clv",
            "DECIMAL(20,2)",
            "order_amount * CASE customer_tier WHEN 'premium' THEN 10 WHEN 'gold' THEN 7 WHEN 'silver' THEN 5"
            " ELSE 3 END",
        ),
        Derived(
            "season",
            "STRING",
            "CASE WHEN month(order_date) IN (12, 1, 2) THEN 'Winter'"
            " WHEN month(order_date) IN (3, 4, 5) THEN 'Spring' WHEN month(order_date) IN (6, 7, 8) THEN 'Summer'"
            " ELSE 'Fall' END",
        ),
        Derived("day_of_week", "INT", "dayofweek(order_date)"),
        Derived("is_weekend", "BOOLEAN", "dayofweek(order_date) IN (1, 7)"),
        Derived(
            "time_of_day",
            "STRING",
            "CASE WHEN hour(created_timestamp) < 6 THEN 'Early Morning'"
            " WHEN hour(created_timestamp) < 12 THEN 'Morning' WHEN hour(created_timestamp) < 18 THEN 'Afternoon'"
            " ELSE 'Evening' END",
        ),
    ),
    rules=(
        Rule(
            "ordered_product_is_sold",
            "NOT discontinued",
            severity=HIGH,
            where="discontinued IS NOT NULL",
            description="the product is not discontinued on the order's day",
        ),
        Rule(
            "order_amount_is_the_price",
            "abs(order_amount - price) <= 0.01",
            severity=MEDIUM,
            where="price IS NOT NULL",
            description="they differ by at most 0.01",
        ),
        Rule(
            "stock_agrees_with_product",
            "product_stock_quantity = inventory_stock_quantity",
            severity=MEDIUM,
            where="product_stock_quantity IS NOT NULL AND inventory_stock_quantity IS NOT NULL",
            description="the product's stock and the sum over warehouses are equal",
        ),
        Rule("premium_order_is_at_least_100", "order_amount >= 100", severity=LOW, where="customer_tier = 'premium'"),
    ),
)

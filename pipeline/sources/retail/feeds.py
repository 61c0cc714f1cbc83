"""The feeds of retail: five feeds with their rules and history. Declarations only.

The text of `columns` is hashed into the fingerprint with its line breaks, so its long lines stay as they are.
"""

from pipeline.model import HIGH, LOW, MEDIUM, REJECT, Derived, Feed, Reference, Rule, Scd2, Setting, Source
from pipeline.sources.retail.enriched import ENRICHED_ORDERS

# Derived columns are computed as of the row's own day. So they depend on the event alone, like the other columns.
DAY = "to_date(effective_from)"
LENGTH = "[0-9]{1,6}([.][0-9]{1,3})?"
VOLUME = " * ".join(f"try_cast(split_part(dimensions_cm, 'x', {n}) AS DECIMAL(9,3))" for n in (1, 2, 3))

orders = Feed(
    name="orders",
    files="orders_*.csv",
    description="Orders of the shop system. An order is sent again with each new status.",
    columns="""
        order_id STRING NOT NULL, customer_id STRING NOT NULL, product_id STRING NOT NULL, order_date DATE NOT NULL,
        order_amount DECIMAL(12,2) NOT NULL, currency STRING NOT NULL, payment_method STRING NOT NULL,
        shipping_address STRING NOT NULL, order_status STRING NOT NULL, created_timestamp TIMESTAMP NOT NULL""",
    key=("order_id",),
    stored_as=Scd2(sequence_by="created_timestamp"),
    rules=(
        Rule("order_amount_is_positive", "order_amount > 0", severity=HIGH, action=REJECT),
        Rule(
            "currency_is_the_lakes",
            "currency = $currency",
            severity=HIGH,
            action=REJECT,
            description="amounts in different currencies cannot be added",
        ),
        Rule("order_amount_is_reasonable", "order_amount BETWEEN 1 AND 10000", severity=HIGH),
        Rule(
            "order_is_in_business_hours",
            "hour(created_timestamp) BETWEEN 8 AND 17",
            severity=LOW,
            description="created from 08:00 to before 18:00",
        ),
    ),
    references=(
        Reference("order_has_customer", "customers", ("customer_id",)),
        Reference("order_has_product", "products", ("product_id",)),
        Reference("order_has_shipping", "shipping", ("order_id",)),
    ),
)

customers = Feed(
    name="customers",
    files="customers_*.csv",
    description="Customers with tier and address. A new login alone starts no version.",
    columns="""
        customer_id STRING NOT NULL, first_name STRING NOT NULL, last_name STRING NOT NULL, email STRING NOT NULL, phone STRING NOT NULL,
        date_of_birth DATE NOT NULL, registration_date DATE NOT NULL, address STRING NOT NULL, city STRING NOT NULL, state STRING NOT NULL,
        zip_code STRING NOT NULL, country STRING NOT NULL, customer_tier STRING NOT NULL, last_login TIMESTAMP NOT NULL,
        created_timestamp TIMESTAMP NOT NULL""",  # noqa: E501
    key=("customer_id",),
    stored_as=Scd2(sequence_by="created_timestamp", track_history_except=("last_login",)),
    rules=(
        Rule("email_has_an_at_and_a_dot", "email LIKE '%@%' AND email LIKE '%.%'", severity=HIGH, action=REJECT),
        Rule("birth_is_not_in_the_future", "date_of_birth <= $batch_date", severity=HIGH, action=REJECT),
        Rule(
            "phone_has_twelve_characters",
            "length(phone) = 12 AND phone LIKE '%-%'",
            severity=LOW,
            description="and contains a dash",
        ),
    ),
    references=(Reference("customer_has_orders", "orders", ("customer_id",), severity=MEDIUM),),
    derived=(
        Derived(
            "age",
            "INT",
            f"year({DAY}) - year(date_of_birth)"
            f" - CASE WHEN 100 * month({DAY}) + day({DAY}) < 100 * month(date_of_birth) + day(date_of_birth) THEN 1"
            " ELSE 0 END",
        ),
        Derived(
            "age_segment",
            "STRING",
            "CASE WHEN age < 25 THEN 'Gen Z' WHEN age < 40 THEN 'Millennial' WHEN age < 55 THEN 'Gen X'"
            " ELSE 'Boomer+' END",
        ),
        Derived(
            "registration_stage",
            "STRING",
            f"CASE WHEN datediff({DAY}, registration_date) < 30 THEN 'New'"
            f" WHEN datediff({DAY}, registration_date) < 365 THEN 'Active' ELSE 'Established' END",
        ),
    ),
)

products = Feed(
    name="products",
    files="products_*.csv",
    description="The product catalog: prices, sizes, discontinued products.",
    columns="""
        product_id STRING NOT NULL, product_name STRING NOT NULL, category STRING NOT NULL, subcategory STRING NOT NULL, brand STRING NOT NULL,
        price DECIMAL(12,2) NOT NULL, currency STRING NOT NULL, stock_quantity INT NOT NULL, weight_kg DECIMAL(10,3) NOT NULL,
        dimensions_cm STRING NOT NULL, color STRING NOT NULL, material STRING NOT NULL, description STRING NOT NULL, launch_date DATE NOT NULL,
        discontinued BOOLEAN NOT NULL, created_timestamp TIMESTAMP NOT NULL""",  # noqa: E501
    key=("product_id",),
    stored_as=Scd2(sequence_by="created_timestamp"),
    rules=(
        Rule("price_is_positive", "price > 0", severity=HIGH, action=REJECT),
        Rule("stock_is_not_negative", "stock_quantity >= 0", severity=HIGH, action=REJECT),
        Rule("launch_is_not_in_the_future", "launch_date <= $batch_date", severity=HIGH, action=REJECT),
    ),
    references=(
        Reference("product_has_orders", "orders", ("product_id",), severity=MEDIUM),
        Reference("product_has_inventory", "inventory", ("product_id",), severity=MEDIUM),
    ),
    derived=(
        Derived(
            "price_segment",
            "STRING",
            "CASE WHEN price < 50 THEN 'Budget' WHEN price < 150 THEN 'Mid-range' WHEN price < 300 THEN 'Premium'"
            " ELSE 'Luxury' END",
        ),
        Derived(
            "stock_status",
            "STRING",
            "CASE WHEN stock_quantity = 0 THEN 'Out of Stock' WHEN stock_quantity < 10 THEN 'Low Stock'"
            " WHEN stock_quantity < 50 THEN 'Medium Stock' ELSE 'High Stock' END",
        ),
        Derived(
            "launch_stage",
            "STRING",
            f"CASE WHEN datediff({DAY}, launch_date) < 30 THEN 'New'"
            f" WHEN datediff({DAY}, launch_date) < 365 THEN 'Growth' WHEN discontinued THEN 'Discontinued'"
            " ELSE 'Mature' END",
        ),
        Derived(
            "volume_cm3",
            "DECIMAL(18,3)",
            # `\z` is the end of the text; on one engine `$` also matches before a final line break.
            # A volume that is too large becomes null.
            rf"CASE WHEN dimensions_cm RLIKE '^{LENGTH}x{LENGTH}x{LENGTH}\\z'"
            f" THEN try_cast({VOLUME} AS DECIMAL(18,3)) END",
        ),
        Derived(
            "density_kg_per_cm3",
            "DECIMAL(18,9)",
            "try_cast(CAST(weight_kg AS DECIMAL(18,9)) / nullif(volume_cm3, 0) AS DECIMAL(18,9))",
        ),
    ),
)

inventory = Feed(
    name="inventory",
    files="inventory_*.csv",
    description="Stock of a product in a warehouse.",
    columns="""
        inventory_id STRING NOT NULL, product_id STRING NOT NULL, warehouse_id STRING NOT NULL, warehouse_name STRING NOT NULL, location STRING NOT NULL,
        stock_quantity INT NOT NULL, reserved_quantity INT NOT NULL, available_quantity INT NOT NULL, reorder_level INT NOT NULL,
        last_restocked DATE NOT NULL, last_audit DATE NOT NULL, created_timestamp TIMESTAMP NOT NULL""",  # noqa: E501
    key=("warehouse_id", "product_id"),
    stored_as=Scd2(sequence_by="created_timestamp"),
    rules=(
        Rule(
            "quantities_are_not_negative",
            "stock_quantity >= 0 AND reserved_quantity >= 0 AND available_quantity >= 0 AND reorder_level >= 0",
            severity=HIGH,
            action=REJECT,
        ),
    ),
    references=(Reference("inventory_has_product", "products", ("product_id",), severity=MEDIUM),),
    derived=(
        Derived(
            "stock_utilization_rate",
            "DECIMAL(18,4)",
            "CAST(reserved_quantity AS DECIMAL(18,4)) / nullif(CAST(stock_quantity AS DECIMAL(18,0)), 0)",
        ),
        Derived(
            "stock_status",
            "STRING",
            "CASE WHEN available_quantity = 0 THEN 'Out of Stock'"
            " WHEN available_quantity <= reorder_level THEN 'Reorder Required'"
            " WHEN available_quantity <= 2 * CAST(reorder_level AS BIGINT) THEN 'Low Stock' ELSE 'In Stock' END",
        ),
        Derived(
            "audit_status",
            "STRING",
            f"CASE WHEN datediff({DAY}, last_audit) > 90 THEN 'Overdue'"
            f" WHEN datediff({DAY}, last_audit) > 60 THEN 'Due Soon' ELSE 'Current' END",
        ),
    ),
)

shipping = Feed(
    name="shipping",
    files="shipping_*.csv",
    description="Shipments of orders. A shipment id can be reused for another order.",
    columns="""
        shipping_id STRING NOT NULL, order_id STRING NOT NULL, tracking_number STRING NOT NULL, carrier STRING NOT NULL, service_type STRING NOT NULL,
        origin_warehouse STRING NOT NULL, destination_address STRING NOT NULL, shipping_cost DECIMAL(12,2) NOT NULL, currency STRING NOT NULL,
        estimated_delivery DATE NOT NULL, actual_delivery DATE, shipping_status STRING NOT NULL, package_weight DECIMAL(10,3) NOT NULL,
        package_dimensions STRING NOT NULL, insurance_value DECIMAL(12,2) NOT NULL, created_timestamp TIMESTAMP NOT NULL""",  # noqa: E501
    key=("order_id", "shipping_id"),
    stored_as=Scd2(sequence_by="created_timestamp"),
    rules=(
        Rule("shipping_cost_is_not_negative", "shipping_cost >= 0", severity=HIGH, action=REJECT),
        Rule("package_weight_is_positive", "package_weight > 0", severity=HIGH, action=REJECT),
        Rule("insurance_value_is_not_negative", "insurance_value >= 0", severity=HIGH, action=REJECT),
        Rule("shipping_cost_is_reasonable", "shipping_cost <= 100", severity=MEDIUM),
    ),
    references=(Reference("shipping_has_order", "orders", ("order_id",), severity=MEDIUM),),
    derived=(
        Derived("delivery_days", "INT", f"datediff(actual_delivery, {DAY})"),
        Derived("estimated_delivery_days", "INT", f"datediff(estimated_delivery, {DAY})"),
        Derived(
            "delivery_performance",
            "STRING",
            "CASE WHEN actual_delivery IS NULL THEN 'Pending'"
            " WHEN actual_delivery <= estimated_delivery THEN 'On Time'"
            " WHEN datediff(actual_delivery, estimated_delivery) = 1 THEN 'Slightly Delayed' ELSE 'Delayed' END",
        ),
        Derived(
            "cost_category",
            "STRING",
            "CASE WHEN shipping_cost < 10 THEN 'Low Cost' WHEN shipping_cost < 20 THEN 'Medium Cost'"
            " ELSE 'High Cost' END",
        ),
        Derived("cost_per_kg", "DECIMAL(18,4)", "CAST(shipping_cost AS DECIMAL(18,4)) / nullif(package_weight, 0)"),
    ),
)

RETAIL = Source(
    name="retail",
    feeds=(orders, customers, products, inventory, shipping),
    enriched=(ENRICHED_ORDERS,),
    gold_module="pipeline.sources.retail.gold",
    settings=(
        Setting(name="profit_margin", default=0.30, meaning="share of an order's amount that is profit"),
        Setting(
            name="currency", default="USD", meaning="the currency of all money columns; orders in another are rejected"
        ),
    ),
)

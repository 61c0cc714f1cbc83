"""Customers and products with the data of both systems, and each sale with its product version. Declarations only."""

from pipeline.model import Derived, Enriched, LatestJoin, PointInTimeJoin

CUSTOMERS = Enriched(
    name="customers",
    upstream="crm_customers",
    prefix="crm_",
    description="A customer of the CRM with the current data of the ERP.",
    joins=(
        LatestJoin(feed="erp_customers", on=("customer_number",), prefix="erp_", columns=("birth_date", "gender")),
        LatestJoin(feed="erp_locations", on=("customer_number",), prefix="erp_", columns=("country",)),
    ),
    derived=(
        Derived("gender", "STRING", "coalesce(nullif(crm_gender, 'n/a'), erp_gender, 'n/a')"),
        Derived("country", "STRING", "coalesce(erp_country, 'n/a')"),
    ),
)

PRODUCTS = Enriched(
    name="products",
    upstream="crm_products",
    versions=True,
    description="Every version of a product with its category.",
    joins=(
        LatestJoin(
            feed="erp_categories",
            on=("category_id",),
            prefix="erp_",
            columns=("category", "subcategory", "MAINTENANCE"),
        ),
    ),
    derived=(Derived("maintenance", "STRING", "trim(erp_MAINTENANCE)"),),
)

SALES = Enriched(
    name="sales",
    upstream="crm_sales",
    description="A line of an order with the product version that was valid on its day, else with the first version.",
    # A sale without a date gets the oldest timestamp, so that it joins the first version of its product.
    as_of="coalesce(CAST(order_date AS TIMESTAMP), TIMESTAMP '0001-01-01 00:00:00')",
    joins=(
        PointInTimeJoin(
            feed="crm_products", on=("product_number",), prefix="product_", columns=("product_key", "cost")
        ),
        LatestJoin(feed="crm_customers", on=("cst_id",), prefix="customer_", columns=("customer_key",)),
    ),
    derived=(
        Derived(
            "product_match",
            "STRING",
            "CASE WHEN _product_from <= CAST(order_date AS TIMESTAMP) THEN 'by_date'"
            " WHEN _product_from IS NOT NULL THEN 'earliest_version' END",
        ),
        Derived("profit", "DECIMAL(20,2)", "sales_amount - sls_quantity * cost"),
        # `trunc` fails before 1677 and after 2262 on one engine.
        Derived("month", "DATE", "date_add(order_date, 1 - day(order_date))"),
    ),
)

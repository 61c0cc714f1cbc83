"""The gold tables of crm_erp: a star schema of sales, and revenue by country, month, age group and product.

The text of `columns` is hashed into the fingerprint with its line breaks, so its long lines stay as they are.
"""

from typing import TYPE_CHECKING

from pipeline.model import Rule, aggregate, recompute, select_rows

if TYPE_CHECKING:  # declarations are also loaded without an engine
    from pyspark.sql import DataFrame

MONEY = "DECIMAL(30,2)"
SHARE = "DECIMAL(10,4)"
# The age group of a birth date, as of the newest batch date. A sale without a known customer has no age group.
AGE_GROUP = (
    "CASE WHEN customer_key IS NULL THEN NULL WHEN birth_date IS NULL THEN 'n/a'"
    " WHEN birth_date > add_months($as_of, -360) THEN 'under 30'"
    " WHEN birth_date > add_months($as_of, -480) THEN '30-39'"
    " WHEN birth_date > add_months($as_of, -600) THEN '40-49'"
    " WHEN birth_date > add_months($as_of, -720) THEN '50-59' ELSE '60 and over' END"
)
# A sale of an unknown product has no profit. A rule counts such sales, and they add 0 here.
REVENUE_AND_PROFIT = {"revenue": "sales_amount", "profit": "coalesce(profit, 0)"}
OF_CUSTOMERS = {
    "revenue": "revenue",
    "profit": "profit",
    "orders": "orders",
    "customers": "CASE WHEN cst_id IS NULL THEN 0 ELSE 1 END",
}


@select_rows(
    upstream="customers",
    grain=("customer_key",),
    columns="""customer_key BIGINT, customer_id INT, customer_number STRING, first_name STRING, last_name STRING, country STRING,
        marital_status STRING, gender STRING, birth_date DATE, age_group STRING, create_date DATE""",  # noqa: E501
    as_of_columns={"age_group": AGE_GROUP},
)
def dim_customer(customers: "DataFrame") -> "DataFrame":
    """A row per customer. The key is a hash of the customer id, so it is the same in every delivery."""
    return customers.selectExpr("*", "cst_id AS customer_id", "cst_create_date AS create_date")


@select_rows(
    upstream="products",
    grain=("product_key",),
    columns="""product_key BIGINT, product_id INT, product_number STRING, product_name STRING, category STRING, subcategory STRING,
        maintenance STRING, cost DECIMAL(12,2), product_line STRING, start_date DATE, end_date DATE, is_current BOOLEAN""",  # noqa: E501
    checks=(Rule("a_version_ends_after_it_starts", "end_date IS NULL OR end_date > start_date"),),
)
def dim_product(versions: "DataFrame") -> "DataFrame":
    """A row per version of a product. The key is a hash of number and start, so it is the same in every delivery."""
    return versions.selectExpr(
        "*", "prd_id AS product_id", "to_date(effective_from) AS start_date", "to_date(effective_to) AS end_date"
    )


@select_rows(
    upstream="sales",
    grain=("order_number", "_product_number"),
    columns="""order_number STRING, product_key BIGINT, customer_key BIGINT, order_date DATE, shipping_date DATE, due_date DATE,
        sales_amount DECIMAL(18,2), quantity INT, price DECIMAL(18,4), cost DECIMAL(12,2), profit DECIMAL(20,2), product_match STRING,
        _product_number STRING""",  # noqa: E501
    checks=(Rule("profit_is_what_the_cost_leaves", "profit <=> sales_amount - quantity * cost"),),
)
def fact_sales(sales: "DataFrame") -> "DataFrame":
    """A row per line of an order, with the keys of its customer and its product version, or null."""
    return sales.selectExpr(
        "*", "sls_ord_num AS order_number", "sls_quantity AS quantity", "product_number AS _product_number"
    )


@select_rows(
    upstream="crm_products",
    grain=("product_number", "start_date"),
    columns="product_number STRING, cost DECIMAL(12,2), start_date DATE, end_date DATE",
)
def cost_history(versions: "DataFrame") -> "DataFrame":
    """The cost of a product from a start date to an end date (exclusive)."""
    return versions.selectExpr("*", "to_date(effective_from) AS start_date", "to_date(effective_to) AS end_date")


@aggregate(
    upstream="sales",
    grain=("month",),
    period="month",
    columns=f"month DATE, revenue {MONEY}, profit {MONEY}, orders BIGINT, customers BIGINT",
    sum=REVENUE_AND_PROFIT,
    count_distinct={"orders": "sls_ord_num", "customers": "cst_id"},
)
def revenue_by_month(sums: "DataFrame") -> "DataFrame":
    """Sales by the month of the order date; null for sales without a date."""
    return sums


@aggregate(
    upstream="sales",
    grain=("cst_id",),
    dimension="customers",
    columns=f"""cst_id INT, customer_key BIGINT, country STRING, gender STRING, birth_date DATE, age_group STRING,
        revenue {MONEY}, profit {MONEY}, orders BIGINT""",
    sum=REVENUE_AND_PROFIT,
    count_distinct={"orders": "sls_ord_num"},
    as_of_columns={"age_group": AGE_GROUP},
)
def customer_sales(sums: "DataFrame") -> "DataFrame":
    """The purchases of each customer, with the customer's current data."""
    return sums


@aggregate(
    upstream="customer_sales",
    grain=("country",),
    columns=f"country STRING, revenue {MONEY}, profit {MONEY}, orders BIGINT, customers BIGINT",
    sum=OF_CUSTOMERS,
)
def revenue_by_country(sums: "DataFrame") -> "DataFrame":
    """Sales by the customer's current country; null for unknown customers."""
    return sums


@aggregate(
    upstream="customer_sales",
    grain=("age_group", "gender"),
    columns=f"age_group STRING, gender STRING, revenue {MONEY}, profit {MONEY}, orders BIGINT, customers BIGINT",
    sum=OF_CUSTOMERS,
)
def revenue_by_age_group(sums: "DataFrame") -> "DataFrame":
    """Sales by the customer's age group, as of the newest batch date, and gender."""
    return sums


@aggregate(
    upstream="sales",
    grain=("product_number",),
    dimension="products",
    columns=f"""product_number STRING, product_name STRING, category STRING, maintenance STRING, revenue {MONEY}, profit {MONEY},
        quantity BIGINT""",  # noqa: E501
    sum={**REVENUE_AND_PROFIT, "quantity": "sls_quantity"},
)
def product_sales(sums: "DataFrame") -> "DataFrame":
    """The sales of each product, with the product's current data."""
    return sums


@recompute(
    upstream="product_sales",
    grain=("product_number",),
    columns=f"""product_number STRING, product_name STRING, category STRING, maintenance STRING, revenue {MONEY}, profit {MONEY},
        quantity BIGINT, rank INT""",  # noqa: E501
)
def product_profit(products: "DataFrame") -> "DataFrame":
    """The products by rank in profit."""
    return products.selectExpr("*", "rank() OVER (ORDER BY profit DESC) AS rank")


@recompute(
    upstream="product_sales",
    grain=("maintenance", "category"),
    columns=f"maintenance STRING, category STRING, revenue {MONEY}, profit {MONEY}, profit_share {SHARE}",
)
def maintenance_burden(products: "DataFrame") -> "DataFrame":
    """Revenue and profit of products with and without maintenance, each with its share of the total profit."""
    kinds = products.groupBy("maintenance", "category").agg({"revenue": "sum", "profit": "sum"})
    kinds = kinds.selectExpr(
        "maintenance",
        "category",
        f"CAST(`sum(revenue)` AS {MONEY}) AS revenue",
        f"CAST(`sum(profit)` AS {MONEY}) AS profit",
    )
    whole = f"CAST(sum(profit) OVER () AS {MONEY})"
    return kinds.selectExpr("*", f"CAST(CAST(profit AS DECIMAL(24,6)) / nullif({whole}, 0) AS {SHARE}) AS profit_share")

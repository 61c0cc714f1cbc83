"""The feeds of the CRM and the ERP: six files, each a snapshot, and the repair of their values. Declarations only.

The text of `columns` is hashed into the fingerprint with its line breaks, so its long lines stay as they are.
"""

from pipeline.model import HIGH, LOW, MEDIUM, REJECT, REPAIR, Derived, Feed, Reference, Rule, Scd2, Snapshot, Source
from pipeline.sources.crm_erp.enriched import CUSTOMERS, PRODUCTS, SALES


def day(digits: str) -> str:
    """Returns SQL for the date of eight digits, yyyymmdd; null for digits that are no date."""
    parts = ", ".join(f"substring({digits}, {start}, {length})" for start, length in ((1, 4), (5, 2), (7, 2)))
    return rf"CASE WHEN {digits} RLIKE '^[12][0-9]{{7}}\\z' THEN try_cast(concat_ws('-', {parts}) AS DATE) END"


def spelt_out(code: str, names: dict[str, str]) -> str:
    """Returns SQL for the name of a code, without regard to case and outer spaces; n/a for an unknown code."""
    cases = " ".join(f"WHEN '{short}' THEN '{name}'" for short, name in names.items())
    return f"CASE upper(trim({code})) {cases} ELSE 'n/a' END"


SEXES = {"M": "Male", "MALE": "Male", "F": "Female", "FEMALE": "Female"}

crm_customers = Feed(
    name="crm_customers",
    files="cust_info*.csv",
    description="Customers of the CRM. Of a customer who was entered twice, the last entry counts.",
    columns="""
        cst_id INT NOT NULL, cst_key STRING NOT NULL, cst_firstname STRING, cst_lastname STRING, cst_marital_status STRING, cst_gndr STRING,
        cst_create_date DATE""",  # noqa: E501
    key=("cst_id",),
    stored_as=Scd2(tie_breaker=("cst_create_date",)),
    snapshot=True,
    cleaned=(
        Derived("customer_number", "STRING", "trim(cst_key)"),
        Derived("first_name", "STRING", "trim(cst_firstname)"),
        Derived("last_name", "STRING", "trim(cst_lastname)"),
        Derived("marital_status", "STRING", spelt_out("cst_marital_status", {"S": "Single", "M": "Married"})),
        Derived("gender", "STRING", spelt_out("cst_gndr", SEXES)),
    ),
    derived=(Derived("customer_key", "BIGINT", "xxhash64(CAST(cst_id AS BIGINT))"),),
    rules=(
        Rule(
            "first_name_has_no_spaces_around",
            "cst_firstname = first_name",
            severity=LOW,
            action=REPAIR,
            where="cst_firstname IS NOT NULL",
        ),
        Rule(
            "last_name_has_no_spaces_around",
            "cst_lastname = last_name",
            severity=LOW,
            action=REPAIR,
            where="cst_lastname IS NOT NULL",
        ),
        Rule(
            "marital_status_is_known",
            "marital_status <> 'n/a'",
            severity=LOW,
            action=REPAIR,
            description="S or M; anything else is n/a",
        ),
        Rule(
            "gender_is_known",
            "gender <> 'n/a'",
            severity=LOW,
            action=REPAIR,
            description="M or F; for any other value the ERP decides",
        ),
    ),
    references=(
        Reference("customer_is_in_the_erp", "erp_customers", ("customer_number",), severity=MEDIUM),
        Reference("customer_has_location", "erp_locations", ("customer_number",), severity=MEDIUM),
    ),
)

crm_products = Feed(
    name="crm_products",
    files="prd_info*.csv",
    description="The versions of each product by start date. The end dates in the file overlap and are not used.",
    columns="""
        prd_id INT NOT NULL, prd_key STRING NOT NULL, prd_nm STRING, prd_cost DECIMAL(12,2), prd_line STRING, prd_start_dt DATE NOT NULL,
        prd_end_dt DATE""",  # noqa: E501
    key=("product_number",),
    stored_as=Snapshot(valid_from="prd_start_dt"),
    snapshot=True,
    cleaned=(
        Derived("category_id", "STRING", "replace(substring(prd_key, 1, 5), '-', '_')"),
        Derived("product_number", "STRING", "nullif(trim(substring(prd_key, 7)), '')"),
        Derived("product_name", "STRING", "trim(prd_nm)"),
        Derived("cost", "DECIMAL(12,2)", "coalesce(prd_cost, 0)"),
        Derived(
            "product_line",
            "STRING",
            spelt_out("prd_line", {"M": "Mountain", "R": "Road", "S": "Other Sales", "T": "Touring"}),
        ),
    ),
    derived=(Derived("product_key", "BIGINT", "xxhash64(product_number, unix_micros(effective_from))"),),
    rules=(
        Rule(
            "cost_is_given",
            "prd_cost IS NOT NULL",
            severity=MEDIUM,
            action=REPAIR,
            description="a product without a cost costs 0",
        ),
        Rule("cost_is_not_negative", "cost >= 0", severity=HIGH),
        Rule(
            "version_ends_after_it_starts",
            "prd_end_dt > prd_start_dt",
            severity=LOW,
            action=REPAIR,
            where="prd_end_dt IS NOT NULL",
        ),
    ),
    references=(Reference("product_has_category", "erp_categories", ("category_id",), severity=MEDIUM),),
)

crm_sales = Feed(
    name="crm_sales",
    files="sales_details*.csv",
    description="Lines of orders.",
    columns="""
        sls_ord_num STRING NOT NULL, sls_prd_key STRING NOT NULL, sls_cust_id INT, sls_order_dt STRING, sls_ship_dt STRING, sls_due_dt STRING,
        sls_sales DECIMAL(12,2), sls_quantity INT NOT NULL, sls_price DECIMAL(12,2)""",  # noqa: E501
    key=("sls_ord_num", "product_number"),
    stored_as=Snapshot(),
    snapshot=True,
    cleaned=(
        Derived("product_number", "STRING", "nullif(trim(sls_prd_key), '')"),
        Derived("cst_id", "INT", "sls_cust_id"),
        Derived("order_date", "DATE", day("sls_order_dt")),
        Derived("shipping_date", "DATE", day("sls_ship_dt")),
        Derived("due_date", "DATE", day("sls_due_dt")),
        # The price is cleaned before the amount, because the amount is checked against the cleaned price.
        Derived(
            "price",
            "DECIMAL(18,4)",
            "coalesce(abs(nullif(sls_price, 0)), CAST(abs(sls_sales) AS DECIMAL(18,6)) / nullif(CAST(sls_quantity AS"
            " DECIMAL(10,0)), 0))",
        ),
        # An amount that gave the price stays: three pieces for 25.00 cost 25.00, although three times the rounded price
        # is another amount.
        Derived(
            "sales_amount",
            "DECIMAL(18,2)",
            "CASE WHEN sls_sales > 0 AND (coalesce(sls_price, 0) = 0 OR sls_sales = sls_quantity * price)"
            " THEN sls_sales ELSE try_cast(sls_quantity * price AS DECIMAL(18,2)) END",
        ),
    ),
    rules=(
        Rule("quantity_is_positive", "sls_quantity > 0", severity=HIGH, action=REJECT),
        Rule("amount_or_price_is_given", "sales_amount IS NOT NULL", severity=HIGH, action=REJECT),
        Rule("price_is_positive", "sls_price > 0", severity=MEDIUM, action=REPAIR),
        Rule("sale_is_quantity_times_price", "sls_sales = sales_amount", severity=MEDIUM, action=REPAIR),
        Rule(
            "order_date_is_a_day",
            "order_date IS NOT NULL",
            severity=MEDIUM,
            action=REPAIR,
            description="eight digits, yyyymmdd; else null",
        ),
        Rule(
            "shipping_date_is_a_day",
            "shipping_date IS NOT NULL",
            severity=LOW,
            action=REPAIR,
            description="eight digits, yyyymmdd; else null",
        ),
        Rule(
            "due_date_is_a_day",
            "due_date IS NOT NULL",
            severity=LOW,
            action=REPAIR,
            description="eight digits, yyyymmdd; else null",
        ),
        Rule(
            "order_is_shipped_after_its_date",
            "shipping_date >= order_date",
            severity=LOW,
            where="order_date IS NOT NULL AND shipping_date IS NOT NULL",
        ),
    ),
    references=(
        Reference("sale_has_customer", "crm_customers", ("cst_id",)),
        Reference("sale_has_product", "crm_products", ("product_number",)),
    ),
)

erp_customers = Feed(
    name="erp_customers",
    files="CUST_AZ12*.csv",
    description="Birth date and gender of customers. Some customer numbers have the prefix of an older system.",
    columns="CID STRING NOT NULL, BDATE DATE, GEN STRING",
    key=("customer_number",),
    stored_as=Scd2(),
    snapshot=True,
    cleaned=(
        Derived("customer_number", "STRING", "nullif(regexp_replace(trim(CID), '^NAS', ''), '')"),
        Derived("birth_date", "DATE", "CASE WHEN BDATE <= _batch_date THEN BDATE END"),
        Derived("gender", "STRING", spelt_out("GEN", SEXES)),
    ),
    rules=(
        Rule(
            "birth_is_not_in_the_future",
            "BDATE <= $batch_date",
            severity=MEDIUM,
            action=REPAIR,
            where="BDATE IS NOT NULL",
        ),
        Rule(
            "erp_gender_is_known",
            "gender <> 'n/a'",
            severity=LOW,
            action=REPAIR,
            description="Male, Female, M or F; anything else is n/a",
        ),
    ),
    references=(Reference("erp_customer_is_in_the_crm", "crm_customers", ("customer_number",), severity=MEDIUM),),
)

erp_locations = Feed(
    name="erp_locations",
    files="LOC_A101*.csv",
    description="The country of customers. The customer numbers have a dash in this file.",
    columns="CID STRING NOT NULL, CNTRY STRING",
    key=("customer_number",),
    stored_as=Scd2(),
    snapshot=True,
    cleaned=(
        Derived("customer_number", "STRING", "nullif(replace(trim(CID), '-', ''), '')"),
        Derived(
            "country",
            "STRING",
            "CASE WHEN upper(trim(CNTRY)) IN ('US', 'USA') THEN 'United States'"
            " WHEN upper(trim(CNTRY)) = 'DE' THEN 'Germany' ELSE coalesce(nullif(trim(CNTRY), ''), 'n/a') END",
        ),
    ),
    rules=(
        Rule(
            "country_is_given",
            "trim(CNTRY) <> ''",
            severity=LOW,
            action=REPAIR,
            description="a customer without a country has n/a",
        ),
        Rule("country_is_spelt_out", "CNTRY = country", severity=LOW, action=REPAIR, where="trim(CNTRY) <> ''"),
    ),
    references=(Reference("location_has_customer", "crm_customers", ("customer_number",), severity=MEDIUM),),
)

erp_categories = Feed(
    name="erp_categories",
    files="PX_CAT_G1V2*.csv",
    description="The product categories. The first five characters of a product's key are a category id.",
    columns="ID STRING NOT NULL, CAT STRING NOT NULL, SUBCAT STRING NOT NULL, MAINTENANCE STRING NOT NULL",
    key=("category_id",),
    stored_as=Scd2(),
    snapshot=True,
    cleaned=(
        Derived("category_id", "STRING", "nullif(trim(ID), '')"),
        Derived("category", "STRING", "trim(CAT)"),
        Derived("subcategory", "STRING", "trim(SUBCAT)"),
    ),
    references=(Reference("category_has_products", "crm_products", ("category_id",), severity=LOW),),
)

CRM_ERP = Source(
    name="crm_erp",
    feeds=(crm_customers, crm_products, crm_sales, erp_customers, erp_locations, erp_categories),
    enriched=(CUSTOMERS, PRODUCTS, SALES),
    gold_module="pipeline.sources.crm_erp.gold",
)

"""Snapshots of two systems with many errors: repaired values, counts, joins, and the changes of a second delivery."""

import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from drawing import columns, draw, drawn
from factories_pipeline import Site, on_sail
from reference_crm_erp import gold

from pipeline import reader
from pipeline.contract import Quality, Result
from pipeline.engine.session import Session
from pipeline.sources.crm_erp.feeds import CRM_ERP

# As such systems write them: lines end with CRLF except the last one, and names have outer spaces.
CUSTOMERS = """cst_id,cst_key,cst_firstname,cst_lastname,cst_marital_status,cst_gndr,cst_create_date
1,AW1, Ann,Lee ,M,F,2025-01-01
1,AW1,Anna,Lee,S,F,2025-02-01
2,AW2,Bob,Ray ,S,,2025-01-05
3,AW3,Cid,Oak,x, m ,2025-01-06
4,AW4,,Fir,M,,2025-01-07
,AW5,Eve,Elm,M,F,2025-01-08"""
PRODUCTS = """prd_id,prd_key,prd_nm,prd_cost,prd_line,prd_start_dt,prd_end_dt
11,BI-RB-LAMP-1,Lamp,12,R ,2025-01-01,2024-06-30
10,BI-RB-LAMP-1,Lamp,10,R ,2024-01-01,2023-12-31
12,CO-PE-PEDAL,Pedal,,m,2024-01-01,
13,AC-HE-HELM,Helmet,5,,2024-01-01,
14,AC-HE-,Nothing,5,S,2024-01-01,"""
SALES = """sls_ord_num,sls_prd_key,sls_cust_id,sls_order_dt,sls_ship_dt,sls_due_dt,sls_sales,sls_quantity,sls_price
S1,LAMP-1,1,20240615,20240620,20240625,20,1,20
S1,HELM,1,20240615,20240620,20240625,24,3,8
S2,LAMP-1,2,20250615,20250620,20250625,40,2,20
S3,LAMP-1,2,20230101,20230106,20230111,20,1,20
S4,HELM,3,0,20250606,20250611,10,2,
S5,HELM,3,20250601,20250606,20250611,-30,3,-10
S6,PEDAL,4,20250601,,20250611,,2,7
S7,GHOST,99,20250601,20250606,20250611,9,1,9
S8,HELM,1,20250605,20250601,20250615,25,3,
S9,HELM,1,20250605,20250610,20250615,5,0,5
S10,HELM,1,20250605,20250610,20250615,,1,
S11,HELM,,20250631,20250606,20250611,50,2,8"""
ERP = """CID,BDATE,GEN
NASAW1,1996-03-02,Female
AW2,1970-01-01,M 
AW3,2030-01-01,  
AW8,1950-01-01,F"""  # noqa: W291 - a code with a space behind it
LOCATIONS = """CID,CNTRY
AW-1,US
AW-2,DE
AW-3,  """
CATEGORIES = """ID,CAT,SUBCAT,MAINTENANCE
BI_RB,Bikes,Road Bikes,Yes
AC_HE,Accessories,Helmets,No
XX_YY,Air,Nothing,No"""
FIRST: dict[str, Any] = {
    f"raw_{name}": text.replace("\n", "\r\n")
    for name, text in {
        "crm_customers": CUSTOMERS,
        "crm_products": PRODUCTS,
        "crm_sales": SALES,
        "erp_customers": ERP,
        "erp_locations": LOCATIONS,
        "erp_categories": CATEGORIES,
    }.items()
}
# A day later: Bob has moved, Cid is gone, the newest version of the lamp costs more. Ann is thirty without any event.
SECOND = {
    **FIRST,
    "raw_crm_customers": "\n".join(line for line in CUSTOMERS.splitlines() if not line.startswith("3,")),
    "raw_crm_products": PRODUCTS.replace("Lamp,12", "Lamp,13"),
    "raw_erp_locations": LOCATIONS.replace("AW-2,DE", "AW-2,France"),
}
ANY_SHRINK = Quality(max_snapshot_shrink=1.0)


@pytest.fixture(scope="module")
def deliveries(session: Session, tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Result, Result]:
    """Returns a site with two deliveries, and their results."""
    site = Site(tmp_path_factory.mktemp("crm_erp"), session, CRM_ERP)
    return site, site.deliver("2026-03-01", **FIRST), site.deliver("2026-03-02", **SECOND)


def test_cleaned_values_are_stored_beside_the_delivered_ones(deliveries: tuple[Site, Result, Result]) -> None:
    site, first, _ = deliveries
    names = ("cst_id", "customer_number", "first_name", "last_name", "marital_status", "gender", "cst_create_date")
    assert site.draw("silver.crm_customers", *names, result=first) == drawn("""
        cst_id | customer_number | first_name | last_name | marital_status | gender | cst_create_date
        1      | AW1             | Anna       | Lee       | Single         | Female | 2025-02-01
        2      | AW2             | Bob        | Ray       | Single         | n/a    | 2025-01-05
        3      | AW3             | Cid        | Oak       | n/a            | Male   | 2025-01-06
        4      | AW4             |            | Fir       | Married        | n/a    | 2025-01-07
    """)
    names = ("product_number", "category_id", "cost", "product_line", "effective_from", "effective_to", "is_current")
    assert site.draw("silver.crm_products", *names, result=first) == drawn("""
        product_number | category_id | cost | product_line | effective_from | effective_to | is_current
        HELM           | AC_HE       | 5    | n/a          | 2024-01-01     |              | true
        LAMP-1         | BI_RB       | 10   | Road         | 2024-01-01     | 2025-01-01   | false
        LAMP-1         | BI_RB       | 12   | Road         | 2025-01-01     |              | true
        PEDAL          | CO_PE       | 0    | Mountain     | 2024-01-01     |              | true
    """)
    sales = """
        sls_ord_num|product_number|order_date|shipping_date|sls_sales|sales_amount|sls_quantity|sls_price|price
        S1         |HELM          |2024-06-15|2024-06-20   |24       |24          |3           |8        |8
        S1         |LAMP-1        |2024-06-15|2024-06-20   |20       |20          |1           |20       |20
        S11        |HELM          |          |2025-06-06   |50       |16          |2           |8        |8
        S2         |LAMP-1        |2025-06-15|2025-06-20   |40       |40          |2           |20       |20
        S3         |LAMP-1        |2023-01-01|2023-01-06   |20       |20          |1           |20       |20
        S4         |HELM          |          |2025-06-06   |10       |10          |2           |         |5
        S5         |HELM          |2025-06-01|2025-06-06   |-30      |30          |3           |-10      |10
        S6         |PEDAL         |2025-06-01|             |         |14          |2           |7        |7
        S7         |GHOST         |2025-06-01|2025-06-06   |9        |9           |1           |9        |9
        S8         |HELM          |2025-06-05|2025-06-01   |25       |25          |3           |         |8.3333
    """
    assert site.draw("silver.crm_sales", *columns(sales), result=first) == drawn(sales)
    names = ("customer_number", "BDATE", "birth_date", "gender")
    assert site.draw("silver.erp_customers", *names, result=first) == drawn("""
        customer_number | BDATE      | birth_date | gender
        AW1             | 1996-03-02 | 1996-03-02 | Female
        AW2             | 1970-01-01 | 1970-01-01 | Male
        AW3             | 2030-01-01 |            | n/a
        AW8             | 1950-01-01 | 1950-01-01 | Female
    """)
    assert site.draw("silver.erp_locations", "customer_number", "country", result=first) == drawn("""
        customer_number | country
        AW1             | United States
        AW2             | Germany
        AW3             | n/a
    """)


def test_every_repair_and_every_missing_reference_is_counted(deliveries: tuple[Site, Result, Result]) -> None:
    site, first, _ = deliveries
    found = {f.rule: f for f in first.findings}
    assert {rule: (str(f.action), f.checked, f.broken) for rule, f in found.items()} == {
        "cst_id_is_given": ("REJECT", 6, 1),
        "first_name_has_no_spaces_around": ("REPAIR", 4, 1),
        "last_name_has_no_spaces_around": ("REPAIR", 5, 2),
        "marital_status_is_known": ("REPAIR", 5, 1),
        "gender_is_known": ("REPAIR", 5, 2),
        "customer_is_in_the_erp": ("WARN", 5, 1),
        "customer_has_location": ("WARN", 5, 1),
        "product_number_is_given": ("REJECT", 5, 1),
        "cost_is_given": ("REPAIR", 4, 1),
        "version_ends_after_it_starts": ("REPAIR", 2, 2),
        "product_has_category": ("WARN", 4, 1),
        "quantity_is_positive": ("REJECT", 11, 1),
        "amount_or_price_is_given": ("REJECT", 11, 1),
        "price_is_positive": ("REPAIR", 10, 3),
        "sale_is_quantity_times_price": ("REPAIR", 10, 3),
        "order_date_is_a_day": ("REPAIR", 10, 2),
        "shipping_date_is_a_day": ("REPAIR", 10, 1),
        "order_is_shipped_after_its_date": ("WARN", 7, 1),
        "sale_has_customer": ("WARN", 10, 2),
        "sale_has_product": ("WARN", 10, 1),
        "birth_is_not_in_the_future": ("REPAIR", 4, 1),
        "erp_gender_is_known": ("REPAIR", 4, 1),
        "erp_customer_is_in_the_crm": ("WARN", 4, 1),
        "country_is_given": ("REPAIR", 3, 1),
        "country_is_spelt_out": ("REPAIR", 2, 2),
        "category_has_products": ("WARN", 3, 1),
        "listed_key_is_accepted": ("WARN", 12, 2),  # of the sales; their rejected lines stay as they were
    }
    assert found["sale_is_quantity_times_price"].examples == (
        "S5,HELM,3,20250601,20250606,20250611,-30,3,-10",
        "S6,PEDAL,4,20250601,,20250611,,2,7",
        "S11,HELM,,20250631,20250606,20250611,50,2,8",
    )
    assert Counter(",".join(r["reasons"]) for r in site.rows("ops.quarantine", first)) == {
        "cst_id_is_given": 1,
        "product_number_is_given": 1,
        "quantity_is_positive": 1,
        "amount_or_price_is_given": 1,
    }


def test_a_sale_joins_the_version_of_its_day_or_the_first_one(
    deliveries: tuple[Site, Result, Result],
) -> None:
    site, first, _ = deliveries
    assert site.draw(
        "gold.fact_sales", "order_number", "sales_amount", "quantity", "cost", "profit", "product_match", result=first
    ) == drawn("""
        order_number | sales_amount | quantity | cost | profit | product_match
        S1           | 20           | 1        | 10   | 10     | by_date
        S1           | 24           | 3        | 5    | 9      | by_date
        S11          | 16           | 2        | 5    | 6      | earliest_version
        S2           | 40           | 2        | 12   | 16     | by_date
        S3           | 20           | 1        | 10   | 10     | earliest_version
        S4           | 10           | 2        | 5    | 0      | earliest_version
        S5           | 30           | 3        | 5    | 15     | by_date
        S6           | 14           | 2        | 0    | 14     | by_date
        S7           | 9            | 1        |      |        |
        S8           | 25           | 3        | 5    | 10     | by_date
    """)


def test_the_second_delivery_changes_only_its_changes(deliveries: tuple[Site, Result, Result]) -> None:
    site, first, second = deliveries
    names = ("customer_id", "first_name", "country", "gender", "birth_date", "age_group")
    assert site.draw("gold.dim_customer", *names, result=first) == drawn("""
        customer_id | first_name | country       | gender | birth_date | age_group
        1           | Anna       | United States | Female | 1996-03-02 | under 30
        2           | Bob        | Germany       | Male   | 1970-01-01 | 50-59
        3           | Cid        | n/a           | Male   |            | n/a
        4           |            | n/a           | n/a    |            | n/a
    """)
    assert site.draw("gold.dim_customer", *names) == drawn("""
        customer_id | first_name | country       | gender | birth_date | age_group
        1           | Anna       | United States | Female | 1996-03-02 | 30-39
        2           | Bob        | France        | Male   | 1970-01-01 | 50-59
        4           |            | n/a           | n/a    |            | n/a
    """)
    assert site.draw("gold.revenue_by_age_group", "age_group", "gender", "revenue", "orders", "customers") == drawn("""
        age_group | gender | revenue | orders | customers
                  |        | 65      | 4      | 2
        30-39     | Female | 69      | 2      | 1
        50-59     | Male   | 60      | 2      | 1
        n/a       | n/a    | 14      | 1      | 1
    """)
    # One sale has another cost and two have lost their customer. The other sales are not written again.
    assert site.written("gold.fact_sales", second) == 3
    assert site.written("gold.dim_product", second) == 1
    for table, column in (("dim_customer", "customer_key"), ("dim_product", "product_key")):
        before, after = ({r[column] for r in site.rows(f"gold.{table}", result)} for result in (first, second))
        assert after <= before, "keys stay from delivery to delivery"


@pytest.mark.parametrize("nth", [0, 1], ids=["first", "second"])
def test_gold_equals_the_reference_of_silver(deliveries: tuple[Site, Result, Result], nth: int) -> None:
    site, result = deliveries[0], deliveries[1 + nth]
    _assert_gold_equals_reference(site, result, dt.date(2026, 3, 1 + nth))


def _assert_gold_equals_reference(site: Site, result: Result, as_of: dt.date) -> None:
    expected = gold({f.name: site.rows(f"silver.{f.name}", result) for f in CRM_ERP.feeds}, as_of)
    for table in (t for t in CRM_ERP.gold if t.name in expected):
        names = [c.name for c in table.schema if not c.name.endswith("_key") and not c.name.startswith("_")]
        assert site.draw(f"gold.{table.name}", *names, result=result) == draw(expected[table.name], *names), table.name


@on_sail
def test_tables_do_not_depend_on_the_order_of_deliveries(
    deliveries: tuple[Site, Result, Result], session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session, CRM_ERP, quality=ANY_SHRINK)
    site.deliver("2026-03-02", **SECOND)
    late = site.deliver("2026-03-01", **FIRST)
    for table in (*(f.name for f in CRM_ERP.feeds), *(e.name for e in CRM_ERP.enriched)):
        names = site.rows(f"silver.{table}")[0].keys()
        assert site.draw(f"silver.{table}", *names) == deliveries[0].draw(f"silver.{table}", *names), table
    _assert_gold_equals_reference(site, late, dt.date(2026, 3, 2))


@on_sail
def test_one_file_alone_changes_only_the_tables_that_depend_on_it(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, CRM_ERP)
    first = site.deliver("2026-03-01", **FIRST)
    then = site.deliver("2026-03-01", revision=1, raw_erp_categories=CATEGORIES.replace("Accessories", "Extras"))
    _assert_gold_equals_reference(site, then, dt.date(2026, 3, 1))
    moved = {
        t.removeprefix("crm_erp.gold.")
        for t, v in then.table_versions.items()
        if ".gold." in t and first.table_versions[t] != v
    }
    assert moved == {"dim_product", "product_sales", "product_profit", "maintenance_burden"}


def test_the_star_schema_joins_in_any_reader(deliveries: tuple[Site, Result, Result]) -> None:
    site, _, second = deliveries
    fact_sales = DeltaTable(
        site.lake.location("crm_erp.gold.fact_sales"), version=second.table_versions["crm_erp.gold.fact_sales"]
    ).to_pyarrow_table()
    assert sum(filter(None, fact_sales["profit"].to_pylist())) == 88
    result = reader.sql(
        reader.published(site.lake.path),
        """SELECT p.category, sum(f.sales_amount) AS revenue, count(c.customer_key) AS known
        FROM crm_erp.gold.fact_sales f
        LEFT JOIN crm_erp.gold.dim_product p USING (product_key)
        LEFT JOIN crm_erp.gold.dim_customer c USING (customer_key)
        GROUP BY ALL""",
    )
    assert draw(list(result.records()), "category", "revenue", "known") == drawn("""
        category    | revenue | known
                    | 23      | 1
        Accessories | 105     | 2
        Bikes       | 80      | 3
    """)

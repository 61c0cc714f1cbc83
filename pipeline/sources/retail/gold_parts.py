"""Types, columns and SQL that several gold tables of retail share.

The text of columns is hashed into the fingerprint with its line breaks, so its long lines stay as they are.
"""

MONEY = "DECIMAL(30,6)"
MEAN = "DECIMAL(30,4)"
CUSTOMER = """first_name STRING, last_name STRING, email STRING, phone STRING, date_of_birth DATE, registration_date DATE, address STRING, city STRING,
    state STRING, zip_code STRING, country STRING, customer_tier STRING, age INT, age_segment STRING, registration_stage STRING"""  # noqa: E501
PRODUCT = """product_name STRING, category STRING, subcategory STRING, brand STRING, price DECIMAL(12,2), currency STRING, stock_quantity INT,
    weight_kg DECIMAL(10,3), dimensions_cm STRING, color STRING, material STRING, description STRING, launch_date DATE, discontinued BOOLEAN,
    price_segment STRING, stock_status STRING, launch_stage STRING, volume_cm3 DECIMAL(18,3), density_kg_per_cm3 DECIMAL(18,9)"""  # noqa: E501


def ratio(total: str, of: str) -> str:
    """Returns SQL for a mean or ratio with four decimal places; null for a divisor of 0.

    Every engine computes at least ten places of a quotient of these types. The cast rounds it to four, so all engines
    return the same number.
    """
    return f"CAST(CAST({total} AS DECIMAL(30,6)) / nullif(CAST({of} AS DECIMAL(24,2)), 0) AS {MEAN})"

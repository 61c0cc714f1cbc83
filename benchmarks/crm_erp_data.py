"""Writes random deliveries of crm_erp of any size: whole ones, with few changes from day to day.

They have the usual errors: prefixes, dashes, spaces, wrong amounts, invalid dates. Equal arguments give equal bytes.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from delivery import FIRST_DATE, Delivery
from pyarrow import csv

LINES_A_CUSTOMER = 3.27
KINDS = ("BI-RB", "BI-MB", "AC-HE", "CL-JE", "CO-PE")  # the last kind is not among the categories
FILES = {
    "crm_customers": "cust_info.csv",
    "crm_products": "prd_info.csv",
    "crm_sales": "sales_details.csv",
    "erp_customers": "CUST_AZ12.csv",
    "erp_locations": "LOC_A101.csv",
    "erp_categories": "PX_CAT_G1V2.csv",
}


@dataclass(frozen=True, kw_only=True)
class Firm:
    """A firm of some size. After the first delivery (day 0), each day a few customers move and a few sales are new."""

    customers: int
    products: int = 130
    moved_a_day: int = 20
    sold_a_day: int = 100
    seed: int = 1

    def write(self, day: int, folder: Path) -> Delivery:
        """Writes the six snapshot files of a day and returns the delivery."""
        folder.mkdir(parents=True)
        tables = {
            "crm_customers": self._crm_customers(),
            "crm_products": self._crm_products(),
            "crm_sales": self._crm_sales(day),
            "erp_customers": self._erp_customers(),
            "erp_locations": self._erp_locations(day),
            "erp_categories": pa.table(
                {"ID": [k.replace("-", "_") for k in KINDS[:-1]], "CAT": ["Bikes", "Bikes", "Accessories", "Clothing"]}
            )
            .append_column("SUBCAT", pa.array(["Road", "Mountain", "Helmets", "Jerseys"]))
            .append_column("MAINTENANCE", pa.array(["Yes", "Yes", "No", "No"])),
        }
        files = {feed: folder / FILES[feed] for feed in tables}
        for feed, table in tables.items():
            csv.write_csv(table, files[feed], csv.WriteOptions(quoting_style="none"))
        rows = {feed: table.num_rows for feed, table in tables.items()}
        return Delivery(date=FIRST_DATE + dt.timedelta(days=day), files=files, rows=rows, source="crm_erp")

    def _random(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream])

    def _crm_customers(self) -> pa.Table:
        random = self._random(1)
        ids = range(self.customers)
        return pa.table(
            {
                "cst_id": [11000 + n for n in ids],
                "cst_key": [f"AW{n:08}" for n in ids],
                "cst_firstname": [f" Ann{n % 97}" if n % 1000 == 0 else f"Ann{n % 97}" for n in ids],
                "cst_lastname": [f"Lee{n % 89}" for n in ids],
                "cst_marital_status": random.choice(["S", "M"], self.customers),
                "cst_gndr": random.choice(["M", "F", ""], self.customers),
                "cst_create_date": ["2025-10-06"] * self.customers,
            }
        )

    def _crm_products(self) -> pa.Table:
        versions = [(n, year) for n in range(self.products) for year in (2011, 2012, 2013)]
        return pa.table(
            {
                "prd_id": range(len(versions)),
                "prd_key": [f"{KINDS[n % len(KINDS)]}-P-{n:04}" for n, _ in versions],
                "prd_nm": [f"Product {n}" for n, _ in versions],
                "prd_cost": ["" if n % 60 == 0 else str(5 + n + year - 2011) for n, year in versions],
                "prd_line": ["R " if n % 2 else "M " for n, _ in versions],
                "prd_start_dt": [f"{year}-07-01" for _, year in versions],
                "prd_end_dt": [f"{year - 4}-12-28" for _, year in versions],
            }
        )

    def _crm_sales(self, day: int) -> pa.Table:
        lines = int(self.customers * LINES_A_CUSTOMER) + day * self.sold_a_day
        # Each column has its own random stream, so that the lines of one day are the first lines of the next.
        products = self._random(2).integers(0, self.products, lines)
        customers = self._random(6).integers(0, self.customers, lines)
        days = [f"{2011 + n % 3}{1 + n % 12:02}{1 + n % 28:02}" for n in range(lines)]
        return pa.table(
            {
                "sls_ord_num": [f"SO{n // 2:06}" for n in range(lines)],
                # The two lines of an order have different products.
                "sls_prd_key": [f"P-{(int(p) // 2 * 2 + n % 2):04}" for n, p in enumerate(products)],
                "sls_cust_id": [11000 + int(customers[n // 2]) for n in range(lines)],
                "sls_order_dt": ["0" if n % 3000 == 0 else day for n, day in enumerate(days)],
                "sls_ship_dt": days,
                "sls_due_dt": days,
                "sls_sales": ["-5" if n % 2500 == 0 else str(10 + int(p)) for n, p in enumerate(products)],
                "sls_quantity": ["1"] * lines,
                "sls_price": ["" if n % 7000 == 0 else str(10 + int(p)) for n, p in enumerate(products)],
            }
        )

    def _erp_customers(self) -> pa.Table:
        return pa.table(
            {
                "CID": [f"{'NAS' if n % 2 else ''}AW{n:08}" for n in range(self.customers)],
                "BDATE": [
                    f"{2055 if n % 1200 == 0 else 1940 + n % 60}-{1 + n % 12:02}-{1 + n % 28:02}"
                    for n in range(self.customers)
                ],
                "GEN": self._random(3).choice(["Male", "Female", "M", "F ", ""], self.customers),
            }
        )

    def _erp_locations(self, day: int) -> pa.Table:
        countries = self._random(4).choice(["Australia", "US", "USA", "DE", "France", " "], self.customers)
        moved = self._random(5).permutation(self.customers)[: day * self.moved_a_day]
        countries[moved] = "France"
        return pa.table({"CID": [f"AW-{n:08}" for n in range(self.customers)], "CNTRY": countries})

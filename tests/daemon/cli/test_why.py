"""The explanation of a figure as a person reads it."""

import datetime as dt
from decimal import Decimal

from daemon.cli.show_why import as_record, lines
from pipeline.reader.why import Explanation

TEXT = """\
retail.gold.daily_sales  order_date 2026-03-12
  now      revenue 10395.5, orders 3
  changed  revenue: 10410 until 2026-03-14 09:00:00Z, 10395.5 since
           because of batch 20260314T090000-4f1c00 for 2026-03-14: orders_2026_03_14.csv
  rows     3 rows of retail.silver.enriched_orders; 1 are shown, --limit shows more
           order_id o2  revenue 395.5
  files    4 records of these rows, the newest first; 1 are shown, --limit shows more
           orders.csv, record 1 · batch 20260314T090000-4f1c00 · o2,\\x1b[31m,395.50"""


def story() -> Explanation:
    return Explanation(
        table="retail.gold.daily_sales",
        key={"order_date": "2026-03-12"},
        figures={"order_date": dt.date(2026, 3, 12), "revenue": Decimal("10395.500000"), "orders": 3, "note": None},
        restatements=[
            {
                "batch_id": "20260314T090000-4f1c00",
                "batch_date": dt.date(2026, 3, 14),
                "published_at": dt.datetime(2026, 3, 14, 9, tzinfo=dt.UTC),
                "column": "revenue",
                "before": "10410",
                "after": "10395.5",
                "files": ["orders_2026_03_14.csv"],
            }
        ],
        rows_of="retail.silver.enriched_orders",
        rows=[{"order_id": "o2", "revenue": Decimal("395.500000")}],
        row_count=3,
        records=[
            {
                "source_file": "orders.csv",
                "record": 1,
                "batch_id": "20260314T090000-4f1c00",
                "raw": "o2,\x1b[31m,395.50",
            }
        ],
        record_count=4,
    )


def test_the_text_goes_from_the_figure_to_the_records() -> None:
    assert "\n".join(lines(story())) == TEXT


def test_a_row_that_is_gone_and_a_way_that_ends_have_a_sentence() -> None:
    gone = Explanation(table="t", key={}, figures={}, restatements=[], gap="the rows do not hold the columns")
    assert list(lines(gone)) == [
        "t",
        "  now      the table has no such row any more",
        "  note     the rows do not hold the columns",
    ]


def test_the_json_is_exact() -> None:
    record = as_record(story())
    assert record["figures"]["revenue"] == Decimal("10395.500000")
    assert record["restatements"][0]["published_at"] == "2026-03-14T09:00:00Z"

"""A German spreadsheet's export of the shop's orders, packed, leads to the same figures as the shop's own files."""

import csv
import datetime as dt
import gzip
import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from factories_pipeline import Site
from factories_shop_rows import SHOP

from pipeline.contract import OrderFile, Outcome, WorkOrder
from pipeline.engine.session import Session
from pipeline.model import Csv
from pipeline.sources.retail.feeds import RETAIL

EXAMPLE = Path(__file__).parents[3] / "landing_zone_example"
DAYS = ("2026-03-02", "2026-03-03")
DIALECT = Csv(
    delimiter=";",
    decimal=",",
    encoding="cp1252",
    date_format="dd.MM.yyyy",
    timestamp_format="dd.MM.yyyy HH:mm:ss",
    time_zone="Europe/Berlin",
)
GERMAN = replace(
    RETAIL,
    feeds=tuple(
        replace(f, csv=DIALECT, aliases={"order_amount": "Betrag", "shipping_address": "Straße"})
        if f.name == "orders"
        else f
        for f in RETAIL.feeds
    ),
)
BERLIN = ZoneInfo("Europe/Berlin")


def delivered(feed: str, day: str) -> str:
    return (EXAMPLE / day / f"{feed}_{day.replace('-', '_')}.csv").read_text().replace("Road", "Straße")


def exported(text: str) -> bytes:
    """The file as a German spreadsheet saves it: every row, also those that are wrong."""
    header, *rows = csv.reader(io.StringIO(text))
    names = {"order_amount": "BETRAG ", "shipping_address": "STRASSE", "order_id": "Order_ID"}
    written = io.StringIO()
    writer = csv.writer(written, delimiter=";", lineterminator="\r\n")
    writer.writerow([names.get(name, name) for name in header])
    writer.writerows(
        [_german(name, value) for name, value in zip([*header, "surplus"], row, strict=False)] for row in rows
    )
    return written.getvalue().encode("cp1252")


def _german(name: str, value: str) -> str:
    match name:
        case "order_amount":
            return value.translate(str.maketrans(".,", ",."))
        case "order_date" if "." in value:
            return value.replace(".", "-")  # wrong before, and wrong still
        case "order_date":
            return f"{dt.date.fromisoformat(value):%d.%m.%Y}"
        case "created_timestamp":
            return f"{dt.datetime.fromisoformat(value).replace(tzinfo=dt.UTC).astimezone(BERLIN):%d.%m.%Y %H:%M:%S}"
        case _:
            return value


def exporting(site: Site, order: WorkOrder) -> WorkOrder:
    """The same order with its file of orders exported and gzipped."""

    def export(file: OrderFile) -> OrderFile:
        content = exported(Path(file.path).read_text())
        path = site.root / f"export-{order.batch_id}"
        path.write_bytes(gzip.compress(content))
        return replace(
            file, name=f"{file.name}.gz", path=str(path), sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)
        )

    return replace(order, files=tuple(export(f) if f.feed == "orders" else f for f in order.files))


def published(site: Site, prepare: Callable[[WorkOrder], WorkOrder]) -> dict[str, str]:
    """Two days of the example's shop, and every table of silver and gold that came of them, drawn."""
    for day in DAYS:
        feeds = {f"raw_{f.name}": delivered(f.name, day) for f in RETAIL.feeds}
        result = site.run(prepare(site.order(day, **feeds)))
        assert result.outcome == Outcome.PUBLISHED, result.reason
    tables = [t.removeprefix("retail.") for t in site.versions() if ".bronze." not in t]
    return {table: site.draw(table, *sorted(site.rows(table)[0])) for table in tables}


def test_a_german_export_of_the_orders_leads_to_the_same_figures(session: Session, tmp_path: Path) -> None:
    plain, german = (
        Site(tmp_path / name, session, source, fill=SHOP) for name, source in (("plain", RETAIL), ("german", GERMAN))
    )
    expected = published(plain, lambda order: order)
    assert published(german, lambda order: exporting(german, order)) == expected
    assert "9 Weathervane Straße" in expected["silver.orders"]
    assert "2026-03-02 08:12" in expected["silver.orders"]
    assert {table for table in expected if table.startswith("gold.")} >= {
        "gold.daily_sales",
        "gold.customer_analytics",
        "gold.fact_orders",
    }
    quarantined = [
        [(r["source_file"], r["record"], r["reasons"]) for r in site.rows("ops.quarantine") if r["feed"] == "orders"]
        for site in (plain, german)
    ]
    assert quarantined[1] == [(f"{name}.gz", record, reasons) for name, record, reasons in quarantined[0]]
    assert {"type:order_amount", "type:order_date", "record_is_well_formed"} <= {
        r for _, _, reasons in quarantined[0] for r in reasons
    }


@pytest.mark.parametrize("content", [b"cut off", b""], ids=["cut off", "gone"])
def test_a_packed_claim_that_changes_under_the_attempt_voids_it(
    session: Session, tmp_path: Path, content: bytes
) -> None:
    site = Site(tmp_path, session, GERMAN, fill=SHOP)
    order = exporting(site, site.order(DAYS[0], raw_orders=delivered("orders", DAYS[0])))

    def change(progress: object) -> None:
        if getattr(progress, "stage", "") == "summarise":
            Path(order.files[0].path).write_bytes(content)

    result = site.run(order, change)
    assert (result.outcome, result.retryable) == (Outcome.FAILED, True)
    assert "not what was claimed any more" in result.reason
    assert site.manifest.newest("retail", "batch") is None

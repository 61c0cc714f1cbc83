"""The pipeline written by hand keeps the same tables as Lakegate: without that its seconds would compare nothing."""

import datetime as dt
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest
from by_hand.pipeline import ByHand
from contenders import Ours
from deltalake import DeltaTable
from retail_data import Shop
from timeline import draw, lanes, read_bars

from pipeline.lake.lake import Lake
from pipeline.sources.retail.feeds import RETAIL

pytestmark = [pytest.mark.sail, pytest.mark.slow]

DAYS = 3
SHOP = Shop(orders=400, orders_a_day=80, late_share=0.1, bad_share=0.05)
SILVER = [f"silver.{name}" for name in (*(f.name for f in RETAIL.feeds), *(e.name for e in RETAIL.enriched))]
GOLD = [f"gold.{table.name}" for table in RETAIL.gold]
# Each has its own batch ids and its own hash for surrogate keys.
OWN = {"batch_id", "_batch_id", "customer_key", "product_key"}

Tables = dict[str, pa.Table]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes three days of a shop with late and bad rows, by both ways, and returns the folder."""
    root = tmp_path_factory.mktemp("shop")
    ours, hand = Ours("sail", root / "ours"), ByHand(root / "hand")
    try:
        for day in range(DAYS):
            delivery = SHOP.write(day, root / f"files/{day}")
            cost = ours.take(delivery)
            assert cost.queries
            assert cost.commits
            hand.take(delivery.date, delivery.files)
    finally:
        ours.stop()
    return root


@pytest.fixture(scope="module")
def tables(lake: Path) -> tuple[Tables, Tables]:
    """Returns all tables, ours and by hand, by layer and name."""
    names = [*(f"bronze.{f.name}" for f in RETAIL.feeds), *SILVER, *GOLD]
    ours = {name: Lake(lake / "ours/lake").arrow(f"retail.{name}") for name in names}
    hand = {name: DeltaTable(lake / "hand" / name.replace(".", "/")).to_pyarrow_table() for name in names}
    return ours, hand


def test_by_hand_keeps_the_same_columns(tables: tuple[Tables, Tables]) -> None:
    ours, hand = tables

    def types(tables: Tables) -> dict[str, dict[str, pa.DataType]]:
        return {name: {c: table.schema.field(c).type for c in columns(name, table)} for name, table in tables.items()}

    assert types(hand) == types(ours)


def test_by_hand_has_the_same_number_of_rows(tables: tuple[Tables, Tables]) -> None:
    ours, hand = tables

    assert {name: table.num_rows for name, table in hand.items()} == {n: t.num_rows for n, t in ours.items()}
    assert ours["silver.orders"].num_rows > SHOP.orders + 2 * SHOP.orders_a_day * 0.6  # some orders have versions


@pytest.mark.parametrize("name", SILVER + GOLD)
def test_by_hand_has_equal_values(tables: tuple[Tables, Tables], name: str) -> None:
    ours, hand = (both[name] for both in tables)
    compared = sorted(columns(name, ours) - OWN)

    assert rows_of(hand, compared) == rows_of(ours, compared)


def test_by_hand_rejects_the_same_rows(lake: Path) -> None:
    ours = Lake(lake / "ours/lake").arrow("ops.quarantine")
    hand = DeltaTable(lake / "hand/ops/quarantine").to_pyarrow_table()

    assert ours.num_rows > DAYS
    assert sorted(hand["_raw"].to_pylist()) == sorted(ours["raw"].to_pylist())


def test_timeline_shows_each_task_of_a_batch(lake: Path) -> None:
    batch_id, bars = read_bars(lake / "ours/lake", "last")

    assert batch_id.startswith(f"{dt.date(2026, 3, 1 + DAYS):%Y%m%d}")
    assert {bar.stage for bar in bars} == {"stage", "validate", "merge", "enrich", "summarise"}
    assert all(a.end <= b.start for lane in lanes(bars) for a, b in pairwise(lane))
    titles = [e.text or "" for e in ET.fromstring(draw("a < b", bars)).iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "a < b"
    assert len(titles) == 1 + len(bars)


def columns(name: str, table: pa.Table) -> set[str]:
    """Returns the columns of a table. Gold has internal ones, which follow from how Lakegate computes it."""
    return {c for c in table.column_names if not (name.startswith("gold.") and c.startswith("_"))}


def rows_of(table: pa.Table, columns: list[str]) -> list[str]:
    """Returns the rows as sorted texts of some columns."""
    return sorted(str([row[c] for c in columns]) for row in table.select(columns).to_pylist())

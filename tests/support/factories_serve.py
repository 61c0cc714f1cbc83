"""The lake of the tiny source `shop`, with what its readers see."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import factories_lake as shop
import pyarrow.dataset as ds
from deltalake import DeltaTable

from pipeline.commit.manifest import Manifest
from pipeline.contract import Progress, Settings
from pipeline.lake.lake import Lake
from pipeline.serve.serve import serve


def settings(lake: Path, *layers: str, prefix: str = "") -> Settings:
    return Settings(lake_path=str(lake), serve_layers=layers or ("gold", "silver"), serve_prefix=prefix)


def serve_shop(
    path: Path, _batch_id: str = "", _attempt: int = 1, report: Callable[[Progress], None] = lambda _: None
) -> None:
    """Shows the newest batch of the shop to readers, as a worker does."""
    lake = Lake(path)
    serve(lake, Manifest(lake), settings(path), "shop", report)


def publish_and_serve(
    path: Path, batch_id: str, attempt: int = 1, report: Callable[[Progress], None] = lambda _: None
) -> None:
    shop.publish(path, batch_id, attempt)
    serve_shop(path, report=report)


def seen_in_folders(lake: Path) -> tuple[int, int]:
    """Returns the orders of gold and of silver in one generation: by a Delta reader and by one of plain Parquet."""
    generation = Path(os.path.realpath(lake / "published" / "shop"))
    gold = DeltaTable(generation / "gold" / "totals").to_pyarrow_table()["amount"].to_pylist()
    silver = ds.dataset(generation / "silver" / "orders", format="parquet").count_rows()
    return sum(gold) // 10, silver


def seen_in_database(lake: Path) -> tuple[int, int]:
    """Returns the orders of gold and of silver in one connection to the DuckDB file."""
    with duckdb.connect(lake / "shop.duckdb", read_only=True) as connection:
        (gold,) = connection.execute("SELECT coalesce(sum(amount), 0) FROM gold.totals").fetchone() or (0,)
        (silver,) = connection.execute("SELECT count(*) FROM silver.orders").fetchone() or (0,)
    return int(gold) // 10, silver


def document(lake: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((lake / "published" / "shop" / "published.json").read_text())
    return found

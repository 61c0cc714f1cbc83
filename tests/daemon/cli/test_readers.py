"""What the verbs that publish a table do for the readers of `published`."""

from pathlib import Path

import factories_lake as shop
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from factories_command import Site
from factories_serve import seen_in_database, seen_in_folders, serve_shop

from daemon.cli.main import main

ORDERS = "shop.silver.orders"


@pytest.mark.parametrize(("verb", "orders"), [("adopt", 2), ("restore", 1)])
def test_readers_see_a_table_after_it_was_adopted_or_restored(tmp_path: Path, verb: str, orders: int) -> None:
    site = Site(tmp_path / "site", '[spark]\nengine = "sail"\n')
    lake = site.root / "lake"
    shop.publish(lake, "b0")
    serve_shop(lake)
    folder = lake.joinpath(*ORDERS.split("."))
    write_deltalake(folder, pa.table({"order_id": ["x"], "amount": pa.array([1], pa.int32())}), mode="append")
    assert seen_in_folders(lake)[1] == 1
    assert main(["--config", str(site.path), verb, ORDERS, "--yes"]) == 0
    assert seen_in_folders(lake)[1] == seen_in_database(lake)[1] == orders
    shown = (lake / "published/shop/silver/orders").resolve().name
    assert int(shown.partition("-")[0]) == DeltaTable(folder).version()

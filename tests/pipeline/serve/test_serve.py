"""Readers that know no versions see whole batches: in folders of hard links, and in a DuckDB file."""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import factories_lake as shop
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from factories_serve import document, publish_and_serve, seen_in_database, seen_in_folders, serve_shop, settings

from pipeline import reader
from pipeline.commit.manifest import Manifest, ManifestRow
from pipeline.contract import Progress
from pipeline.lake.compaction import compact, vacuum
from pipeline.lake.lake import Lake
from pipeline.serve.descriptions import descriptions
from pipeline.serve.serve import serve, serve_all
from pipeline.sources import registry

ODD = 'select "it"'


@pytest.fixture(scope="module")
def three_batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with three published batches of the shop, which readers do not see yet."""
    path = tmp_path_factory.mktemp("shop") / "lake"
    for number in range(3):
        shop.publish(path, f"b{number}")
    return path


@pytest.fixture
def lake(three_batches: Path, tmp_path: Path) -> Path:
    path = shop.copy_of(three_batches, tmp_path / "shop")
    serve_shop(path)
    return path


def in_gold(lake: Path, source: str, tables: dict[str, pa.Table], *, new: bool = True) -> None:
    """Publishes gold tables of a source as a new manifest row, and shows them to readers."""
    opened = Lake(lake)
    versions = {}
    for name, rows in tables.items():
        table = f"{source}.gold.{name}"
        if new:
            opened.create(table, rows.schema)
        versions[table] = opened.append(table, rows, "lakegate test")
    publish_versions(opened, ManifestRow(batch_id=f"m{uuid4().hex[:6]}", kind="batch", source=source), versions)
    serve(opened, Manifest(opened), settings(lake), source, raise_failure)


def publish_versions(lake: Lake, row: ManifestRow, versions: dict[str, int]) -> None:
    manifest = Manifest(lake)
    manifest.write(row, versions, fence=manifest.fence(), tag="lakegate test")


def raise_failure(progress: Progress) -> None:
    assert progress.event == "serve.finished", progress.values


def every_reader(lake: Path, table: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields what each reader finds in a table, in the order of its columns."""
    source, layer, name = table.split(".")
    folder = lake / "published" / source / layer / name
    yield "pandas", pd.read_parquet(folder)
    yield "polars, Delta", pl.scan_delta(folder).collect().to_pandas()
    yield "polars, Parquet", pl.scan_parquet(folder / "*.parquet", missing_columns="insert").collect().to_pandas()
    yield "deltalake", DeltaTable(folder).to_pandas()
    yield "duckdb, Parquet", duckdb.sql(f"FROM read_parquet('{folder}/*.parquet', union_by_name = true)").df()
    with duckdb.connect(lake / f"{source}.duckdb", read_only=True) as connection:
        yield "duckdb file", connection.sql(f'FROM {layer}."{name.replace(chr(34), chr(34) * 2)}"').df()


def rows(frame: pd.DataFrame) -> list[list[Any]]:
    public = frame[[c for c in frame.columns if not c.startswith("_")]]
    return sorted(([None if pd.isna(v) else v for v in row] for row in public.values.tolist()), key=str)


@pytest.mark.parametrize("table", ["shop.gold.totals", "shop.silver.orders"])
def test_all_readers_agree_with_the_published_versions(lake: Path, table: str) -> None:
    published = reader.sql(reader.published(lake), f"FROM {table}")
    expected = sorted(([*row] for row in published.rows), key=str)
    assert expected
    assert {name: rows(frame) for name, frame in every_reader(lake, table)} == dict.fromkeys(
        (name for name, _ in every_reader(lake, table)), expected
    )


def test_readers_do_not_see_internal_columns(lake: Path) -> None:
    serve(Lake(lake), Manifest(Lake(lake)), settings(lake, "bronze"), "shop", raise_failure)
    public = ["order_id", "amount"]
    found = dict(every_reader(lake, "shop.bronze.orders"))
    assert [list(found[r].columns) for r in ("deltalake", "polars, Delta", "duckdb file")] == [public] * 3


def test_an_empty_table_has_its_columns_for_every_reader(lake: Path) -> None:
    empty = pa.table({"day": pa.array([], pa.date32()), "amount": pa.array([], pa.decimal128(12, 2))})
    in_gold(lake, "till", {"nothing": empty})
    for name, frame in every_reader(lake, "till.gold.nothing"):
        assert (name, list(frame.columns), len(frame)) == (name, ["day", "amount"], 0)


def test_a_column_that_older_files_lack_is_empty_there(lake: Path) -> None:
    in_gold(lake, "till", {"sums": pa.table({"n": [1]})})
    Lake(lake).add_columns("till.gold.sums", pa.schema([("more", pa.string())]), "lakegate test")
    in_gold(lake, "till", {"sums": pa.table({"n": [2], "more": ["x"]})}, new=False)
    for name, frame in every_reader(lake, "till.gold.sums"):
        assert (name, rows(frame)) == (name, [[1, None], [2, "x"]])


def test_names_may_be_words_of_sql_or_hold_quotes(lake: Path) -> None:
    in_gold(lake, "till", {"order": pa.table({ODD: [1], "group": ["a"]})})
    for name, frame in every_reader(lake, "till.gold.order"):
        assert (name, list(frame.columns), rows(frame)) == (name, [ODD, "group"], [[1, "a"]])


def test_a_batch_makes_folders_for_changed_tables_only(lake: Path) -> None:
    in_gold(lake, "till", {"a": pa.table({"n": [1]}), "b": pa.table({"n": [1]})})
    before = {n: (lake / "published/till/gold" / n).resolve() for n in "ab"}
    opened = Lake(lake)
    version = opened.append("till.gold.a", pa.table({"n": [2]}), "lakegate test")
    versions = Manifest(opened).versions("till") | {"till.gold.a": version}
    publish_versions(opened, ManifestRow(batch_id="m2", kind="batch", source="till"), versions)
    events: list[Progress] = []
    serve(opened, Manifest(opened), settings(lake), "till", events.append)
    assert [e.values["tables"] for e in events] == [1]
    after = {n: (lake / "published/till/gold" / n).resolve() for n in "ab"}
    assert (after["a"] == before["a"], after["b"] == before["b"]) == (False, True)


def test_nothing_happens_where_readers_see_the_batch_already(lake: Path) -> None:
    shown = (lake / "published/shop").readlink()
    events: list[Progress] = []
    serve_all(Lake(lake), settings(lake), events.append)
    assert [(e.event, e.values["tables"]) for e in events] == [("serve.finished", 0)]
    assert (lake / "published/shop").readlink() == shown


def test_the_data_files_take_no_second_place_on_the_disk(lake: Path) -> None:
    for file in (lake / "published/shop/silver/orders").glob("*.parquet"):
        if file.name != "0-columns.parquet":
            assert file.samefile(lake / "shop/silver/orders" / file.name)


def test_files_keep_their_statistics_for_readers_that_skip(lake: Path) -> None:
    table = DeltaTable(lake / "published/shop/silver/orders")
    added = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    assert sorted(a["min.order_id"] for a in added) == ["b0", "b1", "b2"]
    assert all(a["num_records"] == 1 for a in added)


# ---- generations


def test_a_reader_that_has_resolved_a_generation_can_finish(lake: Path) -> None:
    before = (lake / "published/shop").resolve()
    publish_and_serve(lake, "b3")
    assert len(pd.read_parquet(before / "silver/orders")) == 3
    assert len(pd.read_parquet(lake / "published/shop/silver/orders")) == 4


def test_three_generations_stay_and_older_ones_go_after_ten_minutes(lake: Path) -> None:
    def made_long_ago() -> None:
        for folder in (lake / "published/.generations/shop").iterdir():
            os.utime(folder, (0, time.time() - 700))

    for number in range(3, 7):
        publish_and_serve(lake, f"b{number}")
    generations = lake / "published/.generations/shop"
    assert sorted(f.name for f in generations.iterdir()) == ["1", "2", "3", "4", "5"]
    made_long_ago()
    publish_and_serve(lake, "b7")
    # The last generation before b7 was seen until now; 3 was made and replaced long ago.
    assert sorted(f.name for f in generations.iterdir()) == ["4", "5", "6"]
    kept = {f.resolve() for g in generations.iterdir() for f in g.glob("*/*")}
    assert {f.resolve() for f in (lake / "published/.tables/shop").glob("*/*")} == kept


def test_vacuum_takes_nothing_that_a_generation_needs(lake: Path) -> None:
    before = (lake / "published/shop").resolve()
    publish_and_serve(lake, "b3")
    opened = Lake(lake, keep_days=0)
    for table, version in Manifest(opened).versions("shop").items():
        vacuum(opened, table, 0, [version], "lakegate test")
    assert DeltaTable(before / "gold/totals").to_pandas()["amount"].tolist() == [30]
    assert seen_in_folders(lake) == seen_in_database(lake) == (4, 4)


def test_housekeeping_shows_the_joined_files(lake: Path) -> None:
    opened = Lake(lake)
    versions = {"shop.silver.orders": compact(opened, "shop.silver.orders", "lakegate test", 2)}
    row = ManifestRow(batch_id="m", kind="maintenance", source="shop")
    publish_versions(opened, row, versions)
    serve_all(opened, settings(lake), raise_failure)
    assert len(DeltaTable(lake / "published/shop/silver/orders").file_uris()) == 1
    assert seen_in_folders(lake) == seen_in_database(lake) == (3, 3)


def test_a_crash_before_the_change_of_the_links_is_made_good(lake: Path) -> None:
    shop.publish(lake, "b3")
    assert seen_in_folders(lake) == (3, 3)
    (lake / "published/.staging/shop/generation").mkdir(parents=True)
    events: list[Progress] = []
    serve_all(Lake(lake), settings(lake), events.append)
    assert [(e.event, e.batch_id) for e in events] == [("serve.finished", "b3")]
    assert seen_in_folders(lake) == seen_in_database(lake) == (4, 4)
    assert document(lake)["batch_id"] == "b3"


def test_a_lake_from_a_backup_may_use_a_version_again(lake: Path) -> None:
    copy = shop.copy_of(lake, lake.parent.with_name("backup"))
    publish_and_serve(lake, "b3")
    for folder in ("shop", "ops"):
        shutil.rmtree(lake / folder)
        shutil.copytree(copy / folder, lake / folder)
    shop.publish(lake, "other")
    serve_all(Lake(lake), settings(lake), raise_failure)
    with duckdb.connect(lake / "shop.duckdb", read_only=True) as connection:
        found = connection.execute("SELECT order_id FROM silver.orders ORDER BY 1").fetchall()
    assert found == [("b0",), ("b1",), ("b2",), ("other",)]
    assert sorted(pd.read_parquet(lake / "published/shop/silver/orders")["order_id"]) == ["b0", "b1", "b2", "other"]


# ---- the DuckDB file


def test_an_open_connection_keeps_its_batch_and_a_new_one_sees_the_next(lake: Path) -> None:
    with duckdb.connect(lake / "shop.duckdb", read_only=True) as old:
        publish_and_serve(lake, "b3")
        assert old.execute("SELECT count(*) FROM silver.orders").fetchone() == (3,)
    assert seen_in_database(lake) == (4, 4)


def test_notes_of_a_connection_to_the_file_before_do_no_harm(lake: Path) -> None:
    (lake / "shop.duckdb.wal").write_bytes(b"of another file")
    publish_and_serve(lake, "b3")
    assert seen_in_database(lake) == (4, 4)


def test_a_container_may_see_the_lake_in_another_folder(lake: Path) -> None:
    elsewhere = lake.with_name("mounted")
    serve(Lake(lake), Manifest(Lake(lake)), settings(lake, prefix=str(elsewhere)), "shop", raise_failure)
    lake.rename(elsewhere)
    assert seen_in_database(elsewhere) == (3, 3)


def test_a_reader_may_name_the_folder_of_the_lake(lake: Path) -> None:
    elsewhere = lake.rename(lake.with_name("mounted"))
    with duckdb.connect(elsewhere / "shop.duckdb", read_only=True) as connection:
        connection.execute(f"SET VARIABLE lakegate_lake = '{elsewhere}'")
        assert connection.execute("SELECT count(*) FROM silver.orders").fetchone() == (3,)


# ---- descriptions


def test_descriptions_are_comments_in_every_place(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    empty = pa.table({"order_date": pa.array([], pa.date32()), "revenue": pa.array([], pa.decimal128(30, 6))})
    in_gold(lake, "retail", {"daily_sales": empty})
    table = DeltaTable(lake / "published/retail/gold/daily_sales")
    text = "Orders, revenue and profit by order date."
    assert table.metadata().description == text
    assert [f.metadata for f in table.schema().fields] == [{}, {"comment": "Sum of the order amounts (USD)"}]
    with duckdb.connect(lake / "retail.duckdb", read_only=True) as connection:
        of_view = connection.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'daily_sales'").fetchone()
        of_column = connection.execute(
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'daily_sales' AND column_name = 'revenue'"
        ).fetchone()
    assert (of_view, of_column) == ((text,), ("Sum of the order amounts (USD)",))


def test_every_declared_table_has_a_place_for_its_description() -> None:
    for source in registry.all_sources():
        names = set(descriptions(source, {}))
        assert {f"{source.name}.gold.{g.name}" for g in source.gold} <= names
        assert {f"{source.name}.silver.{f.name}" for f in source.feeds} <= names


# ---- what can go wrong


def test_without_hard_links_the_duckdb_file_is_made_and_the_reason_is_reported(
    tmp_path: Path, other_disk: Path
) -> None:
    lake = tmp_path / "lake"
    shop.publish(lake, "b0")
    (lake / "published").symlink_to(other_disk)
    events: list[Progress] = []
    serve(Lake(lake), Manifest(Lake(lake)), settings(lake), "shop", events.append)
    assert [(e.event, e.stage) for e in events] == [("serve.failed", "serve")]
    assert events[0].values["reason"] == (
        f"the file system of {lake}/published refuses links (Invalid cross-device link); read {lake}/shop.duckdb or "
        "use `lakegate sql`, or put the lake on a file system with hard links"
    )
    assert seen_in_database(lake) == (1, 1)
    assert not (other_disk / "shop").exists()
    (lake / "published").unlink()
    publish_and_serve(lake, "b1", report=raise_failure)
    assert seen_in_folders(lake) == seen_in_database(lake) == (2, 2)


def test_a_place_that_cannot_be_written_is_a_report_and_readers_keep_the_batch_before(lake: Path) -> None:
    shop.publish(lake, "b3")
    shutil.rmtree(lake / "published/.staging")
    (lake / "published/.staging").write_text("a file in the way")
    events: list[Progress] = []
    serve(Lake(lake), Manifest(Lake(lake)), settings(lake), "shop", events.append)
    (event,) = events
    assert (event.event, event.batch_id) == ("serve.failed", "b3")
    assert event.values["reason"] == (
        f"readers of shop may still see an earlier batch: File exists ({lake}/published/.staging); the next batch or "
        "start of the worker tries again"
    )
    assert seen_in_folders(lake) == seen_in_database(lake) == (3, 3)


def test_a_table_without_its_folder_is_a_report(lake: Path) -> None:
    shop.publish(lake, "b3")
    shutil.rmtree(lake / "shop/silver/orders")
    events: list[Progress] = []
    serve_all(Lake(lake), settings(lake), events.append)
    assert "shop/silver/orders holds no table any more; bring it back from a backup" in events[0].values["reason"]


def test_no_layers_mean_no_folders(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shop.publish(lake, "b0")
    events: list[Progress] = []
    off = replace(settings(lake), serve_layers=())
    serve_all(Lake(lake), off, events.append)
    serve(Lake(lake), Manifest(Lake(lake)), off, "shop", events.append)
    assert (events, (lake / "published").exists(), (lake / "shop.duckdb").exists()) == ([], False, False)


def test_no_folder_of_readers_is_a_table_of_the_lake(lake: Path) -> None:
    tables = {"shop.bronze.orders", "shop.silver.orders", "shop.gold.totals"}
    assert {t for t in Lake(lake).tables() if not t.startswith("ops.")} == tables
    assert {t.name for t in reader.tables(reader.published(lake)) if not t.name.startswith("ops.")} == tables


def test_folders_have_the_mode_of_the_lake(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shop.publish(lake, "b0")
    lake.chmod(0o2755)
    before = os.umask(0o077)
    try:
        serve_shop(lake)
    finally:
        os.umask(before)
    folders = [p for p in (lake / "published").rglob("*") if p.is_dir() and not p.is_symlink()]
    assert {oct(stat.S_IMODE(p.stat().st_mode)) for p in folders} == {"0o2755"}


def test_a_file_of_columns_comes_first_in_its_folder(lake: Path) -> None:
    names = sorted(p.name for p in (lake / "published/shop/gold/totals").glob("*.parquet"))
    assert names[0] == "0-columns.parquet"
    assert pq.read_metadata(lake / "published/shop/gold/totals" / names[0]).num_rows == 0

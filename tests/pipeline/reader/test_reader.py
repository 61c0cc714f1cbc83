"""The reader: it shows exactly the published versions, with the right types, quickly, and writes nothing."""

import datetime as dt
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from factories_published import MANIFEST, SALES, PublishedLake, sale

from pipeline import reader

DAILY = "retail.gold.daily_sales"


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> PublishedLake:
    made = PublishedLake(tmp_path_factory.mktemp("made") / "lake")
    made.create(DAILY)
    made.publish("retail", {DAILY: made.write(DAILY, [sale(1)])})
    made.create("crm.gold.customers")
    made.publish("crm", {"crm.gold.customers": 0})
    made.publish("retail", {DAILY: made.write(DAILY, [sale(2, "2.25")])})
    return made


@pytest.fixture
def lake(tmp_path: Path, two_days: PublishedLake) -> PublishedLake:
    """Daily sales with two published days, and a table of another source."""
    return two_days.copied(tmp_path / "lake")


def rows(lake: PublishedLake, query: str, batch: str | None = None) -> list[tuple[object, ...]]:
    return list(reader.sql(reader.published(lake.path, batch), query).rows)


def test_the_newest_row_of_each_source_names_the_versions(lake: PublishedLake) -> None:
    assert reader.published(lake.path).versions == {DAILY: 2, "crm.gold.customers": 0, "ops.batches": 3}


def test_unpublished_rows_are_not_read(lake: PublishedLake) -> None:
    lake.write(DAILY, [sale(3)])
    assert rows(lake, f"SELECT count(*), sum(revenue) FROM {DAILY}") == [(2, Decimal("3.75"))]


def test_removed_files_do_not_count(lake: PublishedLake) -> None:
    lake.publish("retail", {DAILY: lake.write(DAILY, [sale(9)], mode="overwrite")})
    assert rows(lake, f"SELECT order_date FROM {DAILY}") == [(dt.date(2026, 3, 9),)]


def test_an_older_batch_shows_the_tables_as_it_published_them(lake: PublishedLake) -> None:
    assert rows(lake, f"SELECT count(*) FROM {DAILY}", batch="b1") == [(1,)]
    with pytest.raises(reader.UnknownTableError, match="no batch b9 is published"):
        reader.published(lake.path, "b9")


def test_ops_tables_follow_the_newest_row_of_any_source(lake: PublishedLake) -> None:
    log = pa.schema([("batch_id", pa.string())])
    lake.create("ops.processing_log", log)
    first = lake.write("ops.processing_log", [{"batch_id": "b1"}], log)
    second = lake.write("ops.processing_log", [{"batch_id": "b4"}], log)
    lake.publish("retail", {DAILY: 2, "ops.processing_log": first})
    lake.publish("crm", {"crm.gold.customers": 0, "ops.processing_log": second})
    assert reader.published(lake.path).versions["ops.processing_log"] == second


def test_a_table_in_the_manifest_without_a_folder_is_left_out(lake: PublishedLake) -> None:
    lake.publish("retail", {DAILY: 2, "retail.gold.gone": 4})
    assert "retail.gold.gone" not in reader.published(lake.path).versions


def test_a_lake_that_is_not_there_has_no_tables(tmp_path: Path) -> None:
    state = reader.published(tmp_path / "nowhere")
    assert (state.versions, reader.tables(state), reader.fingerprints(tmp_path / "nowhere")) == ({}, (), {})
    with pytest.raises(reader.UnknownTableError, match="nothing is published"):
        reader.sql(state, f"FROM {DAILY}")
    assert not (tmp_path / "nowhere").exists()


def test_empty_tables_have_columns_of_the_right_types(lake: PublishedLake) -> None:
    found = reader.table(reader.published(lake.path), "crm.gold.customers", 5)
    assert found.rows == ()
    assert [(c.name, c.type) for c in found.columns] == [
        ("order_date", "DATE"),
        ("revenue", "DECIMAL(12,2)"),
        ("at", "TIMESTAMP WITH TIME ZONE"),
        ("tags", "MAP(VARCHAR, VARCHAR)"),
        ("orders", "BIGINT"),
        ("sizes", 'STRUCT("name" VARCHAR, n INTEGER)[]'),
    ]


def test_values_come_as_they_were_written(lake: PublishedLake) -> None:
    at = dt.datetime(2026, 3, 5, 10, 30, tzinfo=dt.UTC)
    lake.publish(
        "retail", {DAILY: lake.write(DAILY, [sale(5, "5.05", at=at, tags=[("a", "b")], sizes=[{"name": "s", "n": 2}])])}
    )
    found = reader.sql(reader.published(lake.path), f"FROM {DAILY} WHERE order_date = '2026-03-05'")
    nested = {"tags": {"a": "b"}, "sizes": [{"name": "s", "n": 2}]}
    assert reader.plain(found.records()) == [
        {"order_date": "2026-03-05", "revenue": Decimal("5.05"), "at": "2026-03-05T10:30:00Z", "orders": 1, **nested}
    ]


def test_columns_that_came_later_are_null_in_older_rows(lake: PublishedLake) -> None:
    wider = SALES.append(pa.field("profit", pa.decimal128(12, 2)))
    table = DeltaTable(lake.folder(DAILY))
    table.alter.add_columns([DeltaTable.create(str(lake.path / "x"), schema=wider).schema().fields[-1]])
    lake.publish("retail", {DAILY: DeltaTable(lake.folder(DAILY)).version()})
    assert rows(lake, f"SELECT profit FROM {DAILY}") == [(None,), (None,)]
    lake.publish("retail", {DAILY: lake.write(DAILY, [sale(4, profit=Decimal("0.45"))], wider)})
    assert sorted(map(str, rows(lake, f"SELECT profit FROM {DAILY}"))) == ["(Decimal('0.45'),)", "(None,)", "(None,)"]


def test_ops_tables_go_by_two_names_and_joins_by_three(lake: PublishedLake) -> None:
    query = (
        f"SELECT b.batch_id, d.revenue FROM ops.batches b JOIN {DAILY} d ON day(d.order_date) = b.batch_seq ORDER BY 1"
    )
    assert rows(lake, query) == [("b1", Decimal("1.50")), ("b2", Decimal("2.25"))]


def test_names_are_taken_in_any_case_and_in_quotes(lake: PublishedLake) -> None:
    assert rows(lake, 'SELECT count(*) FROM RETAIL.Gold."DAILY_sales"') == [(2,)]


def test_two_columns_of_one_name_both_stay(lake: PublishedLake) -> None:
    found = reader.sql(reader.published(lake.path), "SELECT 1 AS a, 2 AS a, 3 AS a")
    assert found.records() == [{"a": 1, "a_2": 2, "a_3": 3}]


def test_a_lake_may_lie_in_a_folder_with_an_awkward_name(tmp_path: Path) -> None:
    lake = PublishedLake(tmp_path / "it's the Größte, lake")
    lake.create(DAILY)
    lake.publish("retail", {DAILY: lake.write(DAILY, [sale(1)])})
    assert rows(lake, f"SELECT count(*) FROM {DAILY}") == [(1,)]


@pytest.mark.parametrize("query", ["SHOW ALL TABLES", "SELECT table_name FROM information_schema.tables"])
def test_the_sql_catalog_lists_every_published_table(lake: PublishedLake, query: str) -> None:
    assert {"daily_sales", "customers", "batches"} <= {str(cell) for row in rows(lake, query) for cell in row}


def test_show_tables_lists_full_names(lake: PublishedLake) -> None:
    for query in ("SHOW TABLES", " show tables;\n"):
        assert rows(lake, query) == [("crm.gold.customers",), ("ops.batches",), (DAILY,)]


@pytest.mark.parametrize("name", ["daily_sales", "gold.daily_sales", "Daily_Sales", "batches", "customers"])
def test_the_end_of_a_name_is_enough_where_no_other_table_ends_so(lake: PublishedLake, name: str) -> None:
    assert len(rows(lake, f"SELECT count(*) FROM {name}")) == 1


def test_an_end_of_two_tables_is_refused_with_both_names(lake: PublishedLake) -> None:
    lake.create("retail.bronze.daily_sales")
    lake.publish("retail", {DAILY: 2, "retail.bronze.daily_sales": 0})
    with pytest.raises(reader.UnknownTableError) as caught:
        rows(lake, "FROM daily_sales")
    both = "retail.bronze.daily_sales or retail.gold.daily_sales"
    assert str(caught.value) == f"no table daily_sales; did you mean {both}?"
    assert rows(lake, "SELECT count(*) FROM gold.daily_sales") == [(2,)]


def test_a_table_of_another_source_is_not_in_a_batch(lake: PublishedLake) -> None:
    with pytest.raises(reader.UnknownTableError) as caught:
        rows(lake, f"FROM {DAILY}", batch="b2")
    assert str(caught.value) == f"no table {DAILY} in batch b2, which is of crm; name a batch of retail"


# ---- internal columns

INTERNAL = pa.schema([("id", pa.string()), ("_rows", pa.int64()), ("_Source", pa.string())])


@pytest.fixture
def counted(lake: PublishedLake) -> PublishedLake:
    name = "retail.gold.counted"
    lake.create(name, INTERNAL)
    rows = [{"id": "b", "_rows": 1, "_Source": "x"}, {"id": "a", "_rows": 2, "_Source": "y"}]
    lake.publish("retail", {DAILY: 2, name: lake.write(name, rows, INTERNAL)})
    return lake


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("FROM counted", ["id"]),
        ("SELECT _rows FROM counted", ["_rows"]),
        ("SELECT * FROM counted WHERE _rows > 1", ["id", "_rows"]),
        ('SELECT id, "_Source" AS s FROM counted', ["id", "s"]),
        ("DESCRIBE counted", ["column_name", "column_type", "null", "key", "default", "extra"]),
    ],
)
def test_internal_columns_are_there_where_the_query_names_them(
    counted: PublishedLake, query: str, columns: list[str]
) -> None:
    assert [c.name for c in reader.sql(reader.published(counted.path), query).columns] == columns


def test_internal_columns_are_shown_on_demand(counted: PublishedLake) -> None:
    found = reader.sql(reader.published(counted.path), "FROM counted", internal=True)
    assert [c.name for c in found.columns] == ["id", "_rows", "_Source"]


def test_a_table_is_shown_in_the_order_of_its_grain_without_internal_columns(counted: PublishedLake) -> None:
    state = reader.published(counted.path)
    assert reader.table(state, "retail.gold.counted", 5, order_by=("id", "gone")).records() == [
        {"id": "a"},
        {"id": "b"},
    ]
    first = reader.table(state, "retail.gold.counted", 1, order_by=("_rows",), internal=True)
    assert first.records() == [{"id": "b", "_rows": 1, "_Source": "x"}]


def test_a_table_of_internal_columns_alone_shows_them(lake: PublishedLake) -> None:
    only = pa.schema([("_rows", pa.int64())])
    lake.create("retail.gold.only", only)
    lake.publish("retail", {"retail.gold.only": lake.write("retail.gold.only", [{"_rows": 7}], only)})
    assert rows(lake, "FROM retail.gold.only") == [(7,)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("FROM retail.gold.daily_sale", "did you mean retail.gold.daily_sales?"),
        ("FROM retial.gold.daily_sales", "no table retial.gold.daily_sales; did you mean retail.gold.daily_sales?"),
        ("FROM retail.glod.daily_sales", "did you mean retail.gold.daily_sales?"),
        ("FROM daily_sale", "did you mean retail.gold.daily_sales?"),
        ("FROM zzz", "no table zzz; `lakegate tables` lists them"),
    ],
)
def test_the_error_for_an_unknown_table_names_similar_tables(lake: PublishedLake, query: str, expected: str) -> None:
    with pytest.raises(reader.UnknownTableError) as caught:
        rows(lake, query)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "no statement"),
        ("SELEC 1", "syntax error"),
        (f"SELECT revenu FROM {DAILY}", "revenu"),
        ("DROP SCHEMA retail.gold", "only reading statements"),
        ("SELECT 1; CREATE TABLE x (a INT)", "only reading statements"),
        ("ATTACH '/tmp/x.db'", "only reading statements"),
        ("INSTALL httpfs", "only reading statements"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
    ],
)
def test_invalid_and_forbidden_sql_is_refused_in_one_line(lake: PublishedLake, query: str, expected: str) -> None:
    with pytest.raises(reader.QueryError, match=expected) as caught:
        rows(lake, query)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrapped", ["{}", "EXPLAIN ANALYZE {}", "EXPLAIN (ANALYZE, FORMAT json) {}"])
def test_no_query_writes_into_the_lake(lake: PublishedLake, wrapped: str) -> None:
    before = sorted(lake.path.rglob("*"))
    with pytest.raises(reader.QueryError, match="only reading statements"):
        rows(lake, wrapped.format(f"COPY (SELECT 1) TO '{lake.path}/x.csv'"))
    assert sorted(lake.path.rglob("*")) == before


def test_tables_are_described_from_the_log_alone(lake: PublishedLake) -> None:
    by_name = {t.name: t for t in reader.tables(reader.published(lake.path))}
    daily, empty = by_name[DAILY], by_name["crm.gold.customers"]
    assert (daily.version, daily.rows, daily.files) == (2, 2, 2)
    assert daily.bytes == sum(p.stat().st_size for p in Path(lake.folder(DAILY)).glob("*.parquet"))
    assert (empty.rows, empty.bytes, empty.written_at) == (0, 0, None)


def test_newer_versions_are_the_unpublished_commits(lake: PublishedLake) -> None:
    assert reader.newer_versions(reader.published(lake.path)) == {}
    DeltaTable(lake.folder(DAILY)).delete("orders = 1")
    assert reader.newer_versions(reader.published(lake.path)) == {DAILY: 3}


def test_fingerprints_are_those_of_the_newest_batches(lake: PublishedLake) -> None:
    lake.publish("retail", {DAILY: 2}, fingerprint="old")
    lake.publish("retail", {DAILY: 2}, fingerprint="new")
    lake.publish("retail", {DAILY: 2}, kind="undone")
    assert reader.fingerprints(lake.path) == {"retail": "new"}


@pytest.mark.long
def test_the_newest_versions_are_found_among_many_small_files(tmp_path: Path) -> None:
    lake = PublishedLake(tmp_path / "lake")
    lake.create(DAILY)
    lake.create("crm.gold.customers")
    version = lake.write(DAILY, [sale(1)])
    lake.publish("retail", {DAILY: 0})
    published_at = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    for seq in range(2, 82):
        source, versions = (
            ("crm", [("crm.gold.customers", 0)]) if seq % 5 else ("retail", [(DAILY, version if seq == 80 else 0)])
        )
        row = {
            "batch_id": f"b{seq}",
            "batch_seq": seq,
            "kind": "batch",
            "source": source,
            "published_at": published_at,
            "table_versions": versions,
        }
        lake.write("ops.batches", [row], MANIFEST)
    began = time.perf_counter()
    state = reader.published(lake.path)
    assert time.perf_counter() - began < 0.4
    assert state.versions == {DAILY: version, "crm.gold.customers": 0, "ops.batches": 81}
    DeltaTable(lake.folder("ops.batches")).optimize.compact()
    assert reader.published(lake.path).versions[DAILY] == version


def test_reading_loads_no_engine_and_nothing_slow(lake: PublishedLake) -> None:
    program = (
        "import sys; from pathlib import Path; from pipeline import reader; s = reader.published(Path(sys.argv[1]));"
        f"reader.sql(s, 'SELECT sum(revenue), max(order_date) FROM {DAILY}'); reader.tables(s);"
        "print(sorted({'pyspark', 'pysail', 'pandas', 'pyarrow.dataset'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program, str(lake.path)], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "[]"

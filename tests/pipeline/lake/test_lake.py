"""Tables, versions and rows of the lake, on real Delta tables and real engines."""

import datetime as dt
import tempfile
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from effort import tries
from factories_pipeline import on_spark
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.engine.session import Session
from pipeline.lake.lake import Lake
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.model import columns_of

ORDERS = "retail.silver.orders"
COLUMNS = columns_of(
    "order_id STRING, Day DATE, amount DECIMAL(12,2), seen TIMESTAMP, is_open BOOLEAN, items INT, total BIGINT"
)
AT = dt.datetime(2026, 3, 2, 10, 30, tzinfo=dt.UTC)
DAY = dt.date(2026, 3, 2)
ROW = {"order_id": "O1", "Day": DAY, "amount": Decimal("1.25"), "seen": AT, "is_open": True, "items": 2, "total": 3}
EMPTY = dict.fromkeys(ROW)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake")
    made.scratch.open("b1")
    return made


@pytest.fixture
def engine_lake(tmp_path: Path, session: Session) -> Lake:
    made = Lake(tmp_path / "länder & mehr" / "lake", session)
    made.scratch.open("b1")
    return made


def rows_of(lake: Lake, table: str = ORDERS, version: int | None = None) -> list[dict[str, Any]]:
    rows = lake.arrow(table, version).to_pylist(maps_as_pydicts="strict")
    return sorted(rows, key=lambda row: [(v is not None, str(v)) for v in row.values()])


def materialized(
    lake: Lake, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, name: str = "change"
) -> MaterializedRows:
    path = lake.scratch.folder / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return lake.scratch.open_parquet(path)


def signed(lake: Lake, table: str, *rows: Mapping[str, Any]) -> MaterializedRows:
    return materialized(lake, rows, lake.schema(table).append(pa.field("_sign", pa.int32())))


# ---- creating and reading


def test_the_newest_version_is_found_from_every_commit_that_is_known(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    other = Lake(lake.path)
    for version in range(1, 4):
        assert lake.append(ORDERS, signed(lake, ORDERS, ROW), "t") == version
        assert (lake.version(ORDERS), Lake(lake.path).version(ORDERS)) == (version, version)
    assert other.version(ORDERS) == 3
    log = lake.location(ORDERS) / "_delta_log"
    assert lake.schema(ORDERS).names == [c.name for c in COLUMNS]  # version 3 is open now
    for version in (0, 3):  # the log was cleaned up, and a backup came back
        (log / f"{version:020d}.json").unlink()
    assert (lake.version(ORDERS), Lake(lake.path).version(ORDERS)) == (2, 2)


def test_a_new_table_is_empty_at_version_0_nullable_and_readable_by_any_delta_reader(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    delta = DeltaTable(lake.location(ORDERS))
    assert (lake.version(ORDERS), lake.arrow(ORDERS).num_rows, lake.exists(ORDERS)) == (0, 0, True)
    assert delta.protocol().min_reader_version == 1
    assert all(f.nullable for f in delta.schema().fields)
    assert lake.tables() == (ORDERS,)
    assert lake.location(ORDERS) == lake.path / "retail" / "silver" / "orders"


def test_the_engine_reads_each_version_with_its_types_and_an_empty_one_too(engine_lake: Lake) -> None:
    engine_lake.create(ORDERS, COLUMNS)
    engine_lake.append(ORDERS, pa.Table.from_pylist([ROW, EMPTY]), "t")
    engine_lake.append(ORDERS, pa.Table.from_pylist([ROW]), "t")
    counts = [engine_lake.read(ORDERS, v).count() for v in (0, 1, 2)]
    df = engine_lake.read(ORDERS, 1)
    assert counts == [0, 2, 3]
    assert (
        df.schema.simpleString()
        == "struct<order_id:string,Day:date,amount:decimal(12,2),seen:timestamp,is_open:boolean,items:int,total:bigint>"
    )
    assert engine_lake.read(ORDERS, 0).schema == df.schema
    # compared inside the engine: a driver shows timestamps without their zone
    assert (
        df.where(
            "order_id = 'O1' and Day = date'2026-03-02' and amount = 1.25 and is_open "
            "and seen = timestamp'2026-03-02 10:30:00'"
        ).count()
        == 1
    )


def test_the_engine_reads_only_the_columns_that_are_asked_for_in_their_order(engine_lake: Lake) -> None:
    engine_lake.create(ORDERS, COLUMNS)
    engine_lake.append(ORDERS, pa.Table.from_pylist([ROW]), "t")
    for version in (0, 1):
        assert engine_lake.read(ORDERS, version, ["items", "order_id"]).columns == ["items", "order_id"]
    assert [tuple(r) for r in engine_lake.read(ORDERS, 1, ["items", "order_id"]).collect()] == [(2, "O1")]


def test_files_that_lie_outside_of_what_is_asked_for_are_not_read(engine_lake: Lake) -> None:
    engine_lake.create(ORDERS, COLUMNS)
    days = [AT + dt.timedelta(days=n) for n in range(4)]
    for n, seen in enumerate(days):
        engine_lake.append(
            ORDERS,
            pa.table(
                {"order_id": [f"O{n}", f"P{n}"], "seen": [seen, None if n == 3 else seen + dt.timedelta(hours=1)]}
            ),
            "t",
        )

    def read(low: dt.datetime | None, high: dt.datetime | None) -> list[str]:
        return sorted(
            row[0] for row in engine_lake.read(ORDERS, 4, ["order_id"], within={"seen": (low, high)}).collect()
        )

    assert read(days[1] + dt.timedelta(hours=1), days[2]) == ["O1", "O2", "P1", "P2"]
    assert read(days[3], days[3]) == ["O3", "P3"]  # of a file that is read every row is
    assert read(days[3] + dt.timedelta(hours=2), days[3] + dt.timedelta(hours=3)) == []
    assert read(None, None) == []


@pytest.mark.parametrize("column", ["amount", "is_open", "order_id"])
def test_all_files_are_read_where_the_log_has_no_statistics_of_a_column_or_of_another_type(
    engine_lake: Lake, column: str
) -> None:
    engine_lake.create(ORDERS, COLUMNS)
    engine_lake.append(ORDERS, pa.Table.from_pylist([ROW], schema=engine_lake.schema(ORDERS)), "t")
    low = {"amount": Decimal(5), "is_open": False, "order_id": AT}[column]
    assert engine_lake.read(ORDERS, 1, within={column: (low, low)}).count() == 1


def test_a_file_that_is_gone_is_an_error_and_never_no_rows(engine_lake: Lake) -> None:
    engine_lake.create(ORDERS, COLUMNS)
    engine_lake.append(ORDERS, pa.Table.from_pylist([ROW]), "t")
    for file in engine_lake.location(ORDERS).glob("*.parquet"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"retail.silver.orders version 1: its file .* is gone"):
        engine_lake.read(ORDERS, 1)


def test_rows_of_before_a_new_column_show_it_as_null(engine_lake: Lake) -> None:
    engine_lake.create(ORDERS, columns_of("order_id STRING"))
    engine_lake.append(ORDERS, pa.table({"order_id": ["O1"]}), "t")
    version = engine_lake.add_columns(ORDERS, pa.schema([("tier", pa.string())]), "t")
    engine_lake.append(ORDERS, pa.table({"order_id": ["O2"], "tier": ["gold"]}), "t")
    assert version == 2
    assert sorted(map(tuple, engine_lake.read(ORDERS, 3).collect())) == [("O1", None), ("O2", "gold")]
    assert engine_lake.read(ORDERS, 1).columns == ["order_id"]


def test_arrow_reads_a_version_some_columns_and_a_filter_without_an_engine(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    lake.append(ORDERS, pa.Table.from_pylist([ROW, {**ROW, "order_id": "O2"}]), "t")
    found = lake.arrow(ORDERS, 1, ["order_id"], pc.field("order_id") == "O2")
    assert found.to_pylist() == [{"order_id": "O2"}]
    assert lake.arrow(ORDERS, 0).num_rows == 0


@pytest.mark.parametrize("path", ["a[1]", "a*", "a{b}", "a?", "a#b", "100%"])
def test_a_lake_path_that_readers_take_for_a_pattern_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"choose another \[lake\] path"):
        Lake(tmp_path / path)


@pytest.mark.parametrize("name", ["orders", "retail..orders", "../etc.x", "retail/silver.orders", ""])
def test_a_table_name_cannot_lead_out_of_the_lake(lake: Lake, name: str) -> None:
    with pytest.raises(ValueError, match="is not a table's name"):
        lake.location(name)


# ---- appending


def test_appended_rows_bind_by_name_take_the_tables_types_and_lack_columns_as_null(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    rows = pa.table(
        {"total": pa.array([7], pa.int32()), "surplus": ["x"], "order_id": pa.array(["O1"], pa.large_string())}
    )
    assert lake.append(ORDERS, rows, "t") == 1
    assert rows_of(lake) == [{**EMPTY, "order_id": "O1", "total": 7}]


def test_a_value_that_does_not_fit_the_tables_type_is_an_error_and_no_commit(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    for wrong in ({"items": [2**40]}, {"amount": [Decimal("1.255")]}, {"Day": ["soon"]}):
        with pytest.raises(pa.ArrowInvalid):
            lake.append(ORDERS, pa.table(wrong), "t")
    assert lake.version(ORDERS) == 0


def test_no_rows_make_no_commit(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    empty = materialized(lake, [], lake.schema(ORDERS))
    assert lake.append(ORDERS, empty, "t") == 0
    assert lake.append(ORDERS, lake.schema(ORDERS).empty_table(), "t") == 0
    assert lake.change(ORDERS, ["order_id"], signed(lake, ORDERS), "t") == 0


def test_maps_lists_and_structs_come_back_as_they_were(engine_lake: Lake) -> None:
    file = pa.struct([("name", pa.string()), ("bytes", pa.int64())])
    schema = pa.schema(
        [("_extra", pa.map_(pa.string(), pa.string())), ("reasons", pa.list_(pa.string())), ("files", pa.list_(file))]
    )
    engine_lake.create("ops.things", schema)
    df = engine_lake.session.spark.sql(  # type: ignore[union-attr]
        "select map('a', 'b') _extra, array('x', 'y') reasons, array(named_struct('name', 'f', 'bytes', 5L)) files "
        "union all select null, null, null"
    )
    engine_lake.append("ops.things", engine_lake.scratch.materialize(df, "things"), "t")
    want = [
        {"_extra": None, "reasons": None, "files": None},
        {"_extra": {"a": "b"}, "reasons": ["x", "y"], "files": [{"name": "f", "bytes": 5}]},
    ]
    assert rows_of(engine_lake, "ops.things") == want
    assert (
        engine_lake.read("ops.things", 1).where("_extra['a'] = 'b' and files[0].bytes = 5 and reasons[1] = 'y'").count()
        == 1
    )


def test_many_new_rows_are_laid_out_by_key(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    count = 60_000
    ids = [f"O{(i * 7919) % count:06d}" for i in range(count)]
    table = pa.table(
        {"order_id": ids, "items": pa.array(range(count), pa.int32()), "_sign": pa.array([1] * count, pa.int32())}
    )
    pq.write_table(table, lake.scratch.folder / "many.parquet")
    lake.change(ORDERS, ["order_id"], lake.scratch.open_parquet(lake.scratch.folder / "many.parquet"), "t")
    found = lake.arrow(ORDERS, columns=["order_id"])["order_id"].to_pylist()
    assert found == sorted(ids)


def test_the_engine_writes_the_same_rows_and_this_process_commits_them(session: Session, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", session, engine_rows=1)
    lake.scratch.open("b1")
    lake.create(ORDERS, COLUMNS)
    rows = lake.scratch.materialize(
        session.spark.sql(
            "select 'O1' order_id, timestamp'2026-03-02 10:30:00' seen, cast(2 as int) items, 'x' surplus"
        ),
        "rows",
    )
    assert lake.append(ORDERS, rows, "lakegate b1/1") == 1
    assert rows_of(lake) == [{**EMPTY, "order_id": "O1", "seen": AT, "items": 2}]
    assert [c.tag for c in lake.commits(ORDERS, 0)] == ["lakegate b1/1"]
    assert DeltaTable(lake.location(ORDERS)).history(1)[0]["engineInfo"] == "Lakegate"
    assert {p.suffix for p in lake.location(ORDERS).iterdir() if p.name != "_delta_log"} == {".parquet"}
    assert lake.read(ORDERS, 1).where("seen = timestamp'2026-03-02 10:30:00'").count() == 1


@on_spark
def test_a_row_is_found_in_a_file_whose_statistics_spark_cut_to_milliseconds(session: Session, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", session)
    lake.scratch.open("b1")
    lake.create("a.t", columns_of("seen TIMESTAMP, n INT"))
    row = "select timestamp'2026-03-02 10:30:00.000999' seen"
    session.spark.sql(f"{row}, 1 n").write.format("delta").mode("append").save(str(lake.location("a.t")))
    lake.change(
        "a.t",
        ["seen"],
        lake.scratch.materialize(session.spark.sql(f"{row}, 1 n, -1 _sign union all {row}, 2 n, 1 _sign"), "then"),
        "t",
    )
    assert rows_of(lake, "a.t") == [{"seen": AT.replace(microsecond=999), "n": 2}]


# ---- changing


def test_a_change_deletes_replaces_and_inserts_in_one_commit(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    old = [{**ROW, "order_id": k} for k in ("gone", "changed", "untouched")]
    lake.append(ORDERS, pa.Table.from_pylist(old), "t")
    change = signed(
        lake,
        ORDERS,
        {**old[0], "_sign": -1},
        {**old[1], "_sign": -1},
        {**old[1], "items": 9, "_sign": 1},
        {**ROW, "order_id": "new", "_sign": 1},
    )
    assert lake.change(ORDERS, ["order_id"], change, "t") == 2
    assert {r["order_id"]: r["items"] for r in rows_of(lake)} == {"changed": 9, "untouched": 2, "new": 2}


def test_a_change_without_old_rows_is_an_append(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    lake.change(ORDERS, ["order_id"], signed(lake, ORDERS, {**ROW, "_sign": 1}), "t")
    assert (rows_of(lake), lake.commits(ORDERS, 0)[0].operation) == ([ROW], "WRITE")


def test_two_new_rows_for_one_key_are_refused(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    rows = ({**ROW, "_sign": 1}, {**ROW, "items": 5, "_sign": 1}, {**ROW, "_sign": -1})
    with pytest.raises(ValueError, match=r"retail.silver.orders: a change holds two new rows for one key \(order_id\)"):
        lake.change(ORDERS, ["order_id"], signed(lake, ORDERS, *rows), "t")


@pytest.mark.parametrize("text", ["a\tb", "\x00", "ü", "￿", "🛒", "𠮷野家", "\U0010ffff"])
def test_a_row_is_found_by_a_key_of_any_character(lake: Lake, text: str) -> None:
    lake.create("a.t", columns_of("text STRING"))
    for sign in (1, -1):
        lake.change("a.t", ["text"], signed(lake, "a.t", {"text": text, "_sign": sign}), "t")
    assert lake.arrow("a.t").num_rows == 0


TEXTS = st.text(st.characters(codec="utf-8"), max_size=3) | st.sampled_from(["a'b", 'a"b', "a\\b", "\n", "%", "ü", ""])
KEYS = {
    "text STRING": st.none() | TEXTS,
    "text STRING, n INT": st.tuples(st.sampled_from(["a", "b", None]), st.integers(-3, 3)),
    "n BIGINT": st.integers(-(2**63), 2**63 - 1),
    "day DATE": st.dates(dt.date(1600, 1, 1), dt.date(9999, 12, 31)) | st.none(),
    "text STRING, seen TIMESTAMP": st.tuples(
        st.sampled_from("ab"),
        st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC)),  # noqa: DTZ001
    ),
    "amount DECIMAL(20,4)": st.decimals(-1000, 1000, places=4),
    "is_open BOOLEAN, n INT": st.tuples(st.booleans() | st.none(), st.integers(0, 2)),
}


@pytest.mark.parametrize("key_columns", list(KEYS))
@settings(
    max_examples=tries(quick=6, every=12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_sequence_of_changes_leaves_what_a_dictionary_holds(
    tmp_path: Path, key_columns: str, data: st.DataObject
) -> None:
    """The law of `change`: keys of every type, nulls and odd characters included."""
    assert_changes_as_a_dictionary(Lake(Path(tempfile.mkdtemp(dir=tmp_path))), key_columns, data)


@pytest.mark.parametrize("key_columns", list(KEYS))
@settings(
    max_examples=tries(quick=2, every=8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changes_that_the_engine_writes_leave_the_same(
    session: Session, tmp_path: Path, key_columns: str, data: st.DataObject
) -> None:
    """The same law, with every file written by the engine."""
    lake = Lake(Path(tempfile.mkdtemp(dir=tmp_path)), session, engine_rows=1)
    assert_changes_as_a_dictionary(lake, key_columns, data)


def assert_changes_as_a_dictionary(lake: Lake, key_columns: str, data: st.DataObject) -> None:
    key = [c.name for c in columns_of(key_columns)]
    lake.scratch.open("b1")
    lake.create("a.t", [*columns_of(key_columns), *columns_of("value INT")])
    schema = lake.schema("a.t").append(pa.field("_sign", pa.int32()))
    state: dict[Any, int] = {}
    for turn in range(2):
        incoming = data.draw(st.dictionaries(KEYS[key_columns], st.none() | st.integers(0, 9), max_size=6))
        old = data.draw(st.sets(st.sampled_from(list(state)))) if state else set()
        touched = {k: v for k, v in incoming.items() if v is not None or k in state} | {
            k: None for k in old if k not in incoming
        }
        rows = [{**_key(key, k), "value": state[k], "_sign": -1} for k in touched if k in state]
        rows += [{**_key(key, k), "value": v, "_sign": 1} for k, v in touched.items() if v is not None]
        lake.change("a.t", key, materialized(lake, rows, schema, f"turn{turn}"), "t")
        state = {k: v for k, v in (state | touched).items() if v is not None}
        found = {tuple(r[c] for c in key): r["value"] for r in lake.arrow("a.t").to_pylist()}
        assert found == {k if isinstance(k, tuple) else (k,): v for k, v in state.items()}
        assert lake.arrow("a.t").num_rows == len(state)


def _key(names: Sequence[str], value: Any) -> dict[str, Any]:
    return dict(zip(names, value if isinstance(value, tuple) else (value,), strict=True))


# ---- commits


def test_every_commit_carries_its_tag_and_a_restore_says_which_version_it_brought_back(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    lake.append(ORDERS, pa.Table.from_pylist([ROW]), "lakegate b1/1")
    lake.change(ORDERS, ["order_id"], signed(lake, ORDERS, {**ROW, "_sign": -1}), "lakegate b1/2")
    assert lake.restore(ORDERS, 1, "lakegate b1/3") == 3
    DeltaTable(lake.location(ORDERS)).delete()
    seen = [(c.version, c.operation, c.tag, c.restored) for c in lake.commits(ORDERS, 0)]
    assert seen == [
        (1, "WRITE", "lakegate b1/1", None),
        (2, "WRITE", "lakegate b1/2", None),
        (3, "RESTORE", "lakegate b1/3", 1),
        (4, "DELETE", None, None),
    ]
    assert [c.version for c in lake.commits(ORDERS, 3)] == [4]
    assert lake.commits(ORDERS, 4) == []
    assert [lake.is_newest(ORDERS, v) for v in (3, 4, 5)] == [False, True, False]


def test_a_restored_table_has_the_rows_and_columns_of_the_older_version(lake: Lake) -> None:
    lake.create(ORDERS, columns_of("order_id STRING"))
    lake.append(ORDERS, pa.table({"order_id": ["O1"]}), "t")
    lake.add_columns(ORDERS, pa.schema([("tier", pa.string())]), "t")
    lake.append(ORDERS, pa.table({"order_id": ["O2"]}), "t")
    lake.restore(ORDERS, 1, "t")
    assert rows_of(lake) == [{"order_id": "O1"}]
    lake.restore(ORDERS, 0, "t")
    assert rows_of(lake) == []


# ---- materialized rows


def test_materialized_rows_are_counted_and_read_with_and_without_the_engine(engine_lake: Lake) -> None:
    spark = engine_lake.session.spark  # type: ignore[union-attr]
    columns = "'a' k, timestamp'2026-03-02 10:30:00' seen, cast(1.5 as decimal(9,2)) amount, date'2026-03-02' day"
    df = spark.sql(f"select {columns} union all select null, null, null, null")
    rows = engine_lake.scratch.materialize(df, "some/name")
    assert rows.rows == 2
    assert {"k": "a", "seen": AT, "amount": Decimal("1.50"), "day": DAY} in rows.arrow().to_pylist()
    assert rows.arrow(["amount", "k"]).column_names == ["amount", "k"]
    assert rows.df.where("seen = timestamp'2026-03-02 10:30:00' and amount = 1.5").count() == 1
    again = engine_lake.scratch.open_parquet(rows.path)
    assert (again.rows, again.df.columns, again.schema) == (2, ["k", "seen", "amount", "day"], rows.schema)


def test_no_rows_can_be_materialized(engine_lake: Lake) -> None:
    df = engine_lake.session.spark.sql("select 1 a, map('x', 'y') m where false")  # type: ignore[union-attr]
    rows = engine_lake.scratch.materialize(df, "none")
    assert (rows.rows, rows.df.count(), rows.df.columns, rows.arrow().column_names) == (0, 0, ["a", "m"], ["a", "m"])


def test_materialized_rows_go_with_their_scratch_folder(engine_lake: Lake) -> None:
    rows = engine_lake.scratch.materialize(engine_lake.session.spark.sql("select 1 a"), "rows")  # type: ignore[union-attr]
    assert rows.path.is_relative_to(engine_lake.path / "_work" / "b1")
    engine_lake.scratch.clear()
    assert not (engine_lake.path / "_work").exists()


@pytest.mark.parametrize(("count", "is_file"), [(3, False), (200_000, True)])
def test_rows_of_this_process_are_read_alike_from_memory_and_from_their_file(
    lake: Lake, count: int, is_file: bool
) -> None:
    table = pa.table({"n": pa.array(range(count), pa.int64()), "at": pa.array([AT] * count)})
    rows = lake.scratch.write(table, "rows")
    assert (rows.rows, rows.min_max("n"), rows.arrow(["n"]).equals(table.select(["n"]))) == (
        count,
        (0, count - 1),
        True,
    )
    assert rows.path.exists() == is_file
    assert [pq.read_table(file).num_rows for file in rows.files] == [count]
    assert lake.scratch.open_parquet(rows.path).arrow().equals(rows.arrow())


def test_rows_that_are_gone_are_an_error_and_never_no_rows(lake: Lake) -> None:
    lake.create(ORDERS, COLUMNS)
    rows = signed(lake, ORDERS, {**ROW, "_sign": 1})
    lake.scratch.clear()
    with pytest.raises(FileNotFoundError, match="the rows that were computed are gone"):
        lake.change(ORDERS, ["order_id"], rows, "t")


def test_the_lowest_and_highest_values_are_found_behind_nested_columns_and_among_nulls(lake: Lake) -> None:
    schema = pa.schema(
        [
            ("extra", pa.map_(pa.string(), pa.string())),
            ("n", pa.int32()),
            ("at", pa.timestamp("us", "UTC")),
            ("nothing", pa.int64()),
        ]
    )
    some = materialized(
        lake,
        [
            {"extra": [("a", "b")], "n": 3, "at": AT},
            {"n": -1, "at": None},
            {"n": None, "at": AT + dt.timedelta(microseconds=1)},
        ],
        schema,
    )
    assert (some.min_max("n"), some.min_max("at"), some.min_max("nothing")) == (
        (-1, 3),
        (AT, AT + dt.timedelta(microseconds=1)),
        (None, None),
    )
    assert materialized(lake, [], schema, "none").min_max("n") == (None, None)


def test_the_lowest_and_highest_values_are_read_where_there_are_no_statistics(lake: Lake) -> None:
    path = lake.scratch.folder / "without_statistics.parquet"
    pq.write_table(pa.table({"n": [5, None, 2]}), path, write_statistics=False)
    assert lake.scratch.open_parquet(path).min_max("n") == (2, 5)


def test_the_lowest_and_highest_of_texts_too_long_for_statistics_are_found(engine_lake: Lake) -> None:
    rows = engine_lake.scratch.materialize(
        engine_lake.session.spark.sql("SELECT explode(array('', repeat('x', 5000))) AS text"), "long"
    )  # type: ignore[union-attr]
    low, high = rows.min_max("text")
    assert low == ""
    assert high.startswith("x")

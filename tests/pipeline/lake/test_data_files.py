"""Data files: rows in order, files of one size, statistics for Delta's log, and rows found by keys of every kind."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lake.data_files import LONGEST_TEXT, describe_file, write_files
from pipeline.lake.merge import MergeSource, key_numbers

UTC_MICROS = pa.timestamp("us", "UTC")
AT = dt.datetime(2026, 3, 2, 10, 30, 0, 7, tzinfo=dt.UTC)
NUMBERS = pa.schema([("n", pa.int64())])


def numbers(count: int) -> list[pa.RecordBatch]:
    return pa.table({"n": range(count)}, NUMBERS).to_batches(max_chunksize=100)


@pytest.mark.parametrize(
    ("count", "files"), [(0, 0), (1, 1), (999, 1), (1499, 1), (1500, 2), (10_000, 10), (10_400, 10), (10_600, 11)]
)
def test_rows_keep_their_order_in_files_of_one_size_none_of_them_tiny(tmp_path: Path, count: int, files: int) -> None:
    written = write_files(tmp_path, numbers(count), NUMBERS, 1000 * 8 // 2)
    found = [pq.read_table(tmp_path / f.name)["n"].to_pylist() for f in written]
    assert [n for some in found for n in some] == list(range(count))
    assert len(found) == files
    assert all(500 <= len(some) <= 1500 for some in found[1:])
    assert [f.size for f in written] == [(tmp_path / f.name).stat().st_size for f in written]


def statistics(path: Path, rows: pa.Table, **options: Any) -> dict[str, Any]:
    file = path / f"{uuid4()}.parquet"
    pq.write_table(rows, file, **options)
    found: dict[str, Any] = json.loads(describe_file(file).statistics)
    return found


def test_statistics_hold_rows_nulls_and_lowest_and_highest_values(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "text": ["b", None, "ä"],
            "number": pa.array([3, None, -1], pa.int32()),
            "day": [dt.date(2026, 3, 2), dt.date(1, 1, 1), None],
            "at": pa.array([AT, AT.replace(year=2025), None], UTC_MICROS),
            "nothing": pa.nulls(3, pa.int64()),
        }
    )
    found = statistics(tmp_path, rows, row_group_size=1)
    assert found["numRecords"] == 3
    assert found["nullCount"] == {"text": 1, "number": 1, "day": 1, "at": 1, "nothing": 3}
    assert found["minValues"] == {
        "text": "b",
        "number": -1,
        "day": "0001-01-01",
        "at": "2025-03-02T10:30:00.000007Z",
    }
    assert found["maxValues"] == {
        "text": "ä",
        "number": 3,
        "day": "2026-03-02",
        "at": "2026-03-02T10:30:00.000007Z",
    }


def test_a_column_without_exact_bounds_in_json_has_none(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "long": ["a", "x" * (LONGEST_TEXT + 1)],
            "money": [Decimal("0.10"), Decimal("99999999999999999999.99")],
            "is_open": [True, False],
            "tags": [["a"], ["b"]],
            "extra": pa.array([[("a", "b")], None], pa.map_(pa.string(), pa.string())),
        }
    )
    found = statistics(tmp_path, rows)
    assert (found["minValues"], found["maxValues"]) == ({}, {})
    assert found["nullCount"] == {"long": 0, "money": 0, "is_open": 0}


def test_a_file_without_statistics_has_its_row_count_alone(tmp_path: Path) -> None:
    assert statistics(tmp_path, pa.table({"n": [1]}), write_statistics=False) == {
        "numRecords": 1,
        "minValues": {},
        "maxValues": {},
        "nullCount": {},
    }


KEYS = st.tuples(
    st.sampled_from(["a", "b", "", None]), st.integers(-2, 2) | st.none(), st.sampled_from([Decimal("1.5"), None])
)
SCHEMA = pa.schema([("text", pa.string()), ("n", pa.int32()), ("amount", pa.decimal128(9, 2))])


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


@given(st.lists(KEYS), st.lists(KEYS, unique=True))
def test_each_row_finds_its_key_nulls_included(rows: list[tuple[Any, ...]], keys: list[tuple[Any, ...]]) -> None:
    assert key_numbers(table(rows), table(keys)).to_pylist() == [
        keys.index(row) if row in keys else None for row in rows
    ]


def test_a_merge_updates_deletes_and_leaves_rows_to_insert(tmp_path: Path) -> None:
    pq.write_table(table([("a", 1, None), ("b", 1, None), ("b", None, None)]), tmp_path / "some.parquet")
    schema = SCHEMA.append(pa.field("late", pa.string()))  # a column that the file does not know yet
    rows = pa.Table.from_pylist([{"text": "b", "n": 1, "late": "x"}, {"text": "c", "n": 1, "late": "y"}], schema)
    source = MergeSource(pa.table({"text": ["b", "a", "c", "b"], "n": pa.array([1, 1, 1, 1], pa.int32())}), rows)
    found = source.match(path := tmp_path / "some.parquet", size := path.stat().st_size)
    after = [(r["text"], r["n"], r["late"]) for r in source.apply(path, size, found).to_pylist()]
    assert (source.is_distinct, after) == (True, [("b", None, None), ("b", 1, "x")])
    assert source.not_matched([found])["text"].to_pylist() == ["c"]
    assert source.not_matched([])["text"].to_pylist() == ["b", "c"]

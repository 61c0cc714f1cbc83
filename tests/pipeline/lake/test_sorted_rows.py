"""Rows that do not fit into memory are streamed in the order of their key."""

from contextlib import closing
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lake import sorted_rows
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.sorted_rows import sorted_batches

WANTED = pa.schema([("shop", pa.string()), ("n", pa.int64()), ("text", pa.string()), ("absent", pa.date32())])
KEY = ["shop", "n"]


def stored(folder: Path, count: int) -> MaterializedRows:
    """Returns rows in files of different sizes, with texts of all lengths, and keys that come again or are null."""
    random = Random(count)
    rows = pa.table(
        {
            "n": pa.array([random.choice([None, *range(count // 2 + 1)]) for _ in range(count)], pa.int64()),
            "shop": pa.array([random.choice([None, "a", "b", "ö"]) for _ in range(count)], pa.string()),
            "text": pa.array(["x" * random.randrange(40) for _ in range(count)], pa.string()),
            "more": pa.array(range(count), pa.int32()),
        }
    )
    folder.mkdir()
    for part, start in enumerate(range(0, max(count, 1), 700)):
        pq.write_table(rows.slice(start, 700), folder / f"{part}.parquet")
    return MaterializedRows(path=folder, schema=rows.schema)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 2_000, 2_345])
@pytest.mark.parametrize("range_bytes", [1, 9_000, 1 << 20])
def test_rows_come_in_the_order_of_their_key(
    tmp_path: Path, count: int, range_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorted_rows, "RANGE_BYTES", range_bytes)
    monkeypatch.setattr(sorted_rows, "BATCH_ROWS", 100)
    monkeypatch.setattr(sorted_rows, "MOST_RANGES", 16)
    rows = stored(tmp_path / "rows", count)
    found = list(sorted_batches(rows, WANTED, KEY, tmp_path / "spill"))
    assert all(batch.num_rows <= 100 for batch in found)
    as_stored = pa.Table.from_batches(rows.batches(WANTED), WANTED)
    assert pa.Table.from_batches(found, WANTED) == as_stored.sort_by([(name, "ascending") for name in KEY])
    assert not list((tmp_path / "spill").glob("*"))
    if range_bytes != 9_000:
        assert (tmp_path / "spill").exists() == (range_bytes == 1 and count > 1), "only many rows need a folder"


def test_no_file_stays_where_the_reader_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_rows, "RANGE_BYTES", 9_000)
    monkeypatch.setattr(sorted_rows, "BATCH_ROWS", 100)
    with closing(sorted_batches(stored(tmp_path / "rows", 2_000), WANTED, KEY, tmp_path / "spill")) as batches:
        assert next(batches).num_rows == 100
        assert list((tmp_path / "spill").glob("*/*.arrow"))
    assert not list((tmp_path / "spill").glob("*"))

"""Small batches are merged and compared in this process, large ones by the engine: both give the same tables."""

from collections import Counter
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories_pipeline import Site, on_sail
from factories_shop_rows import SHOP
from hypothesis import given, settings
from hypothesis import strategies as st
from random_shop import random_batches

from pipeline.contract import Quality
from pipeline.engine.session import Session
from pipeline.lake.key_lookup import rows_of_keys, signed_difference
from pipeline.sources.retail.feeds import RETAIL
from pipeline.stages import comparison, feed_tasks, gold_tasks

TIMED = {"ops.processing_log", "ops.batches"}


@pytest.mark.slow
@on_sail
def test_the_engine_and_this_process_write_the_same_tables(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = random_batches(Random(7))
    here = _tables(
        Site(tmp_path / "here", session, RETAIL, fill=SHOP, quality=Quality(max_snapshot_shrink=1.0)), batches
    )
    monkeypatch.setattr(feed_tasks, "IN_MEMORY", -1)
    monkeypatch.setattr(comparison, "IN_PROCESS_ROWS", -1)
    monkeypatch.setattr(gold_tasks, "MANY_ROWS", -1)
    there = _tables(
        Site(tmp_path / "there", session, RETAIL, fill=SHOP, quality=Quality(max_snapshot_shrink=1.0)), batches
    )
    assert here.keys() == there.keys()
    assert sum(map(len, here.values())) > 100
    for table, rows in here.items():
        assert there[table] == rows, table


def _tables(site: Site, batches: list[dict[str, object]]) -> dict[str, Counter[str]]:
    for batch in batches:
        result = site.deliver(**batch)  # type: ignore[arg-type]
    return {
        table: Counter(map(str, site.lake.arrow(table, version).to_pylist(maps_as_pydicts="strict")))
        for table, version in result.table_versions.items()
        if table not in TIMED
    }


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.integers(0, 3),
        st.sampled_from([None, 1.5, float("nan")]),
        st.text(max_size=2),
    ),
    max_size=12,
    unique_by=lambda row: row[:2],
)
SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64()), ("rate", pa.float64()), ("note", pa.string())])


def _table(rows: list[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_a_signed_difference_holds_the_rows_that_are_in_one_table_only(
    before: list[tuple[object, ...]], after: list[tuple[object, ...]]
) -> None:
    signed = signed_difference(_table(before), _table(after), ["name", "number"])
    was, now = ({str(row) for row in rows} for rows in (before, after))
    expected = Counter([(row, -1) for row in was - now] + [(row, 1) for row in now - was])
    assert Counter((str(tuple(list(row.values())[:-1])), row["_sign"]) for row in signed.to_pylist()) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=3), ROWS)
def test_rows_of_keys_are_those_that_a_filter_finds(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[object, ...]]], wanted: list[tuple[object, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / f"{n}.parquet" for n in range(len(files))]
    for path, rows in zip(paths, files, strict=True):
        pq.write_table(_table(rows), path, row_group_size=3)
    keys = {row[:2] for row in wanted}
    expected = Counter(str(row) for rows in files for row in rows if row[:2] in keys)
    found = rows_of_keys({p: p.stat().st_size for p in paths}, _table(wanted).select(["name", "number"]), SCHEMA)
    assert Counter(str(tuple(row.values())) for row in found.to_pylist()) == expected


def test_without_key_columns_every_row_is_found(tmp_path: Path) -> None:
    pq.write_table(_table([("a", 1, None, "x"), (None, 2, 1.5, "")]), tmp_path / "0.parquet")
    assert rows_of_keys({(path := tmp_path / "0.parquet"): path.stat().st_size}, pa.table({}), SCHEMA).num_rows == 2

"""An open table stays at its version, and the next one that a commit makes is the one that the log describes."""

import datetime as dt
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from pipeline.lake.delta_log import CHECKPOINT_VERSIONS
from pipeline.lake.lake import Lake
from pipeline.lake.open_table import OpenTable, UnsupportedTable, why_not_adopted
from pipeline.model import columns_of

TABLE = "shop.silver.t"
COLUMNS = columns_of("n INT, total BIGINT, name STRING, day DATE, at TIMESTAMP, is_open BOOLEAN, amount DECIMAL(12,2)")


def row(n: int) -> dict[str, object]:
    return {
        "n": n,
        "total": 10**15 + n,
        "name": f"Zoë \U0002f804 {n}",
        "day": dt.date(2026, 3, 1) + dt.timedelta(days=n),
        "at": dt.datetime(2026, 3, 1, 6, 30, n, 123456, tzinfo=dt.UTC),
        "is_open": n % 2 == 0,
        "amount": Decimal(n),
    }


def append(lake: Lake, *numbers: int) -> int:
    return lake.append(TABLE, pa.Table.from_pylist([row(n) for n in numbers]), "test")


def files_of(table: OpenTable) -> list[dict[str, object]]:
    return sorted(table.files.to_pylist(), key=lambda file: str(file["path"]))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path)
    lake.create(TABLE, COLUMNS)
    return lake


def test_each_commit_opens_the_version_that_the_log_describes(lake: Lake) -> None:
    for n in range(1, CHECKPOINT_VERSIONS + 3):  # also past a checkpoint
        version = append(lake, n, n + 30)
        ours, logged = lake.delta(TABLE, version), OpenTable.open(lake.location(TABLE), version)
        assert files_of(ours) == files_of(logged)
        assert (ours.version, ours.arrow_schema, ours.protocol) == (version, logged.arrow_schema, logged.protocol)
        assert ours.files.schema == logged.files.schema
    assert {"min.n", "max.at", "min.day", "max.name"} <= set(ours.files.column_names)
    assert not {"min.amount", "min.is_open"} & set(ours.files.column_names), "of these the log is not exact"
    assert lake.arrow(TABLE).num_rows == 2 * (CHECKPOINT_VERSIONS + 2)


def test_a_version_that_is_open_stays_what_it_is(lake: Lake) -> None:
    append(lake, 1)
    first = lake.delta(TABLE, 1)
    append(lake, 2)
    assert (first.version, first.files.num_rows, lake.delta(TABLE, 2).files.num_rows) == (1, 1, 2)


def test_commits_of_other_programs_are_read_from_the_log(lake: Lake) -> None:
    append(lake, 1)
    other = Lake(lake.path)
    append(other, 2)
    append(other, 3)
    assert (lake.version(TABLE), lake.delta(TABLE, 3).files.num_rows) == (3, 3)
    with pytest.raises(FileExistsError):
        other.append(TABLE, pa.Table.from_pylist([row(4)]), "late", after=2)
    assert sorted(lake.arrow(TABLE)["n"].to_pylist()) == [1, 2, 3]


def test_of_writers_at_one_time_exactly_one_commits_a_version(lake: Lake) -> None:
    lakes = [Lake(lake.path) for _ in range(8)]

    def write(number: int) -> bool:
        try:
            return append_after(lakes[number], number) == 1
        except FileExistsError:
            return False

    def append_after(one: Lake, number: int) -> int:
        return one.append(TABLE, pa.Table.from_pylist([row(number)]), f"test {number}", after=0)

    with ThreadPoolExecutor(8) as pool:
        winners = [n for n, has_won in enumerate(pool.map(write, range(8))) if has_won]
    assert lake.arrow(TABLE)["n"].to_pylist() == winners
    assert [c.tag for c in lake.commits(TABLE, 0)] == [f"test {n}" for n in winners]
    assert not [*(lake.location(TABLE) / "_delta_log").glob("*.draft")]


def test_no_commit_follows_a_version_that_is_gone(lake: Lake) -> None:
    append(lake, 1)
    append(lake, 2)
    log = lake.location(TABLE) / "_delta_log"
    (log / f"{2:020d}.json").unlink()  # an older log came back
    with pytest.raises(FileNotFoundError, match="version 2 any more"):
        lake.append(TABLE, pa.Table.from_pylist([row(3)]), "test", after=2)
    assert lake.version(TABLE) == 1


@pytest.mark.parametrize(
    ("properties", "named", "is_read"),
    [
        ({"delta.enableDeletionVectors": "true"}, "deletionVectors", False),
        ({"delta.enableChangeDataFeed": "true"}, "changeDataFeed|writer version 4", True),
        ({"delta.appendOnly": "true"}, "appendOnly", True),
    ],
)
def test_what_this_process_does_not_heed_is_not_adopted_and_is_read_only_where_the_rows_are_right(
    lake: Lake, properties: dict[str, str], named: str, is_read: bool
) -> None:
    append(lake, 1)
    assert why_not_adopted(lake.location(TABLE), 1) == ""
    DeltaTable(lake.location(TABLE)).alter.set_table_properties(properties, raise_if_not_exists=False)
    assert re.search(named, why_not_adopted(lake.location(TABLE), 2))
    if is_read:
        assert lake.arrow(TABLE)["n"].to_pylist() == [1]
    else:
        with pytest.raises(UnsupportedTable, match=named):
            lake.schema(TABLE)
    assert lake.restore(TABLE, 1, "restore") == 3
    assert why_not_adopted(lake.location(TABLE), 3) == ""
    assert append(lake, 2) == 4
    assert sorted(lake.arrow(TABLE)["n"].to_pylist()) == [1, 2]


@pytest.mark.parametrize(
    ("field", "named"), [("partition_by", r"partitions \(n\)"), ("required", r"NOT NULL columns \(n\)")]
)
def test_a_table_that_was_written_anew_by_another_program_is_not_adopted(lake: Lake, field: str, named: str) -> None:
    append(lake, 1)
    schema = pa.schema([pa.field("n", pa.int32(), nullable=field != "required"), pa.field("name", pa.string())])
    rows = pa.table({"n": pa.array([1, 2], pa.int32()), "name": ["a", "b"]}, schema)
    more = {"partition_by": ["n"]} if field == "partition_by" else {}
    write_deltalake(lake.location(TABLE), rows, mode="overwrite", schema_mode="overwrite", **more)  # type: ignore[call-overload]
    assert re.search(named, why_not_adopted(lake.location(TABLE), 2))
    if more:
        with pytest.raises(UnsupportedTable, match=named):
            lake.arrow(TABLE)
    lake.restore(TABLE, 1, "restore")
    assert lake.arrow(TABLE)["n"].to_pylist() == [1]


def test_a_version_that_came_anew_after_a_backup_is_read_anew(lake: Lake, tmp_path: Path) -> None:
    append(lake, 1)
    backup = tmp_path.with_name(f"{tmp_path.name}_backup")
    shutil.copytree(lake.location(TABLE), backup)
    append(lake, 2)
    assert sorted(lake.arrow(TABLE)["n"].to_pylist()) == [1, 2]
    shutil.rmtree(lake.location(TABLE))
    shutil.copytree(backup, lake.location(TABLE))
    assert lake.arrow(TABLE, 1)["n"].to_pylist() == [1]
    append(Lake(lake.path), 3)
    assert sorted(lake.arrow(TABLE, 2)["n"].to_pylist()) == [1, 3]
    shutil.rmtree(lake.location(TABLE))
    lake.create(TABLE, columns_of("other STRING"))
    assert lake.schema(TABLE, 0).names == ["other"]


def test_a_checkpoint_that_fails_fails_no_commit(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_table: DeltaTable) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DeltaTable, "create_checkpoint", fail)
    for n in range(1, CHECKPOINT_VERSIONS + 1):
        assert append(lake, n) == n
    assert not [*(lake.location(TABLE) / "_delta_log").glob("*.checkpoint.parquet")]
    monkeypatch.undo()
    for n in range(CHECKPOINT_VERSIONS + 1, 2 * CHECKPOINT_VERSIONS):
        append(lake, n)
    assert len([*(lake.location(TABLE) / "_delta_log").glob("*.checkpoint.parquet")]) == 1


def test_other_readers_see_the_same_commits(lake: Lake) -> None:
    append(lake, 1)
    append(lake, 2)
    delta = DeltaTable(lake.location(TABLE))
    assert [(c["version"], c["operation"], c["userMetadata"]) for c in delta.history(2)] == [
        (2, "WRITE", "test"),
        (1, "WRITE", "test"),
    ]
    delta.delete("n = 1", commit_properties=CommitProperties(custom_metadata={"userMetadata": "theirs"}))
    assert [(c.version, c.operation, c.tag) for c in lake.commits(TABLE, 1)] == [
        (2, "WRITE", "test"),
        (3, "DELETE", "theirs"),
    ]
    assert lake.arrow(TABLE)["n"].to_pylist() == [2]

"""An open table stays at its version while others follow the log, from any number of threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from pipeline.lake.lake import Lake
from pipeline.lake.open_table import OpenTable
from pipeline.model import columns_of

TABLES = [f"shop.silver.t{n}" for n in range(4)]


def grown(path: Path, versions: int) -> Lake:
    lake = Lake(path)
    for table in TABLES:
        lake.create(table, columns_of("n BIGINT"))
        for n in range(versions):
            lake.append(table, pa.table({"n": [n]}), "test")
    return lake


def test_versions_that_were_opened_one_after_another_stay_what_they_are(tmp_path: Path) -> None:
    lake = grown(tmp_path, 5)
    first = OpenTable.open(lake.location(TABLES[0]), 2)
    second = first.newest()
    assert (first.version(), second.version()) == (2, 5)
    assert [first.logged_files.num_rows, second.logged_files.num_rows] == [2, 5]
    assert sorted(first.rows(["n"], None)["n"].to_pylist()) == [0, 1]
    assert first.history(1)[0]["version"] == 2
    lake.append(TABLES[0], pa.table({"n": [9]}), "test")
    assert first.newest().version() == 6, "the newest, also from a version that is not the last one opened"


def test_threads_that_read_and_follow_tables_never_wait_for_each_other_for_good(tmp_path: Path) -> None:
    lake = grown(tmp_path, 6)

    def follow(turn: int) -> int:
        table = OpenTable.open(lake.location(TABLES[turn % len(TABLES)]), 1 + turn % 5)
        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(one) for one in (lambda: table.size, table.newest, lambda: table.arrow_schema)]
            newest = found[1].result()
        assert newest.logged_files.num_rows == 6
        return int(table.logged_files.num_rows)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(follow, range(40), timeout=60)) == [1 + n % 5 for n in range(40)]

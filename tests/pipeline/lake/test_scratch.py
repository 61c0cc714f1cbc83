"""Scratch files: databases that spill do not meet, and what an attempt or a dead process leaves is removed."""

import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from object_store import ObjectStore

from pipeline.lake.scratch import Scratch
from pipeline.place import StoreError, connect, place_of


class Elsewhere:
    """The session of an engine on other machines, of which only this fact matters here."""

    is_elsewhere = True
    spark: Any = None
    engine = "connect"

    def spark_for(self, _size: int) -> Any: ...
    def choose_compilation(self, _df: Any) -> Any: ...
    def count_written(self, _df: Any) -> Any: ...


@pytest.mark.long
def test_two_databases_that_spill_at_one_time_keep_their_rows_apart(tmp_path: Path) -> None:
    spill, sums = tmp_path / "_spill", dict[int, Any]()
    begins = threading.Barrier(2)

    def sort(number: int) -> None:
        with connect(tmp_path, spill) as db:
            db.execute("SET memory_limit = '60MB'; SET threads = 1")
            begins.wait()
            rows = "SELECT i, repeat('x', 50) AS text FROM range(1, 1500001) AS r(i)"
            ordered = f"SELECT i, text, row_number() OVER (ORDER BY hash(i)) AS n FROM ({rows})"
            found = db.execute(f"SELECT sum(i), count(DISTINCT n), max(length(text)) FROM ({ordered})").fetchone()
            sums[number] = (found, len(list(spill.rglob("*.tmp"))) > 0)  # else nothing was tried here

    threads = [threading.Thread(target=sort, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == dict.fromkeys(range(2), ((1_500_000 * 1_500_001 // 2, 1_500_000, 50), True))
    assert list(spill.iterdir()) == []


def test_what_dead_processes_have_spilled_is_removed_and_what_live_ones_use_is_not(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "_work", None, plans_all=False, shared=tmp_path / "_work")
    dead = subprocess.Popen(["true"])
    dead.wait()
    living = subprocess.Popen(["sleep", "60"])
    try:
        for pid in (dead.pid, living.pid, os.getpid()):
            (tmp_path / "_spill" / str(pid)).mkdir(parents=True)
        scratch.clear()
        assert sorted((tmp_path / "_spill").iterdir()) == sorted([scratch.spill, tmp_path / "_spill" / str(living.pid)])
    finally:
        living.kill()
        living.wait()


@pytest.mark.long
def test_an_attempt_ends_also_where_the_store_does_not_answer(tmp_path: Path, store: ObjectStore) -> None:
    shared = place_of(f"s3://no-such-{store.bucket}/lake/_work")
    scratch = Scratch(tmp_path / "_work", Elsewhere(), plans_all=False, shared=shared)
    scratch.open("b1.1")
    scratch.close()
    assert not (tmp_path / "_work").exists()
    with pytest.raises(StoreError):
        scratch.clear()

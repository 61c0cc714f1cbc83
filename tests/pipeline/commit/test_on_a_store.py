"""A lake in an object store keeps the promises of a lake in a folder: published once, undone whole, one writer."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from effort import tries
from factories_lake import (
    ADDRESS,
    BRONZE,
    GOLD,
    SILVER,
    dies_after,
    halt,
    opened,
    publish,
    recover_lake,
    reject,
    state,
)
from object_store import ObjectStore
from stepped_writers import Writer, assert_whole, publish_once, some_of

import pipeline.commit.maintenance
from pipeline.commit.external_commits import adopt, restore
from pipeline.commit.journal import has_open_journal
from pipeline.commit.maintenance import maintain
from pipeline.commit.manifest import Manifest
from pipeline.contract import Settings
from pipeline.errors import ExternalCommit
from pipeline.lake.compaction import vacuum

pytestmark = pytest.mark.long


@pytest.fixture
def new_lake(store: ObjectStore, tmp_path: Path) -> Callable[[str], Path]:
    """Returns a folder that stands for a new lake in the store: the claims and the scratch files lie there."""

    def make(name: str) -> Path:
        (tmp_path / name).mkdir()
        where = {"lake": store.new_prefix(), "environment": store.environment}
        (tmp_path / name / ADDRESS).write_text(json.dumps(where))
        return tmp_path / name / "lake"

    return make


def test_a_batch_that_is_killed_at_any_step_is_undone_and_then_published_once(
    new_lake: Callable[[str], Path],
) -> None:
    events = list[object]()
    undisturbed = new_lake("undisturbed")
    publish(undisturbed, "b1")
    publish(undisturbed, "b2", 1, events.append)
    assert len(events) > 5
    for step in some_of(len(events), quick=3):
        path = new_lake(str(step))
        publish(path, "b1")
        assert dies_after(step, publish, path, "b2")
        recover_lake(path, "b2")
        assert not has_open_journal(opened(path))
        assert state(path)[GOLD] in ([{"name": "all", "amount": 10}], [{"name": "all", "amount": 20}])
        publish_once(path, "b2", 2)
        assert state(path)[GOLD] == [{"name": "all", "amount": 20}]
        assert_whole(path)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("act", [publish, pytest.param(reject, marks=SLOW), pytest.param(halt, marks=SLOW)])
def test_a_slow_writer_that_wakes_after_another_one_took_over_publishes_nothing(
    new_lake: Callable[[str], Path], act: Callable[..., object]
) -> None:
    path = new_lake("alone")
    publish(path, "b1")
    alone = Writer(lambda path, lake: act(path, "b2", lake=lake), path)
    alone.end()
    for step in random.sample(range(1, alone.steps + 1), tries(quick=1, every=8)):
        path = new_lake(str(step))
        publish(path, "b1")
        slow = Writer(lambda path, lake: act(path, "b2", lake=lake), path, stops_at=step)
        publish_once(path, "b2", 2)
        seen = state(path)
        slow.end()
        version = Manifest(opened(path)).versions("shop")[GOLD]  # what it still wrote is void, and not published
        assert opened(path).arrow(GOLD, version).to_pylist() == seen[GOLD], step
        assert_whole(path)


def test_another_program_s_commit_is_noticed_and_undone_or_adopted(new_lake: Callable[[str], Path]) -> None:
    path = new_lake("a")
    publish(path, "b1")
    lake = opened(path)
    row = pa.table({"order_id": ["theirs"], "amount": pa.array([1], pa.int32())})
    settings = Settings(lake_path=str(lake.path), work_path=str(path / "_work"))
    lake.append(SILVER, row, "another program")
    with pytest.raises(ExternalCommit):
        publish(path, "b2")
    assert "published rows" in restore(settings, SILVER)
    publish(path, "b2")
    lake.append(SILVER, row, "another program")
    adopt(settings, SILVER)
    publish(path, "b3")
    assert [r["order_id"] for r in state(path)[SILVER]] == ["b1", "b2", "b3", "theirs"]


def test_housekeeping_joins_files_and_removes_old_ones(
    new_lake: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = new_lake("a")
    lake = opened(path)
    for n in range(4):
        publish(path, f"b{n}", lake=lake)
    monkeypatch.setattr(pipeline.commit.maintenance, "SMALL_FILES", 3)
    maintain(lake, Manifest(lake), keep_days=30)
    assert lake.delta(BRONZE, lake.version(BRONZE)).files.num_rows == 1
    vacuum(lake, BRONZE, 0, [], "vacuum")
    files = list(lake.location(BRONZE).glob("*.parquet"))
    assert len(files) == 1
    assert sorted(r["order_id"] for r in lake.arrow(BRONZE).to_pylist()) == ["b0", "b1", "b2", "b3"]


def test_a_small_batch_costs_a_bounded_number_of_requests(new_lake: Callable[[str], Path], store: ObjectStore) -> None:
    path = new_lake("a")
    lake = opened(path)
    manifest_costs = []
    for n in range(6):
        before = len(store.requests())
        publish(path, f"b{n}", lake=lake)
        manifest_costs.append(len(store.requests()) - before)
    assert max(manifest_costs[2:]) < 200, manifest_costs

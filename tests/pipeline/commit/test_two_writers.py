"""Two processes write to one lake: one is slow, and the other takes it for dead. A batch is still published once.

Threads stand for the processes, each with a lake of its own. The slow one stops at a step, between two looks at files
or writes of files, and goes on when the other one has done its work.
"""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from effort import tries
from factories_lake import copy_of, dies_after, halt, opened, publish, reject, state
from stepped_writers import Act, Writer, assert_whole, publish_once, published, some_of

from pipeline.commit.journal import recover
from pipeline.commit.maintenance import SMALL_FILES, maintain
from pipeline.commit.manifest import Manifest
from pipeline.lake.lake import Lake

pytestmark = pytest.mark.long


def maintained(_path: Path, lake: Lake) -> None:
    maintain(lake, Manifest(lake), keep_days=30)


ACTS: dict[str, Act] = {
    "publish": lambda path, lake: publish(path, "b2", lake=lake),
    "reject": lambda path, lake: reject(path, "b2", lake=lake),
    "halt": lambda path, lake: halt(path, "b2", lake=lake),
    "recover": lambda _path, lake: recover(lake),
    "maintain": maintained,
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a lake on which an act has something to do, once for each act."""

    @cache
    def make(act: str) -> Path:
        path = tmp_path_factory.mktemp(act) / "lake"
        for n in range(SMALL_FILES if act == "maintain" else 1):
            publish(path, f"a{n}")
        assert act != "recover" or dies_after(5, publish, path, "b2")
        return path

    return make


# Housekeeping has work on large lakes only, and their copies take time.
ANY_ACT = [pytest.param(act, marks=pytest.mark.slow) if act == "maintain" else act for act in ACTS]


@pytest.mark.parametrize("act", ANY_ACT)
def test_a_writer_that_wakes_at_any_step_after_another_one_took_over_changes_nothing_that_is_published(
    tmp_path: Path, grown: Callable[[str], Path], act: str
) -> None:
    alone = Writer(ACTS[act], copy_of(grown(act), tmp_path / "alone"))
    alone.end()
    assert alone.error is None
    assert alone.steps > 20
    for step in some_of(alone.steps, quick=3):
        path = copy_of(grown(act), tmp_path / str(step))
        slow = Writer(ACTS[act], path, stops_at=step)
        publish_once(path, "b2", 2)
        publish(path, "b3")
        seen = state(path)
        slow.end()
        versions = Manifest(opened(path)).versions("shop")
        rows = {table: sorted(opened(path).arrow(table, v).to_pylist(), key=str) for table, v in versions.items()}
        assert {table: found for table, found in rows.items() if found} == seen, step
        assert_whole(path)


@pytest.mark.parametrize("act", ANY_ACT)
@pytest.mark.parametrize("batch_id", ["b2", "b3"])
def test_of_two_writers_that_wait_for_each_other_at_any_steps_one_publishes_and_the_next_batch_goes_on(
    tmp_path: Path, grown: Callable[[str], Path], act: str, batch_id: str
) -> None:
    def other(path: Path, lake: Lake) -> None:
        publish(path, batch_id, 2, lake=lake)

    counts = []
    for n, one in enumerate((ACTS[act], other)):
        alone = Writer(one, copy_of(grown(act), tmp_path / f"alone{n}"))
        alone.end()
        counts.append(alone.steps)
    for turn in range(tries(quick=2, every=60)):
        path = copy_of(grown(act), tmp_path / str(turn))
        steps = [random.randint(1, count) for count in counts]
        slow = Writer(ACTS[act], path, stops_at=steps[0])
        if published(path, batch_id):
            slow.end()
            continue
        taker = Writer(other, path, stops_at=steps[1])
        slow.end()
        taker.end()
        for batch in ("b2", "b3"):
            publish_once(path, batch, 3)
        assert_whole(path)

"""Housekeeping changes files, never what readers see. Real Delta tables, no engine."""

import datetime as dt
import shutil
from pathlib import Path

import pytest
from deltalake import DeltaTable
from factories_lake import BRONZE, GOLD, SILVER, dies_after, publish, recover_lake, state

from pipeline.commit.maintenance import EVERY_BATCHES, SMALL_FILES, Maintenance, maintain
from pipeline.commit.manifest import Manifest
from pipeline.contract import Outcome, Result
from pipeline.lake.compaction import compact
from pipeline.lake.lake import Lake

pytestmark = pytest.mark.long

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lake"


@pytest.fixture(scope="module")
def lake_of_small_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose tables need housekeeping. Tests copy it: a copy costs a hundredth of the batches."""
    path = tmp_path_factory.mktemp("small_files") / "lake"
    for number in range(SMALL_FILES):
        publish(path, f"b{number}")
    return path


@pytest.fixture
def small_files(lake_of_small_files: Path, path: Path) -> Path:
    shutil.copytree(lake_of_small_files.parent, path.parent, dirs_exist_ok=True)
    return path


def files(path: Path, table: str) -> list[str]:
    return [f.name for f in Lake(path).location(table).glob("*.parquet")]


def live(path: Path, table: str) -> int:
    return len(DeltaTable(str(Lake(path).location(table))).file_uris())


def test_many_small_files_become_few_under_a_row_of_their_own(small_files: Path) -> None:
    path = small_files
    before, lake = state(path), Lake(path)
    manifest = Manifest(lake)
    assert live(path, BRONZE) == SMALL_FILES
    touched = maintain(lake, manifest, keep_days=30)
    assert {BRONZE, SILVER} <= set(touched)
    assert (live(path, BRONZE), live(path, "ops.batches")) == (1, 1)
    assert state(path) == before
    rows = [manifest.newest("shop"), manifest.newest("ops")]
    assert [row.kind for row in rows if row] == ["maintenance", "maintenance"]
    assert not any((path / "_journal").iterdir())
    publish(path, "next")
    assert state(path)[GOLD] == [{"name": "all", "amount": 10 * (SMALL_FILES + 1)}]


def test_a_few_files_are_left_alone(path: Path) -> None:
    publish(path, "b1")
    lake = Lake(path)
    assert maintain(lake, Manifest(lake), keep_days=30) == ()
    assert Manifest(lake).newest_seq() == 1


def test_an_empty_lake_and_a_standing_journal_are_left_alone(path: Path) -> None:
    path.mkdir()
    lake = Lake(path)
    assert maintain(lake, Manifest(lake), keep_days=0) == ()
    publish(path, "b1")
    assert dies_after(3, publish, path, "b2")
    before = lake.version("ops.batches")
    assert maintain(lake, Manifest(lake), keep_days=0) == ()
    assert lake.version("ops.batches") == before


def test_vacuum_removes_what_no_kept_version_needs_once_a_day(path: Path) -> None:
    for number in range(4):
        publish(path, f"b{number}")
    lake = Lake(path)
    before = state(path)
    assert len(files(path, GOLD)) == 4
    assert GOLD in maintain(lake, Manifest(lake), keep_days=0, now=lambda: NOW)
    assert len(files(path, GOLD)) == 1
    assert state(path) == before
    publish(path, "b4")
    assert maintain(lake, Manifest(lake), keep_days=0, now=lambda: NOW) == ()
    assert GOLD in maintain(lake, Manifest(lake), keep_days=0, now=lambda: NOW + dt.timedelta(days=2))
    publish(path, "b5")
    assert state(path)[GOLD] == [{"name": "all", "amount": 60}]


def test_vacuum_keeps_every_version_of_the_days_to_keep(path: Path) -> None:
    for number in range(3):
        publish(path, f"b{number}")
    lake = Lake(path)
    manifest = Manifest(lake)
    maintain(lake, manifest, keep_days=7)
    old = manifest.published_row("b0")
    assert old is not None
    assert lake.arrow(GOLD, old.table_versions[GOLD]).to_pylist() == [{"name": "all", "amount": 10}]
    configuration = DeltaTable(str(lake.location(GOLD))).metadata().configuration
    assert configuration["delta.logRetentionDuration"] == "interval 8 days"


def test_an_external_commit_is_not_optimized_or_vacuumed(small_files: Path) -> None:
    path = small_files
    DeltaTable(str(Lake(path).location(SILVER))).delete("order_id = 'b1'")
    lake = Lake(path)
    version = lake.version(SILVER)
    assert SILVER not in maintain(lake, Manifest(lake), keep_days=0)
    assert lake.version(SILVER) == version


def test_housekeeping_that_was_killed_is_undone_by_the_next_worker(small_files: Path) -> None:
    """Dead between its commits and its row: what it left is a journal and versions that carry its tag."""
    from pipeline.commit import journal

    path = small_files
    before, lake = state(path), Lake(path)
    versions = {BRONZE: lake.version(BRONZE)}
    journal.write(
        lake,
        journal.Journal(
            batch_id="maintenance-shop-1",
            source="shop",
            tag="lakegate maintenance",
            versions=versions,
        ),
    )
    compact(lake, BRONZE, "lakegate maintenance", SMALL_FILES)
    recover_lake(path, "-")
    assert state(path) == before
    publish(path, "next")


def test_maintenance_is_due_after_some_batches_that_wrote(path: Path) -> None:
    publish(path, "b1")
    maintenance = Maintenance(Lake(path), keep_days=30)
    for _ in range(EVERY_BATCHES):
        assert not maintenance.is_due
        maintenance.count(Result(batch_id="b", outcome=Outcome.DUPLICATE))
        maintenance.count(Result(batch_id="b", outcome=Outcome.PUBLISHED))
    assert maintenance.is_due
    maintenance.run()
    assert not maintenance.is_due

"""Engines on other machines that see no folder of this one: with the lake in a store, their tables are the same.

A process is blind to a folder of this machine, as on another one: a mount in a namespace of its own hides the folder.
"""

from pathlib import Path

import pytest
from factories_command import Site
from factories_worker import assert_same, tables_of_a_day
from object_store import ObjectStore
from servers import (
    FOR_LITTLE_DATA,
    blind_to,
    cluster_settings,
    connect_server,
    sail_server,
    spark_cluster,
    why_no_blind_process,
)

from daemon.cli.trial import run_trials
from daemon.service import WORKER
from pipeline.contract import Ready, Settings, Tried
from pipeline.place import place_of

pytestmark = [pytest.mark.sail, pytest.mark.slow]
needs_a_blind_process = pytest.mark.skipif(bool(why_no_blind_process()), reason=why_no_blind_process())


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The folder that only this machine sees."""
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The folder of the servers."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, list[str]]:
    """The tables of the engine Sail in the worker, with the lake in a folder."""
    return tables_of_a_day(Settings(lake_path=str(tmp_path / "lake"), engine="sail"), tmp_path)


def remote_settings(store: ObjectStore, site: Path, remote: str) -> Settings:
    path = store.new_prefix()
    return Settings(lake_path=path, work_path=str(site / "work"), engine="connect", remote=remote, conf=FOR_LITTLE_DATA)


def assert_nothing_left(settings: Settings) -> None:
    assert not settings.work.exists()
    assert not (place_of(settings.lake_path) / "_work").is_dir()


@needs_a_blind_process
def test_check_tries_the_declarations_in_the_store_and_leaves_nothing_there(
    store: ObjectStore, site: Path, there: Path
) -> None:
    with sail_server(there, blind_to(site)) as remote:
        lake = store.new_prefix()
        settings = f'[lake]\npath = "{lake}"\n[spark]\nengine = "connect"\nremote = "{remote}"\n'
        config = Site(site, f"{settings}[sources]\nexclude = ['crm_erp', 'clickstream']\n").config
        ready, tried = run_trials(config, WORKER)
    assert isinstance(ready, Ready)
    assert tried == Tried(source="retail", mistake="", seconds=getattr(tried, "seconds", 0))
    assert not place_of(lake).is_dir()


@needs_a_blind_process
def test_a_cluster_of_sail(store: ObjectStore, site: Path, there: Path, expected: dict[str, list[str]]) -> None:
    with sail_server(there, blind_to(site)) as remote:
        settings = remote_settings(store, site, remote)
        assert_same(tables_of_a_day(settings, site), expected)
    assert_nothing_left(settings)


@pytest.mark.spark
def test_spark_on_this_machine(store: ObjectStore, site: Path, expected: dict[str, list[str]]) -> None:
    settings = Settings(
        lake_path=store.new_prefix(),
        work_path=str(site / "work"),
        engine="spark",
        master="local[2]",
        driver_memory="1g",
    )
    assert_same(tables_of_a_day(settings, site), expected)
    assert_nothing_left(settings)


@pytest.mark.spark
@needs_a_blind_process
def test_a_server_of_spark_connect(store: ObjectStore, site: Path, there: Path, expected: dict[str, list[str]]) -> None:
    with connect_server(there, through=blind_to(site), of_store=True) as remote:
        settings = remote_settings(store, site, remote)
        assert_same(tables_of_a_day(settings, site, killed_at="stage.finished"), expected)
    assert_nothing_left(settings)


@pytest.mark.spark
@needs_a_blind_process
def test_a_cluster_of_spark(store: ObjectStore, site: Path, there: Path, expected: dict[str, list[str]]) -> None:
    with spark_cluster(there, blind_to(site)) as master:
        settings = cluster_settings(master, store.new_prefix(), site / "work")
        assert_same(tables_of_a_day(settings, site, killed_at="stage.finished"), expected)
    assert_nothing_left(settings)

"""A server in another process, of Spark Connect or of Sail: a worker starts against it, and its tables are the same."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories_worker import assert_same, tables_of_a_day
from servers import FOR_LITTLE_DATA, connect_server, sail_server

from pipeline.contract import Settings


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of Spark, started as its users start it: Delta's extension and jars, and nothing of ours."""
    with connect_server(tmp_path_factory.mktemp("connect")) as address:
        yield address


@pytest.fixture
def remote_sail(tmp_path: Path) -> Iterator[str]:
    """A server of Sail with two workers of its own."""
    with sail_server(tmp_path) as address:
        yield address


def published(root: Path, engine: str, remote: str = "") -> dict[str, list[str]]:
    """The rows of every table of the shop after its first day, as text and in order."""
    conf = FOR_LITTLE_DATA if remote else {}
    return tables_of_a_day(Settings(lake_path=str(root / engine), engine=engine, remote=remote, conf=conf), root)


@pytest.mark.spark
@pytest.mark.sail
def test_a_batch_through_a_server_that_runs_already_gives_the_tables_of_the_local_engine(
    tmp_path: Path,
    remote: str,
) -> None:
    assert_same(published(tmp_path, "connect", remote), published(tmp_path, "sail"))


@pytest.mark.sail
def test_a_batch_through_a_cluster_of_sail_gives_the_tables_of_sail_in_the_worker(
    tmp_path: Path, remote_sail: str
) -> None:
    assert_same(published(tmp_path, "connect", remote_sail), published(tmp_path, "sail"))


@pytest.mark.spark
def test_a_server_writes_times_of_any_year(tmp_path: Path, remote: str) -> None:
    writes = (
        "from pathlib import Path\n"
        "from pipeline.contract import Settings\n"
        "from pipeline.engine.session import open_session\n"
        "from pipeline.lake.lake import Lake\n"
        f"session = open_session(Settings(lake_path={str(tmp_path)!r}, engine='connect', remote={remote!r}))\n"
        f"lake = Lake(Path({str(tmp_path)!r}), session)\n"
        "lake.scratch.open('b1')\n"
        "df = session.spark.sql(\"SELECT timestamp'9999-12-31 23:59:59.999999' AS at\")\n"
        "print(lake.scratch.materialize(df, 'some').arrow()['at'].cast('string')[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", writes], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "9999-12-31 23:59:59.999999Z", done.stderr[-2000:]


@pytest.mark.spark
@pytest.mark.parametrize(
    ("key", "value"),
    [("spark.sql.extensions", "a.B"), ("spark.sql.warehouse.dir", "/nowhere")],
    ids=["extensions", "warehouse"],
)
def test_a_setting_that_only_the_server_can_be_started_with_is_reported(remote: str, key: str, value: str) -> None:
    # In a process of its own, as a worker has it: this one may have a session already, which pyspark would return.
    opens = (
        "from pipeline.contract import Settings\n"
        "from pipeline.engine.session import open_session\n"
        f"open_session(Settings(lake_path='/nowhere', engine='connect', remote={remote!r}, conf={ {key: value}!r}))\n"
    )
    opened = subprocess.run([sys.executable, "-c", opens], capture_output=True, text=True, timeout=60, check=False)
    assert opened.returncode == 1
    last = opened.stderr.strip().splitlines()[-1]
    assert re.search(rf"^ValueError: .* does not take {key} for a session .* leave it out of \[spark\] conf$", last), (
        last
    )

"""A write that loses rows is an error that names folder and counts, and it publishes nothing."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from factories_pipeline import Site, on_spark
from servers import free_port, sail_server

from pipeline.contract import Outcome
from pipeline.engine.java import find_java
from pipeline.engine.session import Session
from pipeline.lake.lake import Lake
from pipeline.lake.scratch import LostWrite
from pipeline.model import columns_of

TABLE = "shop.silver.sales"


@dataclass(frozen=True)
class Losing:
    """A DataFrame, or its writer, that loses some part files after it has written them."""

    real: Any
    lost_files: int

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if name == "write":
            return Losing(found, self.lost_files)
        if name not in ("select", "mode", "options", "format", "option", "parquet", "save"):
            return found
        return lambda *values, **named: self._done(name, found(*values, **named), values)

    def _done(self, name: str, result: Any, values: tuple[Any, ...]) -> Any:
        if name not in ("parquet", "save"):
            return Losing(result, self.lost_files)
        for part in sorted(Path(values[0]).glob("part-*.parquet"))[: self.lost_files]:
            part.unlink()
        return result


@dataclass(frozen=True)
class LosingSession:
    """An engine that loses some of the files that it writes."""

    real: Session
    lost_files: int = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def count_written(self, df: Any) -> tuple[Any, Callable[[], int] | None]:
        counted, written = self.real.count_written(df)
        return Losing(counted, self.lost_files), written


@on_spark
@pytest.mark.parametrize(
    ("rows", "lost", "message"),
    [
        (10, 1, "10 rows were written, 5 lie there"),
        (10, 2, "10 rows were written, and no file lies there"),
        (0, 1, "0 rows were written, and no file lies there"),
    ],
)
def test_materialized_rows_are_counted(tmp_path: Path, session: Session, rows: int, lost: int, message: str) -> None:
    lake = Lake(tmp_path, LosingSession(session, lost))
    lake.scratch.open("b1")
    with pytest.raises(LostWrite, match=rf"{tmp_path}/_work/b1/0001_some: {message}; see that the engine writes"):
        lake.scratch.materialize(session.spark.range(0, rows, 1, 2), "some")


@pytest.mark.parametrize("rows", [0, 3])
def test_a_write_without_loss_is_materialized(tmp_path: Path, session: Session, rows: int) -> None:
    lake = Lake(tmp_path, session)
    lake.scratch.open("b1")
    assert lake.scratch.materialize(session.spark.range(0, rows, 1, 2), "some").rows == rows


@on_spark
@pytest.mark.parametrize(("lost", "message"), [(0, ""), (1, "10 rows were written, [0-9] lie there")])
def test_rows_that_the_engine_appends_are_counted(tmp_path: Path, session: Session, lost: int, message: str) -> None:
    lake = Lake(tmp_path, LosingSession(session, lost), engine_rows=1)
    lake.scratch.open("b1")
    lake.create(TABLE, columns_of("id BIGINT"))
    pq.write_table(pa.table({"id": range(10)}), lake.scratch.folder / "rows.parquet")
    rows = lake.scratch.open_parquet(lake.scratch.folder / "rows.parquet")
    vars(rows)["df"] = rows.df.repartition(2)
    with pytest.raises(LostWrite, match=message) if message else contextlib.nullcontext():
        assert lake.append(TABLE, rows, "t") == 1


@on_spark
def test_a_batch_with_a_lost_write_publishes_nothing_and_may_be_tried_again(tmp_path: Path, session: Session) -> None:
    site = Site(tmp_path, session)
    order = site.order("2026-03-02", prices="item | price\na | 1\nb | 2")
    site.lake.scratch.session = LosingSession(session)
    result = site.run(order)
    assert (result.outcome, result.retryable) == (Outcome.FAILED, True)
    assert "LostWrite" in result.reason
    assert "2 rows were written, and no file lies there" in result.reason
    assert site.manifest.newest(kind="batch") is None
    site.lake.scratch.session = session
    assert site.run(order).outcome == Outcome.PUBLISHED


# ---- a cluster whose worker reads the driver's folder, and whose own writes stay with itself

ONE_WAY = """
mount --make-rprivate / && mount -t tmpfs tmpfs "$2" && mkdir "$2/upper" "$2/work" &&
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$1" && shift 2 && exec "$@"
"""
DRIVER = """
import sys
from pathlib import Path
from pipeline.engine.session import open_session
from pipeline.contract import Settings
from pipeline.lake.lake import Lake

address, root = sys.argv[1:]
conf = {"spark.driver.host": "127.0.0.1", "spark.executor.memory": "512m", "spark.sql.shuffle.partitions": "1"}
engine = {"engine": "connect", "remote": address} if address.startswith("sc:") else {"master": address, "conf": conf}
settings = Settings(lake_path=root, driver_memory="512m", log_path=f"{root}/../spark.log", **engine)
session = open_session(settings)
lake = Lake(Path(root), session)
lake.scratch.open("b1")
try:
    lake.scratch.materialize(session.spark.range(0, 10, 1, 2), "some")
except Exception as error:
    print(type(error).__name__, error)
session.stop()
"""


def one_way(root: Path) -> list[str]:
    """A command that runs another one, which reads the folder `site` and whose writes there stay with itself."""
    for name in ("site", "overlay", "cluster"):
        (root / name).mkdir()
    return ["unshare", "--mount", "sh", "-c", ONE_WAY, "sh", str(root / "site"), str(root / "overlay")]


@pytest.fixture
def master(tmp_path: Path) -> Iterator[str]:
    """A standalone cluster of one worker, in a namespace of mounts."""
    port, home = free_port(), Path(pyspark.__file__).parent
    java = {"SPARK_HOME": str(home), "JAVA_HOME": str(find_java(os.environ).home), "SPARK_LOCAL_IP": "127.0.0.1"}
    address, started = f"spark://127.0.0.1:{port}", [str(home / "bin" / "spark-class")]
    deploy = "org.apache.spark.deploy"
    head = [*started, f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
    worker = [*started, f"{deploy}.worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "1g"]
    worker += ["--webui-port", "0", "--work-dir", str(tmp_path / "cluster"), address]
    with contextlib.ExitStack() as stack, (tmp_path / "cluster.log").open("wb") as log:
        for command in (head, [*one_way(tmp_path), *worker]):
            process = subprocess.Popen(command, env=os.environ | java, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        until = time.monotonic() + 60
        while "Registering worker" not in (tmp_path / "cluster.log").read_text() and time.monotonic() < until:
            time.sleep(0.2)
        yield address


def lost_write(address: str, site: Path) -> str:
    """The first line of a driver that writes ten rows of the engine at this address below `site`."""
    command = [sys.executable, "-c", DRIVER, address, str(site)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.spark
@pytest.mark.skipif(os.geteuid() != 0, reason="an overlay is mounted")
def test_a_cluster_whose_writes_do_not_arrive_is_an_error(tmp_path: Path, master: str) -> None:
    assert lost_write(master, tmp_path / "site").startswith(
        f"LostWrite {tmp_path}/site/_work/b1/0001_some: 10 rows were written, and no file lies there"
    )


@pytest.mark.sail
@pytest.mark.skipif(os.geteuid() != 0, reason="an overlay is mounted")
def test_a_server_of_sail_whose_writes_do_not_arrive_is_an_error(tmp_path: Path) -> None:
    with sail_server(tmp_path, one_way(tmp_path)) as address:
        assert lost_write(address, tmp_path / "site").startswith(
            f"LostWrite {tmp_path}/site/_work/b1/0001_some: the server finds 10 rows there, and this process 0"
        )

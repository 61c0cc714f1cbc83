"""Servers in processes of their own, on loopback: engines, clusters, and an object store. Tests use them, too."""

import contextlib
import http.client
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import pyspark

from pipeline.contract import Settings
from pipeline.engine.jar_list import DELTA, S3
from pipeline.engine.jars import find_jars
from pipeline.engine.java import find_java
from pipeline.engine.spark_settings import UNCOMPILED, s3_conf

CLUSTER_OF_SAIL = {"SAIL_MODE": "local-cluster", "SAIL_CLUSTER__WORKER_INITIAL_COUNT": "2", "RUST_LOG": "warn"}


# A server's own settings are for large data: with them so small a batch takes two minutes.
FOR_LITTLE_DATA = {"spark.sql.shuffle.partitions": "2", "spark.sql.adaptive.enabled": "false", **UNCOMPILED}
CONNECT_SERVER = "org.apache.spark.sql.connect.service.SparkConnectServer"
SPARK_HOME = Path(pyspark.__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(root: Path, port: int, command: Sequence[object], environment: Mapping[str, str]) -> Iterator[str]:
    """A server that listens on loopback, with its address."""
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=root,
            env=os.environ | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        else:
            raise RuntimeError((root / "server.log").read_text()[-3000:])
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def sail_server(root: Path, through: Sequence[str] = ()) -> Iterator[str]:
    """A server of Sail with two workers of its own. `through` is a command that runs it, such as `unshare`."""
    port = free_port()
    sail = Path(sys.executable).parent / "sail"
    command = [*through, sail, "spark", "server", "--ip", "127.0.0.1", "--port", port]
    with started(root, port, command, CLUSTER_OF_SAIL) as address:
        yield address


def blind_to(folder: Path) -> list[str]:
    """Returns a command that runs another one so that this folder is empty for it, as on another machine."""
    hide = f"mount --make-rprivate / && mount -t tmpfs tmpfs {shlex.quote(str(folder))}"
    return ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh"]


def why_no_blind_process() -> str:
    """Returns the reason why no process can be blind to a folder here; empty if it can."""
    is_able = shutil.which("unshare") and not subprocess.run(["unshare", "--mount", "true"], check=False).returncode
    return "" if is_able else "only root, with the command unshare, can hide a folder from a process"


def _java_environment() -> dict[str, str]:
    home = str(find_java(os.environ).home)
    return {"SPARK_HOME": str(SPARK_HOME), "JAVA_HOME": home, "SPARK_LOCAL_IP": "127.0.0.1"}


@contextlib.contextmanager
def connect_server(
    root: Path, memory: str = "1g", through: Sequence[str] = (), *, of_store: bool = False
) -> Iterator[str]:
    """A server of Spark Connect, started as its users start it: Delta's extension and jars, those of S3 for a store."""
    port = free_port()
    conf = {
        "spark.connect.grpc.binding.port": port,
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.warehouse.dir": root / "warehouse",
        "spark.ui.enabled": "false",
        **(s3_conf(os.environ) if of_store else {}),
    }
    jars = find_jars(wanted=DELTA | S3 if of_store else DELTA)
    command = [*through, SPARK_HOME / "bin" / "spark-submit", "--class", CONNECT_SERVER, "--master", "local[2]"]
    command += ["--driver-memory", memory, "--jars", ",".join(map(str, jars))]
    command += [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
    with started(root, port, [*command, "spark-internal"], _java_environment()) as address:
        yield address


@contextlib.contextmanager
def spark_cluster(root: Path, through: Sequence[str] = (), memory: str = "1g") -> Iterator[str]:
    """A cluster of Spark, standalone, with two workers of one core each, and the address of its master."""
    with contextlib.ExitStack() as stack:
        master, port = "", free_port()
        for name, own_port in (("Master", port), ("Worker", free_port()), ("Worker", free_port())):
            folder = root / f"{name}-{own_port}"
            folder.mkdir(parents=True)
            command = [SPARK_HOME / "bin" / "spark-class", f"org.apache.spark.deploy.{name.lower()}.{name}"]
            command += ["--host", "127.0.0.1", "--port", own_port, "--webui-port", 0]
            if master:
                command = [*through, *command, "--cores", 1, "--memory", memory, "--work-dir", folder, master]
            stack.enter_context(started(folder, own_port, command, _java_environment()))
            master = f"spark://127.0.0.1:{port}"
        yield master


def cluster_settings(master: str, lake_path: str, work: Path) -> Settings:
    """Returns the settings of a worker whose engine is a small cluster."""
    conf = {**FOR_LITTLE_DATA, "spark.executor.memory": "600m", "spark.executor.cores": "1"}
    log = str(work.with_suffix(".spark.log"))
    return Settings(
        lake_path=lake_path,
        work_path=str(work),
        engine="spark",
        master=master,
        driver_memory="1g",
        conf=conf,
        log_path=log,
    )


class ObjectStore:
    """A store with one bucket, whose name no other server has.

    `environment` is what a shop would set for a store of its own.
    """

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "a-key-of-tests",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        self.bucket = f"shop-{port}"
        self._request("PUT", f"/{self.bucket}")

    def new_prefix(self) -> str:
        """Returns an address below which nothing lies."""
        return f"s3://{self.bucket}/{uuid4().hex[:8]}/lake"

    def requests(self) -> list[str]:
        """Returns the requests so far: `GET /shop/…`."""
        return [line.split('"')[1] for line in self._log.read_text().splitlines() if '"' in line]

    def _request(self, method: str, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request(method, path)
        assert connection.getresponse().status == 200
        connection.close()


@contextlib.contextmanager
def store_server(root: Path) -> Iterator[ObjectStore]:
    """A store of moto, which speaks S3 and keeps objects in memory."""
    port = free_port()
    serve = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    with started(root, port, [sys.executable, "-c", serve], {}):
        yield ObjectStore(port, root / "server.log")

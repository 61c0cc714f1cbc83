"""Sessions of `pipeline.engine.session`, each in a process of its own, because an engine changes its process."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.contract import Settings
from pipeline.engine.jars import find_jars
from pipeline.engine.java import class_data, find_java
from pipeline.engine.spark_settings import s3_conf, spark_conf

SESSION = """
import fcntl, json, os, sys
from pathlib import Path
from pipeline.engine.session import open_session
from pipeline.contract import Settings

engine, root = sys.argv[1:]
lock = os.open(f"{root}/lock", os.O_CREAT | os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
conf = {"spark.sql.shuffle.partitions": "3"}
settings = Settings(
    lake_path=f"{root}/lake", engine=engine, log_path=f"{root}/spark.log", master="local[2]", conf=conf
)
session = open_session(settings, inherit_fds=(lock,))
table = f"{root}/lake/table"
session.spark.sql("SELECT id, TIMESTAMP '2026-03-02 10:00:00' AS at FROM range(5)").write.format("delta").save(table)
conf = session.spark.conf
rows = {
    "small": session.spark.sql("SELECT 5L AS id"),
    "large": session.spark.sql("SELECT rand(1) AS some, id FROM range(2000000)"),
}
for name, df in rows.items():
    df.write.parquet(f"{root}/{name}")
small = session.spark_for(1000).read.parquet(f"{root}/small")
large = session.spark_for(20_000_000).read.parquet(f"{root}/large")
queries = {"small": small, "large": large, "small and large": small.join(large, "id")}
keys = ("spark.sql.session.timeZone", "spark.sql.ansi.enabled", "spark.sql.shuffle.partitions")
chosen = {name: session.choose_compilation(df) for name, df in queries.items()}
plan_of = lambda df: df._jdf.queryExecution().executedPlan().toString()
print(json.dumps({
    "engine": session.engine,
    "count": session.spark.read.format("delta").load(table).count(),
    "at": session.spark.read.format("delta").load(table).selectExpr("CAST(first(at) AS STRING) AS at").first()["at"],
    "conf": {key: conf.get(key) for key in keys},
    "rows": {name: df.count() for name, df in chosen.items()},
    "plans": {name: plan_of(df) for name, df in chosen.items()} if engine == "spark" else {},
    "page": session.spark._jvm.System.getProperty("spark.buffer.pageSize") if engine == "spark" else None,
    "jvm": getattr(getattr(session.spark, "_sc", None), "_gateway").proc.pid if engine == "spark" else 0,
    "idle_seconds": int(os.environ.get("SAIL_SPARK__SESSION_TIMEOUT_SECS", 0)),
    "here": os.listdir("."),
}), flush=True)
if sys.stdin.readline():
    session.stop()
    print("stopped", flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Opened:
    process: subprocess.Popen[str]
    root: Path
    facts: dict[str, Any]


def opened(root: Path, engine: str) -> Opened:
    (root / "here").mkdir()
    project = str(Path(__file__).parents[3])
    with (root / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", SESSION, engine, str(root)],
            cwd=root / "here",
            env={**os.environ, "PYTHONPATH": project, "TZ": "America/New_York"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (root / "stderr").read_text()[-3000:]
    return Opened(process=process, root=root, facts=json.loads(line))


def closed(session: Opened) -> None:
    session.process.kill()
    for stream in (session.process.stdin, session.process.stdout):
        assert stream is not None
        stream.close()
    session.process.wait()


@pytest.fixture(scope="module")
def on_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    session = opened(tmp_path_factory.mktemp("spark"), "spark")
    yield session
    closed(session)


@pytest.mark.spark
def test_a_session_on_spark_reads_and_writes_delta_in_utc_with_ansi_and_the_users_settings(on_spark: Opened) -> None:
    assert (on_spark.facts["engine"], on_spark.facts["count"], on_spark.facts["at"]) == (
        "spark",
        5,
        "2026-03-02 10:00:00",
    )
    assert list(on_spark.facts["conf"].values()) == ["UTC", "true", "3"]


@pytest.mark.spark
def test_only_queries_that_look_through_large_files_are_compiled(on_spark: Opened) -> None:
    assert on_spark.facts["rows"] == {"small": 1, "large": 2_000_000, "small and large": 1}
    compiled = {
        name: [sign in plan for sign in ("*(1) ", "ColumnarToRow")] for name, plan in on_spark.facts["plans"].items()
    }
    assert compiled == {"small": [False, False], "large": [True, True], "small and large": [True, True]}


@pytest.mark.spark
def test_java_is_started_with_small_pages_which_broadcast_joins_take_from_nowhere_else(on_spark: Opened) -> None:
    assert on_spark.facts["page"] == "4m"


@pytest.mark.spark
def test_spark_writes_nothing_to_the_current_folder_and_its_chatter_to_the_log(on_spark: Opened) -> None:
    assert (on_spark.facts["here"], list((on_spark.root / "here").iterdir())) == ([], [])
    assert "WARN" in (on_spark.root / "spark.log").read_text()
    assert (on_spark.root / "stderr").read_text() == ""


@pytest.mark.spark
def test_java_starts_from_the_class_data_that_the_installation_saved(on_spark: Opened) -> None:
    saved = class_data(find_java(os.environ), find_jars())
    assert str(saved) in (Path("/proc") / str(on_spark.facts["jvm"]) / "maps").read_text(), (
        "`python -m pipeline.engine.class_data_sharing` saves it, which `make` does"
    )


@pytest.mark.spark
def test_the_lock_is_free_only_when_the_jvm_of_a_killed_process_is_gone_and_it_goes_by_itself(on_spark: Opened) -> None:
    jvm = Path("/proc") / str(on_spark.facts["jvm"])
    assert str(on_spark.root / "lock") in {str(fd.readlink()) for fd in (jvm / "fd").iterdir()}
    on_spark.process.send_signal(signal.SIGKILL)
    on_spark.process.wait()
    with (on_spark.root / "lock").open() as lock:
        deadline = time.monotonic() + 20
        while not taken(lock.fileno()):
            assert time.monotonic() < deadline, "the JVM outlives its process"
            time.sleep(0.02)
        assert not alive(jvm)


def taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def alive(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


@pytest.mark.sail
def test_a_session_on_sail_lives_in_the_process_and_says_nothing_on_stderr(tmp_path: Path) -> None:
    session = opened(tmp_path, "sail")
    assert session.process.stdin is not None
    assert session.process.stdout is not None
    session.process.stdin.write("stop\n")
    session.process.stdin.flush()
    stopped = session.process.stdout.readline()
    closed(session)
    assert stopped == "stopped\n"
    assert (session.facts["engine"], session.facts["count"], session.facts["at"]) == ("sail", 5, "2026-03-02 10:00:00")
    assert (session.facts["conf"]["spark.sql.session.timeZone"], session.facts["here"]) == ("UTC", [])
    assert session.facts["idle_seconds"] > 365 * 86400, (
        "a worker may wait longer for a batch than Sail remembers a session by default"
    )
    assert " INFO " not in (tmp_path / "stderr").read_text()


def conf_of(**settings: Any) -> dict[str, str]:
    return spark_conf(Settings(lake_path="/lake", **settings), (Path("/jars/a.jar"), Path("/jars/b.jar")))


def test_the_users_settings_win() -> None:
    conf = conf_of(conf={"spark.sql.shuffle.partitions": "64", "spark.sql.session.timeZone": "Europe/Zurich"})
    assert (conf["spark.sql.shuffle.partitions"], conf["spark.sql.session.timeZone"]) == ("64", "Europe/Zurich")


def test_extensions_and_class_path_of_the_user_stand_beside_ours() -> None:
    conf = conf_of(conf={"spark.sql.extensions": "a.Other", "spark.driver.extraClassPath": "/more.jar"})
    assert conf["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension,a.Other"
    assert conf["spark.driver.extraClassPath"] == "/jars/a.jar:/jars/b.jar:/more.jar"


def test_a_cluster_gets_the_jars_sent_and_keeps_sparks_own_parallelism() -> None:
    conf = conf_of(master="spark://head.invalid:7077")
    assert conf["spark.jars"] == "/jars/a.jar,/jars/b.jar"
    assert {"spark.sql.shuffle.partitions", "spark.sql.adaptive.enabled", "spark.driver.host"} & set(conf) == set()


@pytest.mark.parametrize(
    ("master", "environ", "expected"),
    [
        ("spark://127.0.0.1:7077", {}, "127.0.0.1"),
        ("spark://localhost:7077,other:7077", {}, "127.0.0.1"),
        ("spark://127.0.0.1:7077", {"SPARK_LOCAL_IP": "10.0.0.1"}, None),
        ("spark://head.invalid:7077", {}, None),
        ("yarn", {}, None),
        ("k8s://https://127.0.0.1:443", {}, None),
    ],
)
def test_executors_find_the_driver_at_its_address_on_the_way_to_the_master(
    master: str, environ: dict[str, str], expected: str | None
) -> None:
    conf = spark_conf(Settings(lake_path="/lake", master=master), (), environ=environ)
    assert conf.get("spark.driver.host") == expected


def test_a_name_of_this_machine_that_leads_to_itself_alone_is_no_address_for_executors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Way(socket.socket):
        def connect(self, address: Any) -> None:
            super().connect(("127.0.1.1", address[1]))  # as Debian's /etc/hosts maps the machine's own name

    monkeypatch.setattr(socket, "socket", Way)
    conf = spark_conf(Settings(lake_path="/lake", master="spark://head:7077"), (), environ={})
    assert "spark.driver.host" not in conf


def test_spark_finds_a_store_by_the_variables_of_the_aws_tools() -> None:
    own = {"AWS_ENDPOINT_URL": "http://store.example:9000", "AWS_REGION": "eu-central-1"}
    conf = s3_conf(own)
    assert conf["spark.hadoop.fs.s3a.endpoint"] == "http://store.example:9000"
    assert conf["spark.hadoop.fs.s3a.path.style.access"] == "true"
    assert conf["spark.hadoop.fs.s3a.connection.ssl.enabled"] == "false"
    assert conf["spark.hadoop.fs.s3a.endpoint.region"] == "eu-central-1"
    assert not [key for key in s3_conf({}) if "endpoint" in key or "credentials" in key]
    of_role = s3_conf({"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"})["spark.hadoop.fs.s3a.aws.credentials.provider"]
    assert of_role.endswith(".WebIdentityTokenFileCredentialsProvider")


def test_jars_of_a_store_stand_beside_those_of_the_user() -> None:
    settings = Settings(lake_path="s3://shop/lake", work_path="/work", conf={"spark.jars": "/mine.jar"})
    conf = spark_conf(settings, (Path("/delta.jar"),), store_jars=(Path("/s3.jar"),), environ={})
    assert conf["spark.jars"] == "/s3.jar,/mine.jar"
    assert conf["spark.driver.extraClassPath"] == "/delta.jar"
    assert "spark.sql.sources.parallelPartitionDiscovery.threshold" not in conf


@pytest.mark.parametrize(
    ("master", "partitions"),
    [("local", "2"), ("local[1]", "2"), ("local[4]", "4"), ("local[3,2]", "3"), ("local[64]", "8")],
)
def test_a_shuffle_on_one_machine_has_few_partitions(master: str, partitions: str) -> None:
    if master == "local":
        partitions = str(min(max(os.cpu_count() or 1, 2), 8))
    assert conf_of(master=master)["spark.sql.shuffle.partitions"] == partitions


def test_class_data_is_taken_with_the_class_path_that_it_is_for_where_nothing_else_looks_at_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def options(**conf: str) -> str:
        return spark_conf(Settings(lake_path="/lake", conf=conf), (Path("/jars/a.jar"),), Path("/saved.jsa"))[
            "spark.driver.extraJavaOptions"
        ]

    assert "-XX:SharedArchiveFile=/saved.jsa" in options()
    assert "-XX:SharedArchiveFile" not in options(**{"spark.driver.extraClassPath": "/more.jar"})
    for key in ("spark.driver.extraJavaOptions", "spark.driver.defaultJavaOptions"):
        for looks_at_classes in ("-XX:StartFlightRecording=filename=a.jfr", "-javaagent:/metrics.jar=9090"):
            assert "-XX:SharedArchiveFile" not in options(**{key: looks_at_classes})
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-javaagent:/metrics.jar=9090")
    assert "-XX:SharedArchiveFile" not in options()


def test_the_heap_of_one_machine_has_its_full_size_from_the_start_unless_the_user_sets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def heap(**conf: str) -> list[str]:
        options = conf_of(driver_memory="3g", conf=conf)["spark.driver.extraJavaOptions"].split()
        return [o for o in options if o.startswith("-Xms")]

    assert heap() == ["-Xms3g"]
    assert heap(**{"spark.driver.memory": "1g"}) == ["-Xms1g"]
    assert heap(**{"spark.driver.extraJavaOptions": "-Xms512m"}) == ["-Xms512m"]
    assert heap(**{"spark.driver.defaultJavaOptions": "-XX:InitialHeapSize=512m"}) == []
    monkeypatch.setenv("_JAVA_OPTIONS", "-Xmx1g")
    assert heap() == []


def test_the_users_garbage_collector_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "-XX:+UseSerialGC" in conf_of(master="local[2]")["spark.driver.extraJavaOptions"]
    options = conf_of(master="local[2]", conf={"spark.driver.extraJavaOptions": "-XX:+UseZGC"})[
        "spark.driver.extraJavaOptions"
    ].split()
    assert [o for o in options if o.endswith("GC")] == ["-XX:+UseZGC"]
    assert "-XX:+UseSerialGC" not in conf_of(master="local[8]")["spark.driver.extraJavaOptions"]
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:+UseG1GC")
    assert "-XX:+UseSerialGC" not in conf_of(master="local[2]")["spark.driver.extraJavaOptions"]

"""Opens the engine's session: a JVM of our own, a cluster, a Spark Connect server, or Sail inside this process.

The only file that starts an engine. The settings of sessions lie in `spark_settings`.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.errors import AnalysisException, UnsupportedOperationException
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from pipeline.contract import Settings, secrets_of
from pipeline.contract.error_text import one_line
from pipeline.engine import connect_server, jars, java, time_zone
from pipeline.engine.spark_settings import (
    COMPILED_BYTES,
    FOR_EVERY_ENGINE,
    FOR_OWN_ENGINES,
    NEEDED_AT_LAUNCH,
    UNCOMPILED,
    server_conf,
    spark_conf,
)

# A server without a reference in Python stops, and a Spark session that outlives its server waits for it for minutes.
_SERVERS: list[Any] = []


@dataclass(frozen=True, kw_only=True)
class Session:
    """An open session. `stop` ends it with everything that was started for it."""

    spark: SparkSession
    engine: str
    close: Callable[[], None]
    compiling: SparkSession | None = None  # on the same engine, set to compile queries where `spark` is set not to
    is_elsewhere: bool = False  # it reads and writes on other machines
    observes: bool = True  # Spark counts the rows of a query while it runs, and Sail does not

    def spark_for(self, size: int) -> SparkSession:
        """Returns the session for reading files of so many bytes: large files are read by compiled code."""
        return self.spark if self.compiling is None or size < COMPILED_BYTES else self.compiling

    def choose_compilation(self, df: DataFrame) -> DataFrame:
        """Returns the same query, set to be compiled where any of its sources is large."""
        if self.compiling is None or df.sparkSession is self.compiling:
            return df
        plan = df._jdf.queryExecution().analyzed()  # noqa: SLF001
        leaves = plan.collectLeaves()
        largest = max((leaves.apply(n).stats().sizeInBytes() for n in range(leaves.size())), default=0)
        if self.spark_for(largest) is self.spark:
            return df
        # Spark plans a query by the settings of the session that the query belongs to, so the query has to change it.
        jvm: Any = self.compiling._jvm  # noqa: SLF001
        dataset = jvm.org.apache.spark.sql.classic.Dataset.ofRows(self.compiling._jsparkSession, plan)  # noqa: SLF001
        return DataFrame(dataset, self.compiling)

    def count_written(self, df: DataFrame) -> tuple[DataFrame, Callable[[], int] | None]:
        """Returns the same query, and a function that returns the number of rows once the engine has written them.

        The function is None for an engine that counts nothing.
        """
        if not self.observes:
            return df, None
        observation = Observation()
        counted = df.observe(observation, F.count(F.lit(1)).alias("rows"))
        return counted, lambda: int(observation.get["rows"])

    def stop(self) -> None:
        self.close()


def open_session(settings: Settings, *, inherit_fds: tuple[int, ...] = ()) -> Session:
    """Opens the session that `settings.engine` names.

    `inherit_fds` are open files, such as the lake's lock. A JVM of our own keeps them open as long as it lives; other
    engines run in this process or elsewhere and inherit nothing. Raises SetupError, whose
    message advises the operator, ValueError for a setting that a server refuses, and ServerAway.
    """
    match settings.engine:
        case "sail":
            return _sail(settings)
        case "connect":
            connect_server.require_answer(settings.remote)
            return _connect(settings, settings.remote, FOR_EVERY_ENGINE, close_server=None)
        case _:
            return _spark(settings, inherit_fds)


def _spark(settings: Settings, inherit_fds: tuple[int, ...]) -> Session:
    from pyspark import SparkConf, SparkContext

    java_found = java.find_java(os.environ)
    delta_jars = jars.find_jars(settings.jars_path)
    saved_classes = java.class_data(java_found, delta_jars)
    store_jars = jars.jars_of_store(settings)
    conf = spark_conf(settings, delta_jars, saved_classes if saved_classes.is_file() else None, store_jars=store_jars)
    _prepare_environment(java_found, is_local=not settings.is_elsewhere)
    at_launch = [(key, value) for key, value in conf.items() if key.startswith(NEEDED_AT_LAUNCH)]
    gateway = _launch(SparkConf(loadDefaults=False).setAll(at_launch), settings, inherit_fds)
    context = SparkContext(gateway=gateway, conf=SparkConf(loadDefaults=False).setAll(list(conf.items())))
    session = SparkSession(context)

    def close() -> None:
        session.stop()
        _end_jvm(gateway)

    compiling = None
    if not any(key in settings.conf for key in UNCOMPILED):
        compiling = session.newSession()
        for key, value in UNCOMPILED.items():
            session.conf.set(key, value)
    return Session(spark=session, engine="spark", close=close, compiling=compiling, is_elsewhere=settings.is_elsewhere)


def _prepare_environment(java_found: java.JavaFound, *, is_local: bool) -> None:
    import pyspark

    os.environ["JAVA_HOME"] = str(java_found.home)
    os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)  # another Spark of this machine lacks Delta's jars
    os.environ["PYSPARK_PYTHON"] = sys.executable  # not the first python3 on PATH
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["LC_ALL"] = "C.UTF-8"  # Java takes the encoding of file names from here alone
    if is_local:
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"  # Spark fails where the machine's own name does not resolve
    # Where a notebook or another engine has set these, they would lead to another session.
    for inherited in ("PYSPARK_GATEWAY_PORT", "PYSPARK_SUBMIT_ARGS", "SPARK_CONNECT_MODE_ENABLED", "SPARK_REMOTE"):
        os.environ.pop(inherited, None)


def _launch(conf: Any, settings: Settings, inherit_fds: tuple[int, ...]) -> Any:
    from pyspark.java_gateway import launch_gateway

    with contextlib.ExitStack() as stack:
        # pyspark's launcher closes every other open file in the JVM. It also gives the JVM a pipe as stdin: the JVM
        # ends when this pipe closes, so it ends with this process, also where this process is killed.
        popen: dict[str, Any] = {"pass_fds": inherit_fds}
        if settings.log_path:
            Path(settings.log_path).parent.mkdir(parents=True, exist_ok=True)
            log = stack.enter_context(Path(settings.log_path).open("ab"))
            popen |= {"stdout": log, "stderr": subprocess.STDOUT}
        return launch_gateway(conf, popen)  # type: ignore[no-untyped-call]


def _end_jvm(gateway: Any) -> None:
    from pyspark import SparkContext

    gateway.shutdown()
    gateway.proc.stdin.close()
    try:
        gateway.proc.wait(20)
    except subprocess.TimeoutExpired:
        gateway.proc.kill()
        gateway.proc.wait()
    # pyspark keeps the gateway for the next context of this process and never checks whether its JVM still lives.
    SparkContext._gateway = None  # noqa: SLF001
    SparkContext._jvm = None  # noqa: SLF001


def _sail(settings: Settings) -> Session:
    os.environ.setdefault("RUST_LOG", "warn")  # Sail logs every query at INFO, on stderr
    # Sail drops a session that was idle for 15 minutes, as tests have shown. The worker's session may wait for days.
    os.environ.setdefault("SAIL_SPARK__SESSION_TIMEOUT_SECS", str(10 * 365 * 86400))
    from pysail import _native
    from pysail.spark import SparkConnectServer

    if not time_zone.is_known():
        time_zone.set_utc(Path(_native.__file__))
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    _SERVERS.append(server)

    def close_server() -> None:
        _SERVERS.remove(server)
        server.stop()

    remote = f"sc://127.0.0.1:{server.listening_address[1]}"
    return _connect(settings, remote, FOR_EVERY_ENGINE | FOR_OWN_ENGINES, close_server=close_server)


def _connect(
    settings: Settings, remote: str, own_conf: dict[str, str], *, close_server: Callable[[], None] | None
) -> Session:
    session = SparkSession.builder.remote(remote).getOrCreate()
    for key, value in (own_conf | server_conf(settings.conf)).items():
        try:
            session.conf.set(key, value)
        except AnalysisException as error:
            session.stop()
            cause = one_line(error, secrets_of(settings, environ=os.environ), 200, with_type=False)
            raise ValueError(
                f"{remote} does not take {key} for a session ({cause}); "
                "start the server with it, and leave it out of [spark] conf"
            ) from error

    def close() -> None:
        session.stop()
        if close_server:
            close_server()

    return Session(
        spark=session,
        engine=settings.engine,
        close=close,
        is_elsewhere=settings.is_elsewhere,
        observes=settings.engine != "sail" and _observes(session),
    )


def _observes(session: SparkSession) -> bool:
    try:
        session.range(1).observe(Observation(), F.count(F.lit(1)).alias("rows")).collect()
    except UnsupportedOperationException:  # a server of Sail
        return False
    return True

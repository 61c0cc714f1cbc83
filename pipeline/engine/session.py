"""Opens the engine's session: a JVM of our own, a cluster, a Spark Connect server, or Sail inside this process.

The only file that knows how an engine is started and set. Everything it sets is here with its reason; `[spark] conf` wins.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from pipeline.contract import Settings
from pipeline.engine import jars, java, time_zone

# Also a session on somebody else's server can be told these.
FOR_EVERY_ENGINE = {
    "spark.sql.session.timeZone": "UTC",  # a timestamp without a zone means UTC, on whatever machine
    "spark.sql.ansi.enabled": "true",  # a number that does not fit is an error, never a null
}
# A server that runs already takes none of these: they are set before the first session.
FOR_AN_ENGINE_OF_OURS = {
    # Else pyspark looks, at each of a batch's thousand calls, for the line that makes it, and for IPython, which is not there.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}
FOR_SPARK = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.catalogImplementation": "in-memory",  # no Hive: its Derby database would be written to the current folder
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # the old form of 12 bytes is slower, and readers in nanoseconds end in 2262
    "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",  # Power BI and delta-rs's Arrow reader refuse them
    "spark.ui.enabled": "false",  # a port and a second of start-up that nobody asked for
    "spark.ui.showConsoleProgress": "false",  # control characters in a log file
    "spark.log.level": "WARN",
    # The worker lives for months: what Spark remembers of past jobs stays small.
    "spark.ui.retainedJobs": "20",
    "spark.ui.retainedStages": "20",
    "spark.ui.retainedTasks": "1000",
    "spark.sql.ui.retainedExecutions": "5",
    # A batch onto large tables compiles hundreds of pieces of code. In a cache of a hundred, Spark's default, the next one finds none of them.
    "spark.sql.codegen.cache.maxEntries": "2000",
    # Plans of wide tables are cut in the log, and building the long text costs time even where nobody reads it.
    "spark.sql.maxPlanStringLength": "2000",
}
# On one machine the data of a batch is small against the cost of a task; on a cluster Spark's own defaults are right.
FOR_ONE_MACHINE = {
    "spark.databricks.delta.snapshotPartitions": "1",  # instead of 50 tasks for a log of a few files
    "spark.sql.adaptive.enabled": "false",  # each of its stages is a job of its own: on small data that is most of the time
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "100000",  # files are listed here, not by a Spark job
    "spark.locality.wait": "0",  # there is no better place to wait for
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",  # nobody else has business with this JVM
    # Every hash table of a join or an aggregate takes a page at least, and Java fills it with zeros: on two cores 64 MB, for a few rows.
    "spark.buffer.pageSize": "4m",
}
# Compiling a query to bytecode costs more than a small batch's rows do: without it, a warm batch of 200 rows takes a third of
# the time. For a query that looks through a table of `COMPILED_BYTES`, some two hundred thousand rows, compiled loops over columns win from the
# second batch on; the first of a worker's life pays for most of the compiling.
UNCOMPILED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
COMPILED_BYTES = 12 << 20
# Ten times Java's thresholds: optimising code that runs for one small batch costs more than it gains, a fifth of all the time on two
# cores; code that a million rows go through is optimised all the same.
LATE_OPTIMISATION = (
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)
LOOKS_AT_CLASSES = re.compile(
    "FlightRecord|agent"
)  # Java 17 dies of saved class data when its flight recorder is on; tried
SETS_THE_HEAP = re.compile("-Xm[sx]|HeapSize")  # Java refuses a heap that starts larger than it may become
FEW_CORES = 2  # on these the threads of a concurrent collector take the work's place
# These shape the JVM or its class path and must be known before it starts. All others go in through the session:
# a command line is everybody's to read, and `conf` may hold the key of an object store.
# Broadcast joins by a whole number take the size of a page from what the JVM was started with.
NEEDED_AT_LAUNCH = (
    "spark.driver.",
    "spark.jars",
    "spark.submit.",
    "spark.master",
    "spark.yarn.",
    "spark.kubernetes.",
    "spark.buffer.pageSize",
)
# What both we and the user may give: one does not take the place of the other.
JOINED_BY = {
    "spark.sql.extensions": ",",
    "spark.jars": ",",
    "spark.driver.extraClassPath": ":",
    "spark.driver.extraJavaOptions": " ",
}


# A server that nobody refers to stops, and who holds its Spark session alone would wait for it for minutes.
_SERVERS: list[Any] = []


@dataclass(frozen=True, kw_only=True)
class Session:
    """An open session. `stop` ends it and whatever was started for it."""

    spark: SparkSession
    engine: str
    close: Callable[[], None]
    compiling: SparkSession | None = None  # the same engine, set to compile, where `spark` is set not to

    def for_bytes(self, size: int) -> SparkSession:
        """Gives the session to read files of so many bytes with: Spark reads them in rows or columns as that one is set."""
        return self.spark if self.compiling is None or size < COMPILED_BYTES else self.compiling

    def suited(self, df: DataFrame) -> DataFrame:
        """Gives the same query, to be compiled if it looks through large files, wherever they stand in it."""
        if self.compiling is None or df.sparkSession is self.compiling:
            return df
        plan = df._jdf.queryExecution().analyzed()  # noqa: SLF001
        leaves = plan.collectLeaves()
        if (
            self.for_bytes(max((leaves.apply(n).stats().sizeInBytes() for n in range(leaves.size())), default=0))
            is self.spark
        ):
            return df
        # Spark plans a query as the session is set that it belongs to.
        jvm: Any = self.compiling._jvm  # noqa: SLF001
        return DataFrame(
            jvm.org.apache.spark.sql.classic.Dataset.ofRows(self.compiling._jsparkSession, plan), self.compiling
        )  # noqa: SLF001

    def counted(self, df: DataFrame) -> tuple[DataFrame, Callable[[], int] | None]:
        """Gives the same query, and what tells, once it is written, how many rows the engine has written.

        That is None on Sail: it counts nothing, and writes from this process to this machine's own files.
        """
        if self.engine == "sail":
            return df, None
        seen = Observation()
        return df.observe(seen, F.count(F.lit(1)).alias("rows")), lambda: int(seen.get["rows"])

    def stop(self) -> None:
        self.close()


def open_session(settings: Settings, *, inherit_fds: tuple[int, ...] = ()) -> Session:
    """Opens the session that `settings.engine` names.

    `inherit_fds` are open files that a JVM of our own keeps open as long as it lives, such as the lake's lock. Other engines run
    in this process or elsewhere and inherit nothing. Raises NoJava, NoJars and NoTimeZone, whose messages say what to do.
    """
    match settings.engine:
        case "sail":
            return _sail(settings)
        case "connect":
            conf = FOR_EVERY_ENGINE | _for_a_session(settings.conf)
            return _connect(settings.remote, conf, engine="connect", close_server=None)
        case _:
            return _spark(settings, inherit_fds)


def spark_conf(settings: Settings, delta_jars: tuple[Path, ...], saved: Path | None = None) -> dict[str, str]:
    """Tells every setting of a session on Spark, ours and the user's. `saved` is class data for its Java."""
    local = settings.master.startswith("local")
    conf = {
        **FOR_EVERY_ENGINE,
        **FOR_AN_ENGINE_OF_OURS,
        **FOR_SPARK,
        "spark.master": settings.master,
        "spark.app.name": "lakegate",
    }
    conf["spark.driver.memory"] = (
        settings.driver_memory
    )  # fixed: the machine has other work, and the unit's limit is known
    conf["spark.driver.extraJavaOptions"] = " ".join(_java_options(settings, saved))
    conf["spark.sql.warehouse.dir"] = (
        f"{settings.lake_path}/_work/warehouse"  # never used, yet created: in the current folder, unless told
    )
    if local:
        conf |= {**FOR_ONE_MACHINE, "spark.sql.shuffle.partitions": str(min(max(_cores(settings.master), 2), 8))}
        conf["spark.driver.extraClassPath"] = ":".join(
            map(str, delta_jars)
        )  # driver and executor are one JVM: no copy of each jar is served to it
    else:
        conf["spark.jars"] = ",".join(map(str, delta_jars))
    for key, value in settings.conf.items():
        joined = key in JOINED_BY and key in conf and value not in conf[key]
        conf[key] = JOINED_BY[key].join((conf[key], value)) if joined else value
    return conf


def _java_options(settings: Settings, saved: Path | None) -> list[str]:
    # A JVM that lost a thread for want of memory answers no more, yet lives. And Java reads no TMPDIR.
    scratch = tempfile.gettempdir()
    options = [
        "-XX:+ExitOnOutOfMemoryError",
        f"-Djava.io.tmpdir={scratch}",
        f"-XX:ErrorFile={scratch}/hs_err_pid%p.log",
    ]
    # Nothing depends on the zone, the locale or the display of the machine.
    options += ["-Duser.timezone=UTC", "-Dfile.encoding=UTF-8", "-Djava.awt.headless=true"]
    of_conf = (settings.conf.get(f"spark.driver.{name}", "") for name in ("extraJavaOptions", "defaultJavaOptions"))
    of_the_environment = (
        os.environ.get(name, "") for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
    )
    told = " ".join([*of_conf, *of_the_environment])
    if settings.master.startswith("local"):
        # A heap that starts small and grows is searched through whole at every step, and so it is for the first classes loaded.
        options += [*LATE_OPTIMISATION, "-XX:MetaspaceSize=256m"]
        if not SETS_THE_HEAP.search(told):
            options.append(f"-Xms{settings.conf.get('spark.driver.memory', settings.driver_memory)}")
        if (
            saved is not None
            and "spark.driver.extraClassPath" not in settings.conf
            and not LOOKS_AT_CLASSES.search(told)
        ):
            # Half of the start is reading and checking 15,000 classes. Where the file does not suit, Java goes on without; what it says of it is noise.
            options += [f"-XX:SharedArchiveFile={saved}", "-Xlog:cds=off"]
        if _cores(settings.master) <= FEW_CORES and "GC" not in told:
            options.append("-XX:+UseSerialGC")
    return options


def _cores(master: str) -> int:
    told = re.fullmatch(r"local\[(\d+)(?:,.*)?\]", master)
    return int(told[1]) if told else (os.cpu_count() or 1)


def _spark(settings: Settings, inherit_fds: tuple[int, ...]) -> Session:
    from pyspark import SparkConf, SparkContext

    found, delta_jars = java.find_java(os.environ), jars.find_jars(settings.jars_path)
    saved = java.class_data(found, delta_jars)
    conf = spark_conf(settings, delta_jars, saved if saved.is_file() else None)
    _prepare_environment(found, local=settings.master.startswith("local"))
    gateway = _launch(
        SparkConf(loadDefaults=False).setAll([(k, v) for k, v in conf.items() if k.startswith(NEEDED_AT_LAUNCH)]),
        settings,
        inherit_fds,
    )
    context = SparkContext(gateway=gateway, conf=SparkConf(loadDefaults=False).setAll(list(conf.items())))
    session = SparkSession(context)

    def close() -> None:
        session.stop()
        _end_jvm(gateway)

    if not settings.master.startswith("local") or any(key in settings.conf for key in UNCOMPILED):
        return Session(spark=session, engine="spark", close=close)
    compiling = session.newSession()
    for key, value in UNCOMPILED.items():
        session.conf.set(key, value)
    return Session(spark=session, engine="spark", close=close, compiling=compiling)


def _prepare_environment(found: java.JavaFound, *, local: bool) -> None:
    import pyspark

    os.environ["JAVA_HOME"] = str(found.home)
    os.environ["SPARK_HOME"] = str(
        Path(pyspark.__file__).parent
    )  # another Spark of this machine would not know Delta's jars
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable  # not the first python3 on PATH
    os.environ["LC_ALL"] = "C.UTF-8"  # Java takes the encoding of file names from here alone
    if local:
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"  # a host name that resolves to nothing would stop it
    for inherited in ("PYSPARK_GATEWAY_PORT", "PYSPARK_SUBMIT_ARGS", "SPARK_CONNECT_MODE_ENABLED", "SPARK_REMOTE"):
        os.environ.pop(
            inherited, None
        )  # left over from a notebook or another engine, they would lead to another session


def _launch(conf: Any, settings: Settings, inherit_fds: tuple[int, ...]) -> Any:
    from pyspark.java_gateway import launch_gateway

    with contextlib.ExitStack() as stack:
        # pyspark's launcher closes every open file in the JVM but those named here, its parameter for developers. Its pipe to the
        # JVM's stdin is what ends the JVM when this process is gone, however it went.
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
    # pyspark keeps the gateway for the next context of this process and never asks whether its JVM still lives.
    SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001


def _sail(settings: Settings) -> Session:
    os.environ.setdefault("RUST_LOG", "warn")  # it reports every query at INFO, on stderr
    # It forgets a session that was idle for 15 minutes, tried; the worker's waits for its next batch for days.
    os.environ.setdefault("SAIL_SPARK__SESSION_TIMEOUT_SECS", str(10 * 365 * 86400))
    from pysail import _native
    from pysail.spark import SparkConnectServer

    if not time_zone.is_known():
        time_zone.say_utc(Path(_native.__file__))
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    _SERVERS.append(server)

    def close_server() -> None:
        _SERVERS.remove(server)
        server.stop()

    conf = FOR_EVERY_ENGINE | FOR_AN_ENGINE_OF_OURS | _for_a_session(settings.conf)
    remote = f"sc://127.0.0.1:{server.listening_address[1]}"
    return _connect(remote, conf, engine="sail", close_server=close_server)


def _connect(remote: str, conf: Mapping[str, str], *, engine: str, close_server: Callable[[], None] | None) -> Session:
    session = SparkSession.builder.remote(remote).getOrCreate()
    for key, value in conf.items():
        try:
            session.conf.set(key, value)
        except AnalysisException as error:
            session.stop()
            cause = " ".join(str(error).split())
            told = f"{remote} does not take {key} for a session ({cause[:200]})"
            raise ValueError(f"{told}; start the server with it, and leave it out of [spark] conf") from error

    def close() -> None:
        session.stop()
        if close_server:
            close_server()

    return Session(spark=session, engine=engine, close=close)


def _for_a_session(conf: Mapping[str, str]) -> dict[str, str]:
    # A session on a running server can be told SQL settings only; the rest of `conf` is for the engine spark.
    return {key: value for key, value in conf.items() if key.startswith(("spark.sql.", "spark.databricks."))}

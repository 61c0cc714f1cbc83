"""The settings of sessions, each with its reason. `[spark] conf` of the user wins over all of them."""

import os
import re
import socket
import tempfile
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.contract import Settings

# Sessions on servers of other people take these, too.
FOR_EVERY_ENGINE = {
    "spark.sql.session.timeZone": "UTC",  # on every machine a timestamp without a zone means UTC
    "spark.sql.ansi.enabled": "true",  # a number that does not fit is an error, never a null
    # The old form of 12 bytes is slower, and readers that count nanoseconds end in 2262.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}
# Sessions that we start ourselves. A running server refuses these: they must be set before its first session.
FOR_OWN_ENGINES = {
    # By default pyspark looks up its caller's line, and IPython, at each of the thousand calls of a batch.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}
_FOR_SPARK = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.catalogImplementation": "in-memory",  # Hive would write its Derby database to the current folder
    # Power BI and delta-rs's Arrow reader refuse tables with deletion vectors.
    "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
    "spark.ui.enabled": "false",  # the web pages take a port and a second of the start
    "spark.ui.showConsoleProgress": "false",  # the progress bar writes control characters into a log file
    "spark.log.level": "WARN",
    # The worker lives for months: Spark keeps little of past jobs in memory.
    "spark.ui.retainedJobs": "20",
    "spark.ui.retainedStages": "20",
    "spark.ui.retainedTasks": "1000",
    "spark.sql.ui.retainedExecutions": "5",
    # A batch onto large tables compiles hundreds of pieces of code. Spark's default of 100 would drop each before the
    # next batch needs it again.
    "spark.sql.codegen.cache.maxEntries": "2000",
    # Spark builds the text of every plan, also where no log shows it. For wide tables a long text takes time.
    "spark.sql.maxPlanStringLength": "2000",
}
# On one machine a task costs more than the small data of a batch. On a cluster Spark's own defaults are right.
_FOR_ONE_MACHINE = {
    "spark.databricks.delta.snapshotPartitions": "1",  # the default is 50 tasks, for a log of a few files
    "spark.sql.adaptive.enabled": "false",  # it runs each stage as a job: on small data that is most of the time
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "100000",  # list files here, not by a Spark job
    "spark.locality.wait": "0",  # on one machine no other place comes free
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",  # other machines must not reach this JVM
    # Every hash table of a join or an aggregate takes at least one page, and Java fills the page with zeros. The
    # default on two cores is 64 MB, for a few rows.
    "spark.buffer.pageSize": "4m",
}
# Compiling a query to bytecode costs more than the rows of a small batch: without it a warm batch of 200 rows takes a
# third of the time. For a query over a table of `COMPILED_BYTES`, about 200,000 rows, compiled loops over columns are
# faster from the second batch on. The first batch of a worker pays for most of the compiling.
UNCOMPILED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
COMPILED_BYTES = 12 << 20
# Ten times Java's thresholds. Optimising code that runs for one small batch costs more than it gains: on two cores a
# fifth of all the time. Code that a million rows pass is optimised all the same.
_LATE_OPTIMISATION = (
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)
# Java 17 crashes on saved class data while its flight recorder is on, as tests have shown. Agents change classes, too.
_READS_CLASSES = re.compile("FlightRecord|agent")
_SETS_THE_HEAP = re.compile("-Xm[sx]|HeapSize")  # Java refuses a heap that starts larger than it may become
_FEW_CORES = 2  # on so few cores the threads of a concurrent collector take time from the work
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
# These shape the JVM or its class path, so the JVM must start with them. All others reach Spark through the session:
# every user of the machine can read a command line, and `conf` may hold the key of an object store. Joins that
# broadcast a whole number take the page size from the JVM's start.
NEEDED_AT_LAUNCH = (
    "spark.driver.",
    "spark.jars",
    "spark.submit.",
    "spark.master",
    "spark.yarn.",
    "spark.kubernetes.",
    "spark.buffer.pageSize",
)
# Lists that hold our values and the user's: the user's value is added with this sign between them.
_JOINED_BY = {
    "spark.sql.extensions": ",",
    "spark.jars": ",",
    "spark.driver.extraClassPath": ":",
    "spark.driver.extraJavaOptions": " ",
}


def spark_conf(
    settings: Settings,
    delta_jars: Sequence[Path],
    saved_classes: Path | None = None,
    *,
    store_jars: Iterable[Path] = (),
    environ: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Returns every setting of a session on Spark, ours and the user's.

    `saved_classes` is the file of class data that fits the session's Java and jars. `store_jars` reach the store of the
    lake, whose address and region `environ` names, as for every other reader of the store.
    """
    conf = {**FOR_EVERY_ENGINE, **FOR_OWN_ENGINES, **_FOR_SPARK}
    loaded = list(store_jars)
    if loaded:
        conf |= s3_conf(environ)
    conf["spark.master"] = settings.master
    conf["spark.app.name"] = "lakegate"
    conf["spark.driver.memory"] = settings.driver_memory  # fixed, because the machine has other work
    conf["spark.driver.extraJavaOptions"] = " ".join(_java_options(settings, saved_classes))
    # Spark creates this folder and never uses it. The default lies in the current folder.
    conf["spark.sql.warehouse.dir"] = f"{settings.work}/warehouse"
    if not settings.is_elsewhere:
        conf |= _FOR_ONE_MACHINE
        if loaded:  # one after another takes long in a store
            del conf["spark.sql.sources.parallelPartitionDiscovery.threshold"]
        conf["spark.sql.shuffle.partitions"] = str(min(max(_cores(settings.master), 2), 8))
    else:
        loaded += delta_jars  # for the executors; on one machine the driver is the executor, too
        conf |= _driver_address(settings.master, environ)
    # On the class path of the driver's start, since saved class data is of this class path.
    conf["spark.driver.extraClassPath"] = ":".join(map(str, delta_jars))
    if loaded:
        conf["spark.jars"] = ",".join(map(str, loaded))
    for key, value in settings.conf.items():
        is_added = key in _JOINED_BY and key in conf and value not in conf[key]
        conf[key] = _JOINED_BY[key].join((conf[key], value)) if is_added else value
    return conf


def s3_conf(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings with which Spark reads `s3://` by the variables that the AWS tools read.

    Spark itself hands the keys of these variables on to its executors.
    """
    conf = {"spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem"}
    if endpoint := next((environ[name] for name in _ENDPOINTS if environ.get(name)), ""):
        # A store of one's own seldom has a host name for each bucket.
        conf["spark.hadoop.fs.s3a.endpoint"] = endpoint
        conf["spark.hadoop.fs.s3a.path.style.access"] = "true"
        conf["spark.hadoop.fs.s3a.connection.ssl.enabled"] = str(not endpoint.startswith("http://")).lower()
    if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):  # a role of Kubernetes, which is not among S3A's own providers
        provider = "software.amazon.awssdk.auth.credentials.WebIdentityTokenFileCredentialsProvider"
        conf["spark.hadoop.fs.s3a.aws.credentials.provider"] = provider
    if region := environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"):
        conf["spark.hadoop.fs.s3a.endpoint.region"] = region
    # A task moves its files itself, and the driver need not copy each again. A job that fails leaves files in the
    # scratch folder alone, and the rows of a job that ends are counted.
    conf["spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version"] = "2"
    return conf


def _driver_address(master: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the address at which executors find the driver: that of this machine on the way to the cluster's master.

    By default Spark takes the machine's name, which often does not resolve on other machines.
    """
    address = urllib.parse.urlsplit(master.partition(",")[0])
    is_given = any(environ.get(name) for name in ("SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME"))
    if is_given or address.scheme != "spark" or not address.hostname:
        return {}  # Kubernetes and YARN have rules of their own
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect((address.hostname, address.port or 7077))  # sends nothing
            host = str(way.getsockname()[0])
    except OSError:
        return {}
    # /etc/hosts may give this machine's own name a loopback address, which leads nowhere from other machines.
    is_for_others = not host.startswith("127.") or address.hostname in ("localhost", host)
    return {"spark.driver.host": host} if is_for_others else {}


def server_conf(conf: Mapping[str, str]) -> dict[str, str]:
    """Returns those settings of the user that a session on a running server takes."""
    return {key: value for key, value in conf.items() if key.startswith(("spark.sql.", "spark.databricks."))}


def _java_options(settings: Settings, saved_classes: Path | None) -> list[str]:
    scratch = tempfile.gettempdir()  # Java does not read TMPDIR
    options = [
        "-XX:+ExitOnOutOfMemoryError",  # without it a JVM that lost a thread answers no more, yet lives
        f"-Djava.io.tmpdir={scratch}",
        f"-XX:ErrorFile={scratch}/hs_err_pid%p.log",
        # Results must not depend on the machine's zone, locale or display.
        "-Duser.timezone=UTC",
        "-Dfile.encoding=UTF-8",
        "-Djava.awt.headless=true",
    ]
    of_user = _java_options_of_user(settings)
    options += _LATE_OPTIMISATION
    # A space for classes that starts small is collected whole each time it grows, already for the first classes.
    options.append("-XX:MetaspaceSize=256m")
    if not _SETS_THE_HEAP.search(of_user):
        # A heap that starts small is collected whole at every step of its growth.
        options.append(f"-Xms{settings.conf.get('spark.driver.memory', settings.driver_memory)}")
    changes_classes = "spark.driver.extraClassPath" in settings.conf or _READS_CLASSES.search(of_user)
    if saved_classes is not None and not changes_classes:
        # Half of the start is reading and checking 15,000 classes. Where the file does not fit, Java starts without it;
        # the log line about that helps no reader.
        options += [f"-XX:SharedArchiveFile={saved_classes}", "-Xlog:cds=off"]
    if _cores(settings.master) <= _FEW_CORES and "GC" not in of_user:
        options.append("-XX:+UseSerialGC")
    return options


def _java_options_of_user(settings: Settings) -> str:
    of_conf = (settings.conf.get(f"spark.driver.{name}", "") for name in ("extraJavaOptions", "defaultJavaOptions"))
    variables = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
    return " ".join([*of_conf, *(os.environ.get(name, "") for name in variables)])


def _cores(master: str) -> int:
    named = re.fullmatch(r"local\[(\d+)(?:,.*)?\]", master)
    return int(named[1]) if named else (os.cpu_count() or 1)

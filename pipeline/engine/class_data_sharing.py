"""Saves the class data of a session, so that later sessions start in half the time: Java reads and checks no classes.

`python -m pipeline.engine.class_data_sharing [JARS_FOLDER]` does this once for an installation. Class data works only
with the Java and the jars that made it. Sessions on other ones start without it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipeline.contract import Settings
from pipeline.engine.jars import find_jars
from pipeline.engine.java import class_data, find_java
from pipeline.engine.session import open_session
from pipeline.errors import SetupError


def save(jars_path: str = "") -> Path:
    """Writes the class data file, removes all earlier ones, and returns its path.

    A session computes a few rows, and Java saves the classes that this loaded. Raises SetupError,
    PySparkException where no session opens, and SubprocessError where Java does not save.
    """
    java = find_java(os.environ)
    delta_jars = find_jars(jars_path)
    data = class_data(java, delta_jars)
    data.parent.mkdir(parents=True, exist_ok=True)
    data.unlink(missing_ok=True)  # the session below must load its classes itself
    with tempfile.TemporaryDirectory(dir=data.parent, prefix=".classdata-") as scratch:
        loaded = Path(scratch) / "loaded"
        archive = Path(scratch) / "classes.jsa"
        class_path = _list_classes(loaded, Path(scratch), jars_path)
        # A small heap is enough, because class data lies outside of it.
        command = [
            str(java.executable),
            "-Xmx1g",
            "-Xshare:dump",
            f"-XX:SharedClassListFile={loaded}",
            f"-XX:SharedArchiveFile={archive}",
            "-cp",
            class_path,
        ]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
        for earlier in data.parent.glob("*.jsa"):
            earlier.unlink()
        return archive.replace(data)


def _list_classes(loaded: Path, scratch: Path, jars_path: str) -> str:
    """Writes the classes that a small batch loads into the file `loaded`, and returns the class path of the session."""
    listing = {"spark.driver.extraJavaOptions": f"-XX:DumpLoadedClassList={loaded}"}
    session = open_session(
        Settings(
            lake_path=str(scratch / "lake"),
            engine="spark",
            jars_path=jars_path,
            conf=listing,
            log_path=str(scratch / "log"),
        )
    )
    try:
        _compute(session.spark, scratch / "rows")
        row = session.spark.sql("SELECT reflect('java.lang.System', 'getProperty', 'java.class.path')").first()
        assert row is not None
        return str(row[0])
    finally:
        session.stop()


def _compute(spark: SparkSession, folder: Path) -> None:
    """Runs queries of the kinds that a batch runs: casts, Parquet, joins, aggregates, windows, sorts, Arrow."""
    rows = pa.table(
        {"key": [1, 2, 2], "at": ["2026-03-02 10:00:00", "2026-03-02T10:00:00", None], "amount": ["1.50", "2", ""]}
    )
    typed = spark.createDataFrame(rows).selectExpr(
        "key", "CAST(at AS TIMESTAMP) AS at", "try_cast(amount AS DECIMAL(18,2)) AS amount", "sha2(at, 256) AS hash"
    )
    typed.write.option("compression", "snappy").parquet(str(folder))
    stored = spark.read.schema(typed.schema).parquet(str(folder)).where("key BETWEEN 1 AND 9")
    sums = stored.groupBy("key").agg(
        F.sum("amount").alias("sum"), F.min("at").alias("first"), F.count(F.lit(1)).alias("n")
    )
    joined = stored.join(sums, "key", "left").join(stored.select("key").distinct(), "key", "left_semi")
    ranked = joined.selectExpr(
        "*",
        "row_number() OVER (PARTITION BY key ORDER BY at DESC NULLS LAST, amount) AS rank",
        "lead(at) OVER (PARTITION BY key ORDER BY at) AS next",
    )
    signed = ranked.unionByName(ranked.where("rank > 1")).selectExpr(
        "key", "explode(array(named_struct('at', at, 'next', next), NULL)) AS pair", "rank"
    )
    signed.orderBy(F.col("rank").desc(), "key").limit(3).toArrow()


def main(arguments: list[str]) -> int:
    """Saves the class data for the installation's own jars of Delta, or for those of a given folder."""
    try:
        saved = save(arguments[0] if arguments else "")
    except (SetupError, OSError, PySparkException, subprocess.SubprocessError) as e:
        lines = (getattr(e, "stdout", None) or str(e)).strip().splitlines()
        print(
            f"Java could not save its class data ({lines[-1]}); sessions start all the same, in twice the time",
            file=sys.stderr,
        )
        return 1
    print(f"Java's class data: {saved.stat().st_size // 2**20} MB in {saved.parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

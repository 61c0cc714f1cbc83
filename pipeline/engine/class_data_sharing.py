"""Saves what Java loads for a session (its "class data"), so that every later session starts in half the time.

`python -m pipeline.engine.class_data_sharing [JARS_FOLDER]` does it, once for an installation. Java takes class data only where Java and all jars are
those that it was made with; sessions on others start without.
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
from pipeline.engine.jars import JarsNotFound, find_jars
from pipeline.engine.java import JavaNotFound, class_data, find_java
from pipeline.engine.session import open_session


def save(jars_path: str = "") -> Path:
    """Makes the file in the place of all former ones and gives its path.

    A session is opened and tried out with a few rows, and Java saves what that loaded. Raises NoJava, NoJars, PySparkException when no
    session opens, and SubprocessError when Java does not save.
    """
    java, delta_jars = find_java(os.environ), find_jars(jars_path)
    data = class_data(java, delta_jars)
    data.parent.mkdir(parents=True, exist_ok=True)
    data.unlink(missing_ok=True)  # else the session below would start from it
    with tempfile.TemporaryDirectory(dir=data.parent, prefix=".classdata-") as scratch:
        seen, made = Path(scratch) / "seen", Path(scratch) / "made.jsa"
        class_path = _try_out(seen, Path(scratch), jars_path)
        # The heap holds no class data, and the machine has other work.
        command = [
            str(java.executable),
            "-Xmx1g",
            "-Xshare:dump",
            f"-XX:SharedClassListFile={seen}",
            f"-XX:SharedArchiveFile={made}",
            "-cp",
            class_path,
        ]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
        for former in data.parent.glob("*.jsa"):
            former.unlink()
        return made.replace(data)


def _try_out(seen: Path, scratch: Path, jars_path: str) -> str:
    """Opens a session whose Java lists in `seen` what it loads, does with it what a batch does, and tells its class path."""
    listing = {"spark.driver.extraJavaOptions": f"-XX:DumpLoadedClassList={seen}"}
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
        _use(session.spark, scratch / "rows")
        row = session.spark.sql("SELECT reflect('java.lang.System', 'getProperty', 'java.class.path')").first()
        assert row is not None
        return str(row[0])
    finally:
        session.stop()


def _use(spark: SparkSession, folder: Path) -> None:
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
    """Saves the class data for the installation's own jars of Delta, or those of the folder that is named."""
    try:
        made = save(arguments[0] if arguments else "")
    except (JavaNotFound, JarsNotFound, OSError, PySparkException, subprocess.SubprocessError) as e:
        said = (getattr(e, "stdout", None) or str(e)).strip().splitlines()
        print(
            f"Java could not save its class data ({said[-1]}); sessions start all the same, in twice the time",
            file=sys.stderr,
        )
        return 1
    print(f"Java's class data: {made.stat().st_size // 2**20} MB in {made.parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

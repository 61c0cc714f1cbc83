"""The engine's session as the lake uses it, and how an engine reads data files."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from pipeline.lake.delta_schema import spark_json, spark_schema
from pipeline.place import Place

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# One task reads up to so many bytes. Joins and windows on its rows then need no shuffle.
ONE_TASK_BYTES = 8 << 20


class EngineSession(Protocol):
    """The part of a session that the lake uses; see `pipeline.engine.session.Session`."""

    @property
    def spark(self) -> "SparkSession": ...
    @property
    def engine(self) -> str: ...
    @property
    def is_elsewhere(self) -> bool: ...
    def spark_for(self, size: int) -> "SparkSession": ...
    def choose_compilation(self, df: "DataFrame") -> "DataFrame": ...
    def count_written(self, df: "DataFrame") -> "tuple[DataFrame, Callable[[], int] | None]": ...


def read_parquet(session: EngineSession, schema: pa.Schema, files: Mapping[Place, int]) -> "DataFrame":
    """Returns the rows of Parquet files, given with their sizes in bytes, as a DataFrame of this schema."""
    size = sum(files.values())
    spark = session.spark_for(size)
    if files:
        columns = spark_schema(schema) if session.engine == "spark" else spark_json(schema)
        df = spark.read.schema(columns).parquet(*map(str, files))
    else:
        # From an empty list of files Spark plans tasks that find nothing. From an empty Arrow table it plans none.
        df = spark.createDataFrame(schema.empty_table(), schema=spark_schema(schema))
    return df.coalesce(1) if size <= ONE_TASK_BYTES else df

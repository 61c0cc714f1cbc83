"""Converts schemas between Arrow, Delta's log and Spark."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import Schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType


def arrow_from_delta(schema: Schema) -> pa.Schema:
    """Returns the Arrow schema of a Delta schema."""
    return normalize(pa.schema(schema.to_arrow()))


@lru_cache(maxsize=1024)
def arrow_from_parquet(schema: pa.Schema) -> pa.Schema:
    """Returns the schema of a Parquet file with the types that Delta gives its columns."""
    return arrow_from_delta(Schema.from_arrow(normalize(schema)))


def arrow_from_spark(df: "DataFrame") -> pa.Schema:
    """Returns the Arrow schema of a DataFrame. Delta's log and Spark write a schema as the same JSON."""
    return arrow_from_delta(Schema.from_json(df.schema.json()))


@lru_cache(maxsize=1024)
def spark_schema(schema: pa.Schema) -> "StructType":
    """Returns the Spark schema of an Arrow schema."""
    from pyspark.sql.types import StructType  # processes that only administer a lake never load pyspark

    return StructType.fromJson(json.loads(Schema.from_arrow(schema).to_json()))


@lru_cache(maxsize=1024)
def spark_json(schema: pa.Schema) -> str:
    """Returns the Spark schema as the JSON that Spark Connect sends, which takes a while for many columns."""
    return spark_schema(schema).json()


def normalize(schema: pa.Schema) -> pa.Schema:
    """Returns the schema with nullable fields, without field metadata, and with UTC as the only time zone.

    Engines leave notes in field metadata and use their own names for the zone.
    """
    utc = pa.timestamp("us", "UTC")
    return pa.schema([pa.field(f.name, utc if pa.types.is_timestamp(f.type) else f.type) for f in schema])


def select_columns(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """Returns the schema of these columns, in this order."""
    return pa.schema([schema.field(c) for c in columns])

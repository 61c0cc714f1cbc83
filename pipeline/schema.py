"""Arrow types and schemas of declared columns. Imports the declarations only."""

import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from pipeline.model import Column

_TYPES = {
    "STRING": pa.string(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


def arrow_type(sql_type: str) -> Any:
    """Returns the Arrow type of a declared SQL type (`STRING`, `DECIMAL(12,2)`, …). Raises KeyError for others."""
    decimal = _DECIMAL.fullmatch(sql_type)
    return pa.decimal128(int(decimal[1]), int(decimal[2])) if decimal else _TYPES[sql_type]


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """Returns the Arrow schema of declared columns, all nullable."""
    return pa.schema([pa.field(c.name, arrow_type(c.type)) for c in columns])

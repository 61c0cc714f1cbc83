"""Replaces placeholders in SQL text by literals."""

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from string import Template
from typing import Any


def render_sql(sql: str, values: Mapping[str, Any]) -> str:
    """Returns SQL with each `$name` replaced by the literal of its value; unknown names stay."""
    return Template(sql).safe_substitute({name: literal(value) for name, value in values.items()})


def literal(value: Any) -> str:
    """Returns a value as a SQL literal: numbers exactly, text quoted, dates and times typed."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            return str(value)
        case float():
            return format(Decimal(repr(value)), "f")
        case dt.datetime():
            return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
        case dt.date():
            return f"DATE '{value.isoformat()}'"
        case _:
            return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"

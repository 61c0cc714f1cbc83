"""Columns of tables: their name, SQL type and whether a value is required; and columns that SQL derives."""

import re
from dataclasses import dataclass

TYPES = re.compile(r"STRING|INT|BIGINT|BOOLEAN|DATE|TIMESTAMP|DECIMAL\(\d+,\d+\)")
VERSION_COLUMNS = "effective_from TIMESTAMP, effective_to TIMESTAMP, is_current BOOLEAN"
_COLUMN = re.compile(r"\s*(\w+)\s+([A-Z]+(?:\(\s*\d+\s*,\s*\d+\s*\))?)(\s+NOT NULL)?\s*(?:,|\Z)")


@dataclass(frozen=True)
class Column:
    """One column: its name, its SQL type (one of `TYPES`), and whether a row without a value is rejected."""

    name: str
    type: str
    required: bool = False


def columns_of(ddl: str) -> tuple[Column, ...]:
    """Returns the columns of a text `name TYPE [NOT NULL], …`. Raises ValueError that quotes the wrong part."""
    columns = []
    at = 0
    while at < len(ddl.rstrip()):
        found = _COLUMN.match(ddl, at)
        if not found:
            raise ValueError(f"not a column: {ddl[at : at + 60].strip()!r}")
        name = found[1]
        kind = found[2].replace(" ", "")
        if not TYPES.fullmatch(kind):
            raise ValueError(
                f"{name}: {kind} is not a type of this lake; "
                "there are STRING INT BIGINT BOOLEAN DATE TIMESTAMP DECIMAL(p,s)"
            )
        columns.append(Column(name, kind, bool(found[3])))
        at = found.end()
    return tuple(columns)


# The columns of a bronze table after those of its feed, but `_extra`, whose type is not one of `TYPES`.
BOOKKEEPING = columns_of(
    """
    _batch_id STRING, _batch_date DATE, _revision INT, _deleted BOOLEAN, _superseded BOOLEAN,
    _source_file STRING, _record BIGINT, _raw STRING
    """
)


@dataclass(frozen=True)
class Derived:
    """A column that SQL computes from the columns before it."""

    name: str
    type: str
    sql: str

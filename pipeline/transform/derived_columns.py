"""Small pieces of SQL that several transformations share: declared columns, and a row as one text."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame

from pipeline.model import Derived


@dataclass(frozen=True, kw_only=True)
class Part:
    """One expression of a declaration: its name, its query over rows, and the columns that it reads, if known.

    `among` returns, as `_source_file` and `_record`, the rows that it is computed for; without `among` it is all rows.
    """

    name: str
    query: Callable[[DataFrame], DataFrame]
    needs: tuple[str, ...] = ()
    among: Callable[[DataFrame], DataFrame] | None = None


def derive(df: DataFrame, derived: Sequence[Derived]) -> DataFrame:
    """Adds derived columns, each of its declared type; those that need no other derived column go in one projection."""
    for ready in in_turn(derived):
        df = df.selectExpr("*", *(f"CAST({d.sql} AS {d.type}) AS {d.name}" for d in ready))
    return df


def in_turn(derived: Sequence[Derived]) -> list[list[Derived]]:
    """Returns the columns in groups; each group needs only the groups before it."""
    waiting, turns = list(derived), list[list[Derived]]()
    while waiting:
        names = {d.name for d in waiting}
        ready = [d for d in waiting if not (words(d.sql) & (names - {d.name}))]
        if not ready:
            raise ValueError(f"derived columns need each other in a circle: {', '.join(sorted(names))}")
        turns.append(ready)
        waiting = [d for d in waiting if d not in ready]
    return turns


def words(sql: str) -> set[str]:
    """Returns the words of an expression: all columns that it needs are among them."""
    return set(re.findall(r"\w+", sql))


def columns_in(sql: str, columns: Sequence[str]) -> list[str]:
    """Returns the columns that an expression may read."""
    seen = words(sql.casefold())
    return [c for c in columns if c.casefold() in seen]


def text_key_sql(names: Sequence[str]) -> str:
    """Returns SQL for some columns as one text. Different values have different texts: each follows its length."""
    values = [
        f"coalesce(concat(CAST(length(CAST({c} AS STRING)) AS STRING), ':', CAST({c} AS STRING)), '-')" for c in names
    ]
    return f"concat({', '.join(values)})"

"""Adds declared columns to rows."""

import re
from collections.abc import Sequence

from pyspark.sql import DataFrame

from pipeline.model import Derived


def derive(df: DataFrame, derived: Sequence[Derived]) -> DataFrame:
    """Adds derived columns, each of its declared type; those that need no other derived column go in one projection."""
    waiting = list(derived)
    while waiting:
        names = {d.name for d in waiting}
        ready = [d for d in waiting if not (_words(d.sql) & (names - {d.name}))]
        if not ready:
            raise ValueError(f"derived columns need each other in a circle: {', '.join(sorted(names))}")
        df = df.selectExpr("*", *(f"CAST({d.sql} AS {d.type}) AS {d.name}" for d in ready))
        waiting = [d for d in waiting if d not in ready]
    return df


def _words(sql: str) -> set[str]:
    # All columns that an expression needs are among them.
    return set(re.findall(r"\w+", sql))

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
        ready = [d for d in waiting if not (set(re.findall(r"\w+", d.sql)) & (names - {d.name}))]
        if not ready:
            raise ValueError(f"derived columns need each other in a circle: {', '.join(sorted(names))}")
        df = df.selectExpr("*", *(f"CAST({d.sql} AS {d.type}) AS {d.name}" for d in ready))
        waiting = [d for d in waiting if d not in ready]
    return df

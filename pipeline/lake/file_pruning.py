"""Finds the data files of a table that may hold rows of a range, by the statistics in Delta's log."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.open_table import OpenTable

MinMax = tuple[Any, Any]  # the lowest and the highest of some values; (None, None) where there is no value
LoggedFile = tuple[str, int]  # the path of a data file as the log writes it (percent-encoded), and its bytes

# Spark's Delta writer, which other programs use too, cuts the times of its statistics to whole milliseconds.
_MILLISECOND = pa.scalar(1000, pa.duration("us"))


def min_max(values: pa.ChunkedArray) -> MinMax:
    """Returns the lowest and the highest value of a column."""
    found = pc.min_max(values)
    return found["min"].as_py(), found["max"].as_py()


def files_within(delta: OpenTable, within: Mapping[str, MinMax]) -> list[LoggedFile]:
    """Returns the files that may hold a row whose columns lie within these ranges. Without a range, returns all."""
    files = delta.files
    wanted = None
    for name, ends in within.items():
        low, high = f"min.{name}", f"max.{name}"
        if low not in files.column_names:
            continue  # the type has no order, or no statistics
        if None in ends:
            return []  # a range without ends holds no value
        column_type = files[low].type
        try:
            first, last = (pa.scalar(end, column_type) for end in ends)
        except pa.ArrowException:
            continue  # a time that is stored as text: texts have another order than times
        highest = pc.add(files[high], _MILLISECOND) if pa.types.is_timestamp(column_type) else files[high]
        outside = pc.or_(pc.less(highest, first), pc.greater(files[low], last))
        inside = pc.invert(pc.fill_null(outside, fill_value=False))  # null: the log has no statistics
        wanted = inside if wanted is None else pc.and_(wanted, inside)
    found = files.select(["path", "size_bytes"])
    paths, sizes = (found if wanted is None else found.filter(wanted)).columns
    return list(zip(paths.to_pylist(), sizes.to_pylist(), strict=True))

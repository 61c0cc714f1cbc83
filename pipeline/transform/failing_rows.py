"""After an error of the engine, finds the row and the expression at fault, by trying SQL on some of the rows."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame

from pipeline.errors import InvalidValue
from pipeline.lake.engine_errors import error_context
from pipeline.lake.lake import Lake
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.transform.derived_columns import Part


def error_of(query: Callable[[DataFrame], DataFrame], rows: pa.Table, lake: Lake) -> InvalidValue | None:
    """Runs a query over rows, and returns the error of a value among them. Other errors are raised."""
    try:
        with _computed(query, rows, lake):
            pass
    except InvalidValue as error:
        return error
    return None


def are_among(query: Callable[[DataFrame], DataFrame], rows: pa.Table, lake: Lake) -> npt.NDArray[np.bool_]:
    """Returns per row whether a query returns it, by `_source_file` and `_record`; none where the query fails."""
    try:
        with _computed(query, rows, lake) as computed:
            kept = computed.arrow()
    except InvalidValue:
        return np.zeros(rows.num_rows, np.bool_)
    found = set(_places(kept))
    return np.array([place in found for place in _places(rows)], np.bool_)


def _places(rows: pa.Table) -> list[tuple[str, int]]:
    return list(zip(rows["_source_file"].to_pylist(), rows["_record"].to_pylist(), strict=True))


@contextlib.contextmanager
def _computed(query: Callable[[DataFrame], DataFrame], rows: pa.Table, lake: Lake) -> Iterator[MaterializedRows]:
    """Computes a query over rows. The files of both are gone after the block: a search computes many queries."""
    given = lake.scratch.write(rows, "trial")
    try:
        computed = lake.scratch.materialize(query(given.df), "trial")
        yield computed
        lake.scratch.remove(computed)
    finally:
        lake.scratch.remove(given)


def first_part(parts: Sequence[Part], rows: pa.Table, lake: Lake) -> tuple[Part, InvalidValue] | None:
    """Returns the first part that cannot be computed of the rows. Raises DeclarationError for one that never can."""
    for part in parts:
        with error_context(part.name):
            error = error_of(part.query, rows, lake)
        if error is not None:
            return part, error
    return None


def failing(
    query: Callable[[DataFrame], DataFrame],
    rows: pa.Table,
    lake: Lake,
    struck: npt.NDArray[np.bool_],
) -> Iterator[tuple[int, InvalidValue]]:
    """Finds, by halving, the rows of which a query cannot be computed, lowest first. The caller may exclude more."""
    spans = [(0, rows.num_rows)]
    while spans:
        low, high = spans.pop()
        left = low + np.flatnonzero(~struck[low:high])
        error = error_of(query, rows.take(pa.array(left)), lake) if len(left) else None
        if error is None:
            continue
        if len(left) == 1:
            struck[left[0]] = True
            yield int(left[0]), error
        else:
            middle = int(left[len(left) // 2])
            spans += [(middle, high), (low, middle)]


def located(error: InvalidValue, parts: Sequence[Part], rows: MaterializedRows, lake: Lake) -> InvalidValue:
    """Returns the error with the part that it comes from, and with the row, where one row alone is at fault."""
    table = rows.arrow()
    for part in parts:
        struck = np.zeros(table.num_rows, np.bool_)
        if found := next(failing(part.query, table, lake, struck), None):
            at, says = found
            return InvalidValue(str(says), part.name, _row(table.slice(at, 1)))
    return error


def _row(table: pa.Table) -> dict[str, Any]:
    """Returns the one row of a table, without values that Python cannot represent (times after the year 9999)."""
    row = dict[str, Any]()
    for name in table.column_names:
        with contextlib.suppress(OverflowError, ValueError):
            row[name] = table[name][0].as_py()
    return row


def column_of(error: InvalidValue, queries: Mapping[str, Callable[[], DataFrame]], lake: Lake) -> InvalidValue:
    """Returns the error with the first column whose query fails."""
    for name, query in queries.items():
        try:
            lake.scratch.materialize(query(), "trial")
        except InvalidValue as says:
            return InvalidValue(str(says), name)
    return error

"""Compares computed rows with the stored rows of a table: what a batch changes in the table."""

from collections.abc import Mapping, Sequence
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.lake.data_files import cast_to_schema
from pipeline.lake.file_pruning import MinMax
from pipeline.lake.key_lookup import signed_difference
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.table_version import TableVersion
from pipeline.model import Column
from pipeline.schema import arrow_schema
from pipeline.transform.change import difference

# So many rows this process compares faster than an engine, and they fit its memory. More are compared by the engine.
IN_PROCESS_ROWS = 200_000


def compare(
    stored: TableVersion,
    columns: Sequence[Column],
    after: MaterializedRows,
    *,
    key: Sequence[str],
    by: Sequence[str],
    touched: Sequence[MaterializedRows] = (),
    within: Mapping[str, MinMax] | None = None,
) -> MaterializedRows:
    """Returns the signed rows by which a table changes where `after` takes the place of stored rows.

    Replaced are the stored rows with the values that `after` and `touched` have in the columns `by`; without such
    columns all. `after` has `columns`, `_failed`, and perhaps `_sign`, which is not 1 in a row that only names values.
    A row that breaks a check (`_failed`) always counts as changed. `key` identifies a row of the table. Stored rows
    outside of the ranges `within` are none of these.
    """
    names = [c.name for c in columns]
    has_sign = "_sign" in after.schema.names
    replaced = 0 if by else stored.lake.row_count(stored.name, stored.version)  # with `by` about as many as the others
    if replaced + sum(rows.rows for rows in (after, *touched)) <= IN_PROCESS_ROWS:
        rows = after.arrow()
        keys = pa.concat_tables([t.select(by) for t in (rows, *(t.arrow(by) for t in touched))])
        now = rows.filter(pc.greater(rows["_sign"], 0)) if has_sign else rows
        return compare_tables(stored, columns, now, keys=keys, key=key)
    before_df, now_df = stored.read(names, within=within), after.df.where("_sign > 0") if has_sign else after.df
    if by:
        values = reduce(DataFrame.unionByName, (rows.read(by) for rows in (after, *touched)))
        values = values.selectExpr(*(f"{c} AS _of_{c}" for c in by)).distinct()
        before_df = before_df.join(values, F.expr(" AND ".join(f"{c} <=> _of_{c}" for c in by)), "left_semi")
    compared = _compared(columns)
    changed = difference(before_df.selectExpr("*", "'' AS _failed"), now_df.select(*names, "_failed"), compared)
    return stored.lake.scratch.materialize(changed, f"changes/{stored.name}")


def compare_tables(
    stored: TableVersion, columns: Sequence[Column], now: pa.Table, *, keys: pa.Table, key: Sequence[str]
) -> MaterializedRows:
    """Returns the signed rows by which a table changes where `now` takes the place of the stored rows of `keys`."""
    before = stored.lake.rows_of_keys(stored.name, stored.version, keys, [c.name for c in columns])
    before = before.append_column("_failed", pa.repeat("", before.num_rows))
    changed = signed_difference(before, cast_to_schema(now, arrow_schema(_compared(columns))), key)
    return stored.lake.scratch.write(changed, f"changes/{stored.name}")


def _compared(columns: Sequence[Column]) -> tuple[Column, ...]:
    return (*columns, Column("_failed", "STRING"))

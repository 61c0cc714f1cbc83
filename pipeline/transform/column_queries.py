"""The columns of a gold table, each as a query of its own, to find the one that cannot be computed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from pyspark.sql import DataFrame

from pipeline.model import Column, GoldKind, GoldTable
from pipeline.transform.aggregate import build, fresh_groups, rows_of_touched_keys, typed
from pipeline.transform.aggregate_input import AggregateInput
from pipeline.transform.derived_columns import Part


def rows_to_search(given: AggregateInput) -> DataFrame:
    """Returns the rows that the columns of the table are computed from."""
    if given.table.kind is GoldKind.RECOMPUTE:
        return rows_of_touched_keys(given)
    return given.counted_source_rows if given.is_whole else given.counted_rows


def column_queries(given: AggregateInput) -> Mapping[str, Callable[[], DataFrame]]:
    """Returns, per column, its query over all rows of the batch."""
    table = given.table
    if table.kind is GoldKind.AGGREGATE:
        return {c: partial(fresh_groups, given, (c,)) for c in (*table.sum, *table.members)}
    rows = rows_to_search(given)
    return {c.name: partial(_one_column, table, c, rows) for c in _own_columns(table)}


def column_parts(given: AggregateInput) -> Sequence[Part]:
    """Returns the columns that can be computed of one row alone."""
    table = given.table
    if table.kind is GoldKind.AGGREGATE:
        sums = () if table.per else tuple(c for c in table.stored_columns if c.name in table.sum)
        return [Part(name=c.name, query=partial(_added, given, c)) for c in sums]
    return [Part(name=c.name, query=partial(_one_column, table, c)) for c in _own_columns(table)]


def _own_columns(table: GoldTable) -> tuple[Column, ...]:
    return tuple(c for c in table.schema if c.name not in table.as_of_columns)


def _added(given: AggregateInput, column: Column, rows: DataFrame) -> DataFrame:
    return rows.selectExpr(f"CAST({given.sql(given.table.sum[column.name])} AS {column.type}) AS {column.name}")


def _one_column(table: GoldTable, column: Column, rows: DataFrame) -> DataFrame:
    return typed(build(table, rows), [column])

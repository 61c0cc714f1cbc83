"""Computes gold tables: the rows that a batch may change, as they are after the batch.

A table with sums only adds the changed rows to its stored sums. Distinct counts and extremes are computed again, for
the touched groups, from the columns of the followed table that they need. An empty table is computed whole.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import reduce

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.errors import DeclarationError
from pipeline.lake.engine_errors import engine_message
from pipeline.model import Column, GoldKind, GoldTable, literal
from pipeline.transform.aggregate_input import AggregateInput
from pipeline.transform.change import TableChange
from pipeline.transform.derived_columns import text_key_sql, words
from pipeline.transform.verdicts import named


def aggregate(given: AggregateInput) -> DataFrame:
    """Returns the rows of a gold table that the batch may change, with the names of the checks that a row breaks.

    The rows have the stored columns, `_failed`, and `_sign`: 1, or -1 for a row of a `select_rows` table that is gone,
    of which only the grain is given.
    """
    kinds = {GoldKind.AGGREGATE: _groups, GoldKind.SELECT_ROWS: _rows, GoldKind.RECOMPUTE: _keys}
    rows = kinds[given.table.kind](given)
    good = ((c.name, f"coalesce({given.sql(c.condition)}, false)") for c in given.table.checks)
    checks = [f"CASE WHEN _sign > 0 AND NOT {holds} THEN '{name}' END" for name, holds in good]
    return rows.selectExpr("*", f"{named(checks)} AS _failed")


def build(table: GoldTable, rows: DataFrame) -> DataFrame:
    """Calls the table's function. An error that the function itself raises is one of its declaration."""
    try:
        return table.build(rows)
    except (TypeError, ValueError, AttributeError, LookupError, NameError) as error:
        raise DeclarationError(f"its function raises {type(error).__name__}: {engine_message(error)}") from error


def typed(built: DataFrame, columns: Sequence[Column], *more: str) -> DataFrame:
    """Returns the declared columns, each of its type, and `more`, which is SQL."""
    return built.selectExpr(*(f"CAST({c.name} AS {c.type}) AS {c.name}" for c in columns), *more)


# ---- a row for each row


def _rows(given: AggregateInput) -> DataFrame:
    table = given.table
    if given.is_whole:
        return _selected(given, _built(given, given.counted_source_rows))
    parts = []
    if given.change is not None:
        parts.append(_selected(given, _built(given, given.counted_rows.where("_sign > 0"))))
        if given.change.has_old_rows:
            gone = _built(given, given.counted_rows.where("_sign < 0"))
            nulls = [c.name if c.name in table.grain else f"CAST(NULL AS {c.type}) AS {c.name}" for c in table.schema]
            parts.append(gone.selectExpr(*nulls, "-1 AS _sign"))
    if given.grows_older:
        # A row that only grew older is in no change: it is made from itself.
        older = _without(given.stored.read().where(_grew_older(given)), table.grain, _touched_rows(given))
        parts.append(_selected(given, older.drop(*table.as_of_columns)))
    return reduce(DataFrame.unionByName, parts)


def _built(given: AggregateInput, rows: DataFrame) -> DataFrame:
    """Builds gold rows, without the columns that depend on the date."""
    return typed(build(given.table, rows), [c for c in given.table.schema if c.name not in given.table.as_of_columns])


def _selected(given: AggregateInput, rows: DataFrame) -> DataFrame:
    return _with_ages(given, rows).selectExpr(*(c.name for c in given.table.schema), "1 AS _sign")


def _touched_rows(given: AggregateInput) -> DataFrame | None:
    return None if given.change is None else _built(given, given.counted_rows).select(*given.table.grain)


# ---- all rows of a key


def _keys(given: AggregateInput) -> DataFrame:
    return typed(build(given.table, rows_of_touched_keys(given)), given.table.schema, "1 AS _sign")


def rows_of_touched_keys(given: AggregateInput) -> DataFrame:
    """Returns all rows of the keys that the batch changes."""
    if given.is_whole or given.has_touched_rows_only or not given.table.key or given.change is None:
        return given.counted_source_rows
    return _only(given.counted_source_rows, given.table.key, given.change.rows.read(given.table.key))


# ---- sums, counts and extremes of a group


def _groups(given: AggregateInput) -> DataFrame:
    table, columns = given.table, given.table.stored_columns
    parts = [fresh_groups(given)] if given.is_whole or table.row_per_batch or given.change is not None else []
    if not (given.is_whole or table.row_per_batch):
        parts += _kept_groups(given)
    rows = reduce(DataFrame.unionByName, parts)
    if table.row_per_batch:
        of_batch = (("batch_id", given.order.batch_id), ("batch_date", given.order.batch_date))
        numbered = f"CAST({given.batch_seq} AS BIGINT) AS _batch_seq"
        rows = rows.selectExpr("*", *(f"{literal(v)} AS {c}" for c, v in of_batch), numbered)
    else:
        rows = rows.where("_rows > 0")
    return typed(build(table, _with_ages(given, _with_attributes(given, rows))), columns, "1 AS _sign")


def fresh_groups(given: AggregateInput, wanted: Collection[str] = ()) -> DataFrame:
    """Returns the touched groups with their number of rows, sums, counts and extremes; by default all of them."""
    if given.computes_groups:
        return _computed(given, wanted)
    return _by_difference(given, wanted)


def _computed(given: AggregateInput, wanted: Collection[str]) -> DataFrame:
    """Computes groups from the rows of the followed table."""
    table, rows, grain = given.table, given.counted_source_rows, grain_of(given.table)
    if grain and given.change is not None and not (given.is_whole or given.has_touched_rows_only):
        rows = _only(rows, grain, given.change.rows.read(grain))
    sums, ends, counts = (_wanted(some, wanted) for some in (_sums(given), _ends(given), _counted(given)))
    if not (given.has_many_rows or table.per):
        distinct = {c: f"count(DISTINCT {sql})" for c, sql in counts.items()}
        return rows.groupBy(*grain).agg(*_expressions(given, {**sums, **ends, **distinct}))
    parts, of_rows = [], {**({} if table.per else sums), **ends}
    if table.per:
        parts.append(_of_parts(given, rows, wanted).groupBy(*grain).agg(*_expressions(given, _added_up(given, wanted))))
    if of_rows:
        parts.append(rows.groupBy(*grain).agg(*_expressions(given, of_rows)))
    # Each count by two groupings: an engine that holds a set of values for each of many groups takes gigabytes.
    for column, sql in counts.items():
        values = rows.selectExpr(*grain, f"{sql} AS _member").where("_member IS NOT NULL").distinct()
        parts.append(values.groupBy(*grain).agg(F.count(F.lit(1)).alias(column)))
    if len(parts) == 1:
        return parts[0]
    both = reduce(lambda some, more: some.unionByName(more, allowMissingColumns=True), parts)
    highest = {c: f"max({c})" for c in (*sums, *ends)} | {c: f"coalesce(max({c}), 0)" for c in counts}
    return both.groupBy(*grain).agg(*_expressions(given, highest))


def _of_parts(given: AggregateInput, rows: DataFrame, wanted: Collection[str], *more: str) -> DataFrame:
    """Returns what the rows of each part of a group add together."""
    sums = _wanted({c: given.sql(sql) for c, sql in given.table.sum.items()}, wanted)
    expressions = [F.expr(sql).alias(c) for c, sql in {**sums, "_rows": "count(*)"}.items()]
    return rows.groupBy(*grain_of(given.table), *given.table.per, *more).agg(*expressions)


def _by_difference(given: AggregateInput, wanted: Collection[str]) -> DataFrame:
    """Adds what the changed rows add to the stored sums of their groups."""
    grain, names = grain_of(given.table), ("_rows", *_wanted(given.table.sum, wanted))
    parts = [_stored_sums(given, names)]
    if given.change is not None:
        parts.append(_net_sums(given, given.change, wanted))
    both = reduce(DataFrame.unionByName, parts)
    return both.groupBy(*grain).agg(*_expressions(given, {c: f"coalesce(sum({c}), 0)" for c in names}))


def _stored_sums(given: AggregateInput, names: Sequence[str]) -> DataFrame:
    """Returns the stored sums of the touched groups; of a table with a row per batch those of the newest row."""
    grain, stored = grain_of(given.table), given.stored
    if given.table.row_per_batch:
        newest = stored.read([*names, "_batch_seq"]).orderBy(F.col("_batch_seq").desc()).limit(1)
        return newest.select(*names)
    rows = stored.read([*dict.fromkeys((*grain, *names))])
    return rows.where("false") if given.change is None else _only(rows, grain, given.change.rows.read(grain))


def _net_sums(given: AggregateInput, change: TableChange, wanted: Collection[str]) -> DataFrame:
    """Returns, per group, what the changed rows add to each sum: new rows count, old rows count back."""
    grain, rows = grain_of(given.table), given.counted_rows
    sums = {"_rows": "1", **_wanted({c: given.sql(sql) for c, sql in given.table.sum.items()}, wanted)}
    if given.table.per:
        rows = _of_parts(given, _rows_of_touched_parts(given, change, rows), wanted, "_sign")
        sums = {c: c for c in sums}
    moved = rows.groupBy(*grain).agg(*(F.sum(F.expr(f"_sign * ({sql})")).alias(c) for c, sql in sums.items()))
    return moved.selectExpr(*grain, *(f"CAST({c} AS {given.types[c]}) AS {c}" for c in sums))


def _rows_of_touched_parts(given: AggregateInput, change: TableChange, incoming: DataFrame) -> DataFrame:
    """Returns all rows of the parts of groups with changed rows: as they were (`_sign` -1) and as they are (+1)."""
    table, before = given.table, given.source_rows
    # Sail takes ten times as long to group by a column of which a filter leaves one value.
    came = incoming.where("_sign > 0") if change.has_old_rows else incoming
    if before is None:
        return came
    columns = [*before.columns, "_sign"]  # the change may have more
    # As a number, because no join matches a null. Another part with the same number is read, but does not change.
    part = f"xxhash64({', '.join((*grain_of(table), *table.per))}) AS _part"
    known = before.where(given.sql(table.where or "true")).selectExpr("*", part)
    known = known.join(incoming.selectExpr(part).distinct(), "_part", "left_semi").drop("_part")
    is_removed = "false"
    if change.has_old_rows:
        key = f"{text_key_sql(change.key)} AS _key"
        removed = incoming.where("_sign < 0").selectExpr(key, "true AS _is_removed").distinct()
        known, is_removed = known.selectExpr("*", key).join(removed, "_key", "left"), "_is_removed"
    signs = f"explode(CASE WHEN {is_removed} THEN array(-1) ELSE array(-1, 1) END) AS _sign"
    return known.selectExpr("*", signs).select(*columns).unionByName(came.select(*columns))


def _sums(given: AggregateInput) -> dict[str, str]:
    return {"_rows": "count(*)", **{c: f"coalesce(sum({given.sql(sql)}), 0)" for c, sql in given.table.sum.items()}}


def _added_up(given: AggregateInput, wanted: Collection[str]) -> dict[str, str]:
    names = ("_rows", *_wanted(given.table.sum, wanted))
    return {c: f"coalesce(sum({c}), 0)" for c in names}


def _ends(given: AggregateInput) -> dict[str, str]:
    lowest = {c: f"min({given.sql(sql)})" for c, sql in given.table.min.items()}
    return {**lowest, **{c: f"max({given.sql(sql)})" for c, sql in given.table.max.items()}}


def _counted(given: AggregateInput) -> dict[str, str]:
    return {c: given.sql(sql) for c, sql in given.table.count_distinct.items()}


def _wanted(expressions: Mapping[str, str], wanted: Collection[str]) -> dict[str, str]:
    return {c: sql for c, sql in expressions.items() if not wanted or c in wanted}


def _expressions(given: AggregateInput, expressions: Mapping[str, str]) -> list[SparkColumn]:
    return [F.expr(f"CAST({sql} AS {given.types[c]}) AS {c}") for c, sql in expressions.items()]


def grain_of(table: GoldTable) -> tuple[str, ...]:
    """Returns the columns that rows are grouped by: the grain; none for a table with one cumulative row per batch."""
    return () if table.row_per_batch else table.grain


# ---- groups whose attributes or ages alone may change


def _kept_groups(given: AggregateInput) -> list[DataFrame]:
    """Returns the stored sums of groups without a changed row whose dimension changed or that grew older."""
    table, renamed = given.table, given.dimension_change
    names = [*dict.fromkeys((*table.grain, "_rows", *table.sum, *table.members))]
    aged = {word.casefold() for sql in table.as_of_columns.values() for word in words(sql)}
    parts, stored = (
        [],
        given.stored.read([*names, *(c for c in given.types if c.casefold() in aged and c not in names)]),
    )
    moved = None if renamed is None or not renamed.rows.must_process else renamed.rows.read(table.grain)
    if moved is not None:
        parts.append(_only(stored, table.grain, moved))
    if given.grows_older:
        parts.append(_without(stored.where(_grew_older(given)), table.grain, moved))
    touched = None if given.change is None else given.change.rows.read(table.grain)
    return [_without(part, table.grain, touched).select(*names) for part in parts]


def _grew_older(given: AggregateInput) -> str:
    before, ages = given.as_of_before, given.table.as_of_columns.values()
    return " OR ".join(f"NOT (({given.sql(sql, as_of=before)}) <=> ({given.sql(sql)}))" for sql in ages)


def _with_attributes(given: AggregateInput, rows: DataFrame) -> DataFrame:
    if given.dimension is None:
        return rows
    return rows.join(given.dimension, list(given.table.grain), "left")


def _with_ages(given: AggregateInput, rows: DataFrame) -> DataFrame:
    ages = given.table.as_of_columns.items()
    return rows.selectExpr("*", *(f"CAST({given.sql(sql)} AS {given.types[c]}) AS {c}" for c, sql in ages))


# ---- joins in which a null is a value like others


def _only(rows: DataFrame, names: Sequence[str], keys: DataFrame) -> DataFrame:
    """Returns the rows whose values in some columns occur among the keys."""
    return rows.join(*_other(names, keys), "left_semi")


def _without(rows: DataFrame, names: Sequence[str], keys: DataFrame | None) -> DataFrame:
    """Returns the rows whose values in some columns do not occur among the keys."""
    return rows if keys is None else rows.join(*_other(names, keys), "left_anti")


def _other(names: Sequence[str], keys: DataFrame) -> tuple[DataFrame, SparkColumn]:
    distinct = keys.selectExpr(*(f"{c} AS _of_{c}" for c in names)).distinct()
    return distinct, F.expr(" AND ".join(f"{c} <=> _of_{c}" for c in names))

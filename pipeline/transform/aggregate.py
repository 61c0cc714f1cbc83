"""Computes gold tables from the changes of the tables that they follow: only touched groups, sums by difference.

Each kind of table has one function that returns its change: rows with `_sign`.
"""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.errors import DeclarationError
from pipeline.lake.engine_errors import engine_message
from pipeline.model import Column, GoldKind, GoldTable, literal
from pipeline.transform.aggregate_input import AggregateInput
from pipeline.transform.change import TableChange, difference
from pipeline.transform.derived_columns import text_key_sql
from pipeline.transform.distinct_counts import grain_of, group_key_sql, pair_name
from pipeline.transform.verdicts import named


def aggregate(given: AggregateInput) -> DataFrame:
    """Returns the change of a gold table, with the names of the checks that a row breaks in `_failed`."""
    kinds = {GoldKind.AGGREGATE: _totals, GoldKind.SELECT_ROWS: _rows, GoldKind.RECOMPUTE: _keys}
    change = kinds[given.table.kind](given)
    good = ((c.name, f"coalesce({given.sql(c.condition)}, false)") for c in given.table.checks)
    checks = [f"CASE WHEN _sign > 0 AND NOT {holds} THEN '{name}' END" for name, holds in good]
    return change.selectExpr("*", f"{named(checks)} AS _failed")


# ---- a row for each row


def _rows(given: AggregateInput) -> DataFrame:
    table = given.table
    if not table.as_of_columns:
        return difference(_built(given, -1), _built(given, 1), table.schema)
    if not given.stored.version:
        return difference(None, _with_ages(given, _built(given, 1)), table.schema)
    touched = _built(given, -1) if given.change is not None else None
    before = _touched_or_older(given, given.stored.read(), touched)
    # A row that only grew older is in no change: it is made from itself.
    after = before.where("_touched IS NULL").drop("_touched", *table.as_of_columns)
    if given.change is not None:
        after = after.unionByName(_built(given, 1))
    return difference(before.drop("_touched"), _with_ages(given, after), table.schema)


def _built(given: AggregateInput, sign: int) -> DataFrame:
    """Builds gold rows from the changed rows with this sign, without the columns that depend on the date."""
    columns = [c for c in given.table.schema if c.name not in given.table.as_of_columns]
    return typed(build(given.table, given.counted_rows.where(f"_sign = {sign}")), columns)


def build(table: GoldTable, rows: DataFrame) -> DataFrame:
    """Calls the table's function. An error that the function itself raises is one of its declaration."""
    try:
        return table.build(rows)
    except (TypeError, ValueError, AttributeError, LookupError, NameError) as error:
        raise DeclarationError(f"its function raises {type(error).__name__}: {engine_message(error)}") from error


def typed(built: DataFrame, columns: Sequence[Column]) -> DataFrame:
    """Returns the declared columns, each of its type."""
    return built.selectExpr(*(f"CAST({c.name} AS {c.type}) AS {c.name}" for c in columns))


# ---- all rows of a key


def _keys(given: AggregateInput) -> DataFrame:
    table, before = given.table, given.stored.read() if given.stored.version else None
    if table.key and before is not None:
        before = before.join(*_touched_keys(given), "left_semi")
    return difference(before, typed(build(table, rows_of_touched_keys(given)), table.schema), table.schema)


def rows_of_touched_keys(given: AggregateInput) -> DataFrame:
    """Returns all rows of the keys that the batch changes."""
    assert given.source_rows is not None
    return given.source_rows.join(*_touched_keys(given), "left_semi") if given.table.key else given.source_rows


def _touched_keys(given: AggregateInput) -> tuple[DataFrame, SparkColumn]:
    """Returns the keys whose rows change, and the condition that joins them: rows without a key are a group, too."""
    assert given.change is not None
    touched = given.change.rows.df.selectExpr(*(f"{k} AS _of_{k}" for k in given.table.key)).distinct()
    return touched, F.expr(" AND ".join(f"{k} <=> _of_{k}" for k in given.table.key))


# ---- sums, counts and extremes of a group


def _totals(given: AggregateInput) -> DataFrame:
    """Adds the changed rows to the stored sums of their groups."""
    table, columns = given.table, given.table.stored_columns
    types = {c.name: c.type for c in columns}
    ends = [(end, c) for end, names in (("min", table.min), ("max", table.max)) for c in names]
    new = {c: f"coalesce(CAST({end}(_new_{c}) AS {types[c]}), max({c}))" for end, c in ends}
    extremes = [f"{f'max({c})' if given.effects is None else new[c]} AS {c}" for _, c in ends]
    grain, old = (
        [f"max({c}) AS {c}" for c in grain_of(table)],
        [] if table.row_per_batch else ["first(_old, true) AS _old"],
    )
    expressions = (*grain, *sum_expressions(given).values(), *extremes, *old)
    rows = all_parts(given).groupBy("_group").agg(*(F.expr(e) for e in expressions))
    if not table.row_per_batch:
        # Each group has its stored row, so that one query finds which groups changed.
        return _changed_groups(columns, build(table, _with_ages(given, _with_attributes(given, rows))))
    of_batch = (("batch_id", given.order.batch_id), ("batch_date", given.order.batch_date))
    numbered = f"CAST({given.batch_seq} AS BIGINT) AS _batch_seq"
    rows = rows.selectExpr("*", *(f"{literal(v)} AS {c}" for c, v in of_batch), numbered)
    return typed(build(table, _with_ages(given, _with_attributes(given, rows))), columns).selectExpr("*", "1 AS _sign")


def sum_expressions(given: AggregateInput) -> dict[str, str]:
    """Returns SQL per column that adds up the parts of a group."""
    types = {c.name: c.type for c in given.table.stored_columns}
    names = ("_rows", *given.table.sum, *given.table.count_distinct)
    return {c: f"CAST(coalesce(sum({c}), 0) AS {types[c]}) AS {c}" for c in names}


def all_parts(given: AggregateInput) -> DataFrame:
    """Returns, per group (`_group`), what was stored, what the changed rows add, and the moved counts of values."""
    parts = [_previous_rows(given)]
    if given.change is not None:
        parts.append(_net_sums(given, given.change))
    if given.effects is not None:
        parts.append(_moved_counts(given, given.effects))
    # A part has only some of the columns.
    return reduce(lambda some, more: some.unionByName(more, allowMissingColumns=True), parts)


def _changed_groups(columns: Sequence[Column], rows: DataFrame) -> DataFrame:
    """Returns the groups that differ from their stored row `_old`: as they were (-1) and as they are (+1)."""
    now = ", ".join(f"'{c.name}', CAST({c.name} AS {c.type})" for c in columns)
    pairs = rows.selectExpr("_old", f"CASE WHEN _rows > 0 THEN named_struct({now}) END AS _now")
    both = "array(named_struct('_sign', -1, '_row', _old), named_struct('_sign', 1, '_row', _now))"
    signed = pairs.where("NOT (_old <=> _now)").selectExpr(f"explode({both}) AS _pair")
    return signed.where("_pair._row IS NOT NULL").selectExpr("_pair._row.*", "_pair._sign AS _sign")


def _previous_rows(given: AggregateInput) -> DataFrame:
    """Returns the stored row, whole in `_old`, of each group that may change; of a table per batch the newest row."""
    table, stored = given.table, given.stored.read()
    columns = ("_rows", *table.sum, *table.members)
    if table.row_per_batch:
        # With a row of nulls: a batch that changes nothing has its cumulative row, too.
        newest = stored.orderBy(F.col("_batch_seq").desc()).limit(1).select(*columns)
        nulls = stored.where("false").agg(*(F.max(c).alias(c) for c in columns))
        return newest.unionByName(nulls).selectExpr("'' AS _group", "*")
    changes = [c.rows.df.select(*table.grain) for c in (given.change, given.dimension_change) if c is not None]
    touched = reduce(DataFrame.unionByName, changes) if changes else None
    rows = _touched_or_older(given, stored, touched).drop("_touched")
    return rows.selectExpr(f"{group_key_sql(table)} AS _group", *grain_of(table), *columns, "struct(*) AS _old")


def _net_sums(given: AggregateInput, change: TableChange) -> DataFrame:
    """Returns, per group, what the changed rows add to each sum: new rows count, old rows count back."""
    table, types = given.table, {c.name: c.type for c in given.table.schema}
    grain, rows = grain_of(table), given.counted_rows
    sums = {"_rows": "1", **{c: given.sql(sql) for c, sql in table.sum.items()}}
    if table.per:
        one = [F.expr(sql).alias(c) for c, sql in {**sums, "_rows": "count(*)"}.items()]
        rows = _rows_of_touched_parts(given, change, rows).groupBy(*grain, *table.per, "_sign").agg(*one)
        sums = {c: c for c in sums}
    moved = rows.groupBy(*grain).agg(*(F.sum(F.expr(f"_sign * ({sql})")).alias(c) for c, sql in sums.items()))
    cast = (f"CAST({c} AS {types.get(c, 'BIGINT')}) AS {c}" for c in sums)
    return moved.selectExpr(f"{group_key_sql(table)} AS _group", *grain, *cast)


def _rows_of_touched_parts(given: AggregateInput, change: TableChange, incoming: DataFrame) -> DataFrame:
    """Returns all rows of the parts of groups with changed rows: as they were (`_sign` -1) and as they are (+1)."""
    table, before = given.table, given.source_rows
    lowest = change.rows.min_max("_sign")[0]
    has_old_rows = lowest is None or lowest < 0
    # Sail takes ten times as long to group by a column of which a filter leaves one value.
    came = incoming.where("_sign > 0") if has_old_rows else incoming
    if before is None:
        return came
    columns = [*before.columns, "_sign"]  # the change may have more
    # As a number, because no join matches a null. Another part with the same number is read, but does not change.
    part = f"xxhash64({', '.join((*grain_of(table), *table.per))}) AS _part"
    known = before.where(given.sql(table.where or "true")).selectExpr("*", part)
    known = known.join(incoming.selectExpr(part).distinct(), "_part", "left_semi").drop("_part")
    is_removed = "false"
    if has_old_rows:
        key = f"{text_key_sql(change.key)} AS _key"
        removed = incoming.where("_sign < 0").selectExpr(key, "true AS _is_removed").distinct()
        known, is_removed = known.selectExpr("*", key).join(removed, "_key", "left"), "_is_removed"
    signs = f"explode(CASE WHEN {is_removed} THEN array(-1) ELSE array(-1, 1) END) AS _sign"
    return known.selectExpr("*", signs).select(*columns).unionByName(came.select(*columns))


def _moved_counts(given: AggregateInput, effects: DataFrame) -> DataFrame:
    """Returns, per group, how its distinct counts changed and its new extremes."""
    table = given.table
    pair = {c: literal(pair_name(table, c)) for c in table.members}
    counts = [f"sum(CASE WHEN pair = {pair[c]} THEN d ELSE 0 END) AS {c}" for c in table.count_distinct]
    ends = [(end, c) for end, names in (("low", table.min), ("high", table.max)) for c in names]
    extremes = [f"max(CASE WHEN pair = {pair[c]} THEN {end} END) AS _new_{c}" for end, c in ends]
    mine = effects.where(f"pair IN ({', '.join(pair.values())})").withColumnRenamed("group_key", "_group")
    return mine.groupBy("_group").agg(*(F.expr(e) for e in (*counts, *extremes)))


# ---- attributes, and columns that depend on the newest batch date


def _touched_or_older(given: AggregateInput, stored: DataFrame, touched: DataFrame | None) -> DataFrame:
    """Returns the stored rows of touched groups (`_touched` 1) and those that only grew older (null)."""
    if touched is None:
        return stored.where(_grew_older(given)).withColumn("_touched", F.lit(None).cast("int"))
    group = F.expr(group_key_sql(given.table)).alias("_group")  # as text, because no join matches a null
    keys = touched.select(group).distinct().withColumn("_touched", F.lit(1))
    rows = stored.select("*", group).join(keys, "_group", "left")
    return rows.where(f"_touched = 1 OR ({_grew_older(given)})").drop("_group")


def _grew_older(given: AggregateInput) -> str:
    if not given.grows_older:
        return "false"
    before, ages = given.as_of_before, given.table.as_of_columns.values()
    return " OR ".join(f"NOT (({given.sql(sql, as_of=before)}) <=> ({given.sql(sql)}))" for sql in ages)


def _with_attributes(given: AggregateInput, rows: DataFrame) -> DataFrame:
    if given.dimension is None:
        return rows
    return rows.join(given.dimension, list(given.table.grain), "left")


def _with_ages(given: AggregateInput, rows: DataFrame) -> DataFrame:
    types = {c.name: c.type for c in given.table.schema}
    return rows.selectExpr(
        "*", *(f"CAST({given.sql(sql)} AS {types[c]}) AS {c}" for c, sql in given.table.as_of_columns.items())
    )

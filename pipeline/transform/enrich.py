"""Joins each row of a feed to the versions that were valid at its event time. Computes derived columns and rules."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.merge import key_numbers
from pipeline.model import Enriched, HierarchyJoin, Join, LatestJoin, PointInTimeJoin, Rule, render_sql
from pipeline.transform.affected_rows import time_range
from pipeline.transform.derived_columns import Part, derive, in_turn
from pipeline.transform.history import first_row_per
from pipeline.transform.point_in_time import columns_of_versions, join_as_of, with_interval
from pipeline.transform.silver_tables import SilverTables, table_of
from pipeline.transform.validate import ValidatedFeed
from pipeline.transform.verdicts import when_broken, when_outside


def with_settings(table: Enriched, values: Mapping[str, object]) -> Enriched:
    """Returns the table with the source's settings in its SQL."""

    def rules(some: Sequence[Rule]) -> tuple[Rule, ...]:
        return tuple(
            replace(r, condition=render_sql(r.condition, values), where=render_sql(r.where, values)) for r in some
        )

    derived = tuple(replace(d, sql=render_sql(d.sql, values)) for d in table.derived)
    joins = tuple(
        replace(p, where=render_sql(p.where, values)) if isinstance(p, PointInTimeJoin) else p for p in table.joins
    )
    return replace(table, rules=rules(table.rules), checks=rules(table.checks), derived=derived, joins=joins)


def rows_of_batch(table: Enriched, silver: SilverTables, validated: ValidatedFeed) -> DataFrame:
    """Returns the batch's accepted rows with the columns that the table takes from a row itself."""
    feed = silver.source.feed(table.upstream)
    accepted = validated.accepted([*feed.input_names, "_event_at", "_batch_date", "_deleted"]).where("NOT _deleted")
    started = derive(accepted.withColumn("effective_from", F.expr(feed.valid_from_sql)), validated.feed.derived)
    # A version gets its end, and a row of an append-only feed its number, when it is merged.
    known = {*feed.input_names, *(d.name for d in feed.derived), "effective_from"}
    columns = silver.source.own_columns(table)
    return started.selectExpr(*(f"CAST({c if c in known else 'NULL'} AS {kind}) AS {new}" for c, new, kind in columns))


def rows_of_table(table: Enriched, silver: SilverTables, affected: MaterializedRows | None) -> DataFrame:
    """Returns the affected rows of the feed, all where None, with the columns that the table takes from each."""
    source, columns = silver.source, silver.source.own_columns(table)
    key, within = [*source.enriched_key(table)], time_range(source.feed(table.upstream), affected)
    rows = silver.rows_of(table, [old for old, _, _ in columns], within=within)
    rows = rows if affected is None else rows.join(affected.df, key, "left_semi")
    return rows.select(*(F.col(old).alias(new) for old, new, _ in columns))


def joined(
    table: Enriched,
    silver: SilverTables,
    rows: DataFrame,
    *,
    looked_up: Mapping[Join, DataFrame],
    skewed: Mapping[PointInTimeJoin, DataFrame],
) -> DataFrame:
    """Returns the rows with the columns of every join.

    `looked_up` has for a join what `rows_joined` returns, for few keys. Other tables are read whole.
    """
    points = now = rows.withColumn("_at", F.expr(table.as_of))
    for n, join in enumerate(table.joins):
        given = silver.source.join_columns(table, join)
        other = looked_up[join] if join in looked_up else rows_joined(table, silver, join)
        if isinstance(join, PointInTimeJoin):
            now = join_as_of(join, now, other, given, points=points, skewed=skewed.get(join), name=f"j{n}")
        else:
            now = _join(join, silver, now, other, given, name=f"j{n}")
    return now


def rows_joined(table: Enriched, silver: SilverTables, join: Join, keys: DataFrame | None = None) -> DataFrame:
    """Returns all rows of a joined table that a row may match, with the columns that the join reads.

    With `keys`, the rows of these values of the joined columns alone. Versions have an interval: see `with_interval`.
    Of the rows that a LatestJoin finds for one value, only the last is there.
    """
    columns, name = columns_joined(table, silver, join), table_of(join)
    if isinstance(join, LatestJoin):
        rows = _limited_to(silver.current(name, columns), join.on, keys)
        return _newest(join, rows) if join.order_by else rows
    rows = silver.tables[name].read(columns)
    if isinstance(join, HierarchyJoin):
        return rows
    feed = silver.source.feed(name)
    if set(join.on) <= set(feed.key):
        return with_interval(join, feed, _limited_to(rows, join.on, keys))
    # The first version of a key may have other values in the joined columns.
    return _limited_to(with_interval(join, feed, rows), join.on, keys)


def _limited_to(rows: DataFrame, on: Sequence[str], keys: DataFrame | None) -> DataFrame:
    return rows if keys is None else rows.join(keys, list(on), "left_semi")


def columns_joined(table: Enriched, silver: SilverTables, join: Join) -> list[str]:
    """Returns the columns of the joined table that a join reads."""
    given = silver.source.join_columns(table, join)
    match join:
        case PointInTimeJoin():
            return columns_of_versions(join, silver.source.feed(join.feed), given)
        case LatestJoin():
            return [*dict.fromkeys((*join.on, *join.order_by, *(c for c, _, _ in given if c != join.count)))]
        case HierarchyJoin():
            return [c.name for c in silver.source.hierarchy_columns(silver.source.hierarchy(join.hierarchy))]


def _join(
    join: LatestJoin | HierarchyJoin,
    silver: SilverTables,
    rows: DataFrame,
    other: DataFrame,
    given: Sequence[tuple[str, str, str]],
    *,
    name: str,
) -> DataFrame:
    """Joins at most one row of the other table to each row. The columns of both have different names."""
    if isinstance(join, HierarchyJoin):
        of = {join.on: silver.source.hierarchy(join.hierarchy).id}
    else:
        of = {c: c for c in join.on}
    named = (f"{c} AS _{name}_{on}" for on, c in of.items())
    answer = other.selectExpr(*named, *(f"{sql} AS {new}" for sql, new, _ in given))
    return rows.join(answer, F.expr(" AND ".join(f"{on} = _{name}_{on}" for on in of)), "left")


def _newest(join: LatestJoin, rows: DataFrame) -> DataFrame:
    if join.count:
        rows = rows.withColumn(join.count, F.count(F.lit(1)).over(Window.partitionBy(*join.on)))
    last = (F.col(c).desc_nulls_last() for c in join.order_by)
    return first_row_per(rows, Window.partitionBy(*join.on).orderBy(*last))


def values_with_several_rows(join: LatestJoin, silver: SilverTables) -> DataFrame:
    """Returns the values of the joined columns that several rows have, with the number of rows as `_rows_of_value`."""
    counts = silver.current(join.feed, join.on).groupBy(*join.on).agg(F.count(F.lit(1)).alias("_rows_of_value"))
    return counts.where("_rows_of_value > 1")


def ranked_rows(join: LatestJoin, silver: SilverTables, several: DataFrame) -> DataFrame:
    """Returns the keys, as `_ranked_<column>`, of all rows of these values.

    `_rank_of_value` is 1 for the last row, and `_rows_of_value` the number of rows of the value.
    """
    key = silver.source.feed(join.feed).key
    rows = silver.current(join.feed, [*dict.fromkeys((*join.on, *join.order_by, *key))])
    last = (F.col(c).desc_nulls_last() for c in join.order_by)
    rank = F.row_number().over(Window.partitionBy(*join.on).orderBy(*last))
    ranked = rows.join(several, [*join.on]).withColumn("_rank_of_value", rank)
    return ranked.selectExpr(*(f"{c} AS _ranked_{c}" for c in key), "_rank_of_value", "_rows_of_value")


def newest_of_all(table: Enriched, silver: SilverTables, join: LatestJoin, ranked: DataFrame | None) -> DataFrame:
    """Returns the same rows as `rows_joined`. `ranked` are those of all values with several rows; None: there is none.

    `rows_joined` sorts the rows with all of their columns. That costs most of a query that joins a whole table.
    """
    key = silver.source.feed(join.feed).key
    rows = silver.current(join.feed, [*dict.fromkeys((*columns_joined(table, silver, join), *key))])
    if ranked is not None:
        is_same = F.expr(" AND ".join(f"{c} = _ranked_{c}" for c in key))
        rows = rows.join(ranked.where("_rank_of_value > 1"), is_same, "left_anti")
        rows = rows.join(ranked.where("_rank_of_value = 1"), is_same, "left")
    count = "CAST(1 AS BIGINT)" if ranked is None else "coalesce(_rows_of_value, 1)"
    return rows.withColumn(join.count, F.expr(count)) if join.count else rows


def newest_of_table(join: LatestJoin, rows: pa.Table) -> pa.Table:
    """Returns, per value of the joined columns, the last row and the number of rows, without an engine."""
    if not join.order_by:
        return rows
    in_order = rows.take(pc.sort_indices(rows, [(c, "descending", "at_end") for c in join.order_by]))
    counts = in_order.group_by(join.on).aggregate([([], "count_all")])
    numbers = key_numbers(in_order.select(join.on), counts.select(join.on)).to_numpy(zero_copy_only=False)
    group, first = np.unique(numbers, return_index=True)
    last = in_order.take(pa.array(first))
    return last.append_column(join.count, counts["count_all"].take(pa.array(group))) if join.count else last


def with_rules(table: Enriched, rows: DataFrame, columns: Sequence[str] = ()) -> DataFrame:
    """Returns some columns of the joined and derived rows, and the verdicts on each.

    `_failed` names the checks that the row breaks, `_warned` the rules that it breaks, `_unchecked` those outside of
    which it is.
    """
    failed = f"{when_broken(table.checks)} AS _failed"
    verdicts = (f"{when_broken(table.rules)} AS _warned", f"{when_outside(table.rules)} AS _unchecked", failed)
    return derive(rows, table.derived).selectExpr(*columns, *verdicts)


def parts(table: Enriched) -> list[Part]:
    """Returns the expressions over the joined rows: derived columns, each after those it needs, rules and checks."""
    columns = [d for turn in in_turn(table.derived) for d in turn]

    def column(n: int) -> Part:
        return Part(name=columns[n].name, query=lambda df: derive(df, columns[: n + 1]).select(columns[n].name))

    def verdict(rule: Rule) -> Part:
        case = f"{when_broken([rule])} AS _broken"
        return Part(name=rule.name, query=lambda df: derive(df, columns).selectExpr(case))

    return [*map(column, range(len(columns))), *map(verdict, (*table.rules, *table.checks))]


def tables_read(table: Enriched) -> tuple[str, ...]:
    """Returns the names of the silver tables that an enriched table is computed from."""
    return tuple(dict.fromkeys((table.upstream, *map(table_of, table.joins))))

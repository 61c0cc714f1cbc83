"""Joins each row of a feed to the versions that were valid at its event time. Computes derived columns and rules."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline.lake.lake import TableVersion
from pipeline.lake.scratch import MaterializedRows
from pipeline.model import Column, Enriched, HierarchyJoin, Join, LatestJoin, PointInTimeJoin, Rule, Source, render_sql
from pipeline.transform.affected_rows import is_sorted_by_time
from pipeline.transform.change import difference
from pipeline.transform.derived_columns import Part, derive, in_turn
from pipeline.transform.history import first_row_per
from pipeline.transform.point_in_time import join_as_of, limited_to
from pipeline.transform.silver_tables import SilverTables, joined_columns, table_of
from pipeline.transform.validate import ValidatedFeed
from pipeline.transform.verdicts import when_broken, when_outside

VERDICTS = (
    "_own",
    "_warned",
    "_unchecked",
)  # of a row: whether it is the batch's own, the rules that it breaks, or lacks


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


def columns_of_change(table: Enriched, source: Source) -> tuple[Column, ...]:
    """Returns the columns in which rows are compared: those of the table, and the names of checks that a row breaks.

    So no row that breaks a check is taken for one that has not changed.
    """
    return (*source.enriched_columns(table), Column("_failed", "STRING"))


def batch_rows(table: Enriched, silver: SilverTables, validated: ValidatedFeed | None) -> DataFrame | None:
    """Returns the batch's accepted rows in the shape of the feed's silver table, where the table has rules for them."""
    if validated is None or not validated.rows_accepted or not table.rules:
        return None
    feed = silver.source.feed(table.upstream)
    accepted = validated.accepted([*feed.input_names, "_event_at", "_batch_date", "_revision", "_deleted"])
    started = accepted.where("NOT _deleted").withColumn("effective_from", F.expr(feed.valid_from_sql))
    later = [c for c in feed.silver if c.name in ("effective_to", "is_current", "_row")]
    return derive(started, validated.feed.derived).selectExpr(
        "*", *(f"CAST(NULL AS {c.type}) AS {c.name}" for c in later)
    )


def affected_and_batch_rows(
    table: Enriched, silver: SilverTables, affected: DataFrame | None, batch: DataFrame | None
) -> DataFrame:
    """Returns the affected rows (`_own` 0; all where None) and the batch's (1), so that one query joins both."""
    columns = [F.col(old).alias(new) for old, new, _ in silver.source.own_columns(table)]
    rows = silver.rows_of(table) if affected is None else affected.where("_lives")
    rows = rows.select(*columns, F.lit(0).alias("_own"))
    if batch is not None:
        rows = rows.unionByName(batch.select(*columns, F.lit(1).alias("_own")))
    return rows.withColumn("_at", F.expr(table.as_of))


def lookup_keys(join: Join, rows: DataFrame, affected: MaterializedRows, batch: DataFrame | None) -> DataFrame:
    """Returns the values of the joined columns by which rows are looked up."""
    on = list(joined_columns(join))
    if not set(on) <= set(affected.schema.names):
        return rows.select(*on).distinct()
    keys = affected.df.select(*on)
    return (keys if batch is None else keys.unionByName(batch.select(*on))).distinct()


def joined(
    table: Enriched,
    silver: SilverTables,
    rows: DataFrame,
    *,
    affected: MaterializedRows | None,
    batch: DataFrame | None,
    skewed: Mapping[PointInTimeJoin, DataFrame],
) -> DataFrame:
    """Returns the rows with the columns of every join. With `affected` only versions of their keys are read."""
    for join in table.joins:
        given = silver.source.join_columns(table, join)
        keys = None if affected is None else lookup_keys(join, rows, affected, batch)
        if isinstance(join, PointInTimeJoin):
            rows = join_as_of(join, silver, rows, given, lookup_keys=keys, skewed=skewed.get(join))
        else:
            rows = _join(join, silver, rows, given, keys)
    return rows


def _join(
    join: LatestJoin | HierarchyJoin,
    silver: SilverTables,
    rows: DataFrame,
    given: Sequence[tuple[str, str, str]],
    keys: DataFrame | None,
) -> DataFrame:
    """Joins at most one row of the other table to each row. The columns of both have different names."""
    on = joined_columns(join)
    if isinstance(join, HierarchyJoin):
        node = silver.source.hierarchy(join.hierarchy).id
        found = silver.tables[join.hierarchy].read().withColumnRenamed(node, join.on)
    else:
        found = limited_to(silver.current(join.feed), join.on, keys)
        found = _newest(join, found) if join.order_by else found
    answer = found.select(*(F.col(c).alias(f"_of_{c}") for c in on), *(F.expr(sql).alias(new) for sql, new, _ in given))
    same = F.expr(" AND ".join(f"{c} = _of_{c}" for c in on))
    return rows.join(answer, same, "left").drop(*(f"_of_{c}" for c in on))


def _newest(join: LatestJoin, rows: DataFrame) -> DataFrame:
    if join.count:
        rows = rows.withColumn(join.count, F.count(F.lit(1)).over(Window.partitionBy(*join.on)))
    last = (F.col(c).desc_nulls_last() for c in join.order_by)
    return first_row_per(rows, Window.partitionBy(*join.on).orderBy(*last))


def with_rules(table: Enriched, rows: DataFrame) -> DataFrame:
    """Adds the derived columns, and the names of the rules and checks that a row breaks, or is not checked by."""
    failed = f"{when_broken(table.checks, '_own = 0')} AS _failed"
    verdicts = (f"{when_broken(table.rules)} AS _warned", f"{when_outside(table.rules)} AS _unchecked", failed)
    return derive(rows, table.derived).selectExpr("*", *verdicts)


def change_of(
    table: Enriched, source: Source, rows: DataFrame, stored: TableVersion, affected: MaterializedRows | None
) -> DataFrame:
    """Returns what changes in the table: `rows` as they are now, and the stored rows of the affected ones."""
    columns = columns_of_change(table, source)
    now = rows.select(*(c.name for c in columns))
    if affected is None:
        return difference(None, now, columns)
    feed = source.feed(table.upstream)
    within = {feed.event_time: affected.min_max(feed.event_time)} if is_sorted_by_time(feed) else None
    before = stored.read(within=within).join(affected.df, list(source.enriched_key(table)), "left_semi")
    return difference(before.selectExpr("*", "'' AS _failed"), now, columns)


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

"""Keeps distinct counts and extremes by difference, from a log of signed counts: how often a value is in a group."""

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.lake.lake import TableVersion
from pipeline.model import GoldTable, Source, literal
from pipeline.transform.change import TableChange
from pipeline.transform.derived_columns import text_key_sql

PAIR_COUNTS = "ops.pair_counts"


def value_counts(tables: Sequence[GoldTable], source: Source, change: TableChange) -> DataFrame:
    """Returns the rows to append to `ops.pair_counts` for the gold tables that follow a changed table."""
    columns = ((t, column, sql) for t in tables for column, sql in t.members.items())
    entries = ", ".join(
        f"named_struct('pair', {literal(pair_name(t, column))}, 'group_key', {group_key_sql(t)},"
        f" 'member', CASE WHEN {t.where or 'true'} THEN CAST({sql} AS STRING) END)"
        for t, column, sql in columns
    )
    exploded = change.rows.df.selectExpr("_sign", f"explode(array({entries})) AS e")
    exploded = exploded.selectExpr("_sign", "e.pair", "e.group_key", "e.member").where("member IS NOT NULL")
    counts = exploded.groupBy("pair", "group_key", "member").agg(F.sum("_sign").alias("n")).where("n <> 0")
    named = f"{literal(source.name)} AS source"
    return counts.selectExpr(named, "pair", "group_key", "member", "CAST(n AS BIGINT) AS n")


def effects_on_groups(
    tables: Sequence[GoldTable], source: Source, counts: DataFrame, stored: TableVersion
) -> DataFrame:
    """Returns per pair and group `d` (change of the distinct count) and `low`, `high` (extremes, as text)."""
    key = ["pair", "group_key", "member"]
    new, old = counts.select(*key, "n"), _stored_counts(tables, source, stored)
    if old is None:
        old = new.selectExpr(*key, "CAST(0 AS BIGINT) AS n").where("false")
    known = old.join(new.select(*key), key, "left_semi").selectExpr(*key, "n AS before", "CAST(0 AS BIGINT) AS delta")
    both = known.unionByName(new.selectExpr(*key, "CAST(0 AS BIGINT) AS before", "n AS delta"))
    moved = both.groupBy(*key).agg(F.sum("before").alias("b"), F.sum("delta").alias("d"))
    is_now, was = "CASE WHEN b + d > 0 THEN 1 ELSE 0 END", "CASE WHEN b > 0 THEN 1 ELSE 0 END"
    changes = moved.selectExpr("pair", "group_key", f"CAST({is_now} - {was} AS BIGINT) AS d")
    changes = changes.groupBy("pair", "group_key").agg(F.sum("d").alias("d"))
    nothing = "CAST(NULL AS STRING)"
    effects = changes.selectExpr("pair", "group_key", "d", f"{nothing} AS low", f"{nothing} AS high")
    extremes = [pair_name(t, column) for t in tables for column in (*t.min, *t.max)]
    return effects.unionByName(_extremes(new, old, extremes)) if extremes else effects


def _extremes(new: DataFrame, old: DataFrame, pairs: Sequence[str]) -> DataFrame:
    is_wanted = f"pair IN ({', '.join(map(literal, pairs))})"
    groups = new.where(is_wanted).select("pair", "group_key").distinct()
    values = old.where(is_wanted).join(groups, ["pair", "group_key"], "left_semi").unionByName(new.where(is_wanted))
    there = values.groupBy("pair", "group_key", "member").agg(F.sum("n").alias("n")).where("n > 0")
    ends = there.groupBy("pair", "group_key").agg(F.min("member").alias("low"), F.max("member").alias("high"))
    return ends.selectExpr("pair", "group_key", "CAST(0 AS BIGINT) AS d", "low", "high")


def _stored_counts(tables: Sequence[GoldTable], source: Source, stored: TableVersion) -> DataFrame | None:
    if not stored.version:
        return None
    pairs = ", ".join(literal(pair_name(t, column)) for t in tables for column in t.members)
    return stored.read().where(f"source = {literal(source.name)} AND pair IN ({pairs})").drop("source")


def pair_name(table: GoldTable, column: str) -> str:
    """Returns the name under which the values of a column are counted."""
    return f"{table.name}.{column}"


def group_key_sql(table: GoldTable) -> str:
    """Returns SQL for a row's group as one text; rows without a value are a group, too."""
    grain = grain_of(table)
    return text_key_sql(grain) if grain else "''"


def grain_of(table: GoldTable) -> tuple[str, ...]:
    """Returns the columns that rows are grouped by: the grain; none for a table with one cumulative row per batch."""
    return () if table.row_per_batch else table.grain

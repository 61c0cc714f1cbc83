"""Joins rows to the versions that are valid at the instant `_at` of each row."""

from collections import defaultdict
from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline.model import Enriched, PointInTimeJoin
from pipeline.transform.silver_tables import SilverTables

ALWAYS = "TIMESTAMP '0001-01-01 00:00:00'"
# No instant is so late. Engines read a literal with a year of five digits differently.
NEVER = "CAST(date_add(DATE '9999-12-31', 1) AS TIMESTAMP)"
# A row is compared with every version of its key. The time range of a skewed key, with so many versions, is split.
MANY_VERSIONS = 64


def join_as_of(
    join: PointInTimeJoin,
    silver: SilverTables,
    rows: DataFrame,
    given: Sequence[tuple[str, str, str]],
    *,
    lookup_keys: DataFrame | None,
    skewed: DataFrame | None,
) -> DataFrame:
    """Adds the columns of a joined table. `lookup_keys` limits the versions, `skewed` are the skewed keys."""
    of = {c: f"_of_{c}" for c in join.on}
    same = " AND ".join(f"{c} = {name}" for c, name in of.items())
    versions = _versions(join, silver, lookup_keys)
    if join.aggregates:
        aggregated = _aggregated(join, rows, versions)
        return rows.join(aggregated, F.expr(f"{same} AND _at = _of_at"), "left").drop("_of_at", *of.values())
    until = f"_{join.prefix}to"
    named = [F.col("_valid_to").alias(until), *(F.expr(sql).alias(new) for sql, new, _ in given)]
    answer = versions.select(*(F.col(c).alias(name) for c, name in of.items()), "_valid_from", *named)
    when = f"{same} AND _at >= _valid_from AND _at < {until}"
    if skewed is not None:
        rows = _with_bin(rows, list(of), skewed, f"{_bin('_at')} AS _bin")
        bins = f"explode(sequence({_bin('_valid_from')}, {_bin(until)})) AS _of_bin"
        answer = _with_bin(answer, list(of.values()), skewed, bins)
        when = f"{when} AND _bin = _of_bin"
    return rows.join(answer, F.expr(when), "left").drop("_valid_from", "_bin", "_of_bin", *of.values())


def limited_to(rows: DataFrame, on: Sequence[str], lookup_keys: DataFrame | None) -> DataFrame:
    """Returns the rows of the keys that are looked up; all where these are not known."""
    return rows if lookup_keys is None else rows.join(lookup_keys, list(on), "left_semi")


def skewed_keys(table: Enriched, silver: SilverTables) -> list[tuple[list[PointInTimeJoin], DataFrame]]:
    """Returns queries for skewed keys, each with its joins, whose positions are the query's column `_join`.

    Partners that share feed and joined columns share a query, so that the versions are read once for all of them.
    """
    alike = defaultdict[tuple[str, tuple[str, ...]], list[PointInTimeJoin]](list)
    for join in table.joins:
        if isinstance(join, PointInTimeJoin) and not join.aggregates:
            alike[join.feed, join.on].append(join)
    return [(joins, _skewed_keys(joins, silver)) for joins in alike.values()]


def _skewed_keys(joins: Sequence[PointInTimeJoin], silver: SilverTables) -> DataFrame:
    feed, on = joins[0].feed, joins[0].on
    # A version that starts earlier is taken for one that was valid always.
    is_recent = "effective_from > TIMESTAMP '1000-01-01 00:00:00'"
    start = f"CASE WHEN {is_recent} THEN unix_micros(effective_from) END AS _start"
    numbers = ", ".join(f"CASE WHEN {p.where or 'true'} THEN {n} END" for n, p in enumerate(joins))
    named = [f"_skewed_{c}" for c in on]
    key = (f"{c} AS {name}" for c, name in zip(on, named, strict=True))
    versions = silver.tables[feed].read().selectExpr(*key, start, f"explode(array({numbers})) AS _join")
    aggregates = (F.expr(sql) for sql in ("count(*) AS _versions", "min(_start) AS _low", "max(_start) AS _high"))
    counted = versions.groupBy(*named, "_join").agg(*aggregates)
    many = counted.where(f"_versions >= {MANY_VERSIONS} AND _join IS NOT NULL")
    return many.selectExpr("_join", *named, "_versions", "_low", "(_high - _low) div _versions + 1 AS _bin_width")


def _bin(instant: str) -> str:
    # Any function that never falls with time is right: the bins of a version include the bin of each of its instants.
    number = f"(unix_micros({instant}) - _low) div _bin_width"
    return f"CASE WHEN _bin_width IS NULL THEN 0 ELSE least(greatest({number}, -1), _versions) END"


def _with_bin(rows: DataFrame, on: Sequence[str], skewed: DataFrame, numbered: str) -> DataFrame:
    when = " AND ".join(f"{c} = _skewed_{c.removeprefix('_of_')}" for c in on)
    return rows.join(skewed, F.expr(when), "left").selectExpr(*rows.columns, numbered)


def _versions(join: PointInTimeJoin, silver: SilverTables, lookup_keys: DataFrame | None) -> DataFrame:
    """Returns the versions with the interval in which each is joined: from `_valid_from` to before `_valid_to`."""
    feed = silver.source.feed(join.feed)
    versions = silver.tables[feed.name].read().where(join.where or "true")
    end = F.expr(f"coalesce(effective_to, {NEVER})").alias("_valid_to")
    if join.before_first == "none":
        versions = versions.select("*", end, F.col("effective_from").alias("_valid_from"))
        return limited_to(versions, join.on, lookup_keys)
    # The first version is the first of all versions of a key: only rows of other keys may be left out before.
    is_whole_keys = set(join.on) <= set(feed.key)
    versions = limited_to(versions, join.on, lookup_keys) if is_whole_keys else versions
    first = F.min("effective_from").over(Window.partitionBy(*feed.key))
    start = F.when(F.col("effective_from") == first, F.expr(ALWAYS)).otherwise(F.col("effective_from"))
    versions = versions.select("*", end, start.alias("_valid_from"))
    return versions if is_whole_keys else limited_to(versions, join.on, lookup_keys)


def _aggregated(join: PointInTimeJoin, rows: DataFrame, versions: DataFrame) -> DataFrame:
    """Aggregates, for each joined value and instant of the rows, the versions that all keys have at that instant."""
    of = [f"_of_{c}" for c in join.on]
    points = rows.select(*(F.col(c).alias(f"_of_{c}") for c in join.on), F.col("_at").alias("_of_at")).distinct()
    when = " AND ".join([*(f"{c} = _of_{c}" for c in join.on), "_of_at >= _valid_from", "_of_at < _valid_to"])
    joined = points.join(versions, F.expr(when))
    totals = (F.expr(d.sql).cast(d.type).alias(d.name) for d in join.aggregates)
    return joined.groupBy(*of, "_of_at").agg(*totals)

"""Joins rows to the versions that are valid at the instant `_at` of each row."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline.lake.merge import key_numbers
from pipeline.model import Enriched, Feed, PointInTimeJoin
from pipeline.transform.derived_columns import columns_in
from pipeline.transform.silver_tables import SilverTables

ALWAYS = "TIMESTAMP '0001-01-01 00:00:00'"
# No instant is so late. Engines read a literal with a year of five digits differently.
NEVER = "CAST(date_add(DATE '9999-12-31', 1) AS TIMESTAMP)"
# The same instants in Arrow. Python cannot represent the second one.
ALWAYS_VALUE, NEVER_VALUE = (pa.scalar(n, pa.timestamp("us", "UTC")) for n in (-62135596800000000, 253402300800000000))
# A row is compared with every version of its key. The time range of a skewed key, with so many versions, is split.
MANY_VERSIONS = 64


def join_as_of(
    join: PointInTimeJoin,
    rows: DataFrame,
    versions: DataFrame,
    given: Sequence[tuple[str, str, str]],
    *,
    points: DataFrame,
    skewed: DataFrame | None,
    name: str,
) -> DataFrame:
    """Adds the columns of a joined feed.

    `versions` have an interval: see `with_interval`. `points` has the joined columns and `_at` of all rows; `skewed`
    are the skewed keys. New columns beside those of the table start with `_<name>_`.
    """
    of = {c: f"_{name}_{c}" for c in join.on}
    same = " AND ".join(f"{c} = {new}" for c, new in of.items())
    if join.aggregates:
        return rows.join(
            _aggregated(join, points, versions, of, f"_{name}_at"), F.expr(f"{same} AND _at = _{name}_at"), "left"
        )
    since, until = f"_{name}_since", f"_{join.prefix}to"
    ends = (f"_valid_from AS {since}", f"_valid_to AS {until}")
    answer = versions.selectExpr(
        *(f"{c} AS {new}" for c, new in of.items()), *ends, *(f"{sql} AS {new}" for sql, new, _ in given)
    )
    when = f"{same} AND _at >= {since} AND _at < {until}"
    if skewed is not None:
        own_bin, bin_of = f"_{name}_bin", f"_{name}_of_bin"
        rows = _with_bin(rows, {c: c for c in of}, skewed, f"{_bin('_at')} AS {own_bin}")
        bins = f"explode(sequence({_bin(since)}, {_bin(until)})) AS {bin_of}"
        answer = _with_bin(answer, of, skewed, bins)
        when = f"{when} AND {own_bin} = {bin_of}"
    return rows.join(answer, F.expr(when), "left")


def columns_of_versions(join: PointInTimeJoin, feed: Feed, given: Sequence[tuple[str, str, str]]) -> list[str]:
    """Returns the columns of a joined feed that the join reads."""
    needed = " ".join((join.where, *(d.sql for d in join.aggregates or join.select), *(sql for sql, _, _ in given)))
    return columns_in(
        " ".join((needed, *feed.key, *join.on, "effective_from effective_to")), [c.name for c in feed.silver]
    )


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


def _with_bin(rows: DataFrame, on: Mapping[str, str], skewed: DataFrame, numbered: str) -> DataFrame:
    when = " AND ".join(f"{name} = _skewed_{c}" for c, name in on.items())
    return rows.join(skewed, F.expr(when), "left").selectExpr(*rows.columns, numbered)


def with_interval(join: PointInTimeJoin, feed: Feed, versions: DataFrame) -> DataFrame:
    """Returns the versions that a join sees, with the interval of each: from `_valid_from` to before `_valid_to`.

    `versions` must have every version of a key.
    """
    seen = versions.where(join.where) if join.where else versions
    end, start = F.expr(f"coalesce(effective_to, {NEVER})").alias("_valid_to"), F.col("effective_from")
    if join.before_first != "none":
        first = F.min("effective_from").over(Window.partitionBy(*feed.key))
        start = F.when(start == first, F.expr(ALWAYS)).otherwise(start)
    return seen.select("*", end, start.alias("_valid_from"))


def table_with_interval(join: PointInTimeJoin, feed: Feed, versions: pa.Table) -> pa.Table:
    """Returns the rows of `with_interval` for a join without `where`, without an engine."""
    start, end = versions["effective_from"], pc.coalesce(versions["effective_to"], NEVER_VALUE)
    if join.before_first != "none":
        firsts = versions.group_by(feed.key).aggregate([("effective_from", "min")])
        first = firsts["effective_from_min"].take(key_numbers(versions.select(feed.key), firsts.select(feed.key)))
        start = pc.if_else(pc.equal(start, first), ALWAYS_VALUE, start)
    return versions.append_column("_valid_to", end).append_column("_valid_from", start)


def _aggregated(
    join: PointInTimeJoin, points: DataFrame, versions: DataFrame, of: Mapping[str, str], at: str
) -> DataFrame:
    """Aggregates, for each joined value and instant of the rows, the versions that all keys have at that instant."""
    named = points.selectExpr(*(f"{c} AS {new}" for c, new in of.items()), f"_at AS {at}").distinct()
    when = " AND ".join([*(f"{c} = {new}" for c, new in of.items()), f"{at} >= _valid_from", f"{at} < _valid_to"])
    totals = (F.expr(d.sql).cast(d.type).alias(d.name) for d in join.aggregates)
    return named.join(versions, F.expr(when)).groupBy(*of.values(), at).agg(*totals)

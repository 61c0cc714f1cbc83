"""Finds the intervals in which the history of a joined table has changed: by an engine, or few rows in this process."""

from collections import defaultdict
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.lake.merge import distinct_keys, key_numbers
from pipeline.model import NOW, Enriched, Feed, HierarchyJoin, LatestJoin, PointInTimeJoin
from pipeline.transform.change import TableChange
from pipeline.transform.derived_columns import columns_in
from pipeline.transform.point_in_time import ALWAYS, ALWAYS_VALUE, NEVER, NEVER_VALUE
from pipeline.transform.silver_tables import SilverTables

_NOW = pa.scalar(NEVER_VALUE.value - 1, NEVER_VALUE.type)


def changed_intervals(
    table: Enriched, silver: SilverTables, in_process_rows: int
) -> dict[tuple[str, ...], tuple[pa.Table | None, DataFrame | None]]:
    """Returns, per joined columns, their values with the intervals in which a joined table's history has changed.

    An interval starts at `_since` and ends before `_until`; `_last` is the same end, but not after the year 9999, which
    Python cannot represent. Partners that share the joined columns share the rows: these are read once for all. The
    intervals of up to `in_process_rows` changed rows are a table, unless SQL chooses the versions; others are a query.
    """
    few, many = defaultdict[tuple[str, ...], list[pa.Table]](list), defaultdict[tuple[str, ...], list[DataFrame]](list)
    for join in table.joins:
        change = silver.change_of(join)
        if change is None or isinstance(join, HierarchyJoin):
            continue
        if change.rows.rows <= in_process_rows and not (isinstance(join, PointInTimeJoin) and join.where):
            few[join.on].append(intervals_of_table(join, silver, change))
        else:
            many[join.on].append(intervals(join, silver, change))
    tables = {on: _with_last(pa.concat_tables(some)) for on, some in few.items()}
    queries = {
        on: reduce(DataFrame.unionByName, some).selectExpr("*", f"least(_until, {NOW}) AS _last")
        for on, some in many.items()
    }
    return {on: (tables.get(on), queries.get(on)) for on in dict.fromkeys((*tables, *queries))}


def intervals(join: PointInTimeJoin | LatestJoin, silver: SilverTables, change: TableChange) -> DataFrame:
    """Returns a query for the changed intervals of one join: the joined columns, `_since` and `_until`."""
    feed, given = silver.source.feed(join.feed), _given(join, silver)
    always = (f"{ALWAYS} AS _since", f"{NEVER} AS _until")
    if isinstance(join, LatestJoin):
        columns = _ordering(join, feed, given)
        is_current = ["is_current"] if feed.has_versions else []
        current = change.rows.read([*columns, *is_current, "_sign"]).where("is_current" if is_current else "true")
        if join.columns:
            current = current.groupBy(*columns).agg(F.sum("_sign").alias("_net")).where("_net <> 0")
        return current.selectExpr(*join.on, *always).distinct()
    names = [*dict.fromkeys((*feed.key, *join.on))]
    seen = columns_in(join.where, [c.name for c in feed.silver])
    versions = change.rows.read([*dict.fromkeys((*names, *given, *seen, "effective_from", "effective_to", "_sign"))])
    # An engine plans each column of each step: as one value the content costs no more than one column.
    content = f"struct({', '.join(given)}) AS _content" if given else "0 AS _content"
    end = f"coalesce(effective_to, {NEVER}) AS _end"
    ends = versions.where(join.where or "true").selectExpr(*names, "effective_from", content, end, "_sign")
    sums = F.sum("_sign").alias("_net"), F.min("_end").alias("_low"), F.max("_end").alias("_high")
    rows = ends.groupBy(*names, "effective_from", "_content").agg(*sums)
    # A version on one side only differs from its start to its end; one whose end moved differs between the ends.
    moved = rows.where("_net <> 0 OR _low < _high")
    since = "CASE WHEN _net <> 0 THEN effective_from ELSE _low END AS _since"
    found = moved.selectExpr(*join.on, since, "_high AS _until")
    if join.before_first == "none":
        return found
    # Rows older than the first version take the first: where that may be another one now, all older rows are affected.
    firsts = moved.groupBy(*feed.key).agg(
        F.min(F.expr("CASE WHEN _net <> 0 THEN effective_from END")).alias("_new"),
        F.min(F.expr("CASE WHEN _net = 0 THEN effective_from END")).alias("_old"),
    )
    firsts = firsts.where("_new IS NOT NULL AND (_old IS NULL OR _new < _old)")
    if not set(join.on) <= set(feed.key):
        # The joined columns may differ between versions: the first one, before and after, may be found by others.
        every = change.rows.df.select(*names).unionByName(silver.tables[feed.name].read(names))
        firsts = every.join(firsts, list(feed.key), "left_semi").distinct()
    return found.unionByName(firsts.selectExpr(*join.on, *always))


def intervals_of_table(join: PointInTimeJoin | LatestJoin, silver: SilverTables, change: TableChange) -> pa.Table:
    """Returns the rows of `intervals`, without an engine."""
    feed, given = silver.source.feed(join.feed), _given(join, silver)
    if isinstance(join, LatestJoin):
        columns = _ordering(join, feed, given)
        is_current = ["is_current"] if feed.has_versions else []
        rows = change.rows.arrow([*columns, *is_current, "_sign"])
        rows = rows.filter(rows["is_current"]) if is_current else rows
        if join.columns:
            rows = rows.group_by(columns).aggregate([("_sign", "sum")])
            rows = rows.filter(pc.not_equal(rows["_sign_sum"], 0))
        return _interval(distinct_keys(rows.select(join.on)), ALWAYS_VALUE, NEVER_VALUE)
    names = [*dict.fromkeys((*feed.key, *join.on))]
    versions = change.rows.arrow([*dict.fromkeys((*names, *given, "effective_from", "effective_to", "_sign"))])
    versions = versions.append_column("_end", pc.coalesce(versions["effective_to"], NEVER_VALUE))
    content = [*dict.fromkeys((*names, "effective_from", *given))]
    rows = versions.group_by(content).aggregate([("_sign", "sum"), ("_end", "min"), ("_end", "max")])
    low, high = rows["_end_min"], rows["_end_max"]
    rows = rows.append_column("_is_new", pc.not_equal(rows["_sign_sum"], 0))
    moved = rows.filter(pc.or_(rows["_is_new"], pc.less(low, high)))
    start, is_new = moved["effective_from"], moved["_is_new"]
    found = _interval(moved.select(join.on), pc.if_else(is_new, start, moved["_end_min"]), moved["_end_max"])
    if join.before_first == "none":
        return found
    nothing = pa.scalar(None, NEVER_VALUE.type)
    starts = moved.append_column("_new", pc.if_else(is_new, start, nothing))
    starts = starts.append_column("_old", pc.if_else(is_new, nothing, start))
    firsts = starts.group_by(feed.key).aggregate([("_new", "min"), ("_old", "min")])
    is_first = pc.fill_null(pc.less(firsts["_new_min"], firsts["_old_min"]), pc.is_null(firsts["_old_min"]))
    firsts = firsts.filter(pc.and_(pc.is_valid(firsts["_new_min"]), is_first)).select(feed.key)
    if not set(join.on) <= set(feed.key):
        stored = silver.rows_of_keys(feed.name, firsts, names, only_current=False)
        every = pa.concat_tables([versions.select(names), stored])
        firsts = distinct_keys(every.filter(pc.is_valid(key_numbers(every.select(feed.key), firsts))))
    return pa.concat_tables([found, _interval(firsts.select(join.on), ALWAYS_VALUE, NEVER_VALUE)])


def _given(join: PointInTimeJoin | LatestJoin, silver: SilverTables) -> tuple[str, ...]:
    feed = silver.source.feed(join.feed)
    return join.columns or (*feed.tracked, *(d.name for d in feed.derived))


def _ordering(join: LatestJoin, feed: Feed, given: tuple[str, ...]) -> list[str]:
    return [*dict.fromkeys((*feed.key, *join.on, *join.order_by, *(given if join.columns else ())))]


def _interval(on: pa.Table, since: pa.Scalar | pa.ChunkedArray, until: pa.Scalar | pa.ChunkedArray) -> pa.Table:
    for name, value in (("_since", since), ("_until", until)):
        on = on.append_column(name, pa.repeat(value, on.num_rows) if isinstance(value, pa.Scalar) else value)
    return on


def _with_last(rows: pa.Table) -> pa.Table:
    until = rows["_until"]
    return rows.append_column("_last", pc.if_else(pc.equal(until, NEVER_VALUE), _NOW, until))

"""Finds the rows of an enriched table that a batch may change: they or the versions they are joined to changed."""

from collections import defaultdict
from collections.abc import Mapping
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.lake.file_pruning import MinMax
from pipeline.lake.lake import TableVersion
from pipeline.model import NOW, Enriched, Feed, HierarchyJoin, LatestJoin, PointInTimeJoin
from pipeline.transform.change import TableChange
from pipeline.transform.derived_columns import columns_in
from pipeline.transform.point_in_time import ALWAYS, NEVER
from pipeline.transform.silver_tables import SilverTables

# Per joined columns the changed intervals, and the first and last instant of all of them where these are known.
Intervals = Mapping[tuple[str, ...], tuple[DataFrame, MinMax | None]]


def is_sorted_by_time(feed: Feed) -> bool:
    """Returns whether the table of a feed is sorted by event time, so that files of other times need not be read."""
    return bool(feed.event_time) and feed.event_time in feed.current_key


def changed_intervals(table: Enriched, silver: SilverTables) -> dict[tuple[str, ...], DataFrame]:
    """Returns, per joined columns, their values with the intervals in which a joined table's history has changed.

    An interval starts at `_since` and ends before `_until`; `_last` is the same end, but not after the year 9999, which
    Python cannot represent. Partners that share the joined columns share a DataFrame: the rows are read once for all.
    """
    intervals = defaultdict[tuple[str, ...], list[DataFrame]](list)
    for join in table.joins:
        change = silver.change_of(join)
        if change is not None and not isinstance(join, HierarchyJoin):
            intervals[join.on].append(_changed_intervals(join, silver, change))
    every = {on: reduce(DataFrame.unionByName, some) for on, some in intervals.items()}
    return {on: changed.selectExpr("*", f"least(_until, {NOW}) AS _last") for on, changed in every.items()}


def affected_keys(table: Enriched, silver: SilverTables, stored: TableVersion, intervals: Intervals) -> DataFrame:
    """Returns the keys of the rows that may change, and of those that the batch has removed."""
    source, feed = silver.source, silver.source.feed(table.upstream)
    key, parts = [*source.enriched_key(table)], list[DataFrame]()
    if feed.name in silver.changes:
        changed = silver.changes[feed.name].rows
        if feed.has_versions and not table.versions:
            parts.append(changed.read([*key, "is_current"]).where("is_current").select(*key))
        else:
            parts.append(changed.read(key))
    for join in table.joins:
        change = silver.change_of(join)
        if change is not None and isinstance(join, HierarchyJoin):
            moved = change.rows.df.selectExpr(f"{source.hierarchy(join.hierarchy).id} AS {join.on}").distinct()
            rows = stored.read([*dict.fromkeys((*key, join.on))])
            parts.append(rows.join(moved, join.on, "left_semi").select(*key))
    for on, (changed_intervals_of, ends) in intervals.items():
        columns = dict.fromkeys((*key, *on, *columns_in(table.as_of, [c.name for c in feed.silver])))
        rows = silver.rows_of(table, [*columns], within=None if ends is None else {table.as_of: ends})
        rows = rows.selectExpr(*dict.fromkeys((*key, *on)), f"{table.as_of} AS _at")
        parts.append(rows.join(changed_intervals_of, [*on]).where("_at >= _since AND _at < _until").select(*key))
    if not parts:
        return silver.rows_of(table, key).where("false")
    return reduce(DataFrame.unionByName, parts).distinct()


def _changed_intervals(join: PointInTimeJoin | LatestJoin, silver: SilverTables, change: TableChange) -> DataFrame:
    feed = silver.source.feed(join.feed)
    given = join.columns or (*feed.tracked, *(d.name for d in feed.derived))
    always = (f"{ALWAYS} AS _since", f"{NEVER} AS _until")
    if isinstance(join, LatestJoin):
        is_current = ["is_current"] if feed.has_versions else []
        columns = [*dict.fromkeys((*feed.key, *join.on, *join.order_by, *(given if join.columns else ())))]
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
    intervals = moved.selectExpr(*join.on, since, "_high AS _until")
    if join.before_first == "none":
        return intervals
    # Rows older than the first version take the first: where that may be another one now, all older rows are affected.
    firsts = moved.groupBy(*feed.key).agg(
        F.min(F.expr("CASE WHEN _net <> 0 THEN effective_from END")).alias("_new"),
        F.min(F.expr("CASE WHEN _net = 0 THEN effective_from END")).alias("_old"),
    )
    firsts = firsts.where("_new IS NOT NULL AND (_old IS NULL OR _new < _old)")
    if not set(join.on) <= set(feed.key):
        # The joined columns may differ between versions: the first one, before and after, may be found by others.
        versions = change.rows.df.select(*names).unionByName(silver.tables[feed.name].read(names))
        firsts = versions.join(firsts, list(feed.key), "left_semi").distinct()
    return intervals.unionByName(firsts.selectExpr(*join.on, *always))

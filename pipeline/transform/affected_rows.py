"""Finds the rows of an enriched table that a batch may change: they or the versions they are joined to changed."""

from collections.abc import Mapping

import pyarrow as pa
from pyspark.sql import DataFrame

from pipeline.lake.file_pruning import MinMax
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.merge import distinct_keys
from pipeline.lake.table_version import TableVersion
from pipeline.model import Enriched, Feed, HierarchyJoin
from pipeline.transform.derived_columns import columns_in
from pipeline.transform.silver_tables import SilverTables


def is_sorted_by_time(feed: Feed) -> bool:
    """Returns whether the table of a feed is sorted by event time, so that files of other times need not be read."""
    return bool(feed.event_time) and feed.event_time in feed.current_key


def time_range(feed: Feed, affected: MaterializedRows | None) -> dict[str, MinMax] | None:
    """Returns the range of the affected rows' event times where files of other times need not be read."""
    return {feed.event_time: affected.min_max(feed.event_time)} if affected and is_sorted_by_time(feed) else None


def own_keys(table: Enriched, silver: SilverTables) -> pa.Table | None:
    """Returns the keys of the rows of the feed that the batch changed, each once, without an engine.

    Returns None where it changed none.
    """
    if table.upstream not in silver.changes:
        return None
    key, flag = silver.source.enriched_key(table), _flag(table, silver)
    rows = silver.changes[table.upstream].rows.arrow([*key, *flag])
    return distinct_keys((rows.filter(rows["is_current"]) if flag else rows).select(key))


def read_own_keys(table: Enriched, silver: SilverTables) -> DataFrame:
    """Returns a query for the keys of the rows of the feed that the batch changed."""
    key, flag = silver.source.enriched_key(table), _flag(table, silver)
    changed = silver.changes[table.upstream].rows.read([*key, *flag])
    return changed.where("is_current" if flag else "true").select(*key)


def joined_keys(
    table: Enriched, silver: SilverTables, stored: TableVersion, intervals: Mapping[tuple[str, ...], MaterializedRows]
) -> list[DataFrame]:
    """Returns queries for the keys of the rows of which a joined row changed; `intervals` by joined columns."""
    source, feed = silver.source, silver.source.feed(table.upstream)
    key, parts = [*source.enriched_key(table)], list[DataFrame]()
    for join in table.joins:
        change = silver.change_of(join)
        if change is not None and isinstance(join, HierarchyJoin):
            moved = change.rows.df.selectExpr(f"{source.hierarchy(join.hierarchy).id} AS {join.on}").distinct()
            rows = stored.read([*dict.fromkeys((*key, join.on))])
            parts.append(rows.join(moved, join.on, "left_semi").select(*key))
    is_sorted = is_sorted_by_time(feed) and table.as_of == feed.event_time
    for on, changed in intervals.items():
        columns = dict.fromkeys((*key, *on, *columns_in(table.as_of, [c.name for c in feed.silver])))
        within = {table.as_of: (changed.min_max("_since")[0], changed.min_max("_last")[1])} if is_sorted else None
        rows = silver.rows_of(table, [*columns], within=within)
        rows = rows.selectExpr(*dict.fromkeys((*key, *on)), f"{table.as_of} AS _at")
        interval = changed.read([*on, "_since", "_until"])
        parts.append(rows.join(interval, [*on]).where("_at >= _since AND _at < _until").select(*key))
    return parts


def _flag(table: Enriched, silver: SilverTables) -> list[str]:
    return ["is_current"] if silver.source.feed(table.upstream).has_versions and not table.versions else []

"""Merges a batch into a table with history: each key takes the cheapest path that gives the versions of all its events.

Append: one event after the open version; nothing is sorted. Merge: several such events, sorted with the open version.
Rebuild: an event that is not newer than all known ones; the key's events are read from bronze.
"""

from collections.abc import Collection, Mapping
from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline.lake.file_pruning import MinMax
from pipeline.model import Feed, literal
from pipeline.transform.change import difference
from pipeline.transform.derived_columns import derive
from pipeline.transform.history import ABOUT, EVENT, RECORD, silver_rows, versions, versions_of_many
from pipeline.transform.snapshots import (
    DeliveredSnapshot,
    MergeTarget,
    end_of,
    incomplete_snapshots,
    snapshot_events,
    without_hidden_keys,
)
from pipeline.transform.ties import tie_breaker
from pipeline.transform.validate import ValidatedFeed

APPEND, MERGE, REBUILD = "append", "merge", "rebuild"
# From so many rows of a batch on, to count the events of each key costs less than to sort them.
MANY = 10_000


def incoming_events(validated: ValidatedFeed) -> DataFrame:
    """Returns the batch's events: its accepted rows without those that a later record of their file replaces."""
    rows = validated.standing([*validated.feed.input_names, *ABOUT, *RECORD])
    return rows.withColumn("_at", F.col("_event_at"))


def first_versions(validated: ValidatedFeed, target: MergeTarget, repeated: DataFrame | None) -> DataFrame:
    """Returns the versions of a feed that had none, as a change; `repeated` are the keys with several events."""
    feed, incoming = validated.feed, incoming_events(validated)
    # The only delivery that ever came lacks no key and, where no row deletes one, finds none closed.
    is_alone = target.this_snapshot is not None and len(target.snapshots) == 1 and not feed.delete_condition
    if target.snapshots and not is_alone:
        after = _versions_with_snapshots(feed, incoming.select(*feed.input_names, *EVENT), target)
    else:
        after = (
            versions_of_many(feed, incoming, repeated) if validated.rows_accepted >= MANY else versions(feed, incoming)
        )
    return silver_rows(feed, derive(after, feed.derived), "1 AS _sign")


def current_versions(feed: Feed, incoming: DataFrame, target: MergeTarget) -> DataFrame:
    """Returns the versions of every key of the batch (nulls for a new key), its first incoming event and its path.

    `_path` is `rebuild` where an event is not newer than all known ones of its key, else `append` where a key has at
    most one event, which is no delete, else `merge`. A whole delivery concerns every key; a key that it lacks has no
    incoming event (`_first` is null).
    """
    key, this = list(feed.key), target.this_snapshot
    keys = incoming.groupBy(*key).agg(
        F.min("_event_at").alias("_first"), F.count(F.lit(1)).alias("_events"), F.max("_deleted").alias("_ends")
    )
    silver = target.silver.read()
    if not this:
        current = keys.join(silver.join(keys.select(*key), key, "left_semi"), key, "left")
    elif rebuilds_all(feed, target):
        # A key without a version may get one now: only bronze has it.
        current = keys.join(silver, key, "full").join(events_of(feed, target).select(*key).distinct(), key, "full")
    elif this.batch_id in incomplete_snapshots(target):
        # A delivery with a record whose key cannot be read says nothing of the keys that it lacks.
        current = keys.join(silver, key, "left")
    else:
        current = without_hidden_keys(feed, keys.join(silver, key, "full"), target, this)
    of_key = Window.partitionBy(*key)
    open_since = F.max(F.expr("CASE WHEN is_current THEN _event_at END")).over(of_key)
    current = current.withColumn("_open_since", open_since).withColumn("_closed_at", F.max("effective_to").over(of_key))
    is_alone = "_first IS NULL OR (_events = 1 AND NOT _ends)"
    path = f"CASE WHEN {_is_late(feed, target)} THEN '{REBUILD}' WHEN {is_alone} THEN '{APPEND}' ELSE '{MERGE}' END"
    return current.withColumn("_path", F.expr(path))


def rebuilds_all(feed: Feed, target: MergeTarget) -> bool:
    """Returns whether every key is rebuilt: whole deliveries and deletes, or whole deliveries out of order."""
    is_out_of_order = any(date >= target.order.batch_date for date in target.other_dates)
    return bool(target.snapshots) and (bool(feed.delete_condition) or is_out_of_order)


def _is_late(feed: Feed, target: MergeTarget) -> str:
    """Returns SQL that is true for a key that has to be rebuilt from all its events and all whole deliveries."""
    if rebuilds_all(feed, target):
        return "true"
    this, others = target.this_snapshot, target.other_dates
    # Silver has what older whole deliveries contain and lack, unless an event is from before the end of the last one.
    is_late = f"_first < {end_of(max(others))}" if others else "false"
    # Where keys can be deleted, an unknown key may have had deletes only, which silver does not show.
    cases = [f"WHEN effective_from IS NULL THEN {literal(bool(feed.delete_condition))} OR {is_late}"]
    if this:
        end = end_of(this.batch_date)
        is_newer = f"coalesce(_open_since >= {end}, false) OR coalesce(_closed_at > {end}, false)"
        cases.append(f"WHEN _first IS NULL THEN {is_newer}")
    return f"CASE {' '.join(cases)} ELSE _open_since IS NULL OR _first <= _open_since OR {is_late} END"


def merge_history(
    feed: Feed, current: DataFrame, paths: Collection[str], incoming: DataFrame, target: MergeTarget
) -> DataFrame:
    """Returns the change of the silver table. `current` are the `current_versions`, `paths` the paths that occur."""
    parts = list[DataFrame]()
    if APPEND in paths:
        appended = current.where(f"_path = '{APPEND}'")
        parts.append(_append_versions(feed, appended, incoming, target.this_snapshot))
    if set(paths) != {APPEND}:
        incoming = _not_appended(feed, current, paths, incoming)
        after = _merge_versions(feed, current, incoming.select(*feed.input_names, *EVENT), target, paths)
        is_replaced = f"_path = '{REBUILD}' OR (_path = '{MERGE}' AND is_current)"
        before = current.where(f"effective_from IS NOT NULL AND ({is_replaced})")
        after = derive(after, feed.derived)
        parts.append(difference(silver_rows(feed, before), silver_rows(feed, after), feed.silver))
    return reduce(DataFrame.unionByName, parts)


def _not_appended(feed: Feed, current: DataFrame, paths: Collection[str], incoming: DataFrame) -> DataFrame:
    if APPEND not in paths:
        return incoming
    others = current.where(f"_path <> '{APPEND}'").select(*feed.key).distinct()
    return incoming.join(others, list(feed.key), "left_semi")


def _append_versions(feed: Feed, current: DataFrame, incoming: DataFrame, this: DeliveredSnapshot | None) -> DataFrame:
    """Returns the change for keys with one event after their open version, and for keys that the delivery lacks."""
    input_columns = (*feed.input_names, "_event_at", "_batch_date", "_revision")
    fresh = incoming.selectExpr(*(f"{k} AS _of_{k}" for k in feed.key), f"struct({', '.join(input_columns)}) AS _new")
    current = current.where("is_current OR effective_from IS NULL")
    joined = current.join(fresh, F.expr(" AND ".join(f"{k} = _of_{k}" for k in feed.key)), "left")
    same = " AND ".join(f"{c} <=> _new.{c}" for c in feed.tracked) or "true"
    is_same = F.expr(f"coalesce(is_current, false) AND _first IS NOT NULL AND {same}")
    joined = joined.withColumn("_same", is_same)
    starts = "CASE WHEN _same THEN effective_from ELSE _first END AS effective_from"
    opened = joined.where("_first IS NOT NULL").selectExpr("_new.*", starts, "CAST(NULL AS TIMESTAMP) AS effective_to")
    ends = f"coalesce(_first, {end_of(this.batch_date)}) AS effective_to" if this else "_first AS effective_to"
    ended = joined.where("is_current AND NOT _same").selectExpr(*input_columns, "effective_from", ends)
    both = opened.unionByName(ended).selectExpr("*", "effective_to IS NULL AS is_current")
    after = silver_rows(feed, derive(both, feed.derived), "1 AS _sign")
    # Each of them differs from the version before, at least by its newest event.
    return after.unionByName(silver_rows(feed, current.where("is_current"), "-1 AS _sign"))


def _merge_versions(
    feed: Feed, current: DataFrame, incoming: DataFrame, target: MergeTarget, paths: Collection[str]
) -> DataFrame:
    """Returns the versions of keys whose events are merged into their open version, or that are rebuilt from bronze."""
    key = list(feed.key)
    open_versions = current.where(f"_path = '{MERGE}' AND is_current").selectExpr(
        *feed.input_names,
        "effective_from AS _at",
        "_event_at",
        "_batch_date",
        "_revision",
        "false AS _deleted",
        "'' AS _batch_id",
    )
    events = incoming.unionByName(open_versions)
    if REBUILD not in paths:
        return versions(feed, events)
    rebuilt = current.where(f"_path = '{REBUILD}'").select(*key).distinct()
    all_events = events_of(feed, target).join(rebuilt, key, "left_semi")
    merged = events.join(rebuilt, key, "left_anti")
    if not target.snapshots:
        return versions(feed, merged.unionByName(all_events))
    rebuilt_versions = _versions_with_snapshots(feed, all_events, target)
    return versions(feed, merged).unionByName(rebuilt_versions, allowMissingColumns=True)


def _versions_with_snapshots(feed: Feed, events: DataFrame, target: MergeTarget) -> DataFrame:
    own = events.withColumn("_reopens", F.expr("false"))
    return versions(feed, own.unionByName(snapshot_events(feed, events, target)), reopened=True)


def events_of(
    feed: Feed, target: MergeTarget, where: str = "true", *, within: Mapping[str, MinMax] | None = None
) -> DataFrame:
    """Returns every accepted event that no later record of its file replaces; see `Lake.read` for `within`."""
    columns = [*feed.names, "_batch_date", "_revision", "_deleted", "_superseded", "_batch_id"]
    stored = target.bronze.read(columns, within=within)
    # Rows that an older release wrote have no mark.
    events = derive(stored.where(where).where("NOT coalesce(_superseded, false)"), feed.cleaned)
    events = events.withColumn("_event_at", F.expr(feed.event_time_sql)).withColumn("_at", F.col("_event_at"))
    return events.select(*feed.input_names, *EVENT)


def tied_with_events(
    feed: Feed, current: DataFrame, paths: Collection[str], incoming: DataFrame, target: MergeTarget
) -> DataFrame:
    """Returns the batch's records that differ only in content from a row of another batch of their date, revision."""
    incoming = _not_appended(feed, current, paths, incoming)
    day, same = target.order.batch_date, dict.fromkeys((*feed.key, "_event_at", "_revision", *tie_breaker(feed)))
    others = f"_batch_date = {literal(day)} AND NOT (_batch_id <=> {literal(target.order.batch_id)})"
    events = events_of(feed, target, others, within={"_batch_date": (day, day)})
    events = events.join(incoming.select(*feed.key), list(feed.key), "left_semi")
    columns = (*(f"{c} AS _of_{c}" for c in same), "_deleted", f"{content_hash(feed)} AS _content")
    ends = F.max("_deleted").alias("_ends"), F.min("_content").alias("_low"), F.max("_content").alias("_high")
    stored = events.selectExpr(*columns).groupBy(*(f"_of_{c}" for c in same)).agg(*ends)
    own = incoming.where("NOT _deleted").selectExpr(*same, *RECORD, f"{content_hash(feed)} AS _content")
    joined = own.join(stored, F.expr(" AND ".join(f"{c} <=> _of_{c}" for c in same)))
    # Where a delete is among them it decides, and the content of the other rows does not matter.
    return joined.where("NOT _ends AND (_low <> _content OR _high <> _content)").select(*RECORD)


def content_hash(feed: Feed) -> str:
    """Returns SQL for a hash of a row's content."""
    # A null by itself does not change the hash.
    return f"xxhash64({', '.join(f'{c}, {c} IS NULL' for c in feed.input_names)})"

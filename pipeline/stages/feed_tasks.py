"""What the tasks of a feed do: append to bronze, find the current versions, merge, count ties."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from pipeline.lake.data_files import cast_to_schema
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.ops_tables import OPS, REJECTED_KEYS
from pipeline.model import Append, Feed, Scd1, Scd2, Snapshot
from pipeline.stages.context import BatchContext
from pipeline.stages.error_place import errors_of
from pipeline.stages.revisions import NO_FILES, superseded
from pipeline.stages.task_graph import Results
from pipeline.transform.change import TableChange
from pipeline.transform.derived_columns import derive
from pipeline.transform.history import silver_rows
from pipeline.transform.history_in_process import (
    bronze_columns,
    change_of_history,
    event_schema,
    events_of_bronze,
    matched_versions,
    merged_versions,
    rebuilt_keys,
)
from pipeline.transform.history_paths import (
    REBUILD,
    current_versions,
    first_versions,
    incoming_events,
    merge_history,
    rebuilds_all,
    tied_with_events,
)
from pipeline.transform.merge import (
    compares_with_stored,
    merge_append,
    merge_replace,
    merge_scd1,
    reads_all_deliveries,
    tied_with_stored,
)
from pipeline.transform.snapshots import MergeTarget, check_shrink, refuse_contradiction
from pipeline.transform.validate import ValidatedFeed

COUNTED_KEYS = 5_000_000  # rows of a first delivery whose keys this process counts
IN_MEMORY = 100_000  # accepted rows, and versions of their keys, up to which this process merges without the engine


def merge_target(batch: BatchContext, feed: Feed) -> MergeTarget:
    """Returns the tables that a feed is merged into. Raises DataError where a revision may replace several files."""
    order, source, manifest = batch.order, batch.source.name, batch.manifest
    bronze, silver = batch.name("bronze", feed.name), batch.name("silver", feed.name)
    deliveries = manifest.snapshot_deliveries(source, feed.name)
    if batch.is_whole(feed):
        deliveries.append((order.batch_id, order.batch_date, order.revision))
    every, new = superseded(order, feed, manifest) if isinstance(feed.stored_as, Append) else (NO_FILES, NO_FILES)
    return MergeTarget(
        order=order,
        bronze=batch.table(bronze),
        silver=batch.table_before(silver),
        is_first=batch.attempt.start_versions[bronze] == 0,
        is_first_of_date=not manifest.has_date(source, order.batch_date),
        deliveries=tuple(deliveries),
        rejected_keys=_rejected_keys(batch, feed) if deliveries else OPS[REJECTED_KEYS].empty_table(),
        superseded=every,
        newly_superseded=new,
    )


def _rejected_keys(batch: BatchContext, feed: Feed) -> pa.Table:
    of_feed = (pc.field("source") == batch.source.name) & (pc.field("feed") == feed.name)
    return batch.lake.arrow(REJECTED_KEYS, batch.attempt.version(REJECTED_KEYS), filter=of_feed)


def matches_versions(feed: Feed, target: MergeTarget) -> bool:
    """Returns whether the merge of a feed first finds the current versions of its keys."""
    return isinstance(feed.stored_as, Scd2) and not target.is_first


def match_reads_bronze(feed: Feed, target: MergeTarget) -> bool:
    """Returns whether to find the current versions needs all events."""
    return target.this_snapshot is not None and rebuilds_all(feed, target)


def merge_reads_bronze(feed: Feed, target: MergeTarget) -> bool:
    """Returns whether the merge of a feed may read rows that other batches brought, and so waits for bronze."""
    match feed.stored_as:
        case Scd2():
            return not target.is_first
        case Snapshot():
            return reads_all_deliveries(target)
    return bool(target.newly_superseded)


def append_bronze(batch: BatchContext, validated: ValidatedFeed, _: Results) -> int:
    """Appends the accepted rows of a feed to its bronze table."""
    table = batch.name("bronze", validated.feed.name)
    with errors_of(batch, table, validated.feed.name):
        batch.attempt.append(table, validated.accepted_rows)
    return validated.rows_accepted


def match_versions(batch: BatchContext, validated: ValidatedFeed, target: MergeTarget, _: Results) -> MaterializedRows:
    """Finds the current versions of the keys of the batch."""
    feed, silver, scratch = validated.feed, target.silver, batch.lake.scratch
    with errors_of(batch, silver.name, feed.name):
        if not _matches_in_process(validated, target):
            current = current_versions(feed, incoming_events(validated), _with_bronze(batch, target))
            return scratch.materialize(current, f"current/{feed.name}")
        events = _events(validated)
        names = [c.name for c in feed.silver]
        stored = batch.lake.rows_of_keys(silver.name, silver.version, events.select(feed.key), names)
        return scratch.write(matched_versions(feed, events, stored, target), f"current/{feed.name}")


def _matches_in_process(validated: ValidatedFeed, target: MergeTarget) -> bool:
    """Returns whether this process can match the versions: not those of a whole delivery, and not of too many rows."""
    return target.this_snapshot is None and validated.rows_accepted <= IN_MEMORY and not validated.rows.plans_all


def _merges_in_process(validated: ValidatedFeed, target: MergeTarget, current: MaterializedRows) -> bool:
    """Returns whether this process can merge the versions: cleaned columns of older rows need an engine."""
    if target.snapshots or not _matches_in_process(validated, target) or current.rows > IN_MEMORY:
        return False
    return not validated.feed.cleaned or REBUILD not in _paths(current)


def _events(validated: ValidatedFeed) -> pa.Table:
    feed = validated.feed
    rows = validated.standing_table([*feed.input_names, "_event_at", "_batch_date", "_revision", "_deleted"])
    return cast_to_schema(rows.append_column("_at", rows["_event_at"]), event_schema(feed))


def merge_feed(batch: BatchContext, validated: ValidatedFeed, target: MergeTarget, results: Results) -> TableChange:
    """Computes the change of the feed's silver table."""
    feed, silver, target = validated.feed, target.silver.name, _with_bronze(batch, target)
    with errors_of(batch, silver, feed.name):
        if matches_versions(feed, target) and _merges_in_process(validated, target, _current(results)):
            rows = _merged_in_process(batch, validated, target, _current(results).arrow())
        else:
            rows = batch.lake.scratch.materialize(_merged(batch, validated, target, results), f"changes/{silver}")
        change = TableChange(table=silver, key=feed.primary_key, rows=rows)
        if _replaces_keys(feed, target):
            refuse_contradiction(feed, target, change)
            check_shrink(feed, target, change, batch.quality.max_snapshot_shrink)
    return change


def _merged_in_process(
    batch: BatchContext, validated: ValidatedFeed, target: MergeTarget, current: pa.Table
) -> MaterializedRows:
    feed, bronze, scratch = validated.feed, target.bronze, batch.lake.scratch
    rebuilt, events = rebuilt_keys(feed, current), event_schema(feed).empty_table()
    if rebuilt.num_rows:
        rows = batch.lake.rows_of_keys(bronze.name, bronze.version, rebuilt, bronze_columns(feed))
        events = events_of_bronze(feed, rows)
    after = merged_versions(feed, current, _events(validated), events)
    if feed.derived and after.num_rows:
        df = scratch.write(after, f"versions/{feed.name}").df
        after = scratch.materialize(silver_rows(feed, derive(df, feed.derived)), f"derived/{feed.name}").arrow()
    return scratch.write(change_of_history(feed, current, after), f"changes/{target.silver.name}")


def _replaces_keys(feed: Feed, target: MergeTarget) -> bool:
    """Returns whether the keys that the batch lacks are closed or removed."""
    if isinstance(feed.stored_as, Scd2):
        return not target.is_first and target.this_snapshot is not None
    return isinstance(feed.stored_as, Snapshot) and compares_with_stored(target)


def _with_bronze(batch: BatchContext, target: MergeTarget) -> MergeTarget:
    return replace(target, bronze=batch.table(target.bronze.name))


def _merged(batch: BatchContext, validated: ValidatedFeed, target: MergeTarget, results: Results) -> DataFrame:
    feed = validated.feed
    match feed.stored_as:
        case Scd2() if target.is_first:
            return first_versions(validated, target, _repeated_keys(batch, validated))
        case Scd2():
            current = _current(results)
            return merge_history(feed, current.df, _paths(current), incoming_events(validated), target)
        case Snapshot():
            return merge_replace(validated, target)
        case Append():
            return merge_append(validated, target)
        case Scd1():
            return merge_scd1(validated, target)


def _repeated_keys(batch: BatchContext, validated: ValidatedFeed) -> DataFrame | None:
    """Returns the keys with several events; None where these are too many to be looked for in this process."""
    if validated.rows_accepted > COUNTED_KEYS:
        return None
    keys = validated.standing_table(validated.feed.key)
    counted = keys.group_by(keys.column_names).aggregate([([], "count_all")])
    repeated = counted.filter(pc.greater(counted["count_all"], 1)).select(keys.column_names)
    return batch.lake.scratch.write(repeated, f"repeated/{validated.feed.name}").df


def _current(results: Results) -> MaterializedRows:
    return next(r for r in results.values() if isinstance(r, MaterializedRows))


def _paths(current: MaterializedRows) -> set[str]:
    return set(current.arrow(["_path"])["_path"].unique().to_pylist())


def may_tie(feed: Feed, target: MergeTarget) -> bool:
    """Returns whether rows of the batch may tie with rows of other batches: only content decides between them."""
    return isinstance(feed.stored_as, Scd2 | Scd1) and not (target.is_first or target.is_first_of_date)


def count_ties(
    batch: BatchContext, validated: ValidatedFeed, target: MergeTarget, results: Results
) -> MaterializedRows | None:
    """Finds the records of the batch that differ in content alone from a row of another batch."""
    feed, target = validated.feed, _with_bronze(batch, target)
    with errors_of(batch, target.silver.name, feed.name):
        if isinstance(feed.stored_as, Scd1):
            tied = tied_with_stored(validated, target)
        else:
            current = _current(results)
            paths = _paths(current)
            if REBUILD not in paths:  # all events are newer than those of other batches
                return None
            tied = tied_with_events(feed, current.df, paths, incoming_events(validated), target)
        return batch.lake.scratch.materialize(tied, f"ties/{feed.name}")

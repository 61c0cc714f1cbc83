"""What the tasks of bronze and silver tables do: read, transform, materialize between the steps, write."""

from dataclasses import replace
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from pipeline.commit.manifest import OPS, REJECTED_KEYS
from pipeline.commit.revisions import superseded
from pipeline.contract import RuleResult
from pipeline.errors import InvalidValue
from pipeline.lake.lake import MaterializedRows, MinMax
from pipeline.model import Append, Enriched, Feed, Hierarchy, PointInTimeJoin, Scd1, Scd2, Snapshot
from pipeline.stages.context import BatchContext
from pipeline.stages.error_place import errors_of
from pipeline.stages.task_graph import Results
from pipeline.transform.affected_rows import affected_rows, changed_intervals, is_sorted_by_time
from pipeline.transform.change import TableChange
from pipeline.transform.enrich import (
    VERDICTS,
    affected_and_batch_rows,
    batch_rows,
    change_of,
    joined,
    parts,
    tables_read,
    with_rules,
    with_settings,
)
from pipeline.transform.failing_rows import located
from pipeline.transform.findings import check_rows, reference_findings, rule_findings, tie_findings
from pipeline.transform.hierarchy import build_hierarchy
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
from pipeline.transform.point_in_time import skewed_keys
from pipeline.transform.silver_tables import SilverTables
from pipeline.transform.snapshots import DeliveredSnapshot, MergeTarget, check_shrink, refuse_contradiction
from pipeline.transform.validate import ValidatedFeed, reference_counts

# Of so many affected rows most versions are joined: to look for their keys costs more than it saves.
LOOKUP_ROWS = 200_000
IN_MEMORY = 100_000  # accepted rows up to which this process itself passes them on, without the engine


def changes_in(results: Results) -> dict[str, TableChange]:
    """Returns the changes among the results, by table."""
    return {r.table: r for r in results.values() if isinstance(r, TableChange)}


def write_change(batch: BatchContext, table: str, results: Results) -> int:
    """Writes the change of a table, and returns its rows."""
    change = changes_in(results).get(table)
    if change is None:
        return 0
    batch.attempt.change(table, change.key, change.rows)
    return change.rows.rows


# ---- feeds


def merge_target(batch: BatchContext, feed: Feed) -> MergeTarget:
    """Returns the tables that a feed is merged into. Raises DataError where a revision does not say which file it replaces."""
    order, source, manifest = batch.order, batch.source.name, batch.manifest
    bronze, silver = batch.name("bronze", feed.name), batch.name("silver", feed.name)
    deliveries = manifest.whole_deliveries(source, feed.name)
    snapshots = [DeliveredSnapshot(batch_id=i, batch_date=d, revision=r) for i, d, r in deliveries]
    if batch.is_whole(feed):
        snapshots.append(
            DeliveredSnapshot(batch_id=order.batch_id, batch_date=order.batch_date, revision=order.revision)
        )
    return MergeTarget(
        order=order,
        bronze=batch.table(bronze),
        silver=batch.table_before(silver),
        is_first=batch.attempt.began[bronze] == 0,
        is_first_of_date=not manifest.has_date(source, order.batch_date),
        snapshots=tuple(snapshots),
        rejected_keys=_rejected_keys(batch, feed) if snapshots else OPS[REJECTED_KEYS].empty_table(),
        superseded=superseded(order, feed, manifest) if isinstance(feed.stored_as, Append) else None,
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
    return target.superseded is not None


def append_bronze(batch: BatchContext, validated: ValidatedFeed, _: Results) -> int:
    """Appends the accepted rows of a feed to its bronze table."""
    table = batch.name("bronze", validated.feed.name)
    with errors_of(batch, table, validated.feed.name):
        if validated.rows_accepted == validated.rows.rows:
            rows: MaterializedRows | pa.Table = validated.rows
        elif validated.rows_accepted > IN_MEMORY:
            rows = batch.lake.materialize(
                validated.rows.df.where("_reasons IS NULL"), f"accepted/{validated.feed.name}"
            )
        else:
            rows = validated.accepted_table()
        batch.attempt.append(table, rows)
    return validated.rows_accepted


def match_versions(batch: BatchContext, validated: ValidatedFeed, target: MergeTarget, _: Results) -> MaterializedRows:
    """Finds the current versions of the keys of the batch."""
    feed = validated.feed
    with errors_of(batch, target.silver.name, feed.name):
        current = current_versions(feed, incoming_events(validated), _with_bronze(batch, target))
        return batch.lake.materialize(current, f"current/{feed.name}")


def merge_feed(batch: BatchContext, validated: ValidatedFeed, target: MergeTarget, results: Results) -> TableChange:
    """Computes the change of the feed's silver table."""
    feed, silver, target = validated.feed, target.silver.name, _with_bronze(batch, target)
    with errors_of(batch, silver, feed.name):
        rows = batch.lake.materialize(_merged(validated, target, results), f"changes/{silver}")
        change = TableChange(table=silver, key=feed.primary_key, rows=rows)
        if _replaces_keys(feed, target):
            refuse_contradiction(feed, target, change)
            check_shrink(feed, target, change, batch.quality.max_snapshot_shrink)
    return change


def _replaces_keys(feed: Feed, target: MergeTarget) -> bool:
    """Returns whether the keys that the batch lacks are closed or removed."""
    if isinstance(feed.stored_as, Scd2):
        return not target.is_first and target.this_snapshot is not None
    return isinstance(feed.stored_as, Snapshot) and compares_with_stored(target)


def _with_bronze(batch: BatchContext, target: MergeTarget) -> MergeTarget:
    return replace(target, bronze=batch.table(target.bronze.name))


def _merged(validated: ValidatedFeed, target: MergeTarget, results: Results) -> DataFrame:
    feed = validated.feed
    match feed.stored_as:
        case Scd2() if target.is_first:
            return first_versions(validated, target)
        case Scd2():
            current = _current(results)
            return merge_history(feed, current.df, _paths(current), incoming_events(validated), target)
        case Snapshot():
            return merge_replace(validated, target)
        case Append():
            return merge_append(validated, target)
        case Scd1():
            return merge_scd1(validated, target)


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
    """Finds the records of the batch that only content tells from a row of another batch."""
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
        return batch.lake.materialize(tied, f"ties/{feed.name}")


# ---- hierarchies and enriched tables


def hierarchy(batch: BatchContext, hierarchy: Hierarchy, _: Results) -> TableChange:
    """Computes the change of a hierarchy from the current rows of its feed."""
    feed, table = batch.source.feed(hierarchy.upstream), batch.table(batch.name("silver", hierarchy.name))
    of = batch.table(batch.name("silver", feed.name))
    is_current = pc.field("is_current") if feed.has_versions else None
    nodes = batch.lake.arrow(of.name, of.version, [hierarchy.id, hierarchy.parent], filter=is_current)
    signed, findings = build_hierarchy(hierarchy, batch.source, nodes, batch.lake.arrow(table.name, table.version))
    path = batch.lake.work / f"hierarchy_{hierarchy.name}.parquet"
    pq.write_table(signed, path)
    return TableChange(table=table.name, key=(hierarchy.id,), rows=batch.lake.open_parquet(path), findings=findings)


def silver_tables(batch: BatchContext, names: tuple[str, ...], results: Results) -> SilverTables:
    """Returns some silver tables as the batch leaves them, with their changes among the results."""
    tables = {name: batch.table(batch.name("silver", name)) for name in names}
    changes = changes_in(results)
    changed = {name: changes[t.name] for name, t in tables.items() if t.name in changes}
    return SilverTables(source=batch.source, tables=tables, changes=changed)


def own_names(batch: BatchContext, table: Enriched) -> dict[str, str]:
    """Returns the columns of an enriched table that are its feed's, with their names there."""
    return {new: old for old, new, _ in batch.source.own_columns(table)}


def enrich(batch: BatchContext, table: Enriched, results: Results) -> TableChange:
    """Computes the change of an enriched table, and the results of its rules over the batch's own rows.

    Raises DataError where a row breaks a check of the table; UnfitValue names the column, and the row, at fault.
    """
    name = batch.name("silver", table.name)
    with errors_of(batch, name, table.upstream, own_names(batch, table)):
        return _enriched(batch, with_settings(table, batch.values), silver_tables(batch, tables_read(table), results))


def _enriched(batch: BatchContext, table: Enriched, silver: SilverTables) -> TableChange:
    keep, source, stored = batch.lake.materialize, batch.source, batch.table(batch.name("silver", table.name))
    key, own = source.enriched_key(table), batch_rows(table, silver, batch.validated.get(table.upstream))
    # Every row of the feed is new to a table that holds nothing yet.
    affected = None
    if stored.version:
        intervals = _intervals(batch, table, silver)
        affected = keep(affected_rows(table, silver, stored, intervals), f"affected/{table.name}")
    is_limited = affected is not None and affected.rows <= LOOKUP_ROWS
    rows = joined(
        table,
        silver,
        affected_and_batch_rows(table, silver, affected.df if affected else None, own),
        affected=affected if is_limited else None,
        batch=own,
        skewed={} if is_limited else _skewed(batch, table, silver),
    )
    now, verdicts = with_rules(table, rows), None
    try:
        if own is not None:
            # One query of joins serves the rules and the table.
            verdicts = keep(now.select(*_columns(batch, table), *VERDICTS), f"enriched/{table.name}")
            now = verdicts.read([*_columns(batch, table), "_own"]).where("_own = 0")
        change = keep(change_of(table, source, now, stored, affected), f"changes/{stored.name}")
    except InvalidValue as error:
        raise located(error, parts(table), keep(rows, f"joined/{table.name}"), batch.lake) from error
    check_rows(stored.name, key, change)
    seen = verdicts.arrow(VERDICTS) if verdicts is not None else None
    return TableChange(
        table=stored.name, key=key, rows=change, findings=rule_findings(table.upstream, table.rules, seen)
    )


def _columns(batch: BatchContext, table: Enriched) -> list[str]:
    return [*(c.name for c in batch.source.enriched_columns(table)), "_failed"]


def _intervals(
    batch: BatchContext, table: Enriched, silver: SilverTables
) -> dict[tuple[str, ...], tuple[DataFrame, MinMax | None]]:
    feed, found = batch.source.feed(table.upstream), dict[tuple[str, ...], tuple[DataFrame, MinMax | None]]()
    for on, changed in changed_intervals(table, silver).items():
        if is_sorted_by_time(feed) and table.as_of == feed.event_time:
            rows = batch.lake.materialize(changed, f"intervals/{table.name}")
            found[on] = rows.df, (rows.min_max("_since")[0], rows.min_max("_last")[1])
        else:
            found[on] = changed, None
    return found


def _skewed(batch: BatchContext, table: Enriched, silver: SilverTables) -> dict[PointInTimeJoin, DataFrame]:
    found = dict[PointInTimeJoin, DataFrame]()
    for joins, query in skewed_keys(table, silver):
        rows = batch.lake.materialize(query, f"skewed/{joins[0].feed}")
        for n in rows.arrow(["_partner"])["_partner"].unique().to_pylist():
            found[joins[n]] = rows.df.where(f"_partner = {n}").drop("_partner")
    return found


# ---- rules that look into several tables


def count_references(batch: BatchContext, results: Results) -> tuple[RuleResult, ...]:
    """Counts the accepted rows whose reference neither the batch nor the lake has, and the rows that tie."""
    validated = list(batch.validated.values())
    tables = {f.name: batch.table(batch.name("silver", f.name)) for f in batch.source.feeds}
    queries = reference_counts(validated, tables)
    counts = batch.lake.materialize(reduce(DataFrame.unionByName, queries), "counts").arrow() if queries else None
    ties = (
        f for j in validated for f in tie_findings(j, results.get(f"count ties {batch.name('silver', j.feed.name)}"))
    )
    return (*reference_findings(validated, counts), *ties)

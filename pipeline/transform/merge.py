"""Merges a batch into a silver table without history: one row per key, distinct rows, or a whole delivery.

Each function returns the change of the table: rows with `_sign`.
"""

from collections.abc import Iterable

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline.model import Feed, columns_of, literal
from pipeline.transform.change import difference
from pipeline.transform.derived_columns import derive, text_key_sql
from pipeline.transform.history import RECORD, by_content, first_row_per, silver_rows
from pipeline.transform.history_paths import content_hash, events_of
from pipeline.transform.snapshots import MergeTarget, certain_pairs, hidden_keys, incomplete_snapshots
from pipeline.transform.validate import ValidatedFeed

# ---- one row per key, of the newest batch date


def merge_scd1(validated: ValidatedFeed, target: MergeTarget) -> DataFrame:
    """Returns the change of a table that has, per key, the row of the newest batch date."""
    feed, about = validated.feed, ("_event_at", "_batch_date", "_revision")
    rows, before = validated.standing([*feed.input_names, *about]), None
    if not target.is_first:
        before = _stored_rows_of(feed, rows, target)
        rows = rows.unionByName(before.select(*rows.columns))
    newest = (F.col("_batch_date").desc(), F.col("_revision").desc(), *by_content(feed.input_names))
    after = first_row_per(rows, Window.partitionBy(*feed.key).orderBy(*newest))
    return _change(feed, before, after)


def tied_with_stored(validated: ValidatedFeed, target: MergeTarget) -> DataFrame:
    """Returns the batch's records that differ in content alone from the stored row of their key, date and revision."""
    feed = validated.feed
    incoming = validated.standing([*feed.input_names, "_batch_date", "_revision", *RECORD])
    same = (*feed.key, "_batch_date", "_revision")
    stored = _stored_rows_of(feed, incoming, target)
    stored = stored.selectExpr(*(f"{c} AS _of_{c}" for c in same), f"{content_hash(feed)} AS _of_content")
    own = incoming.selectExpr(*same, *RECORD, f"{content_hash(feed)} AS _content")
    joined = own.join(stored, F.expr(" AND ".join(f"{c} = _of_{c}" for c in same)))
    return joined.where("_content <> _of_content").select(*RECORD)


def _stored_rows_of(feed: Feed, rows: DataFrame, target: MergeTarget) -> DataFrame:
    return target.silver.read().join(rows.select(*feed.key).distinct(), list(feed.key), "left_semi")


def _change(feed: Feed, before: DataFrame | None, after: DataFrame) -> DataFrame:
    return difference(before, silver_rows(feed, derive(after, feed.derived)), feed.silver)


# ---- distinct rows


def merge_append(validated: ValidatedFeed, target: MergeTarget) -> DataFrame:
    """Returns the change of a table of distinct rows, each with the oldest delivery that contained it."""
    feed = validated.feed
    # Equal rows of one batch differ by the revision of their file only: one row per group needs no sort.
    incoming = validated.accepted([*feed.names, "_batch_date", "_revision"])
    incoming = incoming.groupBy(*feed.names, "_batch_date").agg(F.min("_revision").alias("_revision"))
    incoming = incoming.selectExpr("*", f"{_row_hash(feed)} AS _row")
    if target.newly_superseded:
        rows = _corrected(feed, incoming, target)
    elif target.is_first:
        rows = incoming.selectExpr("*", "1 AS _sign")
    else:
        rows = _new_or_older(incoming, _stored_rows_of_the_time(validated, target))
    rows = derive(rows, feed.cleaned).selectExpr("*", f"{feed.event_time_sql} AS _event_at")
    return silver_rows(feed, derive(rows, feed.derived), "_sign")


def _row_hash(feed: Feed) -> str:
    return f"substr(sha2({text_key_sql(feed.names)}, 256), 1, 32)"  # 128 bits are enough for any number of rows


def _corrected(feed: Feed, incoming: DataFrame, target: MergeTarget) -> DataFrame:
    """Returns the change where a stated revision replaces files: the distinct rows of all other files."""
    columns = [*feed.names, "_batch_date", "_revision"]
    log = target.bronze.read([*columns, "_batch_id", "_source_file"]).selectExpr("*", f"{_row_hash(feed)} AS _row")
    of_file = F.expr("_batch_id = _of_batch AND _source_file = _of_file")
    replaced, moved = (_files(target, files) for files in (target.superseded, target.newly_superseded))
    affected = incoming.select("_row").unionByName(log.join(moved, of_file, "left_semi").select("_row")).distinct()
    rest = log.join(replaced, of_file, "left_anti").join(affected, "_row", "left_semi").select(*columns, "_row")
    oldest = first_row_per(rest, Window.partitionBy("_row").orderBy("_batch_date", "_revision"))
    before = target.silver.read([*columns, "_row"]).join(affected, "_row", "left_semi")
    compared = (*feed.schema, *columns_of("_batch_date DATE, _revision INT, _row STRING"))
    return difference(before.select(*columns, "_row"), oldest.select(*columns, "_row"), compared)


def _files(target: MergeTarget, files: Iterable[tuple[str, str]]) -> DataFrame:
    ids = sorted(files)
    batches, names = pa.array([b for b, _ in ids], pa.string()), pa.array([n for _, n in ids], pa.string())
    return target.silver.lake.scratch.write(pa.table({"_of_batch": batches, "_of_file": names}), "files").df


def _stored_rows_of_the_time(validated: ValidatedFeed, target: MergeTarget) -> DataFrame:
    """Returns the stored rows between the batch's first and last event, and some others of the same files."""
    time = validated.feed.event_time
    within = {time: validated.rows.min_max("_event_at")} if time else None
    return target.silver.read(["_row", "_batch_date", "_revision"], within=within)


def _new_or_older(incoming: DataFrame, stored: DataFrame) -> DataFrame:
    """Returns the rows that are new, and those that only a younger delivery brought, as they were and as they are.

    A row shows the oldest delivery that contained it, so that the table does not depend on the order of arrival.
    """
    known = stored.join(incoming.select("_row"), ["_row"], "left_semi")
    known = known.selectExpr("_row", "_batch_date AS _of_date", "_revision AS _of_revision")
    is_older = "_batch_date < _of_date OR (_batch_date = _of_date AND _revision < _of_revision)"
    older = incoming.join(known, "_row", "left").where(f"_of_date IS NULL OR {is_older}")
    signs = "explode(CASE WHEN _of_date IS NULL THEN array(1) ELSE array(1, -1) END) AS _sign"
    was = (("_batch_date", "_of_date"), ("_revision", "_of_revision"))
    dated = [f"CASE WHEN _sign > 0 THEN {now} ELSE {then} END AS {now}" for now, then in was]
    others = [c for c in incoming.columns if c not in ("_batch_date", "_revision")]
    return older.selectExpr("*", signs).selectExpr(*others, *dated, "_sign")


# ---- the newest whole delivery


def merge_replace(validated: ValidatedFeed, target: MergeTarget) -> DataFrame:
    """Returns the change of a table that is the newest whole delivery."""
    feed, newest = validated.feed, target.newest_snapshot
    before = target.silver.read() if compares_with_stored(target) else None
    incoming = validated.standing(feed.input_names)
    if _is_outdated(target):
        incoming = _as_last_listed(feed, target) if _lacks_readable_keys(target) else incoming.where("false")
    elif _lacks_readable_keys(target) and before is not None:
        rest = before.select(*feed.input_names).join(incoming.select(*feed.key).distinct(), list(feed.key), "left_anti")
        incoming = incoming.unionByName(_unlisted(feed, rest, target, newest.batch_id))
    return _change(feed, before, _listed(feed, incoming))


def compares_with_stored(target: MergeTarget) -> bool:
    """Returns whether a whole delivery takes the place of stored rows: an older one, as a rule, changes nothing."""
    return not target.is_first and (not _is_outdated(target) or _lacks_readable_keys(target))


def reads_all_deliveries(target: MergeTarget) -> bool:
    """Returns whether the table is computed from all whole deliveries in bronze."""
    return _is_outdated(target) and _lacks_readable_keys(target)


def _is_outdated(target: MergeTarget) -> bool:
    return target.newest_snapshot.batch_id != target.order.batch_id


def _lacks_readable_keys(target: MergeTarget) -> bool:
    newest = target.newest_snapshot.batch_id
    return newest in target.rejected_keys["batch_id"].to_pylist() and len(target.snapshots) > 1


def _unlisted(feed: Feed, rest: DataFrame, target: MergeTarget, newest: str) -> DataFrame:
    """Returns the rows of keys of which the newest delivery says nothing, of the stored rows `rest` that it lacks."""
    hidden = None if newest in incomplete_snapshots(target) else hidden_keys(target, newest)
    if hidden is None:
        return rest
    keyed = rest.withColumn("_own", F.expr(text_key_sql(feed.key)))
    return keyed.join(hidden, F.expr("_own = _key"), "left_semi").select(*feed.input_names)


def _as_last_listed(feed: Feed, target: MergeTarget) -> DataFrame:
    """Returns each key's rows of the newest whole delivery that contains the key, or lacks it for certain."""
    key = list(feed.key)
    turns = sorted({(s.batch_date, s.revision) for s in target.snapshots})
    numbered = ((s.batch_id, turns.index((s.batch_date, s.revision))) for s in target.snapshots)
    rows = ", ".join(f"({literal(batch_id)}, {turn})" for batch_id, turn in numbered)
    log = events_of(feed, target).select(*feed.input_names, "_batch_id")
    deliveries = log.sparkSession.sql(f"SELECT * FROM VALUES {rows} AS t(_batch_id, _turn)")
    contained = log.join(deliveries, "_batch_id")
    contains = contained.select(*key, "_batch_id").distinct().withColumn("_contains", F.expr("true"))
    grid = contained.select(*key).distinct().crossJoin(deliveries).join(contains, [*key, "_batch_id"], "left")
    last = certain_pairs(feed, grid, target, "_contains").groupBy(*key).agg(F.max("_turn").alias("_turn"))
    return contained.join(last, [*key, "_turn"], "left_semi").select(*feed.input_names)


def _listed(feed: Feed, rows: DataFrame) -> DataFrame:
    # Of two rows of one key and start the content decides.
    order = by_content(feed.input_names)
    if not feed.version_start:
        return first_row_per(rows, Window.partitionBy(*feed.key).orderBy(*order))
    rows = rows.withColumn("effective_from", F.expr(feed.valid_from_sql))
    starts = first_row_per(rows, Window.partitionBy(*feed.key, "effective_from").orderBy(*order))
    following = F.lead("effective_from").over(Window.partitionBy(*feed.key).orderBy("effective_from"))
    return starts.withColumn("effective_to", following).withColumn("is_current", F.col("effective_to").isNull())

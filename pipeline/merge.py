"""Merges a batch's accepted rows into the silver tables: history as a pure function of a key's events, upsert, append, replace."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.compute as pc
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from pipeline.contract import WorkOrder
from pipeline.derive import derive
from pipeline.errors import DataError
from pipeline.lake import Kept, Lake
from pipeline.model import Append, Column, Feed, History, Replace, literal
from pipeline.validate import ONE_INSTANT, Judged

MANY = 50_000  # rows of a batch from which counting the events of each key costs less than sorting them
EVENT = ("_at", "_event_at", "_batch_date", "_revision", "_deleted", "_batch_id")


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A delivery that lists everything which exists: an event, at the end of its batch date, for every key of its feed."""

    batch_id: str
    batch_date: dt.date
    revision: int


@dataclass(frozen=True, kw_only=True)
class Past:
    """Where the merge of a feed finds what is known: its tables at their versions, and all its whole deliveries, this one included."""

    bronze: str
    bronze_version: int  # with the rows of this batch
    silver: str
    silver_version: int
    is_first: bool  # no row of the feed was ever accepted before
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a batch changes in a table: rows with `_sign`, -1 as it was and +1 as it is now; equal rows are left out."""

    table: str
    key: tuple[str, ...]
    rows: Kept


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A feed's change, and a lazy one-row DataFrame `feed, rule, checked, broken` of what only the merge can see."""

    change: Change
    checks: DataFrame | None = None


def merge_feed(judged: Judged, order: WorkOrder, past: Past, lake: Lake, max_shrink: float) -> Merged:
    """Computes what the feed's silver table becomes, touching only the keys that the batch has news of."""
    if isinstance(judged.feed.keep, History):
        return _merge_history(judged, order, past, lake, max_shrink)
    if isinstance(judged.feed.keep, Replace):
        return _replace(judged, order, past, lake, max_shrink)
    before, after = _append(judged, past, lake) if isinstance(judged.feed.keep, Append) else _upsert(judged, past, lake)
    return Merged(change=_change(judged.feed, past, lake, before, after))


def difference(before: DataFrame | None, after: DataFrame, columns: Sequence[Column]) -> DataFrame:
    """Tells the rows of `before` (`_sign` -1) and `after` (+1) that are not in both."""
    typed = [f"CAST({c.name} AS {c.type}) AS {c.name}" for c in columns]
    now = after.selectExpr(*typed, "1 AS _sign")
    if before is None:
        return now
    both = now.unionByName(before.selectExpr(*typed, "-1 AS _sign"))
    return both.groupBy(*(c.name for c in columns)).agg(F.sum("_sign").cast("int").alias("_sign")).where("_sign <> 0")


def versions_of_many(feed: Feed, events: DataFrame) -> DataFrame:
    """Folds events like `versions`, but passes keys of one event by: nothing has to be sorted to know their only version."""
    key = list(feed.key)
    repeated = events.groupBy(*key).count().where("count > 1").select(*key)
    columns = [*feed.fact_names, "_event_at", "_batch_date", "_revision", "effective_from", "effective_to", "is_current"]
    alone = events.join(repeated, key, "left_anti").where("NOT _deleted")
    alone = alone.selectExpr("*", "_at AS effective_from", "CAST(NULL AS TIMESTAMP) AS effective_to", "true AS is_current")
    return alone.select(*columns).unionByName(versions(feed, events.join(repeated, key, "left_semi")).select(*columns))


def versions(feed: Feed, events: DataFrame, *, reopened: bool = False) -> DataFrame:
    """Folds events into the versions of their keys: the definition of history.

    `events` has the feed's columns, `_at` (when it happened), `_event_at` (the newest event it stands for), `_batch_date`,
    `_revision`, `_deleted`; with `reopened` also `_reopens`, true for an event that counts only while its key is closed.
    """
    order = Window.partitionBy(*feed.key).orderBy("_at")
    rank = [F.col("_batch_date").desc(), F.col("_revision").desc(), F.col("_deleted").desc(), *_last_word(feed)]
    if reopened:
        rank.insert(3, F.col("_reopens").asc())
    events = first_of(events, Window.partitionBy(*feed.key, "_at").orderBy(*rank))
    if reopened:
        # A reopening counts when it is the first after a delete: a group is an ordinary event with the reopenings behind it.
        events = events.withColumn("_group", F.sum(F.expr("CASE WHEN _reopens THEN 0 ELSE 1 END")).over(order))
        group = Window.partitionBy(*feed.key, "_group")
        events = events.withColumn("_closed", F.max(F.expr("CASE WHEN _deleted AND NOT _reopens THEN 1 ELSE 0 END")).over(group))
        events = events.withColumn("_place", F.row_number().over(group.orderBy("_at"))).where("NOT _reopens OR (_closed = 1 AND _place = 2)")
    content = F.struct(*(F.col(c) for c in feed.tracked or feed.key))
    events = events.withColumn("_was_deleted", F.lag("_deleted").over(order)).withColumn("_same", content.eqNullSafe(F.lag(content).over(order)))
    events = events.withColumn("_opens", F.expr("CASE WHEN _was_deleted = _deleted AND (_deleted OR _same) THEN 0 ELSE 1 END"))
    events = events.withColumn("_version", F.sum("_opens").over(order))
    version = Window.partitionBy(*feed.key, "_version")
    events = events.withColumn("effective_from", F.min("_at").over(version))
    return _until_the_next(feed, first_of(events, version.orderBy(F.col("_at").desc()))).where("NOT _deleted")


def first_of(rows: DataFrame, order: WindowSpec) -> DataFrame:
    """Keeps the first row of each partition of the window."""
    return rows.withColumn("_rank", F.row_number().over(order)).where("_rank = 1")


def _until_the_next(feed: Feed, starts: DataFrame) -> DataFrame:
    following = F.lead("effective_from").over(Window.partitionBy(*feed.key).orderBy("effective_from"))
    return starts.withColumn("effective_to", following).withColumn("is_current", F.col("effective_to").isNull())


def by_content(names: Sequence[str]) -> list[SparkColumn]:
    """Orders rows by their columns as text, highest first, null lowest: decides where nothing else does."""
    return [F.col(c).cast("string").desc_nulls_last() for c in names]


def _last_word(feed: Feed) -> list[SparkColumn]:
    """Orders rows of one instant between which neither batch date nor revision decides, the one that stands first."""
    return [*(F.col(c).desc_nulls_last() for c in _newest_by(feed)), *by_content(feed.fact_names)]


def _newest_by(feed: Feed) -> tuple[str, ...]:
    return feed.keep.newest_by if isinstance(feed.keep, History) else ()


def as_one_text(names: Sequence[str]) -> str:
    """Writes SQL for a row's content as one text: each value after its length, so that rows which differ have texts that differ."""
    values = [f"coalesce(concat(CAST(length(CAST({c} AS STRING)) AS STRING), ':', CAST({c} AS STRING)), '-')" for c in names]
    return f"concat({', '.join(values)})"


def _merge_history(judged: Judged, order: WorkOrder, past: Past, lake: Lake, max_shrink: float) -> Merged:
    feed = judged.feed
    news = judged.accepted.withColumn("_at", F.col("_event_at")).select(*feed.fact_names, *EVENT)
    whole = any(d.batch_id == order.batch_id for d in past.deliveries)
    before, events = (None, news) if past.is_first else _with_past(judged, news, past, lake, whole)
    checks = _instants(feed, events, order)
    # The one delivery that there ever was lacks no key and finds none closed.
    deliveries = () if past.is_first and len(past.deliveries) == 1 and whole else past.deliveries
    if deliveries:
        events = events.withColumn("_reopens", F.expr("false")).unionByName(_memberships(feed, events, deliveries))
        after = versions(feed, events, reopened=True)
    else:
        after = (versions_of_many if judged.rows_accepted >= MANY else versions)(feed, events)
    after = derive(after, feed.derived)
    change = _change(feed, past, lake, before, after)
    if whole and not past.is_first:
        _check_shrink(feed, past, lake, change, max_shrink)
    return Merged(change=change, checks=checks)


def _with_past(judged: Judged, news: DataFrame, past: Past, lake: Lake, whole: bool) -> tuple[DataFrame, DataFrame]:
    """Gives the versions that may change and the events that decide: from bronze only for keys whose news are not all newest."""
    feed = judged.feed
    key = list(feed.key)
    known = lake.keep(_known(judged, news, past, lake, whole), f"known/{feed.name}")
    before = known.df.where("effective_from IS NOT NULL AND (_slow OR is_current)")
    open_versions = known.df.where("NOT _slow AND is_current").selectExpr(
        *feed.fact_names, "effective_from AS _at", "_event_at", "_batch_date", "_revision", "false AS _deleted", "'' AS _batch_id"
    )
    if not pc.any(known.arrow(["_slow"])["_slow"]).as_py():
        return before, news.unionByName(open_versions)
    slow = known.df.where("_slow").select(*key).distinct()
    log = lake.read(past.bronze, past.bronze_version, [*feed.names, "_batch_date", "_revision", "_deleted", "_batch_id"])
    log = derive(log, feed.prepared).join(slow, key, "left_semi")
    log = log.withColumn("_event_at", F.expr(feed.event_time or "CAST(_batch_date AS TIMESTAMP)")).withColumn("_at", F.col("_event_at"))
    fast = news.join(slow, key, "left_anti")
    return before, fast.unionByName(open_versions).unionByName(log.select(*feed.fact_names, *EVENT))


def _known(judged: Judged, news: DataFrame, past: Past, lake: Lake, whole: bool) -> DataFrame:
    """Gives every touched key with its versions (nulls for a new one) and `_slow`: its news are not all newer than its open version."""
    feed = judged.feed
    key = list(feed.key)
    touched = news.groupBy(*key).agg(F.min("_event_at").alias("_first"))
    silver = lake.read(past.silver, past.silver_version)
    if not whole:
        silver = silver.join(touched.select(*key), key, "left_semi")
    known = touched.join(silver, key, "full" if whole else "left")
    open_since = F.max(F.expr("CASE WHEN is_current THEN _event_at END")).over(Window.partitionBy(*key))
    # Where keys can be deleted, an unknown key may have a past of deletes alone, which silver does not show.
    forgets = isinstance(feed.keep, History) and bool(feed.keep.delete_when)
    slow = "true" if past.deliveries else f"CASE WHEN effective_from IS NULL THEN {literal(forgets)} ELSE _open_since IS NULL OR _first <= _open_since END"
    return known.withColumn("_open_since", open_since).withColumn("_slow", F.expr(slow))


def _memberships(feed: Feed, events: DataFrame, deliveries: Sequence[Delivery]) -> DataFrame:
    """Gives, for each key and whole delivery, a delete where the delivery lacks the key, a reopening with its row where it holds it."""
    key = list(feed.key)
    rows = ", ".join(f"({literal(d.batch_id)}, {literal(d.batch_date)}, {d.revision})" for d in deliveries)
    listed = events.sparkSession.sql(f"SELECT * FROM VALUES {rows} AS t(_batch_id, _batch_date, _revision)")
    newest = Window.partitionBy(*key, "_batch_id").orderBy(F.col("_event_at").desc(), *_last_word(feed))
    held = first_of(events.where("NOT _deleted"), newest).select(*feed.fact_names, "_batch_id", F.expr("true").alias("_reopens"))
    grid = events.select(*key).distinct().crossJoin(listed).join(held, [*key, "_batch_id"], "left")
    end = "CAST(date_add(_batch_date, 1) AS TIMESTAMP)"
    return grid.selectExpr(
        *feed.fact_names,
        f"{end} AS _at",
        f"{end} AS _event_at",
        "_batch_date",
        "_revision",
        "_reopens IS NULL AS _deleted",
        "_batch_id",
        "coalesce(_reopens, false) AS _reopens",
    )


def _instants(feed: Feed, events: DataFrame, order: WorkOrder) -> DataFrame:
    """Counts the batch's own rows, and those of them that only content can tell from another: a delete stands by itself."""
    own = f"CASE WHEN _batch_id = {literal(order.batch_id)} THEN 1 ELSE 0 END"
    named = dict.fromkeys((*feed.key, *_newest_by(feed)))
    groups = events.selectExpr(
        *named, "_event_at", "_batch_date", "_revision", "_deleted", f"xxhash64({as_one_text(feed.fact_names)}) AS _content", f"{own} AS _own"
    )
    groups = groups.groupBy("_event_at", "_batch_date", "_revision", *named).agg(
        F.sum("_own").alias("own"), F.max("_deleted").alias("deleted"), F.min("_content").alias("low"), F.max("_content").alias("high")
    )
    return groups.selectExpr("own", "CASE WHEN low <> high AND NOT deleted THEN own ELSE 0 END AS torn").selectExpr(
        f"{literal(feed.name)} AS feed",
        f"{literal(ONE_INSTANT.name)} AS rule",
        "CAST(coalesce(sum(own), 0) AS BIGINT) AS checked",
        "CAST(coalesce(sum(torn), 0) AS BIGINT) AS broken",
    )


def _check_shrink(feed: Feed, past: Past, lake: Lake, change: Change, max_shrink: float) -> None:
    # A feed without versions has current rows alone.
    is_current, silver = ("is_current" if feed.has_versions else "true"), lake.read(past.silver, past.silver_version)
    was_open = silver.where(is_current).count()
    keys = change.rows.df.where(is_current).groupBy(*feed.key).agg(F.max("_sign").alias("now"))
    gone = keys.where("now < 0").count()
    if was_open and gone / was_open > max_shrink:
        raise DataError(
            f"{feed.name}: the whole delivery lacks {gone} of {was_open} open keys, more than max_snapshot_shrink {max_shrink:g} allows; "
            "deliver it complete, or raise the limit"
        )


def _upsert(judged: Judged, past: Past, lake: Lake) -> tuple[DataFrame | None, DataFrame]:
    feed = judged.feed
    news = judged.accepted.select(*feed.fact_names, "_event_at", "_batch_date", "_revision")
    before = None
    if not past.is_first:
        before = lake.read(past.silver, past.silver_version).join(news.select(*feed.key).distinct(), list(feed.key), "left_semi")
        news = news.unionByName(before.select(*news.columns))
    return before, derive(_newest(feed, news), feed.derived)


def _newest(feed: Feed, rows: DataFrame) -> DataFrame:
    rank = Window.partitionBy(*feed.key).orderBy(F.col("_batch_date").desc(), F.col("_revision").desc(), *by_content(feed.fact_names))
    return first_of(rows, rank)


def _append(judged: Judged, past: Past, lake: Lake) -> tuple[DataFrame | None, DataFrame]:
    feed = judged.feed
    news = judged.accepted.selectExpr(*feed.fact_names, "_event_at", "_batch_date", "_revision", f"sha2({as_one_text(feed.fact_names)}, 256) AS _row")
    before = None
    if not past.is_first:
        before = lake.read(past.silver, past.silver_version).join(news.select("_row").distinct(), ["_row"], "left_semi")
        news = news.unionByName(before.select(*news.columns))
    # Whatever delivery came first, a row shows the oldest that held it: the table does not depend on the order of arrival.
    first = Window.partitionBy("_row").orderBy("_batch_date", "_revision")
    return before, derive(first_of(news, first), feed.derived)


def _replace(judged: Judged, order: WorkOrder, past: Past, lake: Lake, max_shrink: float) -> Merged:
    feed, this = judged.feed, (order.batch_date, order.revision)
    news = judged.accepted.select(*feed.fact_names)
    is_outdated = any((d.batch_date, d.revision) > this for d in past.deliveries)
    before = None if past.is_first or is_outdated else lake.read(past.silver, past.silver_version)
    if is_outdated:
        news = news.where("false")
    change = _change(feed, past, lake, before, derive(_listed(feed, news), feed.derived))
    if before is not None:
        if change.rows.rows and any((d.batch_date, d.revision) == this for d in past.deliveries if d.batch_id != order.batch_id):
            # Whichever came last would win: which of the two is right, only the sender knows.
            raise DataError(
                f"{feed.name}: another whole delivery of {order.batch_date}, revision {order.revision}, is published and differs from this one; "
                f"land a new trigger that gives the right one `revision`: {order.revision + 1}"
            )
        _check_shrink(feed, past, lake, change, max_shrink)
    return Merged(change=change)


def _listed(feed: Feed, rows: DataFrame) -> DataFrame:
    # Of two rows of one key and start the content decides.
    order = by_content(feed.fact_names)
    if not feed.starts:
        return first_of(rows, Window.partitionBy(*feed.key).orderBy(*order))
    rows = rows.withColumn("effective_from", F.col(feed.starts).cast("timestamp"))
    return _until_the_next(feed, first_of(rows, Window.partitionBy(*feed.key, "effective_from").orderBy(*order)))


def _change(feed: Feed, past: Past, lake: Lake, before: DataFrame | None, after: DataFrame) -> Change:
    return Change(table=past.silver, key=feed.silver_key, rows=lake.keep(difference(before, after, feed.silver), f"changes/{past.silver}"))

"""The definition of history: the versions of a key are a pure function of its events."""

from collections.abc import Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from pipeline.model import Feed
from pipeline.transform.ties import tie_breaker

ABOUT = ("_event_at", "_batch_date", "_revision", "_deleted", "_batch_id")
RECORD = ("_source_file", "_record", "_raw")  # which record of which file a row is
EVENT = ("_at", *ABOUT)


def versions(feed: Feed, events: DataFrame, *, reopened: bool = False) -> DataFrame:
    """Returns the versions of keys, made from all their events.

    `events` has the feed's columns, `_at` (the time of the event), `_event_at` (the newest event that the row
    represents), `_batch_date`, `_revision`, `_deleted`; with `reopened` also `_reopens`, true for an event that
    counts only while its key is closed.
    """
    order = Window.partitionBy(*feed.key).orderBy("_at")
    rank = [F.col("_batch_date").desc(), F.col("_revision").desc(), F.col("_deleted").desc(), *tie_breakers(feed)]
    if reopened:
        rank.insert(3, F.col("_reopens").asc())
    events = first_row_per(events, Window.partitionBy(*feed.key, "_at").orderBy(*rank))
    if reopened:
        events = _with_effective_reopenings(feed, events, order)
    content = F.struct(*(F.col(c) for c in feed.tracked or feed.key))
    events = events.withColumn("_was_deleted", F.lag("_deleted").over(order))
    events = events.withColumn("_same", content.eqNullSafe(F.lag(content).over(order)))
    opens = "CASE WHEN _was_deleted = _deleted AND (_deleted OR _same) THEN 0 ELSE 1 END"
    events = events.withColumn("_opens", F.expr(opens))
    start = F.max(F.expr("CASE WHEN _opens = 1 THEN _at END")).over(order)
    events = events.withColumn("effective_from", start)
    # After the newest event of a version comes the first event of the next one.
    events = events.withColumn("effective_to", F.lead("_at").over(order))
    events = events.withColumn("_next_opens", F.lead("_opens", 1, 1).over(order))
    newest = events.where("_next_opens = 1 AND NOT _deleted")
    return newest.withColumn("is_current", F.col("effective_to").isNull())


def _with_effective_reopenings(feed: Feed, events: DataFrame, order: WindowSpec) -> DataFrame:
    # A reopening counts when it is the first after a delete: a group is an ordinary event and the reopenings after it.
    events = events.withColumn("_group", F.sum(F.expr("CASE WHEN _reopens THEN 0 ELSE 1 END")).over(order))
    group = Window.partitionBy(*feed.key, "_group")
    is_delete = F.expr("CASE WHEN _deleted AND NOT _reopens THEN 1 ELSE 0 END")
    events = events.withColumn("_closed", F.max(is_delete).over(group))
    events = events.withColumn("_place", F.row_number().over(group.orderBy("_at")))
    return events.where("NOT _reopens OR (_closed = 1 AND _place = 2)")


def versions_of_many(feed: Feed, events: DataFrame, repeated: DataFrame | None) -> DataFrame:
    """Returns the same as `versions`. Keys with one event are not sorted: their only version is known.

    `repeated` are the keys with several events; None: these are found here.
    """
    key = list(feed.key)
    if repeated is None:
        repeated = events.groupBy(*key).count().where("count > 1").select(*key)
    columns = (
        *feed.input_names,
        "_event_at",
        "_batch_date",
        "_revision",
        "effective_from",
        "effective_to",
        "is_current",
    )
    alone = events.join(repeated, key, "left_anti").where("NOT _deleted")
    open_since = ("_at AS effective_from", "CAST(NULL AS TIMESTAMP) AS effective_to", "true AS is_current")
    several = versions(feed, events.join(repeated, key, "left_semi")).select(*columns)
    return alone.selectExpr("*", *open_since).select(*columns).unionByName(several)


def silver_rows(feed: Feed, rows: DataFrame, *sign: str) -> DataFrame:
    """Returns the columns of the silver table, and `sign`, an SQL expression, where it is given."""
    return rows.selectExpr(*(c.name for c in feed.silver), *sign)


def first_row_per(rows: DataFrame, order: WindowSpec) -> DataFrame:
    """Returns the first row of each partition of the window."""
    return rows.withColumn("_rank", F.row_number().over(order)).where("_rank = 1")


def by_content(names: Sequence[str]) -> list[SparkColumn]:
    """Orders rows by their columns as text, highest first, null lowest: used where nothing else decides."""
    return [F.col(c).cast("string").desc_nulls_last() for c in names]


def tie_breakers(feed: Feed) -> list[SparkColumn]:
    """Orders rows of one instant, batch date and revision; the first one counts."""
    return [*(F.col(c).desc_nulls_last() for c in tie_breaker(feed)), *by_content(feed.input_names)]

"""Whole deliveries of a feed: the keys that one contains, lacks, or says nothing of; and the checks of such a delivery.

A whole delivery is an event, at the end of its batch date, for every key of its feed.
"""

import datetime as dt
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipeline.contract import WorkOrder
from pipeline.errors import DataError
from pipeline.lake.table_version import TableVersion
from pipeline.model import Feed, literal
from pipeline.transform.change import TableChange
from pipeline.transform.derived_columns import text_key_sql
from pipeline.transform.history import first_row_per, tie_breakers

FileId = tuple[str, str]  # batch id, file name


class DeliveredSnapshot(NamedTuple):
    """A delivery that contains every row that exists of its feed."""

    batch_id: str
    batch_date: dt.date
    revision: int


@dataclass(frozen=True, kw_only=True)
class MergeTarget:
    """The tables that a batch's rows are merged into, and all whole deliveries of the feed, this one included.

    `rejected_keys` are the rows of `ops.rejected_keys` about those deliveries: such a delivery says nothing of these
    keys, and nothing of any key that it lacks where one could not be read (`key` null).
    """

    order: WorkOrder
    bronze: TableVersion  # the events, with those of this batch once they are appended
    silver: TableVersion  # before this batch
    rejected_keys: pa.Table
    is_first: bool  # no row of the feed was ever accepted before
    is_first_of_date: bool = False  # no other batch of this date was ever published for the source
    deliveries: tuple[tuple[str, dt.date, int], ...] = ()  # batch id, batch date and revision of the whole deliveries
    # Of an Append whose files a stated revision replaces: all of them, and those of which this batch decides anew.
    superseded: frozenset[FileId] = frozenset()
    newly_superseded: frozenset[FileId] = frozenset()

    @property
    def snapshots(self) -> tuple[DeliveredSnapshot, ...]:
        """The whole deliveries."""
        return tuple(DeliveredSnapshot(*one) for one in self.deliveries)

    @property
    def this_snapshot(self) -> DeliveredSnapshot | None:
        """The batch itself, where it contains every row that exists."""
        return next((s for s in self.snapshots if s.batch_id == self.order.batch_id), None)

    @property
    def other_dates(self) -> list[dt.date]:
        """The batch dates of the other whole deliveries."""
        return [s.batch_date for s in self.snapshots if s.batch_id != self.order.batch_id]

    @property
    def newest_snapshot(self) -> DeliveredSnapshot:
        """The whole delivery that counts; of equal ones the batch itself."""
        return max(self.snapshots, key=lambda s: (s.batch_date, s.revision, s.batch_id == self.order.batch_id))


def end_of(day: dt.date) -> str:
    """Returns SQL for the end of a day."""
    return f"CAST({literal(day + dt.timedelta(days=1))} AS TIMESTAMP)"


def first_instant_after(day: dt.date) -> dt.datetime:
    """Returns the end of a day."""
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)


def incomplete_snapshots(target: MergeTarget) -> list[str]:
    """Returns the batch ids of whole deliveries with a record whose key could not be read."""
    unread = target.rejected_keys.filter(pc.is_null(target.rejected_keys["key"]))
    return pc.unique(unread["batch_id"]).to_pylist()  # type: ignore[no-any-return]


def hidden_keys(target: MergeTarget, batch_id: str | None = None) -> DataFrame | None:
    """Returns the keys (`_key`, one text) of rejected rows of one whole delivery, or of all with the batch id `_of`."""
    rows = target.rejected_keys.filter(pc.is_valid(target.rejected_keys["key"]))
    rows = rows if batch_id is None else rows.filter(pc.equal(rows["batch_id"], batch_id))
    if not rows.num_rows:
        return None
    named = {"_key": rows["key"]} | ({"_of": rows["batch_id"]} if batch_id is None else {})
    return target.silver.lake.scratch.write(pa.table(named), "named").df.distinct()


def without_hidden_keys(feed: Feed, current: DataFrame, target: MergeTarget, snapshot: DeliveredSnapshot) -> DataFrame:
    """Leaves out the keys that a whole delivery has only in rejected rows: it says nothing of them."""
    hidden = hidden_keys(target, snapshot.batch_id)
    if hidden is None:
        return current
    keyed = current.withColumn("_key", F.expr(text_key_sql(feed.key)))
    joined = keyed.join(hidden.withColumn("_is_hidden", F.expr("true")), "_key", "left")
    return joined.where("_first IS NOT NULL OR _is_hidden IS NULL").drop("_key", "_is_hidden")


def certain_pairs(feed: Feed, grid: DataFrame, target: MergeTarget, contains: str) -> DataFrame:
    """Leaves out the pairs of key and whole delivery (`_batch_id`) where the delivery may or may not contain the key.

    The column `contains` is true where it contains the key.
    """
    if incomplete := incomplete_snapshots(target):
        grid = grid.where(f"{contains} OR _batch_id NOT IN ({', '.join(map(literal, incomplete))})")
    if (hidden := hidden_keys(target)) is not None:
        own = grid.withColumn("_own", F.expr(text_key_sql(feed.key)))
        joined = own.join(hidden, F.expr("_own = _key AND _batch_id = _of"), "left")
        grid = joined.where(f"{contains} OR _of IS NULL")
    return grid


def snapshot_events(feed: Feed, events: DataFrame, target: MergeTarget) -> DataFrame:
    """Returns per key and whole delivery a delete where the delivery lacks the key, else a reopening with its row.

    Where it has the key in a rejected row, or a row whose key cannot be read, it says nothing of a key that it lacks.
    """
    key = list(feed.key)
    rows = ", ".join(f"({', '.join(map(literal, one))})" for one in target.deliveries)
    deliveries = events.sparkSession.sql(f"SELECT * FROM VALUES {rows} AS t(_batch_id, _batch_date, _revision)")
    newest = Window.partitionBy(*key, "_batch_id").orderBy(F.col("_event_at").desc(), *tie_breakers(feed))
    contained = first_row_per(events.where("NOT _deleted"), newest)
    contained = contained.select(*feed.input_names, "_batch_id", F.expr("true").alias("_reopens"))
    grid = events.select(*key).distinct().crossJoin(deliveries).join(contained, [*key, "_batch_id"], "left")
    end = "CAST(date_add(_batch_date, 1) AS TIMESTAMP)"
    return certain_pairs(feed, grid, target, "_reopens").selectExpr(
        *feed.input_names,
        f"{end} AS _at",
        f"{end} AS _event_at",
        "_batch_date",
        "_revision",
        "_reopens IS NULL AS _deleted",
        "_batch_id",
        "coalesce(_reopens, false) AS _reopens",
    )


def refuse_contradiction(feed: Feed, target: MergeTarget, change: TableChange) -> None:
    """Raises DataError where another whole delivery of this date and revision was published and differs."""
    order = target.order
    this, others = (order.batch_date, order.revision), (s for s in target.snapshots if s.batch_id != order.batch_id)
    if change.rows.rows and any((s.batch_date, s.revision) == this for s in others):
        # The last one would win; only the sender knows which of the two is right.
        raise DataError(
            f"{feed.name}: another whole delivery of {order.batch_date}, revision {order.revision}, is published and "
            f"differs from this one; land a new trigger that gives the right one `revision`: {order.revision + 1}"
        )


def check_shrink(feed: Feed, target: MergeTarget, change: TableChange, max_shrink: float) -> None:
    """Raises DataError where a whole delivery lacks more of the open keys than `max_shrink` allows."""
    # All rows of a feed without versions are current.
    is_current, silver = ("is_current" if feed.has_versions else "true"), target.silver.read()
    was_open = silver.where(is_current).count()
    keys = change.rows.df.where(is_current).groupBy(*feed.key).agg(F.max("_sign").alias("now"))
    gone = keys.where("now < 0").count()
    if was_open and gone / was_open > max_shrink:
        raise DataError(
            f"{feed.name}: the whole delivery lacks {gone} of {was_open} open keys, more than max_snapshot_shrink "
            f"{max_shrink:g} allows; deliver it complete, or raise the limit"
        )

"""Merges a batch's accepted rows into the silver tables: history as a pure function of a key's events, upsert, append, replace."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

from pipeline.contract import WorkOrder
from pipeline.errors import DataError
from pipeline.lake.file_pruning import MinMax
from pipeline.lake.lake import Lake, TableVersion
from pipeline.lake.ops_tables import OPS, REJECTED_KEYS
from pipeline.lake.scratch import MaterializedRows
from pipeline.model import Append, Column, Feed, Scd2, Snapshot, columns_of, literal
from pipeline.transform.derived_columns import derive
from pipeline.transform.superseded_files import SupersededFiles
from pipeline.transform.ties import tie_breaker
from pipeline.transform.validate import Judged, as_one_text

MANY = 10_000  # rows of a batch from which counting the events of each key costs less than sorting them
ABOUT = ("_event_at", "_batch_date", "_revision", "_deleted", "_batch_id")
ROW = ("_source_file", "_record", "_raw")  # which record it was
EVENT = ("_at", *ABOUT)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A delivery that lists everything which exists: an event, at the end of its batch date, for every key of its feed."""

    batch_id: str
    batch_date: dt.date
    revision: int


@dataclass(frozen=True, kw_only=True)
class Past:
    """Where the merge of a feed finds what is known: its tables at their versions, and all its whole deliveries, this one included.

    `rejected_keys` are the rows of `ops.rejected_keys` about those deliveries: such a delivery says nothing of these keys, and
    nothing of any key that it lacks where one could not be read (`key` null).
    """

    bronze: Future[
        TableVersion
    ]  # with the rows of this batch, which are written meanwhile: only late news have to wait for them
    silver: TableVersion
    is_first: bool  # no row of the feed was ever accepted before
    is_first_of_date: bool = False  # no other batch of this date was ever published for the source
    deliveries: tuple[Delivery, ...] = ()
    rejected_keys: pa.Table = field(default_factory=OPS[REJECTED_KEYS].empty_table)
    superseded: SupersededFiles | None = None  # of an Append


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a batch changes in a table: rows with `_sign`, -1 as it was and +1 as it is now; equal rows are left out."""

    table: str
    key: tuple[str, ...]
    rows: MaterializedRows


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A feed's change and, not yet run, the batch's own rows (`ROW`) that tie with a row of another batch."""

    change: Change
    others: DataFrame | None = None


def merge_feed(judged: Judged, order: WorkOrder, past: Past, lake: Lake, max_shrink: float) -> Merged:
    """Computes what the feed's silver table becomes, touching only the keys that the batch has news of."""
    if isinstance(judged.feed.stored_as, Scd2):
        return _merge_history(judged, order, past, lake, max_shrink)
    if isinstance(judged.feed.stored_as, Snapshot):
        return _replace(judged, order, past, lake, max_shrink)
    if isinstance(judged.feed.stored_as, Append):
        return Merged(change=_append(judged, past, lake))
    return _upsert(judged, past, lake)


def difference(before: DataFrame | None, after: DataFrame, columns: Sequence[Column]) -> DataFrame:
    """Tells the rows of `before` (`_sign` -1) and `after` (+1) that are not in both; they have these columns and no others."""
    now = after.selectExpr("*", "1 AS _sign")
    if before is None:
        return now
    both = now.unionByName(before.selectExpr("*", "-1 AS _sign"))
    return both.groupBy(*(c.name for c in columns)).agg(F.sum("_sign").cast("int").alias("_sign")).where("_sign <> 0")


def _silver(feed: Feed, rows: DataFrame, *sign: str) -> DataFrame:
    return rows.selectExpr(*(c.name for c in feed.silver), *sign)


def versions_of_many(feed: Feed, events: DataFrame) -> DataFrame:
    """Folds events like `versions`, but passes keys of one event by: nothing has to be sorted to know their only version."""
    key = list(feed.key)
    repeated = events.groupBy(*key).count().where("count > 1").select(*key)
    columns = [
        *feed.input_names,
        "_event_at",
        "_batch_date",
        "_revision",
        "effective_from",
        "effective_to",
        "is_current",
    ]
    alone = events.join(repeated, key, "left_anti").where("NOT _deleted")
    alone = alone.selectExpr(
        "*", "_at AS effective_from", "CAST(NULL AS TIMESTAMP) AS effective_to", "true AS is_current"
    )
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
        events = events.withColumn(
            "_closed", F.max(F.expr("CASE WHEN _deleted AND NOT _reopens THEN 1 ELSE 0 END")).over(group)
        )
        events = events.withColumn("_place", F.row_number().over(group.orderBy("_at"))).where(
            "NOT _reopens OR (_closed = 1 AND _place = 2)"
        )
    content = F.struct(*(F.col(c) for c in feed.tracked or feed.key))
    events = events.withColumn("_was_deleted", F.lag("_deleted").over(order)).withColumn(
        "_same", content.eqNullSafe(F.lag(content).over(order))
    )
    events = events.withColumn(
        "_opens", F.expr("CASE WHEN _was_deleted = _deleted AND (_deleted OR _same) THEN 0 ELSE 1 END")
    )
    events = events.withColumn("effective_from", F.max(F.expr("CASE WHEN _opens = 1 THEN _at END")).over(order))
    # Behind the newest event of a version lies the first of the next.
    events = events.withColumn("effective_to", F.lead("_at").over(order)).withColumn(
        "_next_opens", F.lead("_opens", 1, 1).over(order)
    )
    return events.where("_next_opens = 1 AND NOT _deleted").withColumn("is_current", F.col("effective_to").isNull())


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
    return [*(F.col(c).desc_nulls_last() for c in tie_breaker(feed)), *by_content(feed.input_names)]


def _merge_history(judged: Judged, order: WorkOrder, past: Past, lake: Lake, max_shrink: float) -> Merged:
    feed = judged.feed
    news = judged.standing([*feed.input_names, *ABOUT, *ROW]).withColumn("_at", F.col("_event_at"))
    rows, others = (
        _first_versions(judged, news, order, past) if past.is_first else _next_versions(feed, news, order, past, lake)
    )
    change = Change(
        table=past.silver.name, key=feed.primary_key, rows=lake.scratch.materialize(rows, f"changes/{past.silver.name}")
    )
    if not past.is_first and _this(order, past):
        _refuse_contradiction(feed, order, past, change)
        _check_shrink(feed, past, change, max_shrink)
    return Merged(change=change, others=others)


def _this(order: WorkOrder, past: Past) -> Delivery | None:
    """Tells the batch itself where it lists everything that exists."""
    return next((d for d in past.deliveries if d.batch_id == order.batch_id), None)


def _first_versions(judged: Judged, news: DataFrame, order: WorkOrder, past: Past) -> tuple[DataFrame, None]:
    """Gives the versions of a feed that had none: no other batch has a row that could tie with one of these."""
    feed = judged.feed
    # The one delivery that there ever was lacks no key and, where no row deletes one, finds none closed.
    is_alone = _this(order, past) is not None and len(past.deliveries) == 1 and not feed.delete_condition
    if past.deliveries and not is_alone:
        after = _versions_told(feed, news.select(*feed.input_names, *EVENT), past)
    else:
        after = (versions_of_many if judged.rows_accepted >= MANY else versions)(feed, news)
    return _silver(feed, derive(after, feed.derived), "1 AS _sign"), None


def _next_versions(
    feed: Feed, news: DataFrame, order: WorkOrder, past: Past, lake: Lake
) -> tuple[DataFrame, DataFrame | None]:
    """Gives what changes in the versions of touched keys, and the batch's own rows that tie with one of another batch.

    A key with one event, newer than all that is known of it, follows from its open version without being sorted; one with more
    of them is folded on top of it; only the others are rebuilt from bronze.
    """
    key = list(feed.key)
    known = lake.scratch.materialize(_known(feed, news, past, order), f"known/{feed.name}")
    marks = known.arrow(["_plain", "_slow"])
    plain = marks.filter(marks["_plain"])
    parts, others = list[DataFrame](), None
    if plain.num_rows:
        parts.append(_followed(feed, known.df.where("_plain"), news, _this(order, past)))
        news = news.join(known.df.where("NOT _plain").select(*key).distinct(), key, "left_semi")
    if plain.num_rows < marks.num_rows or not parts:
        is_any_slow = bool(pc.any(marks["_slow"]).as_py())
        after = _folded(feed, known.df, news.select(*feed.input_names, *EVENT), past, is_any_slow=is_any_slow)
        before = known.df.where("NOT _plain AND effective_from IS NOT NULL AND (_slow OR is_current)")
        parts.append(difference(_silver(feed, before), _silver(feed, derive(after, feed.derived)), feed.silver))
        # All others are newer than what is known of their key, and share no instant with it.
        others = _tied_with_others(feed, news, order, past) if is_any_slow and not past.is_first_of_date else None
    return reduce(DataFrame.unionByName, parts), others


def _followed(feed: Feed, known: DataFrame, news: DataFrame, this: Delivery | None) -> DataFrame:
    """Gives what changes for keys of one event, newer than their open version, and for those that the whole delivery `this` lacks."""
    input_columns = (*feed.input_names, "_event_at", "_batch_date", "_revision")
    fresh = news.selectExpr(*(f"{k} AS _of_{k}" for k in feed.key), f"struct({', '.join(input_columns)}) AS _new")
    current = known.where("is_current OR effective_from IS NULL")
    met = current.join(fresh, F.expr(" AND ".join(f"{k} = _of_{k}" for k in feed.key)), "left")
    same = " AND ".join(f"{c} <=> _new.{c}" for c in feed.tracked) or "true"
    met = met.withColumn("_same", F.expr(f"coalesce(is_current, false) AND _first IS NOT NULL AND {same}"))
    starts = "CASE WHEN _same THEN effective_from ELSE _first END AS effective_from"
    opened = met.where("_first IS NOT NULL").selectExpr("_new.*", starts, "CAST(NULL AS TIMESTAMP) AS effective_to")
    ends = f"coalesce(_first, {_end(this.batch_date)}) AS effective_to" if this else "_first AS effective_to"
    ended = met.where("is_current AND NOT _same").selectExpr(*input_columns, "effective_from", ends)
    after = derive(opened.unionByName(ended).selectExpr("*", "effective_to IS NULL AS is_current"), feed.derived)
    # Every one of them differs from what it was, if only by its newest event.
    return _silver(feed, after, "1 AS _sign").unionByName(_silver(feed, current.where("is_current"), "-1 AS _sign"))


def _folded(feed: Feed, known: DataFrame, news: DataFrame, past: Past, *, is_any_slow: bool) -> DataFrame:
    """Gives the versions of keys whose news are folded on top of their open version, or that are rebuilt from bronze: where not all news are newest."""
    key = list(feed.key)
    events = news.unionByName(
        known.where("NOT _plain AND NOT _slow AND is_current").selectExpr(
            *feed.input_names,
            "effective_from AS _at",
            "_event_at",
            "_batch_date",
            "_revision",
            "false AS _deleted",
            "'' AS _batch_id",
        )
    )
    if not is_any_slow:
        return versions(feed, events)
    slow = known.where("_slow").select(*key).distinct()
    log, fast = _log(feed, past).join(slow, key, "left_semi"), events.join(slow, key, "left_anti")
    if not past.deliveries:
        return versions(feed, fast.unionByName(log))
    return versions(feed, fast).unionByName(_versions_told(feed, log, past), allowMissingColumns=True)


def _log(feed: Feed, past: Past, where: str = "true", *, within: Mapping[str, MinMax] | None = None) -> DataFrame:
    """Gives every event that was ever accepted and that no later record of its file stands for; see `Lake.read` for `within`."""
    stored = past.bronze.result().read(
        [*feed.names, "_batch_date", "_revision", "_deleted", "_superseded", "_batch_id"], within=within
    )
    # Rows of a lake that was written before have no mark.
    log = derive(stored.where(where).where("NOT coalesce(_superseded, false)"), feed.cleaned)
    log = log.withColumn("_event_at", F.expr(feed.event_time_sql)).withColumn("_at", F.col("_event_at"))
    return log.select(*feed.input_names, *EVENT)


def _tied_with_others(feed: Feed, news: DataFrame, order: WorkOrder, past: Past) -> DataFrame:
    """Gives the batch's own rows that only content can tell from a row which another batch of its date and revision brought."""
    day, same = order.batch_date, list(dict.fromkeys((*feed.key, "_event_at", "_revision", *tie_breaker(feed))))
    others = f"_batch_date = {literal(day)} AND NOT (_batch_id <=> {literal(order.batch_id)})"
    log = _log(feed, past, others, within={"_batch_date": (day, day)}).join(
        news.select(*feed.key), list(feed.key), "left_semi"
    )
    groups = log.selectExpr(*(f"{c} AS _of_{c}" for c in same), "_deleted", f"{_content(feed)} AS _content").groupBy(
        *(f"_of_{c}" for c in same)
    )
    there = groups.agg(
        F.max("_deleted").alias("_ends"), F.min("_content").alias("_low"), F.max("_content").alias("_high")
    )
    own = news.where("NOT _deleted").selectExpr(*same, *ROW, f"{_content(feed)} AS _content")
    met = own.join(there, F.expr(" AND ".join(f"{c} <=> _of_{c}" for c in same)))
    # A delete decides by itself, whatever the rows beside it hold.
    return met.where("NOT _ends AND (_low <> _content OR _high <> _content)").select(*ROW)


def _content(feed: Feed) -> str:
    # A null alone leaves the hash as it is.
    return f"xxhash64({', '.join(f'{c}, {c} IS NULL' for c in feed.input_names)})"


def _versions_told(feed: Feed, events: DataFrame, past: Past) -> DataFrame:
    """Folds all events of keys, with what whole deliveries say of them."""
    return versions(
        feed,
        events.withColumn("_reopens", F.expr("false")).unionByName(_memberships(feed, events, past)),
        reopened=True,
    )


def _end(day: dt.date) -> str:
    return f"CAST({literal(day + dt.timedelta(days=1))} AS TIMESTAMP)"


def _known(feed: Feed, news: DataFrame, past: Past, order: WorkOrder) -> DataFrame:
    """Gives every touched key with its versions (nulls for a new one), `_first` (its first news), and by what way it goes on.

    `_slow` is one whose news are not newer than all that is known of it, `_plain` one of the others with one event at most.
    A whole delivery touches every key; one that it lacks has no news.
    """
    key, this = list(feed.key), _this(order, past)
    touched = news.groupBy(*key).agg(
        F.min("_event_at").alias("_first"), F.count(F.lit(1)).alias("_events"), F.max("_deleted").alias("_ends")
    )
    silver = past.silver.read()
    if not this:
        silver = silver.join(touched.select(*key), key, "left_semi")
    if this is None:
        known = touched.join(silver, key, "left")
    elif _is_everything_slow(feed, past, order):
        # A key of which nothing stood may stand now: bronze alone knows of it.
        known = touched.join(silver, key, "full").join(_log(feed, past).select(*key).distinct(), key, "full")
    elif this.batch_id in _incomplete(past):
        # A delivery with a record whose key cannot be read says nothing of the keys that it lacks.
        known = touched.join(silver, key, "left")
    else:
        known = _but_for_hidden(feed, touched.join(silver, key, "full"), past, this)
    of_key = Window.partitionBy(*key)
    known = known.withColumn("_open_since", F.max(F.expr("CASE WHEN is_current THEN _event_at END")).over(of_key))
    known = known.withColumn("_closed_at", F.max("effective_to").over(of_key)).withColumn(
        "_slow", F.expr(_slow(feed, past, order))
    )
    return known.withColumn("_plain", F.expr("NOT _slow AND (_first IS NULL OR (_events = 1 AND NOT _ends))"))


def _but_for_hidden(feed: Feed, known: DataFrame, past: Past, this: Delivery) -> DataFrame:
    """Leaves out the keys that a whole delivery has in rejected rows alone: it says nothing of them."""
    hidden = _hidden(past, this.batch_id)
    if hidden is None:
        return known
    met = known.withColumn("_key", F.expr(as_one_text(feed.key))).join(
        hidden.withColumn("_is_hidden", F.expr("true")), "_key", "left"
    )
    return met.where("_first IS NOT NULL OR _is_hidden IS NULL").drop("_key", "_is_hidden")


def _is_everything_slow(feed: Feed, past: Past, order: WorkOrder) -> bool:
    """Tells whether whole deliveries and deletes, or whole deliveries out of their order, leave no key that could follow from its open version."""
    return bool(past.deliveries) and (
        bool(feed.delete_condition) or any(date >= order.batch_date for date in _other_dates(past, order))
    )


def _other_dates(past: Past, order: WorkOrder) -> list[dt.date]:
    return [d.batch_date for d in past.deliveries if d.batch_id != order.batch_id]


def _slow(feed: Feed, past: Past, order: WorkOrder) -> str:
    """Writes SQL that is true for a key which has to be rebuilt from all its events and all whole deliveries."""
    if _is_everything_slow(feed, past, order):
        return "true"
    this, others = _this(order, past), _other_dates(past, order)
    # What older whole deliveries hold and lack is in silver already, unless news are from before the end of the last.
    is_late = f"_first < {_end(max(others))}" if others else "false"
    # Where keys can be deleted, an unknown key may have a past of deletes alone, which silver does not show.
    cases = [f"WHEN effective_from IS NULL THEN {literal(bool(feed.delete_condition))} OR {is_late}"]
    if this:
        end = _end(this.batch_date)
        cases.append(
            f"WHEN _first IS NULL THEN coalesce(_open_since >= {end}, false) OR coalesce(_closed_at > {end}, false)"
        )
    return f"CASE {' '.join(cases)} ELSE _open_since IS NULL OR _first <= _open_since OR {is_late} END"


def _incomplete(past: Past) -> list[str]:
    """Returns the whole deliveries with a record whose key could not be read."""
    unread = past.rejected_keys.filter(pc.is_null(past.rejected_keys["key"]))
    return pc.unique(unread["batch_id"]).to_pylist()  # type: ignore[no-any-return]


def _hidden(past: Past, batch_id: str | None = None) -> DataFrame | None:
    """Gives the keys (`_key`, one text) of rejected rows of whole deliveries, with `_of` of which; of one where it is given."""
    rows = past.rejected_keys.filter(pc.is_valid(past.rejected_keys["key"]))
    rows = rows if batch_id is None else rows.filter(pc.equal(rows["batch_id"], batch_id))
    if not rows.num_rows:
        return None
    named = {"_key": rows["key"]} | ({"_of": rows["batch_id"]} if batch_id is None else {})
    return past.silver.lake.dataframe(pa.table(named)).distinct()


def _where_it_speaks(feed: Feed, grid: DataFrame, past: Past, held: str) -> DataFrame:
    """Leaves out the pairs of key and whole delivery (`_batch_id`) where the delivery neither holds the key nor lacks it for certain.

    The column `held` is true where it holds the key.
    """
    if incomplete := _incomplete(past):
        grid = grid.where(f"{held} OR _batch_id NOT IN ({', '.join(map(literal, incomplete))})")
    if (hidden := _hidden(past)) is not None:
        met = grid.withColumn("_own", F.expr(as_one_text(feed.key))).join(
            hidden, F.expr("_own = _key AND _batch_id = _of"), "left"
        )
        grid = met.where(f"{held} OR _of IS NULL")
    return grid


def _memberships(feed: Feed, events: DataFrame, past: Past) -> DataFrame:
    """Gives, for each key and whole delivery, a delete where the delivery lacks the key, a reopening with its row where it holds it.

    Where it has the key in a rejected row, or a row whose key cannot be read, it says nothing of a key that it does not hold.
    """
    key = list(feed.key)
    rows = ", ".join(f"({literal(d.batch_id)}, {literal(d.batch_date)}, {d.revision})" for d in past.deliveries)
    listed = events.sparkSession.sql(f"SELECT * FROM VALUES {rows} AS t(_batch_id, _batch_date, _revision)")
    newest = Window.partitionBy(*key, "_batch_id").orderBy(F.col("_event_at").desc(), *_last_word(feed))
    held = first_of(events.where("NOT _deleted"), newest).select(
        *feed.input_names, "_batch_id", F.expr("true").alias("_reopens")
    )
    grid = events.select(*key).distinct().crossJoin(listed).join(held, [*key, "_batch_id"], "left")
    grid = _where_it_speaks(feed, grid, past, "_reopens")
    end = "CAST(date_add(_batch_date, 1) AS TIMESTAMP)"
    return grid.selectExpr(
        *feed.input_names,
        f"{end} AS _at",
        f"{end} AS _event_at",
        "_batch_date",
        "_revision",
        "_reopens IS NULL AS _deleted",
        "_batch_id",
        "coalesce(_reopens, false) AS _reopens",
    )


def _refuse_contradiction(feed: Feed, order: WorkOrder, past: Past, change: Change) -> None:
    this = (order.batch_date, order.revision)
    if change.rows.rows and any(
        (d.batch_date, d.revision) == this for d in past.deliveries if d.batch_id != order.batch_id
    ):
        # Whichever came last would win: which of the two is right, only the sender knows.
        raise DataError(
            f"{feed.name}: another whole delivery of {order.batch_date}, revision {order.revision}, is published and differs from this one; "
            f"land a new trigger that gives the right one `revision`: {order.revision + 1}"
        )


def _check_shrink(feed: Feed, past: Past, change: Change, max_shrink: float) -> None:
    # A feed without versions has current rows alone.
    is_current, silver = ("is_current" if feed.has_versions else "true"), past.silver.read()
    was_open = silver.where(is_current).count()
    keys = change.rows.df.where(is_current).groupBy(*feed.key).agg(F.max("_sign").alias("now"))
    gone = keys.where("now < 0").count()
    if was_open and gone / was_open > max_shrink:
        raise DataError(
            f"{feed.name}: the whole delivery lacks {gone} of {was_open} open keys, more than max_snapshot_shrink {max_shrink:g} allows; "
            "deliver it complete, or raise the limit"
        )


def _upsert(judged: Judged, past: Past, lake: Lake) -> Merged:
    feed, about = judged.feed, ("_event_at", "_batch_date", "_revision")
    news, before, others = judged.standing([*feed.input_names, *about, *ROW]), None, None
    rows = news.select(*feed.input_names, *about)
    if not past.is_first:
        before = past.silver.read().join(news.select(*feed.key).distinct(), list(feed.key), "left_semi")
        rows = rows.unionByName(before.select(*rows.columns))
        others = None if past.is_first_of_date else _tied_with_stored(feed, news, before)
    return Merged(change=_change(feed, past, lake, before, derive(_newest(feed, rows), feed.derived)), others=others)


def _tied_with_stored(feed: Feed, news: DataFrame, stored: DataFrame) -> DataFrame:
    """Gives the batch's own rows that only content can tell from the row which stood for their key, of their date and revision."""
    same = (*feed.key, "_batch_date", "_revision")
    there = stored.selectExpr(*(f"{c} AS _of_{c}" for c in same), f"{_content(feed)} AS _of_content")
    own = news.selectExpr(*same, *ROW, f"{_content(feed)} AS _content")
    return (
        own.join(there, F.expr(" AND ".join(f"{c} = _of_{c}" for c in same)))
        .where("_content <> _of_content")
        .select(*ROW)
    )


def _newest(feed: Feed, rows: DataFrame) -> DataFrame:
    rank = Window.partitionBy(*feed.key).orderBy(
        F.col("_batch_date").desc(), F.col("_revision").desc(), *by_content(feed.input_names)
    )
    return first_of(rows, rank)


def _append(judged: Judged, past: Past, lake: Lake) -> Change:
    feed = judged.feed
    # Equal rows of one batch are equal but for the revision of their file: what a group leaves of them is one, without a sort.
    news = (
        judged.accepted([*feed.names, "_batch_date", "_revision"])
        .groupBy(*feed.names, "_batch_date")
        .agg(F.min("_revision").alias("_revision"))
    )
    news = news.selectExpr("*", f"{_row_hash(feed)} AS _row")
    if past.superseded is not None:
        rows = _corrected(feed, news, past, past.superseded)
    else:
        rows = news.selectExpr("*", "1 AS _sign") if past.is_first else _moved(news, _of_the_time(judged, past))
    rows = derive(derive(rows, feed.cleaned).selectExpr("*", f"{feed.event_time_sql} AS _event_at"), feed.derived)
    return Change(
        table=past.silver.name,
        key=feed.primary_key,
        rows=lake.scratch.materialize(_silver(feed, rows, "_sign"), f"changes/{past.silver.name}"),
    )


def _row_hash(feed: Feed) -> str:
    return f"substr(sha2({as_one_text(feed.names)}, 256), 1, 32)"  # 128 bits tell any number of rows apart


def _corrected(feed: Feed, news: DataFrame, past: Past, superseded: SupersededFiles) -> DataFrame:
    """Gives what changes where a stated revision replaces files: the set of rows of all files but those, for the rows concerned."""
    columns = [*feed.names, "_batch_date", "_revision"]
    log = (
        past.bronze.result().read([*columns, "_batch_id", "_source_file"]).selectExpr("*", f"{_row_hash(feed)} AS _row")
    )
    of_file = F.expr("_batch_id = _of_batch AND _source_file = _of_file")
    replaced, moved = (_files(past, files) for files in (superseded.every, superseded.moved))
    touched = news.select("_row").unionByName(log.join(moved, of_file, "left_semi").select("_row")).distinct()
    kept = log.join(replaced, of_file, "left_anti").join(touched, "_row", "left_semi").select(*columns, "_row")
    oldest = first_of(kept, Window.partitionBy("_row").orderBy("_batch_date", "_revision")).select(*columns, "_row")
    before = past.silver.read([*columns, "_row"]).join(touched, "_row", "left_semi").select(*columns, "_row")
    return difference(before, oldest, (*feed.schema, *columns_of("_batch_date DATE, _revision INT, _row STRING")))


def _files(past: Past, files: Iterable[tuple[str, str]]) -> DataFrame:
    ids = sorted(files)
    named = {
        "_of_batch": pa.array([batch for batch, _ in ids], pa.string()),
        "_of_file": pa.array([name for _, name in ids], pa.string()),
    }
    return past.silver.lake.dataframe(pa.table(named))


def _of_the_time(judged: Judged, past: Past) -> DataFrame:
    """Gives the known rows between the batch's first and last event, and some others: files of other times are not even opened."""
    time = judged.feed.event_time
    return past.silver.read(
        ["_row", "_batch_date", "_revision"], within={time: judged.rows.min_max("_event_at")} if time else None
    )


def _moved(news: DataFrame, stored: DataFrame) -> DataFrame:
    """Gives the rows that are new, and those that are known from a younger delivery alone, which go (-1) and come (+1).

    Whatever delivery came first, a row shows the oldest that held it: the table does not depend on the order of arrival.
    """
    known = stored.join(news.select("_row"), ["_row"], "left_semi")
    met = news.join(known.selectExpr("_row", "_batch_date AS _of_date", "_revision AS _of_revision"), "_row", "left")
    older = met.where(
        "_of_date IS NULL OR _batch_date < _of_date OR (_batch_date = _of_date AND _revision < _of_revision)"
    )
    both = older.selectExpr("*", "explode(CASE WHEN _of_date IS NULL THEN array(1) ELSE array(1, -1) END) AS _sign")
    of_then = [
        f"CASE WHEN _sign > 0 THEN {c} ELSE {then} END AS {c}"
        for c, then in (("_batch_date", "_of_date"), ("_revision", "_of_revision"))
    ]
    return both.selectExpr(*(c for c in news.columns if c not in ("_batch_date", "_revision")), *of_then, "_sign")


def _replace(judged: Judged, order: WorkOrder, past: Past, lake: Lake, max_shrink: float) -> Merged:
    feed = judged.feed
    newest = max(past.deliveries, key=lambda d: (d.batch_date, d.revision, d.batch_id == order.batch_id))
    is_outdated = newest.batch_id != order.batch_id
    says_nothing_of_some = newest.batch_id in past.rejected_keys["batch_id"].to_pylist() and len(past.deliveries) > 1
    before = None if past.is_first or (is_outdated and not says_nothing_of_some) else past.silver.read()
    news = judged.standing(feed.input_names)
    if is_outdated:
        news = _as_last_listed(feed, past) if says_nothing_of_some else news.where("false")
    elif says_nothing_of_some and before is not None:
        news = news.unionByName(_left_as_it_was(feed, news, before, past, newest))
    change = _change(feed, past, lake, before, derive(_listed(feed, news), feed.derived))
    if before is not None:
        _refuse_contradiction(feed, order, past, change)
        _check_shrink(feed, past, change, max_shrink)
    return Merged(change=change)


def _left_as_it_was(feed: Feed, news: DataFrame, before: DataFrame, past: Past, newest: Delivery) -> DataFrame:
    """Gives the stored rows of the keys of which the newest whole delivery, with the rows `news`, says nothing."""
    rows = before.select(*feed.input_names).join(news.select(*feed.key).distinct(), list(feed.key), "left_anti")
    hidden = None if newest.batch_id in _incomplete(past) else _hidden(past, newest.batch_id)
    if hidden is None:
        return rows
    return (
        rows.withColumn("_own", F.expr(as_one_text(feed.key)))
        .join(hidden, F.expr("_own = _key"), "left_semi")
        .select(*feed.input_names)
    )


def _as_last_listed(feed: Feed, past: Past) -> DataFrame:
    """Gives each key's rows of the newest whole delivery that says something of the key: that holds it, or lacks it for certain."""
    key = list(feed.key)
    turns = sorted({(d.batch_date, d.revision) for d in past.deliveries})
    rows = ", ".join(f"({literal(d.batch_id)}, {turns.index((d.batch_date, d.revision))})" for d in past.deliveries)
    log = _log(feed, past).select(*feed.input_names, "_batch_id")
    listed = log.sparkSession.sql(f"SELECT * FROM VALUES {rows} AS t(_batch_id, _turn)")
    held = log.join(listed, "_batch_id")
    holds = held.select(*key, "_batch_id").distinct().withColumn("_held", F.expr("true"))
    grid = held.select(*key).distinct().crossJoin(listed).join(holds, [*key, "_batch_id"], "left")
    grid = _where_it_speaks(feed, grid, past, "_held")
    last = grid.groupBy(*key).agg(F.max("_turn").alias("_turn"))
    return held.join(last, [*key, "_turn"], "left_semi").select(*feed.input_names)


def _listed(feed: Feed, rows: DataFrame) -> DataFrame:
    # Of two rows of one key and start the content decides.
    order = by_content(feed.input_names)
    if not feed.version_start:
        return first_of(rows, Window.partitionBy(*feed.key).orderBy(*order))
    rows = rows.withColumn("effective_from", F.expr(feed.valid_from_sql))
    return _until_the_next(feed, first_of(rows, Window.partitionBy(*feed.key, "effective_from").orderBy(*order)))


def _change(feed: Feed, past: Past, lake: Lake, before: DataFrame | None, after: DataFrame) -> Change:
    rows = difference(before, _silver(feed, after), feed.silver)
    return Change(
        table=past.silver.name, key=feed.primary_key, rows=lake.scratch.materialize(rows, f"changes/{past.silver.name}")
    )

"""Merges events into history in this process, with the results of `history_paths`, where batch and keys fit memory.

The engine plans a query for each step, which costs more than a small batch's rows. A law test compares both ways.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.data_files import cast_to_schema
from pipeline.lake.key_lookup import signed_difference
from pipeline.lake.merge import distinct_keys, key_numbers
from pipeline.model import Feed, columns_of
from pipeline.schema import arrow_schema
from pipeline.transform.history_paths import APPEND, MERGE, REBUILD
from pipeline.transform.snapshots import MergeTarget, first_instant_after
from pipeline.transform.ties import tie_breaker

_EVENT = columns_of("_at TIMESTAMP, _event_at TIMESTAMP, _batch_date DATE, _revision INT, _deleted BOOLEAN")


def event_schema(feed: Feed) -> pa.Schema:
    """Returns the schema of events: the feed's columns and those about the event; see `history.versions`."""
    return arrow_schema((*feed.input_columns, *_EVENT))


def bronze_columns(feed: Feed) -> list[str]:
    """Returns the columns of bronze that events are made of."""
    return [*feed.names, "_batch_date", "_revision", "_deleted", "_superseded"]


def events_of_bronze(feed: Feed, rows: pa.Table) -> pa.Table:
    """Returns the events that rows of bronze are, for a feed without cleaned columns."""
    # Rows that an older release wrote have no mark.
    rows = rows.filter(pc.invert(pc.fill_null(rows["_superseded"], fill_value=False)))
    at = rows[feed.event_time or "_batch_date"].cast(event_schema(feed).field("_at").type)
    return cast_to_schema(rows.append_column("_at", at).append_column("_event_at", at), event_schema(feed))


def matched_versions(feed: Feed, events: pa.Table, stored: pa.Table, target: MergeTarget) -> pa.Table:
    """Returns the versions of every key of the batch, as `current_versions` does; `stored` are the versions of silver.

    For a feed of which this batch is no whole delivery.
    """
    key = list(feed.key)
    keys = events.group_by(key).aggregate([("_event_at", "min"), ("_event_at", "count"), ("_deleted", "any")])
    keys = keys.rename_columns([*key, "_first", "_events", "_ends"])
    of_key = key_numbers(stored.select(key), keys.select(key)).cast(pa.int64())
    of_current = pa.table({"of": of_key, "at": stored["_event_at"]}).filter(stored["is_current"])
    keys = keys.append_column("_open_since", _highest(of_current, keys.num_rows))
    keys = keys.append_column(
        "_closed_at", _highest(pa.table({"of": of_key, "at": stored["effective_to"]}), keys.num_rows)
    )
    new = np.setdiff1d(np.arange(keys.num_rows), of_key.to_numpy(zero_copy_only=False))
    places = pa.array([*range(stored.num_rows), *[None] * len(new)], pa.int64())
    rows = keys.take(pa.concat_arrays([of_key, pa.array(new, pa.int64())]))
    for name in (n for n in stored.column_names if n not in key):
        rows = rows.append_column(name, stored[name].take(places))
    return rows.append_column("_path", _paths(feed, rows, target))


def _highest(numbered: pa.Table, count: int) -> pa.ChunkedArray:
    """Returns, for each of the first `count` numbers, the highest value of its rows; null where it has none."""
    found = numbered.group_by("of").aggregate([("at", "max")])
    return found["at_max"].take(pc.index_in(pa.array(range(count), pa.int64()), value_set=found["of"]))


def _paths(feed: Feed, rows: pa.Table, target: MergeTarget) -> pa.Array:
    first, open_since = rows["_first"], rows["_open_since"]
    nothing = pa.array(np.zeros(rows.num_rows, np.bool_))
    is_late = nothing
    if target.other_dates:
        newest = max(target.other_dates)
        # At its end the newest whole delivery itself says something of each key; over an event of an older batch, too.
        is_before = pc.less if target.order.batch_date > newest else pc.less_equal
        is_late = is_before(first, pa.scalar(first_instant_after(newest), first.type))
    deletes = pc.or_(nothing, pa.scalar(bool(feed.delete_condition)))
    is_known = pc.is_valid(rows["effective_from"])
    is_newer = pc.fill_null(pc.greater(first, open_since), fill_value=False)
    rebuilds = pc.or_(pc.if_else(is_known, pc.invert(is_newer), deletes), is_late)
    is_alone = pc.and_(pc.equal(rows["_events"], 1), pc.invert(rows["_ends"]))
    return pc.if_else(rebuilds, REBUILD, pc.if_else(is_alone, APPEND, MERGE))


def rebuilt_keys(feed: Feed, current: pa.Table) -> pa.Table:
    """Returns the keys that are rebuilt from bronze."""
    return distinct_keys(current.filter(pc.equal(current["_path"], REBUILD)).select(feed.key))


def merged_versions(feed: Feed, current: pa.Table, events: pa.Table, bronze: pa.Table) -> pa.Table:
    """Returns the versions that take the place of the replaced ones, without derived columns.

    `current` are the matched versions, `events` those of the batch, `bronze` all events of the keys that are rebuilt.
    """
    schema, rebuilt = event_schema(feed), rebuilt_keys(feed, current)
    others = events.filter(pc.is_null(key_numbers(events.select(feed.key), rebuilt)))
    is_merged = pc.and_(pc.not_equal(current["_path"], REBUILD), pc.fill_null(current["is_current"], fill_value=False))
    opened = current.filter(is_merged)
    opened = opened.append_column("_at", opened["effective_from"])
    opened = opened.append_column("_deleted", pa.repeat(pa.scalar(value=False), opened.num_rows))
    return versions(feed, pa.concat_tables([cast_to_schema(rows, schema) for rows in (others, opened, bronze)]))


def change_of_history(feed: Feed, current: pa.Table, after: pa.Table) -> pa.Table:
    """Returns the signed rows of silver: `after` in the place of the versions that are merged or rebuilt."""
    columns = arrow_schema(feed.silver)
    is_rebuilt = pc.equal(current["_path"], REBUILD)
    is_replaced = pc.and_(pc.is_valid(current["effective_from"]), pc.or_(is_rebuilt, current["is_current"]))
    before = cast_to_schema(current.filter(pc.fill_null(is_replaced, fill_value=False)), columns)
    return signed_difference(before, cast_to_schema(after, columns), feed.primary_key)


def versions(feed: Feed, events: pa.Table) -> pa.Table:
    """Returns the versions of keys, made from all their events, as `history.versions` does; no derived columns."""
    key = list(feed.key)
    rows = _first_of_each_instant(feed, events)
    is_same_key, deleted = _equals_previous(rows, key), _numpy(rows["_deleted"])
    was_deleted = np.roll(deleted, 1)  # of the first row of a key it does not matter
    is_same = _equals_previous(rows, list(feed.tracked) or key)
    opens = ~(is_same_key & (was_deleted == deleted) & (deleted | is_same))
    place = np.arange(rows.num_rows)
    start = np.maximum.accumulate(np.where(opens, place, 0)) if len(place) else place
    is_last = np.append(~is_same_key[1:], values=True)[: len(place)]
    following = pa.array(place + 1, mask=is_last)
    newest = pa.array((is_last | np.append(opens[1:], values=True)[: len(place)]) & ~deleted)
    at = rows["_at"]
    rows = rows.append_column("effective_from", at.take(pa.array(start)))
    rows = rows.append_column("effective_to", at.take(following))
    rows = rows.append_column("is_current", pc.is_null(rows["effective_to"]))
    return rows.filter(newest).drop_columns(["_at", "_deleted"])


def _first_of_each_instant(feed: Feed, events: pa.Table) -> pa.Table:
    """Returns the events by key and time; of the events of one instant the one that counts."""
    instant = [*feed.key, "_at"]
    order: list[tuple[str, str]] = [(c, "ascending") for c in instant]
    order += [(c, "descending") for c in ("_batch_date", "_revision", "_deleted")]
    rows = events.take(pc.sort_indices(events, sort_keys=order))
    repeats = _equals_previous(rows, instant)
    if not repeats.any():
        return rows
    # The rows of one instant tie: their columns decide, as texts, nulls last.
    texts = {f"_text_{n}": events[n].cast(pa.string()) for n in feed.input_names}
    for name, column in texts.items():
        events = events.append_column(name, column)
    order += [(c, "descending") for c in (*tie_breaker(feed), *texts)]
    rows = events.take(pc.sort_indices(events, sort_keys=order)).drop_columns(list(texts))
    return rows.filter(pa.array(~_equals_previous(rows, instant)))


def _equals_previous(rows: pa.Table, names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Returns, for each row, whether some columns have the values of the row before; a null equals a null."""
    count = rows.num_rows
    if not count:
        return np.zeros(0, np.bool_)
    equal = np.ones(count - 1, np.bool_)
    for name in names:
        column = rows[name].combine_chunks()
        left, right = column.slice(1), column.slice(0, count - 1)
        both_null = pc.and_(pc.is_null(left), pc.is_null(right))
        equal &= _numpy(pc.or_(pc.fill_null(pc.equal(left, right), fill_value=False), both_null))
    return np.concatenate(([False], equal))


def _numpy(values: Any) -> npt.NDArray[np.bool_]:
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return np.asarray(array.to_numpy(zero_copy_only=False), np.bool_)

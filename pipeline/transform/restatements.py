"""Finds the restatements of a gold table: figures of a past period that were published and that a batch changes."""

import datetime as dt
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contract.decimals import decimal_text
from pipeline.model import GoldTable
from pipeline.transform.change import TableChange

_FIGURES = ("DECIMAL", "INT", "BIGINT")


def restatements_of(table: GoldTable, change: TableChange, until: dt.date) -> list[dict[str, Any]]:
    """Returns one row of `ops.restatements`, without batch and source, per figure of a past period that differs.

    A figure is a number of a published row whose grain holds a date: the first column of type DATE. The row is of a
    past period where that date lies before `until`. A row that the batch adds was not published and is no restatement.
    """
    types = {c.name: c.type for c in table.schema}
    date = table.date_column
    figures = [n for n, t in types.items() if t.startswith(_FIGURES) and not n.startswith("_") and n not in table.grain]
    if not date or not figures:
        return []
    rows = change.rows.arrow([*table.grain, *figures, "_sign"])
    past = rows.filter(pc.less(rows[date], pa.scalar(until, pa.date32())))
    before = past.filter(pc.less(past["_sign"], 0)).to_pylist()
    if not before:
        return []
    after = {_key(table, row): row for row in past.filter(pc.greater(past["_sign"], 0)).to_pylist()}
    return [
        {"table_name": change.table, "figure_date": row[date], "grain": _texts(table, row), **difference}
        for row in before
        for difference in _differences(figures, row, after.get(_key(table, row), {}))
    ]


def first_open_day(table: GoldTable, newest: dt.date, *, is_complete: bool) -> dt.date:
    """Returns the first day whose figures may still grow as expected: the start of the table's period at `newest`.

    `is_complete` says that also the period of `newest` has been published before.
    """
    if is_complete:
        return newest + dt.timedelta(days=1)
    match table.period:
        case "year":
            return newest.replace(month=1, day=1)
        case "month":
            return newest.replace(day=1)
        case "week":
            return newest - dt.timedelta(days=newest.weekday())
        case _:
            return newest


def _key(table: GoldTable, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[c] for c in table.grain)


def _texts(table: GoldTable, row: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    return [(c, _text(row[c])) for c in table.grain if not c.startswith("_")]


def _differences(
    figures: list[str], before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Mapping[str, str | None]]:
    for name in figures:
        if before[name] != after.get(name):
            yield {"column_name": name, "before": _text(before[name]), "after": _text(after.get(name))}


def _text(value: object) -> str | None:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, bool):
        return str(value).lower()  # as SQL writes it
    return None if value is None else str(value)

"""Computes the figures page of a source: cards with their change, time lines, and bars, from rows of gold."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from daemon.pages import formats
from daemon.pages.facts import Chart, Facts, Restatement

MOST_CARDS = 8
MOST_BARS = 10
MOST_SERIES = 5
MOST_ROWS = 15  # of the table under a chart


@dataclass(frozen=True, kw_only=True)
class Card:
    """A figure of the newest batch, its change since the batch before, and its way, oldest first."""

    label: str
    text: str
    unit: str
    change: str
    values: Sequence[float | None]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar of a chart; `share` is its part of the longest bar, -1 to 1."""

    label: str
    text: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The first rows of a table as texts."""

    columns: Sequence[str]
    is_number: Sequence[bool]
    rows: Sequence[Sequence[str]]
    total: int


def label(name: str) -> str:
    """Returns the name of a column in words: `total revenue`."""
    return name.replace("_", " ").strip()


def with_unit(chart: Chart, name: str) -> str:
    """Returns the name of a measure in words, with its unit: `revenue, USD`."""
    unit = chart.units.get(name, "")
    return f"{label(name)}, {unit}" if unit else label(name)


def changed_figures(facts: Facts, table: str) -> list[Restatement]:
    """Returns the published figures of a table that a later batch changed, newest first."""
    return [r for r in facts.lake.restatements if r.table == table]


def figure(text: str | None) -> str:
    """Returns a figure of a restatement: a number with separators, or its text."""
    try:
        return formats.number(Decimal(text)) if text is not None else "–"
    except InvalidOperation:
        return formats.one_line(str(text))


def ordered(charts: Sequence[Chart]) -> list[Chart]:
    """Returns the cards first, then the time lines, then the bars."""
    return sorted(charts, key=lambda c: ("cards", "line", "bars").index(c.kind))


def cards(chart: Chart) -> list[Card]:
    """Returns the figures of the newest batch."""
    found = []
    for name in chart.measures[:MOST_CARDS]:
        values = _values(chart, name)
        if values:
            shown = [_float(v) for v in reversed(values)]
            text, change = formats.cell(values[0]), _change(values)
            found.append(
                Card(label=label(name), text=text, unit=chart.units.get(name, ""), change=change, values=shown)
            )
    return found


def _change(values: Sequence[Any]) -> str:
    if len(values) < 2 or values[0] is None or values[1] is None:
        return ""
    change = Decimal(values[0]) - Decimal(values[1])
    return "no change" if change == 0 else f"{'+' if change > 0 else ''}{formats.number(change)}"


def bars(chart: Chart) -> list[Bar]:
    """Returns the longest bars of the first measure."""
    name = chart.measures[0]
    rows = list(zip(_labels(chart), _values(chart, name), strict=True))[:MOST_BARS]
    texts = formats.column([v for _, v in rows])
    longest = max((abs(_float(v) or 0.0) for _, v in rows), default=0.0) or 1.0
    return [
        Bar(label=text, text=shown, share=(_float(value) or 0.0) / longest)
        for (text, value), shown in zip(rows, texts, strict=True)
    ]


def lines(chart: Chart) -> dict[str, Any]:
    """Returns the series of a time line, for the script: seconds, and per measure the values of each series.

    A table with more labels than a date has one series per label, of the labels with most rows.
    """
    times = sorted({t for t in _values(chart, chart.time) if t is not None})
    labels = _labels(chart) if chart.labels else [""] * len(chart.rows)
    shown = sorted(set(labels), key=lambda text: (-labels.count(text), text))[:MOST_SERIES]
    dates = _values(chart, chart.time)
    measures = []
    for name in chart.measures:
        found = {(text, t): v for text, t, v in zip(labels, dates, _values(chart, name), strict=True)}
        series = [[_float(found.get((text, t))) for t in times] for text in shown]
        measures.append({"name": with_unit(chart, name), "series": series})
    return {
        "time": [_seconds(t) for t in times],
        "labels": [text or label(chart.measures[0]) for text in shown],
        "measures": measures,
        "hidden": len(set(labels)) - len(shown),
    }


def rows(chart: Chart) -> Rows:
    """Returns the first rows of the chart's table."""
    some = chart.rows[:MOST_ROWS]
    by_column = [formats.column([row[i] for row in some]) for i in range(len(chart.columns))]
    return Rows(
        columns=chart.columns,
        is_number=[formats.is_number(t) for t in chart.types],
        rows=list(zip(*by_column, strict=True)),
        total=chart.total,
    )


def _labels(chart: Chart) -> list[str]:
    # A dimension brings a name beside the number: `product_name` of `product_number`.
    texts = [formats_of(chart, name) for name in chart.labels]
    named = [n for n in chart.columns if n.endswith("_name") and n not in chart.labels][:1]
    if len(chart.labels) == 1 and named and named[0].removesuffix("_name") in chart.labels[0]:
        names = formats_of(chart, named[0])
        return [f"{number} {name}" for number, name in zip(texts[0], names, strict=True)]
    return [" · ".join(parts) for parts in zip(*texts, strict=True)]


def formats_of(chart: Chart, name: str) -> list[str]:
    """Returns the values of a column of the grain: numbers without separators, for they are names here."""
    values = _values(chart, name)
    return ["no value" if v is None else str(v) if isinstance(v, int) else formats.cell(v) for v in values]


def _values(chart: Chart, name: str) -> list[Any]:
    place = list(chart.columns).index(name)
    return [row[place] for row in chart.rows]


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _seconds(day: dt.date) -> int:
    return int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp())

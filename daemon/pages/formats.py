"""Formats values for a page: numbers, sizes, durations, times, and text that other parties wrote."""

import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from pipeline import reader
from pipeline.contract.decimals import decimal_places

LONGEST_CELL = 160  # characters of a value in a table
_UNITS = ("kB", "MB", "GB", "TB")


def visible(text: str) -> str:
    """Returns a text with the characters escaped that a reader cannot see or that turn the direction of the text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """Returns a text that other parties wrote as one visible line, cut at `LONGEST_CELL` characters."""
    line = visible(text.replace("\n", "\\n"))
    return line if len(line) <= LONGEST_CELL else line[: LONGEST_CELL - 1] + "…"


def number(value: Any, decimals: int | None = None) -> str:
    """Returns a number with thousands separators, without trailing zeros or with exactly `decimals` places."""
    if value is None:
        return "–"
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        return "–"
    places = decimal_places(exact) if decimals is None else decimals
    return f"{exact:,.{places}f}".replace("-", "\N{MINUS SIGN}")


def column(values: Sequence[Any]) -> list[str]:
    """Returns the values of one column as texts; all decimals of a column have equally many places."""
    exact = [v for v in values if isinstance(v, Decimal) and v.is_finite()]
    places = max(map(decimal_places, exact), default=0)
    return [number(v, places) if isinstance(v, Decimal) else cell(v) for v in values]


def cell(value: Any) -> str:
    """Returns any value of a table as one line."""
    match value:
        case None:
            return "–"
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            return number(value)
        case float():
            return number(round(value, 4))
        case dt.datetime():
            return time(value)
        case str():
            return one_line(value)
        case _:
            return one_line(str(reader.plain(value)))


def is_number(sql_type: str) -> bool:
    """Returns whether values of a SQL type are numbers."""
    return sql_type.startswith(("DECIMAL", "DOUBLE", "FLOAT")) or sql_type.endswith("INT") or sql_type == "INTEGER"


def size(count: int) -> str:
    """Returns a number of bytes as `812 B`, `12.3 kB`, `4.0 GB`."""
    amount, unit = float(count), ""
    for larger in _UNITS:
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.1f} {unit}" if unit else f"{count} B"


def plural(count: int, noun: str) -> str:
    """Returns `1 file`, `2 files`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Returns a duration as `0.25 s`, `34 s`, `1 min 12 s`, `2 h 5 min`, `3 days`."""
    if seconds < 10:
        return f"{max(seconds, 0):.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size_, unit, smaller, name in ((60, "min", 1, "s"), (3600, "h", 60, "min")):
        if whole < size_ * (60 if unit == "min" else 48):
            rest = whole % size_ // smaller
            return f"{whole // size_} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{whole // 86400} days"


def utc(value: dt.datetime | str) -> dt.datetime:
    """Returns a time of the ledger or of a table in UTC."""
    read = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return read.astimezone(dt.UTC) if read.tzinfo else read.replace(tzinfo=dt.UTC)


def time(value: dt.datetime | str | None) -> str:
    """Returns a time in UTC to the second; "–" for None."""
    return f"{utc(value):%Y-%m-%d %H:%M:%S}" if value else "–"


def iso(value: dt.datetime | str) -> str:
    """Returns a time for the attribute of an element `time`."""
    return f"{utc(value):%Y-%m-%dT%H:%M:%SZ}"


def percent(share: float) -> str:
    """Returns a share as a percentage of which a small one is never 0."""
    value = 100 * share
    return "0 %" if value == 0 else "< 0.1 %" if value < 0.1 else f"{value:.1f} %".replace(".0 %", " %")


def short_id(batch_id: str) -> str:
    """Returns the six letters at the end of a batch id."""
    return batch_id.rpartition("-")[2] or batch_id


def names(values: Iterable[str]) -> str:
    """Returns names as one line, separated by commas."""
    return ", ".join(map(one_line, values))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()

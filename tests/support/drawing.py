"""Tables drawn as text: a header, one line per row, cells between bars; an empty cell is null.

    customer_id | tier  | effective_from
    C1          | basic | 2025-01-01

`draw` and `drawn` sort and align in the same way, so two drawings are equal if they hold the same rows.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any


def parsed(drawing: str) -> list[dict[str, str | None]]:
    """Returns the rows of a drawing, as text by column."""
    header, *lines = _cells(drawing)
    for line in lines:
        assert len(line) == len(header), f"{line} does not fit under {header}"
    return [dict(zip(header, (cell or None for cell in line), strict=True)) for line in lines]


def columns(drawing: str) -> list[str]:
    """Returns the columns of a drawing."""
    return _cells(drawing)[0]


def draw(rows: Iterable[Mapping[str, Any]], *names: str) -> str:
    """Returns a drawing of rows, sorted by all cells from left to right."""
    return _aligned(names, [[_cell(row[name]) for name in names] for row in rows])


def drawn(drawing: str) -> str:
    """Returns a drawing of a test, sorted and aligned as by `draw`."""
    header, *lines = _cells(drawing)
    return _aligned(header, lines)


def _cells(drawing: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in drawing.splitlines() if line.strip()]


def _aligned(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    table = [list(header), *sorted(map(list, lines))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
    )


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case dt.datetime():
            text = value.astimezone(dt.UTC).isoformat(sep=" ").removesuffix("+00:00")
            return text.removesuffix(":00").removesuffix(" 00:00") if value.microsecond == 0 else text
        case Decimal():
            return format(value.normalize() + 0, "f")
        case list() | tuple():
            return ", ".join(map(_cell, value))
        case dict():
            return ", ".join(f"{name}={_cell(inner)}" for name, inner in sorted(value.items()))
        case _:
            return str(value)

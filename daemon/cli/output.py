"""Prints for people and for programs: aligned tables, exact JSON. Data goes to stdout, everything else to stderr."""

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

COLOURS = {
    "WAITING": "yellow",
    "READY": "cyan",
    "RUNNING": "cyan",
    "PUBLISHED": "green",
    "DUPLICATE": "green",
    "ARCHIVED": "green",
    "REJECTED": "red",
    "FAILED": "red",
}
_ANSI = {"green": "32", "red": "31", "yellow": "33", "cyan": "36"}


def say(text: str) -> None:
    """A message for the person; never data."""
    print(text, file=sys.stderr)


def as_json(value: Any) -> str:
    """JSON with two exactnesses that the standard writer lacks: decimals as numbers with all their digits, no NaN."""
    match value:
        case Decimal():
            return format(value, "f") if value.is_finite() else "null"
        case float() if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN is what differs from itself
            return "null"
        case Mapping():
            return "{" + ", ".join(f"{json.dumps(str(k))}: {as_json(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(as_json, value)) + "]"
        case _:
            return json.dumps(value, default=str)


def print_json(value: Any) -> None:
    """Prints a list with an item a line, anything else as one line."""
    if isinstance(value, list) and value:
        print("[" + ",\n ".join(map(as_json, value)) + "]")
    else:
        print(as_json(value))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[str] = ()) -> None:
    """Prints rows under a header: lines cut to the terminal's width on a terminal, whole in a pipe."""
    # No table library: the smallest costs a fifth of the half second in which a reading verb answers.
    grid = [[visible(c) for c in columns], *([cell(v) for v in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*grid, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for number, texts in enumerate(grid):
        padded = [_padded(t, w, right=c in numbers) for t, w, c in zip(texts, widths, columns, strict=True)]
        line = _cut("  ".join(padded).rstrip(), room) if room else "  ".join(padded).rstrip()
        state = next((t for t in texts if t in COLOURS), "") if number else ""
        print(line.replace(state, coloured(state, state), 1) if state else line)


def visible(text: str) -> str:
    """The text in full, with what could break a line or a terminal escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _cut(line: str, room: int) -> str:
    if _width(line) <= room:
        return line
    while _width(line) >= room:
        line = line[:-1]
    return f"{line}…"


def cell(value: Any) -> str:
    """One value as one line of text that no terminal can stumble over."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.10g}"
        case Decimal():
            return format(value, "f")
        case Mapping() | list() | tuple():
            return visible(as_json(value))
        case _:
            return visible(str(value))


def coloured(text: str, state: str, stream: TextIO | None = None) -> str:
    """The text in the colour of a state, where colours are wanted."""
    code = _ANSI.get(COLOURS.get(state, ""))
    if (
        not code
        or os.environ.get("NO_COLOR")
        or os.environ.get("TERM") == "dumb"
        or not (stream or sys.stdout).isatty()
    ):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def size(count: int) -> str:
    """`812 B`, `12.3 kB`, `4.0 GB`."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def short(path: Path) -> str:
    """The path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def moment(text: str | None) -> str:
    """An RFC 3339 time to the second, for reading: `2026-03-04 10:00:01Z`."""
    return text[:19].replace("T", " ") + "Z" if text else ""

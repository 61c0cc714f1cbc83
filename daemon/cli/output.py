"""Prints aligned tables for people and exact JSON for programs. Data goes to stdout, all else to stderr."""

import datetime as dt
import json
import math
import os
import shutil
import sys
import textwrap
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


def print_message(text: str) -> None:
    """Prints a message for the person to stderr."""
    print(text, file=sys.stderr)


def as_json(value: Any) -> str:
    """Returns a value as JSON. Unlike json.dumps: a decimal is a number with all its digits, and NaN is null."""
    match value:
        case Decimal():
            return format(value, "f") if value.is_finite() else "null"
        case float() if not math.isfinite(value):
            return "null"
        case Mapping():
            return "{" + ", ".join(f"{json.dumps(str(k))}: {as_json(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(as_json, value)) + "]"
        case _:
            return json.dumps(value, default=str)


def print_json(value: Any) -> None:
    """Prints a list with one line for each item, and any other value as one line."""
    if isinstance(value, list) and value:
        print("[" + ",\n ".join(map(as_json, value)) + "]")
    else:
        print(as_json(value))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[str] = (), below: Sequence[str] = ()
) -> None:
    """Prints rows under a header; the columns in `numbers` are aligned to the right.

    `below` has a text for each row, which is printed under it. A terminal gets lines of its width, a pipe whole lines.
    """
    # No table library: to load the smallest takes a fifth of the half second in which a reading verb answers.
    grid = [[escape_unprintable(c) for c in columns], *([_cell(v) for v in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*grid, strict=True)]
    line_width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for number, texts in enumerate(grid):
        padded = [_pad(t, w, right=c in numbers) for t, w, c in zip(texts, widths, columns, strict=True)]
        line = cut("  ".join(padded).rstrip(), line_width)
        state = next((t for t in texts if t in COLOURS), "") if number else ""
        print(line.replace(state, coloured(state, state), 1) if state else line)
        if number and below:
            print_indented(below[number - 1], line_width)


def print_indented(text: str, line_width: int) -> None:
    """Prints a text below its line: on a terminal at most two lines of its width, else the whole text in one line."""
    if line_width:
        space = "    "
        wrapped = textwrap.wrap(
            escape_unprintable(text),
            line_width,
            initial_indent=space,
            subsequent_indent=space,
            max_lines=2,
            placeholder=" …",
        )
        print("".join(f"{line}\n" for line in wrapped), end="")
    elif text:
        print(f"    {escape_unprintable(text)}")


def align_decimals(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Returns the rows with as many decimal places in each column as its values need: 1117.200000 becomes 1117.2."""
    from pipeline.contract.decimals import decimal_places

    columns = []
    for column in zip(*rows, strict=True):
        places = max((decimal_places(v) for v in column if isinstance(v, Decimal)), default=0)
        columns.append([f"{v:.{places}f}" if isinstance(v, Decimal) else v for v in column])
    return [list(row) for row in zip(*columns, strict=True)]


def escape_unprintable(text: str) -> str:
    """Returns the whole text, with the characters escaped that could break a line or a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _width(text: str) -> int:
    """Returns the number of terminal columns of a text: a combining mark takes none, an East Asian sign takes two."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def cut(line: str, width: int) -> str:
    """Returns a line of at most `width` terminal columns, or the whole line where `width` is 0."""
    if not width or _width(line) <= width:
        return line
    while _width(line) >= width:
        line = line[:-1]
    return f"{line}…"


def _cell(value: Any) -> str:
    """Returns a value as one line of printable text."""
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
            return escape_unprintable(as_json(value))
        case _:
            return escape_unprintable(str(value))


def coloured(text: str, state: str, stream: TextIO | None = None) -> str:
    """Returns the text in the colour of a state; unchanged where the stream, by default stdout, shows no colours."""
    code = _ANSI.get(COLOURS.get(state, ""))
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not (stream or sys.stdout).isatty()
    if not code or is_plain:
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def size(count: int) -> str:
    """Returns a number of bytes as `812 B`, `12.3 kB`, `4.0 GB`."""
    amount = float(count)
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount /= 1000
        unit = larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def short_path(path: Path) -> str:
    """Returns the path relative to the working directory, where it lies in it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def plural(count: int, noun: str, many: str = "") -> str:
    """Returns `1 file`, `2 files`; `many` is the plural where it does not only end in s."""
    return f"{count:,} {noun if count == 1 else many or f'{noun}s'}"


def format_age(text: str, now: dt.datetime) -> str:
    """Returns the time since an RFC 3339 time, as `12 min ago`."""
    return f"{format_duration((now - dt.datetime.fromisoformat(text)).total_seconds())} ago"


def format_duration(seconds: float) -> str:
    """Returns a duration in its largest unit, below two minutes also in seconds: `34 s`, `1 min 12 s`, `3 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 120:
        return f"1 min {whole - 60} s" if whole > 60 else "1 min"
    for unit, length in (("day", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * length or (unit == "h" and whole >= length):
            count = whole // length
            return f"{count} {unit}s" if unit == "day" else f"{count} {unit}"
    return f"{whole // 60} min"


def format_local_time(text: str, now: dt.datetime) -> str:
    """Returns an RFC 3339 time for a person: on a terminal the local time, in a pipe UTC; the date if it differs."""
    moment = dt.datetime.fromisoformat(text)
    moment = moment.astimezone() if is_terminal() else moment.astimezone(dt.UTC)
    day = "" if moment.date() == now.astimezone(moment.tzinfo).date() else f"{moment:%Y-%m-%d} "
    return f"{day}{moment:%H:%M:%S} {moment:%Z}"


def format_times(texts: Sequence[str]) -> list[str]:
    """Returns RFC 3339 times that follow one another, the date only where it changes, the zone at the last one."""
    zone = None if is_terminal() else dt.UTC  # None is the zone of this machine
    times = [dt.datetime.fromisoformat(text).astimezone(zone) for text in texts]
    days = [None, *(time.date() for time in times)]
    dated = [
        f"{t:%Y-%m-%d %H:%M:%S}" if t.date() != day else f"{t:%H:%M:%S}" for t, day in zip(times, days, strict=False)
    ]
    return [f"{text} {times[-1]:%Z}" if n == len(dated) else text for n, text in enumerate(dated, start=1)]


def is_terminal() -> bool:
    """Returns whether a person reads stdout."""
    return sys.stdout.isatty()


def line_width() -> int:
    """Returns the width of the terminal; for a pipe so much that no line is broken."""
    return shutil.get_terminal_size().columns if is_terminal() else 1_000_000


def format_time(text: str | None) -> str:
    """Returns an RFC 3339 time to the second, as `2026-03-04 10:00:01Z`; "" for None. A terminal gets local time."""
    if text and is_terminal():
        return f"{dt.datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    return text[:19].replace("T", " ") + "Z" if text else ""

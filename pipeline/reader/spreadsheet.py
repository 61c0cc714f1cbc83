"""Writes workbooks in which a text stays a text: no spreadsheet runs a formula from data."""

import contextlib
import datetime as dt
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.worksheet import Worksheet

FORMULA = re.compile(r"^[=+\-@\t\r]")  # a spreadsheet may run a text that begins so
MOST_SHEET_ROWS = 1_048_575  # below the header
_LONGEST_CELL = 32_767  # characters
_MOST_DIGITS = 15  # a spreadsheet keeps numbers as doubles, and rounds after so many digits
_FIRST_DAY = dt.date(1900, 3, 1)  # spreadsheets count a 29 February 1900, and know no earlier time
_FORMATS: Mapping[type, str] = {dt.date: "yyyy-mm-dd", dt.datetime: "yyyy-mm-dd hh:mm:ss"}


class ExportError(Exception):
    """Rows cannot be written to a file; the message names the next step."""


@contextlib.contextmanager
def complete_file(out: Path) -> Iterator[Path]:
    """Yields the path to write to. Its file gets the name `out` if all goes well, and is removed if not."""
    if out.is_dir():
        raise ExportError(f"{out} is a folder; name a file with --out")
    if not out.absolute().parent.is_dir():
        raise ExportError(f"{out.absolute().parent} is no folder; create it, or name another file with --out")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def open_workbook(path: Path) -> "Workbook":
    """Returns a new workbook that keeps one row in memory. Raises ExportError without its library."""
    try:
        import xlsxwriter
    except ImportError:
        sentence = "--to xlsx needs the library XlsxWriter; install it with `pip install 'lakegate[xlsx]'`"
        raise ExportError(f"{sentence}, or take --to csv") from None
    options = {f"strings_to_{kind}": False for kind in ("formulas", "urls", "numbers")}
    return xlsxwriter.Workbook(str(path), {"constant_memory": True, **options})


def write_sheet(path: Path, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Writes a workbook of one sheet. Returns the number of rows."""
    with open_workbook(path) as workbook:
        return add_sheet(workbook, name, columns, rows)


def add_sheet(workbook: "Workbook", name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Adds a sheet with a header to a workbook. Returns the number of rows below the header."""
    sheet = workbook.add_worksheet(sheet_name(name, [s.name for s in workbook.worksheets()]))
    sheet.freeze_panes(1, 0)
    bold = workbook.add_format({"bold": True})
    formats = {kind: workbook.add_format({"num_format": form}) for kind, form in _FORMATS.items()}
    for at, column in enumerate(columns):
        sheet.set_column(at, at, max(10, min(len(column) + 2, 40)))
        sheet.write_string(0, at, column, bold)
    count = 0
    for count, row in enumerate(rows, start=1):
        for at, value in enumerate(row):
            _write(sheet, (count, at), value, formats)
    return count


def sheet_name(name: str, used: Iterable[str] = ()) -> str:
    """Returns a name for a sheet: its last 31 characters, without those that spreadsheets refuse, and not used yet."""
    plain = re.sub(r"[\[\]:*?/\\\x00-\x1f']", "_", name)[-31:] or "sheet"
    taken = {u.casefold() for u in used}
    names = (plain, *(f"{plain[-27:]}_{number}" for number in range(2, 1000)))
    return next(n for n in names if n.casefold() not in taken)


def _write(sheet: "Worksheet", place: tuple[int, int], value: Any, formats: Mapping[type, Any]) -> None:
    match value:
        case None:
            return
        case bool():
            sheet.write_boolean(*place, value)
        case int() | Decimal() if len(str(value).strip("-").replace(".", "").strip("0")) <= _MOST_DIGITS:
            sheet.write_number(*place, float(value))
        case float() if math.isfinite(value):
            sheet.write_number(*place, value)
        case dt.datetime() if value.date() >= _FIRST_DAY:
            utc = value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
            sheet.write_datetime(*place, utc, formats[dt.datetime])
        case dt.date() if not isinstance(value, dt.datetime) and value >= _FIRST_DAY:
            sheet.write_datetime(*place, value, formats[dt.date])
        case _:
            text = value.hex() if isinstance(value, bytes) else str(value)
            if len(text) > _LONGEST_CELL:
                most = f"a cell of a spreadsheet has room for {_LONGEST_CELL:,}"
                raise ExportError(f"row {place[0]} has a text of {len(text):,} characters, and {most}; take --to csv")
            sheet.write_string(*place, text)

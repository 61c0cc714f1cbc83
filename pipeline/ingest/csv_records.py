"""Splits a delivered CSV file into records and their fields, block by block, without changing any field.

A delimiter separates fields, LF or CRLF ends a record, and a quote inside quotes is doubled. A line that breaks these
rules is an ill-formed record. A file that breaks them across lines raises a DataError with the line.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError
from pipeline.ingest.arrays import Booleans, Bytes, Integers
from pipeline.ingest.csv_encoding import ADVICE, check_utf_8, read_utf_8
from pipeline.model import Csv

BLOCK_BYTES = 8 << 20
LONGEST_RECORD_BYTES = 32 << 20  # after a quote that never closes, the rest of the file is one record in memory

_QUOTE = ord('"')
_LF = ord("\n")
_CR = ord("\r")
_PLAIN = Csv()


@dataclass(frozen=True, kw_only=True)
class Records:
    """Consecutive records of one file, without its blank lines."""

    fields: Any  # string array over the block itself: at even positions a field without its quotes, at odd ones a gap
    raw: Any  # string array: the text of each record without its line end
    first: Integers  # per record: the number of its first field
    width: Integers  # per record: the number of its fields
    well_formed: Booleans  # per record: quotes and carriage returns stand only at allowed places
    has_doubled_quotes: bool  # in any field of the block
    blank_lines: int

    def __len__(self) -> int:
        return len(self.first)

    def column(self, at: int, good: Booleans) -> Any:
        """Returns the field `at` of each record; null where the field is empty or the record is not `good`."""
        positions = 2 * np.where(good, self.first + at, 0)
        text = self.fields.take(pa.array(positions, mask=~good))
        text = pc.if_else(pc.equal(pc.binary_length(text), 0), None, text)
        return pc.replace_substring(text, '""', '"') if self.has_doubled_quotes else text

    def split_first(self) -> tuple["Records", "Records"]:
        """Returns the first record and the others; the count of blank lines stays with the others."""
        return self._select(slice(0, 1), 0), self._select(slice(1, None), self.blank_lines)

    def _select(self, rows: slice, blank_lines: int) -> "Records":
        return Records(
            fields=self.fields,
            raw=self.raw[rows],
            first=self.first[rows],
            width=self.width[rows],
            well_formed=self.well_formed[rows],
            has_doubled_quotes=self.has_doubled_quotes,
            blank_lines=blank_lines,
        )


@dataclass(frozen=True, kw_only=True)
class _Lines:
    """The physical lines of a block, with the state of quotes. A block starts with a record and ends with a line."""

    marks: Integers  # positions of all delimiters, quotes and LFs
    kinds: Bytes  # the byte at each mark
    inside: Booleans  # per mark: it lies within quotes; undefined in ill-formed lines
    open_after: Booleans  # per line: the line ends within quotes
    ill_formed: Booleans  # per line: it is a whole record whose quotes stand at wrong places
    broken: int  # the first line that proves a wrong quote in an earlier line, or -1
    has_doubled_quotes: bool


def read_records(file: BinaryIO, name: str, block_bytes: int = BLOCK_BYTES, csv: Csv = _PLAIN) -> Iterator[Records]:
    """Yields a CSV file's records in order, with the header as the first. Raises DataError with file and line."""
    blocks = read_utf_8(file, name, block_bytes, csv.encoding)
    rest = b""
    lines_before = 0
    at_end = False
    while not at_end:
        block = next(blocks, None)
        at_end = block is None
        data = rest + (block or b"")
        if at_end and data and not data.endswith(b"\n"):
            data += b"\n"
        whole_lines = data.rfind(b"\n") + 1
        check_utf_8(data[:whole_lines], name, lines_before)
        done = 0
        if whole_lines:
            records, done = _scan(np.frombuffer(data, np.uint8, whole_lines), name, lines_before, csv, at_end=at_end)
            yield records
        lines_before += data.count(b"\n", 0, done)
        rest = data[done:]
        if len(rest) > LONGEST_RECORD_BYTES:
            raise DataError(
                f"{name}: the record that starts in line {lines_before + 1} is longer than "
                f"{LONGEST_RECORD_BYTES >> 20} MB, as after a quote that is never closed; {ADVICE}"
            )


def _scan(block: Bytes, name: str, lines_before: int, csv: Csv, *, at_end: bool) -> tuple[Records, int]:
    """Returns the records that end in a block, and the number of bytes that they take."""
    delimiter = ord(csv.delimiter)
    lines = _read_lines(block, delimiter)
    if lines.broken >= 0 or (at_end and lines.open_after[-1]):
        line = lines_before + _line_of_open_quote(block, lines)
        raise DataError(f"{name}: the quote that opens in line {line} never closes, or closes where none may; {ADVICE}")
    is_lf = lines.kinds == _LF
    is_field_end = (lines.kinds == delimiter) & ~lines.inside
    is_field_end[is_lf] = ~lines.open_after
    ends = lines.marks[is_field_end]
    last = np.flatnonzero(lines.kinds[is_field_end] == _LF)  # the last field of each record
    if not len(last):
        return _records(block, ends[:0], last, np.zeros(0, np.bool_), csv, has_doubled_quotes=False), 0
    ends = ends[: last[-1] + 1]
    well_formed = ~lines.ill_formed[~lines.open_after]
    well_formed[_records_with_lone_cr(block, lines, ends[last])] = False
    records = _records(block, ends, last, well_formed, csv, has_doubled_quotes=lines.has_doubled_quotes)
    return records, int(ends[-1]) + 1


def _read_lines(block: Bytes, delimiter: int) -> _Lines:
    marks = np.flatnonzero((block == delimiter) | (block == _QUOTE) | (block == _LF))
    kinds = block[marks]
    is_lf = kinds == _LF
    is_quote = kinds == _QUOTE
    count = int(is_lf.sum())
    if not is_quote.any():
        return _lines_without_quotes(marks, kinds, count)

    line = np.cumsum(is_lf) - is_lf
    quotes = marks[is_quote]
    line_of_quote = line[is_quote]
    in_line = np.bincount(line_of_quote, minlength=count)
    before_line = np.cumsum(in_line) - in_line
    is_even = _is_odd(np.arange(len(quotes)) - before_line[line_of_quote])  # the 2nd, 4th, … quote of its line
    may_open, may_close, has_doubled_quotes = _allowed_quotes(block, quotes, delimiter)

    # Each line is checked twice: as if it began outside of quotes, and as if it began inside.
    bad_outside = np.zeros(count, np.bool_)
    bad_inside = np.zeros(count, np.bool_)
    bad_outside[line_of_quote[~np.where(is_even, may_close, may_open)]] = True
    bad_inside[line_of_quote[~np.where(is_even, may_open, may_close)]] = True
    open_after = _open_after(bad_outside, bad_inside, _is_odd(in_line))
    open_before = np.concatenate(([False], open_after[:-1]))
    broken = np.flatnonzero(open_before & bad_inside)
    inside = _is_odd(np.cumsum(is_quote) - is_quote - (before_line - open_before)[line])
    return _Lines(
        marks=marks,
        kinds=kinds,
        inside=inside,
        open_after=open_after,
        ill_formed=bad_outside & ~open_before,
        broken=int(broken[0]) if len(broken) else -1,
        has_doubled_quotes=has_doubled_quotes,
    )


def _lines_without_quotes(marks: Integers, kinds: Bytes, count: int) -> _Lines:
    none = np.zeros(count, np.bool_)
    return _Lines(
        marks=marks,
        kinds=kinds,
        inside=np.zeros(len(marks), np.bool_),
        open_after=none,
        ill_formed=none,
        broken=-1,
        has_doubled_quotes=False,
    )


def _allowed_quotes(block: Bytes, quotes: Integers, delimiter: int) -> tuple[Booleans, Booleans, bool]:
    """Returns, per quote, whether it may open a field and whether it may close one; and whether any quote is doubled.

    The second quote of a doubled pair may stand where a quote opens, and the first where a quote closes.
    """
    previous = np.where(quotes > 0, block[quotes - 1], _LF)
    following = block[quotes + 1]  # this byte exists, because a block ends with LF
    may_open = (previous == delimiter) | (previous == _LF) | (previous == _QUOTE)
    may_close = (following == delimiter) | (following == _LF) | (following == _QUOTE)
    before_cr = np.flatnonzero(following == _CR)
    may_close[before_cr] = block[quotes[before_cr] + 2] == _LF
    return may_open, may_close, bool((following == _QUOTE).any())


def _open_after(bad_outside: Booleans, bad_inside: Booleans, odd: Booleans) -> Booleans:
    """Returns, per line, whether it ends within quotes. `odd` lines have an odd number of quotes.

    Two kinds of lines fix the state. A line that is bad if it began inside must have begun outside, or the file is
    broken there and no later line counts. An odd line that is bad if it began outside ends outside: it is ill-formed,
    or it closes a quote. Between such lines, an odd line that is good in both cases flips the state. Others keep it.
    """
    fixes = bad_inside | (bad_outside & odd)
    fixed = bad_inside & odd & ~bad_outside
    flips = np.cumsum(odd & ~bad_outside & ~bad_inside)
    number = np.arange(len(odd))
    newest = np.maximum.accumulate(np.where(fixes, number, -1))
    known = newest >= 0
    return (known & fixed[newest]) ^ _is_odd(flips - np.where(known, flips[newest], 0))


def _is_odd(numbers: Integers) -> Booleans:
    return (numbers & 1).astype(np.bool_)


def _line_of_open_quote(block: Bytes, lines: _Lines) -> int:
    ends = lines.marks[lines.kinds == _LF]
    until = ends[lines.broken - 1] if lines.broken > 0 else len(block)
    opening = (lines.kinds == _QUOTE) & ~lines.inside & (lines.marks < until)
    quotes = lines.marks[opening]
    quotes = quotes[(quotes == 0) | (block[quotes - 1] != _QUOTE)]  # not the second of two
    return int(np.searchsorted(ends, quotes[-1])) + 1


def _records_with_lone_cr(block: Bytes, lines: _Lines, record_ends: Integers) -> Integers:
    """Returns the records with a carriage return outside of quotes and line ends: some readers end a record there."""
    returns = np.flatnonzero(block == _CR)
    lone = returns[block[returns + 1] != _LF]
    lone = lone[~lines.inside[np.searchsorted(lines.marks, lone)]]
    records: Integers = np.searchsorted(record_ends, lone[lone < record_ends[-1]])
    return records


def _records(
    block: Bytes, ends: Integers, last: Integers, well_formed: Booleans, csv: Csv, *, has_doubled_quotes: bool
) -> Records:
    """Returns the records of a block from the ends of all fields and the number of each record's last field."""
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int64)[: len(ends)]
    ends = ends.copy()
    ends[last] -= (ends[last] > starts[last]) & (block[ends[last] - 1] == _CR)
    width = np.diff(last, prepend=-1)
    first = last - width + 1
    raw = _spans(block, starts[first], ends[last])
    quoted = (block[starts] == _QUOTE) & np.repeat(well_formed, width)
    blank = starts[first] == ends[last]
    if csv.trim:
        single = np.flatnonzero(width == 1)  # only a record of one field can be a line of blanks
        trimmed = pc.utf8_trim_whitespace(raw.take(pa.array(2 * single)))
        blank[single] |= pc.equal(pc.utf8_length(trimmed), 0).to_numpy(zero_copy_only=False)
    keep = ~blank
    return Records(
        fields=_spans(block, starts + quoted, ends - quoted),
        raw=raw.take(pa.array(2 * np.flatnonzero(keep))),
        first=first[keep],
        width=width[keep],
        well_formed=well_formed[keep],
        has_doubled_quotes=has_doubled_quotes,
        blank_lines=int(blank.sum()),
    )


def _spans(block: Bytes, starts: Integers, ends: Integers) -> Any:
    """Returns a string array over the block itself, without a copy: spans at even positions, the gaps at odd ones."""
    if not len(starts):
        return pa.array([], pa.string())
    offsets = np.empty(2 * len(starts), np.int32)
    offsets[0::2], offsets[1::2] = starts, ends
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(block))

"""Bytes of a delivered CSV file to records and their fields, block by block, exactly as they stand.

Delimiters part fields, LF or CRLF ends a record, quotes are doubled inside quotes. What breaks these rules within one line
spoils that line only; what breaks them across lines, or is not of the declared encoding, raises a DataError with the line.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError
from pipeline.model import Csv

BLOCK_BYTES = 8 << 20
SAMPLE_BYTES = 4096  # of the start of a file, by which encodings of one and of two bytes a character are told apart
LONGEST_RECORD_BYTES = 32 << 20  # an open quote swallows what follows: this bounds the memory that it can take
AGAIN = "correct the file and land a new trigger"

_QUOTE, _LF, _CR = ord('"'), ord("\n"), ord("\r")
_BOM = b"\xef\xbb\xbf"
_PLAIN = Csv()

Numbers = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Records:
    """Consecutive records of one file, without its blank lines."""

    fields: Any  # string array over the block itself: at even places a field without its quotes, at odd ones what parts fields
    raw: Any  # string array: each record's text without its line end
    first: Numbers  # per record: which field is its first
    width: Numbers  # per record: how many fields it has
    sound: Truths  # per record: quotes and carriage returns stand only where they may
    doubled: bool  # somewhere in the block quotes are doubled
    blank_lines: int

    def __len__(self) -> int:
        return len(self.first)

    def column(self, at: int, good: Truths) -> Any:
        """Takes the field `at` of each record; null where it is empty or the record is not `good`."""
        place = 2 * np.where(good, self.first + at, 0)
        text = self.fields.take(pa.array(place, mask=~good))
        text = pc.if_else(pc.equal(pc.binary_length(text), 0), None, text)
        return pc.replace_substring(text, '""', '"') if self.doubled else text

    def split_first(self) -> tuple["Records", "Records"]:
        """Parts the first record from the others, which keep the blank lines."""
        return self._part(slice(0, 1), 0), self._part(slice(1, None), self.blank_lines)

    def _part(self, part: slice, blank_lines: int) -> "Records":
        return Records(
            fields=self.fields,
            raw=self.raw[part],
            first=self.first[part],
            width=self.width[part],
            sound=self.sound[part],
            doubled=self.doubled,
            blank_lines=blank_lines,
        )


@dataclass(frozen=True, kw_only=True)
class _Lines:
    """The physical lines of a block as the quotes see them. A block starts where a record does, and ends with a line."""

    marks: Numbers  # positions of all delimiters, quotes and LFs
    kinds: Bytes  # the byte at each mark
    inside: Truths  # per mark: within quotes; junk in spoiled lines, where nobody looks
    open_after: Truths  # per line: it ends within quotes
    spoiled: Truths  # per line: a record of its own whose quotes stand where none may
    broken: int  # the first line that shows that quotes opened in an earlier line went wrong, or -1
    doubled: bool


def read_records(file: BinaryIO, name: str, block_bytes: int = BLOCK_BYTES, csv: Csv = _PLAIN) -> Iterator[Records]:
    """Reads a CSV file's records in order, the header among them. Raises DataError naming the file and the line."""
    blocks = _blocks(file, name, block_bytes, csv.encoding)
    rest, lines_before, at_end = b"", 0, False
    while not at_end:
        block = next(blocks, None)
        at_end = block is None
        data = rest + (block or b"")
        if at_end and data and not data.endswith(b"\n"):
            data += b"\n"
        cut = data.rfind(b"\n") + 1
        _check_text(data[:cut], name, lines_before)
        done = 0
        if cut:
            records, done = _scan(np.frombuffer(data, np.uint8, cut), name, lines_before, csv, at_end=at_end)
            yield records
        lines_before += data.count(b"\n", 0, done)
        rest = data[done:]
        if len(rest) > LONGEST_RECORD_BYTES:
            raise DataError(
                f"{name}: the record that starts in line {lines_before + 1} is longer than {LONGEST_RECORD_BYTES >> 20} MB,"
                f" as after a quote that is never closed; {AGAIN}"
            )


def _blocks(file: BinaryIO, name: str, block_bytes: int, encoding: str) -> Iterator[bytes]:
    # The file in UTF-8 without a byte order mark; bytes that are declared to be UTF-8 are not yet checked.
    start = file.read(SAMPLE_BYTES)
    is_utf_8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    if start.startswith(_BOM) and not is_utf_8:
        raise DataError(f"{name}: the file is marked as UTF-8, not {encoding}; set encoding, or {AGAIN}")
    _check_width(start, name, encoding)
    blocks = _pieces(start.removeprefix(_BOM), file, block_bytes)
    yield from blocks if is_utf_8 else _decoded(blocks, name, encoding)


def _pieces(start: bytes, file: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    for at in range(0, len(start), block_bytes):
        yield start[at : at + block_bytes]
    while block := file.read(block_bytes):
        yield block


def _check_width(start: bytes, name: str, encoding: str) -> None:
    """Raises DataError where the file has characters of two bytes and the encoding has not, or the reverse.

    A zero byte is valid UTF-8 and a character of most encodings: without this look a header would be missed.
    """
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        if b"\0" not in start and b"\n" in start and _is_utf_8(start):
            raise DataError(f"{name}: the file is UTF-8, not {encoding}: it has no zero byte; set encoding, or {AGAIN}")
        return
    header = start.partition(b"\n")[0]
    little, big = header[1::2].count(0), header[::2].count(0)  # a Latin letter is its byte and a zero
    if little != big and not start.startswith((b"\xff\xfe", b"\xfe\xff")):
        likely = "utf-16-le" if little > big else "utf-16-be"
        unlike = f"the file is UTF-16 without a byte order mark, not {encoding}"
        raise DataError(f"{name}: {unlike}; set encoding to {likely}, or {AGAIN}")


def _is_utf_8(start: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(blocks: Iterator[bytes], name: str, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    suspect = _Suspect(encoding)
    at_start, lines_before = True, 0
    for block in chain(blocks, (b"",)):  # an empty one is the end
        suspect.look(block)
        state = decoder.getstate()
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as wrong:
            decoder.setstate(state)
            before = decoder.decode(block[: max(0, wrong.start + len(block) - len(wrong.object))])
            line = lines_before + before.count("\n") + 1
            raise DataError(
                f"{name}: line {line} is not {encoding} (byte 0x{wrong.object[wrong.start]:02x}); set encoding, or {AGAIN}"
            ) from None
        # Half a character is told like any other wrong byte.
        yield (text.removeprefix("\ufeff") if at_start else text).encode(errors="surrogatepass")
        at_start, lines_before = at_start and not text, lines_before + text.count("\n")
    if suspect.is_utf_8:
        raise DataError(
            f"{name}: every letter beyond ASCII is UTF-8, and none would make sense in {encoding}; set encoding, or {AGAIN}"
        )


class _Suspect:
    """Notices a UTF-8 file whose feed declares an encoding that takes any byte: umlauts would silently come out as two signs each."""

    def __init__(self, encoding: str) -> None:
        takes_any_byte = len(bytes(range(256)).decode(encoding, "replace")) == 256
        self._decoder = codecs.getincrementaldecoder("utf-8")() if takes_any_byte else None
        self._beyond_ascii = False

    def look(self, block: bytes) -> None:
        """Takes the next block; an empty one is the end."""
        if self._decoder and not (block and block.isascii() and self._decoder.getstate() == (b"", 0)):
            try:
                self._beyond_ascii |= not self._decoder.decode(block, final=not block).isascii()
            except UnicodeDecodeError:
                self._decoder = None

    @property
    def is_utf_8(self) -> bool:
        return self._decoder is not None and self._beyond_ascii


def _check_text(data: bytes, name: str, lines_before: int) -> None:
    try:
        data.isascii() or str(data, "utf-8")
    except UnicodeDecodeError as wrong:
        line = lines_before + data.count(b"\n", 0, wrong.start) + 1
        byte = data[wrong.start : wrong.start + 1]
        likely = byte.decode("cp1252", "replace")
        hint = f"; in cp1252 it is {likely}: set encoding, or " if likely.isalpha() else "; "
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            hint = ", it looks like UTF-16: set encoding, or "
        raise DataError(f"{name}: line {line} is not UTF-8 (byte 0x{byte.hex()}){hint}{AGAIN}") from None


def _scan(block: Bytes, name: str, lines_before: int, csv: Csv, *, at_end: bool) -> tuple[Records, int]:
    # Also tells how many bytes the records that end in the block take.
    delimiter = ord(csv.delimiter)
    lines = _read_lines(block, delimiter)
    if lines.broken >= 0 or (at_end and lines.open_after[-1]):
        line = lines_before + _line_of_open_quote(block, lines)
        raise DataError(f"{name}: the quote that opens in line {line} never closes, or closes where none may; {AGAIN}")
    is_lf = lines.kinds == _LF
    parts = (lines.kinds == delimiter) & ~lines.inside
    parts[is_lf] = ~lines.open_after
    ends, last = lines.marks[parts], np.flatnonzero(lines.kinds[parts] == _LF)
    if not len(last):
        return _records(block, ends[:0], last, np.zeros(0, np.bool_), csv, doubled=False), 0
    ends = ends[: last[-1] + 1]
    sound = ~lines.spoiled[~lines.open_after]
    sound[_records_with_lone_cr(block, lines, ends[last])] = False
    return _records(block, ends, last, sound, csv, doubled=lines.doubled), int(ends[-1]) + 1


def _read_lines(block: Bytes, delimiter: int) -> _Lines:
    marks = np.flatnonzero((block == delimiter) | (block == _QUOTE) | (block == _LF))
    kinds = block[marks]
    is_lf, is_quote = kinds == _LF, kinds == _QUOTE
    count = int(is_lf.sum())
    nowhere = np.zeros(count, np.bool_)
    if not is_quote.any():
        inside = np.zeros(len(marks), np.bool_)
        return _Lines(
            marks=marks, kinds=kinds, inside=inside, open_after=nowhere, spoiled=nowhere, broken=-1, doubled=False
        )

    line = np.cumsum(is_lf) - is_lf
    quotes, line_of_quote = marks[is_quote], line[is_quote]
    in_line = np.bincount(line_of_quote, minlength=count)
    before_line = np.cumsum(in_line) - in_line
    second = _odd(np.arange(len(quotes)) - before_line[line_of_quote])  # 2nd, 4th, … quote of its line
    may_open, may_close, doubled = _places(block, quotes, delimiter)

    # Each line is judged twice: as if it began outside of quotes, and as if it began inside.
    bad_outside, bad_inside = nowhere.copy(), nowhere.copy()
    bad_outside[line_of_quote[~np.where(second, may_close, may_open)]] = True
    bad_inside[line_of_quote[~np.where(second, may_open, may_close)]] = True
    open_after = _open_after(bad_outside, bad_inside, _odd(in_line))
    open_before = np.concatenate(([False], open_after[:-1]))
    broken = np.flatnonzero(open_before & bad_inside)
    inside = _odd(np.cumsum(is_quote) - is_quote - (before_line - open_before)[line])
    return _Lines(
        marks=marks,
        kinds=kinds,
        inside=inside,
        open_after=open_after,
        spoiled=bad_outside & ~open_before,
        broken=int(broken[0]) if len(broken) else -1,
        doubled=doubled,
    )


def _places(block: Bytes, quotes: Numbers, delimiter: int) -> tuple[Truths, Truths, bool]:
    # Of each quote: may it open (or be the second of two), may it close (or be the first of two)?
    previous = np.where(quotes > 0, block[quotes - 1], _LF)
    following = block[quotes + 1]  # there is one: a block ends with LF
    may_open = (previous == delimiter) | (previous == _LF) | (previous == _QUOTE)
    may_close = (following == delimiter) | (following == _LF) | (following == _QUOTE)
    before_cr = np.flatnonzero(following == _CR)
    may_close[before_cr] = block[quotes[before_cr] + 2] == _LF
    return may_open, may_close, bool((following == _QUOTE).any())


def _open_after(bad_outside: Truths, bad_inside: Truths, odd: Truths) -> Truths:
    # A line that is bad when begun inside can only have begun outside (or the file is broken there, and nothing after that
    # line counts); one that is bad when begun outside and odd ends outside either way: spoiled, or closing. These fix the
    # state. Between them, odd lines that are good both ways flip it, and all others leave it as it is.
    fixes = bad_inside | (bad_outside & odd)
    fixed = bad_inside & odd & ~bad_outside
    flips = np.cumsum(odd & ~bad_outside & ~bad_inside)
    number = np.arange(len(odd))
    newest = np.maximum.accumulate(np.where(fixes, number, -1))
    known = newest >= 0
    return (known & fixed[newest]) ^ _odd(flips - np.where(known, flips[newest], 0))


def _odd(numbers: Numbers) -> Truths:
    return (numbers & 1).astype(np.bool_)


def _line_of_open_quote(block: Bytes, lines: _Lines) -> int:
    ends = lines.marks[lines.kinds == _LF]
    until = ends[lines.broken - 1] if lines.broken > 0 else len(block)
    opening = (lines.kinds == _QUOTE) & ~lines.inside & (lines.marks < until)
    quotes = lines.marks[opening]
    quotes = quotes[(quotes == 0) | (block[quotes - 1] != _QUOTE)]  # not the second of two
    return int(np.searchsorted(ends, quotes[-1])) + 1


def _records_with_lone_cr(block: Bytes, lines: _Lines, record_ends: Numbers) -> Numbers:
    # A carriage return that neither ends a line nor stands in quotes is the end of a record to some readers and data to others.
    returns = np.flatnonzero(block == _CR)
    lone = returns[block[returns + 1] != _LF]
    lone = lone[~lines.inside[np.searchsorted(lines.marks, lone)]]
    records: Numbers = np.searchsorted(record_ends, lone[lone < record_ends[-1]])
    return records


def _records(block: Bytes, ends: Numbers, last: Numbers, sound: Truths, csv: Csv, *, doubled: bool) -> Records:
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int64)[: len(ends)]
    ends = ends.copy()
    ends[last] -= (ends[last] > starts[last]) & (block[ends[last] - 1] == _CR)
    width = np.diff(last, prepend=-1)
    first = last - width + 1
    raw = _spans(block, starts[first], ends[last])
    quoted = (block[starts] == _QUOTE) & np.repeat(sound, width)
    blank = starts[first] == ends[last]
    if csv.trim:
        alone = np.flatnonzero(width == 1)
        blank[alone] |= pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(raw.take(pa.array(2 * alone)))), 0).to_numpy(
            zero_copy_only=False
        )
    keep = ~blank
    return Records(
        fields=_spans(block, starts + quoted, ends - quoted),
        raw=raw.take(pa.array(2 * np.flatnonzero(keep))),
        first=first[keep],
        width=width[keep],
        sound=sound[keep],
        doubled=doubled,
        blank_lines=int(blank.sum()),
    )


def _spans(block: Bytes, starts: Numbers, ends: Numbers) -> Any:
    # A string array over the block itself, nothing copied: spans at even places, the gaps between them at odd ones.
    if not len(starts):
        return pa.array([], pa.string())
    offsets = np.empty(2 * len(starts), np.int32)
    offsets[0::2], offsets[1::2] = starts, ends
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(block))

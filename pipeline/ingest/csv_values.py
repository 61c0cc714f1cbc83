"""The grammar of values: parses texts into typed Arrow arrays, one column at a time, without an engine.

Nothing is rounded or guessed, and blanks are trimmed only where the feed declares that. A text that is not as a whole a
value of the type becomes null.
"""

import datetime as dt
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.arrays import Booleans, Bytes, Integers
from pipeline.model import Csv
from pipeline.model.date_patterns import DatePattern, date_pattern
from pipeline.schema import arrow_type

_SECOND = 1_000_000  # microseconds
_HOUR = 3600
_PLAIN = Csv()
_DATE_AND_TIME = date_pattern("yyyy-MM-dd HH:mm:ss")
_SEPARATOR_AT = 10  # the position of the blank between date and time, where a T may stand as well
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - it counts local times of any zone
_FIRST, _LAST = (
    int(np.datetime64(at, "us").astype(np.int64)) for at in ("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999")
)


def parse_values(text: Any, sql_type: str, csv: Csv = _PLAIN) -> Any:
    """Returns a string array as an Arrow array of a SQL type, read by the formats that `csv` declares.

    A null stays null, and a text outside of the grammar becomes null.
    """
    match sql_type:
        case "STRING":
            return text
        case "INT" | "BIGINT":
            return _integers(text, sql_type)
        case "BOOLEAN":
            return _booleans(text)
        case "DATE":
            return _dates(text, date_pattern(csv.date_format))
        case "TIMESTAMP":
            return _timestamps(text, csv)
        case _:
            return _decimals(text, arrow_type(sql_type), csv.decimal)


def trim(text: Any) -> Any:
    """Returns the values without the blanks around them; a value of blanks only becomes null."""
    bare = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(pc.binary_length(bare), 0), None, bare)


def _integers(text: Any, sql_type: str) -> Any:
    # Decimals come first: 19 digits may exceed 64 bits, and Arrow's own integer parser refuses "+5" and accepts "0x10".
    wide = _only(text, r"[+-]?0*[0-9]{1,19}").cast(pa.decimal128(19, 0))
    bits = 31 if sql_type == "INT" else 63
    lowest, highest = (pa.scalar(n, pa.int64()).cast(pa.decimal128(19, 0)) for n in (-(2**bits), 2**bits - 1))
    fits = pc.and_(pc.greater_equal(wide, lowest), pc.less_equal(wide, highest))
    return pc.if_else(fits, wide, None).cast(arrow_type(sql_type))


def _decimals(text: Any, arrow_decimal: Any, point: str) -> Any:
    whole_digits = arrow_decimal.precision - arrow_decimal.scale
    digits = f"0*[0-9]{{1,{whole_digits}}}" if whole_digits else "0+"
    fraction = rf"(?:[{point}][0-9]{{1,{arrow_decimal.scale}}})?" if arrow_decimal.scale else ""
    fits = _only(text, rf"[+-]?{digits}{fraction}")
    return (fits if point == "." else pc.replace_substring(fits, point, ".")).cast(arrow_decimal)


def _booleans(text: Any) -> Any:
    lower = pc.ascii_lower(text)
    return pc.if_else(pc.is_in(lower, pa.array(["true", "false"])), pc.equal(lower, "true"), None)


def _only(text: Any, pattern: str) -> Any:
    """Returns the texts that match a pattern as a whole, and null for the others."""
    fits = pc.match_substring_regex(text, rf"\A(?:{pattern})\z")
    return text if pc.all(fits).as_py() else pc.if_else(fits, text, None)


def _dates(text: Any, pattern: DatePattern) -> Any:
    data, starts, lengths = _spans(text)
    rows = np.flatnonzero(lengths == pattern.width)
    days, good = _days(_characters(data, starts[rows], pattern.width), pattern)
    return _array(len(text), rows[good], days[good].astype(np.int32), pa.date32())


def _timestamps(text: Any, csv: Csv) -> Any:
    data, starts, lengths = _spans(text)
    pattern = date_pattern(csv.timestamp_format) if csv.timestamp_format else _DATE_AND_TIME
    rows = np.flatnonzero(lengths == pattern.width if csv.timestamp_format else lengths >= pattern.width)
    chars = _characters(data, starts[rows], pattern.width)
    if not csv.timestamp_format:
        chars[:, _SEPARATOR_AT][chars[:, _SEPARATOR_AT] == ord("T")] = ord(" ")
    micros, good = _micros(chars, pattern)
    is_local = np.ones(len(rows), np.bool_)
    has_tail = lengths[rows] > pattern.width
    if has_tail.any():
        tail_starts = starts[rows][has_tail] + pattern.width
        shift, is_valid, names_zone = _tails(data, tail_starts, lengths[rows][has_tail] - pattern.width)
        micros[has_tail] += shift
        good[has_tail] &= is_valid
        is_local[has_tail] = ~names_zone
    if csv.time_zone != "UTC":
        to_shift = is_local & good
        micros[to_shift], good[to_shift] = _to_utc(micros[to_shift], csv.time_zone)
    good &= (micros >= _FIRST) & (micros <= _LAST)  # an offset may lead out of the years 0001 to 9999
    return _array(len(text), rows[good], micros[good], arrow_type("TIMESTAMP"))


def _days(chars: Bytes, pattern: DatePattern) -> tuple[Integers, Booleans]:
    """Returns the days since 1970 of dates, and whether each is a date. `chars` has one row for each text."""
    digits = chars - np.uint8(ord("0"))
    good = (digits[:, [place for places in pattern.digits.values() for place in places]] <= 9).all(axis=1)
    for place, sign in pattern.signs.items():
        good &= chars[:, place] == sign
    year, month, day = (_number(digits, *pattern.digits[letter]) for letter in "yMd")
    first = (12 * (year - 1970) + month - 1).view("datetime64[M]")
    date = first.astype("datetime64[D]") + (day - 1).view("timedelta64[D]")
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    good &= date.astype("datetime64[M]") == first  # numpy counts a 30th of February as a day of March
    return date.view(np.int64), good


def _micros(chars: Bytes, pattern: DatePattern) -> tuple[Integers, Booleans]:
    """Returns the microseconds since 1970 of times without a zone, and whether each is a time."""
    days, good = _days(chars, pattern)
    digits = chars - np.uint8(ord("0"))
    hour, minute, second, fraction = (_number(digits, *pattern.digits.get(letter, ())) for letter in "HmsS")
    good &= (hour <= 23) & (minute <= 59) & (second <= 59)
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    return seconds * _SECOND + fraction * 10 ** (6 - len(pattern.digits.get("S", ()))), good


def _to_utc(local: Integers, zone: str) -> tuple[Integers, Booleans]:
    """Returns local times in UTC, and whether each time exists in the zone. Both are in microseconds since 1970.

    In nearly every hour a zone has one offset. Only in the hours in which clocks change, each time is looked up.
    """
    hours, hour_of_row = np.unique(local // (_HOUR * _SECOND), return_inverse=True)
    offset_of_hour = [_offset_of_hour(zone, hour) for hour in hours.tolist()]
    offsets = np.array([offset or 0 for offset in offset_of_hour], np.int64)[hour_of_row]
    exists = np.ones(len(local), np.bool_)
    changes = np.array([offset is None for offset in offset_of_hour], np.bool_)
    for row in np.flatnonzero(changes[hour_of_row]).tolist():
        offset = _offset(zone, int(local[row]) // _SECOND)
        offsets[row] = offset or 0
        exists[row] = offset is not None
    return local - offsets * _SECOND, exists


@lru_cache(maxsize=1 << 17)
def _offset_of_hour(zone: str, hour: int) -> int | None:
    """Returns the offset of an hour in seconds; None where the clocks change within the hour or at its ends."""
    try:
        ends = [_EPOCH + dt.timedelta(hours=hour + end) for end in (0, 1)]
    except OverflowError:
        return None
    offsets = {time.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for time in ends for fold in (0, 1)}
    return _in_seconds(offsets.pop()) if len(offsets) == 1 else None


@lru_cache(maxsize=1 << 13)
def _offset(zone: str, second: int) -> int | None:
    """Returns the offset of a local time in seconds; None for a time that the clocks skip.

    A time that the clocks repeat means its first occurrence, as in Java and Spark.
    """
    time = (_EPOCH + dt.timedelta(seconds=second)).replace(tzinfo=ZoneInfo(zone))
    before, after = (_in_seconds(time.replace(fold=fold).utcoffset()) for fold in (0, 1))
    return before if before >= after else None


def _in_seconds(offset: dt.timedelta | None) -> int:
    assert offset is not None, "every zone has an offset at every time"
    return offset // dt.timedelta(seconds=1)


def _tails(data: Bytes, starts: Integers, lengths: Integers) -> tuple[Integers, Booleans, Booleans]:
    """Parses the texts behind the seconds: `[.f{1,6}][Z|±hh:mm]`.

    Returns, per text, the microseconds to add, whether the text matches, and whether it names a zone.
    """
    ends = starts + lengths
    # 19 characters stand before each tail, so reading at `ends - 6` is safe also for a short one.
    sign = data[ends - 6]
    offset = (lengths >= 6) & ((sign == ord("+")) | (sign == ord("-"))) & (data[ends - 3] == ord(":"))
    zone = np.where(data[ends - 1] == ord("Z"), 1, np.where(offset, 6, 0))
    places = lengths - zone - 1  # without the point
    good = (places == -1) | ((places >= 1) & (places <= 6) & (data[starts] == ord(".")))
    micros = np.zeros(len(starts), np.int64)
    for place in range(6):
        inside = good & (place < places)
        digit = np.where(inside, data[np.where(inside, starts + 1 + place, 0)], ord("0")) - np.uint8(ord("0"))
        good &= digit <= 9
        micros = 10 * micros + digit
    digits = _characters(data, ends - 6, 6) - np.uint8(ord("0"))
    hours, minutes = _number(digits, 1, 2), _number(digits, 4, 5)
    # Zones of Java and Spark reach 18 hours to either side.
    is_in_range = (digits[:, [1, 2, 4, 5]] <= 9).all(axis=1) & (minutes <= 59) & (60 * hours + minutes <= 18 * 60)
    east = np.where(offset, np.where(sign == ord("+"), 1, -1) * (60 * hours + minutes), 0)
    return micros - 60 * _SECOND * east, good & (is_in_range | ~offset), zone > 0


def _number(digits: Bytes, *places: int) -> Integers:
    """Returns, per row, the number that the digits at these positions form; 0 for no position."""
    value = np.zeros(len(digits), np.int64)
    for place in places:
        value = 10 * value + digits[:, place]
    return value


def _spans(text: Any) -> tuple[Bytes, Integers, Integers]:
    """Returns the bytes of a string array, and the start and length of each value (0 for null)."""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1].astype(np.int64)
    lengths = np.diff(bounds)
    if text.null_count:
        lengths[pc.is_null(text).to_numpy(zero_copy_only=False)] = 0
    return np.frombuffer(data or b"", np.uint8), bounds[:-1], lengths


def _characters(data: Bytes, starts: Integers, width: int) -> Bytes:
    """Returns `width` bytes from each start, as one row of a table each."""
    chars: Bytes = data[starts[:, None] + np.arange(width)]
    return chars


def _array(length: int, rows: Integers, values: npt.NDArray[Any], target: Any) -> Any:
    """Returns an Arrow array that holds the values at these rows and null at all others."""
    everywhere = np.zeros(length, values.dtype)
    everywhere[rows] = values
    is_null = np.ones(length, np.bool_)
    is_null[rows] = False
    return pa.array(everywhere, mask=is_null).cast(target)

"""The one grammar of values: text to typed Arrow arrays, a column at a time, without an engine.

Nothing is rounded or guessed, and nothing trimmed unless declared: a text that is not wholly a value of the type becomes null.
"""

import datetime as dt
import re
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.model import Csv
from pipeline.model.date_patterns import DatePattern, date_pattern

Numbers = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

_TYPES = {
    "STRING": pa.string(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_SECOND = 1_000_000  # microseconds
_HOUR = 3600
_PLAIN = Csv()
_DATE_AND_TIME = date_pattern("yyyy-MM-dd HH:mm:ss")
_BETWEEN = 10  # where a T may stand for the blank
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - of local times
_FIRST, _LAST = (
    int(np.datetime64(at, "us").astype(np.int64)) for at in ("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999")
)


def arrow_type(kind: str) -> Any:
    """Tells the Arrow type of a SQL type of this lake (`STRING`, `DECIMAL(12,2)`, …)."""
    found = _DECIMAL.fullmatch(kind)
    return pa.decimal128(int(found[1]), int(found[2])) if found else _TYPES[kind]


def typed(text: Any, kind: str, csv: Csv = _PLAIN) -> Any:
    """Reads a string array as a SQL type, as `csv` says that values are written; what is outside the grammar is null, as is what was null."""
    match kind:
        case "STRING":
            return text
        case "INT" | "BIGINT":
            return _integers(text, kind)
        case "BOOLEAN":
            return _booleans(text)
        case "DATE":
            return _dates(text, date_pattern(csv.date_format))
        case "TIMESTAMP":
            return _timestamps(text, csv)
        case _:
            return _decimals(text, arrow_type(kind), csv.decimal)


def trimmed(text: Any) -> Any:
    """Takes the blanks around each value away; what was nothing else is null."""
    bare = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(pc.binary_length(bare), 0), None, bare)


def _integers(text: Any, kind: str) -> Any:
    # By way of decimals: 19 digits may exceed 64 bits, and Arrow's own integers refuse "+5" and read "0x10".
    wide = _only(text, r"[+-]?0*[0-9]{1,19}").cast(pa.decimal128(19, 0))
    bits = 31 if kind == "INT" else 63
    lowest, highest = (pa.scalar(n, pa.int64()).cast(pa.decimal128(19, 0)) for n in (-(2**bits), 2**bits - 1))
    fits = pc.and_(pc.greater_equal(wide, lowest), pc.less_equal(wide, highest))
    return pc.if_else(fits, wide, None).cast(arrow_type(kind))


def _decimals(text: Any, kind: Any, point: str) -> Any:
    whole, places = kind.precision - kind.scale, kind.scale
    digits = f"0*[0-9]{{1,{whole}}}" if whole else "0+"
    fraction = rf"(?:[{point}][0-9]{{1,{places}}})?" if places else ""
    fits = _only(text, rf"[+-]?{digits}{fraction}")
    return (fits if point == "." else pc.replace_substring(fits, point, ".")).cast(kind)


def _booleans(text: Any) -> Any:
    lower = pc.ascii_lower(text)
    return pc.if_else(pc.is_in(lower, pa.array(["true", "false"])), pc.equal(lower, "true"), None)


def _only(text: Any, pattern: str) -> Any:
    fits = pc.match_substring_regex(text, rf"\A(?:{pattern})\z")
    return text if pc.all(fits).as_py() else pc.if_else(fits, text, None)


def _dates(text: Any, form: DatePattern) -> Any:
    data, starts, lengths = _spans(text)
    rows = np.flatnonzero(lengths == form.width)
    days, good = _days(_cut(data, starts[rows], form.width), form)
    return _placed(len(text), rows[good], days[good].astype(np.int32), pa.date32())


def _timestamps(text: Any, csv: Csv) -> Any:
    data, starts, lengths = _spans(text)
    form = date_pattern(csv.timestamp_format) if csv.timestamp_format else _DATE_AND_TIME
    rows = np.flatnonzero(lengths == form.width if csv.timestamp_format else lengths >= form.width)
    chars = _cut(data, starts[rows], form.width)
    if not csv.timestamp_format:
        chars[:, _BETWEEN][chars[:, _BETWEEN] == ord("T")] = ord(" ")
    at, good = _micros(chars, form)
    local = np.ones(len(rows), np.bool_)
    tails = lengths[rows] > form.width
    if tails.any():
        shift, sound, zoned = _tails(data, starts[rows][tails] + form.width, lengths[rows][tails] - form.width)
        at[tails] += shift
        good[tails] &= sound
        local[tails] = ~zoned
    if csv.time_zone != "UTC":
        at[local & good], good[local & good] = _in_utc(at[local & good], csv.time_zone)
    good &= (at >= _FIRST) & (at <= _LAST)  # an offset may lead out of the years 0001 to 9999
    return _placed(len(text), rows[good], at[good], arrow_type("TIMESTAMP"))


def _days(chars: Bytes, form: DatePattern) -> tuple[Numbers, Truths]:
    digits = chars - np.uint8(ord("0"))
    good = (digits[:, [place for places in form.digits.values() for place in places]] <= 9).all(axis=1)
    for place, sign in form.signs.items():
        good &= chars[:, place] == sign
    year, month, day = (_number(digits, *form.digits[letter]) for letter in "yMd")
    first = (12 * (year - 1970) + month - 1).view("datetime64[M]")
    date = first.astype("datetime64[D]") + (day - 1).view("timedelta64[D]")
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    good &= date.astype("datetime64[M]") == first  # the 30th of February lies in March
    return date.view(np.int64), good


def _micros(chars: Bytes, form: DatePattern) -> tuple[Numbers, Truths]:
    days, good = _days(chars, form)
    digits = chars - np.uint8(ord("0"))
    hour, minute, second, fraction = (_number(digits, *form.digits.get(letter, ())) for letter in "HmsS")
    good &= (hour <= 23) & (minute <= 59) & (second <= 59)
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    return seconds * _SECOND + fraction * 10 ** (6 - len(form.digits.get("S", ()))), good


def _in_utc(local: Numbers, zone: str) -> tuple[Numbers, Truths]:
    # Local times to UTC. In nearly every hour the zone's offset is one and the same; only the hours in which clocks are
    # changed are looked at time by time.
    hours, place = np.unique(local // (_HOUR * _SECOND), return_inverse=True)
    steady = [_offset_of_hour(zone, hour) for hour in hours.tolist()]
    offsets = np.array([offset or 0 for offset in steady], np.int64)[place]
    real = np.ones(len(local), np.bool_)
    for row in np.flatnonzero(np.array([offset is None for offset in steady], np.bool_)[place]).tolist():
        offset = _offset(zone, int(local[row]) // _SECOND)
        offsets[row], real[row] = offset or 0, offset is not None
    return local - offsets * _SECOND, real


@lru_cache(maxsize=1 << 17)
def _offset_of_hour(zone: str, hour: int) -> int | None:
    # Seconds; None where the clocks are changed within this hour, or about it.
    try:
        ends = [_EPOCH + dt.timedelta(hours=hour + end) for end in (0, 1)]
    except OverflowError:
        return None
    offsets = {time.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for time in ends for fold in (0, 1)}
    return _in_seconds(offsets.pop()) if len(offsets) == 1 else None


@lru_cache(maxsize=1 << 13)
def _offset(zone: str, second: int) -> int | None:
    # None for a time that the clocks skip; of a time that they repeat the first is meant, as Java and Spark have it.
    time = (_EPOCH + dt.timedelta(seconds=second)).replace(tzinfo=ZoneInfo(zone))
    before, after = (_in_seconds(time.replace(fold=fold).utcoffset()) for fold in (0, 1))
    return before if before >= after else None


def _in_seconds(offset: dt.timedelta | None) -> int:
    assert offset is not None, "a zone knows its offset"
    return offset // dt.timedelta(seconds=1)


def _tails(data: Bytes, starts: Numbers, lengths: Numbers) -> tuple[Numbers, Truths, Truths]:
    # `[.f{1,6}][Z|±hh:mm]`: the microseconds to add, whether it is nothing else, and whether it names a zone.
    ends = starts + lengths
    # The 19 characters before a tail make the looks at `ends - 6` safe, however short it is.
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
    digits = _cut(data, ends - 6, 6) - np.uint8(ord("0"))
    hours, minutes = _number(digits, 1, 2), _number(digits, 4, 5)
    # 18 hours either way are the widest that Java's and Spark's own zones reach.
    possible = (digits[:, [1, 2, 4, 5]] <= 9).all(axis=1) & (minutes <= 59) & (60 * hours + minutes <= 18 * 60)
    east = np.where(offset, np.where(sign == ord("+"), 1, -1) * (60 * hours + minutes), 0)
    return micros - 60 * _SECOND * east, good & (possible | ~offset), zone > 0


def _number(digits: Bytes, *places: int) -> Numbers:
    value = np.zeros(len(digits), np.int64)
    for place in places:
        value = 10 * value + digits[:, place]
    return value


def _spans(text: Any) -> tuple[Bytes, Numbers, Numbers]:
    # The bytes of a string array, where each value starts, and how long it is (null: 0).
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1].astype(np.int64)
    lengths = np.diff(bounds)
    if text.null_count:
        lengths[pc.is_null(text).to_numpy(zero_copy_only=False)] = 0
    return np.frombuffer(data or b"", np.uint8), bounds[:-1], lengths


def _cut(data: Bytes, starts: Numbers, width: int) -> Bytes:
    chars: Bytes = data[starts[:, None] + np.arange(width)]
    return chars


def _placed(length: int, rows: Numbers, values: npt.NDArray[Any], kind: Any) -> Any:
    everywhere, missing = np.zeros(length, values.dtype), np.ones(length, np.bool_)
    everywhere[rows], missing[rows] = values, False
    return pa.array(everywhere, mask=missing).cast(kind)

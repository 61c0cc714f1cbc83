"""The one grammar of values: text to typed Arrow arrays, a column at a time, without an engine.

Nothing is trimmed, rounded or guessed: a text that is not wholly a value of the type becomes null.
"""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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
_FIRST, _LAST = (int(np.datetime64(at, "us").astype(np.int64)) for at in ("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999"))


def arrow_type(kind: str) -> Any:
    """Tells the Arrow type of a SQL type of this lake (`STRING`, `DECIMAL(12,2)`, …)."""
    found = _DECIMAL.fullmatch(kind)
    return pa.decimal128(int(found[1]), int(found[2])) if found else _TYPES[kind]


def typed(text: Any, kind: str) -> Any:
    """Reads a string array as a SQL type; what is outside the grammar is null, as is what was null."""
    match kind:
        case "STRING":
            return text
        case "INT" | "BIGINT":
            return _integers(text, kind)
        case "BOOLEAN":
            return _booleans(text)
        case "DATE":
            return _dates(text)
        case "TIMESTAMP":
            return _timestamps(text)
        case _:
            return _decimals(text, arrow_type(kind))


def _integers(text: Any, kind: str) -> Any:
    # By way of decimals: 19 digits may exceed 64 bits, and Arrow's own integers refuse "+5" and read "0x10".
    wide = _only(text, r"[+-]?0*[0-9]{1,19}").cast(pa.decimal128(19, 0))
    bits = 31 if kind == "INT" else 63
    lowest, highest = (pa.scalar(n, pa.int64()).cast(pa.decimal128(19, 0)) for n in (-(2**bits), 2**bits - 1))
    fits = pc.and_(pc.greater_equal(wide, lowest), pc.less_equal(wide, highest))
    return pc.if_else(fits, wide, None).cast(arrow_type(kind))


def _decimals(text: Any, kind: Any) -> Any:
    whole, places = kind.precision - kind.scale, kind.scale
    digits = f"0*[0-9]{{1,{whole}}}" if whole else "0+"
    fraction = rf"(?:[.][0-9]{{1,{places}}})?" if places else ""
    return _only(text, rf"[+-]?{digits}{fraction}").cast(kind)


def _booleans(text: Any) -> Any:
    lower = pc.ascii_lower(text)
    return pc.if_else(pc.is_in(lower, pa.array(["true", "false"])), pc.equal(lower, "true"), None)


def _only(text: Any, pattern: str) -> Any:
    fits = pc.match_substring_regex(text, rf"\A(?:{pattern})\z")
    return text if pc.all(fits).as_py() else pc.if_else(fits, text, None)


def _dates(text: Any) -> Any:
    data, starts, lengths = _spans(text)
    rows = np.flatnonzero(lengths == 10)
    days, good = _days(_cut(data, starts[rows], 10))
    return _placed(len(text), rows[good], days[good].astype(np.int32), pa.date32())


def _timestamps(text: Any) -> Any:
    data, starts, lengths = _spans(text)
    rows = np.flatnonzero(lengths >= 19)
    at, good = _seconds(_cut(data, starts[rows], 19))
    at *= _SECOND
    tails = lengths[rows] > 19
    if tails.any():
        shift, sound = _tails(data, starts[rows][tails] + 19, lengths[rows][tails] - 19)
        at[tails] += shift
        good[tails] &= sound
    good &= (at >= _FIRST) & (at <= _LAST)  # an offset may lead out of the years 0001 to 9999
    return _placed(len(text), rows[good], at[good], arrow_type("TIMESTAMP"))


def _days(chars: Bytes) -> tuple[Numbers, Truths]:
    digits = chars - np.uint8(ord("0"))
    good = (chars[:, 4] == ord("-")) & (chars[:, 7] == ord("-")) & (digits[:, [0, 1, 2, 3, 5, 6, 8, 9]] <= 9).all(axis=1)
    year, month, day = _number(digits, 0, 1, 2, 3), _number(digits, 5, 6), _number(digits, 8, 9)
    first = (12 * (year - 1970) + month - 1).view("datetime64[M]")
    date = first.astype("datetime64[D]") + (day - 1).view("timedelta64[D]")
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    good &= date.astype("datetime64[M]") == first  # the 30th of February lies in March
    return date.view(np.int64), good


def _seconds(chars: Bytes) -> tuple[Numbers, Truths]:
    days, good = _days(chars)
    digits = chars - np.uint8(ord("0"))
    good &= (chars[:, 10] == ord(" ")) | (chars[:, 10] == ord("T"))
    good &= (chars[:, 13] == ord(":")) & (chars[:, 16] == ord(":")) & (digits[:, [11, 12, 14, 15, 17, 18]] <= 9).all(axis=1)
    hour, minute, second = _number(digits, 11, 12), _number(digits, 14, 15), _number(digits, 17, 18)
    good &= (hour <= 23) & (minute <= 59) & (second <= 59)
    return ((days * 24 + hour) * 60 + minute) * 60 + second, good


def _tails(data: Bytes, starts: Numbers, lengths: Numbers) -> tuple[Numbers, Truths]:
    # `[.f{1,6}][Z|±hh:mm]`: the microseconds to add, and whether it is nothing else.
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
    return micros - 60 * _SECOND * east, good & (possible | ~offset)


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

"""Builds columns of CSV files as Arrow arrays, from arrays of whole numbers."""

import datetime as dt
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HOUR = 3600  # seconds
DAY = 24 * HOUR

Numbers = npt.NDArray[np.int64]


def seconds_of(date: dt.date) -> int:
    """Returns the seconds from 1970 to the start of a date."""
    return (date - dt.date(1970, 1, 1)).days * DAY


def dates(seconds: Numbers | int) -> pa.Array:
    """Returns the dates of seconds since 1970."""
    return pa.array((np.asarray(seconds) // DAY).astype("datetime64[D]"))


def timestamps(seconds: Numbers) -> pa.Array:
    """Returns the timestamps of seconds since 1970."""
    return pa.array(seconds.astype("datetime64[s]"))


def text(numbers: Numbers, width: int = 0) -> pa.Array:
    """Returns numbers as text, with leading zeros up to the width."""
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")


def ids(prefix: str, numbers: Numbers) -> pa.Array:
    """Returns ids of a prefix and nine digits."""
    return concatenate(prefix, text(numbers, 9))


def decimals(numbers: Numbers, places: int) -> pa.Array:
    """Returns decimal numbers with this many places; `numbers` count the last place."""
    return concatenate(text(numbers // 10**places), ".", text(numbers % 10**places, places))


def concatenate(*parts: "pa.Array | str") -> pa.Array:
    """Returns the concatenation of the parts, row by row."""
    return pc.binary_join_element_wise(*parts, "")


def choose(choices: Sequence[str], numbers: Numbers) -> pa.Array:
    """Returns the choices at these positions."""
    return pa.array(choices).take(pa.array(numbers))


def repeat(value: str, numbers: Numbers) -> pa.Array:
    """Returns one value for each number."""
    return pa.repeat(value, len(numbers))

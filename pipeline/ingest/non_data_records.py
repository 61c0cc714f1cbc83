"""Finds records that are no data: the header again, where files were put together, and lines of dashes."""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.csv_header import Header, bound_names
from pipeline.model import Feed

HEADER_AGAIN = "record_is_no_header"
SEPARATOR = "record_is_no_separator_line"
DESCRIPTIONS = {
    HEADER_AGAIN: "a record holds values, not the names of columns again",
    SEPARATOR: "a record holds values, not only dashes and the like",
}

_DASHES = "-=_+*~#|"
_DRAWN = "\u2010-\u2015\u2500-\u257f"  # dashes and lines beyond ASCII, as a class
_AROUND = '\\s\\pZ"\ufeff\x1a'  # a byte order mark before each part, and DOS's end of file behind it
_MARK = "\ufeff"


def no_data(feed: Feed, header: Header, raw: Any) -> Any:
    """Names, for each record's text, why it is no data; null where it is data, or ill-formed for another reason.

    Both patterns begin where the text does, so that nearly every record is passed by at its first character.
    """
    delimiter = re.escape(feed.csv.delimiter)
    dashes = re.escape(_DASHES.replace(feed.csv.delimiter, "")) + _DRAWN
    separators = pc.match_substring_regex(raw, rf"\A[{_AROUND}{delimiter}]*[{dashes}][{_AROUND}{delimiter}{dashes}]*\z")
    first = "|".join(re.escape(name) for name in header.first_names)
    maybe = pc.match_substring_regex(raw, rf"(?i)\A[{_AROUND}]*(?:{first})[{_AROUND}]*(?:{delimiter}|\z)")
    reasons = pc.if_else(separators, SEPARATOR, pa.scalar(None, pa.string()))
    if not pc.any(maybe).as_py():
        return reasons
    again = np.zeros(len(raw), np.bool_)
    for row in np.flatnonzero(maybe.to_numpy(zero_copy_only=False)).tolist():
        again[row] = bound_names(feed, _fields(raw[row].as_py(), feed.csv.delimiter)) == header.names
    return pc.if_else(pa.array(again), HEADER_AGAIN, reasons)


def _fields(raw: str, delimiter: str) -> Iterable[str]:
    # Of the text, since a mark before a quote makes the record an ill-formed one.
    text = io.StringIO(raw.lstrip(_MARK), newline="")
    try:
        return [name.strip(_MARK) for name in next(csv.reader(text, delimiter=delimiter), [])]
    except csv.Error:
        return []

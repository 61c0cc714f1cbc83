"""Finds records that are no data: a repeated header, as in joined files, and lines of dashes."""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ingest.csv_header import Header, bind_names
from pipeline.model import Feed

HEADER_AGAIN = "record_is_no_header"
SEPARATOR = "record_is_no_separator_line"
DESCRIPTIONS = {
    HEADER_AGAIN: "a record holds values, not the names of columns again",
    SEPARATOR: "a record holds values, not only dashes and the like",
}

_DASHES = "-=_+*~#|"
_LINES = "\u2010-\u2015\u2500-\u257f"  # dashes and lines beyond ASCII, as a class of a pattern
_AROUND = '\\s\\pZ"\ufeff\x1a'  # joined files leave a byte order mark before a part, and DOS's end of file behind it
_BOM = "\ufeff"


def non_data_reasons(feed: Feed, header: Header, raw: Any) -> Any:
    """Returns, for each record's text, the reason why it is no data; null for all other records.

    Both patterns are bound to the start of the text, so nearly every record fails them at its first character.
    """
    delimiter = re.escape(feed.csv.delimiter)
    dashes = re.escape(_DASHES.replace(feed.csv.delimiter, "")) + _LINES
    separators = pc.match_substring_regex(raw, rf"\A[{_AROUND}{delimiter}]*[{dashes}][{_AROUND}{delimiter}{dashes}]*\z")
    first = "|".join(re.escape(name) for name in header.first_names)
    may_be_header = pc.match_substring_regex(raw, rf"(?i)\A[{_AROUND}]*(?:{first})[{_AROUND}]*(?:{delimiter}|\z)")
    reasons = pc.if_else(separators, SEPARATOR, pa.scalar(None, pa.string()))
    if not pc.any(may_be_header).as_py():
        return reasons
    is_header = np.zeros(len(raw), np.bool_)
    for row in np.flatnonzero(may_be_header.to_numpy(zero_copy_only=False)).tolist():
        is_header[row] = bind_names(feed, _fields(raw[row].as_py(), feed.csv.delimiter)) == header.names
    return pc.if_else(pa.array(is_header), HEADER_AGAIN, reasons)


def _fields(raw: str, delimiter: str) -> Iterable[str]:
    # The text is split anew: a byte order mark before a quote makes the record ill-formed, so it has no fields.
    text = io.StringIO(raw.lstrip(_BOM), newline="")
    try:
        return [name.strip(_BOM) for name in next(csv.reader(text, delimiter=delimiter), [])]
    except csv.Error:
        return []

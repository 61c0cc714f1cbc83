"""The header of a delivered file: binds its columns by name to the feed's, or says in one sentence why it cannot."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import DataError
from pipeline.model import Feed
from pipeline.records import AGAIN, Records


@dataclass(frozen=True, kw_only=True)
class Header:
    """Where each column stands in the file; an absent optional column has no place."""

    width: int
    places: dict[str, int]  # declared columns
    extras: dict[str, int]  # columns that the feed does not declare


def bind(feed: Feed, record: Records, name: str) -> Header:
    """Binds the header record of the file `name`. Raises DataError for a missing or doubled column, and for other delimiters."""
    found = [record.column(at, np.ones(1, np.bool_))[0].as_py() or "" for at in range(record.width[0])]
    missing = [c for c in feed.names if c not in found and c not in feed.optional]
    if missing or not record.sound[0]:
        raise DataError(f"{name}: {_complaint(feed, record, found, missing)}; {AGAIN}")
    doubled = [column for column, times in Counter(found).items() if times > 1]
    if doubled:
        raise DataError(f"{name}: {_columns(doubled)} more than once in the header; {AGAIN}")
    places = {column: at for at, column in enumerate(found)}
    return Header(
        width=len(found),
        places={column: at for column, at in places.items() if column in feed.names},
        extras={column: at for column, at in places.items() if column not in feed.names},
    )


def _complaint(feed: Feed, record: Records, found: Sequence[str], missing: Sequence[str]) -> str:
    raw = record.raw[0].as_py()
    for sign, word in ((";", "semicolons"), ("\t", "tabs")):
        if {n.strip('" \r') for n in raw.split(sign)} & set(feed.names) and sign in raw:
            return f"looks like a spreadsheet's export: {word} instead of commas"
    if not record.sound[0]:
        return "the header holds a quote or a carriage return where none may stand"
    if not set(found) & set(feed.names):
        return f"the header is missing: its first line names none of the columns {_list(feed.names)}"
    undeclared = [n for n in found if n not in feed.names]
    likely = [f"{_shown(near[0])} looks like it" for c in missing if (near := difflib.get_close_matches(c, undeclared, n=1))]
    # "looks like it" would be unclear where several are missing.
    hint = f"; {likely[0]}" if likely and len(missing) == 1 else ""
    return f"{_columns(missing)} missing ({len(feed.names)} expected, {len(found)} found{hint})"


def _columns(names: Sequence[str]) -> str:
    return f"column {_list(names)} is" if len(names) == 1 else f"columns {_list(names)} are"


def _list(names: Sequence[str]) -> str:
    some = ", ".join(_shown(n) for n in names[:5])
    return some if len(names) <= 5 else f"{some} and {len(names) - 5} more"


def _shown(name: str) -> str:
    if not name:
        return "without a name"
    return (name if name.isprintable() else ascii(name)[1:-1])[:60]

"""The header of a delivered file: binds its columns by name to those of the feed, or raises a sentence on the fault."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import DataError
from pipeline.ingest.csv_encoding import ADVICE
from pipeline.ingest.csv_records import Records
from pipeline.model import Feed, normalise_header

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, kw_only=True)
class Header:
    """The position of each column in the file; an absent optional column has none."""

    width: int
    positions: dict[str, int]  # of declared columns
    extras: dict[str, int]  # positions of columns that the feed does not declare
    names: tuple[str, ...]  # of all columns, as `bind_names` returns them
    first_names: tuple[str, ...]  # texts that the header of the first column may have, in any case


def bind(feed: Feed, record: Records, name: str) -> Header:
    """Binds the header record of the file `name` to the feed's columns. Names match after trimming and in any case.

    Raises DataError for a missing or repeated column, and for another delimiter than the feed's.
    """
    known = _columns_by_header(feed)
    found = [(record.column(at, np.ones(1, np.bool_))[0].as_py() or "").strip() for at in range(record.width[0])]
    bound = [known.get(normalise_header(header)) for header in found]
    missing = [c for c in feed.names if c not in bound and c not in feed.optional]
    if missing or not record.well_formed[0]:
        if other := _other_delimiter(feed, record.raw[0].as_py()):
            raise DataError(f"{name}: {other}; set delimiter, or {ADVICE}")
        raise DataError(f"{name}: {_fault(feed, record, found, bound, missing)}; {ADVICE}")
    repeated = _repeated(found, bound)
    if repeated:
        raise DataError(f"{name}: {repeated}; {ADVICE}")
    return Header(
        width=len(found),
        positions={column: at for at, column in enumerate(bound) if column},
        extras={header: at for at, header in enumerate(found) if not bound[at]},
        names=bind_names(feed, found),
        first_names=(found[0], *dict(feed.headers).get(bound[0] or "", ())),
    )


def bind_names(feed: Feed, headers: Iterable[str]) -> tuple[str, ...]:
    """Returns the names of a header's columns: the declared name, or else the header's text in lower case."""
    known = _columns_by_header(feed)
    return tuple(known.get(normalise_header(header), normalise_header(header)) for header in headers)


def _columns_by_header(feed: Feed) -> dict[str, str]:
    return {normalise_header(header): column for column, headers in feed.headers for header in headers}


def _repeated(found: Sequence[str], bound: Sequence[str | None]) -> str:
    """Returns a sentence on columns that stand in the header more than once, else an empty text."""
    headers_of: dict[str, list[str]] = {}
    for header, column in zip(found, bound, strict=True):
        headers_of.setdefault(column or normalise_header(header), []).append(header)
    repeated = {column: headers for column, headers in headers_of.items() if len(headers) > 1}
    if not repeated:
        return ""
    # Two spellings of one column are hard to see in a file, so the sentence shows the first such pair.
    differing = [headers for headers in repeated.values() if len(set(headers)) > 1]
    spellings = f", as {' and '.join(_printable(h) for h in dict.fromkeys(differing[0]))}" if differing else ""
    return f"{_columns(list(repeated))} more than once in the header{spellings}"


def _fault(
    feed: Feed, record: Records, found: Sequence[str], bound: Sequence[str | None], missing: Sequence[str]
) -> str:
    if not record.well_formed[0]:
        return "the header holds a quote or a carriage return where none may stand"
    if not any(bound):
        return f"the header is missing: its first line names none of the columns {_list(feed.names)}"
    undeclared = [header for header, column in zip(found, bound, strict=True) if header and not column]
    renamed = ", ".join(f"{_printable(new)} {reason}" for new, reason in _likely_renamed(missing, undeclared))
    hint = f"; {renamed}: aliases can name it" if renamed else ""
    return f"{_columns(missing)} missing ({len(feed.names)} expected, {len(found)} found{hint})"


def _other_delimiter(feed: Feed, raw: str) -> str:
    """Returns the words for another delimiter, where splitting by it finds columns of the feed, else an empty text."""
    known = {normalise_header(header) for _, headers in feed.headers for header in headers}
    for sign, word in _DELIMITERS.items():
        if sign == feed.csv.delimiter or sign not in raw:
            continue
        if {normalise_header(n.strip('" \r')) for n in raw.split(sign)} & known:
            declared = _DELIMITERS.get(feed.csv.delimiter, repr(feed.csv.delimiter))
            export = ": looks like a spreadsheet's export" if sign in ";\t" else ""
            return f"{word} instead of {declared}{export}"
    return ""


def _likely_renamed(missing: Sequence[str], undeclared: Sequence[str]) -> list[tuple[str, str]]:
    """Returns headers that may be a missing column under a new name, each with the reason for that guess."""
    as_found = {normalise_header(header): header for header in undeclared}
    near = {
        c: as_found[likely[0]]
        for c in missing
        if (likely := difflib.get_close_matches(normalise_header(c), list(as_found), n=1))
    }
    if near:
        return [(new, f"looks like {column if len(missing) > 1 else 'it'}") for column, new in list(near.items())[:3]]
    return [(undeclared[0], "is new in its stead")] if len(missing) == len(undeclared) == 1 else []


def _columns(names: Sequence[str]) -> str:
    return f"column {_list(names)} is" if len(names) == 1 else f"columns {_list(names)} are"


def _list(names: Sequence[str]) -> str:
    some = ", ".join(_printable(n) for n in names[:5])
    return some if len(names) <= 5 else f"{some} and {len(names) - 5} more"


def _printable(name: str) -> str:
    if not name:
        return "without a name"
    return (name if name.isprintable() else ascii(name)[1:-1])[:60]

"""The header of a delivered file: binds its columns by name to the feed's, or says in one sentence why it cannot."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import DataError
from pipeline.ingest.csv_records import AGAIN, Records
from pipeline.model import Feed, normalise_header

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, kw_only=True)
class Header:
    """Where each column stands in the file; an absent optional column has no place."""

    width: int
    places: dict[str, int]  # declared columns
    extras: dict[str, int]  # columns that the feed does not declare
    names: tuple[str, ...]  # of all, as `bound_names` gives them
    first_names: tuple[str, ...]  # what the header of the first column may read, without case


def bind(feed: Feed, record: Records, name: str) -> Header:
    """Binds the header record of the file `name`; names match after trimming and without case.

    Raises DataError for a missing or doubled column, and for another delimiter than the feed's.
    """
    known = _columns_by_header(feed)
    found = [(record.column(at, np.ones(1, np.bool_))[0].as_py() or "").strip() for at in range(record.width[0])]
    bound = [known.get(normalise_header(header)) for header in found]
    missing = [c for c in feed.names if c not in bound and c not in feed.optional]
    if missing or not record.sound[0]:
        if other := _other_delimiter(feed, record.raw[0].as_py()):
            raise DataError(f"{name}: {other}; set delimiter, or {AGAIN}")
        raise DataError(f"{name}: {_complaint(feed, record, found, bound, missing)}; {AGAIN}")
    doubled = _doubled(found, bound)
    if doubled:
        raise DataError(f"{name}: {doubled}; {AGAIN}")
    return Header(
        width=len(found),
        places={column: at for at, column in enumerate(bound) if column},
        extras={header: at for at, header in enumerate(found) if not bound[at]},
        names=bound_names(feed, found),
        first_names=(found[0], *dict(feed.headers).get(bound[0] or "", ())),
    )


def bound_names(feed: Feed, headers: Iterable[str]) -> tuple[str, ...]:
    """Names the columns of a header: declared ones by their own name, others by what the header reads, without case."""
    known = _columns_by_header(feed)
    return tuple(known.get(normalise_header(header), normalise_header(header)) for header in headers)


def _columns_by_header(feed: Feed) -> dict[str, str]:
    return {normalise_header(header): column for column, headers in feed.headers for header in headers}


def _doubled(found: Sequence[str], bound: Sequence[str | None]) -> str:
    spelt: dict[str, list[str]] = {}
    for header, column in zip(found, bound, strict=True):
        spelt.setdefault(column or normalise_header(header), []).append(header)
    doubled = {column: headers for column, headers in spelt.items() if len(headers) > 1}
    apart = [headers for headers in doubled.values() if len(set(headers)) > 1]
    told = f", as {' and '.join(_shown(h) for h in dict.fromkeys(apart[0]))}" if apart else ""
    return f"{_columns(list(doubled))} more than once in the header{told}" if doubled else ""


def _complaint(
    feed: Feed, record: Records, found: Sequence[str], bound: Sequence[str | None], missing: Sequence[str]
) -> str:
    if not record.sound[0]:
        return "the header holds a quote or a carriage return where none may stand"
    if not any(bound):
        return f"the header is missing: its first line names none of the columns {_list(feed.names)}"
    undeclared = [header for header, column in zip(found, bound, strict=True) if header and not column]
    successors = _successors(missing, undeclared)
    hint = (
        f"; {', '.join(f'{_shown(new)} {why}' for new, why in successors)}: aliases can name it" if successors else ""
    )
    return f"{_columns(missing)} missing ({len(feed.names)} expected, {len(found)} found{hint})"


def _other_delimiter(feed: Feed, raw: str) -> str:
    known = {normalise_header(header) for _, headers in feed.headers for header in headers}
    for sign, word in _DELIMITERS.items():
        if (
            sign != feed.csv.delimiter
            and sign in raw
            and {normalise_header(n.strip('" \r')) for n in raw.split(sign)} & known
        ):
            declared = _DELIMITERS.get(feed.csv.delimiter, repr(feed.csv.delimiter))
            export = ": looks like a spreadsheet's export" if sign in ";\t" else ""
            return f"{word} instead of {declared}{export}"
    return ""


def _successors(missing: Sequence[str], undeclared: Sequence[str]) -> list[tuple[str, str]]:
    # (new name, why it may be the missing column), as far as anything speaks for it.
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
    some = ", ".join(_shown(n) for n in names[:5])
    return some if len(names) <= 5 else f"{some} and {len(names) - 5} more"


def _shown(name: str) -> str:
    if not name:
        return "without a name"
    return (name if name.isprintable() else ascii(name)[1:-1])[:60]

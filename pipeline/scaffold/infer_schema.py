"""Proposes the declaration of a feed from sample files: glob, types, key, event time, each with the reason."""

import glob
import itertools
import keyword
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contract.packed_files import open_unpacked, plain_name
from pipeline.errors import DataError
from pipeline.ingest.csv_records import Records, read_records
from pipeline.ingest.csv_values import parse_values

_MAX_BLOCKS = 8  # about 64 MB: a longer sample would not change the proposal
_MIN_FITTING = 0.9  # a type that fits nearly all values is proposed; the other values are errors that it will reject
_MAX_KEY_COLUMNS = 3
_MAX_KEY_CANDIDATES = 8

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VARYING = re.compile(r"(?<!\d)\d{4}([-_]?)\d{2}\1\d{2}(?:[T_-]?\d{4,6})?(?!\d)|(?<=[_-])[vr]\d{1,6}(?=[_.\-])|\d{3,}")
_EVENT_TIMES = (
    "updated",
    "changed",
    "modified",
    "event",
    "occurred",
    "_at$",
    "created",
    "time",
)  # the strongest hint first
_OF_VERSIONS = {"effective_from", "effective_to", "is_current"}
_IDENTIFYING = re.compile(r"(id|key|code|number|no|nr|uuid|sku|isbn|ean)$", re.IGNORECASE)


class SampleError(Exception):
    """Nothing can be proposed from a sample; the message names the sample, the problem and the next step."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A proposed value and the reason."""

    value: str
    why: str


@dataclass(frozen=True, kw_only=True)
class ProposedColumn:
    """A column as the samples suggest it."""

    name: str
    type: str
    is_required: bool
    is_optional: bool  # a sample lacks it
    why: str


@dataclass(frozen=True, kw_only=True)
class ProposedFeed:
    """A feed as the samples suggest it. `key` is empty if no small set of columns identifies a row."""

    name: str
    files: Proposal
    columns: tuple[ProposedColumn, ...]
    key: tuple[str, ...]
    key_why: str
    event_time: str
    undeclared: tuple[str, ...]  # columns whose names cannot be declared


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The well-formed records of a file, as text by column."""

    name: str
    table: Any
    left_out: str  # a sentence about the malformed records; empty without any


def read_sample(path: Path) -> Sample:
    """Returns a sample, read as the pipeline reads files. Raises SampleError for a file that no feed could accept."""
    try:
        with open_unpacked(path, path.name) as content:
            blocks = [r for r in itertools.islice(read_records(content, path.name), _MAX_BLOCKS) if len(r)]
    except OSError as error:
        raise SampleError(f"{path}: cannot be read ({error.strerror})") from None
    except DataError as error:
        raise SampleError(str(error).partition("; ")[0]) from None
    if not blocks:
        raise SampleError(
            f"{path.name}: the file is empty, not even a header; a header is the least that a sample needs"
        )
    first, blocks[0] = blocks[0].split_first()
    names = _header(first, path.name)
    well_formed = [b.well_formed & (b.width == len(names)) for b in blocks]
    columns = {
        n: pa.chunked_array([b.column(at, g).filter(pa.array(g)) for b, g in zip(blocks, well_formed, strict=True)])
        for at, n in enumerate(names)
    }
    malformed = int(sum((~g).sum() for g in well_formed))
    records = sum(map(len, well_formed))
    sentence = (
        f"{path.name}: {malformed} of {records} records have stray quotes, or not the header's {len(names)} fields"
    )
    if malformed * 2 > records:
        raise SampleError(f"{sentence}; it is no sample of a table with this header")
    return Sample(
        name=plain_name(path.name),
        table=pa.table(columns).combine_chunks(),
        left_out=f"{sentence}; they are left out" if malformed else "",
    )


def propose(samples: Iterable[Sample]) -> tuple[ProposedFeed, ...]:
    """Returns one proposed feed for all samples whose names give the same glob."""
    by_glob: dict[str, list[Sample]] = {}
    for sample in samples:
        by_glob.setdefault(glob_of(sample.name), []).append(sample)
    names = list[str]()
    for pattern in by_glob:
        name = feed_name(pattern)
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    return tuple(_feed(name, pattern, by_glob[pattern]) for name, pattern in zip(names, by_glob, strict=True))


def glob_of(name: str) -> str:
    """Returns a glob for files with names like this one: dates, revisions and long numbers become stars."""
    found = re.sub(r"\*(?:[_.-]?\*)+", "*", _VARYING.sub("*", glob.escape(name)))
    return found if "*" in found else f"{found.removesuffix(Path(found).suffix)}*{Path(found).suffix}"


def feed_name(pattern: str) -> str:
    """Returns the proposed name of a feed with this glob."""
    name = re.sub(r"[^a-z0-9]+", "_", pattern.removesuffix(Path(pattern).suffix).lower()).strip("_")
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"feed_{name}".rstrip("_")


def type_of(text: Any) -> Proposal:
    """Returns the proposed type for a column's values, an Arrow array of text with null for empty fields."""
    given = text.drop_null()
    if not len(given):
        return Proposal(value="STRING", why="no sample has a value")
    coded = given.filter(pc.match_substring_regex(given, r"\A0[0-9]+\z"))
    if len(coded):
        return Proposal(value="STRING", why=f"numbers that begin with 0 are codes, as {_quote(coded[0].as_py())}")
    values = {
        kind: parse_values(given, kind) for kind in ("BOOLEAN", "INT", "BIGINT", *_decimal(given), "DATE", "TIMESTAMP")
    }
    kind = min(values, key=lambda k: values[k].null_count)
    misfits = given.filter(pc.is_null(values[kind]))
    if len(misfits) > (1 - _MIN_FITTING) * len(given):
        return Proposal(value="STRING", why=f"text, as {_quote(given[0].as_py())}")
    if not len(misfits):
        return Proposal(value=kind, why=f"all {len(given)} values fit, as {_quote(given[0].as_py())}")
    return Proposal(
        value=kind,
        why=f"all but {len(misfits)} of {len(given)} values fit; rejected would be {_quote(misfits[0].as_py())}",
    )


def _header(record: Records, name: str) -> list[str]:
    names = [record.column(at, np.ones(1, np.bool_))[0].as_py() or "" for at in range(record.width[0])]
    if not record.well_formed[0]:
        raise SampleError(f"{name}: the header holds a quote or a carriage return where none may stand")
    for sign, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and sign in names[0]:
            raise SampleError(
                f"{name}: looks like a spreadsheet's export, {word} instead of commas; save it with commas"
            )
    doubled = [n for at, n in enumerate(names) if n.lower() in {m.lower() for m in names[:at]}]
    if doubled or "" in names:
        problem = f"the column {_quote(doubled[0])} twice" if doubled else "a column without a name"
        raise SampleError(f"{name}: the header has {problem}; give every column a name of its own")
    if not any(map(_NAME.fullmatch, names)):
        raise SampleError(f"{name}: its first line is no header: no field of it is a name of letters, digits and _")
    return names


def _feed(name: str, pattern: str, samples: Sequence[Sample]) -> ProposedFeed:
    every = list(dict.fromkeys(c for s in samples for c in s.table.column_names))
    declared = [c for c in every if _NAME.fullmatch(c)]
    columns = tuple(_column(c, samples) for c in declared)
    event_time = _event_time(columns)
    tables = [s.table for s in samples if s.table.num_rows]
    key, why = _key(columns, tables, event_time)
    names = ", ".join(ascii(s.name)[1:-1] for s in samples[:3])
    return ProposedFeed(
        name=name,
        files=Proposal(value=pattern, why=f"from {names}{' …' if len(samples) > 3 else ''}"),
        columns=columns,
        key=key,
        key_why=why,
        event_time=event_time,
        undeclared=tuple(c for c in every if c not in declared),
    )


def _column(name: str, samples: Sequence[Sample]) -> ProposedColumn:
    chunks = [chunk for s in samples if name in s.table.column_names for chunk in s.table[name].chunks]
    text = pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())
    is_optional = any(name not in s.table.column_names for s in samples)
    guess = type_of(text)
    empty = (
        f"empty in {text.null_count} of {len(text)}"
        if text.null_count
        else "never empty"
        if len(text)
        else "no sample has a row"
    )
    return ProposedColumn(
        name=name,
        type=guess.value,
        is_required=bool(len(text)) and not text.null_count and not is_optional,
        is_optional=is_optional,
        why=f"{guess.why}; {'absent in a sample' if is_optional else empty}",
    )


def _decimal(given: Any) -> Iterator[str]:
    numbers = pc.extract_regex(given, r"\A[+-]?0*(?P<whole>[0-9]+)(?:[.](?P<fraction>[0-9]+))?\z")
    whole, fraction = (pc.max(pc.utf8_length(pc.struct_field(numbers, n))).as_py() or 0 for n in ("whole", "fraction"))
    if fraction and whole + fraction <= 38:
        yield f"DECIMAL({min(38, max(12, whole + fraction + 2))},{fraction})"  # leaves room for larger values


def _event_time(columns: Sequence[ProposedColumn]) -> str:
    if _OF_VERSIONS & {c.name.lower() for c in columns}:
        return ""  # the history table would have two columns of that name
    times = [c.name for c in columns if c.type == "TIMESTAMP" and c.is_required]
    named = [n for pattern in _EVENT_TIMES for n in times if re.search(pattern, n, re.IGNORECASE)]
    return named[0] if named else times[0] if len(times) == 1 else ""


def _key(columns: Sequence[ProposedColumn], tables: Sequence[Any], event_time: str) -> tuple[tuple[str, ...], str]:
    candidates = [
        c.name
        for c in columns
        if c.is_required and c.type not in ("BOOLEAN", "TIMESTAMP") and not c.type.startswith("DECIMAL")
    ]
    candidates.sort(key=lambda n: not _IDENTIFYING.search(n))
    candidates = candidates[:_MAX_KEY_CANDIDATES]
    identifying = [n for n in candidates if _IDENTIFYING.search(n)]
    distinct = [t.group_by(t.column_names).aggregate([]) for t in tables]  # a repeated row does not count
    # An identifying column whose values repeat at different event times is a likelier key than another unique column.
    alone = ((), "")
    with_time = ((event_time,), f" at one {event_time}")
    searches = [(identifying, alone), *([(identifying, with_time)] if event_time else []), (candidates, alone)]
    for size in range(1, _MAX_KEY_COLUMNS + 1):
        for among, (more, condition) in searches:
            for columns_tried in itertools.combinations(among, size):
                if distinct and all(_is_unique(t, (*columns_tried, *more)) for t in distinct):
                    return columns_tried, f"no two rows of a sample share {'it' if size == 1 else 'them'}{condition}"
    return (), ""


def _is_unique(table: Any, columns: Sequence[str]) -> bool:
    return bool(table.group_by(list(columns)).aggregate([]).num_rows == table.num_rows)


def _quote(text: str) -> str:
    return ascii(text if len(text) <= 30 else text[:29] + "…")

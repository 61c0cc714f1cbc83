"""Stages a feed of a batch: claimed CSV files become one typed Parquet file, without an engine.

So values are the same on every engine. Every record that is not a blank line becomes a row, with its raw text and the
reasons why it does not fit, if there are any.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contract import OrderFile
from pipeline.errors import DataError
from pipeline.ingest.arrays import Booleans
from pipeline.ingest.claimed_files import open_claimed
from pipeline.ingest.csv_encoding import ADVICE
from pipeline.ingest.csv_header import Header, bind
from pipeline.ingest.csv_records import BLOCK_BYTES, Records, read_records
from pipeline.ingest.csv_values import parse_values, trim
from pipeline.ingest.invisible_characters import find_invisible
from pipeline.ingest.non_data_records import non_data_reasons
from pipeline.model import Feed
from pipeline.schema import arrow_type

ILL_FORMED = "record_is_well_formed"  # the rule that a row with a wrong number of fields or a stray quote breaks

_EXTRA = pa.map_(pa.string(), pa.string())
_RECORD_FIELDS = (
    pa.field("_reasons", pa.string()),
    pa.field("_source_file", pa.string()),
    pa.field("_record", pa.int64()),
    pa.field("_revision", pa.int32()),
    pa.field("_raw", pa.string()),
    pa.field("_extra", _EXTRA),
)


@dataclass(frozen=True, kw_only=True)
class StagedFile:
    """One file of a feed, by the sender's name, with the counts of its records."""

    name: str
    rows: int
    extra_columns: tuple[str, ...] = ()
    blank_lines: int = 0


@dataclass(frozen=True, kw_only=True)
class StagedFeed:
    """One feed of a batch, staged as the Parquet file `path`."""

    feed: str
    path: str
    rows: int
    extra_columns: tuple[str, ...]
    blank_lines: int
    files: tuple[StagedFile, ...]


def staged_schema(feed: Feed) -> Any:
    """Returns the Arrow schema of a staged feed.

    Behind its own columns stand `_reasons _source_file _record _revision _raw _extra`.
    """
    return pa.schema([*(pa.field(c.name, arrow_type(c.type)) for c in feed.schema), *_RECORD_FIELDS])


def stage(
    feed: Feed,
    files: Sequence[OrderFile],
    folder: Path,
    declared_rows: Mapping[str, int],
    *,
    block_bytes: int = BLOCK_BYTES,
    report: Callable[[int], None] = lambda rows: None,  # noqa: ARG005 - the name is what a caller reads
) -> StagedFeed:
    """Stages the feed's files, in their order, as one Parquet file in `folder`.

    `declared_rows` are the numbers of records that the trigger promises, by file name. `report` receives the number of
    rows that a file has so far, as a sign of life. Raises DataError where a whole file has to be refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{feed.name}.parquet"
    # The file lives for a minute, so stronger compression costs more than it saves. Dictionaries pay for columns whose
    # values repeat, and raw texts and record numbers hardly repeat.
    repeating = [*feed.names, "_source_file", "_reasons"]
    with (
        pq.ParquetWriter(path, staged_schema(feed), compression="snappy", use_dictionary=repeating) as writer,
        _write_in_background(writer.write_batch) as write,
    ):
        staged = [_stage_file(feed, file, write, block_bytes, report) for file in files]
    for file in staged:
        promised = declared_rows.get(file.name, file.rows)
        if promised != file.rows:
            raise DataError(
                f"{file.name}: the trigger promises {promised} records, the file holds {file.rows}; {ADVICE}"
            )
    return StagedFeed(
        feed=feed.name,
        path=str(path),
        rows=sum(f.rows for f in staged),
        extra_columns=tuple(dict.fromkeys(c for f in staged for c in f.extra_columns)),
        blank_lines=sum(f.blank_lines for f in staged),
        files=tuple(staged),
    )


@contextmanager
def _write_in_background(write: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Writes one block in a thread while the next is being read. At most one block waits, which bounds the memory."""
    with ThreadPoolExecutor(1) as pool:
        last: Future[None] | None = None

        def submit(block: Any) -> None:
            nonlocal last
            if last is not None:
                last.result()
            last = pool.submit(write, block)

        yield submit
        if last is not None:
            last.result()


def _stage_file(
    feed: Feed, file: OrderFile, write: Callable[[Any], None], block_bytes: int, report: Callable[[int], None]
) -> StagedFile:
    header: Header | None = None
    so_far = StagedFile(name=file.name, rows=0)
    with open_claimed(file) as content:
        for records in read_records(content, file.name, block_bytes, feed.csv):
            so_far = replace(so_far, blank_lines=so_far.blank_lines + records.blank_lines)
            rows = records
            if header is None and len(records):
                first, rows = records.split_first()
                header = bind(feed, first, file.name)
                so_far = replace(so_far, extra_columns=tuple(header.extras))
            if header is not None and len(rows):
                write(_rows(feed, header, rows, file, so_far.rows))
                so_far = replace(so_far, rows=so_far.rows + len(rows))
                report(so_far.rows)
    if header is None:
        raise DataError(f"{file.name}: the file is empty, not even a header; {ADVICE}")
    return so_far


def _rows(feed: Feed, header: Header, records: Records, file: OrderFile, rows_before: int) -> Any:
    """Returns the rows of a block in the schema of the staged feed, with all reasons why a row does not fit."""
    non_data = non_data_reasons(feed, header, records.raw)
    is_data = non_data.is_null().to_numpy(zero_copy_only=False)
    good = records.well_formed & (records.width == header.width) & is_data
    columns = list[Any]()
    reasons = [pc.coalesce(non_data, pc.if_else(pa.array(good), None, ILL_FORMED))]
    for column in feed.schema:
        if column.name not in header.positions:
            columns.append(pa.nulls(len(records), arrow_type(column.type)))
            continue
        text = _texts(feed, records, header.positions[column.name], good)
        values = parse_values(text, column.type, feed.csv)
        columns.append(values)
        if values.null_count > text.null_count:
            outside = pc.and_(pc.is_valid(text), pc.is_null(values))
            reasons.append(pc.if_else(outside, f"type:{column.name}", None))
        if column.name in feed.key_texts:
            found = find_invisible(text, blanks_around=column.name in feed.key)
            reasons.append(pc.binary_join_element_wise(f"key:{column.name}", found, ":"))  # null where none is found
    record_fields = [
        _join_reasons(reasons),
        pa.array([file.name]).take(pa.array(np.zeros(len(records), np.int64))),
        pa.array(np.arange(rows_before + 1, rows_before + len(records) + 1)),
        pa.array(np.full(len(records), file.revision, np.int32)),
        records.raw,
        _extras(feed, header, records, good),
    ]
    return pa.RecordBatch.from_arrays([*columns, *record_fields], schema=staged_schema(feed))


def _join_reasons(reasons: Sequence[Any]) -> Any:
    """Returns, per row, its reasons joined by commas; null where it has none."""
    if len(reasons) == 1:
        return reasons[0]
    # Only rows with a reason are joined: Arrow's join drops a row in which all texts are null.
    has_reason = np.logical_or.reduce([r.is_valid().to_numpy(zero_copy_only=False) for r in reasons])
    joined = pc.binary_join_element_wise(*(r.filter(pa.array(has_reason)) for r in reasons), ",", null_handling="skip")
    return joined.take(pa.array(np.cumsum(has_reason) - 1, mask=~has_reason))


def _texts(feed: Feed, records: Records, at: int, good: Booleans) -> Any:
    text = records.column(at, good)
    return trim(text) if feed.csv.trim else text


def _extras(feed: Feed, header: Header, records: Records, good: Booleans) -> Any:
    """Returns, per row, a map from undeclared columns to their texts; null for a record that is not `good`."""
    if not header.extras:
        return pa.nulls(len(records), _EXTRA)
    rows = int(good.sum())
    columns = len(header.extras)
    texts = pa.concat_arrays([_texts(feed, records, at, good).filter(pa.array(good)) for at in header.extras.values()])
    row_by_row = pa.array(np.arange(rows * columns).reshape(columns, rows).T.ravel())
    names = pa.array(list(header.extras)).take(pa.array(np.tile(np.arange(columns), rows)))
    ends = columns * np.cumsum(good)
    offsets = pa.array(np.concatenate(([0], ends)).astype(np.int32), mask=np.concatenate((~good, [False])))
    return pa.MapArray.from_arrays(offsets, names, texts.take(row_by_row))

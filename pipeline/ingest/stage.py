"""Stages a feed of a batch: claimed CSV files become one typed Parquet file. Needs no engine, so values are the same on each.

Every record that is not a blank line is a row of it, with its raw text and, where it does not fit, the reasons.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contract import OrderFile
from pipeline.errors import DataError
from pipeline.ingest.claimed_files import claimed
from pipeline.ingest.csv_header import Header, bind
from pipeline.ingest.csv_records import AGAIN, BLOCK_BYTES, Records, read_records
from pipeline.ingest.csv_values import trimmed, typed
from pipeline.ingest.invisible_characters import odd_keys
from pipeline.ingest.non_data_records import no_data
from pipeline.model import Feed
from pipeline.schema import arrow_type

ILL_FORMED = "record_is_well_formed"  # the reason of a row with too few or too many fields, or with a stray quote

_EXTRA = pa.map_(pa.string(), pa.string())
_ABOUT_THE_RECORD = (
    pa.field("_reasons", pa.string()),
    pa.field("_source_file", pa.string()),
    pa.field("_record", pa.int64()),
    pa.field("_revision", pa.int32()),
    pa.field("_raw", pa.string()),
    pa.field("_extra", _EXTRA),
)


@dataclass(frozen=True, kw_only=True)
class StagedFile:
    """One file of the feed: the sender's name, and the records read from it."""

    name: str
    rows: int
    extra_columns: tuple[str, ...] = ()
    blank_lines: int = 0


@dataclass(frozen=True, kw_only=True)
class Staged:
    """One feed of the batch, staged as the Parquet file `path`."""

    feed: str
    path: str
    rows: int
    extra_columns: tuple[str, ...]
    blank_lines: int
    files: tuple[StagedFile, ...]


def staged_schema(feed: Feed) -> Any:
    """Returns the Arrow schema of a staged feed: its columns, then `_reasons _source_file _record _revision _raw _extra`."""
    return pa.schema([*(pa.field(c.name, arrow_type(c.type)) for c in feed.schema), *_ABOUT_THE_RECORD])


def stage(
    feed: Feed,
    files: Sequence[OrderFile],
    folder: Path,
    declared_rows: Mapping[str, int],
    *,
    block_bytes: int = BLOCK_BYTES,
    report: Callable[[int], None] = lambda rows: None,  # noqa: ARG005 - the name is what a caller reads
) -> Staged:
    """Stages the feed's files, in their order, into `folder`.

    `declared_rows` are the numbers of records that the sender promised, by file name. `report` is told the rows of a file
    so far, as a sign of life. Raises DataError where a file as a whole cannot be taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{feed.name}.parquet"
    # Read within the minute and thrown away: stronger compression costs more than it saves. Raw text and record numbers hardly
    # repeat: nor does a dictionary of them pay.
    repeating = [*feed.names, "_source_file", "_reasons"]
    with (
        pq.ParquetWriter(path, staged_schema(feed), compression="snappy", use_dictionary=repeating) as writer,
        _behind(writer.write_batch) as write,
    ):
        staged = [_stage_file(feed, file, write, block_bytes, report) for file in files]
    for file in staged:
        promised = declared_rows.get(file.name, file.rows)
        if promised != file.rows:
            raise DataError(
                f"{file.name}: the trigger promises {promised} records, the file holds {file.rows}; {AGAIN}"
            )
    return Staged(
        feed=feed.name,
        path=str(path),
        rows=sum(f.rows for f in staged),
        extra_columns=tuple(dict.fromkeys(c for f in staged for c in f.extra_columns)),
        blank_lines=sum(f.blank_lines for f in staged),
        files=tuple(staged),
    )


@contextmanager
def _behind(write: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Writes one piece in a thread of its own while the next is being read."""
    with ThreadPoolExecutor(1) as aside:
        last: Future[None] | None = None

        def put(piece: Any) -> None:
            nonlocal last
            if last is not None:
                last.result()
            last = aside.submit(write, piece)

        yield put
        if last is not None:
            last.result()


def _stage_file(
    feed: Feed, file: OrderFile, write: Callable[[Any], None], block_bytes: int, report: Callable[[int], None]
) -> StagedFile:
    header: Header | None = None
    so_far = StagedFile(name=file.name, rows=0)
    with claimed(file) as content:
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
        raise DataError(f"{file.name}: the file is empty, not even a header; {AGAIN}")
    return so_far


def _rows(feed: Feed, header: Header, records: Records, file: OrderFile, rows_before: int) -> Any:
    empty = no_data(feed, header, records.raw)
    good = records.sound & (records.width == header.width) & empty.is_null().to_numpy(zero_copy_only=False)
    columns, reasons = [], [pc.coalesce(empty, pc.if_else(pa.array(good), None, ILL_FORMED))]
    for column in feed.schema:
        if column.name not in header.places:
            columns.append(pa.nulls(len(records), arrow_type(column.type)))
            continue
        text = _texts(feed, records, header.places[column.name], good)
        values = typed(text, column.type, feed.csv)
        columns.append(values)
        if values.null_count > text.null_count:
            outside = pc.and_(pc.is_valid(text), pc.is_null(values))
            reasons.append(pc.if_else(outside, f"type:{column.name}", None))
        if column.name in feed.key_texts:
            signs = odd_keys(text, blanks_around=column.name in feed.key)
            reasons.append(pc.binary_join_element_wise(f"key:{column.name}", signs, ":"))  # null where the sign is
    about = [
        _joined(reasons),
        pa.array([file.name]).take(pa.array(np.zeros(len(records), np.int64))),
        pa.array(np.arange(rows_before + 1, rows_before + len(records) + 1)),
        pa.array(np.full(len(records), file.revision, np.int32)),
        records.raw,
        _extras(feed, header, records, good),
    ]
    return pa.RecordBatch.from_arrays([*columns, *about], schema=staged_schema(feed))


def _joined(reasons: Sequence[Any]) -> Any:
    if len(reasons) == 1:
        return reasons[0]
    # Only rows with a reason are joined: where all are null, Arrow's join would drop the row.
    spoiled = np.logical_or.reduce([r.is_valid().to_numpy(zero_copy_only=False) for r in reasons])
    joined = pc.binary_join_element_wise(*(r.filter(pa.array(spoiled)) for r in reasons), ",", null_handling="skip")
    return joined.take(pa.array(np.cumsum(spoiled) - 1, mask=~spoiled))


def _texts(feed: Feed, records: Records, at: int, good: npt.NDArray[np.bool_]) -> Any:
    text = records.column(at, good)
    return trimmed(text) if feed.csv.trim else text


def _extras(feed: Feed, header: Header, records: Records, good: npt.NDArray[np.bool_]) -> Any:
    if not header.extras:
        return pa.nulls(len(records), _EXTRA)
    rows, columns = int(good.sum()), len(header.extras)
    texts = pa.concat_arrays([_texts(feed, records, at, good).filter(pa.array(good)) for at in header.extras.values()])
    row_by_row = pa.array(np.arange(rows * columns).reshape(columns, rows).T.ravel())
    names = pa.array(list(header.extras)).take(pa.array(np.tile(np.arange(columns), rows)))
    ends = columns * np.cumsum(good)
    offsets = pa.array(np.concatenate(([0], ends)).astype(np.int32), mask=np.concatenate((~good, [False])))
    return pa.MapArray.from_arrays(offsets, names, texts.take(row_by_row))

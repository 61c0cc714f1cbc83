"""Writes rows as Parquet data files and describes each file as Delta's log does. Knows nothing of the log itself."""

import datetime as dt
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from pipeline.place import Place, as_folder, open_file, write_file

FILE_BYTES = 16 << 20  # of the largest files
SMALLEST_FILE = 2 << 20  # Parquet compresses files of this size well, and to read one costs more than to open it
FILES = 64  # that a table has until its files are of the largest size
GROUP_ROWS = 32 * 1024  # rows of a row group: a lookup reads the groups that hold a key; smaller ones cost scans time
ARROW_FACTOR = 2  # rows in memory take about so many times the bytes that they take in a file
WRITERS = 2  # files that are written side by side; the rows of each are in memory meanwhile
LONGEST_TEXT = 64  # characters; a text column with a longer lowest or highest value has no statistics in the log


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A Parquet file in a table's folder. `statistics` is the JSON that an `add` action of Delta's log holds."""

    name: str
    size: int
    statistics: str


def target_bytes(table_bytes: int) -> int:
    """Returns the size of new files for a table of so many bytes.

    A merge writes the files that hold its keys again. So they are a small part of the table, and yet not too many.
    """
    return min(max(table_bytes // FILES, SMALLEST_FILE), FILE_BYTES)


def write_files(folder: Place, rows: Iterable[pa.RecordBatch], schema: pa.Schema, file_bytes: int) -> list[DataFile]:
    """Writes rows of this schema, in their order, into new files of about `file_bytes` each, and returns the files."""
    files = list[DataFile]()
    under_way = deque[Future[DataFile]]()
    with ThreadPoolExecutor(WRITERS) as pool:
        for table in _split(rows, schema, ARROW_FACTOR * file_bytes):
            under_way.append(pool.submit(_write_file, folder, table))
            if len(under_way) > WRITERS:  # bounds the memory: at most so many tables wait for their writer
                files.append(under_way.popleft().result())
        return [*files, *(f.result() for f in under_way)]


def _split(rows: Iterable[pa.RecordBatch], schema: pa.Schema, size: int) -> Iterator[pa.Table]:
    """Splits a stream into tables of about `size` bytes. The last of several tables has at least half of that."""
    ready = list[pa.RecordBatch]()
    waiting = list[pa.RecordBatch]()
    waiting_bytes = 0
    for batch in (b for b in rows if b.num_rows):
        waiting.append(batch)
        waiting_bytes += batch.nbytes
        if waiting_bytes >= size:
            if ready:
                yield pa.Table.from_batches(ready, schema)
            ready = waiting
            waiting = []
            waiting_bytes = 0
    if ready and waiting_bytes >= size // 2:
        yield pa.Table.from_batches(ready, schema)
        ready = []
    if ready or waiting:
        yield pa.Table.from_batches([*ready, *waiting], schema)


def _write_file(folder: Place, rows: pa.Table) -> DataFile:
    def write(target: Any) -> None:
        # Dictionaries cost half of the writing time, and compression finds repeated values as well.
        pq.write_table(rows, target, row_group_size=GROUP_ROWS, compression="snappy", use_dictionary=False)

    path = folder / f"{uuid4()}.parquet"
    content = write_file(path, write)
    if content is None:
        return describe_file(as_folder(path))
    return describe_footer(path.name, content.size, pq.read_metadata(pa.BufferReader(content)))


@lru_cache(maxsize=256)  # the files of a batch are described when they are written and when readers get them
def describe_file(path: Path) -> DataFile:
    """Returns a data file with its statistics: rows, nulls, and lowest and highest values that JSON can hold.

    Data files never change, so each is described once.
    """
    return describe_footer(path.name, path.stat().st_size, pq.read_metadata(path))


def describe_footer(name: str, size: int, metadata: pq.FileMetaData) -> DataFile:
    """Returns a data file of this name and size with the statistics of its footer; see `describe_file`."""
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    nulls = dict[str, int]()
    lowest = dict[str, Any]()
    highest = dict[str, Any]()
    for at in range(metadata.num_columns):
        column = metadata.schema.column(at).path
        chunks = [g.column(at).statistics for g in groups]
        if "." in column or not all(c is not None and c.has_null_count for c in chunks):
            continue
        nulls[column] = sum(c.null_count for c in chunks)
        with_values = [c for c in chunks if c.num_values]  # `num_values` counts no nulls
        if with_values and all(c.has_min_max for c in with_values):
            low = _json_value(min(c.min for c in with_values))
            high = _json_value(max(c.max for c in with_values))
            if low is not None and high is not None:
                lowest[column] = low
                highest[column] = high
    statistics = {"numRecords": metadata.num_rows, "minValues": lowest, "maxValues": highest, "nullCount": nulls}
    # Characters are not escaped: delta-rs reads an escaped character above U+1FFFF as another one.
    return DataFile(name=name, size=size, statistics=json.dumps(statistics, ensure_ascii=False))


def _json_value(value: object) -> object:
    match value:
        case bool():
            return None
        case int():
            return value
        case dt.datetime():
            return f"{value.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
        case dt.date():
            return value.isoformat()
        case str() if len(value) <= LONGEST_TEXT:
            return value
        case _:  # JSON numbers do not keep all digits of a decimal
            return None


def parquet_dataset(files: Mapping[Place, int], schema: pa.Schema | None = None) -> ds.Dataset:
    """Returns Parquet files, given with their sizes in bytes, as a dataset of Arrow; without a schema in their own."""
    own_format = ds.ParquetFileFormat()
    sources = [open_file(path, size) for path, size in files.items()]
    fragments = [
        own_format.make_fragment(str(s), LocalFileSystem()) if isinstance(s, Path) else own_format.make_fragment(s)
        for s in sources
    ]
    return ds.FileSystemDataset(fragments, schema or fragments[0].physical_schema, own_format)


def cast_to_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns the rows in a schema, by column name: null where a column is absent, other columns dropped.

    Raises pyarrow.ArrowInvalid where a value cannot be cast exactly.
    """
    if rows.schema.equals(schema, check_metadata=True):
        return rows
    present = set(rows.column_names)

    def column(field: pa.Field) -> pa.ChunkedArray:
        if field.name not in present:
            return pa.chunked_array([pa.nulls(rows.num_rows, field.type)], field.type)
        found = rows[field.name]
        return found if found.type == field.type else found.cast(field.type)

    return pa.Table.from_arrays([column(f) for f in schema], schema=schema)

"""The data files of tables: writes rows as Parquet, tells statistics as Delta's log wants them, finds rows by key. Knows nothing of the log."""

import datetime as dt
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# A group of rows is written, and read, as one: so many pay the effort, and fit into memory.
GROUP_ROWS = 256 * 1024
ARROWS_SHARE = 2  # rows in memory take so many times the bytes that they take in a file, about
WRITERS = 2  # files that are written side by side: the rows of each are held in memory meanwhile
LONGEST_TEXT = 64  # of a text column with a longer end the statistics say nothing


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A Parquet file in a table's folder; `statistics` is the JSON of an `add` in Delta's log."""

    name: str
    size: int
    statistics: str


def write(folder: Path, rows: Iterable[pa.RecordBatch], schema: pa.Schema, file_bytes: int) -> list[DataFile]:
    """Writes rows of this schema into new files of about this size, in their order, two at a time."""
    files, under_way = list[DataFile](), deque[Future[DataFile]]()
    with ThreadPoolExecutor(WRITERS) as pool:
        for piece in _pieces(rows, schema, ARROWS_SHARE * file_bytes):
            under_way.append(pool.submit(_write_file, folder, piece))
            if len(under_way) > WRITERS:
                files.append(under_way.popleft().result())
        return [*files, *(f.result() for f in under_way)]


def _pieces(rows: Iterable[pa.RecordBatch], schema: pa.Schema, size: int) -> Iterator[pa.Table]:
    """Cuts a stream into pieces of so many bytes in memory; the last one has half as many at least, unless it is the only one."""
    ready, waiting, waits = list[pa.RecordBatch](), list[pa.RecordBatch](), 0
    for batch in (b for b in rows if b.num_rows):
        waiting.append(batch)
        waits += batch.nbytes
        if waits >= size:
            if ready:
                yield pa.Table.from_batches(ready, schema)
            ready, waiting, waits = waiting, [], 0
    if ready and waits >= size // 2:
        yield pa.Table.from_batches(ready, schema)
        ready = []
    if ready or waiting:
        yield pa.Table.from_batches([*ready, *waiting], schema)


def _write_file(folder: Path, rows: pa.Table) -> DataFile:
    path = folder / f"{uuid4()}.parquet"
    # A dictionary of each column is half of the effort, and compression finds what repeats as well.
    pq.write_table(rows, path, row_group_size=GROUP_ROWS, compression="snappy", use_dictionary=False)
    return data_file(path)


def data_file(path: Path) -> DataFile:
    """Tells of a Parquet file what Delta's log wants to know: rows, nulls, and the ends of columns that have an order in JSON."""
    metadata = pq.read_metadata(path)
    nulls, lows, highs = dict[str, int](), dict[str, Any](), dict[str, Any]()
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    for at in range(metadata.num_columns):
        name = metadata.schema.column(at).path
        chunks = [g.column(at).statistics for g in groups]
        if "." in name or not all(c is not None and c.has_null_count for c in chunks):
            continue
        nulls[name] = sum(c.null_count for c in chunks)
        told = [c for c in chunks if c.num_values]  # without the nulls
        if told and all(c.has_min_max for c in told):
            low, high = _as_json(min(c.min for c in told)), _as_json(max(c.max for c in told))
            if low is not None and high is not None:
                lows[name], highs[name] = low, high
    input_columns = {"numRecords": metadata.num_rows, "minValues": lows, "maxValues": highs, "nullCount": nulls}
    # As it is, not escaped: delta-rs reads an escaped character above U+1FFFF as another one.
    return DataFile(name=path.name, size=path.stat().st_size, statistics=json.dumps(input_columns, ensure_ascii=False))


def _as_json(value: object) -> object:
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
        case _:  # a decimal is no number of JSON's that keeps all its places
            return None


def shaped(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Brings rows to a schema by column name: cast exactly or fail, null where a column is absent, surplus dropped."""
    present = set(rows.column_names)

    def column(field: pa.Field) -> pa.ChunkedArray:
        if field.name not in present:
            return pa.chunked_array([pa.nulls(rows.num_rows, field.type)], field.type)
        found = rows[field.name]
        return found if found.type == field.type else found.cast(field.type)

    return pa.Table.from_arrays([column(f) for f in schema], schema=schema)


class MergeSource:
    """Rows that take the place of those with the same key, or are new; a key without a row goes. `keys` has those of the rows, too."""

    def __init__(self, keys: pa.Table, rows: pa.Table) -> None:
        self._keys = keys.group_by(keys.column_names, use_threads=False).aggregate([])
        self._rows = rows
        self._places = places(rows.select(keys.column_names), self._keys)

    @property
    def count(self) -> int:
        return int(self._rows.num_rows)

    @property
    def is_distinct(self) -> bool:
        """Tells whether each key has one row at most."""
        return bool(len(self._places.unique()) == self.count)

    def found_in(self, path: Path) -> pa.Array:
        """Tells, for each row of a file, which of the keys it has; null for none."""
        return places(_read(path, self._keys.schema), self._keys)

    def applied_to(self, path: Path, found: pa.Array) -> pa.Table:
        """Gives a file's rows as they are now."""
        rest = _read(path, self._rows.schema).filter(pc.is_null(found))
        return pa.concat_tables([rest, self._rows.filter(self._are_in(found))])

    def not_in(self, found: Iterable[pa.Array]) -> pa.Table:
        """Gives the rows whose keys none of the files has."""
        return self._rows.filter(pc.invert(self._are_in(pa.chunked_array(found, pa.int32()).combine_chunks())))

    def _are_in(self, found: pa.Array) -> pa.Array:
        return pc.is_in(self._places, value_set=pc.drop_null(found))


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return shaped(file.read([n for n in schema.names if n in file.schema_arrow.names]), schema)


def places(rows: pa.Table, keys: pa.Table) -> pa.Array:
    """Tells for each row the number of the key that it has, null where it has none of them. Nulls are equal; the keys are distinct."""
    mine = theirs = None
    for name in keys.column_names:
        values = pc.unique(keys[name])
        its, key = (pc.index_in(_whole(some[name]), value_set=values).cast(pa.int64()) for some in (rows, keys))
        if mine is not None:
            # Two columns as one number, counted anew so that it stays small.
            its, key = (pc.add(pc.multiply(before, len(values)), now) for before, now in ((mine, its), (theirs, key)))
            values = pc.unique(key)
            its, key = (pc.index_in(some, value_set=values, skip_nulls=True).cast(pa.int64()) for some in (its, key))
        mine, theirs = its, key
    return pc.index_in(mine, value_set=theirs, skip_nulls=True)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

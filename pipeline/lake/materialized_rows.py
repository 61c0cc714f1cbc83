"""Rows that are computed once, lie as Parquet in the scratch folder, and are read several times."""

import errno
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.lake.data_files import ARROW_FACTOR, cast_to_schema, parquet_dataset
from pipeline.lake.delta_schema import select_columns
from pipeline.lake.engine_session import EngineSession, read_parquet
from pipeline.lake.file_pruning import MinMax, min_max
from pipeline.place import Place, StorePath, as_folder, open_file, sizes, write_file

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FEW_BYTES = 1 << 20  # rows of so few bytes stay in memory; a batch has some hundred files of rows
READERS = 8  # footers that are read side by side


@dataclass(frozen=True, kw_only=True)
class ScratchFile:
    """What is known of a Parquet file: its size in bytes and its footer."""

    size: int
    footer: pq.FileMetaData


@dataclass(frozen=True, kw_only=True)
class MaterializedRows:
    """Rows that lie as Parquet in the scratch folder: each read takes them from there and computes nothing again.

    With `only_null` they are the rows of the files that have a null in that column.
    """

    path: Place
    schema: pa.Schema
    session: EngineSession | None = None
    plans_all: bool = False
    only_null: str = ""
    known_files: Mapping[Place, ScratchFile] | None = field(default=None, compare=False, repr=False)
    table: pa.Table | None = field(default=None, compare=False, repr=False)  # all rows, where this process has them

    @property
    def must_process(self) -> bool:
        """Returns whether the next steps have to run: there are rows, or every step is planned also without rows."""
        return self.plans_all or self.rows > 0

    @cached_property
    def files(self) -> Mapping[Place, ScratchFile]:
        """The files, written now where the rows were in memory alone."""
        if isinstance(self.path, StorePath):  # no engine takes a missing object for no rows
            return self._put(self.path) if self.known_files is None else self.known_files
        if self.table is not None and not self.path.exists():
            draft = self.path.with_name(f"{self.path.name}.{threading.get_ident()}")
            pq.write_table(self.table, draft, use_dictionary=False)
            draft.rename(self.path)  # another thread reads no half of a file
        if not self.path.exists():  # rows that are gone are not the same as no rows
            raise FileNotFoundError(errno.ENOENT, "the rows that were computed are gone", str(self.path))
        return scratch_files(self.path) if self.known_files is None else self.known_files

    def _put(self, path: Place) -> Mapping[Place, ScratchFile]:
        content: Any = write_file(path, lambda sink: pq.write_table(self.table, sink, use_dictionary=False))
        return {path: ScratchFile(size=content.size, footer=pq.read_metadata(pa.BufferReader(content)))}

    @cached_property
    def rows(self) -> int:
        if self.only_null:
            return sum(batch.num_rows for batch in self.batches(select_columns(self.schema, [self.only_null])))
        return sum(f.footer.num_rows for f in self.files.values()) if self.table is None else int(self.table.num_rows)

    @property
    def size(self) -> int:
        """The bytes that the rows take in files, about."""
        return sum(f.size for f in self.files.values()) if self.table is None else self.table.nbytes // ARROW_FACTOR

    @property
    def plain_bytes(self) -> int:
        """The bytes that the rows take in files without compression."""
        if self.table is not None:
            return int(self.table.nbytes)
        footers = (f.footer for f in self.files.values())
        return sum(footer.row_group(n).total_byte_size for footer in footers for n in range(footer.num_row_groups))

    def min_max(self, column: str) -> MinMax:
        """Returns the lowest and the highest value of a column, from the statistics of its files where they have them.

        Statistics of long texts may be cut: then the lowest value is a prefix, and the highest value is a bound above.
        """
        if self.table is not None:
            return min_max(self.table[column])
        low = list[Any]()
        high = list[Any]()
        for metadata in (f.footer for f in self.files.values()):
            at = next(n for n in range(metadata.num_columns) if metadata.schema.column(n).path == column)
            for chunk in (metadata.row_group(n).column(at) for n in range(metadata.num_row_groups)):
                statistics = chunk.statistics
                if statistics is not None and statistics.has_min_max:
                    low.append(statistics.min)
                    high.append(statistics.max)
                elif statistics is None or statistics.null_count is None or statistics.null_count < chunk.num_values:
                    return min_max(self.arrow([column])[column])
        return min(low, default=None), max(high, default=None)

    @cached_property
    def df(self) -> "DataFrame":
        return self.read(self.schema.names)

    def read(self, columns: Sequence[str]) -> "DataFrame":
        """Returns some columns as a DataFrame. Fewer columns are cheaper: an engine plans each, needed or not."""
        assert self.session is not None, "rows of a lake without a session have no DataFrame"
        files = {path: file.size for path, file in self.files.items()} if self.rows else {}
        names = [*dict.fromkeys((*columns, *filter(None, [self.only_null])))]
        df = read_parquet(self.session, select_columns(self.schema, names), files)
        return df.where(f"{self.only_null} IS NULL").select(*columns) if self.only_null else df

    def dataset(self) -> ds.Dataset:
        """Returns the files as a dataset of Arrow, which reads the rows that pass a filter."""
        return parquet_dataset({path: file.size for path, file in self.files.items()})

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns the rows as an Arrow table: some columns, by default all."""
        schema = self.schema if columns is None else select_columns(self.schema, columns)
        if self._few is not None:
            return cast_to_schema(self._few, schema)
        return pa.Table.from_batches(self.batches(schema), schema)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Streams the rows in file order, cast to `schema`, and null where the rows lack a column."""
        if self._few is not None:
            yield from cast_to_schema(self._few, schema).to_batches()
            return
        for path, known in self.files.items():
            with pq.ParquetFile(open_file(path, known.size), metadata=known.footer) as file:
                there = set(file.schema_arrow.names)
                present = [n for n in (*schema.names, self.only_null) if n in there]
                for batch in file.iter_batches(batch_size=64 * 1024, columns=present):
                    yield from cast_to_schema(self._wanted(pa.Table.from_batches([batch])), schema).to_batches()

    def _wanted(self, rows: pa.Table) -> pa.Table:
        return rows.filter(pc.is_null(rows[self.only_null])) if self.only_null else rows

    @cached_property
    def _few(self) -> pa.Table | None:
        """All rows, where they take few bytes: steps ask for them several times, and to open a file costs most."""
        if self.table is not None:
            return self._wanted(self.table)
        if self.plain_bytes > FEW_BYTES:
            return None
        parts = [self.schema.empty_table()]
        for path, known in self.files.items():
            with pq.ParquetFile(open_file(path, known.size), metadata=known.footer) as file:
                parts.append(cast_to_schema(file.read(use_threads=False), self.schema))
        return self._wanted(pa.concat_tables(parts))


def scratch_files(path: Place) -> dict[Place, ScratchFile]:
    """Returns what is known of a Parquet file, or of each in a folder, in the order of their names."""
    is_file = isinstance(path, Path) and path.is_file()
    found = {path: as_folder(path).stat().st_size} if is_file else sizes(path, ".parquet")
    if len(found) < 2:
        return {file: _known(file, size) for file, size in found.items()}
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(found, pool.map(_known, found, found.values()), strict=True))


def _known(file: Place, size: int) -> ScratchFile:
    return ScratchFile(size=size, footer=pq.read_metadata(open_file(file, size, whole_bytes=FEW_BYTES)))

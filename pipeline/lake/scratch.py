"""The scratch folder of the running attempt: Parquet files with rows that are computed once and read several times."""

import contextlib
import errno
import itertools
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.lake.data_files import ARROW_FACTOR, cast_to_schema
from pipeline.lake.delta_schema import arrow_from_parquet, arrow_from_spark, select_columns
from pipeline.lake.engine_session import EngineSession, read_parquet
from pipeline.lake.file_pruning import MinMax, min_max
from pipeline.place import Place

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# These files live for a minute. An engine's stronger compression, and dictionaries of values that hardly repeat, would
# cost a third of the writing time. Each engine takes the options that it knows.
_WRITE_OPTIONS = {
    "compression": "snappy",
    "parquet.enable.dictionary": "false",
    "dictionary_enabled": "false",
    "statistics_enabled": "chunk",
}


FEW_BYTES = 1 << 20  # rows of so few bytes stay in memory; a batch has some hundred files of rows


class LostWrite(OSError):
    """Rows that the engine wrote are not in the folder where this process reads them. A retry may help."""

    def __init__(self, folder: Place, what: str) -> None:
        super().__init__(f"{folder}: {what}; see that the engine writes to the same folder that this process reads")


@dataclass(frozen=True, kw_only=True)
class MaterializedRows:
    """Rows that lie as Parquet in the scratch folder: each read takes them from there and computes nothing again.

    With `only_null` they are the rows of the files that have a null in that column.
    """

    path: Path
    schema: pa.Schema
    session: EngineSession | None = None
    plans_all: bool = False
    only_null: str = ""
    read_footers: Mapping[Path, pq.FileMetaData] | None = field(default=None, compare=False, repr=False)
    table: pa.Table | None = field(default=None, compare=False, repr=False)  # all rows, where this process has them

    @property
    def must_process(self) -> bool:
        """Returns whether the next steps have to run: there are rows, or every step is planned also without rows."""
        return self.plans_all or self.rows > 0

    @cached_property
    def footers(self) -> Mapping[Path, pq.FileMetaData]:
        """The footer of each file."""
        if self.table is not None and not self.path.exists():
            draft = self.path.with_name(f"{self.path.name}.{threading.get_ident()}")
            pq.write_table(self.table, draft, use_dictionary=False)
            draft.rename(self.path)  # another thread reads no half of a file
        if not self.path.exists():  # rows that are gone are not the same as no rows
            raise FileNotFoundError(errno.ENOENT, "the rows that were computed are gone", str(self.path))
        return _footers(self.path) if self.read_footers is None else self.read_footers

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(self.footers)

    @cached_property
    def rows(self) -> int:
        if self.only_null:
            return sum(batch.num_rows for batch in self.batches(select_columns(self.schema, [self.only_null])))
        return sum(f.num_rows for f in self.footers.values()) if self.table is None else int(self.table.num_rows)

    @property
    def size(self) -> int:
        """The bytes that the rows take in files, about."""
        return sum(f.stat().st_size for f in self.files) if self.table is None else self.table.nbytes // ARROW_FACTOR

    def min_max(self, column: str) -> MinMax:
        """Returns the lowest and the highest value of a column, from the statistics of its files where they have them.

        Statistics of long texts may be cut: then the lowest value is a prefix, and the highest value is a bound above.
        """
        if self.table is not None:
            return min_max(self.table[column])
        low = list[Any]()
        high = list[Any]()
        for metadata in self.footers.values():
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
        files: dict[Place, int] = {f: f.stat().st_size for f in self.files} if self.rows else {}
        names = [*dict.fromkeys((*columns, *filter(None, [self.only_null])))]
        df = read_parquet(self.session, select_columns(self.schema, names), files)
        return df.where(f"{self.only_null} IS NULL").select(*columns) if self.only_null else df

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
        for path, footer in self.footers.items():
            with pq.ParquetFile(path, metadata=footer) as file:
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
        groups = (f.row_group(n) for f in self.footers.values() for n in range(f.num_row_groups))
        if sum(g.total_byte_size for g in groups) > FEW_BYTES:
            return None
        parts = [self.schema.empty_table()]
        for path, footer in self.footers.items():
            with pq.ParquetFile(path, metadata=footer) as file:
                parts.append(cast_to_schema(file.read(use_threads=False), self.schema))
        return self._wanted(pa.concat_tables(parts))

    def sorted_batches(self, schema: pa.Schema, key: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Streams the rows as `batches` does, in the order of a key."""
        assert not self.only_null, "rows are sorted whole"
        import duckdb  # sorts on disk what memory does not hold; loaded here, since few batches are so large

        temp = str(self.path.parent / "_sort")
        with duckdb.connect(config={"memory_limit": "1GB", "temp_directory": temp, "threads": 2}) as db:
            rows = db.read_parquet([str(f) for f in self.files]).order(", ".join(f'"{k}"' for k in key))
            for batch in rows.to_arrow_reader(64 * 1024):
                yield from cast_to_schema(pa.Table.from_batches([batch]), schema).to_batches()


class Scratch:
    """Writes and reads the scratch files of one attempt at a time, below `root`."""

    def __init__(self, root: Path, session: EngineSession | None, *, plans_all: bool) -> None:
        self.session = session
        self.root = root
        self._plans_all = plans_all
        self._folder: Path | None = None
        self._numbers = itertools.count(1)  # file names of one attempt stay distinct, also when a label comes again

    @property
    def spill(self) -> Path:
        """The folder of what a database of this process does not hold in memory; the process's attempts share it."""
        return self.root.with_name("_spill")

    @property
    def folder(self) -> Path:
        """The folder of the running attempt."""
        assert self._folder is not None, "no attempt is running"
        return self._folder

    def open(self, name: str) -> Path:
        """Makes an empty folder of this name the current one, and returns the folder."""
        self._folder = self.root / name
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        return self._folder

    def close(self) -> None:
        """Removes the scratch files of this attempt."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._folder = None
        with contextlib.suppress(OSError):  # other files may lie there
            self.root.rmdir()

    def clear(self) -> None:
        """Removes the scratch files of every attempt."""
        shutil.rmtree(self.root, ignore_errors=True)
        self._folder = None

    def materialize(self, df: "DataFrame", label: str) -> MaterializedRows:
        """Computes a DataFrame once, as Parquet in the current folder, and returns the rows.

        Raises InvalidValue, DeclarationError, and LostWrite where not all rows lie in the folder.
        """
        from pipeline.lake.engine_errors import error_context  # needs pyspark, which administration never loads

        assert self.session is not None, "this lake was opened for administration, without an engine"
        folder = self.folder / self._file_name(label)
        with error_context(df=df):
            df_to_write, written = self.session.count_written(self.session.choose_compilation(df))
            df_to_write.write.mode("overwrite").options(**_WRITE_OPTIONS).parquet(str(folder))
        footers = _footers(folder)
        rows = self._opened(folder, footers) if footers else None
        lie_here = rows.rows if rows else 0
        if written is not None and (rows is None or written() != lie_here):  # Spark writes a file also for no rows
            here = f"{lie_here} lie there" if rows else "and no file lies there"
            raise LostWrite(folder, f"{written()} rows were written, {here}")
        if written is None and self.session.engine == "connect":
            # Without a schema an empty folder would be an error. No file has this column, so no type can differ.
            lie_there = self.session.spark.read.schema("_absent INT").parquet(str(folder)).count()
            if lie_there != lie_here:
                raise LostWrite(folder, f"the server finds {lie_there} rows there, and this process {lie_here}")
        if rows:
            return rows
        # Sail writes no file for no rows. Only now the schema is read: before the write, every query would be planned
        # twice.
        folder.mkdir(exist_ok=True)
        return self._rows(folder, arrow_from_spark(df))

    def write(self, rows: pa.Table, label: str) -> MaterializedRows:
        """Returns rows of this process. Few stay in memory until an engine needs their file; more are written now."""
        path = self.folder / f"{self._file_name(label)}.parquet"
        schema = arrow_from_parquet(rows.schema)
        table = cast_to_schema(rows, schema)
        written = replace(self._rows(path, schema), table=table)
        return written if table.nbytes <= FEW_BYTES else replace(written, table=None, read_footers=written.footers)

    def open_parquet(self, path: Path | str) -> MaterializedRows:
        """Returns Parquet that exists already, a file or a folder of part files, as materialized rows."""
        return self._opened(Path(path), _footers(Path(path)))

    def _opened(self, path: Path, footers: Mapping[Path, pq.FileMetaData]) -> MaterializedRows:
        sample = next(iter(footers.values()))
        return self._rows(path, arrow_from_parquet(sample.schema.to_arrow_schema()), footers)

    def _file_name(self, label: str) -> str:
        return f"{next(self._numbers):04d}_{re.sub(r'[^a-zA-Z0-9.]', '_', label)}"

    def _rows(
        self, path: Path, schema: pa.Schema, footers: Mapping[Path, pq.FileMetaData] | None = None
    ) -> MaterializedRows:
        return MaterializedRows(
            path=path, schema=schema, session=self.session, plans_all=self._plans_all, read_footers=footers
        )


def _footers(path: Path) -> dict[Path, pq.FileMetaData]:
    """Returns the footer of a Parquet file, or of each in a folder, in the order of their names."""
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    return {file: pq.read_metadata(file) for file in files}

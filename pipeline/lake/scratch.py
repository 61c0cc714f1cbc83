"""The scratch folder of the running attempt: Parquet files with rows that are computed once and read several times."""

import contextlib
import errno
import itertools
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake.data_files import cast_to_schema
from pipeline.lake.delta_schema import arrow_from_parquet, arrow_from_spark, select_columns
from pipeline.lake.engine_session import EngineSession, read_parquet
from pipeline.lake.file_pruning import MinMax, min_max

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


class LostWrite(OSError):
    """Rows that the engine wrote are not in the folder where this process reads them. A retry may help."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"{folder}: {what}; see that the engine writes to the same folder that this process reads")


@dataclass(frozen=True, kw_only=True)
class MaterializedRows:
    """Rows that lie as Parquet in the scratch folder: each read takes them from there and computes nothing again."""

    path: Path
    schema: pa.Schema
    session: EngineSession | None = None
    plans_all: bool = False

    @property
    def must_process(self) -> bool:
        """Returns whether the next steps have to run: there are rows, or every step is planned also without rows."""
        return self.plans_all or self.rows > 0

    @cached_property
    def files(self) -> tuple[Path, ...]:
        if self.path.is_file():
            return (self.path,)
        if not self.path.is_dir():  # rows that are gone are not the same as no rows
            raise FileNotFoundError(errno.ENOENT, "the rows that were computed are gone", str(self.path))
        return tuple(sorted(self.path.glob("*.parquet")))

    @cached_property
    def rows(self) -> int:
        return sum(pq.read_metadata(f).num_rows for f in self.files)

    def min_max(self, column: str) -> MinMax:
        """Returns the lowest and the highest value of a column, from the statistics of its files where they have them.

        Statistics of long texts may be cut: then the lowest value is a prefix, and the highest value is a bound above.
        """
        low = list[Any]()
        high = list[Any]()
        for file in self.files:
            metadata = pq.read_metadata(file)
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
        files = {f: f.stat().st_size for f in self.files} if self.rows else {}
        return read_parquet(self.session, select_columns(self.schema, columns), files)

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns the rows as an Arrow table: some columns, by default all."""
        schema = self.schema if columns is None else select_columns(self.schema, columns)
        return pa.Table.from_batches(self.batches(schema), schema)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Streams the rows in file order, cast to `schema`, and null where the rows lack a column."""
        for path in self.files:
            with pq.ParquetFile(path) as file:
                present = [n for n in schema.names if n in file.schema_arrow.names]
                for batch in file.iter_batches(batch_size=64 * 1024, columns=present):
                    yield from cast_to_schema(pa.Table.from_batches([batch]), schema).to_batches()

    def sorted_batches(self, schema: pa.Schema, key: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Streams the rows as `batches` does, in the order of a key."""
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
        self._root = root
        self._plans_all = plans_all
        self._folder: Path | None = None
        self._numbers = itertools.count(1)  # file names of one attempt stay distinct, also when a label comes again

    @property
    def folder(self) -> Path:
        """The folder of the running attempt."""
        assert self._folder is not None, "no attempt is running"
        return self._folder

    def open(self, name: str) -> Path:
        """Makes an empty folder of this name the current one, and returns the folder."""
        self._folder = self._root / name
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        return self._folder

    def close(self) -> None:
        """Removes the scratch files of this attempt."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._folder = None
        with contextlib.suppress(OSError):  # other files may lie there
            self._root.rmdir()

    def clear(self) -> None:
        """Removes the scratch files of every attempt."""
        shutil.rmtree(self._root, ignore_errors=True)
        self._folder = None

    def materialize(self, df: "DataFrame", label: str) -> MaterializedRows:
        """Computes a DataFrame once, as Parquet in the current folder, and returns the rows.

        Raises InvalidValue, DeclarationError, and LostWrite where not all rows lie in the folder.
        """
        from pipeline.lake.engine_errors import error_context  # needs pyspark, which administration never loads

        assert self.session is not None, "this lake was opened for administration, without an engine"
        folder = self.folder / f"{next(self._numbers):04d}_{re.sub(r'[^a-zA-Z0-9.]', '_', label)}"
        with error_context(df=df):
            df_to_write, written = self.session.count_written(self.session.choose_compilation(df))
            df_to_write.write.mode("overwrite").options(**_WRITE_OPTIONS).parquet(str(folder))
        rows = self.open_parquet(folder) if any(folder.glob("*.parquet")) else None
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

    def open_parquet(self, path: Path | str) -> MaterializedRows:
        """Returns Parquet that exists already, a file or a folder of part files, as materialized rows."""
        path = Path(path)
        sample = path if path.is_file() else next(iter(sorted(path.glob("*.parquet"))))
        return self._rows(path, arrow_from_parquet(pq.read_schema(sample)))

    def _rows(self, path: Path, schema: pa.Schema) -> MaterializedRows:
        return MaterializedRows(path=path, schema=schema, session=self.session, plans_all=self._plans_all)

"""The scratch folder of the running attempt: Parquet files with rows that are computed once and read several times.

The folder lies on this machine. Where the lake lies in a store and the engine runs on other machines, the files that
the engine reads or writes lie in the store.
"""

import contextlib
import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.lake.data_files import cast_to_schema
from pipeline.lake.delta_schema import arrow_from_parquet, arrow_from_spark
from pipeline.lake.engine_session import EngineSession
from pipeline.lake.materialized_rows import FEW_BYTES, MaterializedRows, ScratchFile, scratch_files
from pipeline.place import Place, StoreError, StorePath, as_folder, connect, is_store, remove_tree

if TYPE_CHECKING:
    import duckdb
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

    def __init__(self, folder: Place, what: str) -> None:
        super().__init__(f"{folder}: {what}; see that the engine writes to the same folder that this process reads")


class Scratch:
    """Writes and reads the scratch files of one attempt at a time, below `root`.

    `shared` is the place for files that an engine on other machines reads and writes.
    """

    def __init__(self, root: Path, session: EngineSession | None, *, plans_all: bool, shared: Place) -> None:
        self.session = session
        self.root = root
        self._shared = shared
        self._plans_all = plans_all
        self._folder: Path | None = None
        self._numbers = itertools.count(1)  # file names of one attempt stay distinct, also when a label comes again

    @property
    def spill(self) -> Path:
        """The folder of what databases of this process do not hold in memory; the process's attempts share it."""
        return self._spills / str(os.getpid())

    @property
    def _spills(self) -> Path:
        return self.root.with_name("_spill")

    @cached_property
    def database(self) -> "duckdb.DuckDBPyConnection":
        """A database that reads the files by their names: to open one costs more than a query about a small batch."""
        return connect(self._shared, self.spill)

    @property
    def folder(self) -> Path:
        """The folder of the running attempt, on this machine."""
        assert self._folder is not None, "no attempt is running"
        return self._folder

    @property
    def place(self) -> Place:
        """The place of those files of the running attempt that the engine reads or writes."""
        is_elsewhere = self.session is not None and self.session.is_elsewhere
        return self._shared / self.folder.name if is_elsewhere else self.folder

    def open(self, name: str) -> Path:
        """Makes an empty folder of this name, which no attempt had before, the current one, and returns the folder."""
        self._folder = self.root / name
        remove_tree(self._folder)
        self._folder.mkdir(parents=True)
        return self._folder

    def close(self) -> None:
        """Removes the scratch files of this attempt, which has ended: a store that does not answer is no error here."""
        if self.place != self.folder:
            with contextlib.suppress(StoreError):  # `clear` removes the files later
                remove_tree(self.place)
        remove_tree(self.folder)
        self._folder = None
        with contextlib.suppress(OSError):  # other files may lie there
            self.root.rmdir()

    def clear(self) -> None:
        """Removes the scratch files of every attempt, and what the databases of dead processes left."""
        remove_tree(self.root)
        if self._shared != self.root:
            remove_tree(self._shared)
        for spill in self._spills.glob("*"):
            if not Path(f"/proc/{spill.name}").exists():  # a worker that waits keeps its database open
                remove_tree(spill)
        self._folder = None

    def materialize(self, df: "DataFrame", label: str) -> MaterializedRows:
        """Computes a DataFrame once, as Parquet in the current folder, and returns the rows.

        Raises InvalidValue, DeclarationError, and LostWrite where not all rows lie in the folder.
        """
        from pipeline.lake.engine_errors import error_context  # needs pyspark, which administration never loads

        assert self.session is not None, "this lake was opened for administration, without an engine"
        folder = self.place / self._file_name(label)
        with error_context(df=df):
            df_to_write, written = self.session.count_written(self.session.choose_compilation(df))
            df_to_write.write.mode("overwrite").options(**_WRITE_OPTIONS).parquet(str(folder))
        files = scratch_files(folder)
        rows = self._opened(folder, files) if files else None
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
        if not is_store(folder):
            as_folder(folder).mkdir(exist_ok=True)
        return self._rows(folder, arrow_from_spark(df), files)

    def write(self, rows: pa.Table, label: str) -> MaterializedRows:
        """Returns rows of this process. Few stay in memory until an engine needs their file; more are written now."""
        path = self.place / f"{self._file_name(label)}.parquet"
        schema = arrow_from_parquet(rows.schema)
        table = cast_to_schema(rows, schema)
        written = replace(self._rows(path, schema), table=table)
        return written if table.nbytes <= FEW_BYTES else replace(written, table=None, known_files=written.files)

    def open_parquet(self, path: Path | str) -> MaterializedRows:
        """Returns a Parquet file of this machine as materialized rows. The engine gets a copy where it is elsewhere."""
        file = Path(path)
        known = scratch_files(file)
        place = self.place
        if isinstance(place, StorePath):
            target = place / f"{self._file_name(file.stem)}.parquet"
            target.put_file(file)
            return self._opened(target, {target: known[file]})
        return self._opened(file, known)

    def remove(self, rows: MaterializedRows) -> None:
        """Removes the files of rows that are not read any more."""
        if rows.path in rows.files:
            rows.path.unlink()
        else:
            remove_tree(rows.path)

    def _opened(self, path: Place, files: Mapping[Place, ScratchFile]) -> MaterializedRows:
        sample = next(iter(files.values())).footer
        return self._rows(path, arrow_from_parquet(sample.schema.to_arrow_schema()), files)

    def _file_name(self, label: str) -> str:
        return f"{next(self._numbers):04d}_{re.sub(r'[^a-zA-Z0-9.]', '_', label)}"

    def _rows(
        self, path: Place, schema: pa.Schema, files: Mapping[Place, ScratchFile] | None = None
    ) -> MaterializedRows:
        return MaterializedRows(
            path=path, schema=schema, session=self.session, plans_all=self._plans_all, known_files=files
        )

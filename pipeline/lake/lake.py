"""The lake: Delta tables under one folder, read and written by version. Knows no batch.

Tables have no partitions, no deletion vectors and no column mapping, so the list of data files *is* the version. The
engine reads plain Parquet, and this process writes and commits it: in milliseconds, the same for every engine.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema

from pipeline.lake.data_files import (
    ARROW_FACTOR,
    cast_to_schema,
    parquet_dataset,
    target_bytes,
    write_files,
)
from pipeline.lake.delta_log import (
    Commit,
    commit_files,
    commit_properties,
    commits_after,
    has_commit,
    newest_version,
    table_properties,
)
from pipeline.lake.delta_schema import select_columns
from pipeline.lake.engine_files import append_files, merge_files
from pipeline.lake.engine_session import EngineSession, read_parquet
from pipeline.lake.file_pruning import MinMax, files_within
from pipeline.lake.key_lookup import has_more_rows, ranges_of, rows_of_keys
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.merge import plan_merge, write_merge
from pipeline.lake.open_table import OpenTable
from pipeline.lake.scratch import Scratch
from pipeline.lake.sorted_rows import sorted_batches
from pipeline.model import Column
from pipeline.place import SCRATCH, Place, as_folder, is_store, open_file, sync
from pipeline.schema import arrow_schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SORTED_ROWS = 50_000  # a first write of so many rows is sorted by key; for fewer rows a sort gains nothing
ENGINE_ROWS = 20_000_000  # so many rows are written by the engine: they may not fit into this process
OPEN_VERSIONS = 2  # of each table

_NAME = re.compile(r"\w+(\.\w+)+")
_UNSAFE = re.compile(r"[\[\]{}*?%#\\^|<>\"`\x00-\x1f]")


class Lake:
    """Names, creates, reads and writes the tables of one lake. Without a session it administers only.

    With `plans_all`, steps run also for no rows: a trial of declarations on empty tables needs that. `scratch` holds
    the files of the running attempt.
    """

    def __init__(
        self,
        path: Place,
        session: EngineSession | None = None,
        *,
        keep_days: int = 30,
        engine_rows: int = ENGINE_ROWS,
        plans_all: bool = False,
        work: Path | None = None,
    ) -> None:
        unsafe = _UNSAFE.search(str(path))
        if unsafe:
            # delta-rs fails on some of these. Engines read the others as patterns: they find no rows, without an error.
            raise ValueError(f"{path}: a lake's path must not contain {unsafe[0]!r}; choose another [lake] path")
        self.path = path
        self.keep_days = keep_days
        self.plans_all = plans_all
        shared = path / SCRATCH
        self.scratch = Scratch(work or as_folder(shared), session, plans_all=plans_all, shared=shared)
        self._engine_rows = engine_rows
        # To open a table reads its log, except after our own commit. An attempt reads also the version where it began.
        self._open_tables: dict[str, tuple[OpenTable, ...]] = {}
        self._folders: dict[str, Place] = {}
        self._file_contents: dict[tuple[str, tuple[str, ...]], dict[Place, pa.Table]] = {}

    @property
    def session(self) -> EngineSession | None:
        return self.scratch.session

    # ---- names and versions

    def location(self, table: str) -> Place:
        """Returns the folder of a table. Raises ValueError for a text that cannot name a table."""
        if table not in self._folders:
            if not _NAME.fullmatch(table):
                raise ValueError(f"{table!r} is not a table's name; names look like retail.silver.orders, ops.batches")
            self._folders[table] = self.path.joinpath(*table.split("."))
        return self._folders[table]

    def exists(self, table: str) -> bool:
        return has_commit(self._log(table), 0) or DeltaTable.is_deltatable(str(self.location(table)))

    def version(self, table: str) -> int:
        """Returns the newest version."""
        return newest_version(
            self._log(table), max((o.version for o in self._open_tables.get(table, ())), default=None)
        )

    def is_newest(self, table: str, version: int) -> bool:
        """Returns whether a version is the newest, by two looks for files: cheap enough before every write."""
        log = self._log(table)
        return has_commit(log, version) and not has_commit(log, version + 1)

    def row_count(self, table: str, version: int) -> int:
        """Returns the number of rows of a version, by the statistics in the log."""
        counts = self._open(table, version).files["num_records"]
        return int(pc.sum(pc.fill_null(counts, 1)).as_py() or 0)  # a file without statistics holds rows

    def tables(self) -> tuple[str, ...]:
        """Returns the names of all tables in the lake."""
        logs = [*self.path.glob("ops/*/_delta_log"), *self.path.glob("[!_.]*/*/*/_delta_log")]
        return tuple(sorted(".".join(log.parent.relative_to(self.path).parts) for log in logs))

    def schema(self, table: str, version: int | None = None) -> pa.Schema:
        """Returns the columns of a version, by default the newest."""
        return self._open(table, version).arrow_schema

    def delta(self, table: str, version: int) -> OpenTable:
        """Returns a version of a table. The lake keeps it open, so the next batch does not read the log again."""
        return self._open(table, version)

    def commits(self, table: str, after: int) -> list[Commit]:
        """Returns the commits after a version, oldest first."""
        return commits_after(self._log(table), after)

    # ---- reading

    def read(
        self,
        table: str,
        version: int,
        columns: Sequence[str] | None = None,
        *,
        within: Mapping[str, MinMax] | None = None,
    ) -> "DataFrame":
        """Returns one version as a DataFrame: some columns, by default all.

        `within` maps columns to ranges of values; the result may lack any row that lies outside of one of them.
        """
        session, delta = self._session(), self._open(table, version)
        ranges = within or {}
        schema = delta.arrow_schema
        files = self._existing_files(delta, table, ranges)
        return read_parquet(session, select_columns(schema, columns) if columns else schema, files)

    def arrow(
        self,
        table: str,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002
    ) -> pa.Table:
        """Returns one version, by default the newest, as an Arrow table. Needs no engine."""
        delta = self._open(table, version)
        rows = parquet_dataset(self._existing_files(delta, table, {}), delta.arrow_schema)
        return rows.to_table(columns=list(columns) if columns else None, filter=filter)

    def rows_of_keys(self, table: str, version: int, keys: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Returns some columns of the rows of one version that have one of these keys; see `key_lookup`."""
        schema = select_columns(self._open(table, version).arrow_schema, columns)
        return rows_of_keys(*self._files_of_keys(table, version, keys), schema)

    def has_more_rows(self, table: str, version: int, keys: pa.Table, limit: int) -> bool:
        """Returns whether one version holds more than `limit` rows with one of these keys."""
        return has_more_rows(*self._files_of_keys(table, version, keys), limit)

    def _files_of_keys(self, table: str, version: int, keys: pa.Table) -> tuple[dict[Place, int], pa.Table]:
        delta = self._open(table, version)
        typed = cast_to_schema(keys, select_columns(delta.arrow_schema, keys.column_names))
        return self._existing_files(delta, table, ranges_of(typed) if keys.num_rows else {}), typed

    def arrow_by_file(self, table: str, columns: Sequence[str]) -> list[tuple[Place, pa.Table]]:
        """Returns some columns of the newest version, file by file. Data files never change, so each is read once."""
        files, held = self._existing_files(self._open(table), table, {}), (table, tuple(columns))
        known = self._file_contents.get(held, {})
        contents = {
            path: known[path] if path in known else pq.read_table(open_file(path, size), columns=list(columns))
            for path, size in files.items()
        }
        self._file_contents[held] = contents
        return list(contents.items())

    # ---- writing

    def create(self, table: str, columns: Sequence[Column] | pa.Schema, tag: str = "create") -> None:
        """Creates an empty table at version 0: every column nullable, protocol 1 of readers."""
        schema = columns if isinstance(columns, pa.Schema) else arrow_schema(columns)
        DeltaTable.create(
            str(self.location(table)),
            Schema.from_arrow(pa.schema([pa.field(f.name, f.type) for f in schema])),
            configuration=table_properties(self.keep_days),
            commit_properties=commit_properties(tag),
        )

    def append(
        self,
        table: str,
        rows: MaterializedRows | pa.Table,
        tag: str,
        *,
        sorted_by: Sequence[str] = (),
        after: int | None = None,
    ) -> int:
        """Appends rows by column name, cast to the table's types, after a version (the newest); returns the new one."""
        if not (count := rows.rows if isinstance(rows, MaterializedRows) else rows.num_rows):
            return self.version(table) if after is None else after
        delta, folder = self._open(table, after), self.location(table)
        schema = delta.arrow_schema
        if not isinstance(rows, MaterializedRows):
            size = target_bytes(delta.size + rows.nbytes // ARROW_FACTOR)
            files = write_files(folder, iter(cast_to_schema(rows, schema).to_batches()), schema, size)
        elif self._is_for_engine(rows) and self.session and self.session.engine != "sail":  # its sort has no bound
            files = append_files(self.scratch, rows, schema, folder, sorted_by)
        else:
            key = sorted_by if count >= SORTED_ROWS else ()
            batches = sorted_batches(rows, schema, key, self.scratch.spill) if key else rows.batches(schema)
            files = write_files(folder, batches, schema, target_bytes(delta.size + rows.size))
        return self._keep_open(table, commit_files(delta, files, tag, {"num_added_rows": count})).version

    def change(
        self, table: str, key: Sequence[str], rows: MaterializedRows, tag: str, *, after: int | None = None
    ) -> int:
        """Merges signed rows into a table in one commit, after a version as `append`; returns the new version.

        `rows` has the table's columns and `_sign`: -1 for a row as it was, +1 for a row as it is now. A key that has
        only -1 rows is deleted. A +1 row updates the row of its key, or is inserted. Files that hold none of the keys
        stay as they are. Raises ValueError where a key has two +1 rows.
        """
        if not rows.rows or rows.min_max("_sign")[0] > 0:  # only new rows
            return self.append(table, rows, tag, sorted_by=key, after=after)
        delta = self._open(table, after)
        plan = plan_merge(delta, self.location(table), key, rows, keys_only=(by_engine := self._is_for_engine(rows)))
        if not plan.source.is_distinct:
            raise ValueError(f"{table}: a change holds two new rows for one key ({', '.join(key)})")
        files = merge_files(self.scratch, plan, key, rows) if by_engine else write_merge(plan, target_bytes(delta.size))
        return self._keep_open(table, commit_files(delta, files, tag, plan.metrics, removed=plan.replaced)).version

    def _is_for_engine(self, rows: MaterializedRows) -> bool:
        return self.session is not None and rows.rows >= self._engine_rows

    def add_columns(self, table: str, fields: pa.Schema, tag: str) -> int:
        """Adds columns, null in every existing row, and returns the new version."""
        delta = DeltaTable(str(self.location(table)))
        delta.alter.add_columns(list(Schema.from_arrow(fields).fields), commit_properties=commit_properties(tag))
        return self.version(table)

    def restore(self, table: str, version: int, tag: str) -> int:
        """Makes the content of an older version the newest one, and returns the new version."""
        delta, properties = DeltaTable(str(self.location(table))), commit_properties(tag)
        delta.restore(version, protocol_downgrade_allowed=True, commit_properties=properties)
        return self.version(table)

    def sync(self) -> None:
        """Makes everything written so far survive a loss of power."""
        sync(self.path)

    # ---- opening

    def _log(self, table: str) -> Place:
        return self.location(table) / "_delta_log"

    def _open(self, table: str, version: int | None = None) -> OpenTable:
        for known in self._open_tables.get(table, ()):
            is_wanted = self.is_newest(table, known.version) if version is None else known.version == version
            if is_wanted and known.is_unchanged:
                return known
        return self._keep_open(table, OpenTable.open(self.location(table), version))

    def _keep_open(self, table: str, opened: OpenTable) -> OpenTable:
        others = [o for o in self._open_tables.get(table, ()) if o.version != opened.version]
        self._open_tables[table] = (opened, *others[: OPEN_VERSIONS - 1])
        return opened

    def _existing_files(self, delta: OpenTable, table: str, within: Mapping[str, MinMax]) -> dict[Place, int]:
        """Returns the files of an open table with their bytes. Raises FileNotFoundError where one is gone."""
        files = {self.location(table) / unquote(path): size for path, size in files_within(delta, within)}
        for file in () if is_store(self.path) else files:  # engines do not miss the lack of an object
            if not file.exists():  # some engines read a missing file as no rows
                raise FileNotFoundError(f"{table} version {delta.version}: its file {file} is gone")
        return files

    def _session(self) -> EngineSession:
        assert self.session is not None, "this lake was opened for administration, without an engine"
        return self.session

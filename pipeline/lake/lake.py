"""The lake: Delta tables under one folder. The only file that speaks Delta; it decides nothing about batches.

Tables have no partitions, no deletion vectors and no column mapping, so the file list of a version *is* the version: the
engine reads plain Parquet, this process writes it, and delta-rs commits and administers, the same for every engine and in milliseconds.
"""

import ctypes
import datetime as dt
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, WriterProperties
from deltalake.transaction import AddAction, RemoveAction

from pipeline.errors import LostWrite
from pipeline.ingest.csv_values import arrow_type
from pipeline.lake import data_files
from pipeline.lake.data_files import DataFile, shaped
from pipeline.model import Column, literal

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

# A batch rewrites the files that its keys touch: small files keep that in proportion, and Parquet still pays.
FILE_BYTES = 16 << 20
# From here on rows are laid out by key when they are first written; below, a sort buys nothing.
SORTED_ROWS = 50_000
# Rows of so few bytes are read by one task: what follows, joins and windows too, then needs no shuffle.
ONE_TASK_BYTES = 8 << 20
# From here on a cluster's many writers beat this process's one.
ENGINE_ROWS = 20_000_000
TAG = "userMetadata"  # the commit entry that Spark's Delta writer fills too, so one reader of tags serves both

MinMax = tuple[Any, Any]  # the lowest and the highest of some values; without any, None

_NAME = re.compile(r"\w+(\.\w+)+")
_UNSAFE = re.compile(r"[\[\]{}*?%#\\^|<>\"`\x00-\x1f]")
# The ends of other types are not told, or not exactly.
_ORDERED = (pa.string(), pa.int32(), pa.int64(), pa.date32(), pa.timestamp("us", "UTC"))
# Spark's Delta writer, and so somebody else's commit, tells of a time what is left when all below a millisecond is cut off.
_A_MILLISECOND = pa.scalar(1000, pa.duration("us"))
# Read within the minute and thrown away: an engine's stronger compression, and dictionaries of what hardly repeats, cost a third of the
# writing. Each engine takes the words that it knows.
_KEPT = {
    "compression": "snappy",
    "parquet.enable.dictionary": "false",
    "dictionary_enabled": "false",
    "statistics_enabled": "chunk",
}
_WRITER = WriterProperties(compression="SNAPPY", max_row_group_size=data_files.GROUP_ROWS)


class Engine(Protocol):
    """What the lake needs of a session."""

    @property
    def spark(self) -> "SparkSession": ...
    @property
    def engine(self) -> str: ...
    def for_bytes(self, size: int) -> "SparkSession": ...
    def suited(self, df: "DataFrame") -> "DataFrame": ...
    def counted(self, df: "DataFrame") -> "tuple[DataFrame, Callable[[], int] | None]": ...


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One commit of a table. `tag` says whose it is; a foreign one has none of ours."""

    version: int
    operation: str
    tag: str | None
    at: dt.datetime | None
    restored: int | None = None  # of a RESTORE: the version whose content it brought back


@dataclass(frozen=True, kw_only=True)
class MaterializedRows:
    """Rows that lie as Parquet in the attempt's work folder: read them as often as you like, they are not computed again."""

    path: Path
    schema: pa.Schema
    session: Engine | None = None
    plans_all: bool = False

    @property
    def is_news(self) -> bool:
        """Says whether what follows has to be computed: there are rows, or all is to be planned without any."""
        return self.plans_all or self.rows > 0

    @cached_property
    def files(self) -> tuple[Path, ...]:
        if self.path.is_file():
            return (self.path,)
        return tuple(sorted(self.path.glob("*.parquet"))) if self.path.is_dir() else ()

    @cached_property
    def rows(self) -> int:
        return sum(pq.read_metadata(f).num_rows for f in self.files)

    def min_max(self, column: str) -> MinMax:
        """Tells the ends of a column, as a rule from the statistics of its files: of a long text they may tell the beginning, and a higher one."""
        low, high = list[Any](), list[Any]()
        for file in self.files:
            metadata = pq.read_metadata(file)
            at = next(n for n in range(metadata.num_columns) if metadata.schema.column(n).path == column)
            for chunk in (metadata.row_group(n).column(at) for n in range(metadata.num_row_groups)):
                told = chunk.statistics
                if told is not None and told.has_min_max:
                    low.append(told.min)
                    high.append(told.max)
                elif told is None or told.null_count is None or told.null_count < chunk.num_values:
                    return _ends(self.arrow([column])[column])
        return min(low, default=None), max(high, default=None)

    @cached_property
    def df(self) -> "DataFrame":
        return self.read(self.schema.names)

    def read(self, columns: Sequence[str]) -> "DataFrame":
        """Reads some columns: an engine plans what it is told of, needed or not."""
        assert self.session is not None, "rows kept without a session have no DataFrame"
        return _parquet(
            self.session,
            _chosen_columns(self.schema, columns),
            {f: f.stat().st_size for f in self.files} if self.rows else {},
        )

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        schema = self.schema if columns is None else _chosen_columns(self.schema, columns)
        return pa.Table.from_batches(self.batches(schema), schema)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Streams the rows in file order, shaped to `schema`: cast, and null where the rows lack a column."""
        for path in self.files:
            with pq.ParquetFile(path) as file:
                present = [n for n in schema.names if n in file.schema_arrow.names]
                for batch in file.iter_batches(batch_size=64 * 1024, columns=present):
                    yield from shaped(pa.Table.from_batches([batch]), schema).to_batches()


class Lake:
    """Names, creates, reads and writes the tables of one lake. Without a session it administers only.

    With `plans_all` no step is left out because it has no rows: so declarations are tried out on empty tables.
    """

    def __init__(
        self,
        path: Path,
        session: Engine | None = None,
        *,
        keep_days: int = 30,
        engine_rows: int = ENGINE_ROWS,
        plans_all: bool = False,
    ) -> None:
        found = _UNSAFE.search(str(path))
        if found:
            # delta-rs dies of some of these, and engines read the others as patterns: zero rows and no error.
            raise ValueError(f"{path}: a lake's path must not contain {found[0]!r}; choose another [lake] path")
        self.path = path
        self.session = session
        self.keep_days = keep_days
        self.plans_all = plans_all
        self._engine_rows = engine_rows
        self._work: Path | None = None
        self._numbers = itertools.count(1)
        # Opening a table reads a checkpoint and the commits after it. What is opened never changes: threads share it, and commits start from it.
        self._known: dict[str, DeltaTable] = {}
        self._pieces: dict[tuple[Path, tuple[str, ...]], pa.Table] = {}

    # ---- names

    def location(self, table: str) -> Path:
        if not _NAME.fullmatch(table):
            raise ValueError(f"{table!r} is not a table's name; names look like retail.silver.orders or ops.batches")
        return self.path.joinpath(*table.split("."))

    def exists(self, table: str) -> bool:
        return (self.location(table) / "_delta_log").is_dir() and DeltaTable.is_deltatable(str(self.location(table)))

    def version(self, table: str) -> int:
        """Tells the newest version, from the names in the log's folder."""
        return max(int(log.name[:20]) for log in (self.location(table) / "_delta_log").glob("[0-9]*.json"))

    def is_at(self, table: str, version: int) -> bool:
        """Tells whether a version is the newest, by two looks at the log's folder: cheap enough to ask before every write."""
        log = self.location(table) / "_delta_log"
        return (log / f"{version:020d}.json").exists() and not (log / f"{version + 1:020d}.json").exists()

    def is_empty(self, table: str, version: int) -> bool:
        """Tells whether a version holds no rows."""
        return not self._opened(table, version).file_uris()

    def tables(self) -> tuple[str, ...]:
        """Tells every table that lies in the lake."""
        logs = [*self.path.glob("ops/*/_delta_log"), *self.path.glob("[!_.]*/*/*/_delta_log")]
        return tuple(sorted(".".join(log.parent.relative_to(self.path).parts) for log in logs))

    def schema(self, table: str, version: int | None = None) -> pa.Schema:
        """Tells the columns of a version, the newest by default."""
        return _arrow_schema(self._opened(table, version).schema())

    # ---- reading

    def read(
        self,
        table: str,
        version: int,
        columns: Sequence[str] | None = None,
        *,
        within: Mapping[str, MinMax] | None = None,
    ) -> "DataFrame":
        """Reads one version through the engine. Of rows that lie outside of some columns' `within` it may leave out any."""
        session, delta = self._engine(), self._opened(table, version)
        if session.engine == "connect":
            df = session.spark.read.format("delta").option("versionAsOf", version).load(str(self.location(table)))
            for name, (low, high) in (within or {}).items():
                df = df.where("false" if low is None else f"{name} BETWEEN {literal(low)} AND {literal(high)}")
            return df.select(*columns) if columns else df
        schema, files = _arrow_schema(delta.schema()), self._files(delta, table, within or {})
        if columns:
            schema = _chosen_columns(schema, columns)
        return _parquet(session, schema, files)

    def arrow(
        self,
        table: str,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002
    ) -> pa.Table:
        """Reads one version, the newest by default, without an engine."""
        return (
            self._opened(table, version)
            .to_pyarrow_dataset()
            .to_table(columns=list(columns) if columns else None, filter=filter)
        )

    def pieces(self, table: str, columns: Sequence[str]) -> list[tuple[Path, pa.Table]]:
        """Reads the newest version file by file. Files never change: what was read of one is not read again."""
        wanted = {path: (path, tuple(columns)) for path in self._files(self._opened(table), table, {})}
        found = {
            path: self._pieces[key] if key in self._pieces else pq.read_table(path, columns=list(columns))
            for path, key in wanted.items()
        }
        folder = self.location(table)
        gone = [k for k in self._pieces if k[1] == tuple(columns) and k[0].parent == folder and k[0] not in found]
        for key in gone:
            del self._pieces[key]
        self._pieces |= {wanted[path]: rows for path, rows in found.items()}
        return list(found.items())

    def commits(self, table: str, after: int) -> list[Commit]:
        """Tells the commits after a version, oldest first."""
        news = self.version(table) - after
        history = self._opened(table).history(news) if news > 0 else []
        return [_as_commit(entry) for entry in reversed(history) if entry["version"] > after]

    def _opened(self, table: str, version: int | None = None) -> DeltaTable:
        known = self._known.get(table)
        if known is None or not (self.is_at(table, known.version()) if version is None else known.version() == version):
            known = self._known[table] = DeltaTable(self.location(table), version=version)
        return known

    def _files(self, delta: DeltaTable, table: str, within: Mapping[str, MinMax]) -> dict[Path, int]:
        """Tells the files of an opened table, each with its bytes."""
        files = {self.location(table) / unquote(path): size for path, size in _files_within(delta, within)}
        for file in files:
            if not file.exists():  # an engine may read a missing file as no rows
                raise FileNotFoundError(f"{table} version {delta.version()}: its file {file} is gone")
        return files

    # ---- writing

    def create(self, table: str, columns: Sequence[Column] | pa.Schema, tag: str = "create") -> None:
        """Creates an empty table at version 0: every column nullable, protocol 1 of readers."""
        schema = columns if isinstance(columns, pa.Schema) else arrow_schema(columns)
        configuration = {
            "delta.targetFileSize": str(FILE_BYTES),
            "delta.checkpointInterval": "20",  # opening a table reads the commits since its checkpoint, and that happens often
        }
        DeltaTable.create(
            self.location(table),
            Schema.from_arrow(pa.schema([pa.field(f.name, f.type) for f in schema])),
            configuration=configuration | self._retention(self.keep_days),
            commit_properties=_tagged(tag),
        )

    def append(
        self, table: str, rows: "MaterializedRows | pa.Table", tag: str, *, sorted_by: Sequence[str] = ()
    ) -> int:
        """Appends rows by column name, cast to the table's types, and tells the new version. No rows, no commit."""
        count = rows.rows if isinstance(rows, MaterializedRows) else rows.num_rows
        if not count:
            return self.version(table)
        delta = self._opened(table)
        schema = _arrow_schema(delta.schema())
        if (
            isinstance(rows, MaterializedRows)
            and count >= self._engine_rows
            and self.session
            and self.session.engine != "sail"
        ):
            return self._append_by_engine(table, rows, schema, tag)
        if sorted_by and count >= SORTED_ROWS and isinstance(rows, MaterializedRows):
            batches = self._sorted(rows, schema, sorted_by)
        else:
            batches = (
                rows.batches(schema) if isinstance(rows, MaterializedRows) else iter(shaped(rows, schema).to_batches())
            )
        return self._commit(
            delta, data_files.write(self.location(table), batches, schema, FILE_BYTES), tag, {"num_added_rows": count}
        )

    def change(self, table: str, key: Sequence[str], rows: MaterializedRows, tag: str) -> int:
        """Applies differences in one commit and tells the new version.

        `rows` have `_sign`: -1 is a row as it was, +1 a row as it is now. A key that comes only with -1 goes, a +1 row
        takes the place of its key's row or is new. Files that hold none of the keys stay. Raises ValueError when a key has two rows.
        """
        if not rows.rows:
            return self.version(table)
        if rows.min_max("_sign")[0] > 0:
            return self.append(table, rows, tag, sorted_by=key)
        delta = self._opened(table)
        schema = _arrow_schema(delta.schema())
        signs = rows.arrow([*key, "_sign"])
        is_new = pc.greater(signs["_sign"], 0).combine_chunks()
        keys = shaped(signs, _chosen_columns(schema, key))
        news = data_files.MergeSource(keys, pa.Table.from_batches(_chosen(rows.batches(schema), is_new), schema))
        if not news.is_distinct:
            raise ValueError(f"{table}: a change holds two new rows for one key ({', '.join(key)})")
        folder = self.location(table)
        with ThreadPoolExecutor(data_files.WRITERS) as pool:
            olds = keys.filter(pc.invert(is_new))
            near = _files_within(delta, {c: _ends(olds[c]) for c in key if not olds[c].null_count})
            found = pool.map(lambda file: news.found_in(folder / unquote(file[0])), near)
            touched = [(file, rows) for file, rows in zip(near, found, strict=True) if rows.null_count < len(rows)]
            new, last = news.not_in(rows for _, rows in touched), max(len(touched) - 1, 0)

            def write(number: int) -> list[DataFile]:
                parts = [
                    news.applied_to(folder / unquote(path), rows) for (path, _), rows in touched[number : number + 1]
                ]
                if number == last:  # new rows join a file that is written anyway: small tables stay one file
                    parts.append(new)
                return data_files.write(folder, pa.concat_tables(parts).to_batches(), schema, FILE_BYTES)

            files = [file for some in pool.map(write, range(last + 1)) for file in some]
        updated, met = news.count - new.num_rows, sum(len(rows) - rows.null_count for _, rows in touched)
        metrics = {
            "num_target_rows_inserted": new.num_rows,
            "num_target_rows_updated": updated,
            "num_target_rows_deleted": met - updated,
        }
        return self._commit(delta, files, tag, metrics, gone=[file for file, _ in touched])

    def _commit(
        self,
        delta: DeltaTable,
        files: Sequence[DataFile],
        tag: str,
        metrics: Mapping[str, int],
        *,
        gone: Sequence[tuple[str, int]] = (),
    ) -> int:
        """Adds files in the place of others, of which path and size are given. `metrics` are for readers of the table's history."""
        now = time.time_ns() // 1_000_000
        actions: list[AddAction | RemoveAction] = [
            AddAction(
                path=f.name,
                size=f.size,
                partition_values={},
                modification_time=now,
                data_change=True,
                stats=f.statistics,
            )
            for f in files
        ]
        actions += [
            RemoveAction(path, data_change=True, deletion_timestamp=now, size=size, partition_values={})
            for path, size in gone
        ]
        told = {**metrics, "num_added_files": len(files), "num_removed_files": len(gone)}
        delta.create_write_transaction(
            actions, "append", delta.schema(), commit_properties=_tagged(tag, operationMetrics=told)
        )
        return int(delta.version()) + 1  # what is opened stays what it was, for others read it

    def add_columns(self, table: str, fields: pa.Schema, tag: str) -> int:
        """Adds columns, null in every row that is there, and tells the new version."""
        delta = DeltaTable(self.location(table))
        delta.alter.add_columns(list(Schema.from_arrow(fields).fields), commit_properties=_tagged(tag))
        return self.version(table)

    def restore(self, table: str, version: int, tag: str) -> int:
        """Brings back the content of an older version as a new one, and tells that."""
        delta = DeltaTable(self.location(table))
        delta.restore(version, commit_properties=_tagged(tag))
        return self.version(table)

    def compact(self, table: str, tag: str, small_files: int) -> int:
        """Makes few files of many, where there are that many small ones, and tells the version."""
        delta = DeltaTable(self.location(table))
        if sum(size < FILE_BYTES // 4 for size in _sizes(delta)) < small_files:
            return int(delta.version())
        delta.optimize.compact(target_size=FILE_BYTES, writer_properties=_WRITER, commit_properties=_tagged(tag))
        return self.version(table)

    def vacuum(self, table: str, keep_days: int, keep_versions: Iterable[int], tag: str) -> int:
        """Removes files that no version younger than `keep_days`, and none of `keep_versions`, needs; tells the version."""
        delta = DeltaTable(self.location(table))
        retention = self._retention(keep_days)
        if any(delta.metadata().configuration.get(name) != value for name, value in retention.items()):
            delta.alter.set_table_properties(retention, commit_properties=_tagged(tag))
            delta = DeltaTable(self.location(table))
        oldest = min(
            int(log.stem) for log in (self.location(table) / "_delta_log").glob("*.json") if log.stem.isdigit()
        )
        options: dict[str, Any] = {
            "retention_hours": keep_days * 24,
            "enforce_retention_duration": False,  # [lake] keep_days decides
            "full": True,  # also what killed writers left behind and never committed
            "keep_versions": [v for v in keep_versions if v >= oldest],
        }
        if delta.vacuum(dry_run=True, **options):
            delta.vacuum(dry_run=False, commit_properties=_tagged(tag), **options)
        return self.version(table)

    @staticmethod
    def _retention(keep_days: int) -> dict[str, str]:
        # Versions that the manifest may still name must stay readable.
        interval = f"interval {keep_days + 1} days"
        return {"delta.logRetentionDuration": interval, "delta.deletedFileRetentionDuration": interval}

    def _append_by_engine(self, table: str, rows: MaterializedRows, schema: pa.Schema, tag: str) -> int:
        from pyspark.sql import functions as F

        present = set(rows.schema.names)
        types = {f.name: f.dataType for f in _struct(schema).fields}
        columns = [(F.col(n) if n in present else F.lit(None)).cast(types[n]).alias(n) for n in schema.names]
        before, folder = self.version(table), self.location(table)
        rows.df.select(*columns).write.format("delta").mode("append").option("userMetadata", tag).save(str(folder))
        version = self.version(table)
        self._must_lie_there(folder, rows.rows, self._added(table, before, version))
        return version

    def _added(self, table: str, before: int, version: int) -> list[tuple[str, int]]:
        """Tells path and rows of the files that a table has at a version, and had not at one before."""
        old, new = (pa.table(DeltaTable(self.location(table), version=v).get_add_actions()) for v in (before, version))
        there = set(old["path"].to_pylist())
        return [
            (path, n or 0)
            for path, n in zip(new["path"].to_pylist(), new["num_records"].to_pylist(), strict=True)
            if path not in there
        ]

    @staticmethod
    def _must_lie_there(folder: Path, expected: int, files: Iterable[tuple[str, int]]) -> None:
        """Raises LostWrite where files are missing, or hold another number of rows than were to be written."""
        told = list(files)
        found = [pq.read_metadata(path).num_rows for name, _ in told if (path := folder / unquote(name)).exists()]
        if not len(found) == len(told) or not expected == sum(found) == sum(rows for _, rows in told):
            raise LostWrite(
                folder,
                f"{expected} rows were to be written, {sum(found)} lie there, in {len(found)} of {len(told)} files",
            )

    def _sorted(self, rows: MaterializedRows, schema: pa.Schema, key: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import duckdb  # it sorts on disk what memory does not hold

        with duckdb.connect(
            config={"memory_limit": "1GB", "temp_directory": str(rows.path.parent / "_sort"), "threads": 2}
        ) as db:
            relation = db.read_parquet([str(f) for f in rows.files])
            reader = relation.order(", ".join(f'"{k}"' for k in key)).to_arrow_reader(64 * 1024)
            for batch in reader:
                yield from shaped(pa.Table.from_batches([batch]), schema).to_batches()

    def sync(self) -> None:
        """Makes everything written so far survive a loss of power."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(folder) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(self.path))
        finally:
            os.close(folder)

    # ---- the attempt's work folder

    @property
    def work(self) -> Path:
        """The scratch folder of the running attempt."""
        assert self._work is not None, "no attempt is running"
        return self._work

    def open_work(self, name: str) -> Path:
        """Makes an empty scratch folder the current one."""
        self._work = self.path / "_work" / name
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        return self._work

    def clear_work(self) -> None:
        """Removes the scratch of every attempt."""
        shutil.rmtree(self.path / "_work", ignore_errors=True)
        self._work = None

    def materialize(self, df: "DataFrame", name: str) -> MaterializedRows:
        """Computes a DataFrame once, as Parquet in the work folder.

        Raises UnfitValue and WrongDeclaration, and LostWrite where not all of it lies there.
        """
        from pipeline.lake.engine_errors import within  # it knows pyspark, which administration never loads

        folder = self.work / f"{next(self._numbers):04d}_{re.sub(r'[^a-zA-Z0-9.]', '_', name)}"
        session = self._engine()
        with within(df=df):
            counted, written = session.counted(session.suited(df))
            counted.write.mode("overwrite").options(**_KEPT).parquet(str(folder))
        if next(folder.glob("*.parquet"), None):
            kept = self.open_parquet(folder)
            if written is not None and written() != kept.rows:
                raise LostWrite(folder, f"{written()} rows were written, {kept.rows} lie there")
            return kept
        if written is not None:  # Spark writes a file also for no rows
            raise LostWrite(folder, f"{written()} rows were written, and no file lies there")
        # Sail writes no file for no rows; asking it for the schema before writing would plan every query twice.
        return self._kept(folder, pa.schema(Schema.from_json(df.schema.json()).to_arrow()))

    def open_parquet(self, path: Path | str) -> MaterializedRows:
        """Takes Parquet that lies there, a file or a folder of part files, as kept rows."""
        path = Path(path)
        sample = path if path.is_file() else next(iter(sorted(path.glob("*.parquet"))))
        return self._kept(path, pa.schema(Schema.from_arrow(_nullable(pq.read_schema(sample))).to_arrow()))

    def _kept(self, path: Path, schema: pa.Schema) -> MaterializedRows:
        return MaterializedRows(path=path, schema=_nullable(schema), session=self.session, plans_all=self.plans_all)

    def given(self, rows: pa.Table) -> "DataFrame":
        """Hands a few rows of this process to the engine."""
        return self._engine().spark.createDataFrame(rows, schema=_struct(rows.schema))

    def _engine(self) -> Engine:
        assert self.session is not None, "this lake was opened for administration, without an engine"
        return self.session


@dataclass(frozen=True, kw_only=True)
class TableVersion:
    """A table of the lake at one version; version 0 holds nothing. `columns` are those declared: it may have others, which once were."""

    lake: Lake
    name: str
    version: int
    columns: tuple[str, ...]

    def read(self, columns: Sequence[str] | None = None, *, within: Mapping[str, MinMax] | None = None) -> "DataFrame":
        """Reads some columns, by default all that are declared, through the engine; see `Lake.read`."""
        return self.lake.read(self.name, self.version, columns or self.columns, within=within)


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """Tells the Arrow schema of declared columns, all nullable."""
    return pa.schema([pa.field(c.name, arrow_type(c.type)) for c in columns])


def _chosen_columns(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(c) for c in columns])


def _nullable(schema: pa.Schema) -> pa.Schema:
    # Engines leave notes in field metadata, and their own name for the zone.
    utc = pa.timestamp("us", "UTC")
    return pa.schema([pa.field(f.name, utc if pa.types.is_timestamp(f.type) else f.type) for f in schema])


def _arrow_schema(schema: Schema) -> pa.Schema:
    return _nullable(pa.schema(schema.to_arrow()))


@lru_cache(maxsize=1024)
def _struct(schema: pa.Schema) -> "StructType":
    from pyspark.sql.types import StructType

    # Delta writes a schema as Spark's own JSON does.
    return StructType.fromJson(json.loads(Schema.from_arrow(schema).to_json()))


def _parquet(session: Engine, schema: pa.Schema, files: Mapping[Path, int]) -> "DataFrame":
    size = sum(files.values())
    spark = session.for_bytes(size)
    # From an empty list Spark would make tasks that find nothing; from Arrow it knows that there is nothing.
    df = (
        spark.read.schema(_struct(schema)).parquet(*map(str, files))
        if files
        else spark.createDataFrame(schema.empty_table(), schema=_struct(schema))
    )
    return df.coalesce(1) if size <= ONE_TASK_BYTES else df


def _sizes(delta: DeltaTable) -> list[int]:
    return pa.table(delta.get_add_actions())["size_bytes"].to_pylist()  # type: ignore[no-any-return]


def _tagged(tag: str, **more: Any) -> CommitProperties:
    # No silent retry: when somebody else has taken the next version, the attempt must see it.
    return CommitProperties(custom_metadata={TAG: tag, **more}, max_commit_retries=0)


def _as_commit(entry: dict[str, Any]) -> Commit:
    at = entry.get("timestamp")
    restored = entry.get("operationParameters", {}).get("version") if entry.get("operation") == "RESTORE" else None
    return Commit(
        version=int(entry["version"]),
        operation=entry.get("operation", "unknown"),
        tag=entry.get(TAG),
        at=dt.datetime.fromtimestamp(at / 1000, dt.UTC) if at else None,
        restored=int(restored) if restored is not None else None,
    )


def _chosen(batches: Iterator[pa.RecordBatch], mask: pa.Array) -> Iterator[pa.RecordBatch]:
    at = 0
    for batch in batches:
        yield batch.filter(mask.slice(at, batch.num_rows))
        at += batch.num_rows


def _ends(values: pa.ChunkedArray) -> MinMax:
    found = pc.min_max(values)
    return found["min"].as_py(), found["max"].as_py()


def _files_within(delta: DeltaTable, within: Mapping[str, MinMax]) -> list[tuple[str, int]]:
    """Tells path and size of the files that may hold a row between these ends, by those that the log tells of their columns."""
    files = pa.table(delta.get_add_actions(flatten=True))
    for name, ends in within.items():
        low, high = f"min.{name}", f"max.{name}"
        if low not in files.column_names or (kind := files[low].type) not in _ORDERED:
            continue
        if None in ends:
            return []  # between no values lies nothing
        try:
            first, last = (pa.scalar(end, kind) for end in ends)
        except pa.ArrowException:
            continue  # a time written as text: its order is none of time's
        highest = pc.add(files[high], _A_MILLISECOND) if pa.types.is_timestamp(kind) else files[high]
        outside = pc.or_(pc.less(highest, first), pc.greater(files[low], last))
        files = files.filter(pc.invert(pc.fill_null(outside, fill_value=False)))  # null: untold
    return _pairs(files)


def _pairs(files: pa.Table) -> list[tuple[str, int]]:
    return list(zip(files["path"].to_pylist(), files["size_bytes"].to_pylist(), strict=True))

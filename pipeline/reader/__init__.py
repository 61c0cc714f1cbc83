"""Reads the published tables: which version of each is published, what they hold, and SQL over them. No engine, no Java.

Nothing here writes to the lake; a query runs in a DuckDB of its own in memory, over exactly the files of the published versions.
"""

import datetime as dt
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pipeline.contract import lake_version

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from duckdb import DuckDBPyConnection

MANIFEST = "ops.batches"


class UnknownTableError(LookupError):
    """No published table, or batch, has this name; the message says which ones are near."""


class QueryError(ValueError):
    """The SQL cannot be run; the message says why in one paragraph."""


@dataclass(frozen=True, kw_only=True)
class PublishedVersions:
    """What readers may see: the version of every published table of the lake that is there."""

    lake: Path
    versions: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class TableInfo:
    name: str
    version: int
    rows: int | None  # None where a file tells no number
    bytes: int
    files: int
    written_at: dt.datetime | None


@dataclass(frozen=True, kw_only=True)
class ColumnInfo:
    name: str
    type: str


@dataclass(frozen=True, kw_only=True)
class QueryResult:
    """Rows of a query, in the order of `columns`."""

    columns: tuple[ColumnInfo, ...]
    rows: tuple[tuple[Any, ...], ...]

    def records(self) -> list[dict[str, Any]]:
        """The rows by column name; a name that occurs twice is numbered from the second on."""
        names: list[str] = []
        for column in self.columns:
            earlier = sum(n == column.name or n.startswith(f"{column.name}_") for n in names)
            names.append(column.name if column.name not in names else f"{column.name}_{earlier + 1}")
        return [dict(zip(names, row, strict=True)) for row in self.rows]


def location(lake: Path, table: str) -> Path:
    """Tells the folder of `source.layer.table` or `ops.table`."""
    return lake.joinpath(*table.split("."))


def published(lake: Path, batch: str | None = None) -> PublishedVersions:
    """Resolves the published versions through the newest manifest row of each source, or through that of one batch.

    Raises UnknownTableError when the manifest has no such batch, and NewerLake. A lake without a manifest has no
    tables.
    """
    lake_version.check(lake)
    manifest = _opened(location(lake, MANIFEST))
    if manifest is None:
        if batch is not None:
            raise UnknownTableError(f"nothing is published in {lake}")
        return PublishedVersions(lake=lake, versions={})
    rows = _manifest_rows(manifest, location(lake, MANIFEST), batch)
    if batch is not None and not rows:
        raise UnknownTableError(f"no batch {batch} is published")
    versions: dict[str, int] = {}
    for source, named in rows:  # the newest row last: its ops versions stand
        versions |= {t: v for t, v in named.items() if t.startswith((f"{source}.", "ops."))}
    versions[MANIFEST] = manifest.version()
    there = {t: v for t, v in sorted(versions.items()) if (location(lake, t) / "_delta_log").is_dir()}
    return PublishedVersions(lake=lake, versions=there)


def tables(state: PublishedVersions) -> tuple[TableInfo, ...]:
    """Describes every published table at its published version, from the Delta log alone."""
    with ThreadPoolExecutor(4) as pool:  # to open a table is to wait for its log
        found = list(pool.map(lambda name: _info(state, name), state.versions))
    return tuple(info for info in found if info is not None)


def newer(state: PublishedVersions) -> dict[str, int]:
    """Names the tables whose newest version is not the published one, with that version: a batch at work, or somebody else's commit."""
    found = {}
    for name in state.versions:
        commits = (location(state.lake, name) / "_delta_log").glob("*.json")
        newest = max((int(c.stem) for c in commits if c.stem.isdigit()), default=state.versions[name])
        if newest > state.versions[name]:
            found[name] = newest
    return found


def fingerprints(lake: Path) -> dict[str, str]:
    """Returns, by source, the fingerprint of the definitions that its newest published batch was made with.

    Raises NewerLake.
    """
    lake_version.check(lake)
    manifest = _opened(location(lake, MANIFEST))
    files = [f["path"] for f in _stats(manifest, "path")] if manifest else []
    if not files:
        return {}
    import duckdb

    scan = _scan(location(lake, MANIFEST), files)
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT source, arg_max(fingerprint, batch_seq) FROM {scan} WHERE fingerprint <> '' GROUP BY source"
        ).fetchall()
    return {str(source): str(fingerprint) for source, fingerprint in rows}


def sql(state: PublishedVersions, query: str, most: int | None = None) -> QueryResult:
    """Runs reading SQL; tables go by `source.layer.table` and `ops.table`. With `most`, no more rows than that.

    Raises UnknownTableError and QueryError.
    """
    import duckdb

    with duckdb.connect() as connection:
        try:
            statements = connection.extract_statements(query)
            if not statements:
                raise QueryError("there is no statement in it")
            if wrong := next((s.query.strip() for s in statements if not _reads_only(connection, s)), None):
                raise QueryError(f"only reading statements are allowed, not: {wrong[:80]}")
            _register(connection, state, query)
            for statement in statements:
                connection.execute(statement)
            found = connection.fetchall() if most is None else connection.fetchmany(most)
        except duckdb.IOException as error:
            raise QueryError(
                f"a file of a table cannot be read; versions older than [lake] keep_days are gone ({_first_line(error)})"
            ) from None
        except duckdb.Error as error:
            raise _explained(state, query, str(error)) from None
        columns = tuple(ColumnInfo(name=c[0], type=str(c[1])) for c in connection.description or ())
        return QueryResult(columns=columns, rows=tuple(found))


def table(state: PublishedVersions, name: str, most: int) -> QueryResult:
    """Shows the columns, as SQL types, and some rows of one table. Raises UnknownTableError."""
    if name not in state.versions:
        raise UnknownTableError(no_such_table(state, name))
    return sql(state, f"FROM {_quoted_name(name)}", most)


def plain(value: Any) -> Any:
    """Makes a value fit for JSON: times in RFC 3339, binary as hex; decimals stay as they are, for whoever writes them exactly."""
    match value:
        case dt.datetime() if value.tzinfo is not None:
            return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case None | str() | bool() | int() | float() | Decimal():
            return value
        case bytes():
            return value.hex()
        case Mapping():
            return {str(plain(k)): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case _:
            return str(value)


def _opened(folder: Path, version: int | None = None) -> "DeltaTable | None":
    if not (folder / "_delta_log").is_dir():
        return None
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(str(folder), version=version)
    except TableNotFoundError:
        return None


def _manifest_rows(manifest: "DeltaTable", folder: Path, batch: str | None) -> list[tuple[str, Mapping[str, int]]]:
    import duckdb

    stats = _stats(manifest, "path", "min.source", "max.source", "max.batch_seq", "min.batch_id", "max.batch_id")
    files = _files_of_batch(stats, batch) if batch is not None else _files_of_newest(stats)
    if not files:
        return []
    # Text and no parameters: DuckDB imports pandas and pyarrow, one second, to look at the first parameter.
    wanted = "" if batch is None else f"WHERE batch_id = {_literal(batch)} AND kind = 'batch'"
    query = f"SELECT source, arg_max(table_versions, batch_seq) FROM {_scan(folder, files)} {wanted} GROUP BY source ORDER BY max(batch_seq)"
    with duckdb.connect() as connection:
        found = connection.execute(query).fetchall()
    return [(str(source), dict(versions or {})) for source, versions in found]


def _stats(table: "DeltaTable", *wanted: str) -> list[dict[str, Any]]:
    added = table.get_add_actions(flatten=True)
    names = [n for n in added.schema.names if n in wanted]
    return [
        dict(zip(names, row, strict=True)) for row in zip(*(added.column(n).to_pylist() for n in names), strict=True)
    ]


def _files_of_newest(stats: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of hundreds of small files, those that can hold the newest row of a source: one per source, and all that hold several."""
    newest: dict[str, Mapping[str, Any]] = {}
    mixed: list[str] = []
    for file in stats:
        source, seq = file.get("min.source"), file.get("max.batch_seq")
        if source is None or seq is None or source != file.get("max.source"):
            mixed.append(file["path"])
        elif source not in newest or seq > newest[source]["max.batch_seq"]:
            newest[source] = file
    return [*mixed, *(f["path"] for f in newest.values())]


def _files_of_batch(stats: Sequence[Mapping[str, Any]], batch: str) -> list[str]:
    def may_hold(file: Mapping[str, Any]) -> bool:
        low, high = file.get("min.batch_id"), file.get("max.batch_id")
        return low is None or high is None or low <= batch <= high

    return [f["path"] for f in stats if may_hold(f)]


def _info(state: PublishedVersions, name: str) -> TableInfo | None:
    opened = _opened(location(state.lake, name), state.versions[name])
    if opened is None:
        return None
    stats = _stats(opened, "num_records", "size_bytes", "modification_time")
    counts = [f.get("num_records") for f in stats]
    written = [at for f in stats if (at := f.get("modification_time")) is not None]
    return TableInfo(
        name=name,
        version=state.versions[name],
        rows=None if None in counts else sum(c for c in counts if c is not None),
        bytes=sum(f["size_bytes"] or 0 for f in stats),
        files=len(stats),
        written_at=dt.datetime.fromtimestamp(max(written) / 1000, dt.UTC) if written else None,
    )


def _reads_only(connection: "DuckDBPyConnection", statement: Any) -> bool:
    from duckdb import StatementType

    if statement.type == StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains, so that has to be a reading statement as well.
        inner = re.sub(r"^\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", "", statement.query, count=1, flags=re.IGNORECASE)
        return all(s.type == StatementType.SELECT for s in connection.extract_statements(inner))
    return bool(statement.type == StatementType.SELECT)


def _register(connection: "DuckDBPyConnection", state: PublishedVersions, query: str) -> None:
    # A view of hundreds of small files costs time even when nobody asks for it, so only those whose name occurs are made.
    everything = re.search(r"(?i)\bshow\b|information_schema|duckdb_|\bdescribe\b\s*(;|$)", query)
    words = {w.lower() for w in re.findall(r"\w+", query)}
    made: set[str] = set()
    connection.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false")
    for name in state.versions:
        *schema, last = name.split(".")
        if len(schema) == 2 and schema[0] not in made:
            connection.execute(f"ATTACH ':memory:' AS {_quoted(schema[0])}")
            made.add(schema[0])
        if ".".join(schema) not in made:
            connection.execute(f"CREATE SCHEMA {_quoted_name('.'.join(schema))}")
            made.add(".".join(schema))
        if (everything or last.lower() in words) and (body := _view(state, name)):
            connection.execute(f"CREATE VIEW {_quoted_name(name)} AS {body}")
    connection.execute(
        f"SET allowed_directories = [{_literal(f'{state.lake}/')}]; SET enable_external_access = false; SET lock_configuration = true"
    )


def _view(state: PublishedVersions, name: str) -> str:
    opened = _opened(location(state.lake, name), state.versions[name])
    if opened is None:
        return ""
    # The empty first part gives every column of the version's schema its type, also where no file has it, or there is no file.
    shape = ", ".join(f"CAST(NULL AS {_sql_type(f.type)}) AS {_quoted(f.name)}" for f in opened.schema().fields)
    empty = f"SELECT {shape} WHERE false"
    files = [f["path"] for f in _stats(opened, "path")]
    return f"{empty} UNION ALL BY NAME SELECT * FROM {_scan(location(state.lake, name), files)}" if files else empty


def _scan(folder: Path, files: Sequence[str]) -> str:
    listed = ", ".join(_literal(str(folder / unquote(name))) for name in files)
    return f"read_parquet([{listed}], union_by_name=true)"


_SQL_TYPES = {
    "string": "VARCHAR", "long": "BIGINT", "integer": "INTEGER", "short": "SMALLINT", "byte": "TINYINT", "float": "FLOAT", "double": "DOUBLE",
    "boolean": "BOOLEAN", "binary": "BLOB", "date": "DATE", "timestamp": "TIMESTAMP WITH TIME ZONE", "timestamp_ntz": "TIMESTAMP",
}  # fmt: skip


def _sql_type(kind: Any) -> str:
    from deltalake.schema import ArrayType, MapType, StructType

    if isinstance(kind, StructType):
        return f"STRUCT({', '.join(f'{_quoted(f.name)} {_sql_type(f.type)}' for f in kind.fields)})"
    if isinstance(kind, ArrayType):
        return f"{_sql_type(kind.element_type)}[]"
    if isinstance(kind, MapType):
        return f"MAP({_sql_type(kind.key_type)}, {_sql_type(kind.value_type)})"
    return _SQL_TYPES.get(kind.type, str(kind.type).upper())  # what is left is decimal(p,s)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def _quoted_name(name: str) -> str:
    return ".".join(map(_quoted, name.split(".")))


def _explained(state: PublishedVersions, query: str, message: str) -> Exception:
    missing = re.search(
        r"(?:Table|View) with name (\S+?) does not exist|(?:Catalog|Schema)(?: with name)? (\S+?) does not exist",
        message,
    )
    if not missing:
        return QueryError(_first_line(message))
    word = (missing[1] or missing[2]).strip("\"'").rpartition(".")[2].lower()
    asked = next((n for n in _dotted_names(query) if word in n.lower().split(".")), word)
    return UnknownTableError(no_such_table(state, asked))


def _dotted_names(query: str) -> Iterator[str]:
    for found in re.finditer(r'(?:"[^"]+"|\w+)(?:\s*\.\s*(?:"[^"]+"|\w+))*', query):
        yield ".".join(part.strip(' "') for part in found[0].split("."))


def no_such_table(state: PublishedVersions, name: str) -> str:
    """Says that there is no such table, and which it might be."""
    if not state.versions:
        return f"no table {name}: nothing is published in {state.lake} yet"
    last = name.rpartition(".")[2].lower()
    same_end = [t for t in state.versions if t.endswith(f".{last}")]
    close = same_end or difflib.get_close_matches(name.lower(), list(state.versions), n=3)
    return (
        f"no table {name}; did you mean {' or '.join(close)}?"
        if close
        else f"no table {name}; `lakegate tables` lists them"
    )


def _first_line(error: object) -> str:
    text = str(error).strip().split("\n\nLINE ")[0]
    return " ".join(text.split()).removeprefix("Parser Error: ").removeprefix("Binder Error: ")

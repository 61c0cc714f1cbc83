"""Runs reading SQL over the published versions, in a DuckDB database in memory."""

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pipeline.reader.delta_files import literal, quote, quote_parts, scan_table
from pipeline.reader.published_versions import PublishedVersions, UnknownTableError, location, no_such_table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class QueryError(ValueError):
    """The SQL cannot be run; the message gives the reason in one paragraph."""


@dataclass(frozen=True, kw_only=True)
class ColumnInfo:
    """A column of a query: its name and SQL type."""

    name: str
    type: str


@dataclass(frozen=True, kw_only=True)
class QueryResult:
    """The rows of a query, with values in the order of `columns`."""

    columns: tuple[ColumnInfo, ...]
    rows: tuple[tuple[Any, ...], ...]

    def records(self) -> list[dict[str, Any]]:
        """Returns the rows by column name. A repeated name gets a number from the second column on."""
        names: list[str] = []
        for column in self.columns:
            earlier = sum(n == column.name or n.startswith(f"{column.name}_") for n in names)
            names.append(column.name if column.name not in names else f"{column.name}_{earlier + 1}")
        return [dict(zip(names, row, strict=True)) for row in self.rows]


def sql(state: PublishedVersions, query: str, limit: int | None = None) -> QueryResult:
    """Returns the rows of reading SQL over `source.layer.table` and `ops.table`, at most `limit` rows.

    Raises UnknownTableError and QueryError.
    """
    import duckdb

    with duckdb.connect() as connection:
        try:
            statements = connection.extract_statements(query)
            if not statements:
                raise QueryError("there is no statement in it")
            if wrong := next((s.query.strip() for s in statements if not _only_reads(connection, s)), None):
                raise QueryError(f"only reading statements are allowed, not: {wrong[:80]}")
            _create_views(connection, state, _tables_of(state, query))
            for statement in statements:
                connection.execute(statement)
            rows = connection.fetchall() if limit is None else connection.fetchmany(limit)
        except duckdb.IOException as error:
            raise QueryError(
                "a file of a table cannot be read; versions older than [lake] keep_days are gone "
                f"({_first_line(error)})"
            ) from None
        except duckdb.Error as error:
            raise _explain(state, query, str(error)) from None
        return _result(connection, rows)


@contextmanager
def session(state: PublishedVersions, tables: Collection[str]) -> Iterator[Callable[[str], QueryResult]]:
    """Yields a function that runs SQL of this program over some tables, many times in one database."""
    import duckdb

    with duckdb.connect() as connection:
        _create_views(connection, state, {t for t in tables if t in state.versions})
        yield lambda query: _result(connection, connection.execute(query).fetchall())


def table(state: PublishedVersions, name: str, limit: int) -> QueryResult:
    """Returns the columns of one table and at most `limit` rows. Raises UnknownTableError."""
    if name not in state.versions:
        raise UnknownTableError(no_such_table(state, name))
    return sql(state, f"FROM {quote_parts(name)}", limit)


def plain(value: Any) -> Any:
    """Returns a value in types of JSON: times in RFC 3339, binary as hex.

    Decimals stay Decimal, so that the caller can write them exactly.
    """
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


def _only_reads(connection: "DuckDBPyConnection", statement: Any) -> bool:
    from duckdb import StatementType

    if statement.type == StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs the explained statement, so that must be a reading statement as well.
        inner = re.sub(r"^\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", "", statement.query, count=1, flags=re.IGNORECASE)
        return all(s.type == StatementType.SELECT for s in connection.extract_statements(inner))
    return bool(statement.type == StatementType.SELECT)


def _result(connection: "DuckDBPyConnection", rows: list[tuple[Any, ...]]) -> QueryResult:
    columns = tuple(ColumnInfo(name=c[0], type=str(c[1])) for c in connection.description or ())
    return QueryResult(columns=columns, rows=tuple(rows))


def _tables_of(state: PublishedVersions, query: str) -> Collection[str]:
    # A view over hundreds of small files takes time even if it is not read. So only tables whose name occurs in the
    # query get a view, except when the query lists the catalog.
    if re.search(r"(?i)\bshow\b|information_schema|duckdb_|\bdescribe\b\s*(;|$)", query):
        return state.versions
    words = {w.lower() for w in re.findall(r"\w+", query)}
    return {name for name in state.versions if name.rpartition(".")[2].lower() in words}


def _create_views(connection: "DuckDBPyConnection", state: PublishedVersions, tables: Collection[str]) -> None:
    created: set[str] = set()
    connection.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false")
    for name, version in state.versions.items():
        *schema, _ = name.split(".")
        if len(schema) == 2 and schema[0] not in created:
            connection.execute(f"ATTACH ':memory:' AS {quote(schema[0])}")
            created.add(schema[0])
        if ".".join(schema) not in created:
            connection.execute(f"CREATE SCHEMA {quote_parts('.'.join(schema))}")
            created.add(".".join(schema))
        if name in tables:
            body = scan_table(location(state.lake, name), version)
            if body:
                connection.execute(f"CREATE VIEW {quote_parts(name)} AS {body}")
    # From here on the query can read the files of the lake and nothing else.
    connection.execute(
        f"SET allowed_directories = [{literal(f'{state.lake}/')}]; "
        "SET enable_external_access = false; SET lock_configuration = true"
    )


def _explain(state: PublishedVersions, query: str, message: str) -> Exception:
    """Returns UnknownTableError for a message about an unknown table, else QueryError."""
    missing = re.search(
        r"(?:Table|View) with name (\S+?) does not exist|(?:Catalog|Schema)(?: with name)? (\S+?) does not exist",
        message,
    )
    if not missing:
        return QueryError(_first_line(message))
    word = (missing[1] or missing[2]).strip("\"'").rpartition(".")[2].lower()
    name = next((n for n in _dotted_names(query) if word in n.lower().split(".")), word)
    return UnknownTableError(no_such_table(state, name))


def _dotted_names(query: str) -> Iterator[str]:
    for match in re.finditer(r'(?:"[^"]+"|\w+)(?:\s*\.\s*(?:"[^"]+"|\w+))*', query):
        yield ".".join(part.strip(' "') for part in match[0].split("."))


def _first_line(error: object) -> str:
    text = str(error).strip().split("\n\nLINE ")[0]
    return " ".join(text.split()).removeprefix("Parser Error: ").removeprefix("Binder Error: ")

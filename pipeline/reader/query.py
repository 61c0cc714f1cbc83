"""Runs reading SQL over the published versions, in a DuckDB database in memory."""

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pipeline.place import connect
from pipeline.reader.delta_files import column_names, is_internal, literal, quote, quote_parts
from pipeline.reader.published_versions import PublishedVersions, UnknownTableError, location, no_such_table
from pipeline.reader.views import create_views

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


_SHOW_TABLES = re.compile(r"(?i)\s*show\s+tables\s*;?\s*")


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


def sql(state: PublishedVersions, query: str, limit: int | None = None, *, internal: bool = False) -> QueryResult:
    """Returns the rows of reading SQL over `source.layer.table` and `ops.table`, at most `limit` rows.

    A table may also have the end of its name, such as `daily_sales`, where no other table ends so. Columns that begin
    with `_` are there where the query names them, or with `internal`. Raises UnknownTableError and QueryError.
    """
    import duckdb

    if _SHOW_TABLES.fullmatch(query):  # DuckDB would list the tables of one schema
        return QueryResult(columns=(ColumnInfo(name="name", type="VARCHAR"),), rows=tuple((n,) for n in state.versions))

    with connect(state.lake) as connection:
        try:
            statements = connection.extract_statements(query)
            if not statements:
                raise QueryError("there is no statement in it")
            if wrong := next((s.query.strip() for s in statements if not _only_reads(connection, s)), None):
                raise QueryError(f"only reading statements are allowed, not: {wrong[:80]}")
            create_views(connection, state, query, internal=internal)
            _lock(connection, state)
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
    """Yields a function that runs SQL of this program over some tables, many times in one database.

    The function raises QueryError.
    """
    import duckdb

    with connect(state.lake) as connection:
        create_views(connection, state, " ".join(tables), internal=True)

        def run(query: str) -> QueryResult:
            try:
                return _result(connection, connection.execute(query).fetchall())
            except duckdb.Error as error:
                raise QueryError(_first_line(error)) from None

        yield run


def table(
    state: PublishedVersions, name: str, limit: int, *, order_by: Sequence[str] = (), internal: bool = False
) -> QueryResult:
    """Returns the columns of one table and at most `limit` rows, in the order of its columns `order_by`.

    Raises UnknownTableError.
    """
    if name not in state.versions:
        raise UnknownTableError(no_such_table(state, name))
    return sql(state, select(state, name, order_by, internal=internal), limit, internal=True)


def select(state: PublishedVersions, name: str, order_by: Sequence[str], *, internal: bool) -> str:
    """Returns the query for all rows of a table, in the order of its columns `order_by`; other names are left out."""
    names = column_names(location(state.lake, name), state.versions[name])
    shown = [n for n in names if internal or not is_internal(n)] or names
    order = ", ".join(quote(n) for n in order_by if n in names)
    return f"SELECT {', '.join(map(quote, shown))} FROM {quote_parts(name)}" + (f" ORDER BY {order}" if order else "")


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


def _result(connection: "DuckDBPyConnection", rows: Sequence[tuple[Any, ...]]) -> QueryResult:
    columns = tuple(ColumnInfo(name=c[0], type=str(c[1])) for c in connection.description or ())
    return QueryResult(columns=columns, rows=tuple(rows))


def _lock(connection: "DuckDBPyConnection", state: PublishedVersions) -> None:
    """From here on the query can read the files of the lake and nothing else."""
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

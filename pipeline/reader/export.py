"""Writes a published table into a file for other programs: CSV, Parquet, JSON, a DuckDB database, or a spreadsheet.

DuckDB streams the rows from file to file. The file appears under its name when it is complete.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.place import connect
from pipeline.reader.delta_files import literal, quote, quote_parts
from pipeline.reader.published_versions import PublishedVersions, UnknownTableError, no_such_table
from pipeline.reader.query import ColumnInfo, select
from pipeline.reader.spreadsheet import FORMULA, MOST_SHEET_ROWS, ExportError, complete_file, write_sheet
from pipeline.reader.views import create_views

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_UTC = "%Y-%m-%dT%H:%M:%S.%f"


def export(
    state: PublishedVersions,
    name: str,
    kind: str,
    out: Path,
    *,
    order_by: Sequence[str] = (),
    internal: bool = False,
    raw: bool = False,
) -> int:
    """Writes all rows of a table to the file `out`, which it replaces at once. Returns the number of rows.

    `kind` is csv, parquet, xlsx, json or duckdb.
    In CSV, a text that a spreadsheet would run as a formula gets an apostrophe before it; not with `raw`. Raises
    UnknownTableError and ExportError.
    """
    import duckdb

    if name not in state.versions:
        raise UnknownTableError(no_such_table(state, name))
    query = select(state, name, order_by, internal=internal)
    with connect(state.lake) as connection, complete_file(out) as part:
        try:
            create_views(connection, state, name, internal=True)
            described = connection.execute(f"DESCRIBE {query}").fetchall()
            columns = [ColumnInfo(name=row[0], type=row[1]) for row in described]
            match kind:
                case "duckdb":
                    return _write_database(connection, name, query, part)
                case "xlsx":
                    return _write_workbook(connection, name, columns, query, part)
                case _:
                    shown = ", ".join(f"{_value(c, kind, raw=raw)} AS {quote(c.name)}" for c in columns)
                    options = {"csv": "csv, HEADER", "parquet": "parquet, COMPRESSION zstd", "json": "json, ARRAY true"}
                    body = query if kind == "parquet" else f"SELECT {shown} FROM ({query})"
                    written = connection.execute(f"COPY ({body}) TO {literal(str(part))} (FORMAT {options[kind]})")
                    return int((written.fetchone() or (0,))[0])
        except duckdb.Error as error:
            sentence = " ".join(str(error).split("\n\n")[0].split())
            raise ExportError(f"{name} cannot be written to {out}: {sentence}") from None


def _value(column: ColumnInfo, kind: str, *, raw: bool) -> str:
    """Returns the SQL for a value in a text format: times in RFC 3339, no formula in CSV, no NaN in JSON."""
    name = quote(column.name)
    match column.type:
        case "TIMESTAMP WITH TIME ZONE":
            return f"replace(strftime({name} AT TIME ZONE 'UTC', '{_UTC}Z'), '.000000Z', 'Z')"
        case "TIMESTAMP":
            return f"regexp_replace(strftime({name}, '{_UTC}'), '\\.000000$', '')"
        case "FLOAT" | "DOUBLE" if kind == "json":
            return f"CASE WHEN isfinite({name}) THEN {name} END"
        case "BLOB":
            return f"lower(hex({name}))"
    if kind == "json":
        return name
    text = f"CAST(to_json({name}) AS VARCHAR)" if is_nested(column.type) else name
    if column.type == "VARCHAR" and not raw:
        return f"CASE WHEN regexp_matches({text}, {literal(FORMULA.pattern)}) THEN '''' || {text} ELSE {text} END"
    return text


def is_nested(sql_type: str) -> bool:
    """Whether values of this type hold other values."""
    return re.match(r"STRUCT\(|MAP\(|.*\[\]$", sql_type) is not None


def _write_database(connection: "DuckDBPyConnection", name: str, query: str, part: Path) -> int:
    """Writes a database with the table under its schema and name: `gold.daily_sales`."""
    *_, schema, last = name.split(".")
    connection.execute(f"ATTACH {literal(str(part))} AS exported")
    connection.execute(f"CREATE SCHEMA exported.{quote(schema)}")
    target = f"exported.{quote_parts(f'{schema}.{last}')}"
    connection.execute(f"CREATE TABLE {target} AS {query}")
    count = connection.execute(f"SELECT count(*) FROM {target}").fetchone()
    connection.execute("DETACH exported")
    return int((count or (0,))[0])


def _write_workbook(
    connection: "DuckDBPyConnection", name: str, columns: Sequence[ColumnInfo], query: str, part: Path
) -> int:
    counted = connection.execute(f"SELECT count(*) FROM ({query})").fetchone()
    if counted and counted[0] > MOST_SHEET_ROWS:
        most = f"a spreadsheet has room for {MOST_SHEET_ROWS:,} below its header"
        raise ExportError(f"{name} has {counted[0]:,} rows, and {most}; take --to csv or --to parquet")
    texts = ", ".join(
        f"CAST(to_json({quote(c.name)}) AS VARCHAR)" if is_nested(c.type) else quote(c.name) for c in columns
    )
    cursor = connection.execute(f"SELECT {texts} FROM ({query})")
    batches = iter(lambda: cursor.fetchmany(5000), [])
    return write_sheet(part, name, [c.name for c in columns], (row for rows in batches for row in rows))

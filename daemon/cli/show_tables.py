"""Prints the tables that the reader of the lake finds: their list, their columns, their rows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daemon.cli import output

if TYPE_CHECKING:
    from pipeline.reader import PublishedVersions, QueryResult

MOST_ROWS = 1000  # for a person; --json prints every row
NUMBER_TYPES = ("DECIMAL", "DOUBLE", "FLOAT")
FIELDS = ("name", "version", "rows", "bytes", "files", "written_at")  # of a table, in `tables --json`


def print_tables(published: "PublishedVersions", *, as_json: bool) -> None:
    """Prints every published table with its version, rows and size."""
    from pipeline import reader

    tables = reader.tables(published)
    if as_json:
        output.print_json([{field: reader.plain(getattr(t, field)) for field in FIELDS} for t in tables])
    elif tables:
        columns = ("TABLE", "VERSION", "ROWS", "SIZE", "FILES", "WRITTEN")
        rows = [
            (
                table.name,
                str(table.version),
                table.rows,
                output.size(table.bytes),
                table.files,
                output.format_time(reader.plain(table.written_at)),
            )
            for table in tables
        ]
        output.print_table(columns, rows, numbers=columns[1:5])
    else:
        output.print_message(f"nothing is published in {published.lake} yet")


def print_table(
    published: "PublishedVersions", name: str, limit: int, described: Mapping[str, Any], *, as_json: bool
) -> None:
    """Prints the columns of one table, and at most `limit` of its rows. Raises UnknownTableError.

    `described` is the record of the table in `sources --json`, empty for a table that no source declares.
    """
    from pipeline import reader

    result = reader.table(published, name, limit)
    about = {column["name"]: column["description"] for column in described.get("columns", ())}
    if as_json:
        output.print_json(
            {
                "name": name,
                "version": published.versions[name],
                "description": described.get("description", ""),
                "grain": described.get("grain", []),
                "columns": [
                    {"name": c.name, "type": c.type, "description": about.get(c.name, "")} for c in result.columns
                ],
                "rows": reader.plain(result.records()),
            }
        )
        return
    if described:
        sentence = " ".join(described["description"].split())
        print(output.escape_unprintable(f"{sentence} One row per {', '.join(described['grain']) or 'table'}.".strip()))
        print()
    width = 3 if any(about.get(c.name) for c in result.columns) else 2
    rows = [(c.name, c.type, about.get(c.name, ""))[:width] for c in result.columns]
    output.print_table(("COLUMN", "TYPE", "DESCRIPTION")[:width], rows)
    if result.rows:
        print()
        print_result(result, as_json=False)


def print_result(result: "QueryResult", *, as_json: bool) -> None:
    """Prints the rows of a query."""
    from pipeline import reader

    if as_json:
        output.print_json(reader.plain(result.records()))
        return
    numbers = [c.name for c in result.columns if _is_number(c.type)]
    rows = [[reader.plain(value) for value in row] for row in result.rows[:MOST_ROWS]]
    output.print_table([c.name for c in result.columns], rows, numbers=numbers)
    if len(result.rows) > MOST_ROWS:
        output.print_message(f"{MOST_ROWS:,} of {len(result.rows):,} rows; --json prints all")


def _is_number(sql_type: str) -> bool:
    return sql_type.startswith(NUMBER_TYPES) or sql_type.endswith("INT") or sql_type == "INTEGER"

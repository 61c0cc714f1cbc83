"""Prints the tables that the reader of the lake finds: their list, their columns, their rows."""

from typing import TYPE_CHECKING

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


def print_table(published: "PublishedVersions", name: str, limit: int, *, as_json: bool) -> None:
    """Prints the columns of one table, and at most `limit` of its rows. Raises UnknownTableError."""
    from pipeline import reader

    result = reader.table(published, name, limit)
    if as_json:
        columns = [{"name": column.name, "type": column.type} for column in result.columns]
        rows = reader.plain(result.records())
        output.print_json({"name": name, "version": published.versions[name], "columns": columns, "rows": rows})
        return
    output.print_table(("COLUMN", "TYPE"), [(column.name, column.type) for column in result.columns])
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

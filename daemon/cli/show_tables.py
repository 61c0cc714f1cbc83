"""Prints the tables that the reader of the lake finds: their list, their columns, their rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daemon.cli import output

if TYPE_CHECKING:
    from pipeline.reader import PublishedVersions, QueryResult, TableInfo
    from pipeline.reader.foreign_commits import ForeignCommit

MOST_COMMITS = 10  # before a decision about a table
MOST_ROWS = 1000  # for a person; --json prints every row
NUMBER_TYPES = ("DECIMAL", "DOUBLE", "FLOAT")
FIELDS = ("name", "version", "rows", "bytes", "files", "written_at")  # of a table, in `tables --json`


def full_name(published: "PublishedVersions", name: str) -> str:
    """Returns the name of the table that alone ends with `name`, else `name`."""
    from pipeline import reader

    return reader.short_names(published.versions).get(name, name)


def is_beginning(published: "PublishedVersions", name: str) -> bool:
    """Returns whether published tables lie below `name`, a source or a schema."""
    return any(table.startswith(f"{name}.") for table in published.versions)


def print_tables(published: "PublishedVersions", below: str = "", *, as_json: bool) -> None:
    """Prints every published table, or those `below` a source or schema, with its version, rows and size."""
    from pipeline import reader

    tables = [t for t in reader.tables(published) if not below or t.name.startswith(f"{below}.")]
    if as_json:
        output.print_json([{field: reader.plain(getattr(t, field)) for field in FIELDS} for t in tables])
        return
    empty = _empty_sources(tables)
    if shown := [t for t in tables if _source(t) not in empty]:
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
            for table in shown
        ]
        output.print_table(columns, rows, numbers=columns[1:5])
    elif not empty:
        output.print_message(f"nothing is published in {published.lake} yet")
    for source, count in empty.items():
        output.print_message(f"{source}: {output.plural(count, 'table')}, all empty: no batch of it is published yet")


def _source(table: "TableInfo") -> str:
    return table.name.split(".")[0]


def _empty_sources(tables: Sequence["TableInfo"]) -> dict[str, int]:
    """Returns the sources whose tables have no row, with the number of their tables.

    A first batch makes the tables of its source, and they stay when the batch is rejected.
    """
    filled = {_source(t) for t in tables if t.rows != 0} | {"ops"}
    return Counter(_source(t) for t in tables if _source(t) not in filled)


def print_table(
    published: "PublishedVersions",
    name: str,
    limit: int,
    described: Mapping[str, Any],
    *,
    internal: bool,
    as_json: bool,
) -> None:
    """Prints the columns of one table, and at most `limit` of its rows. Raises UnknownTableError.

    `described` is the record of the table in `sources --json`, empty for a table that no source declares.
    """
    from pipeline import reader

    grain = described.get("grain", [])
    result = reader.table(published, name, limit, order_by=grain, internal=internal)
    about = {column["name"]: column["description"] for column in described.get("columns", ())}
    if as_json:
        output.print_json(
            {
                "name": name,
                "version": published.versions[name],
                "description": described.get("description", ""),
                "grain": grain,
                "columns": [
                    {"name": c.name, "type": c.type, "description": about.get(c.name, "")} for c in result.columns
                ],
                "rows": reader.plain(result.records()),
            }
        )
        return
    if described:
        sentence = " ".join(described["description"].split())
        print(output.escape_unprintable(f"{sentence} One row per {', '.join(grain) or 'table'}.".strip()))
        print()
    width = 3 if any(about.get(c.name) for c in result.columns) else 2
    rows = [(c.name, c.type, about.get(c.name, ""))[:width] for c in result.columns]
    output.print_table(("COLUMN", "TYPE", "DESCRIPTION")[:width], rows)
    if result.rows:
        print()
        print_result(result, as_json=False)


def effect_on_commits(table: str, published: int, commits: Sequence["ForeignCommit"], effect: str) -> str:
    """Returns the message before a decision about a table: its commits since version `published`, then the effect."""
    if not commits:
        return f"{table}: its newest version {published} is published, so nothing changes"
    lines = [
        f"  version {c.version}  {output.format_time(c.at.isoformat() if c.at else None)}  "
        f"{output.escape_unprintable(f'{c.operation} by {c.program}')}  {_row_change(c.rows)}"
        for c in commits[-MOST_COMMITS:]
    ]
    count = output.plural(len(commits), "commit")
    return "\n".join([f"{table} has {count} after its published version {published}:", *lines, effect])


def _row_change(rows: int | None) -> str:
    if rows is None:
        return "rows unknown"
    return f"{rows:+,} {'row' if abs(rows) == 1 else 'rows'}"


def print_result(result: "QueryResult", *, as_json: bool) -> None:
    """Prints the rows of a query."""
    from pipeline import reader

    if as_json:
        output.print_json(reader.plain(result.records()))
        return
    numbers = [c.name for c in result.columns if _is_number(c.type)]
    rows = [[reader.plain(value) for value in row] for row in result.rows[:MOST_ROWS]]
    output.print_table([c.name for c in result.columns], output.align_decimals(rows), numbers=numbers)
    if len(result.rows) > MOST_ROWS:
        output.print_message(f"{MOST_ROWS:,} of {len(result.rows):,} rows; --json prints all")


def _is_number(sql_type: str) -> bool:
    return sql_type.startswith(NUMBER_TYPES) or sql_type.endswith("INT") or sql_type == "INTEGER"

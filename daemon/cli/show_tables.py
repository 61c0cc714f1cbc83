"""Prints what the reader of the lake has found: tables, columns, rows. Reads nothing itself."""

from typing import Any

from daemon.cli import output

MOST_ROWS = 1000  # for people; programs get every row


def all_tables(reader: Any, state: Any, *, as_json: bool) -> None:
    """Lists every published table with its version, rows and size."""
    found = reader.tables(state)
    if as_json:
        fields = ("name", "version", "rows", "bytes", "files", "written_at")
        output.print_json([{f: reader.plain(getattr(t, f)) for f in fields} for t in found])
    elif found:
        columns = ("TABLE", "VERSION", "ROWS", "SIZE", "FILES", "WRITTEN")
        rows = [
            (t.name, str(t.version), t.rows, output.size(t.bytes), t.files, output.moment(reader.plain(t.written_at)))
            for t in found
        ]
        output.print_table(columns, rows, numbers=columns[1:5])
    else:
        output.say(f"nothing is published in {state.lake} yet")


def one_table(reader: Any, state: Any, name: str, limit: int, *, as_json: bool) -> None:
    """Shows one table's columns and some rows."""
    found = reader.table(state, name, limit)
    if as_json:
        columns = [{"name": c.name, "type": c.type} for c in found.columns]
        output.print_json(
            {"name": name, "version": state.versions[name], "columns": columns, "rows": reader.plain(found.records())}
        )
        return
    output.print_table(("COLUMN", "TYPE"), [(c.name, c.type) for c in found.columns])
    if found.rows:
        print()
        answer(reader, found, as_json=False)


def answer(reader: Any, found: Any, *, as_json: bool) -> None:
    """Prints the rows of a query."""
    if as_json:
        output.print_json(reader.plain(found.records()))
        return
    numbers = [
        c.name
        for c in found.columns
        if c.type.startswith(("DECIMAL", "DOUBLE", "FLOAT")) or c.type.endswith("INT") or c.type == "INTEGER"
    ]
    rows = [[reader.plain(v) for v in row] for row in found.rows[:MOST_ROWS]]
    output.print_table([c.name for c in found.columns], rows, numbers=numbers)
    if len(found.rows) > MOST_ROWS:
        output.say(f"{MOST_ROWS:,} of {len(found.rows):,} rows; --json prints all")

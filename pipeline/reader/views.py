"""Makes the published tables known to a DuckDB connection: one view a table, also under each short name that is clear.

Columns that begin with `_` are internal. A view shows those that the query names, so `SELECT *` is free of them, and
`SELECT _record FROM …` works.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from pipeline.reader.delta_files import quote, quote_parts, scan_table
from pipeline.reader.published_versions import PublishedVersions, location

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_LISTS_CATALOG = re.compile(r"(?i)\bshow\b|information_schema|duckdb_|\bdescribe\b\s*(;|$)")


def create_views(connection: "DuckDBPyConnection", state: PublishedVersions, query: str, *, internal: bool) -> None:
    """Creates the views that a query may read. `internal` shows every internal column."""
    words = {w.lower() for w in re.findall(r"\w+", query)}
    lists_catalog = _LISTS_CATALOG.search(query) is not None
    # DuckDB would draw its progress on stdout, in the middle of the data.
    connection.execute("SET TimeZone = 'UTC'; SET python_enable_replacements = false; SET enable_progress_bar = false")
    schemas = dict.fromkeys(name.rpartition(".")[0] for name in state.versions)
    for catalog in dict.fromkeys(schema.split(".")[0] for schema in schemas if "." in schema):
        connection.execute(f"ATTACH ':memory:' AS {quote(catalog)}")
    for schema in schemas:
        connection.execute(f"CREATE SCHEMA {quote_parts(schema)}")
    created = set()
    for name, version in state.versions.items():
        # A view over hundreds of small files takes time even if it is not read. So only tables whose name occurs in the
        # query get a view, except when the query lists the catalog.
        if lists_catalog or name.rpartition(".")[2].lower() in words:
            body = scan_table(location(state.lake, name), version, None if internal else words)
            if body:
                connection.execute(f"CREATE VIEW {quote_parts(name)} AS {body}")
                created.add(name)
    if not lists_catalog:  # a list names each table once
        _create_short_names(connection, state, created)


def short_names(tables: Collection[str]) -> dict[str, str]:
    """Returns the ends of table names that belong to one table only: `daily_sales`, `gold.daily_sales`."""
    ends = [(end, table) for table in tables for end in _ends(table)]
    uses = Counter(end for end, _ in ends)
    return {end: table for end, table in ends if uses[end] == 1 and end not in tables}


def _ends(table: str) -> Iterator[str]:
    _, *rest = table.split(".")
    yield from (".".join(rest[at:]) for at in range(len(rest)))


def _create_short_names(connection: "DuckDBPyConnection", state: PublishedVersions, created: Collection[str]) -> None:
    catalogs = {name.split(".")[0] for name in state.versions}
    for short, table in short_names(state.versions).items():
        schema = short.rpartition(".")[0]
        if table not in created or schema in catalogs:
            continue
        if schema:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_parts(schema)}")
        connection.execute(f"CREATE VIEW {quote_parts(short)} AS FROM {quote_parts(table)}")

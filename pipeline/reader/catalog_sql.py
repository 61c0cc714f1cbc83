"""Writes the SQL that makes the published tables known to a catalog: Unity Catalog, a Hive metastore, or Spark's own.

For each table there are two statements: an external table over its folder, and a view of its published version, without
the internal columns. Readers take the view: the newest version of the folder may belong to a batch that still runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.place import Place
from pipeline.reader.delta_files import open_table
from pipeline.reader.published_versions import PublishedVersions, location


def catalog_statements(
    state: PublishedVersions, names: Sequence[str], described: Mapping[str, Mapping[str, Any]], catalog: str = ""
) -> Iterator[str]:
    """Yields the statements for some published tables. They may run again after every batch.

    `retail.gold.daily_sales` becomes the view `retail_gold.daily_sales` over `retail_gold_tables.daily_sales`, in
    `catalog` where one is named. `described` has the records of `describe` by table name, for comments.
    """
    for schema in dict.fromkeys(_schema(name) for name in names):
        yield f"CREATE SCHEMA IF NOT EXISTS {_quoted(catalog, schema)}"
        yield f"CREATE SCHEMA IF NOT EXISTS {_quoted(catalog, f'{schema}{_TABLES}')}"
    for name in names:
        folder = location(state.lake, name)
        delta = open_table(folder, state.versions[name])
        if delta is None:
            continue
        schema, table = _schema(name), name.rpartition(".")[2]
        stored = _quoted(catalog, f"{schema}{_TABLES}", table)
        yield f"CREATE TABLE IF NOT EXISTS {stored} USING DELTA LOCATION {_literal(_address(folder))}"
        record = described.get(name, {})
        about = {column["name"]: column["description"] for column in record.get("columns", ())}
        columns = [f.name for f in delta.schema().fields if not f.name.startswith("_")]
        listed = ", ".join(_quoted(c) + _comment(about.get(c, "")) for c in columns)
        view = f"{_quoted(catalog, schema, table)} ({listed}){_comment(record.get('description', ''))}"
        query = f"SELECT {', '.join(map(_quoted, columns))} FROM {stored} VERSION AS OF {state.versions[name]}"
        yield f"CREATE OR REPLACE VIEW {view} AS {query}"


_TABLES = "_tables"  # the end of the schema with the external tables


def _schema(name: str) -> str:
    return "_".join(name.split(".")[:-1])


def _address(folder: Place) -> str:
    # Spark takes a location as it is written: it would read %20 as these three characters.
    return f"file://{folder.absolute()}" if isinstance(folder, Path) else str(folder)


def _quoted(*parts: str) -> str:
    return ".".join(f"`{part.replace('`', '``')}`" for part in parts if part)


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _comment(text: str) -> str:
    return f" COMMENT {_literal(text)}" if text else ""

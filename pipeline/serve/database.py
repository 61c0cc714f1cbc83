"""Makes the DuckDB file of a source: a view of each served table, by layer, with its descriptions as comments.

The views name the exact data files in the lake. So a query never mixes batches, and a connection that stays open goes
on seeing its batch until vacuum removes the files of that batch.
"""

from collections.abc import Iterable
from pathlib import Path

from pipeline.reader.delta_files import literal, quote, quote_parts
from pipeline.serve.served_table import ServedTable

# A reader that sees the lake in another folder sets this variable: SET VARIABLE lakegate_lake = '/mnt/lake'.
VARIABLE = "lakegate_lake"


def write_database(file: Path, tables: Iterable[ServedTable], lake: Path, prefix: str) -> None:
    """Makes a DuckDB file. Its views look for the lake in the folder `prefix`, by default where it is."""
    import duckdb

    with duckdb.connect(file) as connection:
        connection.execute(f"SET VARIABLE {VARIABLE} = {literal(str(lake))}")  # DuckDB reads the files of a new view
        statements = (s for table in tables for s in _statements(table, prefix or str(lake)))
        connection.execute(";\n".join(("BEGIN", *statements, "COMMIT")))


def _statements(table: ServedTable, lake: str) -> Iterable[str]:
    _, layer, _ = table.name.split(".")
    view = quote_parts(table.name.partition(".")[2])
    yield f"CREATE SCHEMA IF NOT EXISTS {quote(layer)}"
    yield f"CREATE VIEW {view} AS {_query(table, lake)}"
    if table.description.text:
        yield f"COMMENT ON VIEW {view} IS {literal(table.description.text)}"
    for field in table.snapshot.fields:
        if text := table.description.columns.get(field["name"]):
            yield f"COMMENT ON COLUMN {view}.{quote(field['name'])} IS {literal(text)}"


def _query(table: ServedTable, lake: str) -> str:
    # The first, empty part gives every column its type: older files may lack a column, an empty table has no file.
    columns = [
        (quote(f["name"]), kind) for f, kind in zip(table.snapshot.fields, table.snapshot.sql_types, strict=True)
    ]
    empty = f"SELECT {', '.join(f'CAST(NULL AS {kind}) AS {name}' for name, kind in columns)} WHERE false"
    if not table.snapshot.files:
        return empty
    folder = "/".join(("", *table.name.split("."), ""))
    start = f"coalesce(getvariable('{VARIABLE}'), {literal(lake)})"
    files = ", ".join(f"{start} || {literal(folder + name)}" for name in table.snapshot.files)
    # By name DuckDB looks into every file before each query, else into the first one.
    by_name = "" if table.snapshot.is_uniform else ", union_by_name = true"
    every = f"{empty} UNION ALL BY NAME SELECT * FROM read_parquet([{files}]{by_name})"
    return f"SELECT {', '.join(name for name, _ in columns)} FROM ({every})"

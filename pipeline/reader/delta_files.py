"""Reads the Delta log of a table: its files, their statistics, and SQL for DuckDB over exactly these files.

Only this module and `pipeline.lake` use the Delta library. Nothing here writes.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pipeline.place import Place

if TYPE_CHECKING:
    from deltalake import DeltaTable

_SQL_TYPES = {
    "string": "VARCHAR",
    "long": "BIGINT",
    "integer": "INTEGER",
    "short": "SMALLINT",
    "byte": "TINYINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "binary": "BLOB",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "timestamp_ntz": "TIMESTAMP",
}


def open_table(folder: Place, version: int | None = None) -> "DeltaTable | None":
    """Returns a Delta table at a version, by default the newest; None if the folder holds no table."""
    if not (folder / "_delta_log").is_dir():
        return None
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(str(folder), version=version)
    except TableNotFoundError:
        return None


def file_stats(table: "DeltaTable", *wanted: str) -> list[dict[str, Any]]:
    """Returns one record per data file with the wanted fields of the log; a field without any value is left out."""
    added = table.get_add_actions(flatten=True)
    names = [n for n in added.schema.names if n in wanted]
    rows = zip(*(added.column(n).to_pylist() for n in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def scan_files(folder: Place, files: Sequence[str]) -> str:
    """Returns a DuckDB table function that reads these data files of a table."""
    paths = ", ".join(literal(str(folder / unquote(name))) for name in files)
    return f"read_parquet([{paths}], union_by_name=true)"


def scan_table(folder: Place, version: int, words: Collection[str] | None = None) -> str:
    """Returns a DuckDB query over one version of a table, with the types of its schema; empty if it does not exist.

    Of the internal columns, which begin with `_`, the query has those in `words`; without `words` it has all.
    """
    table = open_table(folder, version)
    if table is None:
        return ""
    # The first, empty part of the union gives every column of the schema its type. Older files may lack a column, and
    # an empty table has no file at all.
    fields = table.schema().fields
    columns = ", ".join(f"CAST(NULL AS {sql_type(f.type)}) AS {quote(f.name)}" for f in fields)
    empty = f"SELECT {columns} WHERE false"
    files = [f["path"] for f in file_stats(table, "path")]
    body = f"{empty} UNION ALL BY NAME SELECT * FROM {scan_files(folder, files)}" if files else empty
    shown = [f.name for f in fields if words is None or not is_internal(f.name) or f.name.lower() in words]
    return body if len(shown) in (0, len(fields)) else f"SELECT {', '.join(map(quote, shown))} FROM ({body})"


def column_names(folder: Place, version: int) -> list[str]:
    """Returns the columns of one version of a table; none if it does not exist."""
    table = open_table(folder, version)
    return [f.name for f in table.schema().fields] if table else []


def is_internal(column: str) -> bool:
    """Whether a column is for the pipeline, not for readers."""
    return column.startswith("_")


def literal(text: str) -> str:
    """Returns a text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def quote(name: str) -> str:
    """Returns a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_parts(name: str) -> str:
    """Returns a dotted name with each part quoted."""
    return ".".join(map(quote, name.split(".")))


def sql_type(kind: Any) -> str:
    """Returns the DuckDB type of a Delta type."""
    from deltalake.schema import ArrayType, MapType, StructType

    if isinstance(kind, StructType):
        return f"STRUCT({', '.join(f'{quote(f.name)} {sql_type(f.type)}' for f in kind.fields)})"
    if isinstance(kind, ArrayType):
        return f"{sql_type(kind.element_type)}[]"
    if isinstance(kind, MapType):
        return f"MAP({sql_type(kind.key_type)}, {sql_type(kind.value_type)})"
    return _SQL_TYPES.get(kind.type, str(kind.type).upper())  # any other type is decimal(p,s)

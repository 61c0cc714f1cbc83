"""Reads the published tables: their versions, their description, and SQL over them. It needs no engine and no Java.

Nothing here writes to the lake. A query reads exactly the files of the published versions.
"""

from pipeline.reader.published_versions import (
    PublishedVersions,
    UnknownTableError,
    fingerprints,
    location,
    newer_versions,
    no_such_table,
    published,
)
from pipeline.reader.query import ColumnInfo, QueryError, QueryResult, plain, sql, table
from pipeline.reader.table_info import TableInfo, tables
from pipeline.reader.views import short_names

__all__ = [
    "ColumnInfo",
    "PublishedVersions",
    "QueryError",
    "QueryResult",
    "TableInfo",
    "UnknownTableError",
    "fingerprints",
    "location",
    "newer_versions",
    "no_such_table",
    "plain",
    "published",
    "short_names",
    "sql",
    "table",
    "tables",
]

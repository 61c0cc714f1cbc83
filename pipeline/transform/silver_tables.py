"""The silver tables that an enriched or gold table reads, as the batch leaves them, and their changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame

from pipeline.lake.file_pruning import MinMax
from pipeline.lake.table_version import TableVersion
from pipeline.model import Enriched, HierarchyJoin, Join, Source
from pipeline.transform.change import TableChange


@dataclass(frozen=True, kw_only=True)
class SilverTables:
    """Some silver tables of a source with this batch in them, and the changes of those that it changed, by name."""

    source: Source
    tables: Mapping[str, TableVersion]
    changes: Mapping[str, TableChange]

    def current(
        self, table: str, columns: Sequence[str] | None = None, *, within: Mapping[str, MinMax] | None = None
    ) -> DataFrame:
        """Returns the rows that are valid now: some columns, by default all; see `Lake.read` for `within`."""
        stored = self.tables[table]
        if not self.source.has_versions(table):
            return stored.read(columns, within=within)
        needed = None if columns is None else [*dict.fromkeys((*columns, "is_current"))]
        rows = stored.read(needed, within=within).where("is_current")
        return rows if columns is None else rows.select(*columns)

    def rows_of(
        self, table: Enriched, columns: Sequence[str] | None = None, *, within: Mapping[str, MinMax] | None = None
    ) -> DataFrame:
        """Returns the rows of the feed that an enriched table is of: some columns, by default all; see `Lake.read`."""
        if table.versions:
            return self.tables[table.upstream].read(columns, within=within)
        return self.current(table.upstream, columns, within=within)

    def rows_of_keys(self, table: str, keys: pa.Table, columns: Sequence[str], *, only_current: bool) -> pa.Table:
        """Returns some columns of the rows that have one of these keys, without an engine; see `Lake.rows_of_keys`."""
        stored, flag = self.tables[table], ["is_current"] if only_current and self.source.has_versions(table) else []
        rows = stored.lake.rows_of_keys(stored.name, stored.version, keys, [*dict.fromkeys((*columns, *flag))])
        return (rows.filter(rows["is_current"]) if flag else rows).select(columns)

    def has_types(self, table: str, schema: pa.Schema) -> bool:
        """Returns whether columns have the types that they have in a table. Only SQL compares values of other types."""
        return has_types(self.tables[table], schema)

    def change_of(self, join: Join) -> TableChange | None:
        """Returns what the batch changed in a joined table's table; None where it changed nothing."""
        change = self.changes.get(table_of(join))
        return change if change is not None and change.rows.must_process else None


def has_types(table: TableVersion, schema: pa.Schema) -> bool:
    """Returns whether columns have the types that they have in a table."""
    stored = table.lake.schema(table.name, table.version)
    return all(stored.field(f.name).type == f.type for f in schema)


def table_of(join: Join) -> str:
    """Returns the name of the table that a join reads."""
    return join.hierarchy if isinstance(join, HierarchyJoin) else join.feed

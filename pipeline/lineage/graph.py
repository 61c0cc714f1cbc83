"""The graph of a source: its tables with their columns, and the edges between columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

ROWS = ""  # as the name of a column in an edge: the rows of the table, not one of their values


class Layer(StrEnum):
    """The layer of a table. `FILES` are the delivered files of a feed; the others are folders of the lake."""

    FILES = "files"
    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"


class Kind(StrEnum):
    """The declaration that a table comes from."""

    FEED = "feed"
    HIERARCHY = "hierarchy"
    ENRICHED = "enriched"
    GOLD = "gold"


class Effect(StrEnum):
    """How a column takes part in another column, or in the choice of the rows of a table."""

    COPY = "copy"  # the same value
    COMPUTE = "compute"  # the value is computed from columns of one row
    AGGREGATE = "aggregate"  # the value is computed from several rows
    FILTER = "filter"  # decides which rows the table has; so do the effects below
    JOIN = "join"
    GROUP = "group"
    SORT = "sort"


class Origin(StrEnum):
    """Where a column without an upstream column comes from."""

    COLUMNS = "columns"  # it has upstream columns or rows
    BATCH = "batch"  # the batch itself: its id, date, revision, place among all batches
    FILE = "file"  # the file and the record
    CONSTANT = "constant"  # SQL without a column


@dataclass(frozen=True, kw_only=True)
class LineageColumn:
    """A column of a table.

    `sql` computes it from columns of upstream tables or of the same table; it is empty for a plain copy.
    """

    name: str
    type: str
    description: str = ""
    sql: str = ""
    origin: Origin = Origin.COLUMNS
    unit: str = ""

    @property
    def is_internal(self) -> bool:
        """Whether the column may change from version to version of Lakegate."""
        return self.name.startswith("_")


@dataclass(frozen=True, kw_only=True)
class LineageRule:
    """A rule or check of a table, with the columns of the table that it reads. A reference has the other feed."""

    name: str
    severity: str
    action: str
    condition: str
    where: str
    description: str
    columns: tuple[str, ...]
    feed: str = ""


@dataclass(frozen=True, kw_only=True)
class LineageTable:
    """A table, or the files of a feed, with its columns. `key` are the columns that identify a row."""

    name: str  # `source.layer.table`, such as retail.gold.daily_sales; files are retail.files.orders
    layer: Layer
    kind: Kind
    description: str
    key: tuple[str, ...]
    columns: tuple[LineageColumn, ...]
    files: str = ""  # of the layer FILES: the glob of the file names
    rules: tuple[LineageRule, ...] = ()

    def column(self, name: str) -> LineageColumn:
        """Returns the column of this name. Raises StopIteration for an unknown name."""
        return next(c for c in self.columns if c.name == name)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A step from a column to a column of the next table.

    `from_column` is `ROWS` where rows are counted. `to_column` is `ROWS` where the column decides which rows the table
    has, or which rows are joined or aggregated. `is_certain` is false where an expression could not be followed: then
    every column that it may read has an edge.
    """

    from_table: str
    from_column: str
    to_table: str
    to_column: str
    effect: Effect
    sql: str = ""
    is_certain: bool = True


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The tables of a source, each after its upstream tables, and all edges between them."""

    source: str
    tables: tuple[LineageTable, ...]
    edges: tuple[Edge, ...]

    def table(self, name: str) -> LineageTable:
        """Returns the table of this full name. Raises StopIteration for an unknown name."""
        return next(t for t in self.tables if t.name == name)

    def upstreams(self, table: str) -> tuple[str, ...]:
        """Returns the names of the tables that a table is computed from."""
        return tuple(dict.fromkeys(e.from_table for e in self._into.get(table, ())))

    def downstreams(self, table: str) -> tuple[str, ...]:
        """Returns the names of the tables that are computed from a table."""
        return tuple(dict.fromkeys(e.to_table for e in self.edges if e.from_table == table))

    def edges_into(self, table: str, column: str | None = None) -> tuple[Edge, ...]:
        """Returns the edges into a table, or into one of its columns (`ROWS`: those that choose its rows)."""
        return tuple(e for e in self._into.get(table, ()) if column is None or e.to_column == column)

    def path_to(self, table: str, column: str) -> tuple[Edge, ...]:
        """Returns every edge on the way from the files to a column, the nearest first."""
        return tuple(dict.fromkeys(self._back(table, column, set())))

    def _back(self, table: str, column: str, seen: set[tuple[str, str]]) -> Iterator[Edge]:
        waiting = [(table, column)]
        while waiting:
            here = waiting.pop(0)
            if here in seen:
                continue
            seen.add(here)
            for edge in self.edges_into(*here):
                yield edge
                waiting.append((edge.from_table, edge.from_column))

    @cached_property
    def _into(self) -> dict[str, list[Edge]]:
        into: dict[str, list[Edge]] = {}
        for edge in self.edges:
            into.setdefault(edge.to_table, []).append(edge)
        return into

"""Gold tables: aggregates, rows for rows, and tables that are recomputed key by key."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.model.columns import Column, columns_of
from pipeline.model.rules import Rule

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class GoldKind(StrEnum):
    """How a gold table follows what it is made of."""

    AGGREGATE = "aggregate"  # sums, counts, lowest and highest per grain, kept by difference
    SELECT_ROWS = "select_rows"  # a row for a row
    RECOMPUTE = "recompute"  # recomputed from all rows of a touched key


Build = Callable[["DataFrame"], "DataFrame"]


@dataclass(frozen=True, kw_only=True)
class GoldTable:
    """A gold table: what it follows (`of`), its grain, its columns, how it is kept, and what must hold of it.

    `sums` give SQL for what one row adds. With `per` it is SQL of an aggregate, for what all rows of one visitor, day or whatever these
    columns tell apart add together: then the rows of touched ones are looked up, no others.
    """

    name: str
    kind: GoldKind
    upstream: str
    grain: tuple[str, ...]
    columns: str
    build: Build
    checks: tuple[Rule, ...] = ()
    where: str = ""
    sum: Mapping[str, str] = field(default_factory=dict)  # column -> SQL
    per: tuple[str, ...] = ()
    count_distinct: Mapping[str, str] = field(default_factory=dict)  # column -> SQL of the member
    min: Mapping[str, str] = field(default_factory=dict)
    max: Mapping[str, str] = field(default_factory=dict)
    dimension: str = ""  # a feed or enriched table whose current row joins by the grain
    as_of_columns: Mapping[str, str] = field(default_factory=dict)  # column -> SQL that depends on $as_of
    row_per_batch: bool = False  # one cumulative row per batch
    key: tuple[str, ...] = ()  # of KEYS: what is recomputed together; none: the whole table
    description: str = ""

    def __post_init__(self) -> None:
        if self.per and self.kind is not GoldKind.AGGREGATE:
            raise ValueError(f"gold table {self.name}: `per` is for totals; a table of {self.kind} has no sums")
        types = {c.name: c.type for c in self.schema}
        for name in (*self.min, *self.max):
            if types[name] not in ("STRING", "DATE", "TIMESTAMP"):
                # Members are kept as text, which orders dates and times as they are, but numbers not.
                raise ValueError(
                    f"gold table {self.name}: {name} is {types[name]}; lowest and highest are for STRING, DATE and TIMESTAMP"
                )

    @cached_property
    def schema(self) -> tuple[Column, ...]:
        return columns_of(self.columns)

    @property
    def members(self) -> Mapping[str, str]:
        """The columns that count or compare members of a group, each with the SQL of a member."""
        return {**self.count_distinct, **self.min, **self.max}


def aggregate(**declared: Any) -> Callable[[Build], GoldTable]:
    """Declares a gold table of sums, counts and extremes per grain, kept by difference; the function finishes its rows."""
    return _gold(GoldKind.AGGREGATE, declared)


def select_rows(**declared: Any) -> Callable[[Build], GoldTable]:
    """Declares a gold table that has a row for each row of what it follows; the function makes one of the other."""
    return _gold(GoldKind.SELECT_ROWS, declared)


def recompute(**declared: Any) -> Callable[[Build], GoldTable]:
    """Declares a gold table that is recomputed, for each touched `key`, from all rows of that key."""
    return _gold(GoldKind.RECOMPUTE, declared)


def _gold(kind: GoldKind, declared: Mapping[str, Any]) -> Callable[[Build], GoldTable]:
    def declare(build: Build) -> GoldTable:
        return GoldTable(
            name=build.__name__, kind=kind, build=build, description=(build.__doc__ or "").strip(), **declared
        )

    return declare

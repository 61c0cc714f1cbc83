"""Gold tables: aggregates, rows for rows, and tables that are recomputed key by key."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pipeline.model.columns import Column, columns_of
from pipeline.model.rules import Rule

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class GoldKind(StrEnum):
    """How a gold table is updated when its upstream table changes."""

    AGGREGATE = "aggregate"  # sums, counts, minima and maxima per grain; touched groups are updated
    SELECT_ROWS = "select_rows"  # one row per upstream row
    RECOMPUTE = "recompute"  # computed again from all rows of each changed key


Build = Callable[["DataFrame"], "DataFrame"]


@dataclass(frozen=True, kw_only=True)
class GoldTable:
    """A gold table: its upstream table, its grain and columns, the kind of its updates, and its checks.

    `sum` maps a column to the SQL of the amount that one upstream row adds. With `per` the SQL is an aggregate over all
    rows with the same values in these columns, for example of one visitor. Then a batch reads only the rows of
    changed values. `period` is the time that a date of the grain stands for; a figure counts as complete when the
    newest batch date lies after its period.
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
    dimension: str = ""  # a feed or enriched table; its current row joins by the grain
    as_of_columns: Mapping[str, str] = field(default_factory=dict)  # column -> SQL that depends on $as_of
    row_per_batch: bool = False  # one cumulative row per batch
    key: tuple[str, ...] = ()  # of `recompute`: the columns of the rows that are recomputed together; empty: the table
    # A hint that changes no row, and so no fingerprint: the time that a date of the grain stands for.
    period: Literal["day", "week", "month", "year"] = field(default="day", repr=False)
    description: str = ""
    # The fields below are for readers. `repr=False` leaves them out of the fingerprint.
    descriptions: Mapping[str, str] = field(default_factory=dict, repr=False)  # column -> one sentence
    unit: Mapping[str, str] = field(
        default_factory=dict, repr=False
    )  # column -> its unit: "days", or a setting: "$currency"
    headline: tuple[str, ...] = field(default=(), repr=False)  # the columns to show first, the most important one first

    def __post_init__(self) -> None:
        if self.per and self.kind is not GoldKind.AGGREGATE:
            raise ValueError(f"gold table {self.name}: `per` is for @aggregate; @{self.kind} has no `sum`")

    @cached_property
    def schema(self) -> tuple[Column, ...]:
        """The columns of the table."""
        return columns_of(self.columns)

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        """The declared columns and, of aggregates, `_rows`: the number of rows in the group."""
        if self.kind is not GoldKind.AGGREGATE:
            return self.schema
        return (*self.schema, *columns_of("_rows BIGINT, _batch_seq BIGINT" if self.row_per_batch else "_rows BIGINT"))

    @property
    def aggregate_sql(self) -> Mapping[str, str]:
        """The SQL of each column that is aggregated over the upstream rows of a group."""
        sums = {c: "count(*)" if sql.strip() == "1" else f"sum({sql})" for c, sql in self.sum.items()}
        counts = {c: f"count(DISTINCT {sql})" for c, sql in self.count_distinct.items()}
        lowest = {c: f"min({sql})" for c, sql in self.min.items()}
        return {**sums, **counts, **lowest, **{c: f"max({sql})" for c, sql in self.max.items()}}

    @property
    def date_column(self) -> str:
        """The first column of the grain with a date, such as the day of a sum; "" where there is none."""
        types = {c.name: c.type for c in self.schema}
        return next((c for c in self.grain if types.get(c) == "DATE"), "")

    @property
    def members(self) -> Mapping[str, str]:
        """The columns that count or compare the members of a group, each with the SQL of a member."""
        return {**self.count_distinct, **self.min, **self.max}


def aggregate(**declared: Any) -> Callable[[Build], GoldTable]:
    """Declares a gold table of sums, counts, minima and maxima per grain; the function adds columns to its rows."""
    return _gold(GoldKind.AGGREGATE, declared)


def select_rows(**declared: Any) -> Callable[[Build], GoldTable]:
    """Declares a gold table with one row per upstream row; the function selects its columns."""
    return _gold(GoldKind.SELECT_ROWS, declared)


def recompute(**declared: Any) -> Callable[[Build], GoldTable]:
    """Declares a gold table that is computed again, for each changed `key`, from all upstream rows of that key."""
    return _gold(GoldKind.RECOMPUTE, declared)


def _gold(kind: GoldKind, declared: Mapping[str, Any]) -> Callable[[Build], GoldTable]:
    def declare(build: Build) -> GoldTable:
        return GoldTable(
            name=build.__name__, kind=kind, build=build, description=(build.__doc__ or "").strip(), **declared
        )

    return declare

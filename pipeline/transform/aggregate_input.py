"""One gold table with all that it is computed from: declaration, stored rows, changes, the batch."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pyspark.sql import DataFrame

from pipeline.contract import WorkOrder
from pipeline.lake.table_version import TableVersion
from pipeline.model import GoldKind, GoldTable, render_sql
from pipeline.transform.change import TableChange
from pipeline.transform.derived_columns import words


@dataclass(frozen=True, kw_only=True)
class AggregateInput:
    """One gold table with all that it is computed from."""

    table: GoldTable
    stored: TableVersion
    is_whole: bool  # it is computed from all rows of the table that it follows: see `gold_tasks.is_whole`
    change: TableChange | None  # of the table that it follows
    dimension: DataFrame | None  # of the current rows that give attributes: the grain, and the columns that are taken
    dimension_change: TableChange | None
    # The rows of the followed table: with this batch; for sums by difference with `per` before it. None: not needed.
    source_rows: DataFrame | None
    has_touched_rows_only: bool  # whether these are the rows of the touched groups or keys, and no others
    has_many_rows: bool  # whether these may be many
    order: WorkOrder
    batch_seq: int  # the batch's place among all batches
    as_of_before: dt.date | None  # the newest batch date of the source before the batch
    settings: Mapping[str, object]

    def sql(self, text: str, **more: object) -> str:
        """Fills the source's settings and the batch's values into SQL text."""
        order = self.order
        batch = {"batch_id": order.batch_id, "batch_seq": self.batch_seq, "batch_date": order.batch_date}
        return render_sql(text, {**self.settings, **batch, "as_of": self.as_of, **more})

    @cached_property
    def types(self) -> Mapping[str, str]:
        """The SQL type of each stored column."""
        return {c.name: c.type for c in self.table.stored_columns}

    @property
    def as_of(self) -> dt.date:
        """The newest batch date of the source, with the batch."""
        return max(self.as_of_before or self.order.batch_date, self.order.batch_date)

    @property
    def counted_rows(self) -> DataFrame:
        """The changed rows that count for the table."""
        assert self.change is not None
        rows = self.change.rows
        needed = {*columns_needed(self.table, rows.schema.names), "_sign", *(self.change.key if self.table.per else ())}
        return rows.read([c for c in rows.schema.names if c in needed]).where(self.sql(self.table.where or "true"))

    @property
    def counted_source_rows(self) -> DataFrame:
        """The rows of the followed table that count for the table."""
        assert self.source_rows is not None
        return self.source_rows.where(self.sql(self.table.where or "true"))

    @property
    def computes_groups(self) -> bool:
        """Whether the groups of an aggregate are computed again from rows, and not by the difference of sums."""
        return computes_groups(self.table, is_whole=self.is_whole)

    @property
    def grows_older(self) -> bool:
        """Whether rows may change only because the newest batch date has moved on."""
        before = self.as_of_before
        return not self.is_whole and bool(self.table.as_of_columns) and before is not None and before < self.as_of

    @property
    def may_change(self) -> bool:
        """Whether the table has to be computed."""
        if self.table.row_per_batch:
            return True
        if self.is_whole:
            return self.source_rows is not None
        is_renamed = self.dimension_change is not None and self.dimension_change.rows.must_process
        return (self.change is not None and self.change.rows.must_process) or is_renamed or self.grows_older


def computes_groups(table: GoldTable, *, is_whole: bool) -> bool:
    """Returns whether groups of an aggregate are computed from rows: the table is computed whole, or has members."""
    return table.kind is GoldKind.AGGREGATE and (is_whole or bool(table.members))


def reads_followed_rows(table: GoldTable, *, is_whole: bool) -> bool:
    """Returns whether a gold table is computed from rows of the table that it follows, with the batch in them."""
    return is_whole or table.kind is GoldKind.RECOMPUTE or computes_groups(table, is_whole=is_whole)


def columns_needed(table: GoldTable, columns: Sequence[str]) -> list[str]:
    """Returns the columns of the followed table that a gold table may need: an aggregate names them in its SQL."""
    if table.kind is not GoldKind.AGGREGATE:
        return list(columns)
    sql = (*table.grain, *table.per, table.where, *table.sum.values(), *table.members.values())
    named = {word.casefold() for text in sql for word in words(text)}
    return [c for c in columns if c.casefold() in named] or list(columns[:1])

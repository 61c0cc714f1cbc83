"""One gold table with all that it is computed from: declaration, stored rows, changes, the batch's place."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame

from pipeline.lake.lake import TableVersion
from pipeline.model import GoldTable, render_sql
from pipeline.transform.change import TableChange


@dataclass(frozen=True, kw_only=True)
class BatchPosition:
    """A batch's id and date, its place among all batches, and the newest batch date before it and with it."""

    batch_id: str
    batch_seq: int
    batch_date: dt.date
    as_of: dt.date
    as_of_before: dt.date | None

    @property
    def values(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("batch_id", "batch_seq", "batch_date", "as_of")}


@dataclass(frozen=True, kw_only=True)
class AggregateInput:
    """One gold table with all that it is computed from."""

    table: GoldTable
    stored: TableVersion
    change: TableChange | None  # of the table that it follows
    effects: DataFrame | None  # on its distinct counts and extremes
    dimension: DataFrame | None  # of the current rows that give attributes: the grain, and the columns that are taken
    dimension_change: TableChange | None
    source_rows: DataFrame | None  # @recompute: upstream with this batch; @aggregate with `per`: before it
    position: BatchPosition
    values: Mapping[str, object]

    def sql(self, text: str, **more: object) -> str:
        """Fills the source's settings and the batch's values into SQL text."""
        return render_sql(text, {**self.values, **self.position.values, **more})

    @property
    def counted_rows(self) -> DataFrame:
        """The changed rows that count for the table."""
        assert self.change is not None
        return self.change.rows.df.where(self.sql(self.table.where or "true"))

    @property
    def grows_older(self) -> bool:
        """Whether rows may change only because the newest batch date has moved on."""
        before = self.position.as_of_before
        return bool(self.table.as_of_columns) and before is not None and before < self.position.as_of

    @property
    def may_change(self) -> bool:
        """Whether the table has to be computed."""
        if self.table.row_per_batch or (self.change is not None and self.change.rows.must_process):
            return True
        is_renamed = self.dimension_change is not None and self.dimension_change.rows.must_process
        return bool(self.stored.version and (is_renamed or self.grows_older))

"""A table of the lake at one version, as transformations receive it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.lake.file_pruning import MinMax
from pipeline.lake.lake import Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True, kw_only=True)
class TableVersion:
    """A table of the lake at one version; version 0 holds no rows.

    `columns` are the declared ones. The table may hold more: columns that were declared once are never dropped.
    """

    lake: Lake
    name: str
    version: int
    columns: tuple[str, ...]

    def read(self, columns: Sequence[str] | None = None, *, within: Mapping[str, MinMax] | None = None) -> "DataFrame":
        """Returns some columns, by default all declared ones, as a DataFrame; see `Lake.read`."""
        return self.lake.read(self.name, self.version, columns or self.columns, within=within)

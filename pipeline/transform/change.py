"""What a batch changes in a table: signed rows, -1 as a row was and +1 as it is now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.contract import RuleResult
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.model import Column
from pipeline.transform.derived_columns import text_key_sql


@dataclass(frozen=True, kw_only=True)
class TableChange:
    """The signed rows of a table that differ (`_sign`; equal rows are left out), and the results of rules about it."""

    table: str
    key: tuple[str, ...]
    rows: MaterializedRows
    findings: tuple[RuleResult, ...] = ()

    @property
    def has_old_rows(self) -> bool:
        """Whether the change has a row as it was; true also where there is no row at all."""
        lowest = self.rows.min_max("_sign")[0]
        return lowest is None or lowest < 0


def changes_in(results: Mapping[str, object]) -> dict[str, TableChange]:
    """Returns the changes among the results, by table."""
    return {r.table: r for r in results.values() if isinstance(r, TableChange)}


def difference(before: DataFrame | None, after: DataFrame, columns: Sequence[Column]) -> DataFrame:
    """Returns the rows of `before` (`_sign` -1) and `after` (+1) that are not in both; they have these columns only."""
    now = after.selectExpr("*", "1 AS _sign")
    if before is None:
        return now
    both = now.unionByName(before.selectExpr("*", "-1 AS _sign"))
    sums = both.groupBy(*(c.name for c in columns)).agg(F.sum("_sign").cast("int").alias("_sign"))
    return sums.where("_sign <> 0")


def with_change(stored: DataFrame, change: TableChange) -> DataFrame:
    """Returns the rows of a table with a change that is not yet written."""
    signed = change.rows.df
    group = F.expr(text_key_sql(change.key)).alias("_group")  # as text, because no join matches a null
    unchanged = stored.select("*", group).join(signed.select(group).distinct(), "_group", "left_anti")
    return unchanged.drop("_group").unionByName(signed.where("_sign > 0").select(*stored.columns))

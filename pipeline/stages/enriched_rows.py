"""Computes the rows of an enriched table that a batch may change, and the results of the table's rules.

Few rows are looked up by their keys, and compared, in this process: the engine is asked for the joins alone, and of
each joined table it reads the rows of those keys. Many rows are found and compared by the engine.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.contract import RuleResult
from pipeline.errors import InvalidValue
from pipeline.lake.data_files import cast_to_schema
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.scratch import Scratch
from pipeline.lake.table_version import TableVersion
from pipeline.model import Append, Column, Enriched, HierarchyJoin, Join, LatestJoin, PointInTimeJoin
from pipeline.schema import arrow_schema
from pipeline.stages import comparison
from pipeline.stages.comparison import compare, compare_tables
from pipeline.stages.context import BatchContext
from pipeline.transform.affected_rows import joined_keys, own_keys, read_own_keys, time_range
from pipeline.transform.changed_intervals import changed_intervals
from pipeline.transform.enrich import (
    columns_joined,
    joined,
    newest_of_all,
    newest_of_table,
    parts,
    ranked_rows,
    rows_joined,
    rows_of_batch,
    rows_of_table,
    values_with_several_rows,
    with_rules,
)
from pipeline.transform.failing_rows import located
from pipeline.transform.findings import VERDICTS, combinations, rule_findings
from pipeline.transform.point_in_time import skewed_keys, table_with_interval, with_interval
from pipeline.transform.silver_tables import SilverTables
from pipeline.transform.validate import ValidatedFeed

# A joined table of more rows is left to the engine: all versions of many keys may not fit the memory of this process.
LOOKUP_ROWS = 2_000_000

Found = tuple[MaterializedRows, tuple[RuleResult, ...]]


@dataclass(frozen=True, kw_only=True)
class EnrichedRows:
    """The work of one batch on one enriched table."""

    batch: BatchContext
    table: Enriched
    silver: SilverTables

    def change(self) -> Found:
        """Returns the signed rows by which the table changes, and the results of its rules over the batch's own rows.

        Raises InvalidValue with the column and the row at fault.
        """
        if self.batch.computes_whole(self._stored.name):
            return self._many(None)  # every row of the feed may be new to the table
        affected, few = self._affected(), comparison.IN_PROCESS_ROWS
        of_batch = 0 if self._judged is None else self._judged.rows.rows
        return self._few(affected) if affected.rows + of_batch <= few else self._many(affected)

    def _affected(self) -> MaterializedRows:
        """Returns the keys of the rows that may change, and of those that the batch has removed, each once."""
        scratch, table, silver, few = self._scratch, self.table, self.silver, comparison.IN_PROCESS_ROWS
        intervals = dict[tuple[str, ...], MaterializedRows]()
        for on, (found, query) in changed_intervals(table, silver, few).items():
            rows = None if found is None else scratch.write(found, f"intervals/{table.name}")
            if query is not None:
                every = query if rows is None else query.unionByName(rows.df)
                rows = self.batch.lake.scratch.materialize(every, f"intervals/{table.name}")
            if rows is not None and rows.must_process:
                intervals[on] = rows
        queries, changed = joined_keys(table, silver, self._stored, intervals), silver.changes.get(table.upstream)
        if changed is not None and changed.rows.rows > few:
            queries.append(read_own_keys(table, silver))
        elif (keys := own_keys(table, silver)) is not None:
            own = scratch.write(keys, f"own_keys/{table.name}")
            if not queries:
                return own
            queries.append(own.df)
        every = reduce(DataFrame.unionByName, queries) if queries else silver.rows_of(table, self._key).where("false")
        return self.batch.lake.scratch.materialize(every.distinct(), f"affected/{table.name}")

    @cached_property
    def _stored(self) -> TableVersion:
        return self.batch.table(self.batch.name("silver", self.table.name))

    @cached_property
    def _key(self) -> tuple[str, ...]:
        return self.batch.source.enriched_key(self.table)

    @cached_property
    def _columns(self) -> tuple[Column, ...]:
        return self.batch.source.enriched_columns(self.table)

    @cached_property
    def _judged(self) -> ValidatedFeed | None:
        """The feed of the batch whose rows the table's rules check; None where there is no row, or no rule."""
        validated = self.batch.validated.get(self.table.upstream)
        has_rows = validated is not None and (validated.rows_accepted or self.batch.lake.plans_all)
        return validated if has_rows and self.table.rules else None

    @property
    def _scratch(self) -> Scratch:
        return self.batch.lake.scratch

    def _found(self, change: MaterializedRows, verdicts: Sequence[Mapping[str, Any]]) -> Found:
        return change, rule_findings(self.table.upstream, self.table.rules, verdicts)

    def _computed(self, rows: DataFrame, query: DataFrame, label: str) -> MaterializedRows:
        """Computes a query over joined rows. Raises InvalidValue with the column and the row at fault."""
        try:
            return self.batch.lake.scratch.materialize(query, f"{label}/{self.table.name}")
        except InvalidValue as error:
            suspects = self.batch.lake.scratch.materialize(rows, f"joined/{self.table.name}")
            raise located(error, parts(self.table), suspects, self.batch.lake) from error

    # ---- few rows

    def _few(self, affected: MaterializedRows) -> Found:
        keys = affected.arrow(self._key)
        rows = self._rows_and_own(keys)
        given = self._scratch.write(rows, f"rows/{self.table.name}")
        df = joined(self.table, self.silver, given.df, looked_up=self._looked_up(rows, given), skewed={})
        # One query serves the rules and the table: to plan a second one costs more than the rows.
        query = with_rules(self.table, df, ["_own", *(c.name for c in self._columns)])
        now = self._computed(df, query, "enriched").arrow()
        of_batch = now.filter(now["_own"]).select(VERDICTS)
        of_table = now.filter(pc.invert(now["_own"]))
        change = compare_tables(self._stored, self._columns, of_table, keys=keys, key=self._key)
        return self._found(change, combinations(of_batch))

    def _rows_and_own(self, keys: pa.Table) -> pa.Table:
        """Returns the affected rows of the feed, and the batch's own rows (`_own`), which later ones may replace."""
        names = {old: new for old, new, _ in self.batch.source.own_columns(self.table)}
        rows = self.silver.rows_of_keys(
            self.table.upstream, keys, [*names], only_current=not self.table.versions
        ).rename_columns([*names.values()])
        rows = rows.append_column("_own", pa.repeat(pa.scalar(value=False), rows.num_rows))
        if self._judged is None:
            return rows
        own = self._own(self._judged)
        own = own.append_column("_own", pa.repeat(pa.scalar(value=True), own.num_rows))
        return pa.concat_tables([rows, cast_to_schema(own, rows.schema)])

    def _own(self, validated: ValidatedFeed) -> pa.Table:
        feed, columns = self.batch.source.feed(self.table.upstream), self.batch.source.own_columns(self.table)
        if feed.derived or self.table.versions:  # SQL computes some of the columns
            query = rows_of_batch(self.table, self.silver, validated)
            return self.batch.lake.scratch.materialize(query, f"own/{self.table.name}").arrow()
        rows = validated.kept_table(feed.input_names)
        # An append-only feed numbers its rows when it merges them: until then the number is null.
        rows = cast_to_schema(rows, arrow_schema(Column(old, kind) for old, _, kind in columns))
        return rows.rename_columns([new for _, new, _ in columns])

    def _looked_up(self, rows: pa.Table, given: MaterializedRows) -> dict[Join, DataFrame]:
        """Returns for the joins the rows of the joined table that `rows`, which `given` holds, may match."""
        found, read = dict[Join, DataFrame](), dict[Hashable, DataFrame]()
        for join in (j for j in self.table.joins if not isinstance(j, HierarchyJoin)):  # one's column may be joined
            feed, columns = self.batch.source.feed(join.feed), columns_joined(self.table, self.silver, join)
            stored = self.silver.tables[feed.name]
            is_large = stored.lake.row_count(stored.name, stored.version) > LOOKUP_ROWS
            if is_large or not self.silver.has_types(feed.name, rows.select(join.on).schema):
                keys = given.read(join.on).distinct()
                found[join] = rows_joined(self.table, self.silver, join, keys)
                continue
            chosen = join if isinstance(join, PointInTimeJoin) and join.where else None  # SQL chooses the versions
            alike = (feed.name, join.on, tuple(columns), None if chosen else join)
            if alike not in read:
                others = _look_up(join, self.silver, rows.select(join.on), columns)
                read[alike] = self._scratch.write(others, f"{feed.name}/{self.table.name}").df
            found[join] = with_interval(chosen, feed, read[alike]) if chosen else read[alike]
        return found

    # ---- many rows

    def _many(self, affected: MaterializedRows | None) -> Found:
        skewed, newest, verdicts = self._skewed(), self._newest(), list[dict[str, Any]]()
        if self._judged is not None:
            # By themselves the rules are cheap: an engine computes no column that they do not need.
            own = rows_of_batch(self.table, self.silver, self._judged)
            df = joined(self.table, self.silver, own, looked_up=newest, skewed=skewed)
            query = with_rules(self.table, df).groupBy(*VERDICTS).agg(F.count(F.lit(1)).alias("count_all"))
            verdicts = self._computed(df, query, "verdicts").arrow().to_pylist()
        names = [c.name for c in self._columns]
        rows = rows_of_table(self.table, self.silver, affected)
        df = joined(self.table, self.silver, rows, looked_up=newest, skewed=skewed)
        query = with_rules(self.table, df, names).select(*names, "_failed")
        if not self._stored.version:
            return self._found(self._computed(df, query.selectExpr("*", "1 AS _sign"), "enriched"), verdicts)
        change = compare(
            self._stored,
            self._columns,
            self._computed(df, query, "enriched"),
            key=self._key,
            by=self._key if affected else (),
            touched=(affected,) if affected else (),
            within=time_range(self.batch.source.feed(self.table.upstream), affected),
        )
        return self._found(change, verdicts)

    def _newest(self) -> dict[Join, DataFrame]:
        """Returns for the LatestJoins all rows that a row may match."""
        found, scratch = dict[Join, DataFrame](), self._scratch
        for join in (j for j in self.table.joins if isinstance(j, LatestJoin) and j.order_by):
            if isinstance(self.batch.source.feed(join.feed).stored_as, Append):
                continue  # its rows have no key
            ranked = None
            several = scratch.materialize(values_with_several_rows(join, self.silver), f"several/{join.feed}")
            if several.must_process:
                ranked = scratch.materialize(ranked_rows(join, self.silver, several.df), f"ranked/{join.feed}").df
            found[join] = newest_of_all(self.table, self.silver, join, ranked)
        return found

    def _skewed(self) -> dict[PointInTimeJoin, DataFrame]:
        found = dict[PointInTimeJoin, DataFrame]()
        for joins, query in skewed_keys(self.table, self.silver):
            rows = self.batch.lake.scratch.materialize(query, f"skewed/{joins[0].feed}")
            for n in rows.arrow(["_join"])["_join"].unique().to_pylist():
                found[joins[n]] = rows.df.where(f"_join = {n}").drop("_join")
        return found


def _look_up(
    join: PointInTimeJoin | LatestJoin, silver: SilverTables, keys: pa.Table, columns: Sequence[str]
) -> pa.Table:
    """Returns what `rows_joined` returns for some keys; where SQL chooses the versions, all without an interval."""
    feed, keys = silver.source.feed(join.feed), keys.drop_null()
    if isinstance(join, LatestJoin):
        return newest_of_table(join, silver.rows_of_keys(feed.name, keys, columns, only_current=True))
    rows = silver.rows_of_keys(feed.name, keys, columns, only_current=False)
    if not set(join.on) <= set(feed.key):
        # The first version of a key may have other values in the joined columns: all versions of the keys are needed.
        rows = silver.rows_of_keys(feed.name, rows.select(feed.key), columns, only_current=False)
    return rows if join.where else table_with_interval(join, feed, rows)

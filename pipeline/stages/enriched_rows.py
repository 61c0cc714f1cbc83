"""Computes the rows of an enriched table that a batch may change, and the results of the table's rules.

Few rows are looked up by their keys, and compared, in this process: the engine is asked for the joins alone, and of
each joined table it reads the rows of those keys. Many rows are found and compared by the engine.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipeline.contract import RuleResult
from pipeline.errors import InvalidValue
from pipeline.lake.data_files import cast_to_schema
from pipeline.lake.lake import TableVersion
from pipeline.lake.scratch import MaterializedRows
from pipeline.model import Column, Enriched, HierarchyJoin, Join, LatestJoin, PointInTimeJoin
from pipeline.schema import arrow_schema
from pipeline.stages.comparison import IN_PROCESS_ROWS, compare, compare_tables
from pipeline.stages.context import BatchContext
from pipeline.transform.affected_rows import affected_keys
from pipeline.transform.changed_intervals import changed_intervals
from pipeline.transform.enrich import columns_joined, joined, parts, rows_of_batch, rows_of_table, with_rules
from pipeline.transform.failing_rows import located
from pipeline.transform.findings import VERDICTS, combinations, rule_findings
from pipeline.transform.point_in_time import skewed_keys
from pipeline.transform.silver_tables import SilverTables
from pipeline.transform.validate import ValidatedFeed


def enriched_rows(
    batch: BatchContext, table: Enriched, silver: SilverTables, in_process_rows: int = IN_PROCESS_ROWS
) -> tuple[MaterializedRows, tuple[RuleResult, ...]]:
    """Returns the signed rows by which the table changes, and the results of its rules over the batch's own rows.

    Up to `in_process_rows` rows are looked up and compared in this process.
    """
    stored, affected = batch.table(batch.name("silver", table.name)), None
    judged = _judged(batch, table)
    # Every row of the feed is new to a table that holds nothing yet.
    if stored.version:
        keys = affected_keys(
            table, silver, stored, changed_intervals(table, silver, batch.lake.scratch, in_process_rows)
        )
        affected = batch.lake.scratch.materialize(keys, f"affected/{table.name}")
        if affected.rows + (judged.rows.rows if judged else 0) <= in_process_rows:
            return _few(batch, table, silver, stored, affected, judged)
    return _many(batch, table, silver, stored, affected, judged)


def _judged(batch: BatchContext, table: Enriched) -> ValidatedFeed | None:
    """Returns the feed of the batch whose rows the table's rules check; None where there is no row, or no rule."""
    validated = batch.validated.get(table.upstream)
    has_rows = validated is not None and (validated.rows_accepted or batch.lake.plans_all)
    return validated if has_rows and table.rules else None


# ---- few rows


def _few(
    batch: BatchContext,
    table: Enriched,
    silver: SilverTables,
    stored: TableVersion,
    affected: MaterializedRows,
    judged: ValidatedFeed | None,
) -> tuple[MaterializedRows, tuple[RuleResult, ...]]:
    source, scratch = batch.source, batch.lake.scratch
    key, columns = source.enriched_key(table), source.enriched_columns(table)
    keys = affected.arrow(key)
    rows = _with_own(batch, table, silver, keys, judged)
    found = _found(batch, table, silver, rows)
    # One query serves the rules and the table: to plan a second one costs more than the rows.
    given = scratch.write(rows, f"rows/{table.name}").df
    df = joined(table, silver, given, found=found, skewed={})
    shown = [c.name for c in columns]
    now = _computed(batch, table, df, with_rules(table, df, ["_own", *shown]), "enriched").arrow()
    of_batch = now.filter(now["_own"])
    now = now.filter(pc.invert(now["_own"]))
    change = compare_tables(stored, columns, now, keys=keys, key=key)
    return change, rule_findings(table.upstream, table.rules, combinations(of_batch.select(VERDICTS)))


def _with_own(
    batch: BatchContext, table: Enriched, silver: SilverTables, keys: pa.Table, judged: ValidatedFeed | None
) -> pa.Table:
    """Returns the affected rows of the feed, and the batch's own rows (`_own`), which a later record may replace."""
    names = {old: new for old, new, _ in batch.source.own_columns(table)}
    rows = silver.rows_of_keys(table.upstream, keys, [*names], only_current=not table.versions)
    assert rows is not None, "an enriched table has the keys of its feed"
    rows = rows.rename_columns([*names.values()])
    rows = rows.append_column("_own", pa.repeat(pa.scalar(value=False), rows.num_rows))
    if judged is None:
        return rows
    own = _rows_of_batch(batch, table, silver, judged)
    own = own.append_column("_own", pa.repeat(pa.scalar(value=True), own.num_rows))
    return pa.concat_tables([rows, cast_to_schema(own, rows.schema)])


def _rows_of_batch(batch: BatchContext, table: Enriched, silver: SilverTables, judged: ValidatedFeed) -> pa.Table:
    feed, columns = batch.source.feed(table.upstream), batch.source.own_columns(table)
    if feed.derived or table.versions:
        df = rows_of_batch(table, silver, judged)
        return batch.lake.scratch.materialize(df, f"own/{table.name}").arrow()
    rows = judged.rows.arrow([*feed.input_names, "_reasons", "_deleted"])
    rows = rows.filter(pc.and_(pc.is_null(rows["_reasons"]), pc.invert(rows["_deleted"])))
    # An append-only feed numbers its rows when it merges them: until then the number is null.
    rows = cast_to_schema(rows, arrow_schema(Column(old, kind) for old, _, kind in columns))
    return rows.rename_columns([new for _, new, _ in columns])


def _found(batch: BatchContext, table: Enriched, silver: SilverTables, rows: pa.Table) -> dict[Join, DataFrame]:
    """Returns for the joins by columns of the row the joined rows that the rows may match."""
    found, read = dict[Join, DataFrame](), dict[tuple[str, tuple[str, ...], tuple[str, ...]], DataFrame]()
    for join in table.joins:
        if isinstance(join, HierarchyJoin):
            continue
        columns = columns_joined(table, silver, join)
        known = join.feed, join.on, tuple(columns)
        if known not in read:
            others = _lookup(join, silver, rows.select(join.on).drop_null(), columns)
            if others is None:
                continue
            read[known] = batch.lake.scratch.write(others, f"{join.feed}/{table.name}").df
        found[join] = read[known]
    return found


def _lookup(
    join: PointInTimeJoin | LatestJoin, silver: SilverTables, keys: pa.Table, columns: list[str]
) -> pa.Table | None:
    feed, is_latest = silver.source.feed(join.feed), isinstance(join, LatestJoin)
    rows = silver.rows_of_keys(join.feed, keys, columns, only_current=is_latest)
    if rows is None or is_latest or set(join.on) <= set(feed.key):
        return rows
    # The first version of a key may have other values in the joined columns: all versions of the keys are needed.
    return silver.rows_of_keys(join.feed, rows.select(feed.key), columns, only_current=False)


# ---- many rows


def _many(
    batch: BatchContext,
    table: Enriched,
    silver: SilverTables,
    stored: TableVersion,
    affected: MaterializedRows | None,
    judged: ValidatedFeed | None,
) -> tuple[MaterializedRows, tuple[RuleResult, ...]]:
    source, scratch = batch.source, batch.lake.scratch
    key, columns = source.enriched_key(table), source.enriched_columns(table)
    shown, skewed = [c.name for c in columns], _skewed(batch, table, silver)
    counts = list[dict[str, Any]]()
    if judged is not None:
        # The rules alone: an engine computes no column that they do not need, and most of these rows come again below.
        df = joined(table, silver, rows_of_batch(table, silver, judged), found={}, skewed=skewed)
        verdicts = with_rules(table, df).groupBy(*VERDICTS).agg(F.count(F.lit(1)).alias("count_all"))
        counts = _computed(batch, table, df, verdicts, "verdicts").arrow().to_pylist()
    df = joined(table, silver, rows_of_table(table, silver, affected), found={}, skewed=skewed)
    now = with_rules(table, df, shown).select(*shown, "_failed")
    if affected is None:
        change = _computed(batch, table, df, now.selectExpr("*", "1 AS _sign"), "enriched")
    else:
        after = _computed(batch, table, df, now, "enriched")
        change = compare(stored, columns, after, key=key, by=key, touched=(affected,), in_process_rows=0)
    return change, rule_findings(table.upstream, table.rules, counts)


def _computed(batch: BatchContext, table: Enriched, rows: DataFrame, query: DataFrame, label: str) -> MaterializedRows:
    """Computes a query over joined rows. Raises InvalidValue with the column and the row at fault."""
    scratch = batch.lake.scratch
    try:
        return scratch.materialize(query, f"{label}/{table.name}")
    except InvalidValue as error:
        raise located(error, parts(table), scratch.materialize(rows, f"joined/{table.name}"), batch.lake) from error


def _skewed(batch: BatchContext, table: Enriched, silver: SilverTables) -> dict[PointInTimeJoin, DataFrame]:
    found = dict[PointInTimeJoin, DataFrame]()
    for joins, query in skewed_keys(table, silver):
        rows = batch.lake.scratch.materialize(query, f"skewed/{joins[0].feed}")
        for n in rows.arrow(["_join"])["_join"].unique().to_pylist():
            found[joins[n]] = rows.df.where(f"_join = {n}").drop("_join")
    return found

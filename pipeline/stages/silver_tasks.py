"""What the tasks of hierarchies and enriched tables do, and of the rules that look into several tables."""

from functools import reduce

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from pipeline.contract import RuleResult
from pipeline.errors import InvalidValue
from pipeline.lake.file_pruning import MinMax
from pipeline.model import Enriched, Hierarchy, PointInTimeJoin
from pipeline.stages.context import BatchContext
from pipeline.stages.error_place import errors_of
from pipeline.stages.task_graph import Results
from pipeline.transform.affected_rows import affected_rows, changed_intervals, is_sorted_by_time
from pipeline.transform.change import TableChange, changes_in
from pipeline.transform.enrich import (
    VERDICTS,
    affected_and_batch_rows,
    batch_rows,
    change_of,
    joined,
    parts,
    tables_read,
    with_rules,
    with_settings,
)
from pipeline.transform.failing_rows import located
from pipeline.transform.findings import check_rows, reference_findings, rule_findings, tie_findings
from pipeline.transform.hierarchy import build_hierarchy
from pipeline.transform.point_in_time import skewed_keys
from pipeline.transform.silver_tables import SilverTables
from pipeline.transform.validate import reference_counts

# Of so many affected rows most versions are joined: to look for their keys costs more than it saves.
LOOKUP_ROWS = 200_000


# ---- hierarchies and enriched tables


def hierarchy(batch: BatchContext, hierarchy: Hierarchy, _: Results) -> TableChange:
    """Computes the change of a hierarchy from the current rows of its feed."""
    feed, table = batch.source.feed(hierarchy.upstream), batch.table(batch.name("silver", hierarchy.name))
    of = batch.table(batch.name("silver", feed.name))
    is_current = pc.field("is_current") if feed.has_versions else None
    nodes = batch.lake.arrow(of.name, of.version, [hierarchy.id, hierarchy.parent], filter=is_current)
    signed, findings = build_hierarchy(hierarchy, batch.source, nodes, batch.lake.arrow(table.name, table.version))
    path = batch.lake.scratch.folder / f"hierarchy_{hierarchy.name}.parquet"
    pq.write_table(signed, path)
    return TableChange(
        table=table.name, key=(hierarchy.id,), rows=batch.lake.scratch.open_parquet(path), findings=findings
    )


def silver_tables(batch: BatchContext, names: tuple[str, ...], results: Results) -> SilverTables:
    """Returns some silver tables as the batch leaves them, with their changes among the results."""
    tables = {name: batch.table(batch.name("silver", name)) for name in names}
    changes = changes_in(results)
    changed = {name: changes[t.name] for name, t in tables.items() if t.name in changes}
    return SilverTables(source=batch.source, tables=tables, changes=changed)


def own_names(batch: BatchContext, table: Enriched) -> dict[str, str]:
    """Returns the columns of an enriched table that are its feed's, with their names there."""
    return {new: old for old, new, _ in batch.source.own_columns(table)}


def enrich(batch: BatchContext, table: Enriched, results: Results) -> TableChange:
    """Computes the change of an enriched table, and the results of its rules over the batch's own rows.

    Raises DataError where a row breaks a check of the table; InvalidValue names the column, and the row, at fault.
    """
    name = batch.name("silver", table.name)
    with errors_of(batch, name, table.upstream, own_names(batch, table)):
        return _enriched(batch, with_settings(table, batch.values), silver_tables(batch, tables_read(table), results))


def _enriched(batch: BatchContext, table: Enriched, silver: SilverTables) -> TableChange:
    keep, source, stored = batch.lake.scratch.materialize, batch.source, batch.table(batch.name("silver", table.name))
    key, own = source.enriched_key(table), batch_rows(table, silver, batch.validated.get(table.upstream))
    # Every row of the feed is new to a table that holds nothing yet.
    affected = None
    if stored.version:
        intervals = _intervals(batch, table, silver)
        affected = keep(affected_rows(table, silver, stored, intervals), f"affected/{table.name}")
    is_limited = affected is not None and affected.rows <= LOOKUP_ROWS
    rows = joined(
        table,
        silver,
        affected_and_batch_rows(table, silver, affected.df if affected else None, own),
        affected=affected if is_limited else None,
        batch=own,
        skewed={} if is_limited else _skewed(batch, table, silver),
    )
    now, verdicts = with_rules(table, rows), None
    try:
        if own is not None:
            # One query of joins serves the rules and the table.
            verdicts = keep(now.select(*_columns(batch, table), *VERDICTS), f"enriched/{table.name}")
            now = verdicts.read([*_columns(batch, table), "_own"]).where("_own = 0")
        change = keep(change_of(table, source, now, stored, affected), f"changes/{stored.name}")
    except InvalidValue as error:
        raise located(error, parts(table), keep(rows, f"joined/{table.name}"), batch.lake) from error
    check_rows(stored.name, key, change)
    seen = verdicts.arrow(VERDICTS) if verdicts is not None else None
    return TableChange(
        table=stored.name, key=key, rows=change, findings=rule_findings(table.upstream, table.rules, seen)
    )


def _columns(batch: BatchContext, table: Enriched) -> list[str]:
    return [*(c.name for c in batch.source.enriched_columns(table)), "_failed"]


def _intervals(
    batch: BatchContext, table: Enriched, silver: SilverTables
) -> dict[tuple[str, ...], tuple[DataFrame, MinMax | None]]:
    feed, found = batch.source.feed(table.upstream), dict[tuple[str, ...], tuple[DataFrame, MinMax | None]]()
    for on, changed in changed_intervals(table, silver).items():
        if is_sorted_by_time(feed) and table.as_of == feed.event_time:
            rows = batch.lake.scratch.materialize(changed, f"intervals/{table.name}")
            found[on] = rows.df, (rows.min_max("_since")[0], rows.min_max("_last")[1])
        else:
            found[on] = changed, None
    return found


def _skewed(batch: BatchContext, table: Enriched, silver: SilverTables) -> dict[PointInTimeJoin, DataFrame]:
    found = dict[PointInTimeJoin, DataFrame]()
    for joins, query in skewed_keys(table, silver):
        rows = batch.lake.scratch.materialize(query, f"skewed/{joins[0].feed}")
        for n in rows.arrow(["_partner"])["_partner"].unique().to_pylist():
            found[joins[n]] = rows.df.where(f"_partner = {n}").drop("_partner")
    return found


# ---- rules that look into several tables


def count_references(batch: BatchContext, results: Results) -> tuple[RuleResult, ...]:
    """Counts the accepted rows whose reference neither the batch nor the lake has, and the rows that tie."""
    validated = list(batch.validated.values())
    tables = {f.name: batch.table(batch.name("silver", f.name)) for f in batch.source.feeds}
    queries = reference_counts(validated, tables)
    counts = (
        batch.lake.scratch.materialize(reduce(DataFrame.unionByName, queries), "counts").arrow() if queries else None
    )
    ties = (
        f for j in validated for f in tie_findings(j, results.get(f"count ties {batch.name('silver', j.feed.name)}"))
    )
    return (*reference_findings(validated, counts), *ties)

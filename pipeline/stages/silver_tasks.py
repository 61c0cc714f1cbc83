"""What the tasks of hierarchies and enriched tables do, and of the rules that look into several tables."""

from functools import reduce

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from pipeline.contract import RuleResult
from pipeline.lake.delta_schema import select_columns
from pipeline.model import Enriched, Hierarchy
from pipeline.stages import comparison
from pipeline.stages.context import BatchContext
from pipeline.stages.enriched_rows import EnrichedRows
from pipeline.stages.error_place import errors_of
from pipeline.stages.task_graph import Results
from pipeline.transform.change import TableChange, changes_in
from pipeline.transform.enrich import tables_read, with_settings
from pipeline.transform.findings import check_rows, reference_findings, tie_findings
from pipeline.transform.hierarchy import build_hierarchy
from pipeline.transform.silver_tables import SilverTables, has_types
from pipeline.transform.validate import count_unknown, reference_count

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
    name, key = batch.name("silver", table.name), batch.source.enriched_key(table)
    with errors_of(batch, name, table.upstream, own_names(batch, table)):
        tables = silver_tables(batch, tables_read(table), results)
        work = EnrichedRows(batch=batch, table=with_settings(table, batch.values), silver=tables)
        rows, findings = work.change()
    check_rows(name, key, rows)
    return TableChange(table=name, key=key, rows=rows, findings=findings)


# ---- rules that look into several tables


def count_references(batch: BatchContext, results: Results) -> tuple[RuleResult, ...]:
    """Counts the accepted rows whose reference neither the batch nor the lake has, and the rows that tie."""
    validated, broken, queries = list(batch.validated.values()), dict[tuple[str, str], int](), list[DataFrame]()
    for of in (v for v in validated if v.rows_accepted and v.feed.references):
        is_small, on = of.rows.rows <= comparison.IN_PROCESS_ROWS, {c for r in of.feed.references for c in r.on}
        rows = of.kept_table(sorted(on)) if is_small else None
        for reference in of.feed.references:
            table = batch.table(batch.name("silver", reference.feed))
            if rows is not None and has_types(table, select_columns(rows.schema, reference.on)):
                broken[of.feed.name, reference.name] = count_unknown(rows, reference, table)
            else:
                queries.append(reference_count(of, reference, table))
    if queries:
        counts = batch.lake.scratch.materialize(reduce(DataFrame.unionByName, queries), "counts").arrow()
        broken |= {(c["feed"], c["rule"]): c["broken"] for c in counts.to_pylist()}
    ties = (
        f for j in validated for f in tie_findings(j, results.get(f"count ties {batch.name('silver', j.feed.name)}"))
    )
    return (*reference_findings(validated, broken), *ties)

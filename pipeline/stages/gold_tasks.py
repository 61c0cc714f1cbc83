"""What the tasks of gold tables do: compute and check every table before the first one is written."""

from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from pipeline.contract import RuleResult
from pipeline.contract.decimals import decimal_text
from pipeline.errors import DataError, DeclarationError, InvalidValue
from pipeline.lake.file_pruning import MinMax, min_max
from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.lake.ops_tables import OPS, RESTATEMENTS
from pipeline.model import GoldKind, GoldTable
from pipeline.stages.comparison import compare
from pipeline.stages.context import BatchContext
from pipeline.stages.error_place import errors_of
from pipeline.stages.silver_tasks import own_names
from pipeline.stages.task_graph import Results
from pipeline.transform.aggregate import aggregate, grain_of
from pipeline.transform.aggregate_input import AggregateInput, columns_needed, reads_followed_rows
from pipeline.transform.change import TableChange, changes_in, with_change
from pipeline.transform.column_queries import column_parts, column_queries, rows_to_search
from pipeline.transform.failing_rows import column_of, located
from pipeline.transform.findings import check_rows
from pipeline.transform.quality import check_quality
from pipeline.transform.restatements import first_open_day, restatements_of
from pipeline.transform.silver_tables import SilverTables

FEW_ROWS = 20_000  # of touched groups: so many are found in this process, which plans no query over the whole table
MANY_ROWS = 200_000  # in a followed table: its distinct values are counted in two steps, which plan longer


def _change_of(batch: BatchContext, table: str, results: Results) -> TableChange | None:
    change = changes_in(results).get(batch.full_name(table))
    return change if change is not None and change.rows.must_process else None


def aggregate_table(batch: BatchContext, table: GoldTable, results: Results) -> TableChange | None:
    """Computes and checks the change of a gold table; None where nothing of it may change.

    Raises DataError where a check of the table fails; InvalidValue names the column, and the row, at fault.
    """
    name = batch.name("gold", table.name)
    enriched = next((e for e in batch.source.enriched if e.name == table.upstream), None)
    own = own_names(batch, enriched) if enriched else None
    with errors_of(batch, name, enriched.upstream if enriched else table.upstream, own):
        _check_columns(batch, table)
        given = _input(batch, table, results)
        if not given.may_change:
            return None
        try:
            rows = batch.lake.scratch.materialize(aggregate(given), f"rows/{name}")
        except InvalidValue as error:
            raise _located(batch, given, error) from error
        _check_grain(given, rows)
        is_empty = given.is_whole and not batch.lake.row_count(name, given.stored.version)
        if not (is_empty or table.row_per_batch):
            rows = _compared(given, rows)
        check_rows(name, table.grain, rows)
    return TableChange(table=name, key=table.grain, rows=rows)


def _check_columns(batch: BatchContext, table: GoldTable) -> None:
    """Raises DeclarationError where the followed table lacks a column by which rows are grouped."""
    if missing := [c for c in _touched_by(table) if c not in batch.table(batch.full_name(table.upstream)).columns]:
        raise DeclarationError(f"there is no column {missing[0]} in {table.upstream}")


def _compared(given: AggregateInput, rows: MaterializedRows) -> MaterializedRows:
    table, change = given.table, given.change
    if given.is_whole:
        return compare(given.stored, table.stored_columns, rows, key=table.grain, by=())
    by = table.key if table.kind is GoldKind.RECOMPUTE else table.grain
    # Rows of a `select_rows` table name their values themselves.
    touched = () if change is None or table.kind is GoldKind.SELECT_ROWS else (change.rows,)
    return compare(given.stored, table.stored_columns, rows, key=table.grain, by=by, touched=touched)


def is_whole(batch: BatchContext, table: GoldTable) -> bool:
    """Returns whether a gold table is computed whole; see `BatchContext.computes_whole`."""
    return batch.computes_whole(batch.name("gold", table.name))


def _input(batch: BatchContext, table: GoldTable, results: Results) -> AggregateInput:
    dimension, source = None, batch.source
    if table.dimension:
        stored = batch.table(batch.name("silver", table.dimension))
        silver = SilverTables(source=source, tables={table.dimension: stored}, changes={})
        dimension = silver.current(table.dimension, source.dimension_columns(table))
    change = _change_of(batch, table.upstream, results)
    followed, touched = batch.table(batch.full_name(table.upstream)), _touched_rows(batch, table, change)
    is_many = touched is None and batch.lake.row_count(followed.name, followed.version) > MANY_ROWS
    return AggregateInput(
        table=table,
        stored=batch.table_before(batch.name("gold", table.name)),
        is_whole=is_whole(batch, table),
        change=change,
        dimension=dimension,
        dimension_change=changes_in(results).get(batch.name("silver", table.dimension)) if table.dimension else None,
        source_rows=_source_rows(batch, table, change) if touched is None else touched,
        has_touched_rows_only=touched is not None,
        has_many_rows=is_many,
        order=batch.order,
        batch_seq=batch.manifest.newest_seq() + 1,
        as_of_before=batch.manifest.newest_batch_date(source.name),
        settings=batch.values,
    )


def _touched_rows(batch: BatchContext, table: GoldTable, change: TableChange | None) -> DataFrame | None:
    """Returns the rows of the touched groups or keys, with the batch, where these are few; else None."""
    followed, names = batch.full_name(table.upstream), _touched_by(table)
    whole, is_written = is_whole(batch, table), followed == batch.name("silver", table.upstream)
    if not names or change is None or whole or not is_written or not reads_followed_rows(table, is_whole=whole):
        return None
    of = batch.table(followed)
    keys, columns = change.rows.arrow(names), columns_needed(table, of.columns)
    if (
        batch.lake.plans_all
        or keys.num_rows > FEW_ROWS
        or batch.lake.has_more_rows(of.name, of.version, keys, FEW_ROWS)
    ):
        return None
    rows = batch.lake.rows_of_keys(of.name, of.version, keys, columns)
    return batch.lake.scratch.write(rows, f"touched/{table.name}").df


def _touched_by(table: GoldTable) -> tuple[str, ...]:
    """Returns the columns whose values in changed rows say what is computed again; none for a row for each row."""
    match table.kind:
        case GoldKind.AGGREGATE:
            return grain_of(table)
        case GoldKind.RECOMPUTE:
            return table.key
    return ()


def _source_rows(batch: BatchContext, table: GoldTable, change: TableChange | None) -> DataFrame | None:
    """Returns the rows of the table that a gold table follows: with the batch, or for `per` without it."""
    followed = batch.full_name(table.upstream)
    before, columns = batch.table_before(followed), columns_needed(table, batch.table(followed).columns)
    whole = is_whole(batch, table)
    if not reads_followed_rows(table, is_whole=whole):
        if not table.per or change is None or not batch.lake.row_count(before.name, before.version):
            return None
        return before.read([*dict.fromkeys((*columns, *change.key))])
    if followed == batch.name("silver", table.upstream):
        after, stored = batch.table(followed), batch.table_before(batch.name("gold", table.name))  # written; not yet
        always = not whole or table.row_per_batch or batch.lake.plans_all
        if not (always or any(batch.lake.row_count(t.name, t.version) for t in (after, stored))):
            return None
        return after.read(columns, within={} if whole else _touched_range(table, change))
    return with_change(before.read(), change) if change is not None else before.read()


def _touched_range(table: GoldTable, change: TableChange | None) -> dict[str, MinMax]:
    """Returns the ranges of values that the touched groups or keys have, so that files of others need not be read."""
    names = _touched_by(table)
    if change is None or not names:
        return {}
    rows = change.rows.arrow(names)
    return {c: min_max(rows[c]) for c in names if not rows[c].null_count}


def _check_grain(given: AggregateInput, rows: MaterializedRows) -> None:
    """Raises DataError where two rows of a table have one grain."""
    name, grain = given.stored.name, given.table.grain
    signed = rows.arrow(["_sign", *grain])
    now = signed.filter(pc.greater(signed["_sign"], 0))
    if grain and now.num_rows and pc.max(now.group_by(grain).aggregate([([], "count_all")])["count_all"]).as_py() > 1:
        raise DataError(f"{name}: two rows share one {', '.join(grain)}, which is its grain; no table was changed")


def check_batch_quality(batch: BatchContext, results: Results) -> None:
    """Compares the whole batch with `[quality]`. Raises DataError where it is below."""
    check_quality(batch.quality, [*batch.findings, *(f for r in results.values() for f in findings_of(r))], batch.files)


def findings_of(result: object) -> tuple[RuleResult, ...]:
    """Returns the results of rules that a task found."""
    if isinstance(result, TableChange):
        return result.findings
    return result if isinstance(result, tuple) else ()


def append_restatements(batch: BatchContext, results: Results) -> int:
    """Appends to `ops.restatements` the published figures that the batch changes, and returns their number.

    A figure counts from the newest batch date on: until then its day may be incomplete. A batch that corrects a file
    was published before, so that its own day counts too.
    """
    before = batch.manifest.newest_batch_date(batch.source.name)
    if before is None:
        return 0
    newest = max(before, batch.order.batch_date)
    is_correction = batch.order.revision > 0 or bool(batch.corrections)
    about = {"batch_id": batch.order.batch_id, "source": batch.source.name}
    changes, found = changes_in(results), list[dict[str, object]]()
    for table in batch.source.gold:
        name = batch.name("gold", table.name)
        change = changes.get(name)
        if change is not None and change.rows.must_process and name not in batch.redefined:
            until = first_open_day(table, newest, is_complete=is_correction)
            found += [{**about, **row} for row in restatements_of(table, change, until)]
    if found:
        batch.attempt.append(RESTATEMENTS, pa.Table.from_pylist(found, schema=OPS[RESTATEMENTS]))
    return len(found)


def task_values(batch: BatchContext, results: Results) -> dict[str, str]:
    """Returns the batch's rows of tables with one row per batch, as text by column."""
    changes, row_per_batch = changes_in(results), [t for t in batch.source.gold if t.row_per_batch]
    found = [changes[name] for t in row_per_batch if (name := batch.name("gold", t.name)) in changes]
    values = [value for change in found for row in change.rows.arrow().to_pylist() for value in row.items()]
    return {n: _text(v) for n, v in values if not n.startswith("_") and n != "batch_id" and v is not None}


def _text(value: object) -> str:
    return decimal_text(value) if isinstance(value, Decimal) else str(value)


# ---- the place of an error


def _located(batch: BatchContext, given: AggregateInput, error: InvalidValue) -> InvalidValue:
    """Returns the error with its column, and with the row that the table follows, where one row alone is at fault."""
    if given.change is None and not given.is_whole:
        return error
    error = column_of(error, column_queries(given), batch.lake)
    suspects = batch.lake.scratch.materialize(rows_to_search(given), f"suspects/{given.table.name}")
    return located(error, [p for p in column_parts(given) if error.column in ("", p.name)], suspects, batch.lake)

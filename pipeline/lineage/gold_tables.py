"""The gold tables: the sums and counts of groups, the columns of a dimension, and those that a function computes."""

from collections.abc import Mapping
from dataclasses import replace

from pipeline.lineage.frame import Columns, RowLinks, Value, copy_of
from pipeline.lineage.gold_functions import run
from pipeline.lineage.graph import Effect, Kind, Layer, Origin
from pipeline.lineage.recorded_frame import RecordedFrame
from pipeline.lineage.table_draft import TableDraft, rows_of
from pipeline.model import GoldKind, GoldTable, Source

_OF_BATCH = ("batch_id", "batch_date", "_batch_seq")


def gold_table(source: Source, table: GoldTable) -> TableDraft:
    """Returns a gold table. Columns of a function that cannot be followed come, uncertain, from all that it reads."""
    upstream = _upstream(source, table)
    start = _start(source, table, upstream)
    built = run(table.build, RecordedFrame(start, _row_links(source, table, upstream)))
    unknown = Value(links=start.uncertain_links(), sql="Python")
    rows = built or RecordedFrame(start, _row_links(source, table, upstream))
    values = {c.name: (built.value_of(c.name) if built else None) or unknown for c in table.stored_columns}
    if table.kind is GoldKind.AGGREGATE:
        # The function gets these columns; it may leave them out, and the table has them all the same.
        values |= {c: start.values[c] for c in ("_rows", "_batch_seq") if c in values}
    elif table.as_of_columns:
        after = replace(start, values=values)
        values |= {c: after.value(sql) for c, sql in table.as_of_columns.items()}
    return TableDraft(
        name=f"{source.name}.gold.{table.name}",
        layer=Layer.GOLD,
        kind=Kind.GOLD,
        description=table.description,
        key=table.grain,
        columns=table.stored_columns,
        values=values,
        rows=rows.row_links,
        descriptions=table.descriptions,
        unit=table.unit,
        rules=table.checks,
    )


def _upstream(source: Source, table: GoldTable) -> Columns:
    """Returns the columns of the upstream table."""
    shown = [c.name for c in table.stored_columns]
    gold = next((g for g in source.gold if g.name == table.upstream), None)
    if gold:
        return Columns.of_table(f"{source.name}.gold.{gold.name}", (c.name for c in gold.stored_columns), shown=shown)
    columns = source.silver_columns(table.upstream)
    return Columns.of_table(f"{source.name}.silver.{table.upstream}", (c.name for c in columns), shown=shown)


def _start(source: Source, table: GoldTable, upstream: Columns) -> Columns:
    """Returns the columns that the function of the table gets."""
    if table.kind is not GoldKind.AGGREGATE:
        return upstream
    sqls = {**table.aggregate_sql, "_rows": "count(*)"}
    of_batch = dict.fromkeys(_OF_BATCH if table.row_per_batch else (), Value(origin=Origin.BATCH))
    # The SQL of sums is over the upstream table, also where a column of this table has the same name.
    plain = replace(upstream, shown_names=frozenset())
    values = {
        **{c: upstream.values[c] for c in table.grain if c in upstream.values},
        **{c: plain.value(sql, aggregated=True) for c, sql in sqls.items()},
        **_dimension_values(source, table),
        **of_batch,
    }
    start = replace(upstream, values=values)
    return start.with_values({c: start.value(sql) for c, sql in table.as_of_columns.items()})


def _dimension_values(source: Source, table: GoldTable) -> Mapping[str, Value]:
    if not table.dimension:
        return {}
    name = f"{source.name}.silver.{table.dimension}"
    return {c: copy_of(name, c) for c in source.dimension_columns(table) if c not in table.grain}


def _row_links(source: Source, table: GoldTable, upstream: Columns) -> RowLinks:
    """Returns the columns that decide which rows count, which belong together, and which are joined."""
    if table.kind is GoldKind.RECOMPUTE:
        return {}
    where = rows_of(upstream, Effect.FILTER, [table.where] if table.where else [])
    if table.kind is GoldKind.SELECT_ROWS:
        return where
    grain = [c for c in table.grain if c in upstream.values]
    dimension = Columns.of_table(f"{source.name}.silver.{table.dimension}", grain if table.dimension else ())
    joined = rows_of(dimension, Effect.JOIN, dimension.values)
    return {**where, **rows_of(upstream, Effect.GROUP, [*grain, *table.per]), **joined}

"""The silver tables that are not a feed's own: hierarchies, and rows joined to other feeds."""

from collections.abc import Iterator

from pipeline.lineage.frame import Columns, RowLinks, Value, copy_of
from pipeline.lineage.graph import Effect, Kind, Layer
from pipeline.lineage.table_draft import TableDraft, rows_of, with_derived
from pipeline.model import Enriched, Hierarchy, HierarchyJoin, Join, LatestJoin, PointInTimeJoin, Source


def hierarchy_table(source: Source, hierarchy: Hierarchy) -> TableDraft:
    """Returns the table of a hierarchy."""
    feed = source.feed(hierarchy.upstream)
    nodes = Columns.of_table(f"{source.name}.silver.{feed.name}", (c.name for c in feed.silver))
    parents = {**nodes.values[hierarchy.id].links, **nodes.values[hierarchy.parent].links}
    root = Value(links=parents, sql="the first ancestor without a listed parent").raised(Effect.AGGREGATE)
    return TableDraft(
        name=f"{source.name}.silver.{hierarchy.name}",
        layer=Layer.SILVER,
        kind=Kind.HIERARCHY,
        description=hierarchy.description,
        key=(hierarchy.id,),
        columns=source.hierarchy_columns(hierarchy),
        values={n: nodes.values[n] for n in (hierarchy.id, hierarchy.parent)} | {"root": root},
        rows=rows_of(nodes, Effect.FILTER, ["is_current"] if feed.has_versions else []),
        descriptions=feed.descriptions,
    )


def enriched_table(source: Source, table: Enriched) -> TableDraft:
    """Returns an enriched table: the row's own columns, those of each join, the derived ones."""
    feed, declared = source.feed(table.upstream), source.enriched_columns(table)
    upstream = f"{source.name}.silver.{feed.name}"
    own = {new: copy_of(upstream, old, sql=old) for old, new, _ in source.own_columns(table)}
    rows = Columns(upstream=upstream, values=own, shown_names=frozenset(c.name for c in declared))
    links = dict(
        rows_of(_stored(source, feed.name), Effect.FILTER, _current(source, feed.name, versions=table.versions))
    )
    as_of = rows_of(rows, Effect.JOIN, [table.as_of])
    for join in table.joins:
        links |= rows_of(rows, Effect.JOIN, [join.on] if isinstance(join, HierarchyJoin) else join.on)
        links |= _join_links(source, join)
        links |= as_of if isinstance(join, PointInTimeJoin) else {}
        rows = rows.with_values(dict(_joined(source, table, join)))
    rows = with_derived(rows, table.derived)
    return TableDraft(
        name=f"{source.name}.silver.{table.name}",
        layer=Layer.SILVER,
        kind=Kind.ENRICHED,
        description=table.description,
        key=source.enriched_key(table),
        columns=declared,
        values={c.name: rows.values[c.name] for c in declared},
        rows=links,
        descriptions=table.descriptions,
        rules=(*table.rules, *table.checks),
    )


def _stored(source: Source, name: str) -> Columns:
    """Returns the columns of a silver table."""
    return Columns.of_table(f"{source.name}.silver.{name}", (c.name for c in source.silver_columns(name)))


def _current(source: Source, feed: str, *, versions: bool = False) -> list[str]:
    return ["is_current"] if source.has_versions(feed) and not versions else []


def _joined(source: Source, table: Enriched, join: Join) -> Iterator[tuple[str, Value]]:
    """Yields the columns of a join."""
    stored = _stored(source, _table_of(join))
    if isinstance(join, PointInTimeJoin) and join.aggregates:
        yield from ((d.name, stored.value(d.sql, aggregated=True)) for d in join.aggregates)
        return
    for sql, name, _ in source.join_columns(table, join):
        is_count = isinstance(join, LatestJoin) and name == join.count
        yield name, stored.value("count(*)" if is_count else sql, aggregated=is_count)


def _join_links(source: Source, join: Join) -> RowLinks:
    """Returns the columns of the joined table that decide which of its rows are joined."""
    stored = _stored(source, _table_of(join))
    match join:
        case HierarchyJoin():
            return rows_of(stored, Effect.JOIN, [source.hierarchy(join.hierarchy).id])
        case LatestJoin():
            order = rows_of(stored, Effect.SORT, join.order_by)
            return {**rows_of(stored, Effect.JOIN, [*join.on, *_current(source, join.feed)]), **order}
        case PointInTimeJoin():
            versions = ("effective_from", "effective_to")
            where = rows_of(stored, Effect.FILTER, [join.where] if join.where else [])
            return {**rows_of(stored, Effect.JOIN, [*join.on, *versions]), **where}


def _table_of(join: Join) -> str:
    return join.hierarchy if isinstance(join, HierarchyJoin) else join.feed

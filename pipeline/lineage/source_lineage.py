"""Builds the lineage of a source from its declarations."""

from collections.abc import Iterator

from pipeline.lineage.feed_tables import feed_tables
from pipeline.lineage.gold_tables import gold_table
from pipeline.lineage.graph import Lineage, LineageTable
from pipeline.lineage.silver_tables import enriched_table, hierarchy_table
from pipeline.lineage.table_draft import TableDraft
from pipeline.model import Source


def lineage(source: Source) -> Lineage:
    """Returns the tables, columns and edges of a source."""
    drafts = tuple(_drafts(source))
    tables, described = list[LineageTable](), dict[tuple[str, str], str]()
    for draft in drafts:
        tables.append(draft.table(described))
        described |= {(draft.name, c.name): c.description for c in tables[-1].columns if c.description}
    edges = tuple(edge for draft in drafts for edge in draft.edges())
    return Lineage(source=source.name, tables=tuple(tables), edges=edges)


def _drafts(source: Source) -> Iterator[TableDraft]:
    for feed in source.feeds:
        yield from feed_tables(source, feed)
    yield from (hierarchy_table(source, h) for h in source.hierarchies)
    yield from (enriched_table(source, e) for e in source.enriched)
    yield from (gold_table(source, g) for g in source.gold)

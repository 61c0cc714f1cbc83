"""Sources: the feeds of one system, the tables that are built from them, and the columns of every table."""

import importlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.model.columns import VERSION_COLUMNS, Column, columns_of
from pipeline.model.enriched import Enriched, Hierarchy, HierarchyJoin, Join, LatestJoin, PointInTimeJoin
from pipeline.model.feed import Feed
from pipeline.model.gold import GoldTable


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A key in the section of the source in config.toml. SQL text uses its value as `$name`."""

    name: str
    default: Any
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Streams a feed while the setting is true: its files need no trigger and pass through a streaming query."""

    feed: str
    setting: Setting


@dataclass(frozen=True, kw_only=True)
class Source:
    """A system that delivers files: feeds, hierarchies, enriched tables, settings, and the module of gold tables."""

    name: str
    feeds: tuple[Feed, ...]
    hierarchies: tuple[Hierarchy, ...] = ()
    enriched: tuple[Enriched, ...] = ()
    gold_module: str = ""
    settings: tuple[Setting, ...] = ()
    stream: Stream | None = None  # its setting must be one of `settings`

    def has_versions(self, table: str) -> bool:
        """Returns whether the rows of a feed or enriched table are versions, current and past."""
        return any(e.versions for e in self.enriched if e.name == table) or any(
            f.has_versions for f in self.feeds if f.name == table
        )

    def feed(self, name: str) -> Feed:
        """Returns the feed of this name. Raises StopIteration for an unknown name."""
        return next(f for f in self.feeds if f.name == name)

    def hierarchy(self, name: str) -> Hierarchy:
        """Returns the hierarchy of this name. Raises StopIteration for an unknown name."""
        return next(h for h in self.hierarchies if h.name == name)

    def hierarchy_columns(self, hierarchy: Hierarchy) -> tuple[Column, ...]:
        """Returns the columns of a hierarchy's table: id, parent and `root`."""
        types = {c.name: c.type for c in self.feed(hierarchy.upstream).input_columns}
        return (
            Column(hierarchy.id, types[hierarchy.id]),
            Column(hierarchy.parent, types[hierarchy.parent]),
            Column("root", types[hierarchy.id]),
        )

    @cached_property
    def gold(self) -> tuple[GoldTable, ...]:
        """The gold tables, each after its upstream table. Raises ValueError for upstreams in a cycle."""
        if not self.gold_module:
            return ()
        module = importlib.import_module(self.gold_module)
        waiting = [t for t in vars(module).values() if isinstance(t, GoldTable)]
        # A gold table with the name of its silver upstream is no cycle: `check_declarations` reports the shared name.
        silver = {*(f.name for f in self.feeds), *(h.name for h in self.hierarchies), *(e.name for e in self.enriched)}
        names = {t.name for t in waiting} - silver
        ordered = list[GoldTable]()
        while waiting:
            ready = [t for t in waiting if t.upstream not in names or t.upstream in {o.name for o in ordered}]
            if not ready:
                cycle = ", ".join(t.name for t in waiting)
                raise ValueError(f"{self.gold_module}: {cycle} follow each other in a cycle")
            ordered += ready
            waiting = [t for t in waiting if t not in ready]
        return tuple(ordered)

    def layer(self, table: str) -> str:
        """Returns the layer of a table that another table may follow: gold or silver."""
        return "gold" if any(g.name == table for g in self.gold) else "silver"

    def enriched_columns(self, table: Enriched) -> tuple[Column, ...]:
        """Returns the columns of an enriched table: the row's own, those of each join, the derived ones."""
        own = [Column(new, kind) for _, new, kind in self.own_columns(table)]
        joined = [Column(new, kind) for join in table.joins for _, new, kind in self.join_columns(table, join)]
        return (*own, *joined, *(Column(d.name, d.type) for d in table.derived))

    def silver_columns(self, table: str) -> tuple[Column, ...]:
        """Returns the columns of a silver table, which is that of a feed, a hierarchy or an enriched table."""
        for enriched in self.enriched:
            if enriched.name == table:
                return self.enriched_columns(enriched)
        for hierarchy in self.hierarchies:
            if hierarchy.name == table:
                return self.hierarchy_columns(hierarchy)
        return self.feed(table).silver

    def dimension_columns(self, table: GoldTable) -> tuple[str, ...]:
        """Returns the columns that a gold table takes from its dimension: the grain and columns without own SQL."""
        own = {*table.sum, *table.members}
        available = {c.name for c in self.silver_columns(table.dimension)}
        return tuple(dict.fromkeys((*table.grain, *(c.name for c in table.schema if c.name in available - own))))

    def enriched_key(self, table: Enriched) -> tuple[str, ...]:
        """Returns the columns that identify a row of an enriched table."""
        feed = self.feed(table.upstream)
        return feed.primary_key if table.versions else feed.current_key

    def own_columns(self, table: Enriched) -> tuple[tuple[str, str, str], ...]:
        """Returns the columns that an enriched table takes from the row itself: (upstream column, new name, type)."""
        feed = self.feed(table.upstream)
        derived = {d.name.lower() for d in table.derived}
        own = [
            *feed.input_columns,
            *(Column(d.name, d.type) for d in feed.derived),
            *(columns_of(VERSION_COLUMNS) if table.versions else ()),
        ]
        own += [c for c in feed.silver if c.name in feed.current_key and c.name not in feed.input_names]
        return tuple((c.name, table.prefix + c.name if c.name.lower() in derived else c.name, c.type) for c in own)

    def join_columns(self, table: Enriched, join: Join) -> tuple[tuple[str, str, str], ...]:
        """Returns the columns that an enriched table takes from a join: (SQL over the joined table, new name, type).

        A name that a derived column or another feed of the table has too gets the prefix of the join.
        """
        if isinstance(join, HierarchyJoin):
            hierarchy = self.hierarchy(join.hierarchy)
            parent, root = self.hierarchy_columns(hierarchy)[1:]
            return ((parent.name, join.parent, parent.type), (root.name, join.root, root.type))
        if isinstance(join, PointInTimeJoin) and join.aggregates:
            return tuple((d.name, d.name, d.type) for d in join.aggregates)
        if isinstance(join, PointInTimeJoin) and join.select:
            computed = ((f"CAST({d.sql} AS {d.type})", d.name, d.type) for d in join.select)
            return (*computed, ("effective_from", f"_{join.prefix}from", "TIMESTAMP"))
        feed = self.feed(join.feed)
        others = [
            self.feed(f)
            for f in {table.upstream, *(j.feed for j in table.joins if not isinstance(j, HierarchyJoin))}
            if f != join.feed
        ]
        shared = {d.name.lower() for d in table.derived} | {c.name.lower() for other in others for c in other.silver}
        taken = set(join.columns) or {*feed.tracked, *feed.key, *(d.name for d in feed.derived)} - set(join.on)
        columns = [
            (c.name, join.prefix + c.name if c.name.lower() in shared else c.name, c.type)
            for c in feed.silver
            if c.name in taken
        ]
        if isinstance(join, LatestJoin):
            return (*columns, *([(join.count, join.count, "BIGINT")] if join.count else []))
        return (*columns, ("effective_from", f"_{join.prefix}from", "TIMESTAMP"))

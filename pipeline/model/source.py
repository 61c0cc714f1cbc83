"""Sources: all that one system delivers, and the columns of every table that follows from it."""

import importlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.model.columns import VERSION, Column, columns_of
from pipeline.model.enriched import Enriched, Hierarchy, HierarchyJoin, Join, LatestJoin, PointInTimeJoin
from pipeline.model.feed import Feed
from pipeline.model.gold import GoldTable


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A key of the source's section in config.toml, filled into SQL text as `$name`."""

    name: str
    default: Any
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Lets the files of a feed come without triggers and through a streaming query, where the setting is true."""

    feed: str
    setting: Setting


@dataclass(frozen=True, kw_only=True)
class Source:
    """A system that delivers files: its feeds, trees, enriched tables, settings, and the module that declares its gold tables."""

    name: str
    feeds: tuple[Feed, ...]
    hierarchies: tuple[Hierarchy, ...] = ()
    enriched: tuple[Enriched, ...] = ()
    gold_module: str = ""
    settings: tuple[Setting, ...] = ()
    stream: Stream | None = None  # its setting is one of `settings`

    def has_versions(self, table: str) -> bool:
        """Tells whether the rows of a feed or enriched table are versions, of which some hold no more."""
        return any(e.versions for e in self.enriched if e.name == table) or any(
            f.has_versions for f in self.feeds if f.name == table
        )

    def feed(self, name: str) -> Feed:
        return next(f for f in self.feeds if f.name == name)

    def hierarchy(self, name: str) -> Hierarchy:
        return next(t for t in self.hierarchies if t.name == name)

    def hierarchy_columns(self, hierarchy: Hierarchy) -> tuple[Column, ...]:
        """The columns of a tree's table: id, parent and `root`."""
        types = {c.name: c.type for c in self.feed(hierarchy.upstream).input_columns}
        return (
            Column(hierarchy.id, types[hierarchy.id]),
            Column(hierarchy.parent, types[hierarchy.parent]),
            Column("root", types[hierarchy.id]),
        )

    @cached_property
    def gold(self) -> tuple[GoldTable, ...]:
        """The gold tables, each after the one that it follows."""
        if not self.gold_module:
            return ()
        module = importlib.import_module(self.gold_module)
        waiting = [t for t in vars(module).values() if isinstance(t, GoldTable)]
        # A gold table that takes a silver table's name is told by `flaws`, not taken for a table that follows itself.
        silver = {*(f.name for f in self.feeds), *(t.name for t in self.hierarchies), *(e.name for e in self.enriched)}
        names, ordered = {t.name for t in waiting} - silver, list[GoldTable]()
        while waiting:
            ready = [t for t in waiting if t.upstream not in names or t.upstream in {o.name for o in ordered}]
            if not ready:
                raise ValueError(
                    f"{self.gold_module}: {', '.join(t.name for t in waiting)} follow each other in a circle"
                )
            ordered += ready
            waiting = [t for t in waiting if t not in ready]
        return tuple(ordered)

    def enriched_columns(self, table: Enriched) -> tuple[Column, ...]:
        """The columns of an enriched table: the row's own, each partner's (see `partner_columns`), the derived."""
        own = [Column(new, kind) for _, new, kind in self.own_columns(table)]
        joined = [Column(new, kind) for p in table.joins for _, new, kind in self.join_columns(table, p)]
        return (*own, *joined, *(Column(d.name, d.type) for d in table.derived))

    def silver_columns(self, table: str) -> tuple[Column, ...]:
        """The columns of a silver table: a feed's, a tree's or an enriched one."""
        enriched, hierarchy = (
            next((e for e in self.enriched if e.name == table), None),
            next((t for t in self.hierarchies if t.name == table), None),
        )
        return (
            self.enriched_columns(enriched)
            if enriched
            else self.hierarchy_columns(hierarchy)
            if hierarchy
            else self.feed(table).silver
        )

    def dimension_columns(self, table: GoldTable) -> tuple[str, ...]:
        """What a gold table takes of its attributes: the grain, and every column that is not its own."""
        own = {*table.sum, *table.members}
        given = {c.name for c in self.silver_columns(table.dimension)}
        return tuple(dict.fromkeys((*table.grain, *(c.name for c in table.schema if c.name in given - own))))

    def enriched_key(self, table: Enriched) -> tuple[str, ...]:
        """The columns that tell the rows of an enriched table apart."""
        feed = self.feed(table.upstream)
        return feed.primary_key if table.versions else feed.current_key

    def own_columns(self, table: Enriched) -> tuple[tuple[str, str, str], ...]:
        """What the row itself gives: (its column, the name here, type)."""
        feed, derived = self.feed(table.upstream), {d.name.lower() for d in table.derived}
        own = [
            *feed.input_columns,
            *(Column(d.name, d.type) for d in feed.derived),
            *(columns_of(VERSION) if table.versions else ()),
        ]
        own += [c for c in feed.silver if c.name in feed.current_key and c.name not in feed.input_names]
        return tuple((c.name, table.prefix + c.name if c.name.lower() in derived else c.name, c.type) for c in own)

    def join_columns(self, table: Enriched, join: Join) -> tuple[tuple[str, str, str], ...]:
        """What a partner gives: (SQL over its columns, the name here, type). A name that is another's, too, takes the partner's prefix."""
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
            for f in {table.upstream, *(p.feed for p in table.joins if not isinstance(p, HierarchyJoin))}
            if f != join.feed
        ]
        shared = {d.name.lower() for d in table.derived} | {c.name.lower() for other in others for c in other.silver}
        taken = set(join.columns) or {*feed.tracked, *feed.key, *(d.name for d in feed.derived)} - set(join.on)
        given = [
            (c.name, join.prefix + c.name if c.name.lower() in shared else c.name, c.type)
            for c in feed.silver
            if c.name in taken
        ]
        if isinstance(join, LatestJoin):
            return (*given, *([(join.count, join.count, "BIGINT")] if join.count else []))
        return (*given, ("effective_from", f"_{join.prefix}from", "TIMESTAMP"))

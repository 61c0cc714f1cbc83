"""Checks that the parts of a source fit together: names, references between feeds, columns, joins, gold tables."""

import difflib
from collections.abc import Iterator, Sequence
from string import Template

from pipeline.model import Column, Enriched, Feed, GoldTable, HierarchyJoin, LatestJoin, PointInTimeJoin, Scd2, Source

Problem = tuple[str, str]  # the word to look for in the declaration, and the sentence

# The sections of config.toml that belong to no source, and the folders of the lake itself.
RESERVED_NAMES = (
    "landing",
    "debounce",
    "dispatch",
    "retry",
    "ledger",
    "lake",
    "spark",
    "log",
    "quality",
    "alerts",
    "openlineage",
    "metrics",
    "ui",
    "sources",
    "serve",
    "ops",
    "published",
)


# The values that SQL text may use beside the settings of its source.
VALUES = ("as_of", "batch_date", "batch_id", "batch_seq")


def check_declarations(source: Source) -> Iterator[Problem]:
    """Yields every problem that would fail a batch, or that would silently mean something else."""
    if source.name in RESERVED_NAMES or not source.name.isidentifier():
        yield (
            source.name,
            (
                f"{source.name!r} cannot be the name of a source; it has another meaning, or no place, "
                "in config.toml and in the lake"
            ),
        )
    if not source.feeds:
        yield source.name, f"the source {source.name} has no feed"
    silver = [
        *(f.name for f in source.feeds),
        *(h.name for h in source.hierarchies),
        *(e.name for e in source.enriched),
    ]
    # `upstream` names a silver or a gold table by its last name alone, so no two tables may share that name.
    for name in _duplicates([*silver, *(g.name for g in source.gold)]):
        yield name, f"two tables of {source.name} have the name {name!r}; give one another name"
    yield from _unknown_settings(source)
    for feed in source.feeds:
        yield from _check_feed(source, feed)
    missing = [*_missing_in_stream(source), *_missing_in_hierarchies(source), *_missing_in_enriched(source)]
    if missing:
        yield from missing
        return  # the columns of a table are unknown as long as a part of it is missing
    for table in source.enriched:
        yield from _check_enriched(source, table)
    for gold in source.gold:
        yield from _check_gold(source, gold, silver)


def _unknown_settings(source: Source) -> Iterator[Problem]:
    known = sorted({*(s.name for s in source.settings), *VALUES})
    for kind, owner, sql in _sql_texts(source):
        for name in Template(sql).get_identifiers():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean ${near[0]}?" if near else f"there are {', '.join(f'${n}' for n in known)}"
                yield owner, f"{kind} {owner}: ${name} is no setting of {source.name}; {hint}"


def _sql_texts(source: Source) -> Iterator[tuple[str, str, str]]:
    """Yields the SQL of rules and columns, each behind its kind and name."""
    tables = [(f.rules, (*f.cleaned, *f.derived)) for f in source.feeds]
    tables += [(e.rules, e.derived) for e in source.enriched]
    for rules, columns in tables:
        yield from (("rule", r.name, f"{r.condition} {r.where}") for r in rules)
        yield from (("column", c.name, c.sql) for c in columns)


def _missing_in_stream(source: Source) -> Iterator[Problem]:
    if not source.stream:
        return
    feed, setting = source.stream.feed, source.stream.setting
    if not _has_feed(source, feed):
        yield feed, f"the stream of {source.name}: there is no feed {feed!r}"
    if setting not in source.settings:
        yield (
            setting.name,
            f"the stream of {source.name}: its setting {setting.name!r} is none of the source's settings",
        )


def _missing_in_hierarchies(source: Source) -> Iterator[Problem]:
    for hierarchy in source.hierarchies:
        needed = {hierarchy.id, hierarchy.parent}
        if not _has_feed(source, hierarchy.upstream) or not needed <= set(source.feed(hierarchy.upstream).input_names):
            yield (
                hierarchy.name,
                (
                    f"hierarchy {hierarchy.name}: there is no feed {hierarchy.upstream!r} "
                    f"with the columns {hierarchy.id} and {hierarchy.parent}"
                ),
            )


def _missing_in_enriched(source: Source) -> Iterator[Problem]:
    for table in source.enriched:
        for feed in (table.upstream, *(j.feed for j in table.joins if isinstance(j, PointInTimeJoin | LatestJoin))):
            if not _has_feed(source, feed):
                yield feed, f"enriched table {table.name}: there is no feed {feed!r}"
        for hierarchy in (j.hierarchy for j in table.joins if isinstance(j, HierarchyJoin)):
            if hierarchy not in {h.name for h in source.hierarchies}:
                yield hierarchy, f"enriched table {table.name}: there is no hierarchy {hierarchy!r}"


def _check_feed(source: Source, feed: Feed) -> Iterator[Problem]:
    if not feed.name.isidentifier():
        yield feed.name, f"{feed.name!r} cannot be the name of a feed; names are letters, digits and _"
    if not feed.key:
        yield feed.name, f"feed {feed.name}: it has no key"
    for column in feed.names:
        if column.startswith("_"):
            yield feed.name, f"feed {feed.name}: {column} starts with _, as the lake's own columns do"
    for column in _duplicates([c.name for c in feed.silver]):
        yield feed.name, f"feed {feed.name}: two columns of its table have the name {column!r}"
    untracked = feed.stored_as.track_history_except if isinstance(feed.stored_as, Scd2) else ()
    for column in set(feed.descriptions) - {c.name for c in feed.silver}:
        yield column, f"feed {feed.name}: {column} is described, and is none of its columns"
    for column in set(untracked) - set(feed.input_names):
        yield column, f"feed {feed.name}: {column} is none of its columns"
    for reference in feed.references:
        if not _has_feed(source, reference.feed):
            yield reference.name, f"reference {reference.name}: there is no feed {reference.feed!r}"
            continue
        for column in reference.on:
            if not all(column in {c.name for c in f.silver} for f in (feed, source.feed(reference.feed))):
                yield (
                    reference.name,
                    f"reference {reference.name}: {column} is no column of both {feed.name} and {reference.feed}",
                )


def _check_enriched(source: Source, table: Enriched) -> Iterator[Problem]:
    for column in set(table.descriptions) - {c.name for c in source.enriched_columns(table)}:
        yield column, f"enriched table {table.name}: {column} is described, and is none of its columns"
    if table.versions and not source.feed(table.upstream).has_versions:
        yield table.upstream, f"enriched table {table.name}: {table.upstream} has no versions to show"
    of_row = {name for _, name, _ in source.own_columns(table)}
    of_earlier_joins: set[str] = set()
    known_in_joins: set[str] = set()  # also by their names in the joined table
    for join in table.joins:
        if isinstance(join, PointInTimeJoin | LatestJoin):
            yield from _check_join(source, table, join)
            for column in sorted(set(join.on) - of_row):
                sentence = f"{column} is no column of {table.upstream}, by which {join.feed} is joined"
                hint = "; a join cannot use a column of another join" if column in known_in_joins else ""
                yield column, f"enriched table {table.name}: {sentence}{hint}"
        elif join.on not in of_row | of_earlier_joins:
            yield (
                join.on,
                f"enriched table {table.name}: {join.on} is no column of {table.upstream} or of an earlier join",
            )
        for original, name, _ in source.join_columns(table, join):
            of_earlier_joins.add(name)
            known_in_joins |= {original, name}
    for column in _duplicates([c.name for c in source.enriched_columns(table)]):
        yield column, f"enriched table {table.name}: two columns have the name {column!r}; give a join another prefix"


def _check_join(source: Source, table: Enriched, join: PointInTimeJoin | LatestJoin) -> Iterator[Problem]:
    feed = source.feed(join.feed)
    if isinstance(join, PointInTimeJoin) and not feed.has_versions:
        yield (
            feed.name,
            f"enriched table {table.name}: {feed.name} has no versions for a PointInTimeJoin; join it with LatestJoin",
        )
    for column in {*join.columns, *join.on} - {c.name for c in feed.silver}:
        yield column, f"enriched table {table.name}: {column} is none of the columns of {feed.name}"
    if isinstance(join, LatestJoin) and not join.order_by and set(join.on) != set(feed.key):
        yield (
            feed.name,
            (
                f"enriched table {table.name}: several rows of {feed.name} may share {', '.join(join.on)}; "
                "name the columns that order them with `order_by`"
            ),
        )


def _check_gold(source: Source, table: GoldTable, silver: Sequence[str]) -> Iterator[Problem]:
    if table.upstream not in {*silver, *(g.name for g in source.gold)}:
        yield (
            table.name,
            f"gold table {table.name}: its upstream {table.upstream!r} is no feed or table of {source.name}",
        )
    if table.dimension and table.dimension not in silver:
        yield table.name, f"gold table {table.name}: there is no silver table {table.dimension!r}"
    columns = {c.name for c in table.schema}
    of_readers = (*table.descriptions, *table.unit, *table.headline)
    for column in (*table.grain, *table.key, *table.sum, *table.members, *table.as_of_columns, *of_readers):
        if column not in columns:
            yield table.name, f"gold table {table.name}: {column} is none of its columns"
    upstream_columns = {c.name for c in _upstream_columns(source, table, silver)}
    for column in table.per:
        if column in table.grain or column not in upstream_columns:
            yield (
                table.name,
                (
                    f"gold table {table.name}: `per` names columns of {table.upstream} beside the grain, "
                    f"and {column} is none"
                ),
            )


def _upstream_columns(source: Source, table: GoldTable, silver: Sequence[str]) -> tuple[Column, ...]:
    if table.upstream in silver:
        return source.silver_columns(table.upstream)
    return next((g.schema for g in source.gold if g.name == table.upstream), ())


def _has_feed(source: Source, feed: str) -> bool:
    return any(f.name == feed for f in source.feeds)


def _duplicates(names: Sequence[str]) -> list[str]:
    # SQL engines compare names without case.
    lower = [n.lower() for n in names]
    return [n for at, n in enumerate(names) if n.lower() in lower[:at]]

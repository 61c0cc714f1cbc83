"""Tells where the parts of a source do not fit together: names used twice, feeds and columns that nobody declares, globs that meet."""

from collections.abc import Iterator, Sequence
from functools import cache

from pipeline.model import Enriched, Feed, GoldTable, HierarchyJoin, LatestJoin, PointInTimeJoin, Scd2, Source

Flaw = tuple[str, str]  # the word to look for in the declaration, and the sentence

# Sections of config.toml, which are not a source's, and the schema of the lake's own tables.
TAKEN = (
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
    "sources",
    "ops",
)


def check_declarations(source: Source) -> Iterator[Flaw]:
    """Yields what would fail, or mean something else, in the middle of a batch."""
    if source.name in TAKEN or not source.name.isidentifier():
        yield (
            source.name,
            f"{source.name!r} cannot be the name of a source; it has another meaning, or no place, in config.toml and in the lake",
        )
    if not source.feeds:
        yield source.name, f"the source {source.name} has no feed"
    silver = [
        *(f.name for f in source.feeds),
        *(t.name for t in source.hierarchies),
        *(e.name for e in source.enriched),
    ]
    # Whether silver or gold: `of` names a table by this name alone.
    for name in _doubles([*silver, *(g.name for g in source.gold)]):
        yield name, f"two tables of {source.name} have the name {name!r}; give one another name"
    for feed in source.feeds:
        yield from _of_feed(source, feed)
    missing = [*_missing_of_stream(source), *_missing_of_trees(source), *_missing_of_enriched(source)]
    if missing:
        yield from missing
        return  # nothing more can be known of the columns
    for table in source.enriched:
        yield from _of_partners(source, table)
        for column in _doubles([c.name for c in source.enriched_columns(table)]):
            yield (
                column,
                f"enriched table {table.name}: two columns have the name {column!r}; give a partner another prefix",
            )
    for gold in source.gold:
        yield from _of_gold(source, gold, silver)


def _missing_of_stream(source: Source) -> Iterator[Flaw]:
    if source.stream and not _has(source, source.stream.feed):
        yield source.stream.feed, f"the stream of {source.name}: there is no feed {source.stream.feed!r}"
    if source.stream and source.stream.setting not in source.settings:
        yield (
            source.stream.setting.name,
            f"the stream of {source.name}: its setting {source.stream.setting.name!r} is none of the source's settings",
        )


def _missing_of_trees(source: Source) -> Iterator[Flaw]:
    for hierarchy in source.hierarchies:
        if not _has(source, hierarchy.upstream) or not {hierarchy.id, hierarchy.parent} <= set(
            source.feed(hierarchy.upstream).input_names
        ):
            yield (
                hierarchy.name,
                f"tree {hierarchy.name}: there is no feed {hierarchy.upstream!r} with the columns {hierarchy.id} and {hierarchy.parent}",
            )


def _missing_of_enriched(source: Source) -> Iterator[Flaw]:
    for table in source.enriched:
        for feed in (table.upstream, *(p.feed for p in table.joins if isinstance(p, PointInTimeJoin | LatestJoin))):
            if not _has(source, feed):
                yield feed, f"enriched table {table.name}: there is no feed {feed!r}"
        for hierarchy in (p.hierarchy for p in table.joins if isinstance(p, HierarchyJoin)):
            if hierarchy not in {t.name for t in source.hierarchies}:
                yield hierarchy, f"enriched table {table.name}: there is no tree {hierarchy!r}"


def meeting(a: str, b: str) -> bool:
    """Tells whether one name can match both globs."""
    left, right = _signs(a), _signs(b)

    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(left) or j == len(right):
            return all(sign is None for sign in (*left[i:], *right[j:]))
        one, other = left[i], right[j]
        if one is None:
            return meet(i + 1, j) or meet(i, j + 1)
        if other is None:
            return meet(i, j + 1) or meet(i + 1, j)
        return bool(one & other) and meet(i + 1, j + 1)

    return meet(0, 0)


_ANY = frozenset(map(chr, range(32, 127)))


def _signs(glob: str) -> list[frozenset[str] | None]:
    # Each sign as the characters that it takes; a star is None. Names are compared as fnmatch does.
    signs: list[frozenset[str] | None] = []
    at = 0
    while at < len(glob):
        end = glob.find("]", at + 2 + glob.startswith("!", at + 1)) if glob[at] == "[" else -1
        if end > 0:
            signs.append(_class(glob[at + 1 : end]))
            at = end
        else:
            signs.append(None if glob[at] == "*" else _ANY if glob[at] == "?" else frozenset(glob[at]))
        at += 1
    return signs


def _class(text: str) -> frozenset[str]:
    inner, taken, at = text.removeprefix("!"), set[str](), 0
    while at < len(inner):
        is_range = inner[at + 1 : at + 2] == "-" and at + 2 < len(inner)
        taken |= set(map(chr, range(ord(inner[at]), ord(inner[at + 2]) + 1))) if is_range else {inner[at]}
        at += 3 if is_range else 1
    return _ANY - taken if text.startswith("!") else frozenset(taken)


def _of_feed(source: Source, feed: Feed) -> Iterator[Flaw]:
    if not feed.name.isidentifier():
        yield feed.name, f"{feed.name!r} cannot be the name of a feed; names are letters, digits and _"
    if not feed.key:
        yield feed.name, f"feed {feed.name}: it has no key"
    for column in feed.names:
        if column.startswith("_"):
            yield feed.name, f"feed {feed.name}: {column} starts with _, as the lake's own columns do"
    for column in _doubles([c.name for c in feed.silver]):
        yield feed.name, f"feed {feed.name}: two columns of its table have the name {column!r}"
    for column in set(feed.stored_as.track_history_except if isinstance(feed.stored_as, Scd2) else ()) - set(
        feed.input_names
    ):
        yield column, f"feed {feed.name}: {column} is none of its columns"
    for reference in feed.references:
        if not _has(source, reference.feed):
            yield reference.name, f"reference {reference.name}: there is no feed {reference.feed!r}"
            continue
        for column in reference.on:
            if not all(column in {c.name for c in f.silver} for f in (feed, source.feed(reference.feed))):
                yield (
                    reference.name,
                    f"reference {reference.name}: {column} is no column of both {feed.name} and {reference.feed}",
                )


def _of_partners(source: Source, table: Enriched) -> Iterator[Flaw]:
    if table.versions and not source.feed(table.upstream).has_versions:
        yield table.upstream, f"enriched table {table.name}: {table.upstream} has no versions to show"
    for join in (p for p in table.joins if isinstance(p, PointInTimeJoin | LatestJoin)):
        feed = source.feed(join.feed)
        if isinstance(join, PointInTimeJoin) and not feed.has_versions:
            yield (
                feed.name,
                f"enriched table {table.name}: {feed.name} has no versions that AsOf could choose from; join it with Newest",
            )
        for column in {*join.columns, *join.on} - {c.name for c in feed.silver}:
            yield column, f"enriched table {table.name}: {column} is none of the columns of {feed.name}"
        if isinstance(join, LatestJoin) and not join.order_by and set(join.on) != set(feed.key):
            yield (
                feed.name,
                f"enriched table {table.name}: several rows of {feed.name} may share {', '.join(join.on)}; say which is the newest with `by`",
            )


def _of_gold(source: Source, table: GoldTable, silver: Sequence[str]) -> Iterator[Flaw]:
    if table.upstream not in {*silver, *(g.name for g in source.gold)}:
        yield (
            table.name,
            f"gold table {table.name}: it follows {table.upstream!r}, which is no feed or table of {source.name}",
        )
    if table.dimension and table.dimension not in silver:
        yield table.name, f"gold table {table.name}: there is no silver table {table.dimension!r}"
    columns = {c.name for c in table.schema}
    for column in (*table.grain, *table.key, *table.sum, *table.members, *table.as_of_columns):
        if column not in columns:
            yield table.name, f"gold table {table.name}: {column} is none of its columns"
    followed = (
        source.silver_columns(table.upstream)
        if table.upstream in silver
        else next((g.schema for g in source.gold if g.name == table.upstream), ())
    )
    for column in table.per:
        if column in table.grain or column not in {c.name for c in followed}:
            yield (
                table.name,
                f"gold table {table.name}: `per` names columns of {table.upstream} beside the grain, and {column} is none",
            )


def _has(source: Source, feed: str) -> bool:
    return any(f.name == feed for f in source.feeds)


def _doubles(names: Sequence[str]) -> list[str]:
    # Engines do not tell small letters from large ones.
    lower = [n.lower() for n in names]
    return [n for at, n in enumerate(names) if n.lower() in lower[:at]]

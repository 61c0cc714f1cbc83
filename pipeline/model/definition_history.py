"""The definitions that the rows of each table follow, from batch to batch, and the tables that are outdated by them.

Definitions are compared by the hashes in a fingerprint. The manifest stores the history of a source as JSON.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pipeline.model.feed import Append
from pipeline.model.fingerprints import is_same_definition
from pipeline.model.gold import GoldKind, GoldTable
from pipeline.model.source import Source

CHANGED = "the definition has changed since the newest rows were written, which follow the old one"
NEXT = "new, and the next batch computes it"
WHOLE = "not all rows follow the definition, and the next batch computes it whole"
LEFT_OUT = "not declared since batch {since}, and the next batch computes it whole"
OTHER_KEY = "its key was {was} and is {now} now; if it has rows, each batch fails until it has another name"
MIXED = "since batch {since} new rows follow another definition than older ones"


@dataclass(frozen=True)
class _Followed:
    """A definition that rows of a table follow, and the first batch with it.

    `digest` is empty, behind another definition, for the time in which the table was not declared: it lacks the rows of
    that time. It is also empty for the time before the table started; an older release wrote that. `since` is empty if
    the batch is unknown and, behind another definition, if no row follows the definition yet. `key` are the columns
    that identify a row, empty if they are unknown: an older release did not write them.
    """

    digest: str
    since: str = ""
    key: str = ""


_History = tuple[_Followed, ...]  # of one table, the oldest definition first


def next_history(
    stored: str,
    source: Source,
    now: str,
    *,
    batch_id: str,
    written: Collection[str],
    whole: Collection[str],
    had_rows: Callable[[str], bool],
) -> str:
    """Returns the history of a source after a batch, as JSON.

    `stored` is the history before the batch, empty for a first batch. `now` is the fingerprint of the batch.
    `written` are the tables that the batch wrote, `whole` those that it computed whole. `had_rows` returns whether a
    table held rows before the batch.
    """

    def had_any_rows(*tables: str | None) -> bool:
        return any(had_rows(table) for table in tables if table)

    before = _read(stored)
    upstreams = _upstream_tables(source)
    declared, keys = json.loads(now), _keys(source)
    # A table that is no longer declared may be declared again, and its rows are still there.
    after = {t: h if t in declared or _is_left_out(h) else (*h, _Followed("", batch_id)) for t, h in before.items()}
    for table, digest in declared.items():
        current = _Followed(digest, batch_id, keys.get(table, ""))
        upstream = upstreams.get(table)
        if table not in before:
            after[table] = (current,)  # a table without rows is computed whole
        else:
            after[table] = _next(
                before[table],
                current,
                is_whole=table in whole,
                is_written=table in written,
                had_rows=partial(had_any_rows, table, upstream),
            )
    return json.dumps({t: [[f.digest, f.since, f.key] for f in some] for t, some in after.items()}, sort_keys=True)


def _next(
    before: _History, current: _Followed, *, is_whole: bool, is_written: bool, had_rows: Callable[[], bool]
) -> _History:
    before = _declared(before)  # no row of a feed was accepted in that time, and other tables are computed whole now
    if len(before) > 1 and not before[-1].since:
        before = before[:-1]  # this definition was declared for a while, and no row was written in that time
    if is_same_definition(before[-1].digest, current.digest):
        # An older release did not write the key.
        same = replace(before[-1], digest=current.digest, key=current.key)
        return (same,) if is_whole else (*before[:-1], same)
    if is_whole or not had_rows():
        return (current,)
    if is_written:
        return (*(f for f in before if not is_same_definition(f.digest, current.digest)), current)
    return (*before, replace(current, since=""))


def outdated_tables(stored: str, source: Source, now: str) -> dict[str, str]:
    """Returns table -> reason for the tables with rows of a definition other than `now`, or without some rows."""
    if not stored:
        return {}
    before, other_keys = _read(stored), changed_keys(stored, source)
    upstreams = _upstream_tables(source)
    whole = tables_computed_whole(stored, source, now)
    outdated = {}
    for table, digest in json.loads(now).items():
        history = _declared(before.get(table, ()))
        if not history:
            if table in whole and upstreams.get(table) in before:
                outdated[table] = NEXT
        elif table in other_keys:
            outdated[table] = other_keys[table]
        elif table in whole and _is_left_out(before[table]):
            outdated[table] = LEFT_OUT.format(since=before[table][-1].since)
        elif not _is_uniform(before[table], digest) and table in whole:
            outdated[table] = WHOLE
        elif not is_same_definition(history[-1].digest, digest) or (len(history) > 1 and not history[-1].since):
            outdated[table] = CHANGED
        elif len(history) > 1:
            outdated[table] = MIXED.format(since=history[-1].since)
    return dict(sorted(outdated.items()))


def tables_computed_whole(stored: str, source: Source, now: str) -> frozenset[str]:
    """Returns the tables that the next batch computes whole, so that all of their rows follow the definition `now`.

    These are the hierarchies, enriched and gold tables that are new, of which some rows follow another definition, or
    that lack the rows of a time in which they were not declared; and each gold table that follows a table of the last
    kind, or a new table, because it has followed another table until now. A feed's rows cannot be computed again from
    tables. None are named before the first batch.
    """
    before, declared = _read(stored), json.loads(now)
    if not before:
        return frozenset()
    names = (*(h.name for h in source.hierarchies), *(e.name for e in source.enriched))
    gold = {f"{source.name}.gold.{g.name}": _upstream_table(source, g) for g in source.gold}
    computed = {*(f"{source.name}.silver.{name}" for name in names), *gold}
    found = {table for table in computed if not _is_uniform(before.get(table, ()), declared[table])}
    absent = {table for table in computed if _is_left_out(before.get(table, ()))}
    return frozenset(found | {table for table, of in gold.items() if of in absent or of not in before})


def changed_keys(stored: str, source: Source) -> dict[str, str]:
    """Returns table -> sentence for the tables of which the rows have another key, or grain, than the declaration."""
    followed = {table: [f for f in _declared(history) if f.since] for table, history in _read(stored).items()}
    before = {table: some[-1].key for table, some in followed.items() if some}
    return {
        table: OTHER_KEY.format(was=was, now=now)
        for table, now in _keys(source).items()
        if (was := before.get(table, "")) and {*was.split(", ")} != {*now.split(", ")}
    }


def _keys(source: Source) -> dict[str, str]:
    """Returns the columns that identify a row, by table, without the tables of distinct rows: these have a number."""
    feeds = {f.name: f for f in source.feeds if not isinstance(f.stored_as, Append)}
    keys = {f"silver.{name}": feed.primary_key for name, feed in feeds.items()}
    keys |= {f"silver.{h.name}": (h.id,) for h in source.hierarchies}
    keys |= {f"silver.{e.name}": source.enriched_key(e) for e in source.enriched if e.upstream in feeds}
    keys |= {f"gold.{g.name}": g.grain for g in source.gold}
    return {f"{source.name}.{table}": ", ".join(key) for table, key in keys.items()}


def _is_left_out(history: _History) -> bool:
    return len(history) > 1 and not history[-1].digest


def _declared(history: _History) -> _History:
    return history[:-1] if _is_left_out(history) else history


def _is_uniform(history: _History, digest: str) -> bool:
    """Returns whether all rows that a table has had until now follow one definition, and it is this one."""
    return len(history) == 1 and is_same_definition(history[0].digest, digest)


def newly_outdated_tables(stored: str, source: Source, now: str) -> dict[str, str]:
    """Returns the outdated tables whose definition the newest batch did not have, and those that are computed whole."""
    new = {*changed_tables(stored, now), *tables_computed_whole(stored, source, now)}
    return {table: reason for table, reason in outdated_tables(stored, source, now).items() if table in new}


def changed_tables(stored: str, now: str) -> tuple[str, ...]:
    """Returns the tables with a changed or new definition; none if nothing was stored."""
    last = {table: history[-1].digest for table, history in _read(stored).items()}
    declared = json.loads(now).items()
    return tuple(sorted(t for t, digest in declared if last and not is_same_definition(last.get(t, ""), digest)))


def sentences(outdated: Mapping[str, str], limit: int = 5) -> list[str]:
    """Returns one sentence per reason; it names at most `limit` tables."""
    found = []
    for reason in dict.fromkeys(outdated.values()):
        names = [t for t in outdated if outdated[t] == reason]
        more = f" and {len(names) - limit} more" if len(names) > limit else ""
        found.append(f"{', '.join(names[:limit])}{more}: {reason}")
    return found


def _read(stored: str) -> dict[str, _History]:
    # Older manifests store a single hash per table.
    texts: Mapping[str, str | Sequence[Sequence[str]]] = json.loads(stored or "{}")
    entries = {table: [[entry]] if isinstance(entry, str) else entry for table, entry in texts.items()}
    return {table: tuple(_Followed(*one) for one in entry) for table, entry in entries.items()}


def _upstream_tables(source: Source) -> dict[str, str]:
    """Returns table -> upstream table, without feeds and without the gold tables that every batch computes whole."""
    upstreams = {h.name: h.upstream for h in source.hierarchies} | {e.name: e.upstream for e in source.enriched}
    incremental = [g for g in source.gold if g.kind is not GoldKind.RECOMPUTE or g.key]
    gold = {f"{source.name}.gold.{g.name}": _upstream_table(source, g) for g in incremental}
    return {f"{source.name}.silver.{t}": f"{source.name}.silver.{of}" for t, of in upstreams.items()} | gold


def _upstream_table(source: Source, table: GoldTable) -> str:
    return f"{source.name}.{source.layer(table.upstream)}.{table.upstream}"

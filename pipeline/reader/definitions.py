"""Fingerprints of what is declared; and, by table, the definitions that its rows follow."""

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from pipeline import reader
from pipeline.contract import Progress, Settings
from pipeline.model import Enriched, Feed, GoldKind, Hierarchy, Source
from pipeline.sources import registry

# Definitions are hashed under these names, whatever the code calls them now: a name that changes in the code alone
# changes no definition, and a lake that was written before still follows it.
HASHED_AS = {
    "Scd2": "History",
    "sequence_by": "effective_from",
    "track_history_except": "untracked",
    "tie_breaker": "newest_by",
    "Scd1": "Upsert",
    "Snapshot": "Replace",
    "valid_from": "starts",
    "event_time": "at",
    "stored_as": "keep",
    "snapshot": "whole",
    "cleaned": "prepared",
    "condition": "holds",
    "upstream": "of",
    "as_of": "at",
    "joins": "partners",
    "PointInTimeJoin": "AsOf",
    "before_first": "older",
    "select": "give",
    "aggregates": "totals",
    "LatestJoin": "Newest",
    "order_by": "by",
    "HierarchyJoin": "Node",
    "hierarchy": "tree",
    "Hierarchy": "Tree",
    "sum": "sums",
    "count_distinct": "distinct",
    "min": "lowest",
    "max": "highest",
    "per": "each",
    "dimension": "attributes",
    "as_of_columns": "ages",
    "row_per_batch": "per_batch",
}
_KINDS = {GoldKind.AGGREGATE: "TOTALS", GoldKind.SELECT_ROWS: "ROWS", GoldKind.RECOMPUTE: "KEYS"}

CHANGED = "the definition has changed since the newest rows were written, which follow the old one"
NEXT = "new, and it starts with the rows of the next batch"
STARTED = "it starts with batch {since}, rows from before are not in it"
MIXED = "since batch {since} new rows follow another definition than older ones"


@dataclass(frozen=True)
class Followed:
    """A definition that rows of a table follow, since which batch.

    `digest` is empty where what came before is not in the table. `since` is empty where it is not known and, behind
    another definition, where no row follows it yet.
    """

    digest: str
    since: str = ""


Follows = tuple[Followed, ...]  # in the order in which they came


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a batch did: the tables that it wrote, those that it computed whole, and which held rows before."""

    batch_id: str
    tables: Collection[str]
    whole: Collection[str]
    held: Callable[[str], bool]


def fingerprint(source: Source, values: Mapping[str, Any]) -> str:
    """Writes, as JSON, a short hash of each table's definition and of the settings that fill its SQL."""
    return json.dumps({table: _hash(text, values) for table, text in _definitions(source).items()}, sort_keys=True)


def after(stored: str, source: Source, now: str, written: Written) -> str:
    """Writes, as JSON, which definitions the rows of each table follow after a batch with the fingerprint `now`."""
    before, over = _read(stored), _followed_tables(source)
    follows = dict(before)  # a table that is not declared now may be declared again, and then its rows are still there
    for table, digest in json.loads(now).items():
        this, followed = Followed(digest, written.batch_id), over.get(table)
        if table in before:
            follows[table] = _after(before[table], this, table, followed, written)
        else:
            is_late = stored and followed and table not in written.whole and written.held(followed)
            follows[table] = (Followed(""), this) if is_late else (this,)
    return json.dumps({table: [[f.digest, f.since] for f in some] for table, some in follows.items()}, sort_keys=True)


def _after(before: Follows, now: Followed, table: str, over: str | None, written: Written) -> Follows:
    if len(before) > 1 and not before[-1].since:
        before = before[:-1]  # declared for a while, and no row was written meanwhile
    if table in written.whole:
        return before[-1:] if before[-1].digest == now.digest else (now,)
    if before[-1].digest == now.digest:
        return before
    if not written.held(table) and not (over and written.held(over)):
        return (now,)
    if table in written.tables:
        return (*(f for f in before if f.digest != now.digest), now)
    return (*before, Followed(now.digest))


def outdated_tables(stored: str, source: Source, now: str) -> dict[str, str]:
    """Returns the tables that hold rows of other definitions than `now`, or lack rows: what is mixed, since when."""
    if not stored:
        return {}
    before, over = _read(stored), _followed_tables(source)
    found = {}
    for table, digest in json.loads(now).items():
        if table not in before:
            if over.get(table) in before:
                found[table] = NEXT
        elif before[table][-1].digest != digest or (len(before[table]) > 1 and not before[table][-1].since):
            found[table] = CHANGED
        elif len(before[table]) > 1:
            found[table] = _mixed(before[table])
    return dict(sorted(found.items()))


def _mixed(follows: Follows) -> str:
    is_late = not follows[0].digest
    says = [STARTED.format(since=follows[1].since)] if is_late else []
    says += [MIXED.format(since=follows[-1].since)] if len(follows) > 1 + is_late else []
    return "; ".join(says)


def newly_changed(stored: str, source: Source, now: str) -> dict[str, str]:
    """Returns those of the outdated tables that no batch before this one was made with."""
    new = changed(stored, now)
    return {table: says for table, says in outdated_tables(stored, source, now).items() if table in new}


def changed(stored: str, now: str) -> tuple[str, ...]:
    """Names the tables whose definition is another now, or new; none where nothing was stored."""
    last = {table: follows[-1].digest for table, follows in _read(stored).items()}
    return tuple(sorted(table for table, digest in json.loads(now).items() if last and last.get(table) != digest))


def change_event(batch_id: str, tables: Mapping[str, str]) -> Progress:
    """Returns the log event that names outdated tables."""
    values = {"tables": list(tables), "reason": "; ".join(sentences(tables))}
    return Progress(batch_id=batch_id, event="definition.changed", values=values)


def sentences(tables: Mapping[str, str], most: int = 5) -> list[str]:
    """Returns one sentence for all outdated tables of which the same is to be said."""
    found = []
    for says in dict.fromkeys(tables.values()):
        names = [t for t in tables if tables[t] == says]
        more = f" and {len(names) - most} more" if len(names) > most else ""
        found.append(f"{', '.join(names[:most])}{more}: {says}")
    return found


def outdated(settings: Settings, stored: Mapping[str, str] | None = None) -> dict[str, dict[str, str] | None]:
    """Returns, by published source, what `outdated_tables` does; None for a source that is not declared any more.

    `stored` are the fingerprints of the newest batches by source, by default those of the lake.
    """
    found = registry.load_sources(settings.source_paths, settings.without)
    declared, broken = {s.name: s for s in found.sources}, {name for name, _ in found.broken}

    def outdated_of(source: Source, text: str) -> dict[str, str]:
        return outdated_tables(text, source, fingerprint(source, values(source, settings)))

    known = reader.fingerprints(Path(settings.lake_path)) if stored is None else stored
    return {
        name: outdated_of(declared[name], text) if name in declared else None
        for name, text in known.items()
        if name not in broken  # what it declares cannot be known
    }


def values(source: Source, settings: Settings) -> dict[str, Any]:
    """Returns the settings of a source, with defaults where config.toml says nothing."""
    return {s.name: settings.sources.get(source.name, {}).get(s.name, s.default) for s in source.settings}


def _read(stored: str) -> dict[str, Follows]:
    # Older manifests hold one hash a table.
    texts: Mapping[str, str | Sequence[Sequence[str]]] = json.loads(stored or "{}")
    every = {table: [[said]] if isinstance(said, str) else said for table, said in texts.items()}
    return {table: tuple(Followed(*one) for one in said) for table, said in every.items()}


def _followed_tables(source: Source) -> dict[str, str]:
    """Returns, by gold table that is kept by difference or key by key, the table that it follows."""
    gold = {g.name for g in source.gold}
    by_difference = [g for g in source.gold if g.kind is not GoldKind.RECOMPUTE or g.key]
    layers = {g.name: "gold" if g.upstream in gold else "silver" for g in by_difference}
    return {f"{source.name}.gold.{g.name}": f"{source.name}.{layers[g.name]}.{g.upstream}" for g in by_difference}


def _definitions(source: Source) -> dict[str, str]:
    silver: tuple[Feed | Hierarchy | Enriched, ...] = (*source.feeds, *source.hierarchies, *source.enriched)
    texts = {f"{source.name}.silver.{one.name}": _content(one) for one in silver}
    return texts | {f"{source.name}.gold.{g.name}": f"{_content(g)}\n{_body(g.build)}" for g in source.gold}


def _content(value: Any) -> str:
    """Writes what a declaration says of its table's content: no descriptions, and nothing left at its default."""
    if is_dataclass(value):
        content = [f for f in fields(value) if f.repr and f.name not in ("description", "build")]
        unsaid = {f.name: f.default_factory() if f.default_factory is not MISSING else f.default for f in content}
        said = {f.name: one for f in content if (one := getattr(value, f.name)) != unsaid[f.name]}
        named = ", ".join(f"{HASHED_AS.get(name, name)}={_content(one)}" for name, one in said.items())
        return f"{HASHED_AS.get(type(value).__name__, type(value).__name__)}({named})"
    if isinstance(value, GoldKind):
        return f"<Kind.{_KINDS[value]}: {_KINDS[value].lower()!r}>"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_content(k)}: {_content(v)}' for k, v in value.items())}}}"
    return f"({', '.join(map(_content, value))})" if isinstance(value, tuple) else repr(value)


def _body(function: Callable[..., Any]) -> str:
    """Writes what a function does, without comments and docstring, nor its decorator, whose arguments are content."""
    text = textwrap.dedent(inspect.getsource(function))
    (declared,) = ast.parse(text).body
    if not isinstance(declared, ast.FunctionDef):
        return text
    declared.decorator_list = []
    if ast.get_docstring(declared) is not None:
        declared.body = declared.body[1:] or [ast.Pass()]
    return ast.unparse(declared)


def _hash(text: str, values: Mapping[str, Any]) -> str:
    used = {name: value for name, value in values.items() if f"${name}" in text}
    return hashlib.sha256(f"{text}\n{json.dumps(used, sort_keys=True, default=str)}".encode()).hexdigest()[:12]

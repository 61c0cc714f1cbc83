"""Fingerprints of declarations: a short hash of each table's definition."""

import ast
import hashlib
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import Any

from pipeline.model.enriched import Enriched, Hierarchy
from pipeline.model.feed import Feed
from pipeline.model.gold import GoldKind
from pipeline.model.source import Source

# The names under which definitions are hashed. A new name in the code alone must not change a fingerprint: a lake that
# was written before would count as outdated. So a renamed field or class keeps its first name here.
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


def fingerprint(source: Source, values: Mapping[str, Any]) -> str:
    """Returns JSON of table name -> hash of the table's definition and of the settings in its SQL.

    For a table that can be computed from other tables, a second hash follows after a colon: that of what decides on
    its rows. `values` are the values of the source's settings.
    """
    hashes = {table: _hash(text, _named_anywhere(text, values)) for table, text in _definitions(source).items()}
    for table, text in _row_definitions(source).items():
        hashes[table] += f":{_hash(text, _named(text, values))}"
    return json.dumps(hashes, sort_keys=True)


def is_same_definition(one: str, other: str) -> bool:
    """Returns whether rows by one hash of `fingerprint` are rows by the other. An older release has no second hash."""
    (whole, _, rows), (other_whole, _, other_rows) = one.partition(":"), other.partition(":")
    return rows == other_rows if rows and other_rows else whole == other_whole


def _definitions(source: Source) -> dict[str, str]:
    silver: tuple[Feed | Hierarchy | Enriched, ...] = (*source.feeds, *source.hierarchies, *source.enriched)
    texts = {f"{source.name}.silver.{one.name}": _content(one) for one in silver}
    return texts | {f"{source.name}.gold.{g.name}": f"{_content(g)}\n{_body(g.build)}" for g in source.gold}


def _row_definitions(source: Source) -> dict[str, str]:
    """Returns the parts of definitions that decide on rows, without rules and checks, which judge the rows.

    Which joined columns of an enriched table have another name, and which columns a dimension gives, depends on other
    declarations.
    """
    texts = {f"{source.name}.silver.{h.name}": _content(h) for h in source.hierarchies}
    for enriched in source.enriched:
        joined = [column for join in enriched.joins for column in source.join_columns(enriched, join)]
        renamed = sorted((sql, new) for sql, new, _ in joined if sql != new)
        content = _content(replace(enriched, rules=(), checks=()))
        texts[f"{source.name}.silver.{enriched.name}"] = f"{content}\n{renamed}"
    for gold in source.gold:
        columns = source.dimension_columns(gold) if gold.dimension else ()
        content = _content(replace(gold, checks=()))
        texts[f"{source.name}.gold.{gold.name}"] = f"{content}\n{_body(gold.build)}\n{columns}"
    return texts


def _content(value: Any) -> str:
    """Returns the part of a declaration that decides the content of its table, without descriptions and defaults."""
    if is_dataclass(value):
        content = [f for f in fields(value) if f.repr and f.name not in ("description", "build")]
        defaults = {f.name: f.default_factory() if f.default_factory is not MISSING else f.default for f in content}
        declared = {f.name: one for f in content if (one := getattr(value, f.name)) != defaults[f.name]}
        named = ", ".join(f"{HASHED_AS.get(name, name)}={_content(one)}" for name, one in declared.items())
        return f"{HASHED_AS.get(type(value).__name__, type(value).__name__)}({named})"
    if isinstance(value, GoldKind):
        return f"<Kind.{_KINDS[value]}: {_KINDS[value].lower()!r}>"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_content(k)}: {_content(v)}' for k, v in value.items())}}}"
    return f"({', '.join(map(_content, value))})" if isinstance(value, tuple) else repr(value)


@cache  # a function never changes while its process lives, and its text lies in a file
def _body(function: Callable[..., Any]) -> str:
    """Returns the code of a function without comments, docstring and decorator; `_content` covers the decorator."""
    text = textwrap.dedent(inspect.getsource(function))
    (declared,) = ast.parse(text).body
    if not isinstance(declared, ast.FunctionDef):
        return text
    declared.decorator_list = []
    if ast.get_docstring(declared) is not None:
        declared.body = declared.body[1:] or [ast.Pass()]
    return ast.unparse(declared)


def _named_anywhere(text: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that a text names, and those whose names begin such a name: older releases hashed these."""
    return {name: value for name, value in values.items() if f"${name}" in text}


def _named(text: str, values: Mapping[str, Any]) -> dict[str, Any]:
    names = set(re.findall(r"\$\{?(\w+)", text))
    return {name: value for name, value in values.items() if name in names}


def _hash(text: str, used: Mapping[str, Any]) -> str:
    return hashlib.sha256(f"{text}\n{json.dumps(used, sort_keys=True, default=str)}".encode()).hexdigest()[:12]

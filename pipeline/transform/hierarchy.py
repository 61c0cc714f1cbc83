"""Finds the root of each node of a hierarchy, in this process: a catalog has thousands of categories, not millions."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipeline.contract import RuleResult
from pipeline.model import HIGH, MEDIUM, WARN, Hierarchy, Rule, Source, columns_of
from pipeline.schema import arrow_schema

PARENT_IS_LISTED = Rule(
    "parent_is_listed",
    "true",
    severity=MEDIUM,
    description="a node's parent is a node; where it is not, the node counts as a root",
)
NODE_HAS_A_ROOT = Rule(
    "node_has_a_root", "true", severity=HIGH, description="no node is its own ancestor, nor hangs on one that is"
)


def build_hierarchy(
    hierarchy: Hierarchy, source: Source, nodes: pa.Table, before: pa.Table
) -> tuple[pa.Table, tuple[RuleResult, ...]]:
    """Returns the signed rows of the hierarchy that differ from `before`, and the results of the rules about it."""
    columns = source.hierarchy_columns(hierarchy)
    parents = dict(zip(nodes[hierarchy.id].to_pylist(), nodes[hierarchy.parent].to_pylist(), strict=True))
    found = roots(parents)
    names = [c.name for c in columns]
    was = {tuple(row.values()) for row in before.select(names).to_pylist()}
    now = {(node, parent, found[node]) for node, parent in parents.items()}
    schema = arrow_schema((*columns, *columns_of("_sign INT")))
    differing = ((row, sign) for rows, sign in ((was - now, -1), (now - was, 1)) for row in rows)
    signed = [dict(zip(schema.names, (*row, sign), strict=True)) for row, sign in differing]
    return pa.Table.from_pylist(signed, schema=schema), _findings(hierarchy, parents, found)


def roots(parents: Mapping[Any, Any]) -> dict[Any, Any]:
    """Returns each node's root: the first ancestor without a listed parent; None where its ancestors form a cycle."""
    found: dict[Any, Any] = {}
    for node in parents:
        at, path = node, dict[Any, None]()
        while at not in found and at not in path:
            path[at] = None
            above = parents[at]
            if above is None or above not in parents:
                found[at] = at
            else:
                at = above
        found |= dict.fromkeys(path, found.get(at))
    return found


def _findings(hierarchy: Hierarchy, parents: Mapping[Any, Any], found: Mapping[Any, Any]) -> tuple[RuleResult, ...]:
    strangers = sum(above is not None and above not in parents for above in parents.values())
    rootless = sum(root is None for root in found.values())
    return tuple(
        RuleResult(
            feed=hierarchy.upstream,
            rule=r.name,
            severity=r.severity,
            action=WARN,
            checked=len(parents),
            broken=broken,
            description=r.description,
        )
        for r, broken in ((PARENT_IS_LISTED, strangers), (NODE_HAS_A_ROOT, rootless))
    )

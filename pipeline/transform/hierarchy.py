"""Finds the root of each node of a tree, on the driver: a catalogue has thousands of categories, not millions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contract import RuleResult
from pipeline.lake.lake import Lake
from pipeline.lake.scratch import MaterializedRows
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


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What a batch changes in a tree's table, as signed rows, and what is wrong with the tree."""

    rows: MaterializedRows
    findings: tuple[RuleResult, ...]


def grow(hierarchy: Hierarchy, source: Source, nodes: pa.Table, before: pa.Table, lake: Lake) -> Grown:
    """Computes the tree's table from its current nodes; only rows that differ from `before` are in the change."""
    columns = source.hierarchy_columns(hierarchy)
    parents = dict(zip(nodes[hierarchy.id].to_pylist(), nodes[hierarchy.parent].to_pylist(), strict=True))
    found = roots(parents)
    names = [c.name for c in columns]
    was = {tuple(row.values()) for row in before.select(names).to_pylist()}
    now = {(node, parent, found[node]) for node, parent in parents.items()}
    schema = arrow_schema((*columns, *columns_of("_sign INT")))
    signed = [
        dict(zip(schema.names, (*row, sign), strict=True))
        for rows, sign in ((was - now, -1), (now - was, 1))
        for row in rows
    ]
    path = lake.scratch.folder / f"tree_{hierarchy.name}.parquet"
    pq.write_table(pa.Table.from_pylist(signed, schema=schema), path)
    return Grown(rows=lake.scratch.open_parquet(path), findings=_findings(hierarchy, parents, found))


def roots(parents: Mapping[Any, Any]) -> dict[Any, Any]:
    """Tells each node's root: the first ancestor without a listed parent; None where the way up ends in a circle."""
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

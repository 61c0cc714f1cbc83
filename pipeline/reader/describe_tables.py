"""Describes the tables of a source from their declarations alone, as records for JSON."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import Template
from typing import Any

from pipeline.model import Column, Derived, Enriched, GoldTable, HierarchyJoin, Join, LatestJoin, Rule, Source

Record = dict[str, Any]

_BRONZE_GRAIN = ("_batch_id", "_source_file", "_record")


def table_records(source: Source, values: Mapping[str, Any]) -> Iterator[Record]:
    """Yields a record per table of the lake. `values` are the values of the source's settings."""
    for feed in source.feeds:
        name = f"{source.name}.bronze.{feed.name}"
        columns = _columns(feed.schema, feed.descriptions)
        yield _table(name, _BRONZE_GRAIN, feed.name, feed.description, columns=columns)
    for feed in source.feeds:
        sql = {d.name: d.sql for d in (*feed.cleaned, *feed.derived)}
        yield _table(
            f"{source.name}.silver.{feed.name}",
            feed.primary_key,
            feed.name,
            feed.description,
            columns=_columns(feed.silver, feed.descriptions, sql),
        )
    for hierarchy in source.hierarchies:
        descriptions = source.feed(hierarchy.upstream).descriptions
        yield _table(
            f"{source.name}.silver.{hierarchy.name}",
            (hierarchy.id,),
            hierarchy.upstream,
            hierarchy.description,
            columns=_columns(source.hierarchy_columns(hierarchy), descriptions),
        )
    for enriched in source.enriched:
        yield _enriched_record(source, enriched)
    for gold in source.gold:
        yield _gold_record(source, gold, values)


def rule_record(rule: Rule) -> Record:
    """Returns the record of a rule."""
    return {
        "name": rule.name,
        "severity": str(rule.severity),
        "action": str(rule.action),
        "holds": rule.condition,
        "where": rule.where,
        "description": rule.description,
    }


def derived_records(columns: Sequence[Derived]) -> Iterator[Record]:
    """Yields a record per column that SQL computes."""
    for column in columns:
        yield {"name": column.name, "type": column.type, "required": False, "optional": False, "sql": column.sql}


def _enriched_record(source: Source, table: Enriched) -> Record:
    described = {**source.feed(table.upstream).descriptions, **table.descriptions}
    sql = {d.name: d.sql for d in table.derived}
    return _table(
        f"{source.name}.silver.{table.name}",
        source.enriched_key(table),
        table.upstream,
        table.description,
        rules=table.rules,
        derived=table.derived,
        columns=_columns(source.enriched_columns(table), described, sql),
        joins=[_join(source, table, join) for join in table.joins],
    )


def _gold_record(source: Source, table: GoldTable, values: Mapping[str, Any]) -> Record:
    # A failed check of a gold table rejects the whole batch. No single row is to blame.
    checks = [{**rule_record(rule), "severity": "", "action": "REJECT BATCH"} for rule in table.checks]
    unit = {column: Template(text).safe_substitute(values) for column, text in table.unit.items()}
    columns = _columns(table.stored_columns, table.descriptions, {**table.aggregate_sql, **table.as_of_columns}, unit)
    dimension = {"table": f"{source.name}.silver.{table.dimension}", "kind": "dimension", "on": list(table.grain)}
    record = _table(
        f"{source.name}.gold.{table.name}",
        table.grain,
        table.upstream,
        table.description,
        columns=columns,
        joins=[{**dimension, "as_of": ""}] if table.dimension else (),
    )
    return {**record, "rules": checks, "kind": str(table.kind), "where": table.where, "headline": list(table.headline)}


def _table(
    name: str,
    grain: Sequence[str],
    upstream: str,
    description: str,
    *,
    rules: Sequence[Rule] = (),
    derived: Sequence[Derived] = (),
    columns: Sequence[Record],
    joins: Sequence[Record] = (),
) -> Record:
    return {
        "name": name,
        "grain": list(grain),
        "of": upstream,
        "description": description,
        "rules": [rule_record(r) for r in rules],
        "derived": list(derived_records(derived)),
        "columns": list(columns),
        "joins": list(joins),
    }


def _columns(
    columns: Iterable[Column],
    descriptions: Mapping[str, str],
    sql: Mapping[str, str] | None = None,
    unit: Mapping[str, str] | None = None,
) -> list[Record]:
    return [
        {
            "name": c.name,
            "type": c.type,
            "description": descriptions.get(c.name, ""),
            "sql": (sql or {}).get(c.name, ""),
            "unit": (unit or {}).get(c.name, ""),
        }
        for c in columns
    ]


def _join(source: Source, table: Enriched, join: Join) -> Record:
    if isinstance(join, HierarchyJoin):
        return {
            "table": f"{source.name}.silver.{join.hierarchy}",
            "kind": "hierarchy",
            "on": [join.on],
            "as_of": "",
        }
    is_latest = isinstance(join, LatestJoin)
    return {
        "table": f"{source.name}.silver.{join.feed}",
        "kind": "latest" if is_latest else "point_in_time",
        "on": list(join.on),
        "as_of": "" if is_latest else table.as_of,
    }

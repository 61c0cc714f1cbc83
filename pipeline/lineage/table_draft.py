"""A table of the lineage in the making: its declared columns with their values, and the edges that follow from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.lineage.expressions import parse, words
from pipeline.lineage.frame import Columns, Ref, RowLinks, Value
from pipeline.lineage.graph import ROWS, Edge, Effect, Kind, Layer, LineageColumn, LineageRule, LineageTable
from pipeline.model import Column, Derived, Reference, Rule


@dataclass(frozen=True, kw_only=True)
class TableDraft:
    """A table with the value of each column."""

    name: str
    layer: Layer
    kind: Kind
    description: str
    columns: Sequence[Column]
    values: Mapping[str, Value]
    key: tuple[str, ...] = ()
    rows: RowLinks = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    unit: Mapping[str, str] = field(default_factory=dict)
    files: str = ""
    rules: Sequence[Rule | Reference] = ()

    def table(self, inherited: Mapping[Ref, str]) -> LineageTable:
        """Returns the table. A copied column without a description has that of its upstream column (`inherited`)."""
        columns = tuple(self._column(c, self.values[c.name], inherited) for c in self.columns)
        return LineageTable(
            name=self.name,
            layer=self.layer,
            kind=self.kind,
            description=self.description,
            key=self.key,
            columns=columns,
            files=self.files,
            rules=tuple(_rule(r, [c.name for c in columns]) for r in self.rules),
        )

    def edges(self) -> Iterator[Edge]:
        """Yields the edges into the columns, then those that choose the rows."""
        for column in self.columns:
            value = self.values[column.name]
            for (table, name), link in sorted(value.links.items()):
                yield Edge(
                    from_table=table,
                    from_column=name,
                    to_table=self.name,
                    to_column=column.name,
                    effect=link.effect,
                    sql=_sql(value, column.name),
                    is_certain=link.is_certain,
                )
        for ((table, name), effect), is_certain in sorted(self.rows.items()):
            yield Edge(
                from_table=table,
                from_column=name,
                to_table=self.name,
                to_column=ROWS,
                effect=effect,
                is_certain=is_certain,
            )

    def _column(self, column: Column, value: Value, inherited: Mapping[Ref, str]) -> LineageColumn:
        copied = [ref for ref, link in value.links.items() if link.effect is Effect.COPY]
        upstream = inherited.get(copied[0], "") if len(copied) == len(value.links) == 1 else ""
        return LineageColumn(
            name=column.name,
            type=column.type,
            description=self.descriptions.get(column.name, upstream),
            sql=_sql(value, column.name),
            origin=value.origin_or_columns,
            unit=self.unit.get(column.name, ""),
        )


def rows_of(columns: Columns, effect: Effect, sqls: Iterable[str]) -> RowLinks:
    """Returns the upstream columns that some expressions read to choose rows."""
    read = [value.links for value in map(columns.value, sqls)]
    return {(ref, effect): link.is_certain for links in read for ref, link in links.items()}


def with_derived(columns: Columns, derived: Sequence[Derived]) -> Columns:
    """Returns the columns with derived ones, each after those that it needs."""
    waiting = list(derived)
    while waiting:
        names = {d.name.lower() for d in waiting}
        ready = [d for d in waiting if not words([parse(d.sql)]) & (names - {d.name.lower()})] or waiting
        columns = columns.with_values({d.name: columns.value(d.sql) for d in ready})
        waiting = [d for d in waiting if d not in ready]
    return columns


def _sql(value: Value, name: str) -> str:
    return "" if value.sql == name else value.sql


def _rule(rule: Rule | Reference, names: Sequence[str]) -> LineageRule:
    if isinstance(rule, Reference):
        return LineageRule(
            name=rule.name,
            severity=str(rule.severity),
            action="WARN",
            condition="",
            where="",
            description=rule.description,
            columns=rule.on,
            feed=rule.feed,
        )
    read = words([parse(rule.condition), parse(rule.where or "true")])
    return LineageRule(
        name=rule.name,
        severity=str(rule.severity),
        action=str(rule.action),
        condition=rule.condition,
        where=rule.where,
        description=rule.description,
        columns=tuple(n for n in names if n.lower() in read),
    )

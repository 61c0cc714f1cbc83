"""Describes the tables and columns of a source in words for readers, from its declarations alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.model import Derived, GoldTable, Source


@dataclass(frozen=True, kw_only=True)
class TableText:
    """The description of a table, and those of its columns by name."""

    text: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


VERSION_TEXTS = {
    "effective_from": "the start of the version; the instant itself belongs to the version",
    "effective_to": "the end of the version, which does not belong to it; empty while the version is the current one",
    "is_current": "true for the version that has no end",
}


def descriptions(source: Source) -> dict[str, TableText]:
    """Returns the description of each table of a source by its name `source.layer.table`."""
    return {f"{source.name}.{name}": text for name, text in _texts(source)}


def _texts(source: Source) -> Iterator[tuple[str, TableText]]:
    for feed in source.feeds:
        derived = _derived(feed.cleaned)
        yield f"bronze.{feed.name}", TableText(text=feed.description, columns=derived)
        columns = {**VERSION_TEXTS, **derived, **_derived(feed.derived)}
        yield f"silver.{feed.name}", TableText(text=feed.description, columns=columns)
    for hierarchy in source.hierarchies:
        columns = {"root": f"the topmost node above {hierarchy.id}"}
        yield f"silver.{hierarchy.name}", TableText(text=hierarchy.description, columns=columns)
    for enriched in source.enriched:
        columns = {**VERSION_TEXTS, **_derived(enriched.derived)}
        yield f"silver.{enriched.name}", TableText(text=enriched.description, columns=columns)
    for gold in source.gold:
        yield f"gold.{gold.name}", TableText(text=" ".join(gold.description.split()), columns=_gold(gold))


def _derived(columns: Iterable[Derived]) -> dict[str, str]:
    return {c.name: _one_line(c.sql) for c in columns}


def _gold(table: GoldTable) -> dict[str, str]:
    of_kind = {
        "sum of": table.sum,
        "number of distinct": table.count_distinct,
        "lowest": table.min,
        "highest": table.max,
    }
    columns = {name: f"{kind} {_one_line(sql)}" for kind, of in of_kind.items() for name, sql in of.items()}
    columns |= {name: "number of rows" for name, sql in table.sum.items() if sql.strip() == "1"}
    return {**columns, **{name: _one_line(sql) for name, sql in table.as_of_columns.items()}}


def _one_line(sql: str) -> str:
    return " ".join(sql.split())

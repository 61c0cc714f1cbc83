"""Describes the tables and columns of a source in words for readers, from its declarations alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.model import Source
from pipeline.reader.describe_tables import table_records

VERSION_TEXTS = {
    "effective_from": "the start of the version; the instant itself belongs to the version",
    "effective_to": "the end of the version, which does not belong to it; empty while the version is the current one",
    "is_current": "true for the version that has no end",
}


@dataclass(frozen=True, kw_only=True)
class TableText:
    """The description of a table, and those of its columns by name."""

    text: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def descriptions(source: Source, values: Mapping[str, Any]) -> dict[str, TableText]:
    """Returns the description of each table of a source by its name `source.layer.table`.

    A column without a description has the SQL that computes it. `values` are the values of the source's settings.
    """
    return {
        record["name"]: TableText(text=_one_line(record["description"]), columns=dict(_columns(record["columns"])))
        for record in table_records(source, values)
    }


def _columns(records: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    for record in records:
        text = record["description"] or VERSION_TEXTS.get(record["name"], "") or record["sql"]
        if record["unit"]:
            text = f"{text.removesuffix('.')} ({record['unit']})"
        if text:
            yield record["name"], _one_line(text)


def _one_line(text: str) -> str:
    return " ".join(text.split())

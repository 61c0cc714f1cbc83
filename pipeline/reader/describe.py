"""Describes sources from their declarations alone, as records for JSON: feeds, columns, rules, tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.contract import Settings, setting_values
from pipeline.model import Append, Feed, Rule, Scd2, Snapshot, Source, StoredAs
from pipeline.reader.describe_tables import Record, derived_records, rule_record, table_records
from pipeline.sources import registry


def describe_sources(settings: Settings) -> list[Record]:
    """Returns a record per source. A source that cannot be loaded has its folder and, as `broken`, the reason only."""
    loaded = registry.load_sources(settings.source_paths, settings.exclude)
    folders = {Path(path).name: path for path in settings.source_paths}
    usable = [
        _source(s, "" if s in registry.SOURCES else folders[s.name], setting_values(s, settings))
        for s in loaded.sources
    ]
    return [*usable, *({"name": name, "folder": folders[name], "broken": sentence} for name, sentence in loaded.broken)]


def describe_table(settings: Settings, name: str) -> Record:
    """Returns the record of a table; an empty one for a table that no source declares."""
    if name.startswith("ops."):  # no source declares it, and to load the sources takes time
        return {}
    sources = describe_sources(settings)
    return next((t for source in sources for t in source.get("tables", ()) if t["name"] == name), {})


def _storage(stored_as: StoredAs) -> str:
    """Returns in a few words how the rows of a key are stored."""
    match stored_as:
        case Scd2():
            untracked = (
                f", untracked {', '.join(stored_as.track_history_except)}" if stored_as.track_history_except else ""
            )
            deleted = f", deleted where {stored_as.delete_when}" if stored_as.delete_when else ""
            return f"history by {stored_as.sequence_by or 'batch date'}{untracked}{deleted}"
        case Append():
            return "every distinct row"
        case Snapshot():
            return "newest whole delivery" + (f", versions by {stored_as.valid_from}" if stored_as.valid_from else "")
        case _:
            return "newest row of a key"


def _source(source: Source, folder: str, values: Mapping[str, Any]) -> Record:
    return {
        "name": source.name,
        "folder": folder,
        "broken": "",
        "settings": [{"name": s.name, "default": s.default, "meaning": s.meaning} for s in source.settings],
        "feeds": [_feed(f) for f in source.feeds],
        "tables": list(table_records(source, values)),
    }


def _feed(feed: Feed) -> Record:
    references = [Rule(r.name, r.description, severity=r.severity) for r in feed.references]
    columns = [
        *(
            {"name": c.name, "type": c.type, "required": c.required, "optional": c.name in feed.optional, "sql": ""}
            for c in feed.schema
        ),
        *derived_records((*feed.cleaned, *feed.derived)),
    ]
    return {
        "name": feed.name,
        "files": feed.files,
        "key": list(feed.key),
        "kept": _storage(feed.stored_as),
        "whole": feed.snapshot,
        "description": feed.description,
        "columns": [{**column, "description": feed.descriptions.get(str(column["name"]), "")} for column in columns],
        "rules": [rule_record(r) for r in (*feed.rules, *references)],
    }

"""Describes sources from their declarations alone, as records for JSON: feeds, columns, rules, tables."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.contract import Settings
from pipeline.model import Append, Derived, Feed, Rule, Scd2, Snapshot, Source, StoredAs
from pipeline.sources import registry

Record = dict[str, Any]

_BRONZE_GRAIN = ("_batch_id", "_source_file", "_record")


def describe_sources(settings: Settings) -> list[Record]:
    """Returns a record per source. A source that cannot be loaded has its folder and, as `broken`, the reason only."""
    loaded = registry.load_sources(settings.source_paths, settings.exclude)
    folders = {Path(path).name: path for path in settings.source_paths}
    usable = [_source(s, "" if s in registry.SOURCES else folders[s.name]) for s in loaded.sources]
    return [*usable, *({"name": name, "folder": folders[name], "broken": sentence} for name, sentence in loaded.broken)]


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


def _source(source: Source, folder: str) -> Record:
    return {
        "name": source.name,
        "folder": folder,
        "broken": "",
        "settings": [{"name": s.name, "default": s.default, "meaning": s.meaning} for s in source.settings],
        "feeds": [_feed(f) for f in source.feeds],
        "tables": list(_tables(source)),
    }


def _feed(feed: Feed) -> Record:
    references = [Rule(r.name, r.description, severity=r.severity) for r in feed.references]
    return {
        "name": feed.name,
        "files": feed.files,
        "key": list(feed.key),
        "kept": _storage(feed.stored_as),
        "whole": feed.snapshot,
        "description": feed.description,
        "columns": [
            *(
                {"name": c.name, "type": c.type, "required": c.required, "optional": c.name in feed.optional, "sql": ""}
                for c in feed.schema
            ),
            *_derived_columns((*feed.cleaned, *feed.derived)),
        ],
        "rules": [_rule(r) for r in (*feed.rules, *references)],
    }


def _tables(source: Source) -> Iterator[Record]:
    for feed in source.feeds:
        yield _table(f"{source.name}.bronze.{feed.name}", _BRONZE_GRAIN, feed.name, feed.description)
    for feed in source.feeds:
        yield _table(f"{source.name}.silver.{feed.name}", feed.primary_key, feed.name, feed.description)
    for enriched in source.enriched:
        grain = source.enriched_key(enriched)
        yield _table(
            f"{source.name}.silver.{enriched.name}",
            grain,
            enriched.upstream,
            enriched.description,
            rules=enriched.rules,
            derived=enriched.derived,
        )
    for gold in source.gold:
        table = _table(
            f"{source.name}.gold.{gold.name}", gold.grain, gold.upstream, gold.description, rules=gold.checks
        )
        # A failed check of a gold table rejects the whole batch. No single row is to blame.
        checks = [{**rule, "severity": "", "action": "REJECT BATCH"} for rule in table["rules"]]
        yield {**table, "rules": checks}


def _table(
    name: str,
    grain: Sequence[str],
    upstream: str,
    description: str,
    *,
    rules: Sequence[Rule] = (),
    derived: Sequence[Derived] = (),
) -> Record:
    return {
        "name": name,
        "grain": list(grain),
        "of": upstream,
        "description": description,
        "rules": [_rule(r) for r in rules],
        "derived": list(_derived_columns(derived)),
    }


def _derived_columns(columns: Sequence[Derived]) -> Iterator[Record]:
    for column in columns:
        yield {"name": column.name, "type": column.type, "required": False, "optional": False, "sql": column.sql}


def _rule(rule: Rule) -> Record:
    return {
        "name": rule.name,
        "severity": str(rule.severity),
        "action": str(rule.action),
        "holds": rule.condition,
        "where": rule.where,
        "description": rule.description,
    }

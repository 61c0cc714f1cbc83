"""Describes sources from their declarations alone, as plain records: what comes in, what must hold of it, what comes of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.contract import Settings
from pipeline.model import Append, Derived, Feed, Rule, Scd2, Snapshot, Source, StoredAs
from pipeline.sources import registry

Record = dict[str, Any]

ROW_OF_BRONZE = ("_batch_id", "_source_file", "_record")


def described(settings: Settings) -> list[Record]:
    """Describes every source; of one that cannot be used only its folder is known and, as `broken`, why."""
    found = registry.load_sources(settings.source_paths, settings.without)
    folders = {Path(path).name: path for path in settings.source_paths}
    usable = [_source(s, "" if s in registry.SOURCES else folders[s.name]) for s in found.sources]
    return [*usable, *({"name": name, "folder": folders[name], "broken": sentence} for name, sentence in found.broken)]


def kept_as(keep: StoredAs) -> str:
    """Tells in a few words what becomes of the rows of a key."""
    match keep:
        case Scd2():
            track_history_except = (
                f", untracked {', '.join(keep.track_history_except)}" if keep.track_history_except else ""
            )
            deleted = f", deleted where {keep.delete_when}" if keep.delete_when else ""
            return f"history by {keep.sequence_by or 'batch date'}{track_history_except}{deleted}"
        case Append():
            return "every distinct row"
        case Snapshot():
            return "newest whole delivery" + (f", versions by {keep.valid_from}" if keep.valid_from else "")
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
        "kept": kept_as(feed.stored_as),
        "whole": feed.snapshot,
        "description": feed.description,
        "columns": [
            *(
                {"name": c.name, "type": c.type, "required": c.required, "optional": c.name in feed.optional, "sql": ""}
                for c in feed.schema
            ),
            *_made((*feed.cleaned, *feed.derived)),
        ],
        "rules": [_rule(r) for r in (*feed.rules, *references)],
    }


def _tables(source: Source) -> Iterator[Record]:
    for feed in source.feeds:
        yield _table(f"{source.name}.bronze.{feed.name}", ROW_OF_BRONZE, feed.name, feed.description)
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
        yield {
            **table,
            "rules": [{**rule, "severity": "", "action": "REJECT BATCH"} for rule in table["rules"]],
        }  # a table that is wrong is nobody's row


def _table(
    name: str,
    grain: Sequence[str],
    of: str,
    description: str,
    *,
    rules: Sequence[Rule] = (),
    derived: Sequence[Derived] = (),
) -> Record:
    made, held = list(_made(derived)), [_rule(r) for r in rules]
    return {"name": name, "grain": list(grain), "of": of, "description": description, "rules": held, "derived": made}


def _made(columns: Sequence[Derived]) -> Iterator[Record]:
    for column in columns:
        yield {"name": column.name, "type": column.type, "required": False, "optional": False, "sql": column.sql}


def _rule(rule: Rule) -> Record:
    told = {"name": rule.name, "severity": str(rule.severity), "action": str(rule.action)}
    return {**told, "holds": rule.condition, "where": rule.where, "description": rule.description}

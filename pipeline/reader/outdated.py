"""Finds the published tables whose rows follow other definitions than the declared ones."""

from collections.abc import Mapping

from pipeline.contract import Progress, Settings, setting_values
from pipeline.model import Source
from pipeline.model.definition_history import outdated_tables, sentences
from pipeline.model.fingerprints import fingerprint
from pipeline.reader.published_versions import fingerprints
from pipeline.sources import registry

__all__ = ["change_event", "outdated_by_source", "sentences"]


def outdated_by_source(settings: Settings, stored: Mapping[str, str] | None = None) -> dict[str, dict[str, str] | None]:
    """Returns, by published source, table -> reason for its outdated tables; None for a source that is not declared.

    `stored` are the fingerprints of the newest batches by source, by default those in the lake.
    """
    loaded = registry.load_sources(settings.source_paths, settings.exclude)
    declared = {s.name: s for s in loaded.sources}
    broken = {name for name, _ in loaded.broken}

    def outdated(source: Source, text: str) -> dict[str, str]:
        return outdated_tables(text, source, fingerprint(source, setting_values(source, settings)))

    known = fingerprints(settings.lake) if stored is None else stored
    return {
        name: outdated(declared[name], text) if name in declared else None
        for name, text in known.items()
        if name not in broken  # its definitions are unknown
    }


def change_event(batch_id: str, outdated: Mapping[str, str]) -> Progress:
    """Returns the log event that names outdated tables and the reasons."""
    values = {"tables": list(outdated), "reason": "; ".join(sentences(outdated))}
    return Progress(batch_id=batch_id, event="definition.changed", values=values)

"""Fingerprints of what is declared, so that a table which holds an older definition is noticed."""

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import reader, sources
from pipeline.contract import Settings
from pipeline.model import Source


def fingerprint(source: Source, values: Mapping[str, Any]) -> str:
    """Writes, as JSON, a short hash of each table's definition and of the settings that fill its SQL."""
    return json.dumps({table: _hash(text, values) for table, text in _definitions(source).items()}, sort_keys=True)


def changed(stored: str, now: str) -> tuple[str, ...]:
    """Names the tables whose definition differs between two fingerprints; none where nothing was stored."""
    if not stored:
        return ()
    before, after = json.loads(stored), json.loads(now)
    return tuple(sorted(t for t in {*before, *after} if before.get(t) != after.get(t)))


def outdated(settings: Settings) -> dict[str, tuple[str, ...] | None]:
    """Tells, by published source, the tables whose definition is another now; None for a source that is not declared any more."""
    found = sources.found(settings.source_paths, settings.without)
    declared, broken = {s.name: s for s in found.sources}, {name for name, _ in found.broken}
    return {
        name: changed(stored, fingerprint(declared[name], settings.sources.get(name, {}))) if name in declared else None
        for name, stored in reader.fingerprints(Path(settings.lake_path)).items()
        if name not in broken  # what it declares cannot be known
    }


def _definitions(source: Source) -> dict[str, str]:
    texts = {f"{source.name}.silver.{f.name}": repr(f) for f in source.feeds}
    texts |= {f"{source.name}.silver.{t.name}": repr(t) for t in source.trees}
    texts |= {f"{source.name}.silver.{e.name}": repr(e) for e in source.enriched}
    return texts | {f"{source.name}.gold.{g.name}": f"{_declared(g)}\n{inspect.getsource(g.build)}" for g in source.gold}


def _declared(table: Any) -> str:
    return repr({name: value for name, value in vars(table).items() if name in table.__dataclass_fields__ and name != "build"})


def _hash(text: str, values: Mapping[str, Any]) -> str:
    used = {name: value for name, value in values.items() if f"${name}" in text}
    return hashlib.sha256(f"{text}\n{json.dumps(used, sort_keys=True, default=str)}".encode()).hexdigest()[:12]

"""Computes the pages of a source and of a table: feeds, tables, columns, and history by batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from daemon.batch import Batch, BatchFile
from daemon.pages import outcome
from daemon.pages.batch_view import layer
from daemon.pages.facts import Chart, Facts, LakeFacts
from pipeline.contract import is_secret_name
from pipeline.lineage import LineageColumn
from pipeline.reader import TableInfo

LAYERS = ("bronze", "silver", "gold")


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """The newest files of a feed: the batch that took them, and their number of rows."""

    batch: Batch
    files: int
    rows: int | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a table by a batch."""

    batch: Batch
    version: int
    rows: int | None  # rows that the batch wrote


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """Everything that the page of a table shows."""

    name: str
    source: str
    layer: str
    description: str
    grain: Sequence[str]
    columns: Sequence[LineageColumn]
    rules: Sequence[Mapping[str, Any]]
    info: TableInfo | None
    outdated: str
    upstreams: Sequence[str]
    downstreams: Sequence[str]
    changes: Sequence[Change]
    chart: Chart | None

    @property
    def short(self) -> str:
        return self.name.partition(".")[2]


def tables(facts: Facts, source: str) -> list[str]:
    """Returns the tables of a source, in the order of their declarations, then those that are published besides."""
    known = facts.lake.sources.get(source)
    declared = [str(t["name"]) for t in known.declared.get("tables", ())] if known else []
    others = [name for name in facts.lake.tables if name.startswith(f"{source}.") and name not in declared]
    return [*declared, *others]


def tables_of(facts: Facts, source: str, wanted: str) -> list[str]:
    """Returns the tables of one layer of a source."""
    return [t for t in tables(facts, source) if layer(t) == wanted]


def table(facts: Facts, name: str) -> TableFacts:
    """Returns the facts about a table. Raises KeyError for an unknown name."""
    source = name.partition(".")[0]
    if name not in tables(facts, source):
        raise KeyError(name)
    known = facts.lake.sources.get(source)
    declared: Mapping[str, Any] = (
        next((t for t in known.declared.get("tables", ()) if t["name"] == name), {}) if known else {}
    )
    graph = known.lineage if known else None
    there = next((t for t in graph.tables if t.name == name), None) if graph else None
    return TableFacts(
        name=name,
        source=source,
        layer=layer(name),
        description=(there.description if there else "") or declared.get("description", ""),
        grain=(there.key if there else ()) or declared.get("grain", ()),
        columns=[c for c in there.columns if not c.is_internal] if there else (),
        rules=_rules(facts, name, declared),
        info=facts.lake.tables.get(name),
        outdated=facts.lake.outdated.get(name, ""),
        upstreams=graph.upstreams(name) if graph else (),
        downstreams=graph.downstreams(name) if graph else (),
        changes=_changes(facts, name, source),
        chart=next((c for c in known.charts if c.table == name), None) if known else None,
    )


def _rules(facts: Facts, name: str, declared: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Returns the checks of a table; those of a feed's bronze table are the rules of the feed."""
    if declared.get("rules") or layer(name) != "bronze":
        return list(declared.get("rules", ()))
    feed = name.rpartition(".")[2]
    return next((f["rules"] for f in feeds(facts, name.partition(".")[0]) if f["name"] == feed), ())


def _changes(facts: Facts, name: str, source: str) -> list[Change]:
    found = []
    seen: int | None = None
    for batch in reversed([b for b in facts.ledger.batches if b.source == source]):
        version = (batch.result or {}).get("table_versions", {}).get(name)
        if version is None or batch.duplicate_of or not batch.published_at:
            continue
        before = facts.ledger.before.get(batch.batch_id, {}).get(name, seen)
        rows = [t.rows for t in facts.lake.tasks.get(batch.batch_id, ()) if t.table == name]
        if version != before:
            found.append(Change(batch=batch, version=version, rows=max(rows) if rows else None))
        seen = version
    return found[::-1]


def feeds(facts: Facts, source: str) -> Sequence[Mapping[str, Any]]:
    """Returns the declared feeds of a source."""
    known = facts.lake.sources.get(source)
    return known.declared.get("feeds", ()) if known else ()


def last_arrival(facts: Facts, source: str, feed: str) -> Arrival | None:
    """Returns the newest batch with files of a feed that came, among the newest batches of the source."""
    for batch in facts.ledger.by_source.get(source, ()):
        files = [f for f in files_that_came(batch) if f.feed == feed]
        if files:
            counts = [f["rows_read"] for f in (batch.result or {}).get("files", ()) if f["feed"] == feed]
            return Arrival(batch=batch, files=len(files), rows=sum(counts) if counts else None)
    return None


def files_that_came(batch: Batch) -> list[BatchFile]:
    """Returns the data files of a batch without those that it waits for, or waited for in vain."""
    return [f for f in batch.data_files if f.name not in batch.waiting_for]


def settings(facts: Facts, source: str) -> list[Mapping[str, Any]]:
    """Returns the settings of a source with their values; a secret is not shown."""
    known = facts.lake.sources.get(source)
    given = facts.config.settings.sources.get(source, {})
    declared = known.declared.get("settings", ()) if known else ()
    return [
        {**s, "value": "(a secret)" if is_secret_name(s["name"]) else given.get(s["name"], s["default"])}
        for s in declared
    ]


def unit(facts: Facts, source: str, text: str) -> str:
    """Returns the unit of a column, in which `$name` stands for a setting of the source."""
    return Template(text).safe_substitute({s["name"]: s["value"] for s in settings(facts, source)})


def scores(facts: Facts, source: str) -> list[float]:
    """Returns the scores of the newest batches of a source, in the order of their publication."""
    found = [outcome.result(b)["score"] for b in _published(facts, source)]
    return [s for s in found if s is not None]


def last_published(facts: Facts, source: str) -> Batch | None:
    """Returns the batch of a source that was published last, of any date: a correction has an earlier one."""
    return next(reversed(_published(facts, source)), None) or facts.ledger.shown.get(source)


def _published(facts: Facts, source: str) -> list[Batch]:
    found = [b for b in facts.ledger.by_source.get(source, ()) if b.published_at and not b.duplicate_of]
    return sorted(found, key=lambda b: b.published_at or "")


def count(facts: Facts, word: str) -> int:
    """Returns the number of batches on the pages with this outcome."""
    return sum(outcome.outcome(b).word == word for b in facts.ledger.batches)


def counts_by_name(batch: Batch) -> dict[str, Mapping[str, Any]]:
    """Returns the row counts of the files of a batch by their names."""
    return {f["name"]: f for f in (batch.result or {}).get("files", ())}


def compact(count_: int) -> str:
    """Returns a number for a narrow cell: `812`, `3.4k`, `12k`, `2M`."""
    for limit, unit in ((1_000_000, "M"), (1_000, "k")):
        if count_ >= limit:
            short = count_ / limit
            return f"{short:.1f}{unit}" if short < 9.95 and f"{short:.1f}"[-1] != "0" else f"{short:.0f}{unit}"
    return str(count_)


def sum_of(facts: Facts, name: str) -> int:
    """Returns the sum of a count, such as `rows_read`, over the batches on the pages."""
    return sum(outcome.result(b)[name] or 0 for b in facts.ledger.batches)


def grain(lake: LakeFacts, name: str) -> Sequence[str]:
    """Returns the columns that identify a row of a table; none for a table that is not declared."""
    known = lake.sources.get(name.partition(".")[0])
    return next((t["grain"] for t in known.declared.get("tables", ()) if t["name"] == name), ()) if known else ()

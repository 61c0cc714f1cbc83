"""Goes from a figure of a gold table back to the rows and the delivered records behind it, and to its restatements.

It reads published tables and declarations only. The SQL of declarations is Spark's; sqlglot translates it for DuckDB.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.contract import Settings, setting_values
from pipeline.model import Feed, GoldKind, GoldTable, Source, render_sql
from pipeline.reader.delta_files import literal, quote, quote_parts
from pipeline.reader.published_versions import PublishedVersions, UnknownTableError, no_such_table
from pipeline.reader.query import sql
from pipeline.sources import registry

Record = dict[str, Any]

RESTATEMENTS = "ops.restatements"


class UnknownFigureError(LookupError):
    """The table has no such row; the message names the grain and a row that exists."""


@dataclass(kw_only=True)
class Explanation:
    """A row of a gold table with the facts behind it."""

    table: str
    key: dict[str, str]
    figures: Record  # the row as it is published; empty where it is gone
    restatements: list[Record]  # oldest first
    rows_of: str = ""  # the table of `rows`
    rows: list[Record] = field(default_factory=list)  # the key of each row, and the amounts that the row adds
    row_count: int = 0
    records: list[Record] = field(default_factory=list)  # source_file, record, batch_id, raw; newest batch first
    record_count: int = 0
    gap: str = ""  # the reason where the way ends before the files


def why(settings: Settings, state: PublishedVersions, table: str, key: str, limit: int = 20) -> Explanation:
    """Explains one row of a gold table. `key` has the values of the grain: `2026-03-12`, or `order_date=2026-03-12`.

    At most `limit` rows and records are shown. Raises UnknownTableError and UnknownFigureError.
    """
    source, gold = _gold_table(settings, state, table)
    grain = [c for c in gold.grain if not c.startswith("_")]
    chosen = _key(table, grain, key)
    shown = [c.name for c in gold.schema if not c.name.startswith("_")]
    found = sql(
        state, f"SELECT {_names(shown)} FROM {quote_parts(table)} t WHERE {_equals('t', chosen)} LIMIT 1"
    ).records()
    restatements = _restatements(state, table, chosen)
    if not found and not restatements:
        raise UnknownFigureError(_no_such_row(state, table, grain, key))
    explanation = Explanation(table=table, key=chosen, figures=found[0] if found else {}, restatements=restatements)
    _Way(state, source, setting_values(source, settings), limit).follow(explanation, gold)
    return explanation


def _gold_table(settings: Settings, state: PublishedVersions, table: str) -> tuple[Source, GoldTable]:
    name, _, last = table.partition(".gold.")
    loaded = registry.load_sources(settings.source_paths, settings.exclude).sources
    for source in (s for s in loaded if s.name == name):
        for gold in (g for g in source.gold if g.name == last):
            return source, gold
    if table in state.versions:
        raise UnknownTableError(f"{table} is no gold table of a source; `lakegate tables {table}` shows its rows")
    raise UnknownTableError(no_such_table(state, table))


def _key(table: str, grain: Sequence[str], text: str) -> dict[str, str]:
    """Returns the value of each column of the grain. Raises UnknownFigureError."""
    if not grain:
        return {}
    parts = [p.strip() for p in next(csv.reader([text]), [])] if len(grain) > 1 else [text.strip()]
    if all(p.partition("=")[0].strip() in grain for p in parts):
        chosen = {p.partition("=")[0].strip(): p.partition("=")[2].strip() for p in parts}
    else:
        chosen = dict(zip(grain, parts, strict=False)) if len(parts) == len(grain) else {}
    if set(chosen) != set(grain) or not text.strip():
        wanted = ",".join(f"{c}=…" for c in grain)
        problem = f"{text!r} does not name a row of {table}" if text.strip() else f"name a row of {table}"
        raise UnknownFigureError(f"{problem}; a key has this form: {wanted}")
    return chosen


def _restatements(state: PublishedVersions, table: str, key: Mapping[str, str]) -> list[Record]:
    if RESTATEMENTS not in state.versions:
        return []  # an older release wrote the lake
    chosen = " AND ".join(f"r.grain[{literal(c)}] IS NOT DISTINCT FROM {_value(v)}" for c, v in key.items())
    query = f"""
        SELECT r.batch_id, b.batch_date, b.published_at, r.column_name AS column, r.before, r.after,
               list_transform(b.files, f -> f.name) AS files
        FROM ops.restatements r JOIN ops.batches b ON b.batch_id = r.batch_id AND b.kind = 'batch'
        WHERE r.table_name = {literal(table)} AND {chosen or "true"} ORDER BY b.batch_seq, r.column_name"""
    return sql(state, query).records()


def _no_such_row(state: PublishedVersions, table: str, grain: Sequence[str], key: str) -> str:
    rows = (
        sql(state, f"SELECT {_names(grain)} FROM {quote_parts(table)} ORDER BY ALL DESC LIMIT 1").rows if grain else ()
    )
    example = f"; one that exists: {','.join(map(str, rows[0]))}" if rows else "; it has no row yet"
    return f"{table} has no row {key}{example}"


class _Way:
    """The way back from a gold table to its files."""

    def __init__(self, state: PublishedVersions, source: Source, values: Mapping[str, Any], limit: int) -> None:
        self._state = state
        self._source = source
        self._values = values
        self._limit = limit

    def follow(self, explanation: Explanation, gold: GoldTable) -> None:
        """Adds the rows and the records behind a gold row, or the reason why the way ends."""
        condition = self._first_step(gold, explanation.key)
        while condition and (upper := next((g for g in self._source.gold if g.name == gold.upstream), None)):
            rows = f"SELECT * FROM {self._full_name('gold', upper.name)} u WHERE {condition}"
            gold, condition = upper, self._next_step(upper, rows)
        table = self._full_name("silver", gold.upstream)
        if not condition:
            explanation.gap = f"the rows of {gold.name} do not hold the columns by which they come from {gold.upstream}"
            return
        key = self._silver_key(gold.upstream)
        amounts = [] if gold.per else [f"{self._sql(s)} AS {quote(c)}" for c, s in gold.sum.items() if c[0] != "_"]
        chosen = f"FROM {table} u WHERE {condition}"
        explanation.rows_of = f"{self._source.name}.silver.{gold.upstream}"
        explanation.row_count = int(sql(self._state, f"SELECT count(*) {chosen}").rows[0][0])
        shown = ", ".join([*map(quote, key), *amounts])
        explanation.rows = sql(self._state, f"SELECT {shown} {chosen} ORDER BY ALL LIMIT {self._limit}").records()
        self._add_records(explanation, gold.upstream, chosen)

    def _first_step(self, gold: GoldTable, key: Mapping[str, str]) -> str:
        linked = {c: v for c, v in key.items() if c in self._links(gold)}
        return self._with_filter(gold, _equals("u", linked)) if linked or not key else ""

    def _next_step(self, gold: GoldTable, rows: str) -> str:
        links = self._links(gold)
        equal = " AND ".join(f"d.{quote(c)} IS NOT DISTINCT FROM u.{quote(c)}" for c in links)
        return self._with_filter(gold, f"EXISTS (SELECT 1 FROM ({rows}) d WHERE {equal})") if links else ""

    def _links(self, gold: GoldTable) -> list[str]:
        """Returns the columns by which a row of a gold table finds the rows that it is computed from."""
        above = next((g for g in self._source.gold if g.name == gold.upstream), None)
        columns = above.schema if above else self._source.silver_columns(gold.upstream)
        names = {c.name for c in columns}
        chosen = gold.key if gold.kind is GoldKind.RECOMPUTE else gold.grain
        found = [c for c in chosen if c in names]
        return found if gold.kind is not GoldKind.AGGREGATE or len(found) == len(chosen) else []

    def _with_filter(self, gold: GoldTable, condition: str) -> str:
        return f"{condition} AND ({self._sql(gold.where)})" if gold.where else condition

    def _sql(self, text: str) -> str:
        """Returns a Spark expression in the SQL of DuckDB."""
        import sqlglot

        return sqlglot.transpile(render_sql(text, dict(self._values)), read="spark", write="duckdb")[0]

    def _full_name(self, layer: str, table: str) -> str:
        return quote_parts(f"{self._source.name}.{layer}.{table}")

    def _silver_key(self, table: str) -> tuple[str, ...]:
        enriched = next((e for e in self._source.enriched if e.name == table), None)
        if enriched:
            names = {old: new for old, new, _ in self._source.own_columns(enriched)}
            return tuple(names[c] for c in self._source.enriched_key(enriched))
        feed = next((f for f in self._source.feeds if f.name == table), None)
        return feed.primary_key if feed else (self._source.hierarchy(table).id,)

    def _add_records(self, explanation: Explanation, table: str, chosen: str) -> None:
        feed, names = self._feed_of(table)
        stored = {c.name for c in feed.schema}
        links = {old: names.get(old, old) for old in feed.key if old in stored}
        if not links:
            explanation.gap = f"the key of {feed.name} is computed, so that no record of a file is found by it"
            return
        equal = " AND ".join(f"u.{quote(new)} IS NOT DISTINCT FROM b.{quote(old)}" for old, new in links.items())
        query = f"""
            SELECT b._source_file AS source_file, b._record AS record, b._batch_id AS batch_id, b._raw AS raw,
                   count(*) OVER () AS record_count
            FROM {self._full_name("bronze", feed.name)} b WHERE EXISTS (SELECT 1 {chosen} AND {equal})
            ORDER BY batch_id DESC, source_file, record LIMIT {self._limit}"""
        explanation.records = sql(self._state, query).records()
        explanation.record_count = max((r.pop("record_count") for r in explanation.records), default=0)

    def _feed_of(self, table: str) -> tuple[Feed, Mapping[str, str]]:
        """Returns the feed whose rows a silver table has, and the names that its columns have there."""
        for enriched in (e for e in self._source.enriched if e.name == table):
            names = {old: new for old, new, _ in self._source.own_columns(enriched)}
            return self._source.feed(enriched.upstream), names
        for hierarchy in (h for h in self._source.hierarchies if h.name == table):
            return self._source.feed(hierarchy.upstream), {}
        return self._source.feed(table), {}


def _names(columns: Sequence[str]) -> str:
    return ", ".join(map(quote, columns))


def _equals(alias: str, key: Mapping[str, str]) -> str:
    """Returns the condition that the columns have these values, as text; `null` stands for no value."""
    parts = [f"CAST({alias}.{quote(c)} AS VARCHAR) IS NOT DISTINCT FROM {_value(v)}" for c, v in key.items()]
    return " AND ".join(parts) or "true"


def _value(text: str) -> str:
    return "NULL" if text.lower() == "null" else literal(text)

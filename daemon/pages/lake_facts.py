"""Gathers the facts that the lake and the declarations hold. It loads DuckDB and the Delta library."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from daemon.pages.facts import BrokenRule, Chart, LakeFacts, RejectedRow, Restatement, SourceFacts, Task
from daemon.text import one_line
from pipeline import reader
from pipeline.contract import Settings
from pipeline.lineage import Lineage, lineage
from pipeline.model import Severity
from pipeline.reader import ChartKind, ChartPlan, PublishedVersions, QueryResult
from pipeline.reader.describe import describe_sources
from pipeline.reader.outdated import outdated_by_source
from pipeline.sources import registry

SAMPLES = 10  # rejected rows of a batch
POINTS = 400  # of a time line
CARDS = 60  # batches of a card's line
BARS = 50
RESTATEMENTS = 200
OPS = ("ops.batches", "ops.processing_log", "ops.validation_results", "ops.quarantine", "ops.restatements")

Query = Callable[[str], QueryResult]


def gather(settings: Settings, batches: Sequence[str], *, samples: bool = True) -> LakeFacts:
    """Returns the facts about these batches and about all published tables. A lake that cannot be read has a reason."""
    plans = reader.charts(settings)
    try:
        state = reader.published(settings.lake)
        with reader.session(state, [*OPS, *(p.table for some in plans.values() for p in some)]) as query:
            charts = {name: _charts(state, query, some) for name, some in plans.items()}
            ops = _Ops(state=state, query=query, batches=batches)
            return LakeFacts(
                sources=_sources(settings, charts),
                tables={t.name: t for t in reader.tables(state)},
                tasks=_tasks(ops),
                broken=_broken(ops),
                scores=_scores(ops),
                rejected=_rejected(ops) if samples else {},
                restatements=_restatements(ops),
                outdated=_outdated(ops, settings),
                sequences=_sequences(ops),
                dates=_dates(ops),
            )
    except Exception as error:  # noqa: BLE001 - the lake may be damaged or newer; the ledger's facts are still shown
        return LakeFacts(sources=_sources(settings, {}), problem=one_line(error, most=None))


def _sources(settings: Settings, charts: Mapping[str, Sequence[Chart]]) -> dict[str, SourceFacts]:
    found = {}
    for record in describe_sources(settings):
        name = record["name"]
        found[name] = SourceFacts(
            name=name,
            declared=record,
            lineage=_lineage(name, settings.source_paths, settings.exclude),
            charts=charts.get(name, ()),
            problem=record["broken"],
        )
    return found


@cache
def _lineage(name: str, paths: tuple[str, ...], exclude: tuple[str, ...]) -> Lineage:
    # A process loads a source once, so its lineage does not change.
    found = next((s for s in registry.load_sources(paths, exclude).sources if s.name == name), None)
    try:
        return lineage(found) if found else Lineage(source=name, tables=(), edges=())
    except Exception:  # noqa: BLE001 - a declaration that cannot be followed hides its own graph and nothing else
        return Lineage(source=name, tables=(), edges=())


def _outdated(ops: "_Ops", settings: Settings) -> dict[str, str]:
    if OPS[0] not in ops.state.versions:
        return {}
    newest = "SELECT source, arg_max(fingerprint, batch_seq) FROM ops.batches WHERE fingerprint <> '' GROUP BY source"
    stored = {str(source): str(text) for source, text in ops.query(newest).rows}
    found = outdated_by_source(settings, stored)
    return {table: why for tables in found.values() for table, why in (tables or {}).items()}


# ---- figures


def _charts(state: PublishedVersions, query: Query, plans: Sequence[ChartPlan]) -> list[Chart]:
    published = (_published_part(query, p) for p in plans if p.table in state.versions)
    return [_chart(query, p) for p in published if p is not None]


def _published_part(query: Query, plan: ChartPlan) -> ChartPlan | None:
    """Returns the part of a plan whose columns are published; a declaration may be newer than its table."""
    there = {str(row[0]) for row in query(f"DESCRIBE {_dotted(plan.table)}").rows}
    measures = tuple(m for m in plan.measures if m in there)
    if not measures or not there.issuperset((*plan.labels, *filter(None, [plan.time]))):
        return None
    return replace(plan, columns=tuple(c for c in plan.columns if c in there), measures=measures)


def _chart(query: Query, plan: ChartPlan) -> Chart:
    columns = ", ".join(f"t.{quoted(c)}" for c in plan.columns)
    total = f"(SELECT count(*) FROM {_dotted(plan.table)}) AS _total"
    result = query(f"SELECT {columns}, {total} FROM {_dotted(plan.table)} t {_order(plan)}")
    return Chart(
        table=plan.table,
        kind=str(plan.kind),
        description=plan.description,
        labels=plan.labels,
        time=plan.time,
        measures=plan.measures,
        columns=plan.columns,
        types=[c.type for c in result.columns[:-1]],
        units=plan.units,
        rows=[row[:-1] for row in result.rows],
        total=result.rows[0][-1] if result.rows else 0,
    )


def _order(plan: ChartPlan) -> str:
    match plan.kind:
        case ChartKind.CARDS:  # the newest batch first; its id is the grain of the table
            key = quoted(plan.labels[0])
            batches = (
                "(SELECT batch_id, max(batch_seq) AS seq FROM ops.batches WHERE kind = 'batch' GROUP BY batch_id) b"
            )
            return f"JOIN {batches} ON b.batch_id = t.{key} ORDER BY b.seq DESC LIMIT {CARDS}"
        case ChartKind.LINE:
            labels = "".join(f", t.{quoted(c)}" for c in plan.labels)
            return f"ORDER BY t.{quoted(plan.time)} DESC NULLS LAST{labels} LIMIT {POINTS}"
        case _:
            labels = "".join(f", t.{quoted(c)}" for c in plan.labels)
            return f"ORDER BY t.{quoted(plan.measures[0])} DESC NULLS LAST{labels} LIMIT {BARS}"


# ---- the tables of ops


@dataclass(frozen=True, kw_only=True)
class _Ops:
    """The rows of some batches in the tables of ops."""

    state: PublishedVersions
    query: Query
    batches: Sequence[str]

    def rows(self, table: str, fields: str, order: str) -> list[dict[str, Any]]:
        """Returns these fields of the rows of the batches; none for a table that is not published."""
        if table not in self.state.versions or not self.batches:
            return []
        ids = ", ".join("'" + b.replace("'", "''") + "'" for b in self.batches)
        query = f"SELECT batch_id, {fields} FROM {table} WHERE batch_id IN ({ids}) {order}"
        return self.query(query).records()


def _tasks(ops: _Ops) -> dict[str, list[Task]]:
    fields = "task, attempt, status, started_at, finished_at, total_records AS rows"
    order = "ORDER BY attempt, started_at, finished_at"
    return _by_batch(ops.rows("ops.processing_log", fields, order), lambda row: Task(**row))


def _broken(ops: _Ops) -> dict[str, list[BrokenRule]]:
    fields = "feed, rule, severity, action, checked, broken, description"
    order = "AND broken > 0 ORDER BY broken DESC, feed, rule"
    return _by_batch(ops.rows("ops.validation_results", fields, order), lambda row: BrokenRule(**row))


def _sequences(ops: "_Ops") -> dict[str, int]:
    if OPS[0] not in ops.state.versions:
        return {}
    rows = ops.query("SELECT source, max(batch_seq) FROM ops.batches GROUP BY source").rows
    return {str(source): int(seq) for source, seq in rows}


def _dates(ops: "_Ops") -> dict[str, dt.date]:
    if OPS[0] not in ops.state.versions:
        return {}
    newest = "SELECT source, max(batch_date) FROM ops.batches WHERE kind = 'batch' GROUP BY source"
    return {str(source): date for source, date in ops.query(newest).rows if date is not None}


def _restatements(ops: "_Ops") -> list[Restatement]:
    if "ops.restatements" not in ops.state.versions:
        return []
    fields = "batch_id, table_name, figure_date, grain, column_name, before, after"
    newest = f"SELECT {fields} FROM ops.restatements ORDER BY batch_id DESC, figure_date DESC LIMIT {RESTATEMENTS}"
    return [
        Restatement(
            batch_id=r["batch_id"],
            table=r["table_name"],
            figure=", ".join(map(str, (r["grain"] or {}).values())) or str(r["figure_date"]),
            column=r["column_name"],
            before=r["before"],
            after=r["after"],
        )
        for r in ops.query(newest).records()
    ]


def _scores(ops: _Ops) -> dict[str, dict[str, float]]:
    """Returns, by batch and feed, the score of the feed: that of a batch, with the feed's rules alone."""
    fields = "feed, severity, sum(checked) AS checked, sum(broken) AS broken"
    order = "AND action <> 'REPAIR' GROUP BY ALL ORDER BY feed"
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for row in ops.rows("ops.validation_results", fields, order):
        weight = Severity(row["severity"]).weight
        checked, broken = sums.get((row["batch_id"], row["feed"]), (0, 0))
        sums[row["batch_id"], row["feed"]] = (
            checked + weight * int(row["checked"]),
            broken + weight * int(row["broken"]),
        )
    found: dict[str, dict[str, float]] = {}
    for (batch_id, feed), (checked, broken) in sums.items():
        if checked:
            found.setdefault(batch_id, {})[feed] = 100 * (1 - broken / checked)
    return found


def _rejected(ops: _Ops) -> dict[str, list[RejectedRow]]:
    fields = "feed, source_file AS file, record, raw, reasons"
    # One row of each kind first: a file with one mistake in every row must not hide another mistake.
    order = f"QUALIFY row_number() OVER (PARTITION BY batch_id, reasons ORDER BY source_file, record) <= {SAMPLES} "
    order += "ORDER BY row_number() OVER (PARTITION BY batch_id, reasons ORDER BY source_file, record), file, record"
    return _by_batch(ops.rows("ops.quarantine", fields, order), lambda row: RejectedRow(**row), SAMPLES)


def _by_batch(
    rows: Sequence[dict[str, Any]], build: Callable[[dict[str, Any]], Any], most: int | None = None
) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        some = found.setdefault(row.pop("batch_id"), [])
        if most is None or len(some) < most:
            some.append(build(row))
    return found


def quoted(name: str) -> str:
    """Returns a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _dotted(name: str) -> str:
    return ".".join(map(quoted, name.split(".")))

"""Computes the parts of a batch's page: where its time went, and each table with its rows, seconds and versions."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemon.batch import Batch, State
from daemon.pages.facts import Facts, Task
from daemon.pages.formats import utc

FINAL = (State.ARCHIVED, State.REJECTED, State.FAILED)
LOAD = "load_"  # the task that turns the files of a feed into typed rows
WRITES = ("write ", "append ")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of the time of a batch. `kind` is wait, queue, run or archive."""

    kind: str
    label: str
    seconds: float
    start: float  # share of the whole time, 0 to 1
    share: float


@dataclass(frozen=True, kw_only=True)
class TableWork:
    """The work of a batch on one table, or on the files of a feed."""

    name: str  # source.layer.table
    layer: str
    rows: int | None
    seconds: float
    start: float  # share of the attempt, 0 to 1
    share: float
    before: int | None  # version
    after: int | None
    failed: bool
    upstreams: Sequence[int]  # their places in the list of this batch

    @property
    def short(self) -> str:
        return self.name.partition(".")[2]


def segments(history: Sequence[Mapping[str, str]], now: dt.datetime) -> list[Segment]:
    """Returns the parts of the time between the first sign of a batch and its end, oldest first."""
    found: list[tuple[str, str, float]] = []
    attempt = 0
    times = [utc(h["changed_at"]) for h in history]
    for number, change in enumerate(history):
        state = change["state"]
        is_last = number + 1 == len(history)
        if is_last and (state in FINAL):
            break
        seconds = ((now if is_last else times[number + 1]) - times[number]).total_seconds()
        attempt += state == State.RUNNING
        found.append((*_part(state, attempt, is_first_ready=attempt == 0), max(seconds, 0.0)))
    whole = sum(seconds for *_, seconds in found) or 1.0
    parts, start = [], 0.0
    for kind, label, seconds in found:
        parts.append(Segment(kind=kind, label=label, seconds=seconds, start=start, share=seconds / whole))
        start += seconds / whole
    return parts


def _part(state: str, attempt: int, *, is_first_ready: bool) -> tuple[str, str]:
    match state:
        case State.WAITING:
            return "wait", "waits for files"
        case State.READY:
            return "queue", "queued" if is_first_ready else "waits for the next attempt"
        case State.RUNNING:
            return "run", f"attempt {attempt}"
        case State.FAILED | State.REJECTED:
            return "wait", "waits for a person"
        case _:
            return "archive", "archives the files"


def seconds_of(history: Sequence[Mapping[str, str]], now: dt.datetime) -> float | None:
    """Returns the seconds of the attempts of a batch; None before the first one."""
    runs = [s.seconds for s in segments(history, now) if s.kind == "run"]
    return sum(runs) if runs else None


def work(batch: Batch, facts: Facts) -> list[TableWork]:
    """Returns the tables that the newest attempt of a batch worked on, in the order of the lineage."""
    tasks = facts.lake.tasks.get(batch.batch_id, ())
    newest = max((t.attempt for t in tasks), default=0)
    by_table: dict[str, list[Task]] = {}
    for task in tasks:
        if task.attempt == newest and (table := _table_of(task, batch.source)):
            by_table.setdefault(table, []).append(task)
    if not by_table:
        return []
    first = min(t.started_at for some in by_table.values() for t in some)
    whole = (max(t.finished_at for some in by_table.values() for t in some) - first).total_seconds() or 1.0
    upstreams = upstream_tables(facts, batch.source)
    found = []
    tables = sorted(by_table, key=lambda name: _place(name, list(upstreams)))
    for table in tables:
        some = by_table[table]
        start = min(t.started_at for t in some)
        length = (max(t.finished_at for t in some) - start).total_seconds()
        after = (batch.result or {}).get("table_versions", {}).get(table)
        found.append(
            TableWork(
                name=table,
                layer=layer(table),
                rows=_rows(some),
                seconds=sum(t.seconds for t in some),
                start=(start - first).total_seconds() / whole,
                share=length / whole,
                before=facts.ledger.before.get(batch.batch_id, {}).get(table),
                after=after,
                failed=any(t.status == "FAILED" for t in some),
                upstreams=[tables.index(u) for u in _nearest(table, upstreams, set(by_table))],
            )
        )
    return found


def _rows(tasks: Sequence[Task]) -> int:
    """Returns the rows that were written to a table; the tasks before a write count other rows."""
    written = [t.rows for t in tasks if t.task.startswith(WRITES)]
    return max(written or [t.rows for t in tasks])


def _table_of(task: Task, source: str) -> str:
    if task.task.startswith(LOAD):
        return f"{source}.files.{task.task.removeprefix(LOAD)}"
    return task.table


def _nearest(table: str, upstreams: Mapping[str, Sequence[str]], there: set[str]) -> list[str]:
    """Returns the nearest upstream tables that the batch worked on."""
    found: list[str] = []
    seen = {table}
    waiting = list(upstreams.get(table, ()))
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        if name in there:
            found.append(name)
        else:
            waiting += upstreams.get(name, ())
    return found


def upstream_tables(facts: Facts, source: str) -> dict[str, Sequence[str]]:
    """Returns each table of a source with its upstream tables, upstream tables first."""
    known = facts.lake.sources.get(source)
    if known is None:
        return {}
    return {t.name: known.lineage.upstreams(t.name) for t in known.lineage.tables}


def layer(table: str) -> str:
    """Returns the layer of a table: files, bronze, silver, gold or ops."""
    parts = table.split(".")
    return parts[1] if len(parts) == 3 else parts[0]


def _place(name: str, order: Sequence[str]) -> tuple[int, int, str]:
    layers = ("files", "bronze", "silver", "gold")
    place = layers.index(layer(name)) if layer(name) in layers else len(layers)
    return place, order.index(name) if name in order else len(order), name

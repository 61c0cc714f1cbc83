"""The live state as plain values of the ledger: troubles that a person may have to end, and the running batch."""

import datetime as dt
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, NamedTuple


class TroubleKind(StrEnum):
    """The kinds of trouble that Lakegate keeps on record."""

    WORKER = "worker"  # it cannot start
    WORKER_STARTING = "worker_starting"  # its start takes long
    WORKER_DIED = "worker_died"  # it died or was killed, and has ended no batch since
    ENVIRONMENT = "environment"  # a disk, folder or file
    EXTERNAL_COMMIT = "external_commit"  # another program committed to a table
    ALERTS = "alerts"  # a service does not take them
    SERVE = "serve"  # the folder for readers could not be brought up to date


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A condition that keeps Lakegate from work until it ends. At most one of a kind and subject is open."""

    number: int
    kind: str  # one of TroubleKind
    subject: str  # the thing that is in trouble: a table, a folder, a server
    source: str
    batch_id: str
    reason: str
    cure: str  # one sentence: the next step for a person
    since: str
    last_at: str
    tries: int
    ended_at: str | None


@dataclass(frozen=True, kw_only=True)
class RunningTask:
    """A task at work, and since when."""

    name: str
    since: str


@dataclass(frozen=True, kw_only=True)
class Activity:
    """The work on the running batch, as its last sign of life showed it."""

    batch_id: str
    attempt: int
    since: str  # the start of the attempt
    last_at: str
    stage: str = ""  # several stages may overlap: `merge, enrich`
    stage_since: str = ""
    tasks: tuple[RunningTask, ...] = ()
    rows: int = 0  # rows that were read so far


class Figure(NamedTuple):
    """The name of a figure that only the daemon knows."""

    kind: str  # event, watcher, task or worker
    source: str  # of a task, else ''
    name: str  # of a worker the engine; its value is the process id of the worker that was ready last


def engine_of_worker(figures: Mapping[Figure, float], pid: int | None) -> str:
    """Returns the engine that the worker with this process id opened; '' where it has none yet."""
    return next((f.name for f, value in figures.items() if f.kind == "worker" and value == pid), "")


TROUBLE_COLUMNS = tuple(f.name for f in fields(Trouble))


def to_trouble(row: sqlite3.Row) -> Trouble:
    """Returns the trouble of a row."""
    return Trouble(**{name: row[name] for name in TROUBLE_COLUMNS})


def to_activity_columns(activity: Activity) -> dict[str, Any]:
    """Returns the columns of an activity's row."""
    values = {f.name: getattr(activity, f.name) for f in fields(Activity)}
    return values | {"tasks": json.dumps([[t.name, t.since] for t in activity.tasks])}


def to_activity(row: sqlite3.Row) -> Activity:
    """Returns the activity of a row."""
    values = {f.name: row[f.name] for f in fields(Activity)}
    tasks = tuple(RunningTask(name=name, since=since) for name, since in json.loads(values.pop("tasks")))
    return Activity(**values, tasks=tasks)


def seconds_between(start: str, end: str) -> float:
    """Returns the seconds between two RFC 3339 times, at least 0: a clock may have been set back."""
    return max(0.0, (dt.datetime.fromisoformat(end) - dt.datetime.fromisoformat(start)).total_seconds())

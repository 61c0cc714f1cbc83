"""The facts that the pages show, as plain values: they travel from the process that reads the lake to the server."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from daemon.attention import Need
from daemon.batch import Batch
from daemon.config.config import Config
from daemon.ledger.live_state import Activity
from daemon.ledger.rejection_end import RejectionEnd
from pipeline.lineage import Lineage
from pipeline.reader import TableInfo

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of a batch, from `ops.processing_log`."""

    task: str
    attempt: int
    status: str
    started_at: dt.datetime
    finished_at: dt.datetime
    rows: int

    @property
    def table(self) -> str:
        """Returns the table that the task writes; "" for a task of the whole batch."""
        last = self.task.rpartition(" ")[2]
        return last if last.count(".") in (1, 2) else ""

    @property
    def seconds(self) -> float:
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True, kw_only=True)
class BrokenRule:
    """A rule that rows of a batch broke, from `ops.validation_results`."""

    feed: str
    rule: str
    severity: str
    action: str
    checked: int
    broken: int
    description: str

    @property
    def share(self) -> float:
        return self.broken / self.checked if self.checked else 0.0


@dataclass(frozen=True, kw_only=True)
class RejectedRow:
    """A rejected row, from `ops.quarantine`."""

    feed: str
    file: str
    record: int | None
    raw: str
    reasons: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A gold table as figures. `kind` is cards, line or bars; `measures` are its columns of numbers."""

    table: str
    kind: str
    description: str
    labels: Sequence[str]  # the columns of the grain, without the time
    time: str  # the column of a time line, or the date of a card
    measures: Sequence[str]
    columns: Sequence[str]
    types: Sequence[str]
    units: Mapping[str, str]  # column -> its unit
    rows: Sequence[Sequence[Any]]  # of cards and lines the newest first, of bars the largest first
    total: int  # rows of the table


@dataclass(frozen=True, kw_only=True)
class Restatement:
    """A published figure that a later batch changed, from `ops.restatements`."""

    batch_id: str
    table: str
    figure: str  # the values of the grain
    column: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """A source: its declarations, its lineage, and its figures."""

    name: str
    declared: Record
    lineage: Lineage
    charts: Sequence[Chart] = ()
    problem: str = ""  # the reason why its declarations cannot be loaded


@dataclass(frozen=True, kw_only=True)
class LakeFacts:
    """The part of the facts that comes from the lake and the declarations."""

    sources: Mapping[str, SourceFacts]
    tables: Mapping[str, TableInfo] = field(default_factory=dict)
    tasks: Mapping[str, Sequence[Task]] = field(default_factory=dict)  # by batch id, as the values below
    broken: Mapping[str, Sequence[BrokenRule]] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # then by feed
    rejected: Mapping[str, Sequence[RejectedRow]] = field(default_factory=dict)  # some of them
    restatements: Sequence[Restatement] = ()  # the newest, newest first
    outdated: Mapping[str, str] = field(default_factory=dict)  # table -> the reason
    sequences: Mapping[str, int] = field(default_factory=dict)  # source -> number of its newest published batch
    dates: Mapping[str, dt.date] = field(default_factory=dict)  # source -> the newest published date, as gold shows it
    problem: str = ""  # the reason why the lake cannot be read


@dataclass(frozen=True, kw_only=True)
class LedgerFacts:
    """The part of the facts that comes from the ledger."""

    batches: Sequence[Batch]  # the newest, newest first
    total: int  # of all batches
    counts: Mapping[str, int]  # state -> batches
    by_source: Mapping[str, Sequence[Batch]]  # the newest of each source, newest first
    shown: Mapping[str, Batch]  # source -> the published batch of the newest date
    histories: Mapping[str, Sequence[Mapping[str, str]]]
    before: Mapping[str, Mapping[str, int]]  # batch id -> the versions before it
    needs: Sequence[Need]
    activity: Activity | None
    usual_seconds: Mapping[str, float]  # source -> from start to publication
    ends: Mapping[str, RejectionEnd]  # rejected batch -> how it came to need a person no more


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All facts at one moment."""

    at: dt.datetime
    config: Config
    ledger: LedgerFacts
    lake: LakeFacts
    daemon_runs: bool
    daemon_since: dt.datetime | None
    samples: bool = True  # whether raw rows are shown
    is_lake_behind: bool = False  # a newer state of the lake is there, and is read now
    logs: Mapping[str, Sequence[str]] = field(default_factory=dict)  # batch id -> log lines

    def batch(self, batch_id: str) -> Batch | None:
        """Returns a batch that the pages show, or None."""
        return next((b for b in self.ledger.batches if b.batch_id == batch_id), None)

    def full_id(self, text: str) -> str:
        """Returns the id of the one batch on the pages whose id, or the part after its dash, begins so; else `text`."""
        ids = [b.batch_id for b in self.ledger.batches]
        found = [i for i in ids if text and (i.startswith(text) or i.partition("-")[2].startswith(text))]
        return found[0] if len(found) == 1 and text not in ids else text

    @property
    def sources(self) -> list[str]:
        """The sources that the lake or the ledger knows: those with batches first."""
        with_batches = [n for n, some in self.ledger.by_source.items() if some]
        return list(dict.fromkeys((*with_batches, *self.lake.sources)))

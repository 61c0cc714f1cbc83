"""The messages between daemon and worker, and their JSON form.

Every message is a frozen dataclass of plain values. `to_json` and `from_json` carry it over the worker's socket, one
JSON object a line. The class name and the field names are the wire format.
"""

import datetime as dt
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any

from pipeline.contract.settings import Settings


class Outcome(StrEnum):
    """How one attempt ended."""

    PUBLISHED = "published"
    DUPLICATE = "duplicate"  # the manifest holds the same content already; no table was touched
    REJECTED = "rejected"  # a DataError: no retry can help
    FAILED = "failed"  # any other error; `Result.retryable` is true if a retry may help


@dataclass(frozen=True, kw_only=True)
class OrderFile:
    """One claimed file. `name` is the sender's file name, `path` is the private copy under an opaque name.

    `sha256` and `bytes` describe the content, unpacked if the file is packed by its name. `revision` is above
    0 where the ledger knows an earlier file of this name and batch date with other content.
    """

    name: str
    feed: str
    path: str
    sha256: str
    bytes: int
    revision: int = 0


@dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """One batch: the pipeline takes it from claimed files to published tables."""

    batch_id: str
    source: str
    batch_date: dt.date
    files: tuple[OrderFile, ...]
    attempt: int = 1
    final: bool = False  # no retry follows: the pipeline records a failure as its verdict
    revision: int = 0
    snapshot: tuple[str, ...] = ()  # feeds that this batch delivers as full snapshots
    rows: Mapping[str, int] = field(default_factory=dict)  # file name -> number of records that the sender promises
    trigger: str = ""
    received_at: str = ""  # RFC 3339; a batch that was published earlier came before this one


@dataclass(frozen=True, kw_only=True)
class FileCounts:
    """The row counts of one file; read = accepted + rejected, always."""

    name: str
    feed: str
    rows_read: int
    rows_accepted: int
    rows_rejected: int


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """How many rows of a batch a rule checked and how many broke it.

    `examples` holds up to three rejected rows as raw text.
    """

    feed: str
    rule: str
    severity: str
    action: str
    checked: int
    broken: int
    description: str = ""
    examples: tuple[str, ...] = ()
    advice: str = ""  # the next step for a person; results with advice are shown before all others


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A file that was sent again: the batch `of` published other content under this name for the same date."""

    name: str
    revision: int
    of: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """The pipeline's answer to a work order. `reason` is one sentence for a person."""

    batch_id: str
    outcome: Outcome
    reason: str = ""
    retryable: bool = False
    error: str = ""  # stack trace of an unexpected error, for the log
    duplicate_of: str = ""
    batch_seq: int = 0
    published_at: str = ""
    rows_read: int = 0
    rows_accepted: int = 0
    rows_rejected: int = 0
    score: float | None = None
    validation_status: str = ""
    files: tuple[FileCounts, ...] = ()
    findings: tuple[RuleResult, ...] = ()
    corrections: tuple[Correction, ...] = ()
    task_values: Mapping[str, str] = field(default_factory=dict)
    table_versions: Mapping[str, int] = field(default_factory=dict)
    table_rows: Mapping[str, int] = field(default_factory=dict)  # table that the batch wrote -> rows, also removed ones
    seconds: Mapping[str, float] = field(default_factory=dict)  # stage -> seconds
    fingerprint: str = ""  # of the definitions that the published rows follow
    external_commits: tuple[str, ...] = ()  # tables with a commit of another program, because of which it failed
    serves: bool = False  # next the worker shows the batch to readers, and reports serve.finished or serve.failed
    retiring: bool = False  # the worker uses too much memory for another batch; a new worker takes the next order


WAITING = "worker.waiting"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A sign of life: a stage has started or finished, or a table was committed. `event` names the log event.

    WAITING is about no batch: another process writes to the lake, and the worker waits for the lake's lock.
    """

    batch_id: str
    event: str  # stage.started, stage.finished, table.committed, attempt.rolled_back, …
    stage: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The worker's first message: its session is warm, it holds the lake's lock, unfinished attempts are undone."""

    pid: int
    engine: str
    seconds: float
    undone: tuple[str, ...] = ()  # batch ids of the attempts that were undone


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The worker's only message when it cannot start: one sentence with the cause and the next step."""

    reason: str
    retryable: bool = False


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An order to try the declarations of a source on empty tables of their own. No table of the lake is touched."""

    source: str


@dataclass(frozen=True, kw_only=True)
class Tried:
    """The answer to a trial. `mistake` is one sentence about the declaration that would fail every batch, or empty."""

    source: str
    mistake: str = ""
    seconds: float = 0.0


_MESSAGES: Mapping[str, type] = {
    c.__name__: c for c in (Settings, WorkOrder, Result, Progress, Ready, Refused, Trial, Tried)
}


def to_json(message: Any) -> str:
    """Returns a message as one line of JSON, with its class name under `type`."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}, ensure_ascii=True, default=str)


def from_json(line: str) -> Any:
    """Returns the message that `to_json` wrote. Raises ValueError for any other text."""
    document = json.loads(line)
    message = _MESSAGES.get(document.pop("type", ""))
    if message is None:
        raise ValueError(f"not a message of this protocol: {line[:200]}")
    return _build(message, document)


def _build(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    args = typing.get_args(kind)
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{f.name: _build(hints[f.name], value[f.name]) for f in fields(kind) if f.name in value})  # type: ignore[operator]
    if origin is tuple:
        return tuple(_build(args[0], v) for v in value)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _build(next(a for a in args if a is not type(None)), value)
    if kind is dt.date:
        return dt.date.fromisoformat(value)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    return value

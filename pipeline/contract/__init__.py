"""The door between daemon and pipeline: work order, result, messages, settings, catalogue. No Spark, nothing heavy.

Everything here is a frozen dataclass of plain values; `to_json` and `from_json` carry it over the worker's socket, one
object a line.
"""

import datetime as dt
import hashlib
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any, TypeVar

from pipeline.contract.lake_version import NewerLake
from pipeline.contract.lake_version import check as check_lake
from pipeline.contract.packed_files import Digest, UnpackError, digest, plain_name
from pipeline.contract.secrets import hidden, is_secret_name, masked, named_secrets, secrets_of_address, spelled

__all__ = [
    "MESSAGES",
    "CatalogueFeed",
    "CatalogueSource",
    "Correction",
    "Digest",
    "FileCounts",
    "Finding",
    "NewerLake",
    "OrderFile",
    "Outcome",
    "Progress",
    "Quality",
    "Ready",
    "Refused",
    "Result",
    "SettingKey",
    "Settings",
    "Trial",
    "Tried",
    "UnpackError",
    "Waiting",
    "WorkOrder",
    "catalogue",
    "check_lake",
    "digest",
    "from_json",
    "hidden",
    "identity",
    "is_secret_name",
    "masked",
    "named_revision",
    "next_revision",
    "plain_name",
    "secrets_of",
    "stated_revision",
    "to_json",
]

T = TypeVar("T")
REVISION = re.compile(r"_[vr](\d{1,6})(?=[_.\-]|$)")
STREAMING_ENGINE = "spark"  # the one engine that hands the batches of a streaming query to this process


class Outcome(StrEnum):
    """What became of one attempt."""

    PUBLISHED = "published"
    DUPLICATE = "duplicate"  # its content stands in the manifest already; no table was touched
    REJECTED = "rejected"  # a DataError: no retry can help
    FAILED = "failed"  # anything else; `Result.retryable` says whether trying again may help


@dataclass(frozen=True, kw_only=True)
class OrderFile:
    """One claimed file. `name` is what the sender called it, `path` the private copy under an opaque name.

    `sha256` and `bytes` are those of what it holds, unpacked where the name says that it is packed. `revision` is above 0
    where the ledger knows the file as sent again: other content came for this date under this name before.
    """

    name: str
    feed: str
    path: str
    sha256: str
    bytes: int
    revision: int = 0


@dataclass(frozen=True, kw_only=True)
class WorkOrder:
    """One batch for the pipeline to take from claimed files to published tables."""

    batch_id: str
    source: str
    batch_date: dt.date
    files: tuple[OrderFile, ...]
    attempt: int = 1
    final: bool = False  # no retry follows: a failure is the pipeline's verdict and goes on record
    revision: int = 0
    snapshot: tuple[str, ...] = ()  # feeds that this batch delivers whole
    rows: Mapping[str, int] = field(default_factory=dict)  # file name -> number of records that the sender promises
    trigger: str = ""
    received_at: str = ""  # RFC 3339; what was published before that came before this batch


@dataclass(frozen=True, kw_only=True)
class FileCounts:
    """What was read from one file; always read = accepted + rejected."""

    name: str
    feed: str
    rows_read: int
    rows_accepted: int
    rows_rejected: int


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """How a rule fared; where rows were rejected by it, up to three of them as raw text. `advice` says what to do."""

    feed: str
    rule: str
    severity: str
    action: str
    checked: int
    broken: int
    description: str = ""
    examples: tuple[str, ...] = ()
    advice: str = ""  # of a rule that a person has to see to: shown before all others


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A file that was sent again: batch `of` published other content of this name for the same date."""

    name: str
    revision: int
    of: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """The pipeline's answer to a work order. `reason` is one sentence for the person who reads it."""

    batch_id: str
    outcome: Outcome
    reason: str = ""
    retryable: bool = False
    error: str = ""  # stack trace of an unforeseen error, for the log
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
    seconds: Mapping[str, float] = field(default_factory=dict)  # stage -> seconds
    retiring: bool = False  # the worker has grown too large for another batch; the next order is for its successor


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A sign of life: a stage has begun or finished, a commit was made. `event` is the name of the log event."""

    batch_id: str
    event: str  # stage.started, stage.finished, table.committed, attempt.rolled_back, …
    stage: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A sign of life: another process writes to the lake, and the work goes on when that has ended."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The worker's first word: its session is warm, the lake's lock is held, unfinished attempts are undone."""

    pid: int
    engine: str
    seconds: float
    undone: tuple[str, ...] = ()  # batch ids of attempts that were undone


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The worker's only word when it cannot start: one sentence of what is wrong and what to do."""

    reason: str
    retryable: bool = False


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An order to try a source's declarations out on empty tables of their own; no table of the lake is touched."""

    source: str


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a trial: one sentence for what no batch could get past; empty where all went through."""

    source: str
    mistake: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Limits that reject a whole batch, `None` is off, and the times that an event may have.

    Hours count from the end of the batch date; an event before the day `min_event_time` is rejected.
    """

    min_score: float | None = None
    max_rejected_share: float | None = None
    fail_on_high: bool = False
    max_snapshot_shrink: float = 0.5
    max_future_hours: float = 24.0
    min_event_time: dt.date = dt.date(1971, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the pipeline needs of config.toml. Paths are absolute."""

    lake_path: str
    keep_days: int = 30
    engine: str = "spark"  # spark | sail | connect
    master: str = "local[*]"
    driver_memory: str = "2g"
    remote: str = ""
    jars_path: str = ""
    conf: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""  # where Spark's own chatter goes
    quality: Quality = field(default_factory=Quality)
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # [retail] … as in config.toml
    source_paths: tuple[str, ...] = ()  # folders of sources outside of the package
    exclude: tuple[str, ...] = ()  # shipped sources that this lake does not use


@dataclass(frozen=True, kw_only=True)
class SettingKey:
    """A configuration key that a source declares: its section is the source's name."""

    name: str
    default: Any
    meaning: str


@dataclass(frozen=True, kw_only=True)
class CatalogueFeed:
    name: str
    files: str  # glob, compared as text
    is_streamed: bool = False  # its files need no trigger while the source streams


@dataclass(frozen=True, kw_only=True)
class CatalogueSource:
    """A source; one whose folder cannot be used has no feeds, and `broken` says where and why."""

    name: str
    feeds: tuple[CatalogueFeed, ...]
    settings: tuple[SettingKey, ...] = ()
    stream: str = ""  # the key that turns its stream on; empty where it has none
    broken: str = ""


MESSAGES: Mapping[str, type] = {
    c.__name__: c for c in (Settings, WorkOrder, Result, Progress, Waiting, Ready, Refused, Trial, Tried)
}


def catalogue(paths: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> tuple[CatalogueSource, ...]:
    """Tells every source with its feeds, globs and configuration keys, from the declarations alone: `Settings.source_paths`, `.exclude`."""
    from pipeline.sources import registry

    found = registry.found(paths, exclude)
    usable = tuple(
        CatalogueSource(
            name=s.name,
            feeds=tuple(
                CatalogueFeed(name=f.name, files=f.files, is_streamed=s.stream is not None and s.stream.feed == f.name)
                for f in s.feeds
            ),
            settings=tuple(SettingKey(name=k.name, default=k.default, meaning=k.meaning) for k in s.settings),
            stream=s.stream.setting.name if s.stream else "",
        )
        for s in found.sources
    )
    return (*usable, *(CatalogueSource(name=name, feeds=(), broken=sentence) for name, sentence in found.broken))


def streaming(sources: Iterable[CatalogueSource], settings: Settings) -> tuple[CatalogueSource, ...]:
    """Tells the sources whose stream is turned on."""
    return tuple(s for s in sources if s.stream and settings.sources.get(s.name, {}).get(s.stream) is True)


def named_revision(name: str) -> tuple[str, int]:
    """Returns a file's name without its `_v2` or `_r2`, and that number; 0 where the name gives none."""
    found = [int(n) for n in REVISION.findall(name)]
    return REVISION.sub("", plain_name(name)), max(found, default=0)


def stated_revision(name: str, revision: int, names: Iterable[str]) -> int:
    """Returns the revision that is stated for one file of a batch with this revision and these file names.

    A trigger states one for all its files. A revision that comes from names is that of the files which give one.
    """
    from_names = max((named_revision(n)[1] for n in names), default=0)
    return named_revision(name)[1] if revision == from_names else revision


def next_revision(stated: int, sha256: str, known: Iterable[tuple[str, int, int]]) -> int:
    """Returns the revision of a file, from the files of its name that came for its date before: (SHA-256, revision, stated).

    Other content under a known name is a correction and gets the next revision; known content keeps its own. Where a
    revision is stated, one that was stated higher is no earlier file.
    """
    files = list(known)
    equal = [revision for content, revision, _ in files if content == sha256]
    earlier = [] if equal else [revision + 1 for _, revision, of in files if not stated or of <= stated]
    return max(stated, *equal, *earlier, 0)


def secrets_of(
    settings: Settings,
    addresses: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Every secret that settings, further addresses of services and an environment hold, for `hidden`."""
    sources = {f"{name}.{key}": str(v) for name, keys in settings.sources.items() for key, v in keys.items()}
    named = named_secrets({**sources, **settings.conf, "remote": settings.remote, **(environ or {})})
    return spelled([*named, *(secret for address in addresses for secret in secrets_of_address(address))])


def identity(source: str, batch_date: dt.date, files: Iterable[tuple[str, str]]) -> str:
    """Names a batch by its content: source, batch date and the multiset of (feed, SHA-256), whatever the file names."""
    content = json.dumps([source, batch_date.isoformat(), sorted(files)], ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()


def to_json(message: Any) -> str:
    """Writes a message as one line of JSON with its class name under `type`."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}, ensure_ascii=True, default=str)


def from_json(line: str) -> Any:
    """Reads what `to_json` wrote. Raises ValueError for anything else."""
    document = json.loads(line)
    kind = MESSAGES.get(document.pop("type", ""))
    if kind is None:
        raise ValueError(f"not a message of this protocol: {line[:200]}")
    return _build(kind, document)


def _build(kind: Any, value: Any) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
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

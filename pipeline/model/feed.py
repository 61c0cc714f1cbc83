"""Feeds: the files of a source, their columns and rules, and how the silver table stores them."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pipeline.model.columns import VERSION_COLUMNS, Column, Derived, columns_of
from pipeline.model.file_format import Csv, normalise_header
from pipeline.model.rules import Reference, Rule
from pipeline.model.sql import render_sql


@dataclass(frozen=True, kw_only=True)
class Scd2:
    """Stores every version of a key (slowly changing dimension, type 2).

    A version starts at the column `sequence_by`, or at the batch date without one. A change of the columns
    `track_history_except` starts no version. A row for which the SQL `delete_when` is true closes the version of its
    key. Several rows may share key, instant, batch date and revision: the highest by the columns `tie_breaker` counts,
    then the highest by content.
    """

    sequence_by: str = ""
    track_history_except: tuple[str, ...] = ()
    delete_when: str = ""
    tie_breaker: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scd1:
    """Stores one row per key, from the newest batch date (slowly changing dimension, type 1)."""


@dataclass(frozen=True, kw_only=True)
class Append:
    """Stores every distinct row once. The column `_row` identifies a row by the hash of its content.

    The table is ordered by the column `event_time`, so that new rows are compared only with rows of their time. The
    event time must therefore depend on the row alone.
    """

    event_time: str = ""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Stores the newest snapshot. If the file itself lists versions, the column `valid_from` is their start."""

    valid_from: str = ""


StoredAs = Scd2 | Scd1 | Append | Snapshot


@dataclass(frozen=True, kw_only=True)
class Feed:
    """One kind of file of a source. `files` is a glob, compared as text with the bare file name.

    `cleaned` columns are computed from the delivered columns and from `_batch_date` before validation. Keys, event time
    and tracked columns may be cleaned columns. The delivered values are stored too. If the SQL of a cleaned column, a
    derived column or a rule fails for a row, the row is rejected with the reason `value:<column or rule>`.
    """

    name: str
    files: str
    columns: str
    key: tuple[str, ...]
    stored_as: StoredAs
    cleaned: tuple[Derived, ...] = ()
    rules: tuple[Rule, ...] = ()
    references: tuple[Reference, ...] = ()
    derived: tuple[Derived, ...] = ()  # computed as of the row's own day; they never start a version
    optional: tuple[str, ...] = ()  # columns that a file may lack
    snapshot: bool = False  # every delivery lists all existing rows; always true with Snapshot
    description: str = ""
    descriptions: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)  # column -> one sentence
    # The fields below say how files are read, not what tables hold. `repr=False` leaves them out of the fingerprint.
    csv: Csv = field(default=Csv(), repr=False)
    keys_as_delivered: bool = field(default=False, repr=False)  # keys may hold invisible characters and outer blanks
    min_event_time: dt.date | None = field(default=None, repr=False)  # first day of events; None: as in [quality]
    aliases: Mapping[str, str | tuple[str, ...]] = field(
        default_factory=dict, repr=False, hash=False
    )  # column -> its other names in headers

    def __post_init__(self) -> None:
        if isinstance(self.stored_as, Snapshot):
            object.__setattr__(self, "snapshot", True)  # the dataclass is frozen
        tie_breaker = self.stored_as.tie_breaker if isinstance(self.stored_as, Scd2) else ()
        for name in (*self.key, *self.optional, *filter(None, (self.version_start, self.event_time, *tie_breaker))):
            if name not in self.input_names:
                raise ValueError(f"feed {self.name}: {name} is none of its columns")
        if isinstance(self.stored_as, Append):
            self._check_event_time(self.stored_as.event_time)
        # SQL engines compare names without case.
        if {c.name.lower() for c in self.cleaned} & {n.lower() for n in self.names}:
            raise ValueError(f"feed {self.name}: a cleaned column takes the name of another column")
        if self.min_event_time is not None and type(self.min_event_time) is not dt.date:
            raise ValueError(f"feed {self.name}: min_event_time {self.min_event_time!r} is no datetime.date")
        self._check_aliases()

    def _check_event_time(self, event_time: str) -> None:
        if any(c.name == event_time and "_batch_date" in c.sql for c in self.cleaned):
            raise ValueError(
                f"feed {self.name}: {event_time} depends on _batch_date; "
                "the time of a distinct row must follow from the row alone"
            )

    def _check_aliases(self) -> None:
        for name in self.aliases:
            if name not in self.names:
                raise ValueError(f"feed {self.name}: aliases are for {name}, which is none of its columns")
        headers = [normalise_header(header) for _, names in self.headers for header in names]
        ambiguous = sorted({n for n in headers if headers.count(n) > 1})
        if self.aliases and ambiguous:  # for columns of one name without aliases, `check_declarations` has a sentence
            raise ValueError(
                f"feed {self.name}: a header {', '.join(ambiguous)} could be either of two columns; "
                "headers are matched without case"
            )

    @cached_property
    def schema(self) -> tuple[Column, ...]:
        """The delivered columns."""
        return columns_of(self.columns)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the delivered columns."""
        return tuple(c.name for c in self.schema)

    @cached_property
    def headers(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each delivered column with its names in headers: its own name, then its aliases."""
        aliases = {
            name: (others,) if isinstance(others, str) else tuple(others) for name, others in self.aliases.items()
        }
        return tuple((name, (name, *aliases.get(name, ()))) for name in self.names)

    @cached_property
    def input_columns(self) -> tuple[Column, ...]:
        """The columns after staging: the delivered columns, then the cleaned columns."""
        return (*self.schema, *(Column(p.name, p.type) for p in self.cleaned))

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """The names of `input_columns`."""
        return tuple(c.name for c in self.input_columns)

    @cached_property
    def key_columns(self) -> tuple[str, ...]:
        """The delivered columns that the key consists of or is cleaned from."""
        needed = {name.lower() for name in self.key}
        for _ in self.cleaned:  # a cleaned column may be computed from another: repeat until every chain is followed
            sql = [c.sql.lower() for c in self.cleaned if c.name.lower() in needed]
            needed |= {word for text in sql for word in re.findall(r"\w+", text)}
        return tuple(name for name in self.names if name.lower() in needed)

    @cached_property
    def key_texts(self) -> frozenset[str]:
        """The text columns among `key_columns`; empty with `keys_as_delivered`."""
        texts = () if self.keys_as_delivered else (c.name for c in self.schema if c.type == "STRING")
        return frozenset(name for name in texts if name in self.key_columns)

    @cached_property
    def tracked(self) -> tuple[str, ...]:
        """The columns whose change starts a version: all but the key, the event time and the untracked columns."""
        if not isinstance(self.stored_as, Scd2):
            return tuple(n for n in self.input_names if n not in self.key)
        return tuple(
            n
            for n in self.input_names
            if n not in (*self.key, *self.stored_as.track_history_except, self.stored_as.sequence_by)
        )

    @property
    def version_start(self) -> str:
        """The column with the start of a version; empty if a version starts at the batch date or if there are none."""
        match self.stored_as:
            case Scd2(sequence_by=start) | Snapshot(valid_from=start):
                return start
        return ""

    @property
    def delete_condition(self) -> str:
        """The SQL condition of the rows that delete their key; empty if no row does."""
        return self.stored_as.delete_when if isinstance(self.stored_as, Scd2) else ""

    @property
    def event_time(self) -> str:
        """The column with the time of a row's event; empty if the batch date is the time."""
        match self.stored_as:
            case Scd2(sequence_by=time) | Append(event_time=time):
                return time
        return ""

    @property
    def event_time_sql(self) -> str:
        """SQL for the instant of a row: its event time, or the start of its batch date."""
        return f"CAST({self.event_time or '_batch_date'} AS TIMESTAMP)"

    @property
    def valid_from_sql(self) -> str:
        """SQL for the instant at which a row's version starts."""
        return f"CAST({self.version_start or '_event_at'} AS TIMESTAMP)"

    @property
    def has_versions(self) -> bool:
        """Whether a row of the silver table is a version of a key, with a start and an end."""
        return isinstance(self.stored_as, Scd2) or (
            isinstance(self.stored_as, Snapshot) and bool(self.stored_as.valid_from)
        )

    @cached_property
    def silver(self) -> tuple[Column, ...]:
        """The columns of the silver table; `_event_at` is the time of the newest event in the row.

        The table of a Snapshot feed has no columns for time, batch date and revision. All its rows come from the newest
        delivery, so every delivery would change every row.
        """
        columns = [
            *(Column(c.name, c.type) for c in self.input_columns),
            *(Column(d.name, d.type) for d in self.derived),
        ]
        if self.has_versions:
            columns += columns_of(VERSION_COLUMNS)
        if isinstance(self.stored_as, Append):
            columns += columns_of("_row STRING")
        if isinstance(self.stored_as, Snapshot):
            return tuple(columns)
        return (*columns, *columns_of("_event_at TIMESTAMP, _batch_date DATE, _revision INT"))

    @cached_property
    def primary_key(self) -> tuple[str, ...]:
        """The columns that identify a row of the silver table."""
        return (*self.key, "effective_from") if self.has_versions else self.current_key

    @cached_property
    def current_key(self) -> tuple[str, ...]:
        """The columns that identify a current row."""
        return (*filter(None, [self.event_time]), "_row") if isinstance(self.stored_as, Append) else self.key

    def with_settings(self, values: Mapping[str, Any]) -> "Feed":
        """Returns the feed with the source's settings filled into the SQL of its cleaned and derived columns."""
        cleaned, derived = (
            tuple(replace(d, sql=render_sql(d.sql, values)) for d in columns)
            for columns in (self.cleaned, self.derived)
        )
        return replace(self, cleaned=cleaned, derived=derived)

"""Feeds: the files of a source, their columns and rules, and how the silver table stores them."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pipeline.model.columns import VERSION, Column, Derived, columns_of
from pipeline.model.file_format import Csv, normalise_header
from pipeline.model.rules import Reference, Rule
from pipeline.model.sql import render_sql


@dataclass(frozen=True, kw_only=True)
class Scd2:
    """Every version of a key. `delete_when` is SQL over the row; without `effective_from` a version starts at the batch date.

    Of several rows of one key, instant, batch date and revision the highest by `newest_by` stands, then the highest by content.
    """

    sequence_by: str = ""
    track_history_except: tuple[str, ...] = ()
    delete_when: str = ""
    tie_breaker: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scd1:
    """Per key the row of the newest batch date."""


@dataclass(frozen=True, kw_only=True)
class Append:
    """The set of distinct rows, each named by the hash of its content in the column `_row`.

    They lie in the order of the column `at`, their event time, so that news are looked for among rows of their time: it must
    follow from the row alone.
    """

    event_time: str = ""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The newest whole delivery is the table; where the file lists versions, they follow its column `starts`."""

    valid_from: str = ""


StoredAs = Scd2 | Scd1 | Append | Snapshot


@dataclass(frozen=True, kw_only=True)
class Feed:
    """One kind of file of a source. `files` is a glob, compared as text with the bare file name.

    `cleaned` columns are computed from the delivered ones, and from `_batch_date`, before anything is judged: cleaned values,
    which may be key, event time or tracked like any other. The delivered values stay beside them. A row of which the
    SQL of a cleaned or derived column or of a rule cannot be computed is rejected for `value:<column or rule>`.
    """

    name: str
    files: str
    columns: str
    key: tuple[str, ...]
    stored_as: StoredAs
    cleaned: tuple[Derived, ...] = ()
    rules: tuple[Rule, ...] = ()
    references: tuple[Reference, ...] = ()
    derived: tuple[Derived, ...] = ()  # as of the row's own day; never tracked
    optional: tuple[str, ...] = ()  # columns that a file may lack
    snapshot: bool = False  # every delivery lists all that exists; a feed stored as Snapshot needs no word of it
    description: str = ""
    # How files are written, and what of them is taken, is no part of what the tables hold, and these are no part of the
    # definition that is fingerprinted.
    csv: Csv = field(default=Csv(), repr=False)
    keys_as_delivered: bool = field(default=False, repr=False)  # keys may hold invisible signs, and blanks around them
    min_event_time: dt.date | None = field(default=None, repr=False)  # first day of its events; None: as [quality] says
    aliases: Mapping[str, str | tuple[str, ...]] = field(
        default_factory=dict, repr=False, hash=False
    )  # column -> what headers may call it

    def __post_init__(self) -> None:
        if isinstance(self.stored_as, Snapshot):  # its deliveries are whole by their nature
            object.__setattr__(self, "snapshot", True)
        tie_breaker = self.stored_as.tie_breaker if isinstance(self.stored_as, Scd2) else ()
        for name in (*self.key, *self.optional, *filter(None, (self.version_start, self.event_time, *tie_breaker))):
            if name not in self.input_names:
                raise ValueError(f"feed {self.name}: {name} is none of its columns")
        if isinstance(self.stored_as, Append) and any(
            p.name == self.stored_as.event_time and "_batch_date" in p.sql for p in self.cleaned
        ):
            raise ValueError(
                f"feed {self.name}: {self.stored_as.event_time} depends on _batch_date; the time of a distinct row must follow from the row alone"
            )
        if {p.name.lower() for p in self.cleaned} & {
            n.lower() for n in self.names
        }:  # engines do not tell small letters from large ones
            raise ValueError(f"feed {self.name}: a cleaned column takes the name of another column")
        if self.min_event_time is not None and type(self.min_event_time) is not dt.date:
            raise ValueError(f"feed {self.name}: min_event_time {self.min_event_time!r} is no datetime.date")
        self._check_aliases()

    def _check_aliases(self) -> None:
        for name in self.aliases:
            if name not in self.names:
                raise ValueError(f"feed {self.name}: aliases are for {name}, which is none of its columns")
        spelt = [normalise_header(header) for _, headers in self.headers for header in headers]
        doubled = sorted({n for n in spelt if spelt.count(n) > 1})
        if self.aliases and doubled:  # two columns of one name have a sentence of their own
            raise ValueError(
                f"feed {self.name}: a header {', '.join(doubled)} could be either of two columns; headers are matched without case"
            )

    @cached_property
    def schema(self) -> tuple[Column, ...]:
        """The delivered columns."""
        return columns_of(self.columns)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.schema)

    @cached_property
    def headers(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each delivered column with the names that a header may have for it: its own, then its aliases."""
        given = {name: (others,) if isinstance(others, str) else tuple(others) for name, others in self.aliases.items()}
        return tuple((name, (name, *given.get(name, ()))) for name in self.names)

    @cached_property
    def input_columns(self) -> tuple[Column, ...]:
        """The columns that everything after staging sees: the delivered, then the prepared."""
        return (*self.schema, *(Column(p.name, p.type) for p in self.cleaned))

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.input_columns)

    @cached_property
    def key_columns(self) -> tuple[str, ...]:
        """The delivered columns that keys are, or are prepared from."""
        needed = {name.lower() for name in self.key}
        for _ in self.cleaned:  # one may be computed from another
            sql = [p.sql.lower() for p in self.cleaned if p.name.lower() in needed]
            needed |= {word for text in sql for word in re.findall(r"\w+", text)}
        return tuple(name for name in self.names if name.lower() in needed)

    @cached_property
    def key_texts(self) -> frozenset[str]:
        """Those of them that are text; none where `keys_as_delivered`."""
        texts = () if self.keys_as_delivered else (c.name for c in self.schema if c.type == "STRING")
        return frozenset(name for name in texts if name in self.key_columns)

    @cached_property
    def tracked(self) -> tuple[str, ...]:
        """The columns whose change opens a version: all but the key, the untracked and the event time's."""
        if not isinstance(self.stored_as, Scd2):
            return tuple(n for n in self.input_names if n not in self.key)
        return tuple(
            n
            for n in self.input_names
            if n not in (*self.key, *self.stored_as.track_history_except, self.stored_as.sequence_by)
        )

    @property
    def version_start(self) -> str:
        """The column that a version starts at; empty where the batch date is it, and where there are no versions."""
        match self.stored_as:
            case Scd2(sequence_by=starts) | Snapshot(valid_from=starts):
                return starts
        return ""

    @property
    def delete_condition(self) -> str:
        """SQL that tells the rows which delete their key; empty where none does."""
        return self.stored_as.delete_when if isinstance(self.stored_as, Scd2) else ""

    @property
    def event_time(self) -> str:
        """The column that says when a row happened; empty where the batch date does."""
        return (
            self.stored_as.sequence_by
            if isinstance(self.stored_as, Scd2)
            else self.stored_as.event_time
            if isinstance(self.stored_as, Append)
            else ""
        )

    @property
    def event_time_sql(self) -> str:
        """SQL for a row's instant: its event time, or the start of its batch date."""
        return f"CAST({self.event_time or '_batch_date'} AS TIMESTAMP)"

    @property
    def valid_from_sql(self) -> str:
        """SQL for the instant from which a row's version holds."""
        return f"CAST({self.version_start or '_event_at'} AS TIMESTAMP)"

    @property
    def has_versions(self) -> bool:
        return isinstance(self.stored_as, Scd2) or (
            isinstance(self.stored_as, Snapshot) and bool(self.stored_as.valid_from)
        )

    @cached_property
    def silver(self) -> tuple[Column, ...]:
        """The columns of the silver table; `_event_at` is the time of the newest event that the row shows.

        All rows of a Replace are the newest delivery's: saying so in each would change them all with every delivery.
        """
        columns = [
            *(Column(c.name, c.type) for c in self.input_columns),
            *(Column(d.name, d.type) for d in self.derived),
        ]
        if self.has_versions:
            columns += columns_of(VERSION)
        if isinstance(self.stored_as, Append):
            columns += columns_of("_row STRING")
        if isinstance(self.stored_as, Snapshot):
            return tuple(columns)
        return (*columns, *columns_of("_event_at TIMESTAMP, _batch_date DATE, _revision INT"))

    @cached_property
    def primary_key(self) -> tuple[str, ...]:
        return (*self.key, "effective_from") if self.has_versions else self.current_key

    @cached_property
    def current_key(self) -> tuple[str, ...]:
        """What names a current row."""
        return (*filter(None, [self.event_time]), "_row") if isinstance(self.stored_as, Append) else self.key

    def with_settings(self, values: Mapping[str, Any]) -> "Feed":
        """Fills the source's settings into the SQL of prepared and derived columns."""
        cleaned, derived = (
            tuple(replace(d, sql=render_sql(d.sql, values)) for d in columns)
            for columns in (self.cleaned, self.derived)
        )
        return replace(self, cleaned=cleaned, derived=derived)

"""The vocabulary in which a source is declared: feeds, rules, history, enriched and gold tables. Data only, no Spark.

SQL text may name settings of the source (`$profit_margin`), the batch date (`$batch_date`) and the newest published batch
date (`$as_of`); they are filled in as literals.
"""

import codecs
import datetime as dt
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from string import Template
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pipeline.model.date_patterns import date_pattern

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class Severity(StrEnum):
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"

    @property
    def weight(self) -> int:
        return {"HIGH": 10, "MEDIUM": 3, "LOW": 1}[self.value]


class Action(StrEnum):
    REJECT = "REJECT"  # the row goes to quarantine
    WARN = "WARN"  # the row is accepted and counted
    REPAIR = "REPAIR"  # the row is accepted with the value that a cleaned column puts right, and counted; it does not weigh in the score


HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW
REJECT, WARN, REPAIR = Action.REJECT, Action.WARN, Action.REPAIR

TYPES = re.compile(r"STRING|INT|BIGINT|BOOLEAN|DATE|TIMESTAMP|DECIMAL\(\d+,\d+\)")
VERSION = "effective_from TIMESTAMP, effective_to TIMESTAMP, is_current BOOLEAN"
_COLUMN = re.compile(r"\s*(\w+)\s+([A-Z]+(?:\(\s*\d+\s*,\s*\d+\s*\))?)(\s+NOT NULL)?\s*(?:,|\Z)")


@dataclass(frozen=True)
class Column:
    """One column: its name, its SQL type (one of `TYPES`), and whether a row without it is rejected."""

    name: str
    type: str
    required: bool = False


def columns_of(ddl: str) -> tuple[Column, ...]:
    """Reads `name TYPE [NOT NULL], …`. Raises ValueError for what it does not understand, naming it."""
    columns, at = [], 0
    while at < len(ddl.rstrip()):
        found = _COLUMN.match(ddl, at)
        if not found:
            raise ValueError(f"not a column: {ddl[at : at + 60].strip()!r}")
        name, kind = found[1], found[2].replace(" ", "")
        if not TYPES.fullmatch(kind):
            raise ValueError(
                f"{name}: {kind} is not a type of this lake; there are STRING INT BIGINT BOOLEAN DATE TIMESTAMP DECIMAL(p,s)"
            )
        columns.append(Column(name, kind, bool(found[3])))
        at = found.end()
    return tuple(columns)


@dataclass(frozen=True)
class Derived:
    """A column computed by SQL from the columns before it."""

    name: str
    type: str
    sql: str


def _check_word(rule: str, name: str, value: object, words: type[StrEnum]) -> None:
    # A text that looks alike is compared by identity further on, and would mean another word in silence.
    if not isinstance(value, words):
        names = ", ".join(words.__members__)
        # A ValueError, as of every declaration that cannot stand: the loader prints its sentence without the class.
        raise ValueError(f"rule {rule}: {name} is {value!r}; import one of {names} from pipeline.model")  # noqa: TRY004


@dataclass(frozen=True)
class Rule:
    """SQL that holds for a good row; NULL breaks it; rows outside `where` are not checked."""

    name: str
    condition: str
    severity: Severity = field(default=MEDIUM, kw_only=True)
    action: Action = field(default=WARN, kw_only=True)
    where: str = field(default="", kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        _check_word(self.name, "severity", self.severity, Severity)
        _check_word(self.name, "action", self.action, Action)


@dataclass(frozen=True)
class Reference:
    """The rule that the other feed knows the values of these columns, in this batch or in the lake."""

    name: str
    feed: str
    on: tuple[str, ...]
    severity: Severity = field(default=HIGH, kw_only=True)

    def __post_init__(self) -> None:
        _check_word(self.name, "severity", self.severity, Severity)

    @property
    def description(self) -> str:
        return f"{self.feed} knows {', '.join(self.on)}"


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


def normalise_header(header: str) -> str:
    """The form in which names of columns are compared: trimmed, and without case."""
    return header.strip().casefold()


@dataclass(frozen=True, kw_only=True)
class Csv:
    """How the sender writes files: declared, never guessed. What does not fit is refused with what to set.

    Formats are patterns of fixed width in the letters `yyyy MM dd HH mm ss SSS`. Without `timestamp_format` a timestamp is
    `yyyy-MM-dd HH:mm:ss`, or with `T`, with up to six decimals and `Z` or `±hh:mm`. `time_zone` is that of times which name
    none: one that the clocks skip does not fit, of one that they repeat the first is meant.
    """

    delimiter: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    date_format: str = "yyyy-MM-dd"
    timestamp_format: str = ""
    time_zone: str = "UTC"
    trim: bool = False  # blanks around a value are none of it

    def __post_init__(self) -> None:
        if (
            len(self.delimiter) != 1
            or not self.delimiter.isascii()
            or self.delimiter.isalnum()
            or self.delimiter in '"\r\n'
        ):
            raise ValueError(
                f"delimiter {self.delimiter!r} is not one ASCII sign other than a letter, digit, quote or line end"
            )
        if self.decimal not in (".", ","):
            raise ValueError(f"decimal {self.decimal!r} is neither a point nor a comma")
        _check_encoding(self.encoding)
        if date_pattern(self.date_format).has_time:
            raise ValueError(f"date_format {self.date_format!r} holds a time")
        if self.timestamp_format:
            date_pattern(self.timestamp_format)
        try:
            ZoneInfo(self.time_zone)
        except (ValueError, OSError, LookupError):
            raise ValueError(f"time_zone {self.time_zone!r} is no time zone; names are such as Europe/Berlin") from None


def _check_encoding(name: str) -> None:
    text = 'id;"1,5"\r\n'
    try:
        if codecs.lookup(name).incrementaldecoder and text.encode(name).decode(name) == text:
            return
    except (LookupError, ValueError):
        pass
    raise ValueError(f"encoding {name!r} is no encoding of texts; names are such as utf-8, cp1252 or utf-16")


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


@dataclass(frozen=True, kw_only=True)
class PointInTimeJoin:
    """Joins the version of a feed that is valid at the row's instant.

    `older="first"`: a row older than the first version takes the first; `"none"`: it takes none. Only versions for which
    `where` holds take part. `give` are columns computed from the version and take the place of the feed's own. Where several
    keys of the feed share the joined columns (stock of a product in many warehouses), `totals` are aggregates over their
    versions of that instant, instead.

    The start of the version becomes the column `_<prefix>from`; checks of the table may also name its end, `_<prefix>to`.
    """

    feed: str
    on: tuple[str, ...]
    prefix: str
    before_first: str = "first"
    where: str = ""
    select: tuple[Derived, ...] = ()
    aggregates: tuple[Derived, ...] = ()
    columns: tuple[str, ...] = ()  # of the feed's, only these; none named: all


@dataclass(frozen=True, kw_only=True)
class LatestJoin:
    """Joins, of the feed's current rows, the last by the columns `by`, and their number as the column `count`.

    Where `on` is the feed's key there is one at most: then neither is needed.
    """

    feed: str
    on: tuple[str, ...]
    prefix: str
    order_by: tuple[str, ...] = ()
    count: str = ""
    columns: tuple[str, ...] = ()  # of the feed's, only these; none named: all


@dataclass(frozen=True, kw_only=True)
class HierarchyJoin:
    """Joins the node of a tree, as the tree is now, that the column `on` names; an earlier partner may have given that column.

    `parent` and `root` are the columns to which the node's parent and root go.
    """

    hierarchy: str
    on: str
    parent: str
    root: str


Join = PointInTimeJoin | LatestJoin | HierarchyJoin
NOW = "TIMESTAMP '9999-12-31 23:59:59.999999'"  # for rows that see the newest of everything: no instant is later


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """A silver table: each current row of the feed `of` as a node, with its `root`. The columns `id` and `parent` are the feed's.

    A node without a parent is a root, and so is one whose parent nobody lists, which the rule `parent_is_listed` counts.
    Nodes on a circle, and those that hang on one, have no root; the rule `node_has_a_root` counts them.
    """

    name: str
    upstream: str
    id: str
    parent: str
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Enriched:
    """A silver table: each current row of the feed `of`, joined to the world of the instant `at`, with columns derived from both.

    With `versions` it has every version of a row, not only the current one. Where a derived column takes the name of one of
    the row's own, that one takes the `prefix`. Rules judge the batch's own rows. Checks must hold of every row that is
    restated: one that fails rejects the batch.
    """

    name: str
    upstream: str
    joins: tuple[Join, ...]
    as_of: str = NOW
    versions: bool = False
    prefix: str = ""
    derived: tuple[Derived, ...] = ()
    rules: tuple[Rule, ...] = ()
    checks: tuple[Rule, ...] = ()
    description: str = ""


class GoldKind(StrEnum):
    """How a gold table follows what it is made of."""

    AGGREGATE = "aggregate"  # sums, counts, lowest and highest per grain, kept by difference
    SELECT_ROWS = "select_rows"  # a row for a row
    RECOMPUTE = "recompute"  # recomputed from all rows of a touched key


Build = Callable[["DataFrame"], "DataFrame"]


@dataclass(frozen=True, kw_only=True)
class GoldTable:
    """A gold table: what it follows (`of`), its grain, its columns, how it is kept, and what must hold of it.

    `sums` give SQL for what one row adds. With `per` it is SQL of an aggregate, for what all rows of one visitor, day or whatever these
    columns tell apart add together: then the rows of touched ones are looked up, no others.
    """

    name: str
    kind: GoldKind
    upstream: str
    grain: tuple[str, ...]
    columns: str
    build: Build
    checks: tuple[Rule, ...] = ()
    where: str = ""
    sum: Mapping[str, str] = field(default_factory=dict)  # column -> SQL
    per: tuple[str, ...] = ()
    count_distinct: Mapping[str, str] = field(default_factory=dict)  # column -> SQL of the member
    min: Mapping[str, str] = field(default_factory=dict)
    max: Mapping[str, str] = field(default_factory=dict)
    dimension: str = ""  # a feed or enriched table whose current row joins by the grain
    as_of_columns: Mapping[str, str] = field(default_factory=dict)  # column -> SQL that depends on $as_of
    row_per_batch: bool = False  # one cumulative row per batch
    key: tuple[str, ...] = ()  # of KEYS: what is recomputed together; none: the whole table
    description: str = ""

    def __post_init__(self) -> None:
        if self.per and self.kind is not GoldKind.AGGREGATE:
            raise ValueError(f"gold table {self.name}: `per` is for totals; a table of {self.kind} has no sums")
        types = {c.name: c.type for c in self.schema}
        for name in (*self.min, *self.max):
            if types[name] not in ("STRING", "DATE", "TIMESTAMP"):
                # Members are kept as text, which orders dates and times as they are, but numbers not.
                raise ValueError(
                    f"gold table {self.name}: {name} is {types[name]}; lowest and highest are for STRING, DATE and TIMESTAMP"
                )

    @cached_property
    def schema(self) -> tuple[Column, ...]:
        return columns_of(self.columns)

    @property
    def members(self) -> Mapping[str, str]:
        """The columns that count or compare members of a group, each with the SQL of a member."""
        return {**self.count_distinct, **self.min, **self.max}


def aggregate(**declared: Any) -> Callable[[Build], GoldTable]:
    """Declares a gold table of sums, counts and extremes per grain, kept by difference; the function finishes its rows."""
    return _gold(GoldKind.AGGREGATE, declared)


def select_rows(**declared: Any) -> Callable[[Build], GoldTable]:
    """Declares a gold table that has a row for each row of what it follows; the function makes one of the other."""
    return _gold(GoldKind.SELECT_ROWS, declared)


def recompute(**declared: Any) -> Callable[[Build], GoldTable]:
    """Declares a gold table that is recomputed, for each touched `key`, from all rows of that key."""
    return _gold(GoldKind.RECOMPUTE, declared)


def _gold(kind: GoldKind, declared: Mapping[str, Any]) -> Callable[[Build], GoldTable]:
    def declare(build: Build) -> GoldTable:
        return GoldTable(
            name=build.__name__, kind=kind, build=build, description=(build.__doc__ or "").strip(), **declared
        )

    return declare


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A key of the source's section in config.toml, filled into SQL text as `$name`."""

    name: str
    default: Any
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Lets the files of a feed come without triggers and through a streaming query, where the setting is true."""

    feed: str
    setting: Setting


@dataclass(frozen=True, kw_only=True)
class Source:
    """A system that delivers files: its feeds, trees, enriched tables, settings, and the module that declares its gold tables."""

    name: str
    feeds: tuple[Feed, ...]
    hierarchies: tuple[Hierarchy, ...] = ()
    enriched: tuple[Enriched, ...] = ()
    gold_module: str = ""
    settings: tuple[Setting, ...] = ()
    stream: Stream | None = None  # its setting is one of `settings`

    def has_versions(self, table: str) -> bool:
        """Tells whether the rows of a feed or enriched table are versions, of which some hold no more."""
        return any(e.versions for e in self.enriched if e.name == table) or any(
            f.has_versions for f in self.feeds if f.name == table
        )

    def feed(self, name: str) -> Feed:
        return next(f for f in self.feeds if f.name == name)

    def hierarchy(self, name: str) -> Hierarchy:
        return next(t for t in self.hierarchies if t.name == name)

    def hierarchy_columns(self, hierarchy: Hierarchy) -> tuple[Column, ...]:
        """The columns of a tree's table: id, parent and `root`."""
        types = {c.name: c.type for c in self.feed(hierarchy.upstream).input_columns}
        return (
            Column(hierarchy.id, types[hierarchy.id]),
            Column(hierarchy.parent, types[hierarchy.parent]),
            Column("root", types[hierarchy.id]),
        )

    @cached_property
    def gold(self) -> tuple[GoldTable, ...]:
        """The gold tables, each after the one that it follows."""
        if not self.gold_module:
            return ()
        module = importlib.import_module(self.gold_module)
        waiting = [t for t in vars(module).values() if isinstance(t, GoldTable)]
        # A gold table that takes a silver table's name is told by `flaws`, not taken for a table that follows itself.
        silver = {*(f.name for f in self.feeds), *(t.name for t in self.hierarchies), *(e.name for e in self.enriched)}
        names, ordered = {t.name for t in waiting} - silver, list[GoldTable]()
        while waiting:
            ready = [t for t in waiting if t.upstream not in names or t.upstream in {o.name for o in ordered}]
            if not ready:
                raise ValueError(
                    f"{self.gold_module}: {', '.join(t.name for t in waiting)} follow each other in a circle"
                )
            ordered += ready
            waiting = [t for t in waiting if t not in ready]
        return tuple(ordered)

    def enriched_columns(self, table: Enriched) -> tuple[Column, ...]:
        """The columns of an enriched table: the row's own, each partner's (see `partner_columns`), the derived."""
        own = [Column(new, kind) for _, new, kind in self.own_columns(table)]
        joined = [Column(new, kind) for p in table.joins for _, new, kind in self.join_columns(table, p)]
        return (*own, *joined, *(Column(d.name, d.type) for d in table.derived))

    def silver_columns(self, table: str) -> tuple[Column, ...]:
        """The columns of a silver table: a feed's, a tree's or an enriched one."""
        enriched, hierarchy = (
            next((e for e in self.enriched if e.name == table), None),
            next((t for t in self.hierarchies if t.name == table), None),
        )
        return (
            self.enriched_columns(enriched)
            if enriched
            else self.hierarchy_columns(hierarchy)
            if hierarchy
            else self.feed(table).silver
        )

    def dimension_columns(self, table: GoldTable) -> tuple[str, ...]:
        """What a gold table takes of its attributes: the grain, and every column that is not its own."""
        own = {*table.sum, *table.members}
        given = {c.name for c in self.silver_columns(table.dimension)}
        return tuple(dict.fromkeys((*table.grain, *(c.name for c in table.schema if c.name in given - own))))

    def enriched_key(self, table: Enriched) -> tuple[str, ...]:
        """The columns that tell the rows of an enriched table apart."""
        feed = self.feed(table.upstream)
        return feed.primary_key if table.versions else feed.current_key

    def own_columns(self, table: Enriched) -> tuple[tuple[str, str, str], ...]:
        """What the row itself gives: (its column, the name here, type)."""
        feed, derived = self.feed(table.upstream), {d.name.lower() for d in table.derived}
        own = [
            *feed.input_columns,
            *(Column(d.name, d.type) for d in feed.derived),
            *(columns_of(VERSION) if table.versions else ()),
        ]
        own += [c for c in feed.silver if c.name in feed.current_key and c.name not in feed.input_names]
        return tuple((c.name, table.prefix + c.name if c.name.lower() in derived else c.name, c.type) for c in own)

    def join_columns(self, table: Enriched, join: Join) -> tuple[tuple[str, str, str], ...]:
        """What a partner gives: (SQL over its columns, the name here, type). A name that is another's, too, takes the partner's prefix."""
        if isinstance(join, HierarchyJoin):
            hierarchy = self.hierarchy(join.hierarchy)
            parent, root = self.hierarchy_columns(hierarchy)[1:]
            return ((parent.name, join.parent, parent.type), (root.name, join.root, root.type))
        if isinstance(join, PointInTimeJoin) and join.aggregates:
            return tuple((d.name, d.name, d.type) for d in join.aggregates)
        if isinstance(join, PointInTimeJoin) and join.select:
            computed = ((f"CAST({d.sql} AS {d.type})", d.name, d.type) for d in join.select)
            return (*computed, ("effective_from", f"_{join.prefix}from", "TIMESTAMP"))
        feed = self.feed(join.feed)
        others = [
            self.feed(f)
            for f in {table.upstream, *(p.feed for p in table.joins if not isinstance(p, HierarchyJoin))}
            if f != join.feed
        ]
        shared = {d.name.lower() for d in table.derived} | {c.name.lower() for other in others for c in other.silver}
        taken = set(join.columns) or {*feed.tracked, *feed.key, *(d.name for d in feed.derived)} - set(join.on)
        given = [
            (c.name, join.prefix + c.name if c.name.lower() in shared else c.name, c.type)
            for c in feed.silver
            if c.name in taken
        ]
        if isinstance(join, LatestJoin):
            return (*given, *([(join.count, join.count, "BIGINT")] if join.count else []))
        return (*given, ("effective_from", f"_{join.prefix}from", "TIMESTAMP"))


def render_sql(sql: str, values: Mapping[str, Any]) -> str:
    """Fills `$name` placeholders with SQL literals."""
    return Template(sql).safe_substitute({name: literal(value) for name, value in values.items()})


def literal(value: Any) -> str:
    """Writes a value as a SQL literal: numbers exactly, text quoted, dates and times typed."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            return str(value)
        case float():
            return format(Decimal(repr(value)), "f")
        case dt.datetime():
            return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
        case dt.date():
            return f"DATE '{value.isoformat()}'"
        case _:
            return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"

"""Every key of config.toml as data: what kind of value it takes, its default and its meaning. Reads no file.

The sources' own sections come from the catalogue; everything that reads, checks or documents the configuration reads this.
"""

import datetime as dt
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from pipeline import contract

LEVELS = ("debug", "info", "warning", "error")
ENGINES = ("spark", "sail", "connect")
OPTIONAL, REQUIRED = "optional", "required"


class UnfitError(Exception):
    """The value is not of the kind that the key takes."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of value: how a mistake is worded, and what is accepted (a function that raises UnfitError for the rest)."""

    phrase: str  # completes "… is not "
    read: Callable[[Any], Any]
    textual: bool = False  # an environment variable is taken as it stands


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a section. A default of None means that the key is off, or follows from another key: `meaning` says which."""

    name: str
    kind: Kind
    default: Any
    meaning: str
    is_secret: bool = False  # its value is never shown


def _number(
    at_least: float | None = None, above: float | None = None, at_most: float | None = None
) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UnfitError
        if (
            (at_least is not None and value < at_least)
            or (above is not None and value <= above)
            or (at_most is not None and value > at_most)
        ):
            raise UnfitError
        return value if isinstance(value, int) else float(value)

    return read


def _whole(at_least: int | None = None) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or (at_least is not None and value < at_least):
            raise UnfitError
        return value

    return read


def _text(pattern: str = r"[^\0]*") -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.DOTALL):
            raise UnfitError
        return value

    return read


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) and v for v in value):
        raise UnfitError
    return tuple(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UnfitError
    return value


def _chosen(names: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in names:
            raise UnfitError
        return value.lower()

    return read


def _spark_settings(value: Any) -> dict[str, str]:
    # TOML reads `spark.sql.x = 1` unquoted as tables within tables; people write it so, and it can only mean one thing.
    if not isinstance(value, Mapping):
        raise UnfitError
    flat: dict[str, str] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            flat |= {f"{name}.{below}": v for below, v in _spark_settings(inner).items()}
        elif isinstance(inner, bool):
            flat[name] = str(inner).lower()
        elif isinstance(inner, str | int | float):
            flat[name] = str(inner)
        else:
            raise UnfitError
    return flat


def _day(value: Any) -> dt.date:
    try:
        return value if type(value) is dt.date else dt.date.fromisoformat(_text(r"\d{4}-\d\d-\d\d")(value))
    except ValueError:
        raise UnfitError from None


SECONDS = Kind(phrase="a number of seconds above 0", read=_number(above=0))
COUNT = Kind(phrase="a whole number above 0", read=_whole(at_least=1))
DAYS = Kind(phrase="a whole number of days, 0 or more", read=_whole(at_least=0))
DAY = Kind(phrase="a date such as 1971-01-01", read=_day)
HOURS = Kind(phrase="a number of hours, 0 or more", read=_number(at_least=0))
SHARE = Kind(phrase="a share from 0 to 1", read=_number(at_least=0, at_most=1))
SCORE = Kind(phrase="a score from 0 to 100", read=_number(at_least=0, at_most=100))
PATH = Kind(phrase="a path on this machine", read=_text(r"(?!\w+://)[^\0]+"), textual=True)
TEXT = Kind(phrase="a text", read=_text(), textual=True)
MEMORY = Kind(phrase='an amount of memory such as "2g" or "900m"', read=_text(r"[1-9]\d*[kmgtKMGT]"), textual=True)
TEXTS = Kind(phrase="a list of texts", read=_texts)
SWITCH = Kind(phrase="true or false", read=_switch)
NUMBER = Kind(phrase="a number", read=_number())
WHOLE = Kind(phrase="a whole number", read=_whole())
ENGINE = Kind(phrase=f"an engine ({', '.join(ENGINES)})", read=_chosen(ENGINES), textual=True)
LEVEL = Kind(phrase=f"a log level ({', '.join(LEVELS)})", read=_chosen(LEVELS), textual=True)
BARE_DATE = Kind(phrase=f"one of two words ({OPTIONAL}, {REQUIRED})", read=_chosen((OPTIONAL, REQUIRED)), textual=True)
SPARK_SETTINGS = Kind(phrase="a table of Spark settings (texts, numbers, true, false)", read=_spark_settings)

# What is not there yet or no longer, and copies that programs make by themselves: files, and folders with all in them.
IGNORED = (
    ".*", "~$*", "*~", "Thumbs.db", "desktop.ini", "*.part", "*.partial", "*.filepart", "*.tmp", "*.crdownload",
    "*conflicted copy*", "*.sync-conflict-*", "*.sb-????????-??????", "*@Syno*",
    "#recycle", "@Recycle", "$RECYCLE.BIN", "RECYCLER", "RECYCLED", "Network Trash Folder", "lost+found",
    "found.[0-9][0-9][0-9]", "#snapshot", "~snapshot", "@Recently-Snapshot", "@eaDir", "@tmp",
    "System Volume Information", "__MACOSX", "Temporary Items",
)  # fmt: skip


def _key(name: str, kind: Kind, default: Any, meaning: str) -> Key:
    return Key(name=name, kind=kind, default=default, meaning=meaning)


def _secret(name: str, kind: Kind, default: Any, meaning: str) -> Key:
    return Key(name=name, kind=kind, default=default, meaning=meaning, is_secret=True)


OWN: Mapping[str, tuple[Key, ...]] = {
    "landing": (
        _key("path", PATH, "landing", "folder that files are delivered to, directly or one sub-folder down"),
        _key("trigger_path", PATH, None, "folder of the triggers; default: the folder trigger in path"),
        _key(
            "claim_path",
            PATH,
            None,
            "private folder of claimed files, best on the landing folder's file system; default: the folder .claim in path",
        ),
        _key("archive_path", PATH, "archive", "folder that published batches end in"),
        _key("rejected_path", PATH, "rejected", "folder that rejected batches end in, each with its reason.json"),
        _key(
            "missing_file_timeout_seconds",
            SECONDS,
            3600,
            "seconds that a JSON trigger waits for its expected files; then its batch is rejected",
        ),
        Key(
            name="allow_world_writable",
            kind=SWITCH,
            default=False,
            meaning="start although every user of the machine may write to the landing or trigger folder (mode o+w)",
        ),
        _key("ignore", TEXTS, IGNORED, "globs of names that are no deliveries: of files and folders, in any capitals"),
        _key("bare_date", BARE_DATE, OPTIONAL, "required refuses a bare or streamed file whose date stands in no name"),
    ),
    "debounce": (
        _key(
            "quiet_seconds",
            SECONDS,
            5,
            "seconds without a change until a file counts as settled and a bare batch as complete",
        ),
        _key("max_wait_seconds", SECONDS, 300, "seconds after which a bare batch starts although touches keep coming"),
    ),
    "dispatch": (
        _key("timeout_seconds", SECONDS, 1800, "seconds without any progress until the worker is killed"),
        _key(
            "poison_after", COUNT, 3, "deaths of the worker after which a batch is rejected, so that the queue goes on"
        ),
        _key("stop_seconds", SECONDS, 30, "seconds that a stop waits for the current write to finish"),
        _secret(
            "on_published",
            TEXTS,
            (),
            "command, with its arguments, that gets each published batch's task values as JSON on stdin; empty: none",
        ),
    ),
    "retry": (
        _key("attempts", COUNT, 5, "attempts at a batch before it is FAILED"),
        _key(
            "initial_seconds",
            SECONDS,
            5,
            "seconds before the second attempt; doubled, with jitter, before each further one",
        ),
        _key("max_seconds", SECONDS, 300, "longest seconds between two attempts"),
    ),
    "ledger": (
        _key(
            "path",
            PATH,
            "state/ledger.sqlite",
            "file of the daemon's durable record of batches (SQLite; on a local disk)",
        ),
    ),
    "lake": (
        _key("path", PATH, "lake", "folder of the Delta tables"),
        _key("keep_days", DAYS, 30, "days that superseded table versions stay readable"),
    ),
    "spark": (
        _key(
            "engine",
            ENGINE,
            "spark",
            "spark (Java, delta-spark), sail (embedded, no Java) or connect (a Spark Connect server)",
        ),
        _key("master", TEXT, "local[*]", "Spark master of engine spark: local[*], local[4], spark://host:7077, …"),
        _key("driver_memory", MEMORY, "2g", "memory of the driver's Java heap, engine spark"),
        _secret("remote", TEXT, "", "address of the Spark Connect server, engine connect: sc://host:15002"),
        _key("jars_path", PATH, None, "folder of Delta's jars, engine spark; default: the installation's own"),
        _secret("conf", SPARK_SETTINGS, {}, "any further Spark settings"),
    ),
    "log": (
        _key(
            "path",
            PATH,
            "logs/lakegate.jsonl",
            "file of the log, one JSON object a line; Spark's own chatter goes beside it",
        ),
        _key("level", LEVEL, "info", "least severe level that is logged: debug, info, warning or error"),
    ),
    "quality": (
        _key("min_score", SCORE, None, "score from 0 to 100 below which a batch is rejected; default: off"),
        _key(
            "max_rejected_share",
            SHARE,
            None,
            "share of rejected rows, 0 to 1, above which a batch is rejected; default: off",
        ),
        Key(
            name="fail_on_high",
            kind=SWITCH,
            default=False,
            meaning="reject a batch when an accepted row breaks a HIGH rule",
        ),
        _key(
            "max_snapshot_shrink",
            SHARE,
            0.5,
            "share of open keys, 0 to 1, that a whole delivery may lack; more, and it is rejected",
        ),
        _key(
            "max_future_hours", HOURS, 24, "hours after the end of the batch date up to which an event time is accepted"
        ),
        _key(
            "min_event_time",
            DAY,
            dt.date(1971, 1, 1),
            "first day (UTC) of which an event time is accepted; a feed may declare its own",
        ),
    ),
    "alerts": (
        _secret(
            "urls",
            TEXTS,
            (),
            "Apprise addresses that hear of rejected and failed batches: mailto://…, slack://…, json://…",
        ),
    ),
    "sources": (
        _key(
            "paths",
            TEXTS,
            (),
            "folders of your own sources, each in the form of pipeline/sources/retail and called as its source is",
        ),
        _key(
            "without",
            TEXTS,
            (),
            "sources that ship and that this lake does without; their names of files are free then",
        ),
    ),
}


@cache
def sections(paths: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Mapping[str, tuple[Key, ...]]:
    """Tells every section with its keys: the product's own, then one per source that declares settings.

    `paths` are the folders of sources outside of the package. A source that is left out keeps its section, which nobody reads.
    """
    every = (*contract.catalog(), *contract.catalog(paths, without))
    declared = {s.name: tuple(_declared(k) for k in s.settings) for s in every}
    return {**OWN, **{name: keys for name, keys in declared.items() if keys and name not in OWN}}


def unreadable(paths: tuple[str, ...], without: tuple[str, ...]) -> frozenset[str]:
    """Tells the sections whose keys nobody can know, since the folder of their source cannot be used."""
    return frozenset(s.name for s in contract.catalog(paths, without) if s.broken) - set(sections(paths, without))


def _declared(setting: contract.Setting) -> Key:
    default = float(setting.default) if isinstance(setting.default, Decimal) else setting.default
    secret = contract.is_secret_name(setting.name)
    return Key(name=setting.name, kind=_kind_of(default), default=default, meaning=setting.meaning, is_secret=secret)


def _kind_of(default: Any) -> Kind:
    match default:
        case bool():
            return SWITCH
        case int():
            return WHOLE
        case float():
            return NUMBER
        case list() | tuple():
            return TEXTS
        case _:
            return TEXT


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Tells "; did you mean …?" when one of the known words is close, else nothing."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""

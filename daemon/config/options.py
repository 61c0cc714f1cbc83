"""Declares every key of config.toml: its type, its default and its meaning. Reads no file.

A source declares the keys of its own section; they come from the catalogue. All code that reads, checks or documents
the configuration uses these declarations.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from daemon.config.value_types import (
    ADDRESS,
    BOOLEAN,
    COUNT,
    DAY,
    DAYS,
    HOURS,
    INTEGER,
    MEMORY,
    NUMBER,
    PATH,
    PLACE,
    ROUTES,
    SCORE,
    SECONDS,
    SHARE,
    SPARK_SETTINGS,
    TEXT,
    TEXTS,
    ValueType,
    choice,
)
from pipeline import contract

OPTIONAL, REQUIRED = "optional", "required"
ENGINE = choice("an engine", ("spark", "sail", "connect"))
LEVEL = choice("a log level", ("debug", "info", "warning", "error"))
BARE_DATE = choice("one of two words", (OPTIONAL, REQUIRED))

# Incomplete files, hidden files, and copies that programs make by themselves. A folder is ignored with its content.
IGNORED = (
    ".*", "~$*", "*~", "Thumbs.db", "desktop.ini", "*.part", "*.partial", "*.filepart", "*.tmp", "*.crdownload",
    "*conflicted copy*", "*.sync-conflict-*", "*.sb-????????-??????", "*@Syno*",
    "#recycle", "@Recycle", "$RECYCLE.BIN", "RECYCLER", "RECYCLED", "Network Trash Folder", "lost+found",
    "found.[0-9][0-9][0-9]", "#snapshot", "~snapshot", "@Recently-Snapshot", "@eaDir", "@tmp",
    "System Volume Information", "__MACOSX", "Temporary Items",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ConfigOption:
    """One key of a section.

    With a default of None the key is off, or its default depends on another key; then `meaning` states the default.
    """

    name: str
    value_type: ValueType
    default: Any
    meaning: str
    is_secret: bool = False  # no message shows the value


def _option(name: str, value_type: ValueType, default: Any, meaning: str) -> ConfigOption:
    return ConfigOption(name=name, value_type=value_type, default=default, meaning=meaning)


def _secret(name: str, value_type: ValueType, default: Any, meaning: str) -> ConfigOption:
    return ConfigOption(name=name, value_type=value_type, default=default, meaning=meaning, is_secret=True)


OPTIONS: Mapping[str, tuple[ConfigOption, ...]] = {
    "landing": (
        _option("path", PATH, "landing", "folder for data files, which lie in it or in one of its sub-folders"),
        _option("trigger_path", PATH, None, "folder for triggers; default: the folder trigger in path"),
        _option(
            "claim_path",
            PATH,
            None,
            "private folder of claimed files, best on the file system of path; default: the folder .claim in path",
        ),
        _option("archive_path", PATH, "archive", "folder for the files of published batches"),
        _option("rejected_path", PATH, "rejected", "folder for the files of rejected batches, with a reason.json each"),
        _option(
            "missing_file_timeout_seconds",
            SECONDS,
            3600,
            "seconds that a JSON trigger waits for its files, and a bare one for any file; then its batch is rejected",
        ),
        ConfigOption(
            name="allow_world_writable",
            value_type=BOOLEAN,
            default=False,
            meaning="start although every user of the machine may write to the landing or trigger folder (mode o+w)",
        ),
        _option(
            "ignore", TEXTS, IGNORED, "globs for names of files and folders that are not deliveries; case is ignored"
        ),
        _option("bare_date", BARE_DATE, OPTIONAL, "required refuses a bare or streamed file with no date in its name"),
    ),
    "debounce": (
        _option(
            "quiet_seconds",
            SECONDS,
            5,
            "seconds without a change after which a file is settled and a bare batch is complete",
        ),
        _option("max_wait_seconds", SECONDS, 300, "seconds after which a bare batch starts although more touches come"),
    ),
    "dispatch": (
        _option("timeout_seconds", SECONDS, 1800, "seconds without progress after which the worker is killed"),
        _option("poison_after", COUNT, 3, "crashes of the worker after which a batch is rejected; the queue goes on"),
        _option("stop_seconds", SECONDS, 30, "seconds that a stop waits for the current write"),
        _secret(
            "on_published",
            TEXTS,
            (),
            "command with its arguments; it reads each published batch's task values as JSON on stdin; empty: none",
        ),
    ),
    "retry": (
        _option("attempts", COUNT, 5, "attempts at a batch before its state becomes FAILED"),
        _option("initial_seconds", SECONDS, 5, "seconds before the second attempt; they double for each further one"),
        _option("max_seconds", SECONDS, 300, "most seconds between two attempts"),
    ),
    "ledger": (
        _option("path", PATH, "state/ledger.sqlite", "file of the ledger, an SQLite database; on a local disk"),
    ),
    "lake": (
        _option(
            "path", PLACE, "lake", "folder of the Delta tables, or the address of a prefix in a store: s3://bucket/lake"
        ),
        _option("keep_days", DAYS, 30, "days for which older table versions stay readable"),
    ),
    "serve": (
        _option(
            "layers",
            TEXTS,
            ("gold", "silver"),
            "layers of tables for readers that know no versions: gold, silver, bronze; empty: none",
        ),
        _option("prefix", TEXT, "", "folder in which readers of the .duckdb files see the lake; default: [lake] path"),
    ),
    "spark": (
        _option(
            "engine", ENGINE, "spark", "spark (Java, delta-spark), sail (no Java) or connect (a Spark Connect server)"
        ),
        _option("master", TEXT, "local[*]", "master of the engine spark: local[*], local[4], spark://host:7077, …"),
        _option("driver_memory", MEMORY, "2g", "memory of the driver's Java heap, for the engine spark"),
        _secret("remote", TEXT, "", "address of the Spark Connect server, for the engine connect: sc://host:15002"),
        _option(
            "jars_path",
            PATH,
            None,
            "folder of the jars of Delta and S3, for the engine spark; default: the installation's",
        ),
        _secret("conf", SPARK_SETTINGS, {}, "further Spark settings"),
    ),
    "log": (
        _option("path", PATH, "logs/lakegate.jsonl", "file of the log, one JSON object a line"),
        _option("level", LEVEL, "info", "lowest level that is logged: debug, info, warning or error"),
    ),
    "quality": (
        _option("min_score", SCORE, None, "score from 0 to 100 below which a batch is rejected; default: off"),
        _option(
            "max_rejected_share",
            SHARE,
            None,
            "share of rejected rows, 0 to 1, above which a batch is rejected; default: off",
        ),
        ConfigOption(
            name="fail_on_high",
            value_type=BOOLEAN,
            default=False,
            meaning="reject a batch when an accepted row breaks a HIGH rule",
        ),
        _option(
            "max_snapshot_shrink",
            SHARE,
            0.5,
            "share of open keys, 0 to 1, that a snapshot may lack; a snapshot that lacks more is rejected",
        ),
        _option("max_future_hours", HOURS, 24, "hours by which an event time may lie after the end of the batch date"),
        _option(
            "min_event_time",
            DAY,
            dt.date(1971, 1, 1),
            "earliest day (UTC) of an accepted event time; a feed may declare another",
        ),
    ),
    "alerts": (
        _secret(
            "urls",
            TEXTS,
            (),
            "Apprise addresses for alerts about all sources and the daemon itself: mailto://…, slack://…, json://…",
        ),
        _secret("routes", ROUTES, {}, 'further addresses for the alerts of one source: retail = ["mailto://…"]'),
        _option(
            "page_url", TEXT, "", "address of the pages of Lakegate as readers of an alert reach it; empty: no links"
        ),
        ConfigOption(
            name="example_rows",
            value_type=BOOLEAN,
            default=True,
            meaning="show up to three rejected rows of each broken rule in an alert",
        ),
    ),
    "ui": (
        _option("listen", ADDRESS, "127.0.0.1:8765", "host and port at which `lakegate ui` serves its pages"),
        _secret(
            "token",
            TEXT,
            "",
            "password of the pages, at least 16 characters; needed for a listen that others can reach",
        ),
        _option("hosts", TEXTS, (), "further host names under which browsers reach the pages"),
    ),
    "openlineage": (
        _secret(
            "url",
            TEXT,
            "",
            "address that takes OpenLineage events, such as http://marquez:5000/api/v1/lineage; empty: none",
        ),
        _option("path", PATH, None, "file for OpenLineage events instead, one JSON object a line; default: none"),
        _secret("api_key", TEXT, "", "key that is sent to url as a bearer token; empty: none"),
        _option("namespace", TEXT, "lakegate", "namespace of the jobs and tables, one for each installation"),
    ),
    "metrics": (
        _option(
            "path",
            PATH,
            None,
            "file of the metrics, written every 15 seconds for a collector of text files; default: off",
        ),
        _option(
            "listen",
            ADDRESS,
            "",
            "address at which the daemon serves the metrics by HTTP: 127.0.0.1:9108; empty: none",
        ),
    ),
    "sources": (
        _option(
            "paths",
            TEXTS,
            (),
            "folders of your own sources, built like pipeline/sources/retail; a folder has the name of its source",
        ),
        _option(
            "exclude", TEXTS, (), "shipped sources that this lake does not use; your sources may use their file names"
        ),
    ),
}


@cache
def sections(paths: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Mapping[str, tuple[ConfigOption, ...]]:
    """Returns the options by section: those of OPTIONS, then those of each source that declares settings.

    `paths` are the folders of external sources. The section of an excluded source stays valid, but nothing uses it.
    """
    sources = (*contract.catalog(), *contract.catalog(paths, exclude))
    declared = {s.name: tuple(_source_option(k) for k in s.settings) for s in sources}
    return {**OPTIONS, **{name: options for name, options in declared.items() if options and name not in OPTIONS}}


def unknown_sections(paths: tuple[str, ...], exclude: tuple[str, ...]) -> frozenset[str]:
    """Returns the sections of broken sources: their keys are unknown, because the declarations cannot be loaded."""
    broken = frozenset(s.name for s in contract.catalog(paths, exclude) if s.broken)
    return broken - set(sections(paths, exclude))


def _source_option(setting: contract.Setting) -> ConfigOption:
    default = float(setting.default) if isinstance(setting.default, Decimal) else setting.default
    return ConfigOption(
        name=setting.name,
        value_type=_type_of(default),
        default=default,
        meaning=setting.meaning,
        is_secret=contract.is_secret_name(setting.name),
    )


def _type_of(default: Any) -> ValueType:
    match default:
        case bool():
            return BOOLEAN
        case int():
            return INTEGER
        case float():
            return NUMBER
        case list() | tuple():
            return TEXTS
        case _:
            return TEXT

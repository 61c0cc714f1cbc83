"""Reads JSON triggers into requests for a batch. Pure: reads nothing from disk, trusts nothing."""

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from daemon.intake.admission import date_error, name_error, size_error
from daemon.intake.feed_match import match_feeds, revision_in
from daemon.intake.request import BatchRequest, TriggerError
from daemon.landing.scan import SeenFile
from daemon.text import escape, join_names
from pipeline.contract import CatalogSource

MOST_FILES = 10_000
MOST_REVISIONS = 1_000_000

SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def read_trigger(
    content: bytes,
    *,
    trigger_file: SeenFile,
    today: dt.date,
    catalogue: Sequence[CatalogSource],
    ignored_by: Callable[[str], str],
) -> BatchRequest | None:
    """Returns the request of a JSON trigger; None while the trigger itself says that its files are not ready.

    Raises TriggerError with one sentence that names the wrong key.
    """
    document = _object(content)
    files = _expected_files(document)
    _check_trigger_id(document)
    batch_date = _batch_date(document, today)
    is_ready = _is_ready(document)
    revision = document.get("revision")
    stated = revision_in(files) if revision is None else _whole_number("revision", revision, MOST_REVISIONS)
    snapshot = _snapshot(document)
    checksums = {n: _checksum(n, c) for n, c in _per_file(document, "checksums", files).items()}
    rows = {n: _whole_number(f"rows of {escape(n)}", r) for n, r in _per_file(document, "rows", files).items()}
    if not is_ready:
        return None
    _check_ignored(files, ignored_by)
    source, feeds = match_feeds(files, catalogue)
    return BatchRequest(
        source=source,
        batch_date=batch_date,
        feeds=feeds,
        trigger=trigger_file.name,
        trigger_files=(trigger_file,),
        revision=stated,
        snapshot=_snapshot_feeds(snapshot, source, feeds, catalogue),
        checksums=checksums,
        rows=rows,
    )


def _check_ignored(files: Sequence[str], ignored_by: Callable[[str], str]) -> None:
    for name in files:
        if pattern := ignored_by(name):
            what = f"expected_files names {escape(name)}, which [landing] ignore passes by ({pattern})"
            raise TriggerError(f"{what}; rename the file, or change that list")


def _snapshot_feeds(
    stated: tuple[str, ...] | bool, source: str, feeds: Mapping[str, str], catalogue: Sequence[CatalogSource]
) -> tuple[str, ...]:
    if isinstance(stated, bool):
        return tuple(sorted(set(feeds.values()))) if stated else ()
    known = {f.name for s in catalogue if s.name == source for f in s.feeds}
    unknown = [f for f in stated if f not in known]
    if unknown:
        names = ", ".join(sorted(known))
        raise TriggerError(f"snapshot names {join_names(unknown)}, which is no feed of {source}; its feeds are {names}")
    return stated


def _object(content: bytes) -> dict[str, Any]:
    if wrong := size_error(len(content)):
        raise TriggerError(f"the trigger {wrong}")
    if not content.strip():
        raise TriggerError(
            "the trigger is empty; a .json trigger holds a JSON object, a bare touch file has another ending"
        )
    try:
        document = json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=_without_repeats, parse_constant=_no_constant
        )
    except UnicodeDecodeError as error:
        raise TriggerError(f"the trigger is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise TriggerError("the trigger is not JSON that can be read: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        what = f"{error.msg[:1].lower()}{error.msg[1:]}"
        where = f"line {error.lineno}, column {error.colno}"
        raise TriggerError(f"the trigger is not JSON: {what} ({where})") from None
    except ValueError:  # what json raises besides its own error: an integer beyond the interpreter's limit
        raise TriggerError("the trigger is not JSON that can be read: a number in it has thousands of digits") from None
    if not isinstance(document, dict):
        raise TriggerError("the trigger is not a JSON object with trigger_id, batch_date and expected_files")
    return document


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise TriggerError(f"the trigger names the key {join_names(_find_repeated(k for k, _ in pairs))} twice")
    return found


def _find_repeated(names: Iterable[str]) -> list[str]:
    return [n for n, times in Counter(names).items() if times > 1]


def _no_constant(text: str) -> NoReturn:
    raise TriggerError(f"the trigger is not JSON: {text} is no JSON number")


def _check_trigger_id(document: Mapping[str, Any]) -> None:
    value = document.get("trigger_id")
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise TriggerError(f"trigger_id {_is(document, 'trigger_id')}; it names the delivery, in quotes")


def _batch_date(document: Mapping[str, Any], today: dt.date) -> dt.date:
    value = document.get("batch_date")
    date = None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        with suppress(ValueError):
            date = dt.date.fromisoformat(value)
    if date is None:
        raise TriggerError(f'batch_date {_is(document, "batch_date")}; it must be a date such as "2025-01-15"')
    if wrong := date_error(date, today):
        raise TriggerError(f"batch_date {date} {wrong}")
    return date


def _expected_files(document: Mapping[str, Any]) -> tuple[str, ...]:
    value = document.get("expected_files")
    if not isinstance(value, list) or not value or not all(isinstance(n, str) for n in value):
        raise TriggerError(
            f"expected_files {_is(document, 'expected_files')}; it must be a list of at least one file name"
        )
    if len(value) > MOST_FILES:
        raise TriggerError(f"expected_files names {len(value)} files; {MOST_FILES} are the most, split the trigger")
    for name in value:
        if wrong := name_error(name):
            raise TriggerError(f"expected_files names {escape(name) or 'an empty name'}, which {wrong}")
    if len(set(value)) < len(value):
        raise TriggerError(f"expected_files names {join_names(_find_repeated(value))} twice")
    return tuple(value)


def _is_ready(document: Mapping[str, Any]) -> bool:
    value = document.get("data_files_ready", True)
    if not isinstance(value, bool):
        raise TriggerError(f"data_files_ready {_is(document, 'data_files_ready')}; it must be true or false")
    return value


def _snapshot(document: Mapping[str, Any]) -> tuple[str, ...] | bool:
    value = document.get("snapshot")
    if value is None:
        return ()
    if isinstance(value, bool):
        return value
    if not isinstance(value, list) or not all(isinstance(f, str) for f in value):
        raise TriggerError(f"snapshot {_is(document, 'snapshot')}; it must be a list of feeds that are delivered whole")
    return tuple(dict.fromkeys(value))


def _per_file(document: Mapping[str, Any], key: str, files: Sequence[str]) -> Mapping[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TriggerError(f"{key} {_is(document, key)}; it must map file names to values")
    named = set(files)
    unknown = [n for n in value if n not in named]
    if unknown:
        raise TriggerError(f"{key} names {join_names(unknown)}, which expected_files does not")
    return value


def _checksum(name: str, value: Any) -> str:
    text = value.removeprefix("sha256:") if isinstance(value, str) else ""
    if not SHA256.fullmatch(text):
        raise TriggerError(f"checksums: the checksum of {escape(name)} is not a SHA-256 of 64 hexadecimal digits")
    return text.lower()


def _whole_number(what: str, value: Any, most: int = 1 << 62) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise TriggerError(f"{what} is {_shown(value)}; it must be a whole number from 0")
    return value


def _is(document: Mapping[str, Any], key: str) -> str:
    return f"is {_shown(document[key])}" if key in document else "is missing"


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        return "nested too deeply"
    return text if len(text) <= 60 else text[:59] + "…"

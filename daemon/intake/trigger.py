"""Understands touch files: what a JSON trigger says, what a name says. Pure: reads nothing from disk, trusts nothing."""

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from daemon.intake.admission import difference, wrong_date, wrong_name, wrong_size
from daemon.text import listed, printable
from pipeline.contract import CatalogSource, named_revision, plain_name

MOST_FILES = 10_000
MOST_REVISIONS = 1_000_000

SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class TriggerError(Exception):
    """The trigger can never become a batch; the message is the sentence that says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a JSON trigger says."""

    trigger_id: str
    batch_date: dt.date
    expected_files: tuple[str, ...]
    is_ready: bool
    revision: int
    snapshot: tuple[str, ...] | bool
    checksums: Mapping[str, str]
    rows: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Kinship:
    """Which source and which feeds the files of a batch belong to."""

    source: str
    feeds: Mapping[str, str]  # file name -> feed


def parsed(content: bytes, today: dt.date) -> Document:
    """Reads a JSON trigger. Raises TriggerError with one sentence that names the key that is wrong."""
    document = _object(content)
    files = _expected_files(document)
    revision = document.get("revision")
    return Document(
        trigger_id=_trigger_id(document),
        batch_date=_batch_date(document, today),
        expected_files=files,
        is_ready=_is_ready(document),
        revision=revision_in(files) if revision is None else _whole("revision", revision, MOST_REVISIONS),
        snapshot=_snapshot(document),
        checksums={n: _checksum(n, c) for n, c in _per_file(document, "checksums", files).items()},
        rows={n: _whole(f"rows of {printable(n)}", r) for n, r in _per_file(document, "rows", files).items()},
    )


def kinship(names: Sequence[str], catalogue: Sequence[CatalogSource]) -> Kinship:
    """Tells source and feeds of these files. Raises TriggerError where a name has no feed or two, or the files two sources."""
    feeds: dict[str, str] = {}
    sources: dict[str, str] = {}
    for name in names:
        found = feeds_of(name, catalogue)
        if not found:
            if spelled := spelled_apart(name, catalogue):
                raise TriggerError(f"{printable(name)} matches no feed: {spelled}")
            packed = "; a packed file has its ending behind that" if plain_name(name) != name else ""
            raise TriggerError(
                f"{printable(name)} matches no feed; feeds take {_globs(catalogue)}{packed}{_left_out(catalogue)}"
            )
        if len(found) > 1:
            raise TriggerError(
                f"{printable(name)} matches more than one feed: {', '.join(f'{s}.{f}' for s, f in found)}"
            )
        source, feeds[name] = found[0]
        sources.setdefault(source, name)
    if len(sources) > 1:
        told = " and ".join(f"{printable(name)} of {source}" for source, name in list(sources.items())[:2])
        raise TriggerError(
            f"the files belong to {len(sources)} sources: {told}; one batch is of one source, land a trigger for each"
        )
    return Kinship(source=next(iter(sources), ""), feeds=feeds)


def feeds_of(name: str, catalogue: Sequence[CatalogSource]) -> list[tuple[str, str]]:
    """Every (source, feed) whose glob the bare name matches, compared as text; a packed file's also without its ending."""
    spellings = {name, plain_name(name)}
    return [(s.name, f.name) for s in catalogue for f in s.feeds if any(fnmatchcase(n, f.files) for n in spellings)]


def spelled_apart(name: str, catalogue: Sequence[CatalogSource]) -> str:
    """What of its spelling alone keeps a name apart from a feed's pattern, and what to do; '' where it is more."""
    for pattern in (f.files for s in catalogue for f in s.feeds):
        for spelled in dict.fromkeys((name, plain_name(name))):
            if apart := difference(spelled, pattern, fnmatchcase):
                return f"{apart}: {pattern}; call the file so, and in its trigger, or declare the feed's files so"
    return ""


def set_aside(name: str, catalogue: Sequence[CatalogSource]) -> str:
    """Why no trigger can take a file that lies there and looks like a delivery; '' for all other files."""
    found = feeds_of(name, catalogue)
    spelled = "" if found else spelled_apart(name, catalogue)
    if (found or spelled) and (wrong := wrong_name(name)):
        return f"{wrong}; rename the file"
    return f"matches no feed: {spelled}" if spelled else ""


def snapshot_feeds(document: Document, kin: Kinship, catalogue: Sequence[CatalogSource]) -> tuple[str, ...]:
    """The feeds that the batch delivers whole. Raises TriggerError for a name that is no feed of the source."""
    if isinstance(document.snapshot, bool):
        return tuple(sorted(set(kin.feeds.values()))) if document.snapshot else ()
    known = {f.name for s in catalogue if s.name == kin.source for f in s.feeds}
    unknown = [f for f in document.snapshot if f not in known]
    if unknown:
        raise TriggerError(
            f"snapshot names {listed(unknown)}, which is no feed of {kin.source}; its feeds are {', '.join(sorted(known))}"
        )
    return document.snapshot


def revision_in(names: Sequence[str]) -> int:
    """The highest `_v2` or `_r2` in the names, else 0."""
    return max((named_revision(name)[1] for name in names), default=0)


def _object(content: bytes) -> dict[str, Any]:
    if wrong := wrong_size(len(content)):
        raise TriggerError(f"the trigger {wrong}")
    if not content.strip():
        raise TriggerError(
            "the trigger is empty; a .json trigger holds a JSON object, a bare touch file has another ending"
        )
    try:
        document = json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=_without_doubles, parse_constant=_no_constant
        )
    except UnicodeDecodeError as error:
        raise TriggerError(f"the trigger is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise TriggerError("the trigger is not JSON that can be read: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise TriggerError(
            f"the trigger is not JSON: {error.msg[:1].lower()}{error.msg[1:]} (line {error.lineno}, column {error.colno})"
        ) from None
    except ValueError:  # what json raises besides its own error: an integer beyond the interpreter's limit
        raise TriggerError("the trigger is not JSON that can be read: a number in it has thousands of digits") from None
    if not isinstance(document, dict):
        raise TriggerError("the trigger is not a JSON object with trigger_id, batch_date and expected_files")
    return document


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise TriggerError(f"the trigger names the key {listed(_doubles(k for k, _ in pairs))} twice")
    return found


def _doubles(names: Iterable[str]) -> list[str]:
    return [n for n, times in Counter(names).items() if times > 1]


def _no_constant(text: str) -> NoReturn:
    raise TriggerError(f"the trigger is not JSON: {text} is no JSON number")


def _trigger_id(document: Mapping[str, Any]) -> str:
    value = document.get("trigger_id")
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise TriggerError(f"trigger_id {_is(document, 'trigger_id')}; it names the delivery, in quotes")
    return str(value)


def _batch_date(document: Mapping[str, Any], today: dt.date) -> dt.date:
    value = document.get("batch_date")
    date = None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        with suppress(ValueError):
            date = dt.date.fromisoformat(value)
    if date is None:
        raise TriggerError(f'batch_date {_is(document, "batch_date")}; it must be a date such as "2025-01-15"')
    if wrong := wrong_date(date, today):
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
        if wrong := wrong_name(name):
            raise TriggerError(f"expected_files names {printable(name) or 'an empty name'}, which {wrong}")
    if len(set(value)) < len(value):
        raise TriggerError(f"expected_files names {listed(_doubles(value))} twice")
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
    strangers = [n for n in value if n not in named]
    if strangers:
        raise TriggerError(f"{key} names {listed(strangers)}, which expected_files does not")
    return value


def _checksum(name: str, value: Any) -> str:
    text = value.removeprefix("sha256:") if isinstance(value, str) else ""
    if not SHA256.fullmatch(text):
        raise TriggerError(f"checksums: the checksum of {printable(name)} is not a SHA-256 of 64 hexadecimal digits")
    return text.lower()


def _whole(what: str, value: Any, most: int = 1 << 62) -> int:
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


def _globs(catalogue: Sequence[CatalogSource]) -> str:
    return listed((f.files for s in catalogue for f in s.feeds), most=6)


def _left_out(catalogue: Sequence[CatalogSource]) -> str:
    broken = [s.name for s in catalogue if s.broken]
    return f"; what {listed(broken)} would take is not known, `lakegate check` tells why" if broken else ""

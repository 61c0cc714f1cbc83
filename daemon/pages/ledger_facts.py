"""Gathers the facts that the ledger holds: the newest batches of all sources, and the state of the daemon."""

import datetime as dt
import json
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from daemon.attention import needs
from daemon.batch import Batch
from daemon.ledger.ledger_reader import LedgerReader
from daemon.ledger.rejection_end import rejection_ends
from daemon.pages.facts import LedgerFacts

SQUARES = 20  # batches of a source at a glance
LOG_BYTES = 4_000_000  # the end of the log, in which the lines of the newest batches are
LOG_LINES = 12  # of a batch
LOG_BATCHES = 1000  # the newest ones: the pages may show any of them later
NOISE = ("task.", "table.", "journal.", "manifest.", "file.", "stage.started")  # the page shows the same in tables
_COMMON = ("timestamp", "level", "event", "batch_id", "source", "stage", "reason")


def gather(
    ledger: LedgerReader,
    most: int,
    sources: Sequence[str],
    now: dt.datetime,
    *,
    missing_file_timeout_seconds: float,
    daemon_since: dt.datetime | None,
) -> LedgerFacts:
    """Returns the facts about the newest batches, at most `most`, and about the newest ones of each source."""
    batches = ledger.newest(most)
    names = list(dict.fromkeys((*sources, *sorted({b.source for b in batches if b.source}))))
    by_source = {name: ledger.newest(SQUARES, name) for name in names}
    counts = ledger.counts()
    return LedgerFacts(
        batches=batches,
        total=sum(counts.values()),
        counts=counts,
        by_source=by_source,
        shown={name: b for name in names if (b := ledger.newest_of_date(name))},
        histories={b.batch_id: ledger.history(b.batch_id) for b in batches},
        before=_versions_before(by_source, batches),
        needs=needs(ledger, now, missing_file_timeout_seconds=missing_file_timeout_seconds, daemon_since=daemon_since),
        activity=ledger.activity(),
        ends=rejection_ends(ledger, batches),
        usual_seconds={name: s for name in names if (s := ledger.usual_seconds(name)) is not None},
    )


def _versions_before(by_source: Mapping[str, Sequence[Batch]], batches: Sequence[Batch]) -> dict[str, dict[str, int]]:
    """Returns, by batch, the versions that the source's batch before it published, as far as these batches show."""
    published: dict[str, list[tuple[int, str, dict[str, int]]]] = {}
    for batch in {b.batch_id: b for b in (*batches, *(b for some in by_source.values() for b in some))}.values():
        if batch.result and batch.published_at and not batch.duplicate_of:
            row = (batch.result.get("batch_seq", 0), batch.batch_id, dict(batch.result.get("table_versions", {})))
            published.setdefault(batch.source, []).append(row)
    found: dict[str, dict[str, int]] = {}
    for rows in published.values():
        rows.sort(key=lambda row: row[0])
        for (_, _, before), (_, batch_id, _) in pairwise(rows):
            found[batch_id] = before
    return found


def log_lines(path: Path, batches: Sequence[str]) -> dict[str, list[str]]:
    """Returns, by batch, the readable lines of the end of the log; none where there is no log."""
    return _end_of_log(path).lines(batches)


@cache
def _end_of_log(path: Path) -> "_EndOfLog":
    return _EndOfLog(path)


class _EndOfLog:
    """The lines of the newest batches. Each call reads only the part of the log that is new. Safe from threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = 0  # its inode: the log is another file after it was rotated
        self._read_to = 0
        self._found: dict[str, deque[str]] = {}  # by batch; the batch of the newest line comes last
        self._lock = threading.Lock()

    def lines(self, batches: Sequence[str]) -> dict[str, list[str]]:
        with self._lock:
            for line in self._new_lines():
                self._take(line)
            return {batch_id: list(self._found[batch_id]) for batch_id in batches if batch_id in self._found}

    def _new_lines(self) -> list[bytes]:
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._file or found.st_size < self._read_to:
                    self._file, self._read_to, self._found = found.st_ino, 0, {}
                start = max(self._read_to, found.st_size - LOG_BYTES)
                file.seek(start)
                text = file.read(found.st_size - start)
        except OSError:
            self._file, self._found = 0, {}
            return []
        lines = text.split(b"\n")
        is_cut = start > self._read_to
        self._read_to = found.st_size - len(lines.pop())  # the rest of the last line is still to come
        return lines[1:] if is_cut else lines

    def _take(self, line: bytes) -> None:
        try:
            event: Any = json.loads(line)
        except ValueError:
            return
        if isinstance(event, dict) and event.get("batch_id") and _is_shown(event):
            batch_id = str(event["batch_id"])
            self._found[batch_id] = lines = self._found.pop(batch_id, deque(maxlen=LOG_LINES))
            lines.append(_readable(event))
            if len(self._found) > LOG_BATCHES:
                del self._found[next(iter(self._found))]


def _is_shown(event: Mapping[str, Any]) -> bool:
    return event.get("level") in ("warning", "error") or not str(event.get("event")).startswith(NOISE)


def _readable(event: Mapping[str, Any]) -> str:
    others = (f"{k}={_text(v)}" for k, v in event.items() if k not in _COMMON and v not in (None, "", [], {}))
    mark = {"warning": "!", "error": "!!"}.get(str(event.get("level")), "")
    parts = (str(event.get("timestamp", ""))[11:23], mark, event.get("event"), event.get("stage"), event.get("reason"))
    return " ".join(str(p) for p in (*parts, *others) if p)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else text[:99] + "…"

"""Follows the log, through rotation and removal, and turns its JSON lines into lines for people."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from daemon.cli.output import visible

POLL_SECONDS = 0.25
_SHOWN_FIRST = ("timestamp", "level", "event", "batch_id", "source", "stage", "reason")


def follow(path: Path, last: int, *, forever: bool, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """Tells the last so many lines, then each new one. A file that is rotated away is read to its end before the new one."""
    descriptor, rest = -1, b""
    is_first = True
    while True:
        if descriptor < 0 and (descriptor := _opened(path)) >= 0 and is_first:
            ends = _last_lines(descriptor, last)
            os.lseek(descriptor, ends, os.SEEK_SET)
        is_first = False
        moved = descriptor >= 0 and _is_replaced(descriptor, path)
        if descriptor >= 0:
            while chunk := os.read(descriptor, 1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines if line)
        if moved:
            os.close(descriptor)
            descriptor, rest = -1, b""
        elif not forever:
            if descriptor >= 0:
                os.close(descriptor)
            return
        else:
            if descriptor >= 0 and os.fstat(descriptor).st_size < os.lseek(descriptor, 0, os.SEEK_CUR):
                os.lseek(descriptor, 0, os.SEEK_SET)  # emptied in place, as logrotate's copytruncate does
            sleep(POLL_SECONDS)


def readable(line: str) -> str:
    """One event as one line: time, event, batch, what it says, then its numbers."""
    try:
        event: Any = json.loads(line)
    except ValueError:
        return visible(line)
    return told(event) if isinstance(event, dict) else visible(line)


def told(event: dict[str, Any]) -> str:
    """The same for an event that is no text yet."""
    level = str(event.get("level", ""))
    mark = {"warning": " !", "error": "!!"}.get(level, "  ")
    about = " ".join(visible(str(event[k])) for k in ("source", "batch_id", "stage") if event.get(k))
    reason = _one_line(event.get("reason"))
    rest = " ".join(
        f"{k}={_value(v)}" for k, v in event.items() if k not in _SHOWN_FIRST and v not in (None, "", [], {})
    )
    parts = (
        str(event.get("timestamp", ""))[:19].replace("T", " "),
        mark,
        f"{event.get('event', ''):<22}",
        about,
        reason,
        rest,
    )
    return " ".join(p for p in parts if p).rstrip()


def _value(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return visible(text) if len(text) <= 100 else visible(text[:99]) + "…"


def _one_line(value: Any) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value)) if value else ""


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _is_replaced(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return True
    mine = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)


def _last_lines(descriptor: int, count: int) -> int:
    """Where the last so many lines begin."""
    position, found = os.fstat(descriptor).st_size, -1  # the newline that ends the file counts for none
    while position > 0:
        start = max(0, position - (1 << 16))
        chunk = os.pread(descriptor, position - start, start)
        at = len(chunk)
        while (at := chunk.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found == count:
                return start + at + 1
        position = start
    return 0

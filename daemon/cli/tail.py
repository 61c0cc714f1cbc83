"""Follows the log, also when it is rotated or removed, and formats its JSON events as readable lines."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from daemon.cli.output import escape_unprintable, format_time, is_terminal

POLL_SECONDS = 0.25
LONGEST_VALUE = 100  # characters
CHUNK_BYTES = 1 << 16
_SHOWN_FIRST = ("timestamp", "level", "event", "batch_id", "source", "stage", "reason")
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def follow(path: Path, last: int, *, forever: bool, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """Yields the last lines of a log, as many as `last`, then each new line while `forever`.

    A log that was rotated is read to its end before the new one.
    """
    descriptor = -1
    rest = b""
    is_first = True
    while True:
        if descriptor < 0:
            descriptor = _open(path)
            if descriptor >= 0 and is_first:
                os.lseek(descriptor, _start_of_last_lines(descriptor, last), os.SEEK_SET)
        is_first = False
        # Asked before the read: a line that is written between both is then read from the old file.
        is_replaced = descriptor >= 0 and _is_replaced(descriptor, path)
        if descriptor >= 0:
            while chunk := os.read(descriptor, CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines if line)
        if is_replaced:
            os.close(descriptor)
            descriptor = -1
            rest = b""
        elif not forever:
            if descriptor >= 0:
                os.close(descriptor)
            return
        else:
            if descriptor >= 0 and os.fstat(descriptor).st_size < os.lseek(descriptor, 0, os.SEEK_CUR):
                os.lseek(descriptor, 0, os.SEEK_SET)  # the file was truncated in place, as by logrotate's copytruncate
            sleep(POLL_SECONDS)


def format_line(line: str) -> str:
    """Returns a line of the log in readable form. A line that is not an event is only escaped."""
    try:
        event: Any = json.loads(line)
    except ValueError:
        return escape_unprintable(line)
    return format_event(event) if isinstance(event, dict) else escape_unprintable(line)


def format_event(event: dict[str, Any]) -> str:
    """Returns an event as one line: time (local on a terminal), level, name, batch, reason, then all other fields."""
    timestamp = str(event.get("timestamp", ""))
    time_text = format_time(timestamp) if is_terminal() and timestamp else timestamp[:19].replace("T", " ")
    return f"{time_text} {describe_event(event)}".strip()


def describe_event(event: Mapping[str, Any]) -> str:
    """Returns an event as one line without its time."""
    level = str(event.get("level", ""))
    subject = " ".join(escape_unprintable(str(event[k])) for k in ("source", "batch_id", "stage") if event.get(k))
    others = (f"{k}={_format_value(v)}" for k, v in event.items() if k not in _SHOWN_FIRST and v not in _EMPTY)
    parts = (
        {"warning": " !", "error": "!!"}.get(level, "  "),
        f"{event.get('event', ''):<22}",
        subject,
        _one_line(event.get("reason")),
        " ".join(others),
    )
    return " ".join(p for p in parts if p).rstrip()


def _format_value(value: Any) -> str:
    match value:
        case float():
            text = f"{value:g}"
        case str():
            text = value
        case _:
            text = json.dumps(value)
    if len(text) <= LONGEST_VALUE:
        return escape_unprintable(text)
    return escape_unprintable(text[: LONGEST_VALUE - 1]) + "…"


def _one_line(value: Any) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value)) if value else ""


def _open(path: Path) -> int:
    """Returns a descriptor, or -1 when there is no file yet."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _is_replaced(descriptor: int, path: Path) -> bool:
    """Returns whether the path is now another file than the open one, or no file."""
    try:
        current = path.stat()
    except OSError:
        return True
    opened = os.fstat(descriptor)
    return (current.st_dev, current.st_ino) != (opened.st_dev, opened.st_ino)


def _start_of_last_lines(descriptor: int, count: int) -> int:
    """Returns the position at which the last `count` lines start."""
    position = os.fstat(descriptor).st_size
    found = -1  # the newline at the end of the file does not separate two lines
    while position > 0:
        start = max(0, position - CHUNK_BYTES)
        chunk = os.pread(descriptor, position - start, start)
        at = len(chunk)
        while (at := chunk.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found == count:
                return start + at + 1
        position = start
    return 0

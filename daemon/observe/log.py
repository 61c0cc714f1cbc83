"""Writes each event as one line of JSON to a file, which may be rotated or removed at any time, and to stderr."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from daemon.observe.events import EVENTS, INFO
from pipeline.contract import hide_secrets

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
OWN_KEYS = ("timestamp", "level", "event")

OnEvent = Callable[[dict[str, Any]], None]
Listener = Callable[[str, Mapping[str, Any]], None]  # receives every event, also those below the level of the log


class Log:
    """Writes events; `info("batch.ready", batch_id=…)` and the like, from any thread."""

    def __init__(
        self,
        path: Path | None,
        level: str = "info",
        *,
        stderr: bool = True,
        on_event: OnEvent | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        self.listeners: list[Listener] = []
        self._on_event = on_event
        self._least = LEVELS.get(level.lower(), logging.INFO)
        self._secrets = tuple(secrets)
        self._logger: Any = structlog.wrap_logger(
            _Lines(path, stderr=stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
                self._with_observer,
                self._without_details,
                _render,
            ],
            # an observer gets every event; a terminal shows the tasks at work, which the file leaves out
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if on_event else self._least),
            context_class=dict,
            cache_logger_on_first_use=True,
        )

    def without_secrets(self, text: str) -> str:
        """Returns the text without secrets. For a text that is cut later: a part of a secret would not be found."""
        return hide_secrets(text, self._secrets)

    def write(self, event: str, /, **values: Any) -> None:
        """Writes an event with its level in the registry; one that is not in it is information."""
        self._emit(EVENTS[event].level if event in EVENTS else INFO, event, values)

    def debug(self, event: str, /, **values: Any) -> None:
        self._emit("debug", event, values)

    def info(self, event: str, /, **values: Any) -> None:
        self._emit("info", event, values)

    def warning(self, event: str, /, **values: Any) -> None:
        self._emit("warning", event, values)

    def error(self, event: str, /, **values: Any) -> None:
        self._emit("error", event, values)

    def _emit(self, level: str, event: str, values: Mapping[str, Any]) -> None:
        for listener in self.listeners:
            listener(event, values)
        getattr(self._logger, level)(event, **_renamed(values))

    def _with_observer(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        own = {k: event.pop(k) for k in OWN_KEYS}
        ordered = {**own, **{k: self._clean(v) for k, v in event.items() if not _is_empty(k, v)}}
        if self._on_event:
            try:
                self._on_event(dict(ordered))
            except OSError:
                self._on_event = None  # the terminal was closed
        return ordered

    def _without_details(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if LEVELS[method] < self._least:
            raise structlog.DropEvent
        return event

    def _clean(self, value: Any) -> Any:
        match value:
            case _ if not self._secrets:
                return value
            case str():
                return self.without_secrets(value)
            case Mapping():
                return {k: self._clean(v) for k, v in value.items()}
            case list() | tuple():
                return [self._clean(v) for v in value]
            case _:
                return value


def _is_empty(key: str, value: Any) -> bool:
    """Whether a field says nothing. Other empty fields stay, because programs read them by name."""
    return value == {} or (key == "stage" and not value)


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    # a worker may report values under the log's own keys
    return {f"{k}_" if k in OWN_KEYS else k: v for k, v in values.items()}


def _render(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str | bytes, str | bytes], dict[str, Any]]:
    """Returns the line for the file, and the one for a terminal or journal, which has no stack trace."""
    return (_json(logger, method, event), _json(logger, method, {k: v for k, v in event.items() if k != "trace"})), {}


_json = structlog.processors.JSONRenderer(default=str)  # escapes all but ASCII, so that no name can break a line


class _Lines:
    def __init__(self, path: Path | None, *, stderr: bool) -> None:
        self._path = path
        self._stderr = stderr
        self._lock = threading.Lock()
        self._descriptor = -1
        self._inode = (0, 0)
        self._is_torn = False

    def msg(self, line: str, short: str) -> None:
        with self._lock:
            if self._path:
                self._to_file(self._path, _bytes(line))
            if self._stderr:
                self._to_stderr(_bytes(short))

    log = debug = info = warn = warning = error = critical = exception = fatal = msg

    def _to_file(self, path: Path, data: bytes) -> None:
        try:
            self._follow_rotation(path)
            whole = b"\n" + data if self._is_torn else data
            self._is_torn = os.write(self._descriptor, whole) < len(whole)
        except OSError:
            # A full or broken log disk must not stop the work. The ledger is the record, and stderr has the line.
            self._is_torn = self._descriptor >= 0 and self._is_torn

    def _follow_rotation(self, path: Path) -> None:
        try:
            seen = path.stat()
            if self._inode == (seen.st_dev, seen.st_ino):
                return
        except OSError:
            path.parent.mkdir(parents=True, exist_ok=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        seen = os.fstat(self._descriptor)
        self._inode = (seen.st_dev, seen.st_ino)
        self._is_torn = seen.st_size > 0 and os.pread(self._descriptor, 1, seen.st_size - 1) != b"\n"

    def _to_stderr(self, data: bytes) -> None:
        try:
            os.write(sys.stderr.fileno(), data)
        except (OSError, ValueError, AttributeError):
            self._stderr = False  # the reader is gone


def _bytes(line: str) -> bytes:
    return (line + "\n").encode("ascii", "backslashreplace")

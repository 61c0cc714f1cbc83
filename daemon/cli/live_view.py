"""Shows the events of a daemon to a person: a line for each result, and on a terminal a spinner for the work."""

import datetime as dt
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.text import Text

from daemon.cli.output import escape_unprintable, format_duration, plural
from daemon.cli.tail import describe_event

if TYPE_CHECKING:
    from rich.console import Console

SHOWN_BY_THE_WORKER = ("worker", "worker_died")  # kinds of trouble that events of the worker show already
IDLE_AFTER = ("published", "duplicate", "rejected", "failed", "retry_scheduled", "requeued")


class LiveView:
    """Prints to one console. `with_times` puts the local time before each line."""

    def __init__(self, console: "Console", *, with_times: bool) -> None:
        self._console = console
        self._with_times = with_times
        self._work = Work()
        self._spinner = console.status(self._work)
        self._is_spinning = False
        self._lock = threading.Lock()  # events come from several threads

    def show(self, event: Mapping[str, Any]) -> None:
        """Shows an event of the log."""
        with self._lock:
            self._work.note(event)
            if line := format_line(event):
                moment = dt.datetime.fromisoformat(event["timestamp"]).astimezone()
                before = f"[dim]{moment:%H:%M:%S}[/dim]" if self._with_times else ""
                self._console.print(f"{before}{line}", highlight=False, soft_wrap=True)
            self._spin()

    def close(self) -> None:
        """Ends the spinner."""
        with self._lock:
            self._work = Work()
            self._spin()

    def _spin(self) -> None:
        is_wanted = self._console.is_terminal and self._work.is_busy
        if is_wanted != self._is_spinning:
            self._is_spinning = is_wanted
            (self._spinner.start if is_wanted else self._spinner.stop)()


class Work:
    """The work that the spinner shows. rich calls `__rich__` some times a second."""

    def __init__(self) -> None:
        self._batch = ""
        self._label = ""
        self._since = time.monotonic()
        self._rows: dict[str, int] = {}
        self._tasks: list[str] = []

    @property
    def is_busy(self) -> bool:
        return bool(self._label)

    def note(self, event: Mapping[str, Any]) -> None:
        """Notes a change of the work."""
        match event["event"].split("."):
            case ["worker", "started"]:
                self._begin("", "the worker starts")
            case ["worker", "ready" | "died" | "start_failed"]:
                self._begin("", "")
            case ["batch", "started"]:
                self._begin(str(event["batch_id"])[-6:], "starts")
            case ["stage", "started"]:
                self._begin(self._batch, str(event["stage"]))
            case ["task", "started"]:
                self._tasks.append(str(event.get("task", "")))
            case ["task", "finished"]:
                self._tasks = [task for task in self._tasks if task != event.get("task")]
            case ["file", "read"]:
                self._rows[str(event.get("feed"))] = int(event.get("rows", 0))
            case ["batch", name] if name in IDLE_AFTER and event.get("batch_id", "")[-6:] == self._batch:
                self._begin("", "")

    def _begin(self, batch: str, label: str) -> None:
        if batch != self._batch:
            self._rows, self._tasks = {}, []
        self._batch, self._label, self._since = batch, label, time.monotonic()

    def __rich__(self) -> Text:
        seconds = time.monotonic() - self._since
        rows = sum(self._rows.values())
        speed = f", {rows / seconds:,.0f} a second" if self._label == "stage" and seconds >= 1 else ""
        about = f"{plural(rows, 'row')}{speed}" if rows else ""
        tasks = ", ".join(map(escape_unprintable, self._tasks[:2])) + (" …" if len(self._tasks) > 2 else "")
        name = f"{self._batch}  {self._label:<10}" if self._batch else self._label
        parts = filter(None, (f"{name} {format_duration(seconds)}", about, tasks))
        return Text("  ".join(parts), no_wrap=True, overflow="ellipsis")


def format_line(event: Mapping[str, Any]) -> str:
    """Returns an event as a line with markup; "" for an event that a person does not need."""
    fields = {k: escape(escape_unprintable(str(v))) for k, v in event.items() if v is not None}
    batch = f"  {fields.get('batch_id', '')[-6:]}  "
    reason = fields.get("reason", "")
    match event["event"]:
        case "worker.ready":
            return f"  the worker is warm after {float(event['seconds']):.1f} s"
        case "worker.died" | "worker.start_failed":
            return f"[red]  {fields['event']}: {reason}[/red]"
        case "stage.finished":
            return f"{batch}{fields['stage']:<10} {event.get('seconds', 0):5.1f} s  {_rows(event)}".rstrip()
        case "batch.waiting":
            return (
                f"[yellow]{batch}waits for {escape(escape_unprintable(', '.join(event.get('missing', []))))}[/yellow]"
            )
        case "batch.published":
            accepted = f"{event.get('rows_accepted', 0):,} of {event.get('rows_read', 0):,} rows"
            counts = f"{accepted}, {event.get('rows_rejected', 0):,} rejected"
            return f"[green]{batch}published  {counts}, score {event.get('score') or 0:.1f}[/green]"
        case "batch.duplicate":
            return f"[green]{batch}{reason or 'duplicate'}[/green]"
        case "batch.rejected" | "batch.failed" | "batch.retry_scheduled" | "batch.requeued":
            return f"[red]{batch}{fields['event'].removeprefix('batch.')}: {reason}[/red]"
        case _:
            return _format_other(event, fields, batch)


def _format_other(event: Mapping[str, Any], fields: Mapping[str, str], batch: str) -> str:
    reason = fields.get("reason", "")
    match event["event"]:
        case "batch.received":
            subject = " ".join(filter(None, (fields.get("source"), fields.get("batch_date"))))
            files = plural(len(event.get("files", ())), "file")
            return f"{batch}received   {subject or fields.get('trigger', '')}, {files}"
        case "trouble.opened" if event.get("kind") not in SHOWN_BY_THE_WORKER:
            return f"[red]  trouble: {reason}; {fields.get('cure', '')}[/red]"
        case "trouble.ended" | "environment.recovered":
            return f"[green]  over: {reason}[/green]"
        case "trouble.opened" | "alert.failed":
            return ""
        case _ if event.get("level") in ("warning", "error"):
            return f"[red]  {escape(describe_event(event).strip())}[/red]"
        case _:
            return ""


def _rows(event: Mapping[str, Any]) -> str:
    names = {
        "rows_in": "rows",
        "accepted": "accepted",
        "rejected": "rejected",
        "versions_changed": "versions changed",
        "rows_restated": "rows enriched",
        "rows_changed": "rows of gold changed",
    }
    return ", ".join(f"{event[k]:,} {name}" for k, name in names.items() if event.get(k))

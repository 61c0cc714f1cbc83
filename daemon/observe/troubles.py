"""Keeps the troubles of this daemon: in the ledger, and in memory while the ledger cannot be written."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

from daemon.clock import Clock
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import Trouble, TroubleKind
from daemon.text import one_line

REPEAT_SECONDS = 60.0  # between two records of an environment that still fails
CALM_SECONDS = 10.0  # without a failure of the environment until it is over: two failures may alternate
CURES = {
    TroubleKind.WORKER: "remove the cause: the worker starts by itself then, and the batches that wait go on",
    TroubleKind.WORKER_STARTING: "`lakegate check` tests the engine; worker.log, beside the log, has its output",
    TroubleKind.WORKER_DIED: "it was started again; worker.log, beside the log, has its last words",
    TroubleKind.ENVIRONMENT: "see to room, rights and mounts: the daemon tries again by itself",
    TroubleKind.ALERTS: "correct [alerts] urls, or see to the service that they name",
    TroubleKind.SERVE: "see to room and rights of the lake's folder; the next batch of the source tries again",
}

Key = tuple[str, str]  # kind and subject
OnTrouble = Callable[[str, Trouble], None]  # trouble.opened or trouble.ended, the trouble after the change


class Troubles:
    """Reports each trouble once when it opens and once when it ends, also one that another process ended."""

    def __init__(self, ledger: Ledger, clock: Clock, report: OnTrouble) -> None:
        self._ledger = ledger
        self._clock = clock
        self._report = report
        self._open = {(t.kind, t.subject): t for t in ledger.troubles()}
        self._unrecorded: dict[Key, Trouble] = {}  # open, and not in the ledger
        self._unended: set[Key] = set()  # over, and still open in the ledger
        self._met: set[str] = set()  # reasons of the environment's failures in this tick
        self._met_before: set[str] = set()  # and in the last one
        self._met_at: dict[str, float] = {}  # by reason: when it was met last
        self._recorded_at: dict[str, float] = {}  # by reason: when the ledger had it last

    def open(self, kind: TroubleKind, subject: str, reason: str, *, source: str = "", batch_id: str = "") -> None:
        """Opens a trouble; one that is open already is met once more."""
        cure = CURES.get(kind) or f"`lakegate adopt {subject}` publishes it, `lakegate restore {subject}` undoes it"
        self._unended.discard((kind, subject))
        about = {"cure": cure, "source": source, "batch_id": batch_id}
        try:
            trouble = self._ledger.open_trouble(kind, subject, reason, **about)
        except sqlite3.Error:
            trouble = self._in_memory(kind, subject, reason, **about)
            self._unrecorded[kind, subject] = trouble
        is_new = (kind, subject) not in self._open
        self._open[kind, subject] = trouble
        if is_new:
            self._report("trouble.opened", trouble)

    def end(self, kind: TroubleKind, subject: str) -> None:
        """Ends a trouble. Without an open one this does nothing."""
        trouble = self._open.pop((kind, subject), None)
        if trouble is None:
            return
        if not self._unrecorded.pop((kind, subject), None):
            self._unended.add((kind, subject))
            self._record_ends()
        self._report("trouble.ended", replace(trouble, ended_at=self._clock.text()))

    def end_all(self, kind: TroubleKind, source: str) -> None:
        """Ends the open troubles of a kind and source."""
        for trouble in [t for t in self._open.values() if (t.kind, t.source) == (kind, source)]:
            self.end(kind, trouble.subject)

    def end_all_but(self, kind: TroubleKind, subjects: Sequence[str]) -> None:
        """Ends the open troubles of a kind whose subject is none of these, such as an address that was removed."""
        for trouble in [t for t in self._open.values() if t.kind == kind and t.subject not in subjects]:
            self.end(kind, trouble.subject)

    def environment_failed(self, reason: str) -> None:
        """Notes a failure of the daemon's surroundings, such as a full disk, that may end without the daemon."""
        reason = one_line(reason)
        self._met.add(reason)
        now = self._met_at[reason] = self._clock.monotonic()
        if now - self._recorded_at.get(reason, -REPEAT_SECONDS) >= REPEAT_SECONDS:
            self._recorded_at[reason] = now
            self.open(TroubleKind.ENVIRONMENT, reason, reason)

    def end_tick(self) -> None:
        """Ends the environment's failures that some seconds did not meet, and those that another process ended."""
        for reason in self._environment() - self._met:
            if self._calm_in(reason) <= 0:
                self._end_environment(reason)
        self._met_before, self._met = self._met, set()
        try:
            self._record_late()
            self._notice_ends()
        except sqlite3.Error:
            return  # the next tick tries again

    def finish(self) -> None:
        """Ends the environment's failures that the last tick did not meet: no other tick follows."""
        for reason in self._environment() - self._met_before - self._met:
            self._end_environment(reason)

    def next_due_in(self) -> float:
        """Returns the seconds until `end_tick` may end a failure of the environment; infinity without one."""
        return min((self._calm_in(reason) for reason in self._environment()), default=float("inf"))

    # ---- details

    def _environment(self) -> set[str]:
        return {subject for kind, subject in self._open if kind == TroubleKind.ENVIRONMENT}

    def _calm_in(self, reason: str) -> float:
        return self._met_at.get(reason, -CALM_SECONDS) + CALM_SECONDS - self._clock.monotonic()

    def _end_environment(self, reason: str) -> None:
        self._met_at.pop(reason, None)
        self._recorded_at.pop(reason, None)
        self.end(TroubleKind.ENVIRONMENT, reason)

    def _in_memory(self, kind: str, subject: str, reason: str, **about: str) -> Trouble:
        now = self._clock.text()
        known = self._open.get((kind, subject))
        return Trouble(
            number=known.number if known else 0,
            kind=kind,
            subject=subject,
            reason=one_line(reason),
            **about,
            since=known.since if known else now,
            last_at=now,
            tries=known.tries + 1 if known else 1,
            ended_at=None,
        )

    def _record_late(self) -> None:
        for key, t in list(self._unrecorded.items()):
            self._open[key] = self._ledger.open_trouble(
                t.kind, t.subject, t.reason, cure=t.cure, source=t.source, batch_id=t.batch_id
            )
            del self._unrecorded[key]
        self._record_ends(raises=True)

    def _record_ends(self, *, raises: bool = False) -> None:
        try:
            for key in list(self._unended):
                self._ledger.end_trouble(*key)
                self._unended.discard(key)
        except sqlite3.Error:
            if raises:
                raise

    def _notice_ends(self) -> None:
        """Reports the troubles that a command such as `lakegate adopt` ended in the ledger."""
        recorded = {(t.kind, t.subject) for t in self._ledger.troubles()}
        for key in [key for key in self._open if key not in recorded]:
            self._report("trouble.ended", replace(self._open.pop(key), ended_at=self._clock.text()))

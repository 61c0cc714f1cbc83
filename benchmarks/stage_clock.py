"""Follows the stages of a batch by its progress. Stages overlap, so the sum of their seconds is not the batch's."""

import time

from pipeline.contract import Progress


class StageClock:
    """Measures the seconds in which no stage runs, from when it is made."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._idle_seconds = 0.0
        self._idle_since = time.monotonic()

    def receive(self, progress: Progress) -> None:
        """Receives an event of the batch."""
        now = time.monotonic()
        if progress.event == "stage.started":
            self._idle_seconds += 0.0 if self._open else now - self._idle_since
            self._open.append(progress.stage)
        if progress.event == "stage.finished":
            self._open.remove(progress.stage)
            self._idle_since = now

    @property
    def stage(self) -> str:
        """The stage that started last of those that run; empty where none does."""
        return self._open[-1] if self._open else ""

    @property
    def elsewhere(self) -> float:
        """The seconds so far in which no stage ran."""
        return self._idle_seconds + (0.0 if self._open else time.monotonic() - self._idle_since)

"""Threads that stand for processes: each has a lake of its own, and may stop at a step and go on later."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from effort import tries
from factories_lake import GOLD, opened, publish, state

from pipeline.commit.journal import has_open_journal
from pipeline.commit.manifest import Manifest
from pipeline.errors import DeclarationError, ExternalCommit, SetupError
from pipeline.lake.lake import Lake

WAIT_FOR_A_PERSON = ExternalCommit, DeclarationError, SetupError
STEPS = "exists", "is_newest", "version", "commits", "create", "append", "change", "restore", "sync", "_open"
Act = Callable[[Path, Lake], object]


class SteppedLake(Lake):
    """A lake that calls a function before and after each of its steps."""

    step: Callable[[], None] = staticmethod(lambda: None)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in STEPS:
            return found

        def stepped(*values: Any, **named: Any) -> Any:
            self.step()
            result = found(*values, **named)
            self.step()
            return result

        return stepped


class Writer:
    """A process that acts on a lake until a step, and to its end when it is told so."""

    def __init__(self, act: Act, path: Path, stops_at: int = -1) -> None:
        self.error: Exception | None = None
        self.steps = 0
        self._stops_at = stops_at
        self._stands, self._goes = threading.Event(), threading.Event()
        lake = opened(path, SteppedLake)
        lake.step = self._step  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._run, args=(act, path, lake))
        self._thread.start()
        self._stands.wait()

    def _run(self, act: Act, path: Path, lake: Lake) -> None:
        try:
            act(path, lake)
        except Exception as error:  # noqa: BLE001 - the test judges it in another thread
            self.error = error
        self._stands.set()

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self._stops_at:
            self._stands.set()
            self._goes.wait()

    def end(self) -> None:
        """Lets it go on to its end. No error of it may wait for a person."""
        self._goes.set()
        self._thread.join()
        assert not isinstance(self.error, WAIT_FOR_A_PERSON), repr(self.error)


def published(path: Path, batch_id: str) -> bool:
    return Manifest(opened(path)).published_row(batch_id) is not None


def publish_once(path: Path, batch_id: str, attempt: int) -> None:
    """What a daemon does: a batch that is published is a duplicate."""
    if not published(path, batch_id):
        publish(path, batch_id, attempt)


def assert_whole(path: Path) -> None:
    """Publishes one more batch: nothing may be in its way. Then every batch counts once."""
    publish(path, "last")
    assert not has_open_journal(opened(path))
    rows = opened(path).arrow("ops.batches").sort_by("batch_seq").to_pylist()
    batches = [row["batch_id"] for row in rows if row["kind"] == "batch"]
    assert len(batches) == len(set(batches)), batches
    assert [row["batch_seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert state(path)[GOLD] == [{"name": "all", "amount": 10 * len(batches)}]


def some_of(count: int, quick: int) -> list[int]:
    """Returns steps from 1 to `count`: half of them in `make test-all`, else some; other ones in each run.

    A writer stops before and after each look or write, and mostly nothing lies between two of these moments.
    """
    return sorted(random.sample(range(1, count + 1), min(count, tries(quick=quick, every=max(count // 2, quick)))))

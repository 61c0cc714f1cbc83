"""Sites for tests of the command: a folder with a configuration, and batches of any state in a real ledger."""

import datetime as dt
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon.batch import Batch, BatchFile, FileState, State
from daemon.clock import Clock
from daemon.config.config import Config
from daemon.config.load import load_config
from daemon.ledger.ledger import Ledger
from pipeline.contract import Outcome, Result, RuleResult

DAY = dt.date(2026, 3, 4)
FILES = ("orders_2026_03_04.csv", "customers_2026_03_04.csv")


class Site:
    """A folder with a configuration file."""

    def __init__(self, root: Path, text: str = "") -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.path = root / "config.toml"
        self.path.write_text(text)
        self._seconds = 0

    @property
    def config(self) -> Config:
        return load_config(self.path, {})

    def ledger(self) -> Ledger:
        return Ledger.open(self.config.ledger_path, Clock(now=self._tick))

    def _tick(self) -> dt.datetime:
        self._seconds += 1
        return dt.datetime(2026, 3, 5, 8, 0, 0, tzinfo=dt.UTC) + dt.timedelta(seconds=self._seconds)

    def batch(
        self,
        state: State,
        batch_id: str = "20260305T080000-4f1c00",
        reason: str = "",
        date: dt.date = DAY,
        **columns: Any,
    ) -> Batch:
        """Returns a batch of two files that is moved to this state."""
        ledger = self.ledger()
        is_claimed = state != State.WAITING
        files = [self._file(n, name, is_claimed=is_claimed) for n, name in enumerate(FILES, start=1)]
        ledger.receive(batch_id, trigger="trigger_4.json", files=files, source="retail", batch_date=date)
        if is_claimed and state != State.READY:
            ledger.move(batch_id, State.READY, "batch.ready")
            ledger.move(batch_id, State.RUNNING, "batch.started", attempts=1)
        if state in (State.PUBLISHED, State.ARCHIVED):
            columns.setdefault("published_at", "2026-03-05T08:00:09.000Z")
        if state == State.ARCHIVED:
            ledger.move(batch_id, State.PUBLISHED, "batch.published")
        if state == State.RUNNING:
            batch = ledger.batch(batch_id)
        elif is_claimed:
            batch = ledger.move(batch_id, state, f"batch.{state.lower()}", reason, **columns)
        else:
            ledger.update(batch_id, reason=reason, **columns)
            batch = ledger.batch(batch_id)
        ledger.close()
        return batch

    def _file(self, number: int, name: str, *, is_claimed: bool) -> BatchFile:
        known: dict[str, Any] = (
            {"state": FileState.CLAIMED, "sha256": f"{number:064x}", "bytes": 1000 * number} if is_claimed else {}
        )
        return BatchFile(number=number, kind="data", name=name, feed=name.partition("_")[0], **known)


def answer(batch_id: str, *findings: RuleResult, **values: Any) -> dict[str, Any]:
    """Returns a worker's result as the ledger stores it."""
    return asdict(Result(batch_id=batch_id, outcome=Outcome.PUBLISHED, findings=findings, **values))


def finding(rule: str, broken: int, severity: str = "HIGH") -> RuleResult:
    return RuleResult(feed="orders", rule=rule, severity=severity, action="REJECT", checked=100, broken=broken)

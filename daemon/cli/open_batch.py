"""The lines of a batch's story that say what an open batch waits for, or how far it is, and what follows."""

from collections.abc import Iterator
from dataclasses import asdict

from daemon import attention
from daemon.batch import Batch, State
from daemon.cli.output import format_local_time
from daemon.cli.show_status import progress
from daemon.clock import Clock, as_text
from daemon.config.config import Config
from daemon.files.lock_holder import lock_holder
from daemon.ledger.ledger import Ledger


def lines(batch: Batch, ledger: Ledger, config: Config) -> Iterator[tuple[str, str]]:
    """Yields a label and a text: the stage of a running batch, the files of a waiting one with the end of its wait."""
    now = Clock().now()
    if batch.state == State.RUNNING and (activity := ledger.activity()):
        yield "stage", progress(asdict(activity), now)
    if batch.state == State.WAITING and batch.waiting_for:
        daemon = lock_holder(config.landing.path)
        until = attention.end_of_wait(
            batch, config.landing.missing_file_timeout_seconds, now, daemon.since if daemon else None
        )
        when = f" until {format_local_time(as_text(until), now)}, then it is rejected" if daemon else "; no daemon runs"
        yield "missing", f"{attention.missing_files(batch)}{when}"


def next_step(batch: Batch, config: Config) -> str:
    """Returns when a ready batch begins; "" for all others."""
    if batch.state != State.READY or batch.next_attempt_at:
        return ""
    if lock_holder(config.landing.path) is None:
        return "it begins when the daemon runs: lakegate run"
    return "it begins when the worker is ready and its turn comes: lakegate status"

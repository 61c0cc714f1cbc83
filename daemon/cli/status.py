"""Collects the state of daemon, worker, ledger, landing folder and lake. `show_status` formats it for a person.

Changes nothing. It reads the ledger, the folders, and the locks of the kernel; the lake only for what the ledger lacks.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from daemon import attention
from daemon.batch import State
from daemon.clock import Clock, as_text
from daemon.config.config import Config
from daemon.files.lock_holder import LockHolder, child_process, lock_holder, started_at
from daemon.intake.feed_match import feeds_of, set_aside
from daemon.landing.scan import Landing
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import engine_of_worker
from daemon.text import escape, one_line
from pipeline import contract

NEAR = 0.7  # how alike the beginnings of a file's name and of a pattern are, from 0 to 1
DAY = dt.timedelta(hours=24)


def status(config: Config, ledger: Ledger, clock: Clock | None = None) -> dict[str, Any]:
    """Returns the shape of `status --json`."""
    now = (clock or Clock()).now()
    daemon = lock_holder(config.landing.path)
    worker, other = find_writers(daemon, config.settings.lake)
    last = ledger.last_published()
    outdated, unreadable = outdated_tables(config, ledger)
    unclaimed, triggers = unclaimed_files(config, ledger)
    engine = engine_of_worker(ledger.figures(), worker)
    catalogue = contract.catalog(config.settings.source_paths, config.settings.exclude) if unclaimed else ()
    needs = attention.needs(
        ledger,
        now,
        missing_file_timeout_seconds=config.landing.missing_file_timeout_seconds,
        daemon_since=daemon.since if daemon else None,
    )
    return {
        "now": as_text(now),
        "needs": [asdict(need) for need in needs],
        "running": running(config, ledger),
        "troubles": [asdict(trouble) for trouble in ledger.troubles()],
        "gold_shows": ledger.gold_shows(),
        "last_24_hours": ledger.figures_since(now - DAY),
        "daemon": {
            "running": daemon is not None,
            "pid": daemon.pid if daemon else None,
            "since": as_text(daemon.since) if daemon and daemon.since else None,
        },
        "worker": {
            "running": worker is not None,
            "pid": worker,
            "since": as_text(began) if worker and (began := started_at(worker)) else None,
            "ready": bool(engine),
            "engine": engine or None,
        },
        "engine": config.settings.engine,
        "lake": {"held_by": other, "unreadable": unreadable},
        "batches": ledger.counts(),
        "last_published": last
        and {
            "batch_id": last.batch_id,
            "source": last.source,
            "batch_date": last.batch_date.isoformat() if last.batch_date else None,
            "published_at": last.published_at,
        },
        "waiting_for": ledger.waiting_for(),
        "unclaimed": unclaimed,
        "triggers": triggers,
        "no_feed": files_without_feed(unclaimed, catalogue),
        "set_aside": set_aside_files(unclaimed, catalogue),
        "outdated": outdated,
    }


def running(config: Config, ledger: Ledger) -> dict[str, Any] | None:
    """Returns the work on the running batch: its stage and tasks, each with its start; None where no batch runs."""
    activity = ledger.activity()
    if activity is None:
        return None
    batch = ledger.batch(activity.batch_id)
    return {
        **asdict(activity),
        "source": batch.source,
        "batch_date": batch.batch_date.isoformat() if batch.batch_date else None,
        "attempts": config.retry.attempts,
        "usual_seconds": ledger.usual_seconds(batch.source),
    }


def find_writers(daemon: LockHolder | None, lake: contract.Place) -> tuple[int | None, int | str | None]:
    """Returns the process ids of the worker and of another writer to the lake; None for each that does not run.

    The worker is the process that writes to the lake, or the daemon's idle worker. A worker waits for another writer.
    A writer on another machine has that machine's name: `4711 on night-2`.
    """
    own = child_process(daemon.pid, "pipeline") if daemon else None
    writer = _writer(lake)
    if isinstance(writer, str):
        return own, writer
    if daemon is None or writer in (None, own, daemon.pid):
        return (own if writer is None else writer), None
    return own, writer


def _writer(lake: contract.Place) -> int | str | None:
    if isinstance(lake, Path):
        found = lock_holder(lake / ".lock")
        return found.pid if found else None
    try:
        holder = contract.lease_holder(lake)
    except Exception:  # noqa: BLE001 - a store that does not answer is reported with the tables
        return None
    if holder is None or holder.is_here:
        return holder.pid if holder else None
    return f"{holder.pid} on {holder.host}"


def outdated_tables(config: Config, ledger: Ledger) -> tuple[list[str], str | None]:
    """Returns the published tables with rows of an older definition, or with missing rows; and None.

    For a lake that cannot be read, returns no tables and a sentence with the reason. The ledger has the definitions of
    the batches that this version published; only for others the lake is opened, which takes longer than all the rest.
    """
    from pipeline.reader import outdated

    known = ledger.fingerprints()
    try:
        contract.check_lake(config.settings.lake)
        found = outdated.outdated_by_source(config.settings, known if known and all(known.values()) else None)
    except Exception as error:  # noqa: BLE001 - the lake may be damaged or newer; all other facts are still shown
        return [], one_line(error, most=None)
    return sorted(table for tables in found.values() for table in tables or ()), None


def unclaimed_files(config: Config, ledger: Ledger) -> tuple[list[str], int]:
    """Returns the data files in the landing folder that no waiting batch names, such as `monday/orders.csv`.

    Also returns the number of trigger files that are no batch yet: they may name these files.
    """
    named = {f.name for b in ledger.batches(State.WAITING) for f in b.data_files}
    zone = Landing(config.landing, Clock(), on_failure=lambda _sentence: None, on_open=lambda _descriptor: None)
    try:
        seen = zone.scan()
    finally:
        zone.close()
    free = (copies for name, copies in seen.data.items() if name not in named)
    triggers = {(t.name, t.inode) for t in seen.triggers} - ledger.moving_triggers()
    return sorted(str(Path(s.folder) / s.name) for copies in free for s in copies), len(triggers)


def set_aside_files(files: Sequence[str], catalogue: Sequence[contract.CatalogSource]) -> list[dict[str, str]]:
    """Returns the files that no trigger can take because of their names, each with the reason."""
    reasons = {file: set_aside(Path(file).name, catalogue) for file in files}
    return [{"file": escape(file), "reason": reason} for file, reason in reasons.items() if reason]


def files_without_feed(files: Sequence[str], catalogue: Sequence[contract.CatalogSource]) -> list[dict[str, str]]:
    """Returns the files that match no feed, each with the pattern that is nearest by its beginning, or ''."""
    unmatched = [file for file in files if not feeds_of(Path(file).name, catalogue)]
    return [{"file": escape(file), "near": _nearest_pattern(Path(file).name, catalogue)} for file in unmatched]


def _nearest_pattern(name: str, catalogue: Sequence[contract.CatalogSource]) -> str:
    def likeness(pattern: str) -> float:
        beginning = pattern.partition("*")[0]
        return SequenceMatcher(None, name[: len(beginning)], beginning).ratio() if beginning else 0.0

    patterns = [f.files for source in catalogue for f in source.feeds]
    nearest = max(patterns, key=likeness, default="")
    return nearest if likeness(nearest) >= NEAR else ""

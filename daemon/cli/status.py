"""Collects the state of daemon, worker, ledger, landing folder and lake, and formats it for a person.

Changes nothing. It reads the ledger, the folders, the locks of the kernel, and the manifest of the lake.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.batch import State
from daemon.cli import output
from daemon.clock import Clock, as_text
from daemon.config.config import Config
from daemon.files.lock_holder import LockHolder, child_process, lock_holder
from daemon.intake.feed_match import set_aside
from daemon.landing.scan import Landing
from daemon.ledger.ledger import Ledger
from daemon.text import escape, join_names, one_line
from pipeline import contract

MOST_SET_ASIDE = 3


def status(config: Config, ledger: Ledger) -> dict[str, Any]:
    """Returns the shape of `status --json`."""
    daemon = lock_holder(config.landing.path)
    worker, other = find_writers(daemon, Path(config.settings.lake_path))
    last = ledger.last_published()
    outdated, unreadable = outdated_tables(config)
    unclaimed = unclaimed_files(config, ledger)
    return {
        "daemon": {
            "running": daemon is not None,
            "pid": daemon.pid if daemon else None,
            "since": as_text(daemon.since) if daemon and daemon.since else None,
        },
        "worker": {"running": worker is not None, "pid": worker},
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
        "set_aside": set_aside_files(config, unclaimed),
        "outdated": outdated,
    }


def find_writers(daemon: LockHolder | None, lake: Path) -> tuple[int | None, int | None]:
    """Returns the process ids of the worker and of another writer to the lake; None for each that does not run.

    The worker is the process that writes to the lake, or the daemon's idle worker. A worker waits for another writer.
    """
    writer = lock_holder(lake / ".lock")
    if daemon is None:
        return (writer.pid if writer else None), None
    own = child_process(daemon.pid, "pipeline")
    if writer is None or writer.pid in (own, daemon.pid):
        return (writer.pid if writer else own), None
    return own, writer.pid


def outdated_tables(config: Config) -> tuple[list[str], str | None]:
    """Returns the published tables with rows of an older definition, or with missing rows; and None.

    For a lake that cannot be read, returns no tables and a sentence with the reason.
    """
    from pipeline.reader import outdated

    try:
        found = outdated.outdated_by_source(config.settings)
    except Exception as error:  # noqa: BLE001 - the lake may be damaged or newer; all other facts are still shown
        return [], one_line(error, most=None)
    return sorted(table for tables in found.values() for table in tables or ()), None


def unclaimed_files(config: Config, ledger: Ledger) -> list[str]:
    """Returns the data files in the landing folder that no waiting batch names, such as `monday/orders.csv`."""
    named = {f.name for b in ledger.batches(State.WAITING) for f in b.data_files}
    zone = Landing(config.landing, Clock(), on_failure=lambda _sentence: None, on_open=lambda _descriptor: None)
    try:
        seen = zone.scan().data
    finally:
        zone.close()
    return sorted(str(Path(s.folder) / s.name) for name, copies in seen.items() if name not in named for s in copies)


def set_aside_files(config: Config, files: Sequence[str]) -> list[dict[str, str]]:
    """Returns the files that no trigger can take, each with the reason."""
    catalogue = contract.catalog(config.settings.source_paths, config.settings.exclude)
    reasons = {file: set_aside(Path(file).name, catalogue) for file in files}
    return [{"file": escape(file), "reason": reason} for file, reason in reasons.items() if reason]


def lines(current: Mapping[str, Any]) -> list[str]:
    """Returns the result of `status` as lines for a person."""
    parts = (*_processes(current), *_batches(current), *_files(current), *_outdated(current))
    return [f"{label:<10}{text}" for label, text in parts]


def _processes(current: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    daemon = current["daemon"]
    worker = current["worker"]
    lake = current["lake"]
    if daemon["running"]:
        yield "daemon", f"running, process {daemon['pid']}, since {output.format_time(daemon['since'])}"
    else:
        yield "daemon", "not running"
    yield "worker", f"running, process {worker['pid']}" if worker["running"] else "not running"
    if lake["held_by"]:
        yield "lake", f"process {lake['held_by']} writes to it; the worker waits for its end"
    if lake["unreadable"]:
        yield "lake", f"cannot be read: {lake['unreadable']}"


def _batches(current: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    counts = " · ".join(f"{count} {output.coloured(state, state)}" for state, count in current["batches"].items())
    yield "batches", counts or "none yet"
    last = current["last_published"]
    if last:
        time = output.format_time(last["published_at"])
        yield "published", f"{last['source']} {last['batch_date']} at {time} · batch {last['batch_id']}"
    else:
        yield "published", "nothing yet"
    for waiting in current["waiting_for"]:
        since = output.format_time(waiting["since"])
        reason = f"; {waiting['reason']}" if waiting["reason"] else ""
        yield "waiting", f"{escape(waiting['trigger'])} since {since}: {join_names(waiting['files'])}{reason}"


def _files(current: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    unclaimed = current["unclaimed"]
    if unclaimed:
        count = output.plural(len(unclaimed), "data file")
        yield "unclaimed", f"{count} that no trigger names: {join_names(unclaimed)}"
    for one in current["set_aside"][:MOST_SET_ASIDE]:
        yield "set aside", f"{one['file']} {one['reason']}"


def _outdated(current: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if current["outdated"]:
        effect = "not all rows follow the current definition; `lakegate check` names the batches"
        yield "outdated", f"{join_names(current['outdated'])}: {effect}"

"""Shows what the daemon is doing, what waits, and what lies about.

Reads only: the ledger, the folders, the kernel's locks, and which definitions the rows of the lake follow.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.batch import State
from daemon.cli import output
from daemon.clock import Clock, as_text
from daemon.config.config import Config
from daemon.files.lock_holder import Holder, child, holder
from daemon.intake.trigger import set_aside
from daemon.landing.scan import Landing
from daemon.ledger.ledger import Ledger
from daemon.text import listed, printable
from pipeline import contract

MOST_SET_ASIDE = 3


def status(config: Config, ledger: Ledger) -> dict[str, Any]:
    """The shape of `status --json`."""
    daemon = holder(config.landing.path)
    worker, other = writers(daemon, Path(config.settings.lake_path))
    last = ledger.last_published()
    tables, unreadable = outdated(config)
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
        "unclaimed": (lying := unclaimed(config, ledger)),
        "set_aside": aside(config, lying),
        "outdated": tables,
    }


def writers(daemon: Holder | None, lake: Path) -> tuple[int | None, int | None]:
    """Returns the worker's process and that of another writer, for whose end the worker waits; each may be missing.

    The worker is the process that writes to the lake, or the daemon's warm one that has no order.
    """
    writer = holder(lake / ".lock")
    if daemon is None:
        return (writer.pid if writer else None), None
    own = child(daemon.pid, "pipeline")
    if writer is None or writer.pid in (own, daemon.pid):
        return (writer.pid if writer else own), None
    return own, writer.pid


def outdated(config: Config) -> tuple[list[str], str | None]:
    """Returns the published tables that hold rows of other definitions than that of now, or lack rows.

    Where the lake cannot be read there are none, and a sentence says why.
    """
    outdated = importlib.import_module("pipeline.reader.outdated")
    try:
        found = outdated.outdated_by_source(config.settings)
    except Exception as error:  # noqa: BLE001 - damaged, or of a newer version: the rest is still to be shown
        return [], " ".join(str(error).split())
    return sorted(table for tables in found.values() for table in tables or ()), None


def unclaimed(config: Config, ledger: Ledger) -> list[str]:
    """Data files in the landing folder that no open trigger names, as they lie there: `orders.csv`, `monday/orders.csv`."""
    named = {f.name for b in ledger.batches(State.WAITING) for f in b.data_files}
    zone = Landing(config, Clock(), on_trouble=lambda _sentence: None, on_open=lambda _descriptor: None)
    try:
        seen = zone.look().data
    finally:
        zone.close()
    return sorted(str(Path(s.folder) / s.name) for name, spots in seen.items() if name not in named for s in spots)


def aside(config: Config, files: Sequence[str]) -> list[dict[str, str]]:
    """Files that look like deliveries and that no trigger can take, each with the reason."""
    catalogue = contract.catalog(config.settings.source_paths, config.settings.without)
    reasons = {file: set_aside(Path(file).name, catalogue) for file in files}
    return [{"file": printable(file), "reason": reason} for file, reason in reasons.items() if reason]


def lines(now: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    daemon, worker, last = now["daemon"], now["worker"], now["last_published"]
    counts = " · ".join(f"{count} {output.coloured(state, state)}" for state, count in now["batches"].items())
    running = f"running, process {daemon['pid']}, since {output.moment(daemon['since'])}"
    told = [
        ("daemon", running if daemon["running"] else "not running"),
        ("worker", f"running, process {worker['pid']}" if worker["running"] else "not running"),
        *(
            [("lake", f"process {now['lake']['held_by']} writes to it; the worker waits for its end")]
            if now["lake"]["held_by"]
            else []
        ),
        *([("lake", f"cannot be read: {now['lake']['unreadable']}")] if now["lake"]["unreadable"] else []),
        ("batches", counts or "none yet"),
        (
            "published",
            f"{last['source']} {last['batch_date']} at {output.moment(last['published_at'])} · batch {last['batch_id']}"
            if last
            else "nothing yet",
        ),
    ]
    for w in now["waiting_for"]:
        what = f"{printable(w['trigger'])} since {output.moment(w['since'])}: {listed(w['files'])}"
        told.append(("waiting", f"{what}; {w['reason']}" if w["reason"] else what))
    if now["unclaimed"]:
        told.append(
            (
                "unclaimed",
                f"{output.plural(len(now['unclaimed']), 'data file')} that no trigger names: {listed(now['unclaimed'])}",
            )
        )
    told += [("set aside", f"{one['file']} {one['reason']}") for one in now["set_aside"][:MOST_SET_ASIDE]]
    if now["outdated"]:
        says = "not all rows follow the definition of now; `lakegate check` says since when"
        told.append(("outdated", f"{listed(now['outdated'])}: {says}"))
    return [f"{label:<10}{text}" for label, text in told]

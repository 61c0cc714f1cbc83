"""Tells what the daemon is doing, what waits, and what lies about. Reads only: the ledger, the folders, the kernel's locks."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon import show
from daemon.batch import State
from daemon.clock import Clock, as_text
from daemon.config import Config
from daemon.holders import Holder, child, holder
from daemon.landing import Landing
from daemon.ledger import Ledger
from daemon.wording import listed, printable


def status(config: Config, ledger: Ledger) -> dict[str, Any]:
    """The shape of `status --json`."""
    daemon = holder(config.landing.path)
    worker, other = writers(daemon, Path(config.settings.lake_path))
    last = ledger.last_published()
    return {
        "daemon": {"running": daemon is not None, "pid": daemon.pid if daemon else None, "since": as_text(daemon.since) if daemon and daemon.since else None},
        "worker": {"running": worker is not None, "pid": worker},
        "lake": {"held_by": other},
        "batches": ledger.counts(),
        "last_published": last
        and {
            "batch_id": last.batch_id,
            "source": last.source,
            "batch_date": last.batch_date.isoformat() if last.batch_date else None,
            "published_at": last.published_at,
        },
        "waiting_for": ledger.waiting_for(),
        "unclaimed": unclaimed(config, ledger),
        "outdated": outdated(config),
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


def outdated(config: Config) -> list[str]:
    """Published tables whose definition is another now than when their newest batch was published."""
    definitions = importlib.import_module("pipeline.definitions")
    found = definitions.outdated(config.settings)
    return sorted(table for tables in found.values() for table in tables or ())


def unclaimed(config: Config, ledger: Ledger) -> list[str]:
    """Data files in the landing folder that no open trigger names, as they lie there: `orders.csv`, `monday/orders.csv`."""
    named = {f.name for b in ledger.batches(State.WAITING) for f in b.data_files}
    zone = Landing(config, Clock(), on_trouble=lambda _sentence: None, on_open=lambda _descriptor: None)
    try:
        seen = zone.look().data
    finally:
        zone.close()
    return sorted(str(Path(s.folder) / s.name) for name, spots in seen.items() if name not in named for s in spots)


def lines(now: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    daemon, worker, last = now["daemon"], now["worker"], now["last_published"]
    counts = " · ".join(f"{count} {show.coloured(state, state)}" for state, count in now["batches"].items())
    running = f"running, process {daemon['pid']}, since {show.moment(daemon['since'])}"
    told = [
        ("daemon", running if daemon["running"] else "not running; start it with `lakegate run`"),
        ("worker", f"running, process {worker['pid']}" if worker["running"] else "not running"),
        *([("lake", f"process {now['lake']['held_by']} writes to it; the worker waits for its end")] if now["lake"]["held_by"] else []),
        ("batches", counts or "none yet"),
        ("published", f"{last['source']} {last['batch_date']} at {show.moment(last['published_at'])} · batch {last['batch_id']}" if last else "nothing yet"),
    ]
    told += [("waiting", f"{printable(w['trigger'])} since {show.moment(w['since'])}: {listed(w['files'])}") for w in now["waiting_for"]]
    if now["unclaimed"]:
        told.append(("unclaimed", f"{show.plural(len(now['unclaimed']), 'data file')} that no trigger names: {listed(now['unclaimed'])}"))
    if now["outdated"]:
        told.append(("outdated", f"{listed(now['outdated'])}: the definition has changed since the newest batch; older rows follow the old one"))
    return [f"{label:<10}{text}" for label, text in told]

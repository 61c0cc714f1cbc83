"""Measures the real daemon: how long from a touch file to the work order, beyond the quiet time that it has to keep, and what it
costs while nothing happens.

JSON triggers and bare touch files come in turn, each when the batch before it has been archived.
"""

import argparse
import datetime as dt
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from figures import machine, show, spread
from live_site import Event, LiveSite
from processes import descendants, end_tidily, memory_mb, name_of, processor_seconds
from retail_data import Shop, orders_for

SETTLING_SECONDS = 8.0  # after the last batch: its housekeeping is no idleness


def delivered(site: LiveSite, shop: Shop, pairs: int, folder: Path) -> dict[bool, list[tuple[float, float]]]:
    """Delivers day after day; tells, for JSON triggers and bare touch files, the seconds from touch to work order and to published."""
    seconds: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for day in range(1 + 2 * pairs):
        is_bare = day % 2 == 0
        touched_at = site.deliver(shop.write(day, folder / str(day)), is_bare=is_bare)
        site.await_events("batch.archived", day + 1)
        started, published = (_at(site.await_events(name, day + 1)[day]) for name in ("batch.started", "batch.published"))
        if day:  # the first fills the lake
            seconds[is_bare].append((started - touched_at, published - touched_at))
    return seconds


def idle(pids: Sequence[int], seconds: float) -> dict[int, float]:
    """Watches processes while nothing happens; tells the share of a core that each takes, in percent."""
    before = {pid: processor_seconds(pid) for pid in pids}
    time.sleep(seconds)
    return {pid: 100 * (processor_seconds(pid) - before[pid]) / seconds for pid in pids}


def _at(event: Event) -> float:
    return dt.datetime.fromisoformat(event["timestamp"]).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("spark", "sail"), default="sail")
    parser.add_argument("--rows", type=int, default=100, help="of a batch, in all feeds")
    parser.add_argument("--quiet-seconds", type=float, default=0.5, help="the daemon's [debounce] quiet_seconds")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--idle-seconds", type=float, default=20.0)
    options = parser.parse_args()
    end_tidily()
    print(machine())
    shop = Shop(orders=500, orders_a_day=orders_for(options.rows))
    with tempfile.TemporaryDirectory(prefix="latency_") as folder:
        root = Path(folder)
        site = LiveSite(root / "site", engine=options.engine, quiet_seconds=options.quiet_seconds)
        with site.daemon() as daemon:
            seconds = delivered(site, shop, options.pairs, root / "files")
            time.sleep(SETTLING_SECONDS)
            pids = [daemon, *descendants(daemon)]
            shares = idle(pids, options.idle_seconds)
            processes = [("daemon" if pid == daemon else f"worker ({name_of(pid)})", share, memory_mb(pid)) for pid, share in shares.items()]
    rows = []
    for is_bare, name in ((False, "JSON trigger"), (True, "bare touch file")):
        rows.append((f"{name} to work order, beyond {options.quiet_seconds:g} s of quiet", *spread([s - options.quiet_seconds for s, _ in seconds[is_bare]])))
        rows.append((f"{name} to published, {options.engine}", *spread([p for _, p in seconds[is_bare]])))
    show(f"{options.pairs} batches of about {options.rows} rows each way, in turn", ("seconds", "median", "least", "greatest"), rows)
    show(f"idle for {options.idle_seconds:g} s", ("process", "% of a core", "resident MB"), processes)


if __name__ == "__main__":
    main()

"""Measures the running daemon: the delay from touch file to work order beyond the quiet time, and its cost while idle.

JSON triggers and bare touch files come in turn, right after their files or some seconds later. Each one waits until the
batch before it is archived.
"""

import argparse
import datetime as dt
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figures import machine, show, spread
from live_site import LiveSite
from processes import descendants, exit_on_sigterm, memory_mb, name_of, processor_seconds
from retail_data import Shop, orders_for

PAUSE_SECONDS = 3.0
WAYS: dict[str, dict[str, Any]] = {
    "JSON trigger": {},
    "JSON trigger, files there already": {"pause_seconds": PAUSE_SECONDS},
    "bare touch file": {"is_bare": True},
    "bare touch file, files there already": {"is_bare": True, "pause_seconds": PAUSE_SECONDS},
}
SETTLING_SECONDS = 8.0  # after the last batch, whose cleanup does not count as idle time


def deliver_in_turn(site: LiveSite, shop: Shop, rounds: int, folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Returns, by way of delivery, the seconds of each day from touch file to work order and to published."""
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for day, way in enumerate((1 + rounds) * [*WAYS]):
        touched_at = site.deliver(shop.write(day, folder / str(day)), **WAYS[way])
        batch = site.await_events("batch.archived", day + 1)[day]["batch_id"]
        at = {
            e["event"]: dt.datetime.fromisoformat(e["timestamp"]).timestamp()
            for e in site.events()
            if e.get("batch_id") == batch
        }
        seconds[way].append((at["batch.started"] - touched_at, at["batch.published"] - touched_at))
    return {
        way: values[1:] for way, values in seconds.items()
    }  # the first round fills the lake and warms up the worker


def idle_shares(pids: Sequence[int], seconds: float) -> dict[int, float]:
    """Returns the share of a core that each process uses while nothing happens, in percent."""
    before = {pid: processor_seconds(pid) for pid in pids}
    time.sleep(seconds)
    return {pid: 100 * (processor_seconds(pid) - before[pid]) / seconds for pid in pids}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("spark", "sail"), default="sail")
    parser.add_argument("--rows", type=int, default=100, help="of a batch, in all feeds")
    parser.add_argument("--quiet-seconds", type=float, default=0.5, help="the daemon's [debounce] quiet_seconds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle-seconds", type=float, default=20.0)
    options = parser.parse_args()
    exit_on_sigterm()
    print(machine())
    shop = Shop(orders=500, orders_a_day=orders_for(options.rows))
    with tempfile.TemporaryDirectory(prefix="latency_") as folder:
        root = Path(folder)
        site = LiveSite(root / "site", engine=options.engine, quiet_seconds=options.quiet_seconds)
        with site.daemon() as daemon:
            seconds = deliver_in_turn(site, shop, options.rounds, root / "files")
            time.sleep(SETTLING_SECONDS)
            pids = [daemon, *descendants(daemon)]
            shares = idle_shares(pids, options.idle_seconds)
            processes = [
                ("daemon" if pid == daemon else f"worker ({name_of(pid)})", share, memory_mb(pid))
                for pid, share in shares.items()
            ]
    quiet = options.quiet_seconds
    rows = [
        (f"{way}: to the work order, beyond {quiet:g} s", *spread([s - quiet for s, _ in values]))
        for way, values in seconds.items()
    ]
    rows += [
        (f"{way}: to published, {options.engine}", *spread([p for _, p in values])) for way, values in seconds.items()
    ]
    show(
        f"{options.rounds} batches of about {options.rows} rows each way, in turn",
        ("seconds", "median", "minimum", "maximum"),
        rows,
    )
    show(f"idle for {options.idle_seconds:g} s", ("process", "% of a core", "resident MB"), processes)


if __name__ == "__main__":
    main()

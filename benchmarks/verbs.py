"""Measures the reading verbs of the command as whole processes on a site with some batches, next to an empty Python."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from figures import machine, ratio, show, spread
from live_site import COMMAND, LiveSite
from processes import exit_on_sigterm
from retail_data import Shop, orders_for

EMPTY = "python -c pass"
VERBS: tuple[tuple[str, ...], ...] = (
    ("--help",),
    ("status",),
    ("batches",),
    ("batches", "last"),
    ("tail", "--no-follow"),
    ("tables",),
    ("tables", "retail.gold.daily_sales"),
    ("sql", "SELECT count(*) AS days FROM retail.gold.daily_sales"),
    ("check",),
)


def run(command: Sequence[str]) -> float:
    """Runs a command and returns its seconds. Raises RuntimeError for an exit code other than 0 and 1."""
    began = time.monotonic()
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    seconds = time.monotonic() - began
    if ended.returncode not in (0, 1):  # 1: `check` found a problem
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr.decode()}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=4, help="on the site before the verbs")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    exit_on_sigterm()
    print(machine())
    shop = Shop(orders=500, orders_a_day=orders_for(100))
    with tempfile.TemporaryDirectory(prefix="verbs_") as folder:
        root = Path(folder)
        site = LiveSite(root / "site", engine="sail", quiet_seconds=0.2)
        for day in range(options.batches):
            site.deliver(shop.write(day, root / f"files/{day}"))
        site.run_once()
        commands = {EMPTY: [sys.executable, "-c", "pass"]} | {
            " ".join(v)[:40]: [COMMAND, "--config", str(site.config), *v] for v in VERBS
        }
        for command in commands.values():  # the first run reads the files from disk
            run(command)
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                seconds[name].append(run(command))
    rows = [(name, *spread(s), ratio(s, seconds[EMPTY])) for name, s in seconds.items()]
    title = f"whole processes on a site with {options.batches} batches, {options.rounds} rounds"
    show(title, ("seconds", "median", "minimum", "maximum", "to an empty Python"), rows)


if __name__ == "__main__":
    main()

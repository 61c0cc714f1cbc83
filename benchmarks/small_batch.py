"""Measures a small batch on a warm session, from claimed files to published tables, against the floor of its engine.

The floor reads the same five files with a schema and appends them to five Delta tables, one after another,
without rules, history, gold or manifest. Batch and floor run in turn with a new day each, so both see the same machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from delivery import Delivery
from figures import machine, ratio, show, spread
from processes import exit_on_sigterm, work_seconds
from retail_data import Shop, orders_for
from warm_lake import BatchCost, WarmLake, warm_session

from pipeline.engine.session import Session
from pipeline.sources import registry

WARM_UP_DAYS = 2


class Floor:
    """The minimum work of any pipeline on five files."""

    def __init__(self, root: Path, session: Session) -> None:
        self._root = root
        self._spark = session.spark
        self._schemas = {
            f.name: ", ".join(f"{c.name} {c.type}" for c in f.schema) for f in registry.source("retail").feeds
        }

    def take(self, delivery: Delivery) -> tuple[float, float]:
        """Appends a delivery and returns its seconds and its processor seconds."""
        began = time.monotonic()
        worked = work_seconds(os.getpid())
        for feed, path in delivery.files.items():
            rows = self._spark.read.schema(self._schemas[feed]).csv(str(path), header=True)
            rows.write.format("delta").mode("append").save(str(self._root / feed))
        return time.monotonic() - began, work_seconds(os.getpid()) - worked


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A batch and the floor that ran before or after it."""

    rows: int
    batch: BatchCost
    floor_seconds: float
    floor_work_seconds: float


def measure(engine: str, shop: Shop, pairs: int, root: Path) -> list[Pair]:
    """Runs batch and floor in turn, with a new day each, and returns the pairs after the warm-up."""
    clean = replace(shop, bad_share=0.0)  # the floor cannot reject rows
    measured = []
    with warm_session(engine, root) as (session, settings):
        lake = WarmLake(root / "lake", session, settings)
        floor = Floor(root / "floor", session)
        for day in range(1 + WARM_UP_DAYS + pairs):
            delivery = shop.write(day, root / f"files/{day}")
            clean_delivery = clean.write(day, root / f"clean/{day}")
            floor_before = floor.take(clean_delivery) if day % 2 else None
            batch = lake.take(delivery)
            seconds, worked = floor_before or floor.take(clean_delivery)
            measured.append(
                Pair(rows=delivery.row_count, batch=batch, floor_seconds=seconds, floor_work_seconds=worked)
            )
    return measured[1 + WARM_UP_DAYS :]


def report(engine: str, shop: Shop, pairs: Sequence[Pair], slowest: int) -> None:
    """Prints the tables of one engine."""
    taken = [p.batch for p in pairs]
    stages = {
        name: [t.stages.get(name, 0.0) for t in taken] for name in dict.fromkeys(s for t in taken for s in t.stages)
    }
    stages["elsewhere"] = [t.elsewhere for t in taken]
    batch = [t.seconds for t in taken]
    floor = [p.floor_seconds for p in pairs]
    batch_work = [t.work_seconds for t in taken]
    floor_work = [p.floor_work_seconds for p in pairs]
    times = {"batch": batch, "floor": floor, **{f"  {name}": seconds for name, seconds in stages.items()}}
    times |= {"processor, batch": batch_work, "processor, floor": floor_work}
    title = (
        f"{engine}: {len(pairs)} batches of about {pairs[0].rows} rows onto {shop.orders:,} orders, "
        "and the floor, in turn"
    )
    show(
        title,
        ("seconds", "median", "minimum", "maximum"),
        [(name, *spread(seconds)) for name, seconds in times.items()],
    )
    counts: list[tuple[str, float | int]] = [
        ("batch / floor, median of the pairs", ratio(batch, floor)),
        ("the same in processor time", ratio(batch_work, floor_work)),
        ("engine queries", statistics.median_high(t.queries for t in taken)),
    ]
    jobs = [t.jobs for t in taken if t.jobs is not None]
    counts += [("Spark jobs", statistics.median_high(jobs))] if jobs else []
    counts += [("Delta commits", statistics.median_high(t.commits for t in taken))]
    counts += [("growth of Python's memory in MB", (taken[-1].memory_mb - taken[0].memory_mb) / max(1, len(taken) - 1))]
    show(
        f"{engine}: a batch",
        ("", "figure"),
        [(name, str(count) if isinstance(count, int) else f"{count:.1f}") for name, count in counts],
    )
    if slowest:
        show(
            f"{engine}: the slowest parts (some run side by side)",
            ("", "name", "median seconds"),
            list(_slowest(taken))[:slowest],
        )


def _slowest(taken: Sequence[BatchCost]) -> Iterator[tuple[str, str, float]]:
    seconds = defaultdict[tuple[str, str], list[float]](list)
    for step in (s for t in taken for s in t.steps):
        seconds[step.kind, step.name].append(step.seconds)
    for (kind, name), values in sorted(seconds.items(), key=lambda item: -statistics.median(item[1])):
        yield kind, name, statistics.median(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("spark", "sail", "both"), default="both")
    parser.add_argument("--rows", type=int, default=100, help="of a batch, in all feeds")
    parser.add_argument("--orders", type=int, default=2_000, help="in the lake before the batches")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--slowest", type=int, default=0, metavar="N", help="also show the N slowest computations and writes"
    )
    options = parser.parse_args()
    exit_on_sigterm()
    if options.engine == "both":
        # A process can use one kind of session only.
        both = [[*_without_engine(sys.argv[1:]), "--engine", engine] for engine in ("sail", "spark")]
        sys.exit(
            max(subprocess.run([sys.executable, __file__, *arguments], check=False).returncode for arguments in both)
        )
    print(machine())
    shop = Shop(orders=options.orders, orders_a_day=orders_for(options.rows))
    with tempfile.TemporaryDirectory(prefix="small_batch_") as root:
        pairs = measure(options.engine, shop, options.pairs, Path(root))
    report(options.engine, shop, pairs, options.slowest)


def _without_engine(arguments: Sequence[str]) -> list[str]:
    return [
        a
        for n, a in enumerate(arguments)
        if a != "--engine" and not a.startswith("--engine=") and (n == 0 or arguments[n - 1] != "--engine")
    ]


if __name__ == "__main__":
    main()

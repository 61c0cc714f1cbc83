"""Measures a small batch on a warm session, from claimed files to published tables, against the bare floor of the same engine.

The floor reads the same five files with a schema and appends them to five Delta tables, one after another: no rules, no
history, no gold, no record of anything. Batch and floor run in turn, a new day each, so that both meet the same machine.
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

from figures import machine, ratio, show, spread
from processes import end_tidily, work_seconds
from retail_data import Delivery, Shop, orders_for
from warm_lake import Taken, WarmLake, warm_session

from pipeline.engine.session import Session
from pipeline.sources import registry

WARM_UP_DAYS = 2


class Floor:
    """The least that any pipeline has to do with five files."""

    def __init__(self, root: Path, session: Session) -> None:
        self._root, self._spark = root, session.spark
        self._schemas = {
            f.name: ", ".join(f"{c.name} {c.type}" for c in f.schema) for f in registry.source("retail").feeds
        }

    def take(self, delivery: Delivery) -> tuple[float, float]:
        """Appends a delivery and tells its seconds and the processor's."""
        began, worked = time.monotonic(), work_seconds(os.getpid())
        for feed, path in delivery.files.items():
            rows = self._spark.read.schema(self._schemas[feed]).csv(str(path), header=True)
            rows.write.format("delta").mode("append").save(str(self._root / feed))
        return time.monotonic() - began, work_seconds(os.getpid()) - worked


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A batch, and the floor that ran before or after it."""

    rows: int
    batch: Taken
    floor_seconds: float
    floor_work_seconds: float


def measured(engine: str, shop: Shop, pairs: int, root: Path) -> list[Pair]:
    """Runs batch and floor in turn, a new day each."""
    clean = replace(shop, bad_share=0.0)  # the floor has no way to live with rows that do not fit
    found = []
    with warm_session(engine, root) as (session, settings):
        lake, floor = WarmLake(root / "lake", session, settings), Floor(root / "floor", session)
        for day in range(1 + WARM_UP_DAYS + pairs):
            delivery, same = shop.write(day, root / f"files/{day}"), clean.write(day, root / f"clean/{day}")
            bare = floor.take(same) if day % 2 else None
            batch = lake.take(delivery)
            seconds, worked = bare or floor.take(same)
            found.append(Pair(rows=delivery.row_count, batch=batch, floor_seconds=seconds, floor_work_seconds=worked))
    return found[1 + WARM_UP_DAYS :]


def report(engine: str, shop: Shop, pairs: Sequence[Pair], slowest: int) -> None:
    """Prints the tables of one engine."""
    taken = [p.batch for p in pairs]
    stages = {
        name: [t.stages.get(name, 0.0) for t in taken] for name in dict.fromkeys(s for t in taken for s in t.stages)
    }
    stages["elsewhere"] = [t.elsewhere for t in taken]
    batch, floor = [t.seconds for t in taken], [p.floor_seconds for p in pairs]
    batch_work, floor_work = [t.work_seconds for t in taken], [p.floor_work_seconds for p in pairs]
    times = {"batch": batch, "floor": floor, **{f"  {name}": seconds for name, seconds in stages.items()}}
    times |= {"processor, batch": batch_work, "processor, floor": floor_work}
    title = f"{engine}: {len(pairs)} batches of about {pairs[0].rows} rows onto {shop.orders:,} orders, and the floor, in turn"
    show(
        title, ("seconds", "median", "least", "greatest"), [(name, *spread(seconds)) for name, seconds in times.items()]
    )
    counts: list[tuple[str, float | int]] = [
        ("batch / floor, median of the pairs", ratio(batch, floor)),
        ("the same in processor time", ratio(batch_work, floor_work)),
        ("engine queries", statistics.median_high(t.queries for t in taken)),
    ]
    jobs = [t.jobs for t in taken if t.jobs is not None]
    counts += [("Spark jobs", statistics.median_high(jobs))] if jobs else []
    counts += [("Delta commits", statistics.median_high(t.commits for t in taken))]
    counts += [
        ("MB that Python's memory grows by", (taken[-1].memory_mb - taken[0].memory_mb) / max(1, len(taken) - 1))
    ]
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


def _slowest(taken: Sequence[Taken]) -> Iterator[tuple[str, str, float]]:
    seconds = defaultdict[tuple[str, str], list[float]](list)
    for spent in (s for t in taken for s in t.spent):
        seconds[spent.what, spent.name].append(spent.seconds)
    for (what, name), values in sorted(seconds.items(), key=lambda item: -statistics.median(item[1])):
        yield what, name, statistics.median(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("spark", "sail", "both"), default="both")
    parser.add_argument("--rows", type=int, default=100, help="of a batch, in all feeds")
    parser.add_argument("--orders", type=int, default=2_000, help="that the lake holds already")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--slowest", type=int, default=0, metavar="N", help="also show the N slowest computations and writes"
    )
    options = parser.parse_args()
    end_tidily()
    if options.engine == "both":
        # A process can be a client of one kind of session only.
        both = [[*_without_engine(sys.argv[1:]), "--engine", engine] for engine in ("sail", "spark")]
        sys.exit(
            max(subprocess.run([sys.executable, __file__, *arguments], check=False).returncode for arguments in both)
        )
    print(machine())
    shop = Shop(orders=options.orders, orders_a_day=orders_for(options.rows))
    with tempfile.TemporaryDirectory(prefix="small_batch_") as root:
        pairs = measured(options.engine, shop, options.pairs, Path(root))
    report(options.engine, shop, pairs, options.slowest)


def _without_engine(arguments: Sequence[str]) -> list[str]:
    return [
        a
        for n, a in enumerate(arguments)
        if a != "--engine" and not a.startswith("--engine=") and (n == 0 or arguments[n - 1] != "--engine")
    ]


if __name__ == "__main__":
    main()

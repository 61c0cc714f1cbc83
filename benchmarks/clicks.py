"""Measures clickstream batches for even keys and for one hot item: a first load, then days with late properties.

Both variants run in one process, one after the other, each on its own lake. The ratio of their times is the result. The
hot item has a fifth of all events and five thousand of the property versions.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clicks_data import Clicks
from figures import machine, show
from processes import exit_on_sigterm
from warm_lake import BatchCost, WarmLake, warm_session


@dataclass(frozen=True, kw_only=True)
class Run:
    """The batches of one distribution of keys: the first load and the later days."""

    keys: str
    batches: Sequence[BatchCost]

    @property
    def parts(self) -> dict[str, Sequence[BatchCost]]:
        """The batches by part of the report. The first day is a part of its own: an engine is slower then."""
        first, day, *days = self.batches
        return {"first load": [first], "first day": [day]} | (
            {f"median of {len(days)} later days": days} if days else {}
        )


def measure(name: str, clicks: Clicks, lake: WarmLake, root: Path, days: int) -> Run:
    """Returns the measured first load and the measured later days."""
    return Run(keys=name, batches=[lake.take(clicks.write(day, root / f"{name}-{day}")) for day in range(1 + days)])


def figures(taken: BatchCost) -> dict[str, float]:
    """Returns the seconds of one batch: in total, of the processor, and by stage."""
    return {
        "total": taken.seconds,
        "processor": taken.work_seconds,
        **{f"  {stage}": seconds for stage, seconds in taken.stages.items()},
    }


def report(runs: Sequence[Run], slowest: int) -> None:
    """Prints the batches by stage, and the ratio of the hot item to even keys."""
    for part in runs[0].parts:
        taken = [run.parts[part] for run in runs]
        names = figures(taken[0][0])
        medians = {
            name: [statistics.median(figures(t).get(name, 0.0) for t in some) for some in taken] for name in names
        }
        ratio = ["hot / even"] if len(runs) > 1 else []
        rows = [
            (name, *seconds, *([seconds[1] / max(seconds[0], 0.001)] if ratio else []))
            for name, seconds in medians.items()
        ]
        show(f"{part}, seconds", ("", *(run.keys for run in runs), *ratio), rows)
        for run in runs if slowest else ():
            parts = sorted(run.parts[part][-1].steps, key=lambda s: -s.seconds)[:slowest]
            title = f"{part}, {run.keys}: the slowest parts of the last batch (some run side by side)"
            show(title, ("", "name", "seconds"), [(s.kind, s.name, s.seconds) for s in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("spark", "sail"), default="spark")
    parser.add_argument("--events", type=int, default=2_000_000, help="in the first load")
    parser.add_argument("--properties", type=int, default=200_000, help="versions in the first load")
    parser.add_argument("--days", type=int, default=6, help="after the first load, at least 1")
    parser.add_argument("--events-a-day", type=int, default=20_000)
    parser.add_argument("--late-properties", type=int, default=500)
    parser.add_argument("--keys", choices=("even", "hot", "both"), default="both")
    parser.add_argument(
        "--slowest", type=int, default=0, metavar="N", help="also show the N slowest computations and writes"
    )
    options = parser.parse_args()
    exit_on_sigterm()
    print(f"{machine()}, engine {options.engine}", flush=True)
    runs = []
    with (
        tempfile.TemporaryDirectory(prefix="clicks_") as folder,
        warm_session(options.engine, Path(folder)) as (session, settings),
    ):
        small = Clicks(events=500, properties=100, events_a_day=50, late_properties=5)
        measure("warm-up", small, WarmLake(Path(folder) / "lake-warm-up", session, settings), Path(folder), days=1)
        for name in ("even", "hot") if options.keys == "both" else (options.keys,):
            clicks = Clicks(
                events=options.events,
                properties=options.properties,
                events_a_day=options.events_a_day,
                late_properties=options.late_properties,
                hot=name == "hot",
            )
            runs.append(
                measure(
                    name, clicks, WarmLake(Path(folder) / f"lake-{name}", session, settings), Path(folder), options.days
                )
            )
        report(runs, options.slowest)


if __name__ == "__main__":
    main()

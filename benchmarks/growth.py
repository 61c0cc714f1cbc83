"""Measures whether the cost of a batch depends on the size of the lake: equal batches on a small and a large lake.

Both lakes share one session and take their batches in turn. Half of the batches have late events, which may need older
rows of bronze. The other batches must not read them.
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from figures import machine, ratio, show
from processes import exit_on_sigterm
from retail_data import Shop, orders_for
from warm_lake import BatchCost, WarmLake, warm_session

WARM_UP_DAYS = 2
TIMELY = "no late events"
LATE = "late events"

Costs = Mapping[tuple[str, int], Sequence[BatchCost]]  # by kind of batch and size of the lake


def measure(engine: str, sizes: Sequence[int], rows: int, batches: int, root: Path) -> Costs:
    """Fills a lake of each size, takes small batches in turn, and returns their costs."""
    taken = defaultdict[tuple[str, int], list[BatchCost]](list)
    with warm_session(engine, root) as (session, settings):
        shops = {size: Shop(orders=size, orders_a_day=orders_for(rows)) for size in sizes}
        lakes = {size: WarmLake(root / f"lake_{size}", session, settings) for size in sizes}
        for size, shop in shops.items():
            first = lakes[size].take(shop.write(0, root / f"files/{size}/0"))
            print(f"  a lake of {size:,} orders filled in {first.seconds:.1f} s", flush=True)
        for day in range(1, 1 + WARM_UP_DAYS + 2 * batches):
            kind = LATE if day % 2 else TIMELY
            for size in sizes if day % 4 < 2 else reversed(sizes):
                shop = replace(shops[size], late_share=shops[size].late_share if kind == LATE else 0.0)
                batch = lakes[size].take(shop.write(day, root / f"files/{size}/{day}"))
                if day > WARM_UP_DAYS:
                    taken[kind, size].append(batch)
    return taken


def report(engine: str, taken: Costs, small: int, large: int) -> None:
    """Prints a table for each kind of batch."""
    for kind in (TIMELY, LATE):
        few = taken[kind, small]
        many = taken[kind, large]
        columns = ("median seconds", f"onto {small:,}", f"onto {large:,}", "ratio of the pairs")
        show(
            f"{engine}: {len(few)} batches with {kind}, onto {small:,} and {large:,} orders in turn",
            columns,
            list(_rows(few, many)),
        )


def _rows(few: Sequence[BatchCost], many: Sequence[BatchCost]) -> Iterator[tuple[str, float, float, float | None]]:
    for name, part in {"batch": "seconds", "processor": "work_seconds"}.items():
        small = [getattr(t, part) for t in few]
        large = [getattr(t, part) for t in many]
        yield name, statistics.median(small), statistics.median(large), ratio(large, small)
    for stage in few[0].stages:
        small = [t.stages[stage] for t in few]
        large = [t.stages[stage] for t in many]
        yield f"  {stage}", statistics.median(small), statistics.median(large), ratio(large, small)
    small = [t.elsewhere for t in few]
    large = [t.elsewhere for t in many]
    yield "  elsewhere", statistics.median(small), statistics.median(large), ratio(large, small)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("spark", "sail"), default="sail")
    parser.add_argument("--small", type=int, default=10_000, help="orders in the small lake")
    parser.add_argument("--large", type=int, default=200_000, help="orders in the large lake")
    parser.add_argument("--rows", type=int, default=100, help="of a batch, in all feeds")
    parser.add_argument("--batches", type=int, default=5, help="of each kind, for each lake")
    options = parser.parse_args()
    exit_on_sigterm()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="growth_") as root:
        taken = measure(options.engine, (options.small, options.large), options.rows, options.batches, Path(root))
    report(options.engine, taken, options.small, options.large)


if __name__ == "__main__":
    main()

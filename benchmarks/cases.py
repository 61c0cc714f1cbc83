"""The cases of the benchmark. Contenders take equal files in turn, and each round begins with another contender."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clicks_data import Clicks
from contenders import Contender, Ours, by_hand, floor, settle
from cost import Cost
from crm_erp_data import Firm
from delivery import Delivery
from retail_data import Shop, orders_for
from servers import connect_server, spark_cluster, store_server

SMALL_ROWS = 100
OURS, HAND, FLOOR = "Lakegate", "by hand", "floor"
LOCAL = "local[2]"
# Free memory for ten million orders: for Lakegate alone, and for all contenders, whose processes run at one time.
TEN_MILLION_MB = 12_000
ALL_TEN_MILLION_MB = 40_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """One engine, the number of rounds, and the share of the full sizes of lakes and deliveries."""

    engine: str
    scale: float
    rounds: int

    def size(self, full: int, least: int) -> int:
        """Returns a full size at the scale, but at least so much."""
        return max(least, round(full * self.scale))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A case and the costs of its rounds, by contender."""

    case: str
    title: str
    costs: Mapping[str, Sequence[Cost]]
    notes: Sequence[str] = field(default_factory=tuple)
    has_failed: bool = False
    is_in_turn: bool = True  # the rounds of all contenders: else the groups came one after another


Write = Callable[[int, Path], Delivery]
Case = Callable[[Options, Path], Iterator[Measured]]


@contextlib.contextmanager
def started(*contenders: Contender) -> Iterator[Mapping[str, Contender]]:
    """Returns the contenders by name, and ends them after the block."""
    try:
        yield {c.name: c for c in contenders}
    finally:
        for contender in contenders:
            contender.stop()


class Deliveries:
    """Writes the deliveries of a shop: for the floor, which cannot reject rows, without bad ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, shop: Shop, day: int) -> dict[str, Delivery]:
        """Returns the delivery of a day by contender."""
        delivery = shop.write(day, self._folder / str(day))
        clean = replace(shop, bad_share=0.0).write(day, self._folder / f"{day}_clean")
        return {OURS: delivery, HAND: delivery, FLOOR: clean}


def in_turn(contenders: Mapping[str, Contender], deliveries: Mapping[str, Delivery], turn: int) -> dict[str, Cost]:
    """Returns the cost of a delivery by contender; with each turn another contender is the first."""
    names = [*contenders]
    first = turn % len(names)
    costs = {}
    for name in names[first:] + names[:first]:
        settle(contenders.values())
        costs[name] = contenders[name].take(deliveries[name])
    return {name: costs[name] for name in names}


def by_contender(rounds: Sequence[Mapping[str, Cost]]) -> dict[str, list[Cost]]:
    """Returns the costs of all rounds by contender."""
    return {name: [costs[name] for costs in rounds] for name in rounds[0]}


def small(options: Options, root: Path) -> Iterator[Measured]:
    """About 100 rows onto 2,000 orders."""
    shop = Shop(orders=2_000, orders_a_day=orders_for(SMALL_ROWS))
    deliveries = Deliveries(root / "files")
    warm_up = 3
    with started(*_all(options, root)) as contenders:
        rounds = [in_turn(contenders, deliveries.write(shop, day), day) for day in range(warm_up + options.rounds)]
    title = f"about {SMALL_ROWS} rows onto {shop.orders:,} orders"
    yield Measured(case="small", title=title, costs=by_contender(rounds[warm_up:]))


def million(options: Options, root: Path) -> Iterator[Measured]:
    """A first load of 1 M orders, then days of 13,000 orders, with late events and without."""
    yield from _large("million", options, root, options.size(1_000_000, 200), _all)


def ten_million(options: Options, root: Path) -> Iterator[Measured]:
    """The same with 10 M orders. It runs only where it is named; with little memory Lakegate runs alone."""
    free, needed = _available_mb(), TEN_MILLION_MB * options.scale
    if free < needed:
        note = f"not run: {free:,.0f} MB of memory are free, it needs {needed:,.0f}"
        yield Measured(case="ten_million", title="first load of 10,000,000 orders", costs={}, notes=[note])
        return
    contenders = _all if free >= ALL_TEN_MILLION_MB * options.scale else _ours
    yield from _large("ten_million", options, root, options.size(10_000_000, 200), contenders)


def _large(
    case: str, options: Options, root: Path, orders: int, contenders_of: Callable[[Options, Path], list[Contender]]
) -> Iterator[Measured]:
    shop = Shop(orders=orders, orders_a_day=options.size(13_000, 20))
    deliveries = Deliveries(root / "files")
    kinds = {"day with late events": shop, "day without late events": replace(shop, late_share=0.0)}
    days: dict[str, list[dict[str, Cost]]] = {kind: [] for kind in kinds}
    with started(*contenders_of(options, root)) as contenders:
        first = in_turn(contenders, deliveries.write(shop, 0), 0)
        yield Measured(case=case, title=f"first load of {orders:,} orders", costs=by_contender([first]))
        for turn in range(options.rounds):
            for number, (kind, kind_of_shop) in enumerate(kinds.items()):
                day = 1 + 2 * turn + number
                days[kind].append(in_turn(contenders, deliveries.write(kind_of_shop, day), turn))
    for kind, rounds in days.items():
        title = f"{kind}: {shop.orders_a_day:,} orders onto {orders:,}"
        yield Measured(case=case, title=title, costs=by_contender(rounds))


def growth(options: Options, root: Path) -> Iterator[Measured]:
    """100 rows onto 20,000 and onto 500,000 orders, in turn."""
    sizes = (options.size(20_000, 200), options.size(500_000, 5_000))
    shops = {size: Shop(orders=size, orders_a_day=orders_for(SMALL_ROWS)) for size in sizes}
    lakes = {f"onto {size:,}": Ours(options.engine, root / f"lake_{size}") for size in sizes}
    warm_up = 3
    rounds = []
    with started(*lakes.values()):
        for day in range(warm_up + options.rounds):
            files = {size: shop.write(day, root / f"files_{size}/{day}") for size, shop in shops.items()}
            rounds.append(in_turn(lakes, {f"onto {size:,}": files[size] for size in sizes}, day))
    few, many = sizes
    yield Measured(
        case="growth",
        title=f"100 rows onto {few:,} and onto {many:,} orders, in turn",
        costs=by_contender(rounds[warm_up:]),
    )


def many(options: Options, root: Path) -> Iterator[Measured]:
    """200 small batches in a row, without a pause: the second ten against the last ten."""
    count = options.size(200, 30)
    ten = max(1, min(10, count // 3))
    shop = Shop(orders=2_000, orders_a_day=orders_for(SMALL_ROWS))
    ours = Ours(options.engine, root / "ours")
    with started(ours):
        ours.take(shop.write(0, root / "files/0"))
        costs = [ours.take(shop.write(day, root / f"files/{day}")) for day in range(1, 1 + count)]
    groups = {f"batches {ten + 1} to {2 * ten}": costs[ten : 2 * ten], f"the last {ten}": costs[-ten:]}
    note = f"the worker was replaced {ours.replacements} times, between batches"
    title = f"{count} batches of about 100 rows in a row"
    yield Measured(case="many", title=title, costs=groups, notes=[note], is_in_turn=False)


def store(options: Options, root: Path) -> Iterator[Measured]:
    """About 100 rows onto 2,000 orders, with the lake in an object store on this machine."""
    shop = Shop(orders=2_000, orders_a_day=orders_for(SMALL_ROWS))
    warm_up = 3
    (root / "store").mkdir()
    with store_server(root / "store") as server, environment(server.environment):
        ours = Ours(
            options.engine,
            root / "ours",
            count_requests=lambda: len(server.requests()),
            lake_path=server.new_prefix(),
            work_path=str(root / "work"),
        )
        with started(ours):
            costs = [ours.take(shop.write(day, root / f"files/{day}")) for day in range(warm_up + options.rounds)]
    title = f"about {SMALL_ROWS} rows onto {shop.orders:,} orders, lake in a store"
    yield Measured(case="store", title=title, costs={OURS: costs[warm_up:]})


def elsewhere(options: Options, root: Path) -> Iterator[Measured]:
    """A first load and days on Spark: here on two cores, on a cluster of two workers, and on a server of Connect."""
    size = options.size(1_000_000, 200)
    shop = Shop(orders=size, orders_a_day=options.size(13_000, 20))
    executor = {"spark.executor.memory": "2g", "spark.executor.cores": "1"}
    folders = {name: root / name for name in ("cluster", "connect")}
    for folder in folders.values():
        folder.mkdir()
    with spark_cluster(folders["cluster"], memory="2g") as master, connect_server(folders["connect"], "2g") as remote:
        contenders = started(
            Ours("spark", root / "here", LOCAL, master=LOCAL),
            Ours("spark", root / "two", "two workers of a core", master=master, conf=executor),
            Ours("connect", root / "remote", "Spark Connect", remote=remote),
        )
        with contenders as named:
            rounds = []
            for day in range(1 + options.rounds):
                delivery = shop.write(day, root / f"files/{day}")
                rounds.append(in_turn(named, dict.fromkeys(named, delivery), day))
    parts = {
        f"first load of {size:,} orders": rounds[:1],
        f"day: {shop.orders_a_day:,} orders onto {size:,}": rounds[1:],
    }
    for title, some in parts.items():
        yield Measured(case="elsewhere", title=title, costs=by_contender(some))


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables during a block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def clickstream(options: Options, root: Path) -> Iterator[Measured]:
    """A first load of 2 M events, then days of 20,000: with even keys, and with a hot item, in turn."""
    even = Clicks(
        events=options.size(2_000_000, 2_000),
        properties=options.size(200_000, 500),
        events_a_day=options.size(20_000, 200),
        late_properties=options.size(500, 10),
    )
    writers = {"even keys": even.write, "a hot item": replace(even, hot=True).write}
    yield from _of_source("clickstream", writers, f"{even.events:,} events", options, root)


def crm_erp(options: Options, root: Path) -> Iterator[Measured]:
    """A first delivery of 116,000 rows, then whole deliveries with few changes."""
    firm = Firm(customers=options.size(18_484, 200))
    yield from _of_source("crm_erp", {OURS: firm.write}, f"{firm.customers:,} customers", options, root)


def _of_source(
    source: str, writers: Mapping[str, Write], size: str, options: Options, root: Path
) -> Iterator[Measured]:
    lakes = {name: Ours(options.engine, root / f"lake_{n}") for n, name in enumerate(writers)}
    rounds = []
    with started(*lakes.values()):
        for day in range(1 + options.rounds):
            deliveries = {name: write(day, root / f"files/{name}/{day}") for name, write in writers.items()}
            rounds.append(in_turn(lakes, deliveries, day))
    parts = {f"{source}: first load, {size}": rounds[:1], f"{source}: later days onto {size}": rounds[1:]}
    for title, some in parts.items():
        yield Measured(case=source, title=title, costs=by_contender(some))


def _ours(options: Options, root: Path) -> list[Contender]:
    return [Ours(options.engine, root / "ours")]


def _all(options: Options, root: Path) -> list[Contender]:
    return [*_ours(options, root), by_hand(root / "by_hand"), floor(options.engine, root / "floor")]


def _available_mb() -> float:
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) / 1024


CASES: Mapping[str, Case] = {
    "small": small,
    "million": million,
    "growth": growth,
    "many": many,
    "clickstream": clickstream,
    "crm_erp": crm_erp,
    "store": store,
    "elsewhere": elsewhere,
    "ten_million": ten_million,
}
USUAL = tuple(name for name in CASES if name not in ("ten_million", "elsewhere"))

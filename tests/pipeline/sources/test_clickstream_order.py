"""Clickstream: in any order of arrival and any batching the tables equal the reference."""

from pathlib import Path
from random import Random

import pytest
from drawing import draw
from effort import tries
from factories_clickstream import WITHOUT_GOLD, draw_events
from factories_pipeline import Site
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from reference_clickstream import Batch, Event, Property, enriched, gold

from pipeline.contract import Quality
from pipeline.engine.session import Session
from pipeline.sources.clickstream.feeds import CLICKSTREAM

AT = st.sampled_from([0, 1, 2, 10, 11, 500, 501, 1000])
ITEM = st.integers(1, 4)
VALUES = {
    "categoryid": ["1", "2", "3", "4", "x", None],
    "available": ["0", "1", "maybe", None],
    "790": ["n1.500", "n2", "n2.5000", "7", None],
    "888": ["n9"],
}
events = st.tuples(
    AT, st.integers(1, 3), st.sampled_from(["view", "view", "addtocart", "transaction"]), ITEM, st.integers(1, 3)
)
properties = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.tuples(AT, ITEM, st.just(name), st.sampled_from(VALUES[name]))
)
hierarchies = st.dictionaries(st.integers(1, 4), st.sampled_from([None, 1, 2, 3, 4, 5]), min_size=2, max_size=4)


def test_any_order_and_any_batching_give_the_tables_of_the_reference(
    session: Session, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def holds(
        some: list[Event],
        others: list[Property],
        first: dict[int, int | None],
        then: dict[int, int | None],
        random: Random,
    ) -> None:
        site = Site(tmp_path_factory.mktemp("law"), session, CLICKSTREAM, quality=Quality(max_snapshot_shrink=1.0))
        clicks = [
            (at, visitor, kind, item, number if kind == "transaction" else None)
            for at, visitor, kind, item, number in some
        ]
        cut, split = random.randrange(len(clicks) + 1), random.randrange(len(others) + 1)
        batches = [
            Batch(day=2, events=tuple(clicks[:cut]), properties=tuple(others[:split]), hierarchy=tuple(first.items())),
            Batch(day=3, events=tuple(clicks[cut:]) + tuple(clicks[:2]), properties=tuple(others[split:])),
            Batch(day=4, properties=tuple(others[:1]), hierarchy=tuple(then.items())),
        ]
        random.shuffle(batches)
        for batch in batches:
            batch.deliver(site)
        expected = enriched(batches)
        assert draw_events(site, *list(expected[0])[1:]) == draw(expected, *expected[0])
        for table, rows in gold(expected).items():
            if rows:
                names = [name.strip() for name in rows.splitlines()[0].split("|")]
                assert site.draw(f"gold.{table}", *names) == rows, table

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    examples = {"sail": tries(quick=3, every=8), "spark": 2}[session.engine]
    given_as = (
        st.lists(events, min_size=4, max_size=30),
        st.lists(properties, min_size=4, max_size=30),
        hierarchies,
        hierarchies,
        st.randoms(use_true_random=False),
    )
    settings(max_examples=examples, deadline=None, phases=phases, suppress_health_check=checks, print_blob=True)(
        given(*given_as)(holds)
    )()


def test_an_item_with_many_versions_joins_like_one_with_few(session: Session, tmp_path: Path) -> None:
    prices = [(1000 + 7 * n, 1, "790", f"n{n}.500") for n in range(150)]
    others = [
        (1003, 1, "available", "1"),
        (1700, 1, "available", None),
        (1701, 1, "available", "0"),
        (1400, 1, "categoryid", "2"),
        (1200, 2, "790", "n9"),
    ]
    instants = sorted({at + by for at, item, _, _ in (*prices, *others) if item == 1 for by in (-1, 0)} | {0, 999_999})
    clicks = [(at, n, "view", item, None) for n, at in enumerate(instants) for item in (1, 2)]
    batch = Batch(day=2, events=tuple(clicks), properties=(*prices, *others), hierarchy=((2, None),))
    site = Site(tmp_path, session, WITHOUT_GOLD)
    batch.deliver(site)
    expected = enriched([batch])
    assert draw_events(site, *list(expected[0])[1:]) == draw(expected, *expected[0])

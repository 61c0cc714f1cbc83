"""Feeds that keep no history: Scd1, Append, Snapshot. Each rule is drawn, and tested in two orders of arrival."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawing import draw, drawn
from factories_pipeline import Site, on_sail
from factories_source_club import CLUB

from pipeline.contract import Outcome, Quality
from pipeline.engine.session import Session

BATCHES: dict[str, dict[str, Any]] = {
    "of 1 March": {
        "day": "2026-03-01",
        "prices": """
            item | price | note
            tea  | 1.50  | spring
            cake | 3     | spring
            milk | 1     |
        """,
        "visits": """
            member_id | room | visited_on
            m1        | hall | 2026-03-01
            m1        | hall | 2026-03-01
            m2        |      | 2026-03-01
        """,
        "menu": """
            dish | price
            soup | 4
            pie  | 5
        """,
        "tariffs": """
            tariff | fee | valid_from
            adult  | 10  | 2025-01-01
            adult  | 12  | 2026-01-01
            child  | 5   | 2025-01-01
        """,
    },
    "of 1 March, corrected": {
        "day": "2026-03-01",
        "revision": 1,
        "prices": """
            item | price | note
            cake | 3.20  | corrected
        """,
        "menu": """
            dish | price
            soup | 4
            pie  | 6
        """,
    },
    "of 3 March": {
        "day": "2026-03-03",
        "prices": """
            item | price | note
            tea  | 1.60  |
            tea  | 1.55  | twice in one batch
        """,
        "visits": """
            member_id | room | visited_on
            m1        | hall | 2026-03-01
            m1        | hall | 2026-03-03
            m2        | pool | 2026-03-01
        """,
        "menu": """
            dish  | price
            soup  | 4
            roast | 9
        """,
        "tariffs": """
            tariff | fee | valid_from
            adult  | 11  | 2026-01-01
            adult  | 10  | 2025-01-01
            adult  | 14  | 2027-01-01
        """,
    },
}
ARRIVALS = [pytest.param(list(BATCHES), id="in order"), pytest.param(list(reversed(BATCHES)), id="backwards")]


@pytest.fixture(scope="module", params=ARRIVALS)
def kept(session: Session, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """All batches in one lake."""
    return _delivered(Site(tmp_path_factory.mktemp("kept"), session), request.param)


def _delivered(site: Site, arrival: Iterable[str]) -> Site:
    for name in arrival:
        site.deliver(**BATCHES[name])
    return site


def test_scd1_keeps_for_each_key_the_row_of_the_newest_batch_date_and_revision(kept: Site) -> None:
    # Tea comes twice in one file of its newest batch: the later record stands.
    assert kept.draw("silver.prices", "item", "price", "note") == drawn("""
        item | price | note
        cake | 3.2   | corrected
        milk | 1     |
        tea  | 1.55  | twice in one batch
    """)


def test_an_append_keeps_the_set_of_distinct_rows(kept: Site) -> None:
    assert kept.draw("silver.visits", "member_id", "room", "visited_on") == drawn("""
        member_id | room | visited_on
        m1        | hall | 2026-03-01
        m1        | hall | 2026-03-03
        m2        |      | 2026-03-01
        m2        | pool | 2026-03-01
    """)


def test_a_snapshot_is_the_newest_whole_delivery(kept: Site) -> None:
    assert kept.draw("silver.menu", "dish", "price") == drawn("""
        dish  | price
        roast | 9
        soup  | 4
    """)


def test_a_snapshot_that_lists_versions_follows_their_starts(kept: Site) -> None:
    assert kept.draw("silver.tariffs", "tariff", "fee", "effective_from", "effective_to", "is_current") == drawn("""
        tariff | fee | effective_from | effective_to | is_current
        adult  | 10  | 2025-01-01     | 2026-01-01   | false
        adult  | 11  | 2026-01-01     | 2027-01-01   | false
        adult  | 14  | 2027-01-01     |              | true
    """)


def test_bronze_holds_every_accepted_row_with_where_it_came_from(kept: Site) -> None:
    bronze = [r for r in kept.rows("bronze.visits") if r["_batch_date"].isoformat() == "2026-03-01"]
    assert draw(bronze, "member_id", "room", "_record", "_raw", "_revision", "_deleted") == drawn("""
        member_id | room | _record | _raw                | _revision | _deleted
        m1        | hall | 1       | m1,hall,2026-03-01  | 0         | false
        m1        | hall | 2       | m1,hall,2026-03-01  | 0         | false
        m2        |      | 3       | m2,,2026-03-01      | 0         | false
    """)
    assert len(kept.rows("bronze.menu")) == 6


@on_sail
def test_tables_are_equal_in_every_column_for_every_order_of_arrival(session: Session, tmp_path: Path) -> None:
    first, second = (
        _delivered(Site(tmp_path / "a", session), BATCHES),
        _delivered(Site(tmp_path / "b", session), reversed(BATCHES)),
    )
    for feed in ("prices", "visits", "menu", "tariffs"):
        columns = [c.name for c in first.source.feed(feed).silver]
        assert first.draw(f"silver.{feed}", *columns) == second.draw(f"silver.{feed}", *columns), feed


@on_sail
def test_rows_that_differ_only_in_where_a_value_ends_are_distinct(session: Session, tmp_path: Path) -> None:
    any_key = replace(CLUB, feeds=tuple(replace(feed, keys_as_delivered=True) for feed in CLUB.feeds))
    site = Site(tmp_path, session, any_key)
    site.deliver("2026-03-01", raw_visits="member_id,room,visited_on\na\x1fb,c,\na,b\x1fc,\n")
    assert len(site.rows("silver.visits")) == 2


@on_sail
def test_an_older_whole_delivery_adds_to_bronze_alone(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    newer = site.deliver("2026-03-03", menu="dish | price\n soup | 4")
    older = site.deliver("2026-03-01", menu="dish | price\n pie | 4")
    assert older.table_versions["club.silver.menu"] == newer.table_versions["club.silver.menu"]
    assert len(site.rows("bronze.menu")) == 2


@on_sail
def test_two_whole_deliveries_of_one_date_agree_or_the_newer_says_so_by_its_revision(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session)
    site.deliver("2026-03-01", menu="dish | price\n soup | 4\n pie | 5")
    site.deliver("2026-03-01", menu="dish | price\n pie | 5\n soup | 4\n soup | 4", prices="item | price\n tea | 1")
    differs = "dish | price\n soup | 4\n pie | 6"
    refused = site.attempt("2026-03-01", menu=differs)
    assert refused.outcome == Outcome.REJECTED
    assert refused.reason == (
        "menu: another whole delivery of 2026-03-01, revision 0, is published and differs from this one; "
        "land a new trigger that gives the right one `revision`: 1"
    )
    site.deliver("2026-03-01", revision=1, menu=differs)
    assert site.draw("silver.menu", "dish", "price") == drawn(differs)
    # An outdated snapshot changes nothing.
    site.deliver("2026-03-01", menu="dish | price\n roast | 9")
    assert site.draw("silver.menu", "dish", "price") == drawn(differs)


@on_sail
@pytest.mark.parametrize(
    ("feed", "given"),
    [("menu", "dish | price\n {} | 4"), ("tariffs", "tariff | fee | valid_from\n {} | 4 | 2025-01-01")],
)
def test_a_snapshot_that_lacks_too_much_is_rejected(session: Session, tmp_path: Path, feed: str, given: str) -> None:
    header, row = given.split("\n")
    site = Site(tmp_path, session, quality=Quality(max_snapshot_shrink=0.5))
    site.deliver("2026-03-01", **{feed: "\n".join([header, *(row.format(n) for n in "abcd")])})
    refused = site.attempt("2026-03-02", **{feed: "\n".join([header, row.format("a")])})
    assert (refused.outcome, refused.reason) == (
        Outcome.REJECTED,
        (
            f"{feed}: the whole delivery lacks 3 of 4 open keys, more than max_snapshot_shrink 0.5 allows; "
            "deliver it complete, or raise the limit"
        ),
    )
    site.deliver("2026-03-02", **{feed: "\n".join([header, row.format("a"), row.format("b"), row.format("new")])})
    assert len(site.rows(f"silver.{feed}")) == 3


@on_sail
def test_a_snapshot_writes_the_rows_that_it_changes_and_no_others(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    site.deliver("2026-03-01", menu="dish | price\n soup | 4\n pie | 5\n tea | 1")
    then = site.deliver("2026-03-02", menu="dish | price\n soup | 4\n pie | 6\n tea | 1")
    assert site.written("silver.menu", then) == 1


@on_sail
def test_a_version_without_a_start_is_rejected(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    result = site.deliver("2026-03-01", raw_tariffs="tariff,fee,valid_from\nadult,10,2025-01-01\nchild,5,\n")
    assert (result.rows_rejected, site.broken(result)["valid_from_is_given"]) == (1, (2, 1))


@on_sail
def test_rows_of_one_key_that_differ_within_a_whole_delivery_are_counted(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session)
    doubled = "dish | price\n soup | 4\n pie | 5\n pie | 6\n tea | 1\n tea | 1"
    result = site.deliver("2026-03-01", menu=doubled)
    assert site.broken(result)["events_of_one_instant_agree"] == (5, 2)
    assert site.draw("silver.menu", "dish", "price") == drawn("dish | price\n pie | 6\n soup | 4\n tea | 1")

    listed = (
        "tariff | fee | valid_from\n adult | 1 | 2025-01-01\n adult | 2 | 2026-01-01\n adult | 3 | 2026-01-01\n"
        " child | 1 | 2025-01-01"
    )
    assert site.broken(site.deliver("2026-03-02", tariffs=listed))["events_of_one_instant_agree"] == (4, 2)

"""A whole delivery with a row that was rejected: the key of that row stays as it was, for every order of arrival."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from drawing import drawn
from factories_pipeline import Site, on_sail

from pipeline.contract import Outcome, Quality, Result
from pipeline.engine.session import Session
from pipeline.model import HIGH, REJECT, Derived, Feed, Rule, Scd2, Snapshot, Source, aggregate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

CHEAP = Rule("price_is_not_negative", "price >= 0", severity=HIGH, action=REJECT)
COLUMNS = "code STRING NOT NULL, price DECIMAL(8,2)"


@aggregate(
    upstream="goods",
    grain=("code",),
    where="is_current",
    columns="code STRING, goods BIGINT, prices DECIMAL(20,2)",
    sum={"goods": "1", "prices": "price"},
)
def by_code(sums: "DataFrame") -> "DataFrame":
    """Goods that are there now."""
    return sums


SHELF = Source(
    name="shelf",
    feeds=(
        Feed(
            name="goods",
            files="goods_*.csv",
            columns=COLUMNS,
            key=("code",),
            stored_as=Scd2(),
            snapshot=True,
            rules=(CHEAP,),
        ),
        Feed(
            name="stock",
            files="stock_*.csv",
            columns=COLUMNS,
            key=("code",),
            stored_as=Scd2(delete_when="price = 0"),
            snapshot=True,
            rules=(CHEAP,),
        ),
        Feed(
            name="offers",
            files="offers_*.csv",
            columns=COLUMNS,
            key=("code",),
            stored_as=Snapshot(),
            snapshot=True,
            rules=(CHEAP,),
        ),
        Feed(
            name="fares",
            files="fares_*.csv",
            columns=f"{COLUMNS}, starts DATE NOT NULL",
            key=("code",),
            stored_as=Snapshot(valid_from="starts"),
            snapshot=True,
            rules=(CHEAP,),
        ),
        Feed(
            name="spelt",
            files="spelt_*.csv",
            columns="code STRING, price DECIMAL(8,2)",
            cleaned=(Derived("name", "STRING", "coalesce(upper(code), '?')"),),
            key=("name",),
            stored_as=Scd2(),
            snapshot=True,
        ),
    ),
)
vars(SHELF)["gold"] = (by_code,)
ANY_SHRINK = Quality(max_snapshot_shrink=1.0)
HEAD = "code,price\n"
DAYS: dict[str, str] = {
    "2026-03-01": "tea,1\nbun,2\npie,3\n",
    "2026-03-02": "tea,2\nbun,zwei\n",  # bun's price cannot be read, and pie is gone
    "2026-03-03": "tea,2\nbun,-5\npie,4\n",  # bun breaks a rule
    "2026-03-04": "tea,2\npie,4\n",  # bun is gone
}
ORDERS = (
    "1234",
    "4321",
    "1432",
    "2413",
    *(pytest.param(order, marks=pytest.mark.slow) for order in ("1324", "3142", "1342")),
)
LEFT = {2: "bun | 2\n tea | 2", 3: "bun | 2\n pie | 4\n tea | 2", 4: "pie | 4\n tea | 2"}


@pytest.fixture
def shelf(session: Session, tmp_path: Path) -> Site:
    return Site(tmp_path, session, SHELF, quality=ANY_SHRINK)


def kept(result: Result, feed: str) -> tuple[int, int, tuple[str, ...]]:
    """Returns the counts of the rule that counts the keys of rejected rows."""
    return next(
        (f.checked, f.broken, f.examples)
        for f in result.findings
        if (f.feed, f.rule) == (feed, "listed_key_is_accepted")
    )


@pytest.mark.parametrize("arrival", ORDERS)
def test_a_rejected_row_does_not_close_its_key(shelf: Site, arrival: str) -> None:
    results = {
        day: shelf.deliver(day, raw_goods=HEAD + DAYS[day], raw_stock=HEAD + DAYS[day])
        for day in (f"2026-03-0{n}" for n in arrival)
    }
    for feed in ("goods", "stock"):
        assert shelf.draw(f"silver.{feed}", "code", "price", "effective_from", "effective_to") == drawn("""
            code | price | effective_from | effective_to
            bun  | 2     | 2026-03-01     | 2026-03-05
            pie  | 3     | 2026-03-01     | 2026-03-03
            pie  | 4     | 2026-03-03     |
            tea  | 1     | 2026-03-01     | 2026-03-02
            tea  | 2     | 2026-03-02     |
        """)
    assert shelf.draw("gold.by_code", "code", "goods", "prices") == drawn(
        "code | goods | prices\n pie | 1 | 4\n tea | 1 | 2"
    )
    assert kept(results["2026-03-02"], "goods") == (2, 1, ("bun,zwei",))
    assert kept(results["2026-03-03"], "goods") == (3, 1, ("bun,-5",))
    assert [f for f in results["2026-03-04"].findings if f.rule == "listed_key_is_accepted"] == []


@pytest.mark.parametrize("arrival", ["12", "21", "123", "321", "132", "312", "213", *ORDERS])
def test_a_rejected_row_leaves_what_was_listed_of_its_key(shelf: Site, arrival: str) -> None:
    for day in (f"2026-03-0{n}" for n in arrival):
        shelf.deliver(day, raw_offers=HEAD + DAYS[day])
    assert shelf.draw("silver.offers", "code", "price") == drawn(f"code | price\n {LEFT[len(arrival)]}")


@on_sail
def test_a_key_that_stands_in_a_good_row_too_takes_that_row(shelf: Site) -> None:
    shelf.deliver("2026-03-01", raw_offers=f"{HEAD}tea,1\nbun,2\n", raw_goods=f"{HEAD}tea,1\nbun,2\n")
    shelf.deliver("2026-03-02", raw_offers=f"{HEAD}tea,1\nbun,-2\nbun,3\n", raw_goods=f"{HEAD}tea,1\nbun,-2\nbun,3\n")
    assert shelf.draw("silver.offers", "code", "price") == drawn("code | price\n bun | 3\n tea | 1")
    assert shelf.draw("silver.goods", "code", "price", "is_current") == drawn(
        "code | price | is_current\n bun | 2 | false\n bun | 3 | true\n tea | 1 | true"
    )


@on_sail
def test_a_fare_whose_row_is_rejected_keeps_all_its_versions(shelf: Site) -> None:
    head = "code,price,starts\n"
    shelf.deliver("2026-03-01", raw_fares=f"{head}adult,10,2026-01-01\nadult,12,2026-02-01\nchild,5,2026-01-01\n")
    shelf.deliver("2026-03-02", raw_fares=f"{head}adult,11,1. Januar\nchild,6,2026-01-01\n")
    assert shelf.draw("silver.fares", "code", "price", "effective_from", "effective_to") == drawn("""
        code  | price | effective_from | effective_to
        adult | 10    | 2026-01-01     | 2026-02-01
        adult | 12    | 2026-02-01     |
        child | 6     | 2026-01-01     |
    """)


@on_sail
@pytest.mark.parametrize("broken", ['bu"n,2', "bun", "bun,2,more"])
def test_where_a_record_cannot_be_read_no_key_is_taken_for_gone(shelf: Site, broken: str) -> None:
    shelf.deliver("2026-03-01", raw_offers=f"{HEAD}tea,1\nbun,2\n", raw_goods=f"{HEAD}tea,1\nbun,2\n")
    result = shelf.deliver("2026-03-02", raw_offers=f"{HEAD}tea,3\n{broken}\n", raw_goods=f"{HEAD}tea,3\n{broken}\n")
    assert shelf.draw("silver.offers", "code", "price") == drawn("code | price\n bun | 2\n tea | 3")
    assert shelf.draw("silver.goods", "code", "price", "is_current") == drawn(
        "code | price | is_current\n bun | 2 | true\n tea | 1 | false\n tea | 3 | true"
    )
    assert kept(result, "goods") == (2, 1, (broken,))
    # The next delivery without it is whole again.
    shelf.deliver("2026-03-03", raw_offers=f"{HEAD}tea,3\n", raw_goods=f"{HEAD}tea,3\n")
    assert shelf.draw("silver.offers", "code") == drawn("code\n tea")
    assert [r["code"] for r in shelf.rows("silver.goods") if r["is_current"]] == ["tea"]


@on_sail
def test_a_record_without_a_key_names_none_and_hides_nothing(shelf: Site) -> None:
    shelf.deliver("2026-03-01", raw_offers=f"{HEAD}tea,1\nbun,2\n", raw_goods=f"{HEAD}tea,1\nbun,2\n")
    result = shelf.deliver("2026-03-02", raw_offers=f"{HEAD}tea,1\n,2\n", raw_goods=f"{HEAD}tea,1\n,2\n")
    assert shelf.draw("silver.offers", "code") == drawn("code\n tea")
    assert [r["code"] for r in shelf.rows("silver.goods") if r["is_current"]] == ["tea"]
    assert "listed_key_is_accepted" not in {f.rule for f in result.findings}


@on_sail
def test_a_trigger_that_calls_a_feed_whole_is_held_to_the_same(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, quality=ANY_SHRINK)
    site.deliver("2026-03-01", raw_rooms="room_id,seats\nr1,4\nr2,6\nr3,8\n")
    site.deliver("2026-03-02", snapshot=["rooms"], raw_rooms="room_id,seats\nr1,4\nr2,six\n")
    assert sorted(r["room_id"] for r in site.rows("silver.rooms") if r["is_current"]) == ["r1", "r2"]


@on_sail
def test_a_correction_of_a_delivery_with_a_rejected_row_puts_its_key_right(shelf: Site) -> None:
    good, bad = f"{HEAD}tea,1\nbun,2\n", f"{HEAD}tea,1\nbun,zwei\n"
    for given, revision in ((good, 0), (bad, 1), (f"{HEAD}tea,1\nbun,3\n", 2)):
        shelf.deliver("2026-03-01", revision=revision, raw_goods=given)
        shown = shelf.draw("silver.goods", "code", "price", "is_current")
    assert shown == drawn("code | price | is_current\n bun | 3 | true\n tea | 1 | true")
    assert shelf.draw("gold.by_code", "code", "goods", "prices") == drawn(
        "code | goods | prices\n bun | 1 | 3\n tea | 1 | 1"
    )


@on_sail
def test_a_cleaned_key_that_is_never_null_is_not_taken_for_the_key_of_an_unread_record(shelf: Site) -> None:
    shelf.deliver("2026-03-01", raw_spelt=f"{HEAD}tea,1\nbun,2\n")
    shelf.deliver("2026-03-02", raw_spelt=f"{HEAD}tea,1\nbun,2,more\n")
    assert sorted(r["name"] for r in shelf.rows("silver.spelt") if r["is_current"]) == ["BUN", "TEA"]
    assert {r["key"] for r in shelf.rows("ops.rejected_keys")} == {None}


@on_sail
def test_two_whole_deliveries_of_one_date_that_differ_need_a_revision_of_a_history_too(shelf: Site) -> None:
    shelf.deliver("2026-03-01", raw_goods=f"{HEAD}tea,1\n")
    refused = shelf.attempt("2026-03-01", raw_goods=f"{HEAD}tea,1\nbun,2\n")
    assert (refused.outcome, "`revision`: 1" in refused.reason) == (Outcome.REJECTED, True)
    shelf.deliver("2026-03-01", revision=1, raw_goods=f"{HEAD}tea,1\nbun,2\n")
    assert sorted(r["code"] for r in shelf.rows("silver.goods") if r["is_current"]) == ["bun", "tea"]

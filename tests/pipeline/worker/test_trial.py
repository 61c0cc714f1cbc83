"""Declarations tried on empty tables: each mistake is reported with its place before the first file comes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.contract import Settings, Tried
from pipeline.engine.session import Session
from pipeline.lake.lake import Lake
from pipeline.model import (
    HIGH,
    REJECT,
    Derived,
    Enriched,
    Feed,
    GoldKind,
    GoldTable,
    PointInTimeJoin,
    Rule,
    Scd2,
    Source,
)
from pipeline.sources.registry import all_sources
from pipeline.worker.trial import trial

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SALES = Feed(
    name="sales",
    files="sales_*.csv",
    columns="sale_id STRING NOT NULL, land STRING, amount DECIMAL(8,2), sold_at TIMESTAMP NOT NULL",
    key=("sale_id",),
    stored_as=Scd2(sequence_by="sold_at"),
    cleaned=(Derived("net", "DECIMAL(10,2)", "amount * 2"),),
    rules=(Rule("amount_is_positive", "amount > 0", severity=HIGH, action=REJECT),),
)
LANDS = Feed(
    name="lands",
    files="lands_*.csv",
    columns="land STRING NOT NULL, tax DECIMAL(8,2), since TIMESTAMP NOT NULL",
    key=("land",),
    stored_as=Scd2(sequence_by="since"),
)
TAXED = Enriched(
    name="taxed",
    upstream="sales",
    as_of="sold_at",
    joins=(PointInTimeJoin(feed="lands", on=("land",), prefix="land_", columns=("tax",)),),
    derived=(Derived("owed", "DECIMAL(18,4)", "net * tax"),),
    rules=(Rule("tax_is_known", "tax IS NOT NULL"),),
)


def as_it_is(rows: "DataFrame") -> "DataFrame":
    return rows


def table(kind: GoldKind, name: str, **declared: Any) -> GoldTable:
    return GoldTable(**{"name": name, "kind": kind, "upstream": "taxed", "build": as_it_is, **declared})


BY_LAND = table(
    GoldKind.AGGREGATE,
    "by_land",
    grain=("land",),
    columns="land STRING, total DECIMAL(30,2), sellers BIGINT",
    sum={"total": "coalesce(net, 0)"},
    count_distinct={"sellers": "sale_id"},
    checks=(Rule("total_is_given", "total IS NOT NULL"),),
)
NEWEST = table(GoldKind.RECOMPUTE, "newest", grain=("land",), key=("land",), columns="land STRING, owed DECIMAL(18,4)")
EACH = table(GoldKind.SELECT_ROWS, "each_sale", grain=("sale_id",), columns="sale_id STRING, owed DECIMAL(18,4)")


def misspelt(rows: "DataFrame") -> "DataFrame":
    return rows.selectExpr("land", "ohwed AS owed")


def shop(
    sales: Mapping[str, Any] | None = None,
    taxed: Mapping[str, Any] | None = None,
    gold: Sequence[GoldTable] = (BY_LAND, NEWEST, EACH),
) -> Source:
    """The source with some of it declared in another way."""
    feeds = (replace(SALES, **(sales or {})), LANDS)
    source = Source(name="shop", feeds=feeds, enriched=(replace(TAXED, **(taxed or {})),))
    vars(source)["gold"] = tuple(gold)  # as if a module held them
    return source


MISTAKES = {
    "rule": (
        shop(sales={"rules": (Rule("amount_is_positive", "amont > 0"),)}),
        "sales, rule amount_is_positive",
        "amont",
    ),
    "where of a rule": (
        shop(sales={"rules": (Rule("is_positive", "amount > 0", where="lant = 'CH'"),)}),
        "sales, rule is_positive",
        "lant",
    ),
    "cleaned": (
        shop(sales={"cleaned": (Derived("net", "DECIMAL(10,2)", "amoutn * 2"),)}),
        "sales, cleaned column net",
        "amoutn",
    ),
    "delete_when": (
        shop(sales={"stored_as": Scd2(sequence_by="sold_at", delete_when="opp = 'D'")}),
        "sales, delete_when",
        "opp",
    ),
    "function": (
        shop(sales={"rules": (Rule("land_is_short", "lenght(land) < 4"),)}),
        "sales, rule land_is_short",
        "lenght",
    ),
    "setting": (shop(sales={"rules": (Rule("is_large", "amount > $least"),)}), "sales, rule is_large", "least"),
    "derived": (
        shop(taxed={"derived": (Derived("owed", "DECIMAL(18,4)", "net * taxx"),)}),
        "taxed, derived column owed",
        "taxx",
    ),
    "rule of an enriched table": (
        shop(taxed={"rules": (Rule("tax_is_known", "tacks IS NOT NULL"),)}),
        "taxed, rule tax_is_known",
        "tacks",
    ),
    "sum": (shop(gold=[replace(BY_LAND, sum={"total": "coalesce(nett, 0)"})]), "by_land, column total", "nett"),
    "member": (
        shop(gold=[replace(BY_LAND, count_distinct={"sellers": "seller"})]),
        "by_land, column sellers",
        "seller",
    ),
    "where of gold": (shop(gold=[replace(BY_LAND, where="is_opne")]), "by_land, where", "is_opne"),
    "check": (
        shop(gold=[replace(BY_LAND, checks=(Rule("is_given", "totall > 0"),))]),
        "by_land, check is_given",
        "totall",
    ),
    "its function": (shop(gold=[replace(NEWEST, build=misspelt)]), "newest, its function", "ohwed"),
    "a column that nothing makes": (
        shop(gold=[replace(EACH, columns="sale_id STRING, fee INT")]),
        "each_sale, its columns or its function",
        "fee",
    ),
    "a key that its rows lack": (
        shop(gold=[replace(NEWEST, key=("lnad",))]),
        "newest, its columns or its function",
        "lnad",
    ),
    "types that do not meet": (shop(gold=[replace(BY_LAND, sum={"total": "net + sold_at"})]), "shop.gold.by_land", ""),
}


def tried(tmp_path: Path, session: Session, source: Source) -> Tried:
    lake = Lake(tmp_path / "lake", session)
    settings = Settings(lake_path=str(lake.path), engine=session.engine)
    found = trial(source.name, settings, lake, lambda _: None, source_of=lambda _: source)
    assert list(lake.path.rglob("*")) in ([], [lake.path / "_trial"]), "nothing is left behind"
    return found


@pytest.mark.parametrize("source", [shop(), *all_sources()], ids=lambda s: s.name)
def test_a_source_whose_declarations_are_right_goes_through_without_a_row(
    tmp_path: Path,
    session: Session,
    source: Source,
) -> None:
    assert tried(tmp_path, session, source).mistake == ""


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_reported_with_its_place_and_the_name_that_is_not_known(
    tmp_path: Path,
    session: Session,
    kind: str,
) -> None:
    source, place, name = MISTAKES[kind]
    mistake = tried(tmp_path, session, source).mistake
    assert mistake.startswith(place), mistake
    assert name in mistake.removeprefix(place)

"""Errors that come from a value reject the row, or the batch with the place; those of a declaration fail it at once."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from drawing import draw, drawn
from factories_pipeline import Site, on_sail
from pyspark.sql import functions as F

from pipeline.contract import Outcome, Result
from pipeline.engine.session import Session
from pipeline.model import (
    HIGH,
    REJECT,
    Derived,
    Enriched,
    Feed,
    GoldTable,
    LatestJoin,
    PointInTimeJoin,
    Rule,
    Scd1,
    Scd2,
    Source,
    aggregate,
    recompute,
    select_rows,
)
from pipeline.run import MEND_VALUE
from pipeline.transform.unfit_rows import MOST_UNFIT

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# An importer's orders: dates as the sender writes them, amounts that may be too wide, quantities that may be nothing.
ORDERS = Feed(
    name="orders",
    files="orders_*.csv",
    columns="id STRING NOT NULL, ordered STRING, amount DECIMAL(12,2), pieces INT, op STRING",
    key=("id",),
    stored_as=Scd1(),
    cleaned=(Derived("ordered_on", "DATE", "to_date(ordered, 'M/d/yyyy')"),),
    rules=(
        Rule("amount_is_small", "CAST(amount AS DECIMAL(5,2)) * 2 < 1800", where="amount IS NOT NULL"),
        Rule("something_was_ordered", "pieces <> 7", severity=HIGH, action=REJECT, where="pieces IS NOT NULL"),
    ),
    derived=(
        Derived("boxes", "INT", "100 div pieces"),
        Derived("rest", "INT", "boxes % (pieces - 7)"),
    ),
)
TRADE = Source(name="trade", feeds=(ORDERS,))
OF_THE_SECOND = "cannot be computed of orders_002.csv, record 2: "
GOOD = "a | 11/8/2016 | 10.00 | 2"


@pytest.fixture
def trade(session: Session, tmp_path: Path) -> Site:
    return Site(tmp_path, session, TRADE)


@pytest.fixture
def place(session: Session, tmp_path: Path) -> tuple[Session, Path]:
    return session, tmp_path


def orders(*rows: str) -> str:
    return "\n".join(["id | ordered | amount | pieces", *rows])


def quarantined(site: Site) -> str:
    return site.draw("ops.quarantine", "record", "reasons")


def must_add_up(result: Result) -> None:
    assert result.rows_read == result.rows_accepted + result.rows_rejected
    assert all(f.rows_read == f.rows_accepted + f.rows_rejected for f in result.files)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param("b | n/a | 10.00 | 2", "value:ordered_on", id="a date that is none"),
        pytest.param("b | 1/2/2016 | 123456.00 | 2", "value:amount_is_small", id="an amount too wide for a rule"),
        pytest.param("b | 1/2/2016 | 10.00 | 0", "value:boxes", id="a division by zero in a derived column"),
    ],
)
def test_a_row_of_which_sql_cannot_be_computed_is_rejected_alone(trade: Site, row: str, reason: str) -> None:
    result = trade.deliver("2026-03-02", orders=orders(GOOD, row, "c | 1/2/2016 | 11.00 | 3"))
    assert quarantined(trade) == drawn(f"record | reasons\n 2 | {reason}")
    assert sorted(r["id"] for r in trade.rows("silver.orders")) == ["a", "c"]
    assert (result.rows_read, result.rows_accepted, result.rows_rejected) == (3, 2, 1)
    must_add_up(result)
    [found] = [f for f in result.findings if f.rule == reason]
    assert (found.severity, found.action, found.broken) == ("HIGH", "REJECT", 1)
    assert found.description.startswith("its SQL can be computed of the row: ")
    [event] = [p for p in trade.progress if p.event == "value.rejected"]
    about = {"rule": reason, "file": "orders_001.csv", "record": 2, "rows": 1}
    assert {name: event.values[name] for name in about} == about


@on_sail
def test_many_rows_of_one_value_are_one_search_and_others_have_reasons_of_their_own(trade: Site) -> None:
    bad = {4: "n/a", 90: "n/a", 91: "", 150: "later", 299: "n/a"}
    first = orders(*(f"r{n} | {bad.get(n, '1/2/2016')} | 10.00 | 2" for n in range(300)))
    second = orders(
        "s1 | 1/2/2016 | 10.00 | 0",
        "s2 | n/a | x | 2",
        "s3 | 1/2/2016 | 123456.00 | 2",
        "s4 | 1/2/2016 | 10.00 | 7",
    )
    result = trade.deliver("2026-03-02", orders=[first, second])
    assert draw(trade.rows("ops.quarantine"), "source_file", "record", "reasons") == drawn("""
        source_file    | record | reasons
        orders_001.csv | 5      | value:ordered_on
        orders_001.csv | 91     | value:ordered_on
        orders_001.csv | 151    | value:ordered_on
        orders_001.csv | 300    | value:ordered_on
        orders_002.csv | 1      | value:boxes
        orders_002.csv | 2      | type:amount, value:ordered_on
        orders_002.csv | 3      | value:amount_is_small
        orders_002.csv | 4      | something_was_ordered
    """)
    assert (result.rows_read, result.rows_rejected) == (304, 8)
    must_add_up(result)
    assert [p.values["rows"] for p in trade.progress if p.event == "value.rejected"] == [4, 1, 1, 1]


@on_sail
def test_a_batch_with_too_many_such_values_is_rejected_with_the_first(trade: Site) -> None:
    rows = (f"r{n} | day {n} | 10.00 | 2" for n in range(MOST_UNFIT + 2))
    result = trade.attempt("2026-03-02", orders=orders(GOOD, *rows))
    assert result.outcome == Outcome.REJECTED
    first = "orders_001.csv: record 2 is the first of many of which ordered_on cannot be computed ("
    assert result.reason.startswith(first)
    assert trade.lake.row_count("trade.bronze.orders", trade.lake.version("trade.bronze.orders")) == 0


@on_sail
def test_a_delete_of_which_no_derived_column_could_be_computed_deletes(session: Session, tmp_path: Path) -> None:
    feed = replace(ORDERS, stored_as=Scd2(delete_when="op = 'D'"))
    site = Site(tmp_path, session, replace(TRADE, feeds=(feed,)))
    site.deliver("2026-03-02", orders=orders(GOOD))
    site.deliver("2026-03-03", orders="id | pieces | op\n a | 0 | D\n b | 0 | U")
    assert [r["id"] for r in site.rows("silver.orders") if r["is_current"]] == []
    assert quarantined(site) == drawn("record | reasons\n 2 | value:boxes")


@on_sail
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param(Derived("ordered_on", "DATE", "date(orderd)"), "there is no column orderd", id="a column"),
        pytest.param(Rule("small", "amount < $least"), "Placeholder '$least'", id="a setting"),
        pytest.param(Rule("small", "ordered * pieces > array(1)"), "", id="types"),
        pytest.param(Rule("boxed", "nofunc(pieces) > 1"), "unknown function: nofunc", id="a function"),
        pytest.param(Derived("seven", "INT", "CAST('seven' AS INT)"), "", id="a constant"),
    ],
)
def test_a_wrong_declaration_fails_the_batch_at_once_and_names_table_and_column(
    place: tuple[Session, Path],
    wrong: Rule | Derived,
    message: str,
) -> None:
    session, folder = place
    feeds = [replace(ORDERS, rules=(wrong,))] if isinstance(wrong, Rule) else []
    if isinstance(wrong, Derived):
        feeds = [replace(ORDERS, cleaned=(wrong,), derived=()), replace(ORDERS, cleaned=(), derived=(wrong,))]
    for number, feed in enumerate(feeds):
        site = Site(folder / str(number), session, replace(TRADE, feeds=(feed,)))
        must_fail_at_once(site, f"trade.silver.orders: {wrong.name}: {message}")


def must_fail_at_once(site: Site, message: str) -> None:
    result = site.attempt("2026-03-02", orders=orders(GOOD))
    assert (result.outcome, result.retryable) == (Outcome.FAILED, False), result.reason
    assert result.reason.startswith(message), result.reason
    assert result.reason.endswith("; correct the declaration, start the daemon anew, then retry the batch")
    newest = site.manifest.newest("trade")
    assert newest is not None
    assert (newest.kind, newest.reason) == ("failed", result.reason)


# ---- where rows are joined and added up


@aggregate(
    upstream="orders",
    grain=("op",),
    columns="op STRING, orders BIGINT, total DECIMAL(7,2), share INT",
    sum={"orders": "1", "total": "amount", "share": "1000 div (pieces - 5)"},
)
def by_op(sums: "DataFrame") -> "DataFrame":
    """Amounts by what was done."""
    return sums


@select_rows(upstream="orders", grain=("id",), columns="id STRING, ratio INT, twice DECIMAL(7,2)")
def each_order(orders: "DataFrame") -> "DataFrame":
    """A row for each order."""
    return orders.selectExpr("id", "1000 div (pieces - 6) AS ratio", "amount * 2 AS twice")


@recompute(upstream="orders", grain=("ordered",), key=("ordered",), columns="ordered STRING, span INT")
def spans(orders: "DataFrame") -> "DataFrame":
    """How far the orders lie apart."""
    spans = orders.groupBy("ordered").agg(F.expr("CAST(max(pieces) - min(pieces) AS INT) AS span"))
    return spans.selectExpr("ordered", "100 div (span - 4) AS span")


@select_rows(upstream="orders", grain=("id",), columns="id STRING")
def misspelt(orders: "DataFrame") -> "DataFrame":
    """It names a function that is none."""
    return orders.selectt("id")  # type: ignore[operator]


PRICED = Enriched(
    name="priced",
    upstream="orders",
    joins=(LatestJoin(feed="prices", on=("id",), prefix="price_"),),
    derived=(Derived("each", "INT", "100 div price"), Derived("rest", "INT", "each % (pieces - 3)")),
)
PRICES = Feed(
    name="prices", files="prices_*.csv", columns="id STRING NOT NULL, price INT", key=("id",), stored_as=Scd1()
)


def shop(site_of: tuple[Session, Path], monkeypatch: pytest.MonkeyPatch, *gold: GoldTable, **more: Any) -> Site:
    """A site with the orders and these gold tables."""
    session, folder = site_of
    module = ModuleType("gold_of_faults")
    for table in gold:
        setattr(module, table.name, table)
    monkeypatch.setitem(sys.modules, "gold_of_faults", module)
    feed = replace(ORDERS, derived=(), rules=())
    source = replace(TRADE, feeds=(feed, PRICES), gold_module="gold_of_faults" if gold else "", **more)
    return Site(folder, session, source)


def must_be_rejected(site: Site, result: Result, message: str) -> None:
    assert result.outcome == Outcome.REJECTED, result
    assert result.reason.startswith(message), result.reason
    assert result.reason.endswith(f"; {MEND_VALUE}")
    assert "\x1b" not in result.reason
    newest = site.manifest.newest("trade")
    assert newest is not None
    assert (newest.kind, newest.reason) == ("rejected", result.reason)


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        pytest.param(by_op, "c | 1/2/2016 | 10.00 | 5", f"by_op: share {OF_THE_SECOND}", id="a sum's row"),
        pytest.param(by_op, "c | 1/2/2016 | 99999.00 | 2", "by_op: total cannot be computed: ", id="a sum too wide"),
        pytest.param(each_order, "c | 1/2/2016 | 10.00 | 6", f"each_order: ratio {OF_THE_SECOND}", id="a row"),
        pytest.param(each_order, "c | 1/2/2016 | 90000.00 | 2", f"each_order: twice {OF_THE_SECOND}", id="too wide"),
        pytest.param(spans, "c | 11/8/2016 | 10.00 | 6", "spans: span cannot be computed: ", id="a key"),
    ],
)
def test_a_gold_table_that_cannot_be_computed_rejects_the_batch_with_the_place(
    place: tuple[Session, Path], monkeypatch: pytest.MonkeyPatch, table: GoldTable, row: str, message: str
) -> None:
    site = shop(place, monkeypatch, table)
    site.deliver("2026-03-02", orders=orders(GOOD))
    result = site.attempt("2026-03-03", orders=orders("b | 1/2/2016 | 11.00 | 3", row))
    must_be_rejected(site, result, f"trade.gold.{message}")
    assert (result.rows_read, result.rows_accepted) == (2, 2)


@on_sail
def test_a_derived_column_of_joined_rows_rejects_the_batch_with_the_record(
    place: tuple[Session, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = shop(place, monkeypatch, enriched=(PRICED,))
    site.deliver("2026-03-02", orders=orders(GOOD), prices="id | price\n a | 5\n b | 6")
    result = site.attempt("2026-03-03", orders=orders("c | 1/2/2016 | 11.00 | 2", "b | 1/2/2016 | 11.00 | 3"))
    must_be_rejected(site, result, "trade.silver.priced: rest cannot be computed of orders_003.csv, record 2: ")
    # The order was there before; its price is what makes it impossible.
    result = site.attempt("2026-03-04", prices="id | price\n b | 7\n a | 0")
    must_be_rejected(site, result, "trade.silver.priced: each cannot be computed of the row where id = a: ")


def test_a_value_that_fails_beside_an_open_version_is_named_too(
    place: tuple[Session, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, folder = place
    prices = replace(PRICES, stored_as=Scd2())
    priced = replace(PRICED, joins=(PointInTimeJoin(feed="prices", on=("id",), prefix="price_"),))
    feed = replace(ORDERS, derived=(), rules=())
    site = Site(folder, session, replace(TRADE, feeds=(feed, prices), enriched=(priced,)))
    result = site.attempt(
        "2026-03-02", orders=orders(GOOD, "b | 1/2/2016 | 11.00 | 3"), prices="id | price\n a | 5\n b | 6"
    )
    must_be_rejected(site, result, "trade.silver.priced: rest cannot be computed of orders_001.csv, record 2: ")


@on_sail
def test_a_function_that_is_wrong_fails_the_batch_at_once(
    place: tuple[Session, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = shop(place, monkeypatch, misspelt).attempt("2026-03-02", orders=orders(GOOD))
    assert (result.outcome, result.retryable) == (Outcome.FAILED, False)
    assert result.reason.startswith("trade.gold.misspelt: its function raises ")

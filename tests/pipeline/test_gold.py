"""Gold is kept by difference; here it is computed anew from silver, in plain Python, and compared."""

import datetime as dt
from pathlib import Path
from random import Random
from typing import Any

import pytest
from drawing import draw, drawn
from factories_pipeline import SHOP, TILL, Site, on_sail
from retail_anew import enriched_orders, gold, history, key_figures, public

from pipeline.contract import Outcome, Quality, Result
from pipeline.model import totals
from pipeline.retail.feeds import RETAIL
from pipeline.spark import Session

ANY_SHRINK = Quality(max_snapshot_shrink=1.0)

# ---- totals


def test_totals_follow_rows_that_come_change_move_and_go(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, TILL)
    columns = ("note", "items", "total", "names", "first_name", "last_name")
    site.deliver("2026-03-01", prices="item | price | note\n tea | 1.50 | drink\n milk | 1 | drink\n cake | 3 |\n pie | 4 |")
    assert site.draw("gold.takings", *columns) == drawn("""
        note  | items | total | names | first_name | last_name
              | 2     | 7     | 2     | cake       | pie
        drink | 2     | 2.5   | 2     | milk       | tea
    """)
    site.deliver("2026-03-02", prices="item | price | note\n pie | 5 |\n milk | 2 |\n roll | 1 | bread")
    assert site.draw("gold.takings", *columns) == drawn("""
        note  | items | total | names | first_name | last_name
              | 3     | 10    | 3     | cake       | pie
        bread | 1     | 1     | 1     | roll       | roll
        drink | 1     | 1.5   | 1     | tea        | tea
    """)
    site.deliver("2026-03-03", prices="item | price | note\n cake | 3 | bread\n pie | 5 | bread\n milk | 2 | drink")
    assert site.draw("gold.takings", *columns) == drawn("""
        note  | items | total | names | first_name | last_name
        bread | 3     | 9     | 3     | cake       | roll
        drink | 2     | 3.5   | 2     | milk       | tea
    """)


@on_sail
def test_a_check_that_fails_rejects_the_batch(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, TILL)
    site.deliver("2026-03-01", prices="item | price | note\n tea | 60 | drink")
    before = {table: site.rows(table.removeprefix("till.")) for table in site.versions()}

    result = site.attempt("2026-03-02", prices="item | price | note\n milk | 40 | drink", visits="member_id | room\n m1 | hall")
    assert (result.outcome, result.retryable) == (Outcome.REJECTED, False)
    assert result.reason == "till.gold.takings: 1 rows break its check the_total_is_below_a_hundred, the first where note = drink; no table was changed"
    assert {table: site.rows(table.removeprefix("till.")) for table in site.versions()} == before
    newest = site.manifest.newest("till")
    assert newest is not None
    assert (newest.kind, newest.reason) == ("rejected", result.reason)

    site.deliver("2026-03-02", revision=1, prices="item | price | note\n milk | 39.99 | drink")
    assert site.draw("gold.takings", "note", "items", "total", "names") == drawn("note | items | total | names\n drink | 2 | 99.99 | 2")


@pytest.mark.parametrize("kind", ["INT", "BIGINT", "DECIMAL(8,2)"])
def test_extremes_of_numbers_cannot_be_declared(kind: str) -> None:
    with pytest.raises(ValueError, match="dearest is"):
        totals(of="prices", grain=("note",), columns=f"note STRING, dearest {kind}", highest={"dearest": "price"})(lambda sums: sums)


# ---- retail: difference and recomputation agree


SEEDS = {"sail": (1, 2, 3), "spark": (4,)}


def test_gold_kept_by_difference_is_what_silver_says_after_every_batch(session: Session, tmp_path: Path) -> None:
    for seed in SEEDS[session.engine]:
        _agrees(Site(tmp_path / str(seed), session, RETAIL, fill=SHOP, quality=ANY_SHRINK), seed)


def _agrees(site: Site, seed: int) -> None:
    figures: list[dict[str, Any]] = []
    as_of = dt.date.min
    for batch in history(Random(seed)):
        result = site.deliver(**batch)
        as_of = max(as_of, dt.date.fromisoformat(batch["day"]))
        silver = {feed.name: site.rows(f"silver.{feed.name}", result) for feed in RETAIL.feeds}
        where = f"seed {seed}, batch of {batch['day']}"
        orders = enriched_orders(silver)
        assert site.draw("silver.enriched_orders", *orders[0], result=result) == draw(orders, *orders[0]), where
        for name, expected in gold(silver, as_of).items():
            columns = [c for c in public(name) if not (name.startswith("dim_") and c in ("customer_key", "product_key"))]
            assert draw(_by_what_keys_stand_for(site, name, result), *columns) == draw(expected, *columns), f"{name}, {where}"
        figures.append({"batch_id": result.batch_id, "report_date": batch["day"], **key_figures(orders)})
        assert site.draw("gold.analytics_summary", *public("analytics_summary"), result=result) == draw(figures, *public("analytics_summary")), where
        assert {k: result.task_values[k] for k in ("total_orders", "unique_customers")} == {
            "total_orders": str(len(orders)),
            "unique_customers": str(figures[-1]["unique_customers"]),
        }


def _by_what_keys_stand_for(site: Site, name: str, result: Result) -> list[dict[str, Any]]:
    """The rows of a gold table; a fact's keys are followed to the starts of the versions that they name."""
    rows = site.rows(f"gold.{name}", result)
    if name.startswith("dim_"):
        keys = [next(v for c, v in r.items() if c.endswith("_key")) for r in rows]
        assert None not in keys
        assert len(set(keys)) == len(keys)
    if name == "fact_orders":
        for dim in ("customer", "product"):
            known = {r[f"{dim}_key"]: r for r in site.rows(f"gold.dim_{dim}", result)}
            for row in rows:
                version = known[row[f"{dim}_key"]] if row[f"{dim}_key"] is not None else None
                assert version is None or version[f"{dim}_id"] == row[f"{dim}_id"]
                row[f"{dim}_key"] = version and version["effective_from"]
    return rows

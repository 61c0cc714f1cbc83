"""What the pages compute from the facts: time, quality, charts."""

import datetime as dt
import re
from pathlib import Path

import pytest
import vendored
from factories_pages import PagesSite

from daemon.batch import State
from daemon.pages import batch_view, figures_view, outcome, quality_view, render, source_view
from daemon.pages.gather import gather
from daemon.pages.links import Links, Page
from pipeline import reader
from pipeline.contract import Settings

HISTORY = [
    {"changed_at": "2026-03-02T08:00:00Z", "state": "WAITING"},
    {"changed_at": "2026-03-02T08:00:10Z", "state": "READY"},
    {"changed_at": "2026-03-02T08:00:40Z", "state": "RUNNING"},
    {"changed_at": "2026-03-02T08:01:00Z", "state": "READY"},
    {"changed_at": "2026-03-02T08:01:05Z", "state": "RUNNING"},
    {"changed_at": "2026-03-02T08:01:35Z", "state": "PUBLISHED"},
    {"changed_at": "2026-03-02T08:01:40Z", "state": "ARCHIVED"},
]
NOW = dt.datetime(2026, 3, 2, 9, tzinfo=dt.UTC)


def test_the_whole_time_of_a_batch_is_accounted_for() -> None:
    parts = batch_view.segments(HISTORY, NOW)
    assert [(p.label, p.seconds) for p in parts] == [
        ("waits for files", 10),
        ("queued", 30),
        ("attempt 1", 20),
        ("waits for the next attempt", 5),
        ("attempt 2", 30),
        ("archives the files", 5),
    ]
    assert sum(p.share for p in parts) == pytest.approx(1)
    assert batch_view.seconds_of(HISTORY, NOW) == 50


def test_a_batch_at_work_grows_until_now() -> None:
    *_, last = batch_view.segments(HISTORY[:3], NOW)
    assert (last.label, last.seconds) == ("attempt 1", 3560)


def test_rules_that_no_row_broke_are_left_out_and_new_ones_come_first(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    for day, rejected in ((2, 0), (3, 0), (4, 2)):
        site.publish(day, rejected=rejected, raw="x")
    facts = gather(site.config)
    (row,) = quality_view.heat_map(facts, "retail")
    assert (row.rule, row.is_new, [c.broken for c in row.cells]) == ("order_amount_is_positive", True, [0, 0, 2])
    assert [c.level for c in row.cells] == [0, 0, 4]
    (score,) = quality_view.feed_scores(facts, "retail")
    assert (score.feed, score.scores) == ("orders", [100, 100, 75])  # 2 of 5 + 3 checks


def test_a_table_shows_its_versions_by_batch(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    batches = [site.publish(day) for day in (2, 3)]
    table = source_view.table(gather(site.config), "retail.gold.daily_sales")
    assert [(c.batch.batch_id, c.version) for c in table.changes] == [(batches[1], 2), (batches[0], 1)]
    assert table.info
    assert table.info.rows == 2


def test_the_declaration_of_a_gold_table_decides_its_chart() -> None:
    plans = {p.table: p for some in reader.charts(Settings(lake_path="/none")).values() for p in some}
    kinds = {name.rpartition(".")[2]: str(p.kind) for name, p in plans.items()}
    assert kinds["analytics_summary"] == "cards"
    assert kinds["daily_sales"] == kinds["revenue_by_month"] == kinds["daily_sales_by_category"] == "line"
    assert kinds["category_analysis"] == kinds["funnel"] == "bars"
    assert "dim_customer" not in kinds
    assert "fact_orders" not in kinds
    assert plans["retail.gold.product_analytics"].measures[0] == "total_revenue"
    assert "price" not in plans["retail.gold.product_analytics"].measures, "an attribute of a product is no measure"
    assert not [m for p in plans.values() for m in (*p.measures, *p.columns) if m.startswith("_")]


def test_cards_show_the_newest_batch_and_its_change(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    site.publish(2, orders=3)
    site.publish(3, orders=5)
    charts = gather(site.config).lake.sources["retail"].charts
    card = figures_view.cards(next(c for c in charts if c.kind == "cards"))[0]
    assert (card.label, card.text, card.change, card.values) == ("total revenue", "51.25", "+20.5", [30.75, 51.25])


def test_a_table_that_lacks_a_newly_declared_column_still_has_its_figures(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    site.publish(2)
    site.rewrite("retail.gold.daily_sales", ("order_date", "revenue"))
    site.rewrite("retail.gold.category_analysis", ("revenue",))
    charts = {c.table: c for c in gather(site.config).lake.sources["retail"].charts}
    assert charts["retail.gold.daily_sales"].measures == ("revenue",)
    assert "retail.gold.category_analysis" not in charts, "its grain is not there"
    assert "retail.gold.analytics_summary" in charts


def test_a_figure_that_changed_after_publication_is_named(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    late = site.publish(2)
    site.restate(late, 2, "10410.000000", "10395.000000")
    site.publish(3)
    facts = gather(site.config)
    (found,) = figures_view.changed_figures(facts, "retail.gold.daily_sales")
    assert (found.figure, found.column, found.batch_id) == ("2026-03-02", "revenue", late)
    html = render.render(Page(kind="figures", key="retail"), facts, Links())
    text = " ".join(re.sub(r"<[^>]+>", "", html).split())
    assert "revenue of 2026-03-02: 10,410 until batch 000001, 10,395 since" in text


def rendered(site: PagesSite, kind: str, key: str = "") -> str:
    html = render.render(Page(kind=kind, key=key), gather(site.config), Links())
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_a_line_of_a_source_shows_one_publication(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    site.publish(3, orders=5)
    correction = site.publish(2, orders=3, raw="x", rejected=1)
    ledger = site.ledger()
    ledger.update(correction, published_at="2026-03-04T08:00:00.000Z")
    ledger.close()
    found = source_view.last_published(gather(site.config), "retail")
    assert found
    assert found.batch_id == correction
    line = rendered(site, "overview").partition("its score ")[2].partition(" crm_erp ")[0]
    assert line == "retail 2026-03-03 2026-03-02 2026-03-04 08:00:00 3 75.0"


def test_a_file_that_never_came_is_no_arrival(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    published = site.publish(2)
    rejected = site.reject(3, "1 of 1 files did not come", file="orders_2026_03_03.csv")
    ledger = site.ledger()
    ledger.update(rejected, waiting_for=("orders_2026_03_03.csv",))
    ledger.close()
    facts = gather(site.config)
    last = source_view.last_arrival(facts, "retail", "orders")
    assert last
    assert last.batch.batch_id == published
    assert "files 0 of 1 came" in rendered(site, "batch", rejected)


def test_a_rule_stands_under_the_table_that_declares_it(tmp_path: Path) -> None:
    site = PagesSite(tmp_path)
    site.publish(2)
    facts = gather(site.config)
    assert quality_view.table_of(facts, "retail", "orders", "ordered_product_is_sold") == "enriched_orders"
    assert quality_view.table_of(facts, "retail", "orders", "order_amount_is_positive") == "orders"
    assert "Rules name" in rendered(site, "table", "retail.silver.enriched_orders")


def test_every_state_stands_in_the_legend(tmp_path: Path) -> None:
    legend = rendered(PagesSite(tmp_path), "overview").partition("its score")[2]
    for word in {outcome.of_state(state).word for state in State}:
        assert word in legend


def test_the_libraries_of_the_pages_are_those_of_their_archives() -> None:
    assert vendored.changed() == []

"""One batch from work order to result: duplicates, external commits, failures and their undo, changed definitions."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import factories_source_club
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from drawing import drawn
from factories_pipeline import Site, on_sail
from factories_shop_rows import SHOP
from factories_source import FEEDS, kiosk
from factories_source import changed as edited
from factories_source_club import CLUB, DESK, TILL
from factories_worker import Worker

from pipeline.commit.external_commits import adopt, restore
from pipeline.contract import Outcome, Progress, Quality, setting_values
from pipeline.engine.session import Session
from pipeline.model import Append, Csv, Derived, Enriched, Feed, Hierarchy, Rule, Scd1, Scd2, Source
from pipeline.model.definition_history import (
    CHANGED,
    LEFT_OUT,
    MIXED,
    NEXT,
    OTHER_KEY,
    WHOLE,
    changed_keys,
    next_history,
    outdated_tables,
)
from pipeline.model.fingerprints import fingerprint
from pipeline.run import MEND_DECLARATION
from pipeline.sources.external import load
from pipeline.sources.retail.feeds import RETAIL

PRICES = "item | price | note\n tea | 1.50 | 1\n milk | 1 | 2"
MORE = "item | price | note\n milk | 2 | 2\n cake | 3 | 3"
MEANT = "note | items | total\n 1 | 1 | 1.5\n 2 | 1 | 2\n 3 | 1 | 3"


@contextmanager
def lost(site: Site, table: str) -> Iterator[None]:
    """The files of a table are not there for a while, as when a disk is."""
    folder = site.lake.location(table)
    files = list(folder.glob("*.parquet"))
    assert files
    for file in files:
        file.rename(file.with_suffix(".gone"))
    yield
    for file in files:
        file.with_suffix(".gone").rename(file)


@pytest.fixture
def site(session: Session, tmp_path: Path) -> Site:
    return Site(tmp_path, session, TILL)


def everything(site: Site) -> dict[str, list[str]]:
    """All published rows of the source's tables."""
    return {table: sorted(map(str, site.rows(table.removeprefix("till.")))) for table in site.versions()}


def must_be_as_published(site: Site, before: dict[str, list[str]]) -> None:
    assert everything(site) == before
    for table, version in site.manifest.versions("till").items():
        if table != "ops.batches":
            assert site.lake.is_newest(table, version), f"{table} has more than is published"
    assert not list((site.lake.path / "_journal").glob("*.json"))


# ---- what is the same, what is new


@on_sail
def test_the_same_content_under_other_names_is_a_duplicate_and_touches_nothing(site: Site) -> None:
    first = site.deliver("2026-03-01", prices=[PRICES, MORE], visits="member_id | room\n m1 | hall")
    versions = site.manifest.versions("till")

    again = site.attempt("2026-03-01", visits="member_id | room\n m1 | hall", prices=[MORE, PRICES])
    assert (again.outcome, again.duplicate_of, again.reason) == (
        Outcome.DUPLICATE,
        first.batch_id,
        f"duplicate of {first.batch_id}",
    )
    assert (again.rows_read, again.table_versions) == (first.rows_read, first.table_versions)
    assert site.manifest.versions("till") == versions
    assert site.manifest.newest_seq() == 1


@on_sail
def test_the_same_bytes_for_another_date_or_one_file_more_are_new_batches(site: Site) -> None:
    site.deliver("2026-03-01", prices=[PRICES])
    assert site.attempt("2026-03-02", prices=[PRICES]).outcome == Outcome.PUBLISHED
    assert site.attempt("2026-03-01", prices=[PRICES, PRICES]).outcome == Outcome.PUBLISHED
    assert len(site.rows("bronze.prices")) == 8


@on_sail
def test_a_rejected_batch_is_no_duplicate_of_itself(site: Site) -> None:
    dear = "item | price\n gold | 500"
    assert [site.attempt("2026-03-01", prices=dear).outcome for _ in range(2)] == [Outcome.REJECTED, Outcome.REJECTED]
    assert [r["kind"] for r in site.lake.arrow("ops.batches").to_pylist()] == ["rejected", "rejected"]


@on_sail
def test_a_result_names_the_tables_that_the_batch_wrote_with_their_rows(site: Site) -> None:
    first = site.deliver("2026-03-01", prices=PRICES)
    rows = {t.removeprefix("till."): n for t, n in first.table_rows.items() if t.startswith("till.")}
    assert rows == {f"{layer}.prices": len(site.rows(f"{layer}.prices")) for layer in ("bronze", "silver")} | {
        "gold.takings": len(site.rows("gold.takings"))
    }
    again = site.deliver("2026-03-02", prices=PRICES)
    assert again.table_rows["till.bronze.prices"] == rows["bronze.prices"]
    assert "till.gold.takings" not in again.table_rows


@on_sail
def test_a_batch_of_which_no_row_is_accepted_is_published_with_its_rejects(site: Site) -> None:
    site.deliver("2026-03-01", prices=PRICES)
    before = site.rows("silver.prices")
    result = site.deliver(
        "2026-03-02", prices="item | price\n | 1\n tea | dear", raw_visits="member_id,room,visited_on\n"
    )
    assert (result.rows_read, result.rows_accepted, result.rows_rejected) == (2, 0, 2)
    assert [(f.feed, f.rows_read) for f in result.files] == [("prices", 2), ("visits", 0)]
    assert site.rows("silver.prices") == before
    assert site.draw("ops.quarantine", "raw", "reasons") == drawn(
        "raw | reasons\n ,1, | item_is_given\n tea,dear, | type:price"
    )


def test_a_batch_writes_layer_by_layer_and_its_manifest_row_last(site: Site) -> None:
    published: list[int] = []
    order = site.order("2026-03-01", prices=PRICES, visits="member_id | room\n m1 | hall")
    result = site.run(
        order, lambda p: published.append(site.manifest.newest_seq()) if p.event == "table.committed" else None
    )

    committed = [p.values["table"] for p in site.progress if p.event == "table.committed"]
    layers = [table.split(".")[1 if table.startswith("till.") else 0] for table in committed]
    assert set(committed) == {
        *(f"till.{layer}.{feed}" for layer in ("bronze", "silver") for feed in ("prices", "visits")),
        "till.gold.takings",
        *("ops.validation_results", "ops.processing_log"),
    }
    assert layers.index("gold") == max(n for n, layer in enumerate(layers) if layer == "silver") + 1
    assert set(layers[layers.index("gold") + 1 :]) == {"ops"}
    assert set(published) == {0}, "nothing is published before the last row"
    assert site.manifest.newest_seq() == result.batch_seq == 1
    assert [p.stage for p in site.progress if p.event == "stage.finished"] == [
        "stage",
        "validate",
        "merge",
        "enrich",
        "summarise",
        "publish",
    ]
    assert [r["task"] for r in site.rows("ops.processing_log")][:4] == [
        "load_prices",
        "load_visits",
        "validation",
        "merge",
    ]


def test_every_task_and_every_stage_is_on_record_with_its_own_start_and_end(site: Site) -> None:
    site.deliver("2026-03-01", prices=PRICES)
    site.progress.clear()
    result = site.deliver("2026-03-02", prices=MORE, visits="member_id | room\n m1 | hall")

    log = {r["task"]: r for r in site.rows("ops.processing_log") if r["batch_id"] == result.batch_id}
    of = {
        "merge": ["append till.bronze.prices", "merge till.silver.prices", "write till.silver.prices"],
        "enrichment": ["count references"],
        "summary": [
            "aggregate till.gold.takings",
            "write till.gold.takings",
        ],
    }
    of["merge"] += [task.replace("prices", "visits") for task in of["merge"]]
    assert log.keys() == {
        "load_prices",
        "load_visits",
        "validation",
        *of,
        *(t for tasks in of.values() for t in tasks),
        "check quality",
    }
    for stage, tasks in of.items():
        assert log[stage]["started_at"] == min(log[t]["started_at"] for t in tasks)
        assert log[stage]["finished_at"] == max(log[t]["finished_at"] for t in tasks)
    for before, after in (
        ("append till.bronze.prices", "write till.silver.prices"),
        ("merge till.silver.prices", "aggregate till.gold.takings"),
        ("write till.silver.prices", "aggregate till.gold.takings"),
        ("write till.silver.visits", "count references"),
        ("count references", "check quality"),
        ("check quality", "write till.gold.takings"),
    ):
        assert log[before]["finished_at"] <= log[after]["started_at"]
    assert log["write till.silver.prices"]["total_records"] == 3
    assert all(r["status"] == "SUCCESS" for r in log.values())

    said = {p.values["task"]: p.values for p in site.progress if p.event == "task.finished"}
    assert said.keys() == log.keys() - of.keys()
    assert {p.values["task"] for p in site.progress if p.event == "task.started"} == said.keys()
    assert (said["write till.gold.takings"]["table"], said["write till.gold.takings"]["rows"]) == (
        "till.gold.takings",
        3,
    )
    seconds = {p.stage: p.values["seconds"] for p in site.progress if p.event == "stage.finished"}
    for stage, task in (("merge", "merge"), ("enrich", "enrichment"), ("summarise", "summary")):
        assert seconds[stage] == pytest.approx(
            (log[task]["finished_at"] - log[task]["started_at"]).total_seconds(), abs=0.002
        )


# ---- external commits


def meddle(site: Site, table: str) -> None:
    """Empties a table, as another program may do."""
    DeltaTable(site.lake.location(table)).delete()


@on_sail
@pytest.mark.parametrize(
    ("then", "expected"),
    [
        pytest.param(restore, MEANT, id="restored"),
        pytest.param(adopt, "note | items | total\n 1 | 1 | 1.5\n 2 | 1 | 2\n 3 | 1 | 3", id="adopted"),
    ],
)
def test_an_external_commit_fails_the_batches_of_its_source_until_adopt_or_restore(
    site: Site, then: Any, expected: str
) -> None:
    site.deliver("2026-03-01", prices=PRICES)
    meddle(site, "till.silver.prices")

    result = site.attempt("2026-03-02", prices=MORE)
    assert (result.outcome, result.retryable) == (Outcome.FAILED, False)
    assert result.reason.startswith("till.silver.prices has version 2 (DELETE, ")
    assert result.reason.endswith(
        ") that no batch published; `lakegate adopt till.silver.prices` publishes it, "
        "`lakegate restore till.silver.prices` undoes it; then retry the batch"
    )
    assert site.lake.version("till.silver.prices") == 2  # theirs is not undone

    then(site.settings, "till.silver.prices")
    site.deliver("2026-03-02", prices=MORE)
    # After `adopt` of an emptied table its rows are gone from silver, and so from the groups that the batch computes.
    assert site.draw("gold.takings", "note", "items", "total") == drawn(expected)


@on_sail
def test_a_commit_made_while_the_batch_runs_is_seen_and_stays(site: Site) -> None:
    site.deliver("2026-03-01", prices=PRICES)
    before = everything(site)
    rows = pa.table({"note": ["1"], "items": [100]})

    def interfere(progress: Progress) -> None:
        if progress.event == "stage.started" and progress.stage == "summarise":
            write_deltalake(site.lake.location("till.gold.takings"), rows, mode="append", schema_mode="merge")

    result = site.run(site.order("2026-03-02", prices=MORE), interfere)
    assert (result.outcome, result.retryable) == (Outcome.FAILED, False)
    assert result.reason.startswith("till.gold.takings has version 2 (WRITE")
    assert everything(site) == before
    assert site.lake.is_newest("till.gold.takings", 2)

    restore(site.settings, "till.gold.takings")
    site.deliver("2026-03-02", prices=MORE)
    assert site.draw("gold.takings", "note", "items", "total") == drawn(MEANT)


# ---- failures


def test_a_stage_that_fails_is_undone_and_the_next_batch_begins_as_if_it_had_never_been(site: Site) -> None:
    site.deliver("2026-03-01", prices=PRICES)
    before = everything(site)

    with lost(site, "till.silver.prices"):
        result = site.attempt("2026-03-02", prices=MORE, visits="member_id | room\n m1 | hall")
    assert (result.outcome, result.retryable) == (Outcome.FAILED, True)
    assert "till.silver.prices" in result.reason
    assert result.error.startswith("Traceback")
    assert "till.bronze.prices" in [p.values["table"] for p in site.progress if p.event == "table.committed"], (
        "the failure came too early to test"
    )
    must_be_as_published(site, before)
    newest = site.manifest.newest("till")
    assert newest is not None
    assert (newest.kind, newest.batch_id) == ("undone", result.batch_id)
    assert [r["batch_id"] for r in site.rows("ops.processing_log") if r["batch_id"] == result.batch_id] == []

    site.deliver("2026-03-02", prices=MORE, attempt=2)
    assert site.draw("gold.takings", "note", "items", "total") == drawn(MEANT)


@on_sail
def test_the_last_failure_goes_on_record(site: Site) -> None:
    site.deliver("2026-03-01", prices=PRICES)
    before = everything(site)

    with lost(site, "till.silver.prices"):
        result = site.attempt("2026-03-02", prices=MORE + "\n | 1 | 1", attempt=3, final=True)
    assert result.outcome == Outcome.FAILED
    must_be_as_published(site, before)
    newest = site.manifest.newest("till")
    assert newest is not None
    assert (newest.kind, newest.batch_id, newest.reason) == ("failed", result.batch_id, result.reason)
    assert (newest.rows_read, newest.rows_accepted, newest.rows_rejected) == (3, 2, 1)
    log = {
        r["task"]: r["status"]
        for r in site.rows("ops.processing_log")
        if r["batch_id"] == result.batch_id and r["attempt"] == 3
    }
    assert log.keys() == {"load_prices", "validation", "merge", "append till.bronze.prices", "merge till.silver.prices"}
    assert (log["validation"], log["append till.bronze.prices"]) == ("SUCCESS", "SUCCESS")
    assert (log["merge"][:6], log["merge till.silver.prices"][:6]) == ("FAILED", "FAILED")
    assert site.draw("ops.quarantine", "batch_id", "reasons") == drawn(
        f"batch_id | reasons\n {result.batch_id} | item_is_given"
    )


@on_sail
@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_claim_that_changes_under_the_batch_voids_the_attempt(site: Site, harm: str) -> None:
    site.deliver("2026-03-01", prices=PRICES)
    before = everything(site)
    order = site.order("2026-03-02", prices=MORE)
    claimed, content = Path(order.files[0].path), Path(order.files[0].path).read_bytes()

    def disturb(progress: Progress) -> None:
        if progress.event == "stage.finished" and progress.stage == "summarise":
            claimed.unlink() if harm == "gone" else claimed.write_bytes(content + b"tea,9,9\n")

    result = site.run(order, disturb)
    assert (result.outcome, result.retryable) == (Outcome.FAILED, True)
    assert "prices_002.csv: the claimed copy" in result.reason
    must_be_as_published(site, before)

    claimed.write_bytes(content)
    assert site.run(replace(order, attempt=2)).outcome == Outcome.PUBLISHED


@on_sail
def test_a_column_of_another_type_fails_the_batch_at_once_and_changes_nothing(site: Site) -> None:
    site.deliver("2026-03-01", prices=PRICES)
    before, (prices, visits) = everything(site), TILL.feeds
    wider = replace(prices, columns=prices.columns.replace("DECIMAL(8,2)", "DECIMAL(14,4)"))
    order = site.order("2026-03-02", prices=MORE)
    result = site.run(order, source=replace(TILL, feeds=(wider, visits)))
    assert (result.outcome, result.retryable) == (Outcome.FAILED, False)
    assert result.reason.startswith("till.bronze.prices: price is declared with another type than the table has; ")
    newest = site.manifest.newest("till")
    assert newest is not None
    assert (newest.kind, newest.batch_id, newest.reason) == ("failed", result.batch_id, result.reason)
    must_be_as_published(site, before)
    assert site.run(replace(order, attempt=2)).outcome == Outcome.PUBLISHED


# ---- changed definitions

takings = replace(factories_source_club.takings, checks=())


def changed(site: Site, source: Source, day: str) -> list[str]:
    """Returns the tables that a batch under this source reports as changed since the newest published definition."""
    site.progress.clear()
    assert site.run(site.order(day, prices=f"item | price\n {day} | 1"), source=source).outcome == Outcome.PUBLISHED
    said = [p for p in site.progress if p.event == "definition.changed"]
    assert len(said) <= 1
    return list(said[0].values["tables"]) if said else []


@on_sail
def test_a_changed_definition_is_named_by_its_table_once(site: Site) -> None:
    prices, visits = TILL.feeds
    ruled = replace(TILL, feeds=(replace(prices, rules=(Rule("price_is_known", "price IS NOT NULL"),)), visits))
    kept = replace(TILL, feeds=(prices, replace(visits, stored_as=Scd1())))
    assert changed(site, TILL, "2026-03-01") == []  # nothing was there before
    assert changed(site, TILL, "2026-03-02") == []
    assert changed(site, ruled, "2026-03-03") == ["till.silver.prices"]
    assert changed(site, ruled, "2026-03-04") == []
    assert changed(site, kept, "2026-03-05") == ["till.silver.prices", "till.silver.visits"]


def older(site: Site, source: Source | None = None) -> dict[str, str]:
    """Returns the tables of the manifest with rows that follow an older definition."""
    newest, declared = site.manifest.newest(site.source.name, "batch"), source or site.source
    assert newest is not None
    now = fingerprint(declared, setting_values(declared, site.settings))
    return outdated_tables(newest.fingerprint, declared, now)


@on_sail
def test_a_table_stays_outdated_for_as_long_as_rows_of_an_older_definition_stand(site: Site) -> None:
    prices, visits = TILL.feeds
    ruled = replace(TILL, feeds=(replace(prices, rules=(Rule("price_is_known", "price IS NOT NULL"),)), visits))
    for day in ("2026-03-01", "2026-03-02"):
        assert changed(site, TILL, day) == []
        assert older(site) == {}
    assert older(site, ruled) == {"till.silver.prices": CHANGED}
    assert changed(site, ruled, "2026-03-03") == ["till.silver.prices"]
    for day in ("2026-03-04", "2026-03-05"):
        assert older(site, ruled) == {"till.silver.prices": MIXED.format(since="b003")}
        assert changed(site, ruled, day) == []
    # Who takes the change back has rows of both.
    assert changed(site, TILL, "2026-03-06") == ["till.silver.prices"]
    assert older(site) == {"till.silver.prices": MIXED.format(since="b006")}


@on_sail
def test_a_change_under_which_no_row_was_written_can_be_taken_back(site: Site) -> None:
    prices, visits = TILL.feeds
    site.deliver("2026-03-01", prices=PRICES, visits="member_id | room\n m1 | hall")
    kept = replace(TILL, feeds=(prices, replace(visits, rules=(Rule("always", "true"),))))
    assert changed(site, kept, "2026-03-02") == ["till.silver.visits"]
    assert changed(site, kept, "2026-03-03") == []  # reported once, though no row follows it
    assert older(site, kept) == {"till.silver.visits": CHANGED}
    assert changed(site, TILL, "2026-03-04") == ["till.silver.visits"]
    assert changed(site, TILL, "2026-03-05") == []
    assert older(site) == {}


@on_sail
def test_a_new_gold_table_is_computed_from_all_rows_by_the_next_batch(site: Site) -> None:
    bare = replace(TILL, gold_module="")
    assert changed(site, bare, "2026-03-01") == []
    assert older(site) == {"till.gold.takings": NEXT}
    assert changed(site, TILL, "2026-03-02") == ["till.gold.takings"]
    assert changed(site, TILL, "2026-03-03") == []
    assert older(site) == {}
    assert len(site.rows("silver.prices")) == 3
    assert [r["items"] for r in site.rows("gold.takings")] == [3]
    looser = replace(TILL, gold_module=__name__)
    assert changed(site, looser, "2026-03-04") == [], "checks judge rows, and decide on none"
    assert older(site, looser) == {}


@on_sail
def test_tables_that_are_computed_whole_and_empty_ones_are_never_mixed(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, CLUB)
    site.deliver("2026-03-01", menu="dish | price\n soup | 3")
    ruled = tuple(replace(f, rules=(Rule("always", "true"),)) for f in CLUB.feeds)
    joined = Enriched(name="served", upstream="menu", joins=())
    now = replace(CLUB, feeds=ruled, enriched=(joined,))
    assert set(older(site, now).values()) == {CHANGED, NEXT}
    site.run(site.order("2026-03-02", menu="dish | price\n soup | 4", rooms="room_id | seats\n r1 | 4"), source=now)
    assert older(site, now) == {}
    assert [r["dish"] for r in site.rows("silver.served")] == ["soup"]


PIECES = """
from pipeline.model import aggregate

@aggregate(
    upstream="takings", where="is_current", grain=("stall",), columns="stall STRING, pieces BIGINT",
    sum={"pieces": "quantity"},
)
def pieces(sums):
    return sums
"""
PIECES_OF_SOLD = edited(PIECES, 'upstream="takings", where="is_current"', 'upstream="sold"')
HEAD = "receipt | stall | quantity | sold_at"
ALL_KINDS = (
    edited(PIECES, "def pieces(", "def by_stall(")
    + """
from pipeline.model import recompute, select_rows

@aggregate(
    upstream="takings", where="is_current", grain=("batch_id",), row_per_batch=True,
    columns="batch_id STRING, pieces BIGINT", sum={"pieces": "quantity"},
)
def all_pieces(sums):
    return sums

@select_rows(upstream="sold", grain=("receipt",), columns="receipt STRING, quantity INT, place STRING")
def receipts(sold):
    return sold

@recompute(upstream="takings", key=("stall",), grain=("stall",), columns="stall STRING, versions BIGINT")
def versions(takings):
    return takings.groupBy("stall").count().withColumnRenamed("count", "versions")
"""
)

OTHER_KINDS = (
    ALL_KINDS.replace('sum={"pieces": "quantity"}', 'sum={"pieces": "quantity * 2"}')
    .replace("quantity INT, place STRING", "quantity INT, place STRING, more INT")
    .replace("return sold", 'return sold.selectExpr("*", "quantity + 100 AS more")')
    .replace('columns="stall STRING, versions BIGINT"', 'columns="stall STRING, versions BIGINT, more BIGINT"')
    .replace('"versions")\n', '"versions").selectExpr("*", "versions + 100 AS more")\n')
)


def with_sold(folder: Path, gold: str) -> Source:
    """Returns the kiosk with the enriched table `sold` and these gold tables."""
    sold = (
        'Enriched(name="sold", upstream="takings",'
        ' joins=(LatestJoin(feed="stalls", on=("stall",), prefix="at_", columns=("place",)),))'
    )
    feeds = edited(FEEDS, "takings), settings", f"takings), enriched=({sold},), settings")
    return load(kiosk(folder, feeds=edited(feeds, "import HIGH", "import Enriched, LatestJoin, HIGH"), gold=gold))


def test_tables_that_were_not_declared_for_a_while_are_computed_whole_when_they_come_back(
    session: Session, tmp_path: Path
) -> None:
    whole = with_sold(tmp_path, ALL_KINDS)
    bare = replace(whole, enriched=(), gold_module="")
    site = Site(tmp_path, session, whole)
    computed = {"kiosk.silver.sold", *(f"kiosk.gold.{g.name}" for g in whole.gold)}
    site.deliver(
        "2026-03-01",
        stalls="stall | place\n north | gate",
        takings=f"{HEAD}\n r1 | north | 1 | 2026-03-01 10:00:00\n r2 | south | 2 | 2026-03-01 10:00:00",
    )
    site.source = bare
    site.deliver("2026-03-02", takings=f"{HEAD}\n r2 | north | 7 | 2026-03-02 10:00:00")
    site.deliver("2026-03-03", takings=f"{HEAD}\n r3 | east | 9 | 2026-03-03 10:00:00")
    assert older(site, bare) == {}
    assert older(site, whole) == dict.fromkeys(sorted(computed), LEFT_OUT.format(since="b002"))
    site.source = whole
    site.deliver("2026-03-04", stalls="stall | place\n west | hall")
    assert older(site) == {}
    assert site.draw("gold.by_stall", "stall", "pieces") == drawn("stall | pieces\n east | 9\n north | 8")
    assert site.draw("silver.sold", "receipt", "quantity", "place") == drawn(
        "receipt | quantity | place\n r1 | 1 | gate\n r2 | 7 | gate\n r3 | 9 |"
    )
    assert site.draw("gold.receipts", "receipt", "quantity", "place") == drawn(
        "receipt | quantity | place\n r1 | 1 | gate\n r2 | 7 | gate\n r3 | 9 |"
    )
    assert site.draw("gold.versions", "stall", "versions") == drawn(
        "stall | versions\n east | 1\n north | 2\n south | 1"
    )
    assert sorted((r["batch_id"], r["pieces"]) for r in site.rows("gold.all_pieces")) == [("b001", 3), ("b004", 17)]
    site.deliver("2026-03-05", takings=f"{HEAD}\n r4 | west | 1 | 2026-03-05 10:00:00")
    assert site.draw("gold.by_stall", "stall", "pieces") == drawn("stall | pieces\n east | 9\n north | 8\n west | 1")
    assert older(site) == {}


def test_the_next_batch_computes_a_table_with_a_changed_definition_whole(session: Session, tmp_path: Path) -> None:
    first = with_sold(tmp_path / "one", ALL_KINDS)
    site = Site(tmp_path, session, first)
    site.deliver(
        "2026-03-01",
        stalls="stall | place\n north | gate",
        takings=f"{HEAD}\n r1 | north | 1 | 2026-03-01 10:00:00\n r2 | south | 2 | 2026-03-01 10:00:00",
    )
    site.deliver("2026-03-02", takings=f"{HEAD}\n r3 | north | 3 | 2026-03-02 10:00:00")
    other = with_sold(tmp_path / "two", OTHER_KINDS)
    shout = Derived("shout", "STRING", "upper(place)")
    site.source = replace(other, enriched=(replace(other.enriched[0], derived=(shout,)),))
    changed_tables = {"kiosk.silver.sold", *(f"kiosk.gold.{g.name}" for g in first.gold)}
    assert older(site) == dict.fromkeys(sorted(changed_tables), WHOLE)
    site.progress.clear()
    site.deliver("2026-03-03", takings=f"{HEAD}\n r3 | north | 5 | 2026-03-03 10:00:00")  # a correction of one row
    assert [p.values["tables"] for p in site.progress if p.event == "definition.changed"] == [sorted(changed_tables)]
    assert older(site) == {}
    assert site.draw("gold.by_stall", "stall", "pieces") == drawn("stall | pieces\n north | 12\n south | 4")
    assert site.draw("silver.sold", "receipt", "shout") == drawn("receipt | shout\n r1 | GATE\n r2 |\n r3 | GATE")
    assert site.draw("gold.receipts", "receipt", "more") == drawn("receipt | more\n r1 | 101\n r2 | 102\n r3 | 105")
    assert site.draw("gold.versions", "stall", "more") == drawn("stall | more\n north | 103\n south | 101")
    assert [r["pieces"] for r in sorted(site.rows("gold.all_pieces"), key=lambda r: r["batch_id"])] == [3, 6, 16]
    site.deliver("2026-03-04", takings=f"{HEAD}\n r4 | south | 1 | 2026-03-04 10:00:00")
    assert site.draw("gold.by_stall", "stall", "pieces") == drawn("stall | pieces\n north | 12\n south | 6")
    assert older(site) == {}


@on_sail
def test_a_new_table_has_all_rows_also_after_a_batch_that_failed(session: Session, tmp_path: Path) -> None:
    whole = with_sold(tmp_path, ALL_KINDS)
    site = Site(tmp_path, session, replace(whole, enriched=(), gold_module=""))
    site.deliver(
        "2026-03-01",
        stalls="stall | place\n north | gate",
        takings=f"{HEAD}\n r1 | north | 1 | 2026-03-01 10:00:00\n r2 | south | 2 | 2026-03-01 10:00:00",
    )
    site.source = replace(whole, hierarchies=(Hierarchy(name="tree", upstream="stalls", id="stall", parent="place"),))
    assert set(older(site).values()) == {NEXT}
    lenient = site.settings
    site.settings = replace(lenient, quality=Quality(max_rejected_share=0.0))
    rows = f"{HEAD}\n | north | 9 | 2026-03-02 10:00:00\n r9 | east | 9 | 2026-03-02 10:00:00"
    assert site.attempt("2026-03-02", takings=rows).outcome == Outcome.REJECTED
    site.settings = lenient
    assert site.lake.version("kiosk.silver.sold") > 0, "the batch had written the table, and was undone"
    assert set(older(site).values()) == {NEXT}
    site.deliver("2026-03-03", takings=f"{HEAD}\n r3 | north | 3 | 2026-03-03 10:00:00")
    assert older(site) == {}
    assert site.draw("silver.sold", "receipt", "place") == drawn("receipt | place\n r1 | gate\n r2 |\n r3 | gate")
    assert site.draw("gold.by_stall", "stall", "pieces") == drawn("stall | pieces\n north | 4\n south | 2")
    assert site.draw("silver.tree", "stall", "root") == drawn("stall | root\n north | north")


@on_sail
def test_rules_are_no_part_of_a_definition_of_rows_and_columns_of_other_declarations_are(
    session: Session, tmp_path: Path
) -> None:
    first = with_sold(tmp_path, PIECES_OF_SOLD)
    site = Site(tmp_path, session, first)
    site.deliver(
        "2026-03-01",
        stalls="stall | place\n north | gate",
        takings=f"{HEAD}\n r1 | north | 1 | 2026-03-01 10:00:00",
    )
    (sold,) = first.enriched
    site.source = replace(first, enriched=(replace(sold, rules=(Rule("place_is_known", "place IS NOT NULL"),)),))
    assert older(site) == {}
    site.deliver("2026-03-02", takings=f"{HEAD}\n r2 | north | 1 | 2026-03-02 10:00:00")
    assert older(site) == {}
    # The feed gets a column of its own with the name of the joined one, which so gets its prefix.
    takings = next(f for f in first.feeds if f.name == "takings")
    wider = replace(takings, columns=f"{takings.columns}, place STRING", optional=("place",))
    site.source = replace(first, feeds=tuple(wider if f.name == "takings" else f for f in first.feeds))
    assert older(site)["kiosk.silver.sold"] == WHOLE
    site.deliver("2026-03-03", takings=f"{HEAD} | place\n r3 | north | 1 | 2026-03-03 10:00:00 | yard")
    assert site.draw("silver.sold", "receipt", "place", "at_place") == drawn(
        "receipt | place | at_place\n r1 | | gate\n r2 | | gate\n r3 | yard | gate"
    )
    assert set(older(site)) == {"kiosk.silver.takings"}


@on_sail
def test_a_gold_table_that_follows_a_table_that_came_back_counts_no_row_twice(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, with_sold(tmp_path / "one", PIECES_OF_SOLD))
    site.deliver("2026-03-01", takings=f"{HEAD}\n r1 | north | 1 | 2026-03-01 10:00:00")
    site.source = load(kiosk(tmp_path / "two", gold=PIECES))
    site.deliver("2026-03-02", takings=f"{HEAD}\n r2 | north | 2 | 2026-03-02 10:00:00")
    site.source = with_sold(tmp_path / "three", PIECES_OF_SOLD)
    site.deliver("2026-03-03", takings=f"{HEAD}\n r3 | south | 4 | 2026-03-03 10:00:00")
    assert site.draw("gold.pieces", "stall", "pieces") == drawn("stall | pieces\n north | 3\n south | 4")


@on_sail
@pytest.mark.parametrize("is_left_out", [True, False])
def test_a_table_with_another_key_or_grain_than_its_rows_is_refused(
    session: Session, tmp_path: Path, is_left_out: bool
) -> None:
    by_quantity = edited(PIECES, 'grain=("stall",), columns="', 'grain=("stall", "quantity"), columns="quantity INT, ')
    first, other = (load(kiosk(tmp_path / str(n), gold=gold)) for n, gold in enumerate((by_quantity, PIECES)))
    site = Site(tmp_path, session, first)
    site.deliver(
        "2026-03-01", takings=f"{HEAD}\n r1 | north | 1 | 2026-03-01 10:00:00\n r2 | north | 2 | 2026-03-01 10:00:00"
    )
    if is_left_out:
        site.source = replace(first, gold_module="")
        site.deliver("2026-03-02", takings=f"{HEAD}\n r3 | south | 4 | 2026-03-02 10:00:00")
    site.source = other
    sentence = OTHER_KEY.format(was="stall, quantity", now="stall")
    assert older(site) == {"kiosk.gold.pieces": sentence}
    result = site.attempt("2026-03-03", takings=f"{HEAD}\n r4 | south | 4 | 2026-03-03 10:00:00")
    assert (result.outcome, result.retryable) == (Outcome.FAILED, False)
    assert result.reason == f"kiosk.gold.pieces: {sentence}; {MEND_DECLARATION}"
    rekeyed = tuple(replace(f, key=("stall", "receipt")) if f.name == "takings" else f for f in first.feeds)
    site.source = replace(first, feeds=rekeyed)
    result = site.attempt("2026-03-04", takings=f"{HEAD}\n r4 | south | 4 | 2026-03-04 10:00:00")
    assert result.reason.startswith(
        "kiosk.silver.takings: its key was receipt, effective_from and is stall, receipt, effective_from now; if it has"
    )
    site.source = first
    site.deliver("2026-03-05", takings=f"{HEAD}\n r1 | south | 4 | 2026-03-05 10:00:00")
    assert site.draw("gold.pieces", "stall", "quantity", "pieces") == drawn(
        f"stall | quantity | pieces\n north | 2 | 2\n south | 4 | {8 if is_left_out else 4}"
    )
    assert older(site) == {}


@on_sail
def test_a_feed_with_another_name_needs_its_files_again_and_its_gold_counts_once(
    session: Session, tmp_path: Path
) -> None:
    site = Site(tmp_path, session, load(kiosk(tmp_path / "one", gold=PIECES)))
    site.deliver("2026-03-01", takings=f"{HEAD}\n r1 | north | 1 | 2026-03-01 10:00:00")
    order = site.order("2026-03-02", takings=f"{HEAD}\n r2 | north | 2 | 2026-03-02 10:00:00")
    feeds = edited(edited(FEEDS, 'name="takings"', 'name="sales"'), 'key=("receipt",)', 'key=("stall", "receipt")')
    renamed = load(kiosk(tmp_path / "two", feeds=feeds, gold=edited(PIECES, '"takings"', '"sales"')))
    result = site.run(order, source=renamed)
    assert (result.outcome, result.retryable) == (Outcome.FAILED, False)
    assert "it came for the feed takings, which is not declared any more; `lakegate abandon b002`" in result.reason
    site.source = renamed
    site.deliver(
        "2026-03-03", sales=f"{HEAD}\n r1 | north | 1 | 2026-03-01 10:00:00\n r2 | south | 2 | 2026-03-02 10:00:00"
    )
    assert site.draw("gold.pieces", "stall", "pieces") == drawn("stall | pieces\n north | 1\n south | 2")


def test_keys_are_compared_of_tables_in_which_rows_are_replaced_by_key() -> None:
    prices, visits = TILL.feeds
    history = json.dumps({"till.silver.prices": [["A", "b1", "item"], ["B", "", "price"]]})
    assert changed_keys(history, TILL) == {}  # no row follows the second definition
    distinct = replace(TILL, feeds=(replace(prices, key=("item", "note"), stored_as=Append()), visits))
    assert changed_keys(history, distinct) == {}
    versions = replace(TILL, feeds=(replace(prices, stored_as=Scd2(sequence_by="price")), visits))
    assert changed_keys(history, versions) == {
        "till.silver.prices": OTHER_KEY.format(was="item", now="item, effective_from")
    }
    assert changed_keys(json.dumps({"till.silver.prices": [["A", "b1"]]}), versions) == {}  # of an older release


@on_sail
def test_an_empty_table_takes_another_key(site: Site) -> None:
    prices, visits = TILL.feeds
    site.deliver("2026-03-01", prices=PRICES)
    site.source = replace(TILL, feeds=(prices, replace(visits, key=("member_id", "room"))))
    site.deliver("2026-03-02", visits="member_id | room\n m1 | hall\n m1 | pool")
    assert len(site.rows("silver.visits")) == 2


@on_sail
def test_a_gold_table_that_comes_back_loses_the_rows_of_an_empty_table(session: Session, tmp_path: Path) -> None:
    feeds = edited(FEEDS, 'stored_as=Scd2(sequence_by="sold_at")', "stored_as=Snapshot()")
    feeds = edited(edited(feeds, "Scd2, ", ""), "Setting, Source", "Setting, Snapshot, Source")
    gold = PIECES.replace('where="is_current", ', "")
    site = Site(tmp_path, session, load(kiosk(tmp_path / "one", feeds=feeds, gold=gold)))
    site.settings = replace(site.settings, quality=Quality(max_snapshot_shrink=1.0))
    site.deliver("2026-03-01", takings=f"{HEAD}\n r1 | north | 1 | 2026-03-01 10:00:00")
    site.source = replace(site.source, gold_module="")
    site.deliver("2026-03-02", takings=HEAD)
    site.source = load(kiosk(tmp_path / "three", feeds=feeds, gold=gold))
    site.deliver("2026-03-03", stalls="stall | place\n north | gate")
    assert site.rows("gold.pieces") == []


@on_sail
def test_a_hierarchy_that_comes_back_has_the_nodes_that_came_meanwhile(session: Session, tmp_path: Path) -> None:
    nodes = Feed(
        name="nodes", files="nodes_*.csv", columns="node STRING NOT NULL, above STRING", key=("node",), stored_as=Scd1()
    )
    other = Feed(name="other", files="other_*.csv", columns="name STRING NOT NULL", key=("name",), stored_as=Scd1())
    paths = Hierarchy(name="paths", upstream="nodes", id="node", parent="above")
    whole = Source(name="tree", feeds=(nodes, other), hierarchies=(paths,))
    site = Site(tmp_path, session, whole)
    site.deliver("2026-03-01", nodes="node | above\n a |")
    site.source = replace(whole, hierarchies=())
    site.deliver("2026-03-02", nodes="node | above\n b | a")
    site.source = whole
    site.deliver("2026-03-03", other="name\n x")
    assert site.draw("silver.paths", "node", "root") == drawn("node | root\n a | a\n b | a")
    assert older(site) == {}


def test_an_absence_of_a_feed_is_forgotten_with_a_definition_that_no_row_follows() -> None:
    before = json.dumps({"till.silver.prices": [["A", "b1"], ["B", ""], ["", "b5"]]})

    def after(digest: str) -> list[list[str]]:
        now = json.dumps({"till.silver.prices": digest})
        given = {"batch_id": "b7", "written": {"till.silver.prices"}, "whole": set[str](), "had_rows": lambda _: True}
        found: list[list[str]] = json.loads(next_history(before, TILL, now, **given))["till.silver.prices"]
        return found

    assert after("A") == [["A", "b1", "item"]]
    assert after("B") == [["A", "b1", ""], ["B", "b7", "item"]]  # a key that was not written stays unknown


@on_sail
def test_a_feed_that_was_not_declared_for_a_while_lacks_nothing(site: Site) -> None:
    site.deliver("2026-03-01", prices=PRICES, visits="member_id | room\n m1 | hall")
    assert changed(site, replace(TILL, feeds=TILL.feeds[:1]), "2026-03-02") == []
    assert older(site, TILL) == {}
    assert changed(site, TILL, "2026-03-03") == []
    assert older(site, TILL) == {}


def test_what_is_no_content_of_a_table_is_no_part_of_its_definition() -> None:
    prices, visits = TILL.feeds
    described = replace(prices, description="Of the till.", csv=Csv(delimiter=";"), aliases={"price": "Preis"})
    assert fingerprint(replace(TILL, feeds=(described, visits)), {}) == fingerprint(TILL, {})
    ruled = replace(prices, rules=(Rule("price_is_known", "price IS NOT NULL"),))
    also = replace(prices, rules=(Rule("price_is_known", "price IS NOT NULL", description="Else a sale is free."),))
    assert fingerprint(replace(TILL, feeds=(ruled, visits)), {}) == fingerprint(replace(TILL, feeds=(also, visits)), {})
    assert fingerprint(replace(TILL, feeds=(ruled, visits)), {}) != fingerprint(TILL, {})


@on_sail
def test_a_worker_names_outdated_tables_when_it_starts(session: Session, tmp_path: Path) -> None:
    site = Site(tmp_path, session, RETAIL, fill=SHOP)
    site.deliver("2026-03-02", orders="order_id | order_date\n o1 | 2026-03-02", customers="customer_id\n c1")
    dearer = replace(site.settings, sources={"retail": {"profit_margin": 0.5}})
    with Worker(dearer, tmp_path / "worker.log") as worker:
        said = worker._receive()  # noqa: SLF001 - a worker that has been given nothing says nothing else
    assert said == Progress(
        batch_id="",
        event="definition.changed",
        values={"tables": ["retail.silver.enriched_orders"], "reason": f"retail.silver.enriched_orders: {WHOLE}"},
    )


@on_sail
def test_a_changed_setting_concerns_the_tables_whose_sql_names_it(session: Session, tmp_path: Path) -> None:
    site = Site(
        tmp_path,
        session,
        DESK,
        fill={"tickets": {"agent": "ann", "minutes": "1", "note": "fine", "opened_at": "2026-03-01 10:00:00"}},
    )
    for day, limit in (("2026-03-01", 60), ("2026-03-02", 61)):
        site.settings = replace(site.settings, sources={"desk": {"limit": limit}})
        site.deliver(day, tickets="ticket_id\n t1", agents="agent\n ann")
    assert [p.values["tables"] for p in site.progress if p.event == "definition.changed"] == [["desk.silver.tickets"]]

"""Events as a stream: the same tables as by triggers, each file once, and a killed stream that goes on where it was."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from drawing import draw
from factories_pipeline import Site, on_sail, on_spark
from factories_worker import Worker

from pipeline.contract import Outcome, Result, WorkOrder
from pipeline.engine.session import Session
from pipeline.sources.clickstream.feeds import CLICKSTREAM
from pipeline.worker.stream import FOLDER, StreamingRun, take

MIDNIGHT = 1_772_409_600_000  # 2026-03-02 00:00 UTC in milliseconds
TREE = "categoryid | parentid\n 1 |\n 10 | 1"
PROPERTIES = [
    {"timestamp": str(MIDNIGHT + at), "itemid": "1", "property": name, "value": value}
    for at, name, value in ((0, "categoryid", "10"), (0, "790", "n5.000"), (3, "790", "n6.000"), (1, "available", "1"))
]


def clicks(*offsets: int) -> list[dict[str, str | None]]:
    return [
        {
            "timestamp": str(MIDNIGHT + at),
            "visitorid": str(at),
            "event": event,
            "itemid": "1",
            "transactionid": str(at) if event == "transaction" else None,
        }
        for at in offsets
        for event in ("view", "transaction")
    ]


def streaming(folder: Path, session: Session) -> Site:
    return Site(folder, session, CLICKSTREAM, values={"stream": True})


def streamed(site: Site, order: WorkOrder) -> Result:
    return take(order, site.settings, site.lake, site.progress.append, source_of=lambda _: CLICKSTREAM)


def published(result: Result) -> Result:
    assert result.outcome == Outcome.PUBLISHED, f"{result.outcome}: {result.reason}\n{result.error}"
    return result


def drawings(site: Site) -> dict[str, str]:
    """Every table of the source, without what is about the batch."""
    tables = [f"silver.{t.name}" for t in (*CLICKSTREAM.feeds, *CLICKSTREAM.hierarchies, *CLICKSTREAM.enriched)] + [
        f"gold.{t.name}" for t in CLICKSTREAM.gold
    ]
    return {table: draw(rows, *rows[0]) if (rows := site.rows(table)) else "" for table in tables}


def left_over(site: Site) -> list[str]:
    """The batches that lists in the stream's folder are of: only the last one's stay."""
    return [p.name.rpartition("-")[0] for p in (site.lake.path / FOLDER).rglob("lists/*")]


@pytest.fixture(scope="module")
def by_triggers(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("triggers"), session, CLICKSTREAM)
    site.deliver("2026-03-02", events=clicks(0, 1, 2), item_properties=PROPERTIES, category_tree=TREE)
    site.deliver("2026-03-03", events=clicks(2, 3, 4))
    return site


@on_spark
def test_the_stream_gives_the_tables_that_triggers_give(session: Session, tmp_path: Path, by_triggers: Site) -> None:
    site = streaming(tmp_path, session)
    published(streamed(site, site.order("2026-03-02", events=clicks(0, 1, 2))))
    published(streamed(site, site.order("2026-03-03", events=clicks(2, 3, 4))))
    published(
        streamed(site, site.order("2026-03-02", item_properties=PROPERTIES, category_tree=TREE))
    )  # no streamed feed: straight through
    assert drawings(site) == drawings(by_triggers)
    assert left_over(site) == ["b002"]
    commits = sorted(int(p.name) for p in (folder(site) / "checkpoint" / "commits").glob("[0-9]*"))
    assert commits == [0, 1]


@on_spark
def test_a_batch_that_comes_again_is_not_taken_again(session: Session, tmp_path: Path) -> None:
    site = streaming(tmp_path, session)
    order = site.order("2026-03-02", events=clicks(0))
    first = published(streamed(site, order))
    again, twin = streamed(site, order), streamed(site, replace(order, batch_id="b999"))
    assert [(r.outcome, r.duplicate_of) for r in (again, twin)] == [(Outcome.DUPLICATE, order.batch_id)] * 2
    assert site.manifest.newest_seq() == first.batch_seq


@on_spark
def test_a_batch_that_was_published_before_its_checkpoint_is_not_published_twice(
    session: Session, tmp_path: Path
) -> None:
    site = streaming(tmp_path, session)
    order = site.order("2026-03-02", events=clicks(0, 1))

    def published_and_gone() -> Result:
        published(site.run(order))
        raise RuntimeError("killed before the checkpoint")

    with pytest.raises(Exception, match="killed before the checkpoint"):
        query(site, order, published_and_gone).run()
    again = streamed(site, order)
    assert (again.outcome, again.duplicate_of) == (Outcome.DUPLICATE, order.batch_id)
    assert len(site.rows("silver.events")) == 4
    assert left_over(site) == [order.batch_id]


@on_spark
def test_a_batch_that_a_killed_attempt_left_in_the_stream_does_not_stand_in_the_way_of_another(
    session: Session, tmp_path: Path
) -> None:
    site = streaming(tmp_path, session)
    stuck, other = site.order("2026-03-02", events=clicks(0)), site.order("2026-03-01", events=clicks(1))

    def gone() -> Result:
        raise RuntimeError("killed in the middle")

    with pytest.raises(Exception, match="killed in the middle"):
        query(site, stuck, gone).run()
    published(streamed(site, other))
    assert {r["visitorid"] for r in site.rows("silver.events")} == {1}
    published(streamed(site, stuck))
    assert {r["visitorid"] for r in site.rows("silver.events")} == {0, 1}


@on_spark
def test_paths_that_are_not_the_orders_are_not_taken(session: Session, tmp_path: Path) -> None:
    site = streaming(tmp_path, session)
    order, stranger = site.order("2026-03-02", events=clicks(0)), site.order("2026-03-02", events=clicks(1))

    class Astray(StreamingRun):
        def write_list(self) -> Path:
            return query(site, stranger, lambda: site.run(stranger)).write_list()

    with pytest.raises(RuntimeError, match="nothing was taken"):
        Astray(order=order, lake=site.lake, folder=folder(site), run_stages=lambda: site.run(order)).run()
    assert site.manifest.newest() is None


def query(site: Site, order: WorkOrder, work: Callable[[], Result]) -> StreamingRun:
    return StreamingRun(order=order, lake=site.lake, folder=folder(site), run_stages=work)


def folder(site: Site) -> Path:
    return site.lake.path / FOLDER / "clickstream" / "events"


@on_spark
def test_a_stream_killed_again_and_again_goes_on_with_nothing_lost_or_doubled(
    session: Session, tmp_path: Path, by_triggers: Site
) -> None:
    site = streaming(tmp_path, session)
    settings = replace(site.settings, log_path=str(tmp_path / "spark.log"), driver_memory="1g")
    first = site.order("2026-03-02", events=clicks(0, 1, 2), item_properties=PROPERTIES, category_tree=TREE)
    then = site.order("2026-03-03", events=clicks(2, 3, 4))
    published(streamed(site, first))
    for event in (
        "stage.started",
        "journal.written",
        "table.committed",
        "manifest.written",
    ):  # each gets further than the one before
        with Worker(settings, tmp_path / "worker.log") as worker:
            worker.kill_at(then, event)
    with Worker(settings, tmp_path / "worker.log") as worker:
        result = worker.run(then)
    assert result.outcome in (Outcome.PUBLISHED, Outcome.DUPLICATE), result.reason
    assert result.outcome == Outcome.PUBLISHED or result.duplicate_of == then.batch_id
    assert drawings(site) == drawings(by_triggers)
    assert sorted(r["batch_id"] for r in site.lake.arrow("ops.batches").to_pylist() if r["kind"] == "batch") == [
        first.batch_id,
        then.batch_id,
    ]
    assert set(left_over(site)) == {then.batch_id}  # the lists of killed attempts came together with the last one


@on_sail
def test_another_engine_refuses_before_anything_is_touched(session: Session, tmp_path: Path) -> None:
    site = streaming(tmp_path, session)
    result = streamed(site, site.order("2026-03-02", events=clicks(0)))
    assert (result.outcome, result.retryable) == (Outcome.FAILED, False)
    assert result.reason == "clickstream streams, which needs the engine spark, and this is sail; no table was touched"
    assert list(site.lake.path.iterdir()) == []
    assert streamed(site, site.order("2026-03-02", item_properties=PROPERTIES)).outcome == Outcome.PUBLISHED

"""The plan of a batch, for every source: each table is written once, after all that it needs. Needs no engine."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.commit.attempt import Attempt
from pipeline.commit.manifest import Manifest
from pipeline.contract import FileCounts, Quality, WorkOrder
from pipeline.lake.lake import Lake, MaterializedRows
from pipeline.model import Source
from pipeline.sources.registry import all_sources
from pipeline.stages import batch_record
from pipeline.stages.context import BatchContext
from pipeline.stages.plan import plan
from pipeline.stages.task_graph import Task, check
from pipeline.transform.silver_tables import table_of
from pipeline.transform.ties import NO_TIES
from pipeline.transform.validate import ValidatedFeed

SOURCES = all_sources()


@pytest.fixture(params=SOURCES, ids=[s.name for s in SOURCES], scope="module")
def batch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchContext]:
    """A first batch of a source, with a row of every feed."""
    source: Source = request.param
    lake = Lake(tmp_path_factory.mktemp("lake"))
    manifest = Manifest(lake)
    order = WorkOrder(batch_id="b1", source=source.name, batch_date=dt.date(2026, 3, 1), files=())
    with Attempt(lake=lake, manifest=manifest, order=order, tables=batch_record.tables(source)) as attempt:
        yield BatchContext(
            order=order,
            source=source,
            quality=Quality(),
            values={},
            lake=lake,
            manifest=manifest,
            attempt=attempt,
            report=lambda _: None,
            validated={f.name: validated(source, f.name) for f in source.feeds},
        )


def validated(source: Source, feed: str) -> ValidatedFeed:
    counts = FileCounts(name="a.csv", feed=feed, rows_read=1, rows_accepted=1, rows_rejected=0)
    rows = MaterializedRows(path=Path("nowhere"), schema=pa.schema([]))
    return ValidatedFeed(feed=source.feed(feed), rows=rows, findings=(), files=(counts,), ties=NO_TIES)


def all_needs(tasks: dict[str, Task], name: str) -> set[str]:
    """The tasks that have ended when a task starts."""
    needs = set(tasks[name].needs)
    return needs.union(*(all_needs(tasks, need) for need in needs))


def test_every_table_is_written_once_and_gold_last(batch: BatchContext) -> None:
    tasks = {t.name: t for t in plan(batch)}
    check(list(tasks.values()))
    verbs = {"bronze": "append", "silver": "write", "gold": "write"}
    writers = {
        f"{verbs[table.split('.')[1]]} {table}": table.split(".")[1] for table in batch_record.tables(batch.source)
    }
    assert {
        name
        for name, t in tasks.items()
        if t.table.startswith(f"{batch.source.name}.") and name.split()[0] in ("append", "write")
    } == writers.keys()
    before_gold = {n for n, layer in writers.items() if layer != "gold"} | {
        n for n in tasks if n.startswith("aggregate ")
    }
    for name in (n for n, layer in writers.items() if layer == "gold"):
        assert all_needs(tasks, name) >= before_gold | {"check quality", "count references"}


def test_a_table_is_computed_after_all_that_it_reads(batch: BatchContext) -> None:
    tasks, source = {t.name: t for t in plan(batch)}, batch.source
    for feed in source.feeds:
        assert f"append {source.name}.bronze.{feed.name}" in all_needs(tasks, f"write {source.name}.silver.{feed.name}")
    for hierarchy in source.hierarchies:
        assert f"write {source.name}.silver.{hierarchy.upstream}" in all_needs(
            tasks, f"build {source.name}.silver.{hierarchy.name}"
        )
    for table in source.enriched:
        read = {table.upstream, *map(table_of, table.joins)}
        assert all_needs(tasks, f"enrich {source.name}.silver.{table.name}") >= {
            f"write {source.name}.silver.{name}" for name in read
        }
    gold = {t.name for t in source.gold}
    for one in source.gold:
        needs = all_needs(tasks, f"aggregate {source.name}.gold.{one.name}")
        computed = (
            f"aggregate {source.name}.gold.{one.upstream}"
            if one.upstream in gold
            else f"{source.name}.silver.{one.upstream}"
        )
        assert any(need.endswith(computed) for need in needs)
        assert not one.dimension or f"write {source.name}.silver.{one.dimension}" in needs
        if one.members and one.upstream not in gold:
            assert f"write {source.name}.silver.{one.upstream}" in needs


def test_a_feed_that_the_batch_lacks_has_no_tasks(batch: BatchContext) -> None:
    feed = next(iter(batch.validated))
    del batch.validated[feed]
    tables = {t.table for t in plan(batch)}
    assert not {f"{batch.source.name}.{layer}.{feed}" for layer in ("bronze", "silver")} & tables

"""Takes one batch through the stages up to the commit that publishes it. Knows every stage and no feed."""

import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from threading import Semaphore
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from pipeline.commit.attempt import Attempt
from pipeline.commit.manifest import Manifest
from pipeline.contract import Correction, Progress, Quality, RuleResult, WorkOrder
from pipeline.errors import DataError, DeclarationError, InvalidValue
from pipeline.ingest.stage import StagedFeed, stage
from pipeline.lake.engine_errors import error_context
from pipeline.lake.lake import Lake, TableVersion
from pipeline.lake.ops_tables import OPS, REJECTED_KEYS
from pipeline.lake.scratch import MaterializedRows
from pipeline.model import Append, Enriched, Feed, GoldKind, GoldTable, Hierarchy, Snapshot, Source
from pipeline.stages.revisions import superseded_files
from pipeline.transform.aggregate import PAIR_COUNTS, Gold, Moment, Pairs, pairs, restate, with_change
from pipeline.transform.enrich import Restated, World, restate_rows
from pipeline.transform.hierarchy import grow
from pipeline.transform.merge import Change, Delivery, Past, merge_feed
from pipeline.transform.validate import Judged, check_quality, counted, judge, reference_counts, rejected_keys

T = TypeVar("T")
R = TypeVar("R")
SIDE_BY_SIDE = 4  # more threads than cores: one waits for the disk while another computes


@dataclass(frozen=True, kw_only=True)
class Task:
    """One node of the pipeline's graph, as `ops.processing_log` shows it."""

    task: str
    status: str
    started_at: dt.datetime
    finished_at: dt.datetime
    total: int = 0
    valid: int = 0
    invalid: int = 0
    files: int = 0


@dataclass(kw_only=True)
class Batch:
    """A batch on its way: what it was given, and what has been learnt of it so far."""

    order: WorkOrder
    source: Source
    quality: Quality
    values: Mapping[str, Any]
    lake: Lake
    manifest: Manifest
    attempt: Attempt
    report: Callable[[Progress], None]
    corrections: tuple[Correction, ...] = ()
    judged: dict[str, Judged] = field(default_factory=dict)
    findings: list[RuleResult] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    task_values: dict[str, str] = field(default_factory=dict)


def load(batch: Batch) -> list[StagedFeed]:
    """Reads the claimed files into typed Parquet, one for each feed. Raises DataError for a file that cannot be taken whole."""
    order = batch.order
    for name in order.snapshot:
        if not any(f.feed == name for f in order.files):
            raise DataError(
                f"the trigger calls {name} a whole delivery, but no file of the batch is of that feed; correct `snapshot` and land a new trigger"
            )
    feeds = [f for f in batch.source.feeds if any(file.feed == f.name for file in order.files)]
    with timed(batch, "stage") as seen:
        staged = side_by_side(lambda feed: _load_feed(batch, feed), feeds)
        batch.tasks.sort(
            key=lambda t: [f"load_{f.name}" for f in feeds].index(t.task)
        )  # on record as declared, whichever ended first
        seen.update(
            rows_in=sum(s.rows for s in staged),
            extra_columns={s.feed: list(s.extra_columns) for s in staged if s.extra_columns},
        )
    return staged


def _load_feed(batch: Batch, feed: Feed) -> StagedFeed:
    files = [f for f in batch.order.files if f.feed == feed.name]

    def alive(rows: int) -> None:
        batch.report(
            Progress(
                batch_id=batch.order.batch_id,
                event="file.read",
                stage="stage",
                values={"feed": feed.name, "rows": rows},
            )
        )

    with _task(batch, f"load_{feed.name}") as counts:
        staged = stage(feed, files, batch.lake.scratch.folder / "staged" / feed.name, batch.order.rows, report=alive)
        counts.update(total=staged.rows, valid=staged.rows, files=len(files))
    return staged


def validate(batch: Batch, staged: Iterable[StagedFeed]) -> None:
    """Judges every row by the rules of its feed."""
    with timed(batch, "validate") as seen, _task(batch, "validation") as counts:
        values = {**batch.values, "batch_date": batch.order.batch_date}

        def check(one: StagedFeed) -> Judged:
            feed = batch.source.feed(one.feed).with_settings(batch.values)
            return judge(one, feed, batch.order, batch.lake, quality=batch.quality, values=values, report=batch.report)

        for judged in side_by_side(check, staged):
            batch.judged[judged.feed.name] = judged
            batch.findings += judged.findings
        rows, findings = rejected_keys(
            [j for j in batch.judged.values() if whole(batch, j.feed)], batch.order, batch.lake
        )
        batch.attempt.append(REJECTED_KEYS, rows)
        batch.findings += findings
        counts.update(_row_counts(batch))
        seen.update(rows_in=counts["total"], accepted=counts["valid"], rejected=counts["invalid"])


@dataclass(kw_only=True)
class Underway:
    """The tables of a batch while they are computed, each as soon as what it follows is there."""

    batch: Batch
    is_void: bool = False  # nobody will ask for what is not yet computed
    _hands: Semaphore = field(default_factory=lambda: Semaphore(SIDE_BY_SIDE))
    merged: dict[str, Future[Change]] = field(default_factory=dict)  # by feed, of those that have news
    world: Future[World] = field(init=False)  # all feeds and trees
    counting: Future[tuple[RuleResult, ...]] = field(init=False)
    restated: dict[str, Future[Restated]] = field(default_factory=dict)  # by enriched table, as are those written
    written: dict[str, Future[TableVersion]] = field(default_factory=dict)
    pairs: dict[str, Future[Pairs | None]] = field(default_factory=dict)  # by the table that is followed
    gold: dict[str, Future[Change | None]] = field(default_factory=dict)

    @contextmanager
    def hand(self) -> Iterator[None]:
        """Waits for one of a few hands. Who waits for another's result must not have one.

        Raises CancelledError when the work is void.
        """
        with self._hands:
            if self.is_void:
                raise CancelledError
            yield

    def followed(self, table: str) -> Change | None:
        """Waits for what the batch changes in a table, and tells it if it is anything."""
        if table in self.gold:
            change = self.gold[table].result()
        elif table in self.restated:
            change = self.restated[table].result().change
        else:
            change = self.merged[table].result() if table in self.merged else self.world.result().changes.get(table)
        return change if change is not None and change.rows.must_process else None

    def world_of(self, table: GoldTable) -> World:
        """Waits for what a gold table reads, and gives the world with that in it."""
        world = self.world.result()
        seen = {name for name in (table.upstream, table.dimension) if name in self.restated}
        read = {name for name in seen if name == table.dimension or table.kind is GoldKind.RECOMPUTE}
        changes = {name: self.restated[name].result().change for name in seen}
        tables = {name: self.written[name].result() for name in read}
        return replace(world, tables={**world.tables, **tables}, changes={**world.changes, **changes})


@contextmanager
def begun(batch: Batch) -> Iterator[Underway]:
    """Begins all that follows the judged rows, each table as soon as what it follows is there, gold before the batch is judged as a whole.

    It ends when all of it has ended; after an error, when what is under the hands has.
    """
    work, gold = Underway(batch=batch), batch.source.gold
    news = [j for j in batch.judged.values() if j.rows_accepted or whole(batch, j.feed) or batch.lake.plans_all]
    with ThreadPoolExecutor(len(news) + 2 * (len(batch.source.enriched) + len(gold) + 1)) as pool:
        try:
            for judged in news:
                work.merged[judged.feed.name] = pool.submit(_merge_feed, work, judged)
            work.world = pool.submit(_world, work)
            for enriched in batch.source.enriched:
                work.restated[enriched.name] = pool.submit(_restate_rows, work, enriched)
                work.written[enriched.name] = pool.submit(_write_enriched, work, enriched)
            work.counting = pool.submit(_count, work)
            moment = _moment(batch)
            for table in gold:
                if table.upstream not in work.pairs:
                    work.pairs[table.upstream] = pool.submit(_count_pairs, work, table.upstream)
                work.gold[table.name] = pool.submit(_restate_gold, work, table, moment)
            yield work
        except BaseException:
            work.is_void = True
            raise


def merge(batch: Batch, work: Underway) -> None:
    """Waits until the accepted rows are in bronze and merged into silver, and the trees are grown.

    What follows a feed is begun meanwhile, as in the stages after this one: its work is in these seconds, too.
    """
    with timed(batch, "merge") as seen, _task(batch, "merge") as counts:
        world = work.world.result()
        counts.update(_row_counts(batch))
        seen.update(versions_changed=sum(world.changes[name].rows.rows for name in work.merged))


def _world(work: Underway) -> World:
    batch = work.batch
    changes = {name: future.result() for name, future in work.merged.items()}
    changes |= {t.name: _grow(batch, t) for t in batch.source.hierarchies if t.upstream in changes}
    wanted: tuple[Feed | Hierarchy, ...] = (*batch.source.feeds, *batch.source.hierarchies)
    return World(
        source=batch.source, tables={t.name: _stored(batch, _silver(batch, t)) for t in wanted}, changes=changes
    )


def _merge_feed(work: Underway, judged: Judged) -> Change:
    with work.hand(), _named(work.batch, _silver(work.batch, judged.feed), judged.feed.name):
        return _merged(work.batch, judged)


def _merged(batch: Batch, judged: Judged) -> Change:
    feed, attempt = judged.feed, batch.attempt
    bronze, silver = f"{batch.source.name}.bronze.{feed.name}", _silver(batch, feed)
    is_first = attempt.version(bronze) == 0
    deliveries = [
        Delivery(batch_id=i, batch_date=d, revision=r)
        for i, d, r in batch.manifest.snapshot_deliveries(batch.source.name, feed.name)
    ]
    if whole(batch, feed):
        deliveries.append(
            Delivery(batch_id=batch.order.batch_id, batch_date=batch.order.batch_date, revision=batch.order.revision)
        )
    replaced = superseded_files(batch.order, feed, batch.manifest) if isinstance(feed.stored_as, Append) else None
    with ThreadPoolExecutor(1) as aside:
        past = Past(
            bronze=aside.submit(_append_to_bronze, batch, bronze, judged),
            silver=_stored(batch, silver),
            is_first=is_first,
            is_first_of_date=not batch.manifest.has_date(batch.source.name, batch.order.batch_date),
            deliveries=tuple(deliveries),
            rejected_keys=_rejected_keys(batch, feed) if deliveries else OPS[REJECTED_KEYS].empty_table(),
            superseded=replaced,
        )
        merged = merge_feed(judged, batch.order, past, batch.lake, batch.quality.max_snapshot_shrink)
    past.bronze.result()  # raises what went wrong there
    attempt.change(silver, merged.change.key, merged.change.rows)
    if merged.others is not None:
        judged.others.append(merged.others)
    return merged.change


def _rejected_keys(batch: Batch, feed: Feed) -> pa.Table:
    of_feed = (pc.field("source") == batch.source.name) & (pc.field("feed") == feed.name)
    return batch.lake.arrow(REJECTED_KEYS, batch.attempt.version(REJECTED_KEYS), filter=of_feed)


def _append_to_bronze(batch: Batch, bronze: str, judged: Judged) -> TableVersion:
    batch.attempt.append(bronze, judged.accepted_rows(batch.lake))
    return _stored(batch, bronze)


def _grow(batch: Batch, hierarchy: Hierarchy) -> Change:
    feed, name = batch.source.feed(hierarchy.upstream), _silver(batch, hierarchy)
    nodes = batch.lake.arrow(
        _silver(batch, feed),
        batch.attempt.version(_silver(batch, feed)),
        [hierarchy.id, hierarchy.parent],
        filter=pc.field("is_current") if feed.has_versions else None,
    )
    grown = grow(hierarchy, batch.source, nodes, batch.lake.arrow(name, batch.attempt.version(name)), batch.lake)
    batch.attempt.change(name, (hierarchy.id,), grown.rows)
    batch.findings += grown.findings
    return Change(table=name, key=(hierarchy.id,), rows=grown.rows)


def _restate_rows(work: Underway, table: Enriched) -> Restated:
    batch, world = work.batch, work.world.result()
    own = {new: old for old, new, _ in batch.source.own_columns(table)}
    with work.hand(), _named(batch, _silver(batch, table), table.upstream, own):
        stored = _stored(batch, _silver(batch, table))
        return restate_rows(
            table, world, batch.judged.get(table.upstream), batch.lake, stored=stored, values=batch.values
        )


def _write_enriched(work: Underway, table: Enriched) -> TableVersion:
    change = work.restated[table.name].result().change
    with work.hand():
        work.batch.attempt.change(change.table, change.key, change.rows)
    return _stored(work.batch, change.table)


def _count(work: Underway) -> tuple[RuleResult, ...]:
    judged, world = list(work.batch.judged.values()), work.world.result()
    with work.hand():
        return counted(judged, reference_counts(judged, world.tables), work.batch.lake)


def _count_pairs(work: Underway, of: str) -> Pairs | None:
    batch, change = work.batch, work.followed(of)
    if change is None:
        return None
    with work.hand(), error_context(f"what gold counts of {of}"):
        return pairs(
            [t for t in batch.source.gold if t.upstream == of],
            batch.source,
            change,
            batch.lake,
            _stored(batch, PAIR_COUNTS),
        )


def _restate_gold(work: Underway, table: GoldTable, moment: Moment) -> Change | None:
    change = work.followed(table.upstream)
    world = work.world_of(table) if table.kind is GoldKind.RECOMPUTE or table.dimension else None
    moved = work.pairs[table.upstream].result() if table.members else None
    enriched = next((e for e in work.batch.source.enriched if e.name == table.upstream), None)
    own = {new: old for old, new, _ in work.batch.source.own_columns(enriched)} if enriched else None
    name = f"{work.batch.source.name}.gold.{table.name}"
    with work.hand(), _named(work.batch, name, enriched.upstream if enriched else table.upstream, own):
        one = _gold(work.batch, table, world, change, effects=moved.effects if moved else None, moment=moment)
        return restate(one) if one.has_news else None


@contextmanager
def _named(batch: Batch, table: str, feed: str, own: Mapping[str, str] | None = None) -> Iterator[None]:
    """Names the table of an error that comes from a value or a declaration, and file and record of a row of the feed.

    `own` tells, where they differ, what columns of the row are called in the feed.
    """
    try:
        with error_context():
            yield
    except InvalidValue as error:
        place = _record_of(batch, feed, error.row, own) if error.row else ""
        raise InvalidValue(f"{table}: {error.column or 'a column'} cannot be computed{place}: {error}") from error
    except DeclarationError as error:
        raise DeclarationError(f"{table}: {error}") from error


def _record_of(batch: Batch, name: str, row: Mapping[str, Any], own: Mapping[str, str] | None) -> str:
    """Returns where a row of a feed stands: the file and record of this batch that brought it, else its key."""
    feed = next((f for f in batch.source.feeds if f.name == name), None)
    if feed is None:
        return ""
    input_columns = {(own or {}).get(c, c): value for c, value in row.items() if own is None or c in own}
    known = {c: input_columns[c] for c in feed.input_names if c in input_columns}
    if name in batch.judged:
        rows = batch.judged[name].rows.arrow([*known, "_source_file", "_record", "_reasons"])
        rows = rows.filter(pc.is_null(rows["_reasons"]))
        for column, value in known.items():
            alike = (
                pc.is_null(rows[column])
                if value is None
                else pc.equal(rows[column], pa.scalar(value, rows[column].type))
            )
            rows = rows.filter(alike)
        if rows.num_rows:
            return f" of {rows['_source_file'][0]}, record {rows['_record'][0]}"
    return f" of the row where {', '.join(f'{c} = {input_columns.get(c)}' for c in feed.key)}"


def enrich(batch: Batch, work: Underway) -> None:
    """Waits until the enriched rows that the news concern are restated and written, and the references counted.

    The work on gold tables that goes on meanwhile is in these seconds, too, and `summarise` tells of the rest.
    """
    with timed(batch, "enrich") as seen, _task(batch, "enrichment") as counts:
        restated = list[Restated]()
        for name, future in work.restated.items():
            restated.append(future.result())
            work.written[name].result()  # raises what went wrong there
        batch.findings += [*(f for r in restated for f in r.findings), *work.counting.result()]
        rows = sum(r.change.rows.rows for r in restated)
        counts.update(total=rows, valid=rows)
        seen.update(rows_restated=rows)


def judge_as_a_whole(batch: Batch) -> None:
    """Holds the batch against `[quality]`, now that everything of it is counted. Raises DataError when it falls short."""
    check_quality(batch.quality, batch.findings, [f for j in batch.judged.values() for f in j.files])


def summarise(batch: Batch, work: Underway) -> None:
    """Brings the gold tables up to date; all are computed and checked before the first is written."""
    with timed(batch, "summarise") as seen, _task(batch, "summary"):
        changes = {name: change for name, future in work.gold.items() if (change := future.result()) is not None}
        logs = [p for future in work.pairs.values() if (p := future.result())]
        side_by_side(lambda c: batch.attempt.change(c.table, c.key, c.rows), changes.values())
        for log in logs:
            batch.attempt.append(PAIR_COUNTS, log.deltas)
        batch.task_values |= _task_values(
            changes[t.name] for t in batch.source.gold if t.row_per_batch and t.name in changes
        )
        seen.update(rows_changed=sum(change.rows.rows for change in changes.values()))


def _gold(
    batch: Batch,
    table: GoldTable,
    world: World | None,
    change: Change | None,
    *,
    effects: MaterializedRows | None,
    moment: Moment,
) -> Gold:
    name = f"{batch.source.name}.gold.{table.name}"
    return Gold(
        table=table,
        stored=_stored(batch, name),
        change=change,
        effects=effects,
        dimension=world.current(table.dimension, batch.source.dimension_columns(table))
        if world and table.dimension
        else None,
        dimension_change=world.changes.get(table.dimension) if world else None,
        source_rows=_source_rows(batch, table, world, change),
        moment=moment,
        values=batch.values,
        lake=batch.lake,
    )


def _source_rows(batch: Batch, table: GoldTable, world: World | None, change: Change | None) -> DataFrame | None:
    """Gives all rows of the table that a gold table follows: as this batch leaves it, or with `per` as the batch found it."""
    if table.per:
        name = f"{batch.source.name}.{'gold' if any(g.name == table.upstream for g in batch.source.gold) else 'silver'}.{table.upstream}"
        before = replace(_stored(batch, name), version=batch.attempt.start_versions[name])
        # What a table that is new to the lake never counted does not count back either.
        own = f"{batch.source.name}.gold.{table.name}"
        return before.read() if before.version and not batch.lake.is_empty(own, batch.attempt.version(own)) else None
    if world is None or table.kind is not GoldKind.RECOMPUTE:
        return None
    if table.upstream in world.tables:
        return world.tables[table.upstream].read()
    stored = _stored(batch, f"{batch.source.name}.gold.{table.upstream}").read()  # not yet written
    return with_change(stored, change) if change is not None else stored


def _moment(batch: Batch) -> Moment:
    order, before = batch.order, batch.manifest.newest_batch_date(batch.source.name)
    as_of = max(before, order.batch_date) if before else order.batch_date
    return Moment(
        batch_id=order.batch_id,
        batch_seq=batch.manifest.newest_seq() + 1,
        batch_date=order.batch_date,
        as_of=as_of,
        as_of_before=before,
    )


def _task_values(changes: Iterable[Change]) -> dict[str, str]:
    rows = [row for change in changes for row in change.rows.arrow().to_pylist()]
    return {
        name: _text(value)
        for row in rows
        for name, value in row.items()
        if not name.startswith("_") and name != "batch_id" and value is not None
    }


def _text(value: object) -> str:
    return format(value.normalize(), "f") if isinstance(value, Decimal) else str(value)


def whole(batch: Batch, feed: Feed) -> bool:
    """Tells whether this batch lists everything that exists of the feed."""
    return feed.snapshot or feed.name in batch.order.snapshot


def computed_whole(batch: Batch) -> set[str]:
    """Returns the tables that this batch computed from all that they follow, so that no older row of them is left."""
    source, order = batch.source, batch.order

    def is_newest(feed: Feed) -> bool:
        deliveries = batch.manifest.snapshot_deliveries(source.name, feed.name)
        return all((date, revision) <= (order.batch_date, order.revision) for _, date, revision in deliveries)

    replaced = [f for f in source.feeds if isinstance(f.stored_as, Snapshot) and f.name in batch.judged]
    found = {_silver(batch, f) for f in replaced if is_newest(f)}
    found |= {_silver(batch, t) for t in source.hierarchies if t.upstream in batch.judged}
    anew = {f"{source.name}.gold.{g.name}" for g in source.gold if g.kind is GoldKind.RECOMPUTE and not g.key}
    return found | (anew & written(batch))


def written(batch: Batch) -> set[str]:
    """Returns the tables that this batch has written to."""
    return {t for t, version in batch.attempt.versions.items() if version != batch.attempt.start_versions[t]}


def _stored(batch: Batch, name: str) -> TableVersion:
    return TableVersion(
        lake=batch.lake, name=name, version=batch.attempt.version(name), columns=batch.attempt.columns[name]
    )


def _silver(batch: Batch, table: Feed | Hierarchy | Enriched) -> str:
    return f"{batch.source.name}.silver.{table.name}"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def side_by_side(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Does independent work in a few threads, in order of the items; the first error is raised once all have ended."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return [f.result() for f in [pool.submit(work, item) for item in items]]


@contextmanager
def timed(batch: Batch, name: str, *, quiet: bool = False) -> Iterator[dict[str, Any]]:
    """Reports a stage's begin and end with its seconds and what it says of itself; a quiet one adds to a stage already told."""
    began, seen = time.monotonic(), dict[str, Any]()
    if not quiet:
        batch.report(Progress(batch_id=batch.order.batch_id, event="stage.started", stage=name))
    yield seen
    batch.seconds[name] = round(batch.seconds.get(name, 0) + time.monotonic() - began, 3)
    if not quiet:
        batch.report(
            Progress(
                batch_id=batch.order.batch_id,
                event="stage.finished",
                stage=name,
                values={**seen, "seconds": batch.seconds[name]},
            )
        )


@contextmanager
def _task(batch: Batch, name: str) -> Iterator[dict[str, int]]:
    """Puts a task on record, also one that fails, with the counts that it gives itself."""
    started, ended, counts = _now(), "SUCCESS", dict[str, int]()
    try:
        yield counts
    except Exception as error:
        ended = f"FAILED: {error}" if isinstance(error, DataError) else f"FAILED: {type(error).__name__}"
        raise
    finally:
        batch.tasks.append(Task(task=name, status=ended, started_at=started, finished_at=_now(), **counts))


def _row_counts(batch: Batch) -> dict[str, int]:
    files = [f for j in batch.judged.values() for f in j.files]
    return {
        "total": sum(f.rows_read for f in files),
        "valid": sum(f.rows_accepted for f in files),
        "invalid": sum(f.rows_rejected for f in files),
    }

"""What a batch leaves on record: its row of the manifest, its rows of `ops`, and the result for the daemon."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from pipeline.commit.manifest import ManifestRow, published_files
from pipeline.contract import FileCounts, Outcome, Result, RuleResult, WorkOrder, identity
from pipeline.lake.ops_tables import OPS
from pipeline.model import Column, Feed, GoldKind, Snapshot, Source, definition_history
from pipeline.model.columns import BOOKKEEPING
from pipeline.schema import arrow_schema
from pipeline.stages.context import BatchContext, timed_stage
from pipeline.stages.gold_tasks import is_whole
from pipeline.transform.quality import high, score, status
from pipeline.transform.validate import quarantine


def tables(source: Source) -> dict[str, Sequence[Column] | pa.Schema]:
    """Returns every table of a source with its columns."""
    extra = pa.field("_extra", pa.map_(pa.string(), pa.string()))
    found: dict[str, Sequence[Column] | pa.Schema] = {}
    for feed in source.feeds:
        found[f"{source.name}.bronze.{feed.name}"] = arrow_schema([*feed.schema, *BOOKKEEPING]).append(extra)
        found[f"{source.name}.silver.{feed.name}"] = feed.silver
    found |= {f"{source.name}.silver.{t.name}": source.hierarchy_columns(t) for t in source.hierarchies}
    found |= {f"{source.name}.silver.{e.name}": source.enriched_columns(e) for e in source.enriched}
    return found | {f"{source.name}.gold.{g.name}": g.stored_columns for g in source.gold}


# ---- the ends of a batch


def duplicate(order: WorkOrder, published: ManifestRow) -> Result:
    """Returns the result of a batch whose content is published already, with the record of that publishing."""
    of, result = published.batch_id, _result_of(published, Outcome.DUPLICATE)
    return replace(result, batch_id=order.batch_id, duplicate_of=of, reason=f"duplicate of {of}")


def publish(batch: BatchContext) -> Result:
    """Writes the batch's rows of `ops`, then the one row that publishes it."""
    with timed_stage(batch, "publish"):
        for table, rows in _ops_rows(batch).items():
            batch.attempt.append(table, rows)
        record = batch.attempt.publish(_record(batch, "batch"))
    result, written = _result_of(record, Outcome.PUBLISHED), batch.attempt.appended + batch.attempt.changed
    return _with_batch(replace(result, table_rows=dict(written)), batch)


def verdict(batch: BatchContext, kind: str, reason: str) -> Result:
    """Undoes the batch's tables and puts the pipeline's verdict (`rejected` or `failed`) on record."""
    record = batch.attempt.verdict(_record(batch, kind, reason), _ops_rows(batch))
    return _with_batch(_result_of(record, Outcome.REJECTED if kind == "rejected" else Outcome.FAILED), batch)


def _result_of(record: ManifestRow, outcome: Outcome) -> Result:
    names = ("name", "feed", "rows_read", "rows_accepted", "rows_rejected")
    return Result(
        batch_id=record.batch_id,
        outcome=outcome,
        reason=record.reason,
        batch_seq=record.batch_seq,
        published_at=_text(record.published_at) if record.published_at else "",
        rows_read=record.rows_read,
        rows_accepted=record.rows_accepted,
        rows_rejected=record.rows_rejected,
        score=record.score,
        validation_status=record.validation_status,
        files=tuple(FileCounts(**{name: getattr(f, name) for name in names}) for f in record.files),
        task_values=dict(record.task_values),
        table_versions=dict(record.table_versions),
        fingerprint=record.fingerprint,
    )


def _text(at: dt.datetime) -> str:
    """Returns a time in UTC in the form that the ledger, the log and the command use: to milliseconds, with Z."""
    return at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _with_batch(result: Result, batch: BatchContext) -> Result:
    """Adds to a result what is not in the manifest."""
    return replace(
        result,
        files=tuple(batch.files),
        findings=tuple(f for f in batch.findings if f.broken),
        corrections=batch.corrections,
        seconds=dict(batch.seconds),
    )


# ---- the row of the manifest


def _record(batch: BatchContext, kind: str, reason: str = "") -> ManifestRow:
    order, rows = batch.order, _row_counts(batch.files)
    return ManifestRow(
        batch_id=order.batch_id,
        kind=kind,
        source=order.source,
        batch_date=order.batch_date,
        revision=order.revision,
        fingerprint=_fingerprint(batch) if kind == "batch" else "",
        identity=identity(order.source, order.batch_date, [(f.feed, f.sha256) for f in order.files]),
        rows_read=rows["rows_read"],
        rows_accepted=rows["rows_accepted"],
        rows_rejected=rows["rows_rejected"],
        score=score(batch.findings),
        # A batch that was rejected before its rows were validated has not passed.
        validation_status=status(batch.findings) if kind == "batch" or batch.findings else "",
        files=published_files(order.files, batch.files),
        whole_feeds=tuple(f.name for f in batch.source.feeds if f.name in batch.validated and batch.is_whole(f)),
        task_values=_task_values(batch),
        reason=reason,
        file_revisions={f.name: f.revision for f in order.files if f.revision != order.revision},
    )


def _row_counts(files: Sequence[FileCounts]) -> dict[str, int]:
    return {name: sum(getattr(f, name) for f in files) for name in ("rows_read", "rows_accepted", "rows_rejected")}


def _fingerprint(batch: BatchContext) -> str:
    attempt = batch.attempt
    return definition_history.next_history(
        batch.definitions,
        batch.source,
        batch.fingerprint,
        batch_id=batch.order.batch_id,
        written=batch.written_tables(),
        whole=_recomputed_tables(batch),
        had_rows=lambda table: (
            attempt.start_versions.get(table, 0) > 0 and batch.lake.row_count(table, attempt.start_versions[table]) > 0
        ),
    )


def _recomputed_tables(batch: BatchContext) -> set[str]:
    """Returns the tables that this batch computed from all rows that they follow: no older row is left in them."""
    source, order = batch.source, batch.order

    def is_newest(feed: Feed) -> bool:
        deliveries = batch.manifest.snapshot_deliveries(source.name, feed.name)
        return all((date, revision) <= (order.batch_date, order.revision) for _, date, revision in deliveries)

    replaced = (f for f in source.feeds if isinstance(f.stored_as, Snapshot) and f.name in batch.validated)
    found = {batch.name("silver", f.name) for f in replaced if is_newest(f)}
    found |= {batch.name("silver", t.name) for t in source.hierarchies if t.upstream in batch.validated}
    whole = {batch.name("gold", g.name) for g in source.gold if g.kind is GoldKind.RECOMPUTE and not g.key}
    found |= {batch.name("gold", g.name) for g in source.gold if is_whole(batch, g)}
    return found | (whole & batch.written_tables()) | batch.computed_whole


def _task_values(batch: BatchContext) -> dict[str, str]:
    return {
        "batch_id": batch.order.batch_id,
        "batch_date": batch.order.batch_date.isoformat(),
        "validation_status": status(batch.findings),
        "high_severity_count": str(high(batch.findings)),
        **{name: str(count) for name, count in _row_counts(batch.files).items()},
        **batch.task_values,
    }


# ---- the rows of `ops`


def _ops_rows(batch: BatchContext) -> dict[str, pa.Table]:
    attempt = {"batch_id": batch.order.batch_id, "attempt": batch.order.attempt}
    rows: Mapping[str, list[dict[str, object]]] = {
        "ops.validation_results": [_finding_row(batch, f) for f in batch.findings],
        "ops.processing_log": [{**attempt, **vars(t)} for t in batch.tasks],
    }
    # Of a row only the columns of the table are taken.
    tables = {table: pa.Table.from_pylist(some, schema=OPS[table]) for table, some in rows.items()}
    if batch.validated:
        tables["ops.quarantine"] = quarantine(batch.validated.values(), batch.order)
    return tables


def _finding_row(batch: BatchContext, finding: RuleResult) -> dict[str, object]:
    share = finding.broken / finding.checked if finding.checked else 0.0
    return {"batch_id": batch.order.batch_id, **vars(finding), "share": share}

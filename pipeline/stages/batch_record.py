"""What a batch leaves on record: the manifest row, the rows of `ops`, and the result for the daemon."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from pipeline.commit.manifest import ManifestRow, PublishedFile
from pipeline.contract import FileCounts, Outcome, Result, RuleResult, WorkOrder, identity
from pipeline.lake.ops_tables import OPS
from pipeline.model import Column, Source
from pipeline.reader import definitions
from pipeline.schema import arrow_schema
from pipeline.stages.stages import Batch, Task, computed_whole, timed, whole, written
from pipeline.transform.aggregate import gold_columns
from pipeline.transform.judging import BOOKKEEPING
from pipeline.transform.validate import high, quarantine, score, status


def tables(source: Source) -> dict[str, Sequence[Column] | pa.Schema]:
    """Tells every table of a source with its columns."""
    extra = pa.field("_extra", pa.map_(pa.string(), pa.string()))
    found: dict[str, Sequence[Column] | pa.Schema] = {}
    for feed in source.feeds:
        found[f"{source.name}.bronze.{feed.name}"] = arrow_schema([*feed.schema, *BOOKKEEPING]).append(extra)
        found[f"{source.name}.silver.{feed.name}"] = feed.silver
    found |= {f"{source.name}.silver.{t.name}": source.hierarchy_columns(t) for t in source.hierarchies}
    found |= {f"{source.name}.silver.{e.name}": source.enriched_columns(e) for e in source.enriched}
    return found | {f"{source.name}.gold.{g.name}": gold_columns(g) for g in source.gold}


def duplicate(order: WorkOrder, published: ManifestRow) -> Result:
    """Answers a batch whose content is published already; where it is this very batch, with what its publishing left on record."""
    return Result(
        batch_id=order.batch_id,
        outcome=Outcome.DUPLICATE,
        duplicate_of=published.batch_id,
        reason=f"duplicate of {published.batch_id}",
        batch_seq=published.batch_seq,
        published_at=published.published_at.isoformat() if published.published_at else "",
        rows_read=published.rows_read,
        rows_accepted=published.rows_accepted,
        rows_rejected=published.rows_rejected,
        score=published.score,
        validation_status=published.validation_status,
        files=tuple(
            FileCounts(
                name=f.name,
                feed=f.feed,
                rows_read=f.rows_read,
                rows_accepted=f.rows_accepted,
                rows_rejected=f.rows_rejected,
            )
            for f in published.files
        ),
        task_values=dict(published.task_values),
        table_versions=dict(published.table_versions),
    )


def publish(batch: Batch) -> Result:
    """Writes the batch's rows of `ops`, then the one row that publishes it."""
    with timed(batch, "publish"):
        for table, rows in _ops_rows(batch).items():
            batch.attempt.append(table, rows)
        entry = batch.attempt.publish(_entry(batch, "batch"))
    return _result(batch, Outcome.PUBLISHED, entry)


def verdict(batch: Batch, kind: str, reason: str) -> Result:
    """Undoes the batch's tables and puts the pipeline's verdict (`rejected` or `failed`) on record."""
    entry = batch.attempt.verdict(_entry(batch, kind, reason), _ops_rows(batch))
    return _result(batch, Outcome.REJECTED if kind == "rejected" else Outcome.FAILED, entry)


def _entry(batch: Batch, kind: str, reason: str = "") -> ManifestRow:
    order, counts = batch.order, {f.name: f for f in _files(batch)}
    nothing = FileCounts(name="", feed="", rows_read=0, rows_accepted=0, rows_rejected=0)
    files = []
    for f in order.files:
        count = counts.get(f.name, nothing)
        files.append(
            PublishedFile(
                name=f.name,
                feed=f.feed,
                sha256=f.sha256,
                bytes=f.bytes,
                rows_read=count.rows_read,
                rows_accepted=count.rows_accepted,
                rows_rejected=count.rows_rejected,
            )
        )
    return ManifestRow(
        batch_id=order.batch_id,
        kind=kind,
        source=order.source,
        batch_date=order.batch_date,
        revision=order.revision,
        fingerprint=_fingerprint(batch) if kind == "batch" else "",
        identity=identity(order.source, order.batch_date, [(f.feed, f.sha256) for f in order.files]),
        rows_read=sum(f.rows_read for f in files),
        rows_accepted=sum(f.rows_accepted for f in files),
        rows_rejected=sum(f.rows_rejected for f in files),
        score=score(batch.findings),
        validation_status=status(batch.findings),
        files=tuple(files),
        whole_feeds=tuple(f.name for f in batch.source.feeds if f.name in batch.judged and whole(batch, f)),
        task_values=_task_values(batch),
        reason=reason,
        file_revisions={f.name: f.revision for f in order.files if f.revision != order.revision},
    )


def _fingerprint(batch: Batch) -> str:
    newest, attempt = batch.manifest.newest(batch.source.name, "batch"), batch.attempt
    done = definitions.Written(
        batch_id=batch.order.batch_id,
        tables=written(batch),
        whole=computed_whole(batch),
        held=lambda table: (
            attempt.start_versions.get(table, 0) > 0 and not batch.lake.is_empty(table, attempt.start_versions[table])
        ),
    )
    now = definitions.fingerprint(batch.source, batch.values)
    return definitions.after(newest.fingerprint if newest else "", batch.source, now, done)


def _files(batch: Batch) -> list[FileCounts]:
    return [f for j in batch.judged.values() for f in j.files]


def _task_values(batch: Batch) -> dict[str, str]:
    files = _files(batch)
    return {
        "batch_id": batch.order.batch_id,
        "batch_date": batch.order.batch_date.isoformat(),
        "validation_status": status(batch.findings),
        "high_severity_count": str(high(batch.findings)),
        "rows_read": str(sum(f.rows_read for f in files)),
        "rows_accepted": str(sum(f.rows_accepted for f in files)),
        "rows_rejected": str(sum(f.rows_rejected for f in files)),
        **batch.task_values,
    }


def _ops_rows(batch: Batch) -> dict[str, pa.Table]:
    rows = {
        "ops.validation_results": [_finding_row(batch, f) for f in batch.findings],
        "ops.processing_log": [_task_row(batch, t) for t in batch.tasks],
    }
    found = {table: pa.Table.from_pylist(news, schema=OPS[table]) for table, news in rows.items()}
    if batch.judged:
        found["ops.quarantine"] = quarantine(batch.judged.values(), batch.order)
    return found


def _finding_row(batch: Batch, f: RuleResult) -> Mapping[str, object]:
    return {
        "batch_id": batch.order.batch_id,
        "feed": f.feed,
        "rule": f.rule,
        "severity": f.severity,
        "action": f.action,
        "checked": f.checked,
        "broken": f.broken,
        "share": f.broken / f.checked if f.checked else 0.0,
        "description": f.description,
    }


def _task_row(batch: Batch, t: Task) -> Mapping[str, object]:
    return {
        "batch_id": batch.order.batch_id,
        "attempt": batch.order.attempt,
        "task": t.task,
        "status": t.status,
        "started_at": t.started_at,
        "finished_at": t.finished_at,
        "total_records": t.total,
        "valid_records": t.valid,
        "invalid_records": t.invalid,
        "archived_files": t.files,
    }


def _result(batch: Batch, kind: Outcome, written: ManifestRow) -> Result:
    return Result(
        batch_id=written.batch_id,
        outcome=kind,
        reason=written.reason,
        batch_seq=written.batch_seq,
        published_at=(written.published_at or datetime.now(UTC)).isoformat(),
        rows_read=written.rows_read,
        rows_accepted=written.rows_accepted,
        rows_rejected=written.rows_rejected,
        score=written.score,
        validation_status=written.validation_status,
        files=tuple(_files(batch)),
        findings=tuple(f for f in batch.findings if f.broken),
        corrections=batch.corrections,
        task_values=dict(written.task_values),
        table_versions=dict(written.table_versions),
        seconds=dict(batch.seconds),
    )

"""THE STORY: a work order comes in, its batch goes through the stages, a result goes out. Every end is on record."""

import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.commit.attempt import Attempt
from pipeline.commit.manifest import Manifest
from pipeline.contract import (
    Outcome,
    Progress,
    Result,
    Settings,
    WorkOrder,
    identity,
    secrets_of,
    setting_values,
)
from pipeline.contract.error_text import one_line
from pipeline.errors import DataError, DeclarationError, ExternalCommit, InvalidValue
from pipeline.lake.lake import Lake
from pipeline.model import Source
from pipeline.model.definition_history import changed_keys, newly_outdated_tables
from pipeline.model.fingerprints import fingerprint
from pipeline.reader.outdated import change_event
from pipeline.sources import registry
from pipeline.stages import batch_record
from pipeline.stages.context import BatchContext
from pipeline.stages.plan import plan
from pipeline.stages.revisions import with_revisions
from pipeline.stages.row_stages import stage_files, validate
from pipeline.stages.task_log import run_plan

Report = Callable[[Progress], None]
LONGEST_REASON = 380  # characters
MEND_VALUE = "no table was changed; correct the file, or widen or guard the declared column, and land a new trigger"
MEND_DECLARATION = "correct the declaration, start the daemon anew, then retry the batch"


def sources_of(settings: Settings) -> Callable[[str], Source]:
    """Returns the function that loads a source by its name. It raises LookupError for an unknown one."""
    return lambda name: registry.source(name, settings.source_paths, settings.exclude)


def run(
    order: WorkOrder, settings: Settings, lake: Lake, report: Report, source_of: Callable[[str], Source] | None = None
) -> Result:
    """Takes a batch from claimed files to published tables and returns its result. Never raises."""
    secrets = secrets_of(settings, environ=os.environ)
    try:
        manifest = Manifest(lake)
        published = manifest.find_identity(
            identity(order.source, order.batch_date, [(f.feed, f.sha256) for f in order.files])
        )
        if published:
            return batch_record.duplicate(order, published)
        source = (source_of or sources_of(settings))(order.source)
        values = setting_values(source, settings)
        _notice_changes(order, source, manifest, values, report)
        order, corrections = with_revisions(order, source, manifest)
        for one in corrections:
            report(
                Progress(
                    batch_id=order.batch_id,
                    event="file.corrected",
                    values={"file": one.name, "revision": one.revision, "of": one.of},
                )
            )

        def batch(attempt: Attempt) -> BatchContext:
            return BatchContext(
                order=order,
                source=source,
                quality=settings.quality,
                values=values,
                lake=lake,
                manifest=manifest,
                attempt=attempt,
                report=report,
                corrections=corrections,
            )

        try:
            with Attempt(
                lake=lake, manifest=manifest, order=order, tables=batch_record.tables(source), report=report
            ) as attempt:
                return _attempt(batch(attempt), secrets)
        except (ExternalCommit, DeclarationError) as error:
            # No retry helps: a person has to decide. The verdict goes on record; the source's tables do not change.
            with Attempt(lake=lake, manifest=manifest, order=order, tables={}, report=report) as attempt:
                failed = batch_record.verdict(batch(attempt), "failed", str(error))
                return replace(failed, external_commits=getattr(error, "tables", ()))
    except ExternalCommit as error:  # in the tables of the record themselves
        failed = Result(batch_id=order.batch_id, outcome=Outcome.FAILED, reason=str(error))
        return replace(failed, external_commits=error.tables)
    except Exception as error:  # noqa: BLE001 - the daemon needs an answer to every order
        reason, trace = one_line(error, secrets, LONGEST_REASON), traceback.format_exc()
        return Result(batch_id=order.batch_id, outcome=Outcome.FAILED, retryable=True, reason=reason, error=trace)


def _attempt(batch: BatchContext, secrets: Sequence[str]) -> Result:
    try:
        _check_keys(batch)
        staged = stage_files(batch)
        validate(batch, staged)
        run_plan(batch, plan(batch))
        return batch_record.publish(batch)
    except DataError as error:
        return batch_record.verdict(batch, "rejected", str(error))
    except InvalidValue as error:
        return batch_record.verdict(batch, "rejected", f"{error}; {MEND_VALUE}")
    except DeclarationError as error:
        return batch_record.verdict(batch, "failed", f"{error}; {MEND_DECLARATION}")
    except ExternalCommit:
        raise
    except Exception as error:
        if not batch.order.final:
            raise
        failed = batch_record.verdict(batch, "failed", one_line(error, secrets, LONGEST_REASON))
        return replace(failed, error=traceback.format_exc())


def _check_keys(batch: BatchContext) -> None:
    """Raises DeclarationError where a table's rows have another key: a merge would find no row, or too many."""
    for table, sentence in changed_keys(batch.definitions, batch.source).items():
        if batch.lake.row_count(table, batch.attempt.start_versions[table]):
            raise DeclarationError(f"{table}: {sentence}")


def _notice_changes(
    order: WorkOrder, source: Source, manifest: Manifest, values: dict[str, object], report: Report
) -> None:
    newest = manifest.newest(source.name, "batch")
    now = fingerprint(source, values)
    changed = newly_outdated_tables(newest.fingerprint, source, now) if newest else {}
    if changed:
        report(change_event(order.batch_id, changed))

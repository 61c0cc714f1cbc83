"""THE STORY: a work order comes in, its batch goes through the stages, a result goes out. Whatever happens is on record."""

import traceback
from collections.abc import Callable
from dataclasses import replace

from pipeline import definitions, outcome, sources
from pipeline.contract import Outcome, Progress, Result, Settings, WorkOrder, identity
from pipeline.errors import DataError, ForeignCommit
from pipeline.lake import Lake
from pipeline.manifest import Manifest
from pipeline.model import Source
from pipeline.publish import Attempt
from pipeline.stages import Batch, begun, enrich, judge_as_a_whole, load, merge, summarise, validate

Report = Callable[[Progress], None]


def sources_of(settings: Settings) -> Callable[[str], Source]:
    """Gives the way to a source by its name, which raises LookupError where there is none."""
    return lambda name: sources.source(name, settings.source_paths, settings.without)


def run(order: WorkOrder, settings: Settings, lake: Lake, report: Report, source_of: Callable[[str], Source] | None = None) -> Result:
    """Takes a batch from claimed files to published tables and tells what became of it. Never raises."""
    try:
        manifest = Manifest(lake)
        published = manifest.find_identity(identity(order.source, order.batch_date, [(f.feed, f.sha256) for f in order.files]))
        if published:
            return outcome.duplicate(order, published)
        source = (source_of or sources_of(settings))(order.source)
        values = {s.name: settings.sources.get(source.name, {}).get(s.name, s.default) for s in source.settings}
        _notice_changes(order, source, manifest, values, report)

        def batch(attempt: Attempt) -> Batch:
            return Batch(order=order, source=source, quality=settings.quality, values=values, lake=lake, manifest=manifest, attempt=attempt, report=report)

        try:
            with Attempt(lake=lake, manifest=manifest, order=order, tables=outcome.tables(source), report=report) as attempt:
                return _attempt(batch(attempt))
        except ForeignCommit as error:
            # Nobody's retry mends this: a person has to say whose rows are right. It goes on record without touching the source's tables.
            with Attempt(lake=lake, manifest=manifest, order=order, tables={}, report=report) as attempt:
                return outcome.verdict(batch(attempt), "failed", str(error))
    except ForeignCommit as error:  # in the tables of the record themselves
        return Result(batch_id=order.batch_id, outcome=Outcome.FAILED, reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever it was, the daemon needs an answer
        return Result(batch_id=order.batch_id, outcome=Outcome.FAILED, retryable=True, reason=_sentence(error), error=traceback.format_exc())


def _attempt(batch: Batch) -> Result:
    try:
        staged = load(batch)
        validate(batch, staged)
        with begun(batch) as work:
            merge(batch, work)
            enrich(batch, work)
            judge_as_a_whole(batch)
            summarise(batch, work)
        return outcome.publish(batch)
    except DataError as error:
        return outcome.verdict(batch, "rejected", str(error))
    except ForeignCommit:
        raise
    except Exception as error:
        if not batch.order.final:
            raise
        failed = outcome.verdict(batch, "failed", _sentence(error))
        return replace(failed, error=traceback.format_exc())


def _notice_changes(order: WorkOrder, source: Source, manifest: Manifest, values: dict[str, object], report: Report) -> None:
    newest = manifest.newest(source.name, "batch")
    changed = definitions.changed(newest.fingerprint, definitions.fingerprint(source, values)) if newest else ()
    if changed:
        report(Progress(batch_id=order.batch_id, event="definition.changed", values={"tables": list(changed)}))


def _sentence(error: Exception) -> str:
    """Makes one line of whatever was raised: engines write pages."""
    text = " ".join(str(error).split("\n\n")[0].split())
    about = "".join(f"{note}: " for note in getattr(error, "__notes__", ())[:1])
    return f"{about}{type(error).__name__}: {text}"[:380]

"""Shows each published batch to readers, after its row of the manifest. A failure here never fails a batch."""

import errno
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.commit.manifest import Manifest, ManifestRow
from pipeline.contract import Progress, Settings, secrets_of, setting_values
from pipeline.contract.error_text import one_line
from pipeline.lake.lake import Lake
from pipeline.lake.lock import LakeLocked, lake_lock
from pipeline.place import as_folder
from pipeline.serve.database import write_database
from pipeline.serve.descriptions import TableText, descriptions
from pipeline.serve.generations import FOLDER, Generations
from pipeline.serve.served_table import ServedTable, forget_snapshots, served_table
from pipeline.sources import registry

Report = Callable[[Progress], None]
STAGE = "serve"
LONGEST_REASON = 380  # characters
THREADS = 4  # opening a table mostly waits for its log
# Errors of a file system that has no hard links, no symbolic links, or no links to another file system.
NO_LINKS = frozenset((errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS))


class LinksRefused(Exception):
    """The file system of the lake refuses links; the message names the readers that work without them."""


def serve(lake: Lake, manifest: Manifest, settings: Settings, source: str, report: Report) -> None:
    """Shows the newest published batch of a source to readers, and reports `serve.finished` or `serve.failed`.

    Never raises. The caller holds the lake's lock. Where readers see that batch already, only old generations go.
    """
    if not settings.serve_layers:
        return
    began = time.monotonic()
    batch_id = ""
    try:
        row = manifest.newest(source)
        batch = row if row is None or row.kind == "batch" else manifest.newest(source, "batch")
        batch_id = batch.batch_id if batch else ""
        tables = _serve(lake, settings, row, batch) if row else 0
    except Exception as error:  # noqa: BLE001 - the batch is published, whether or not readers see it in this way
        event = "serve.failed"
        values: dict[str, Any] = {"reason": _reason(error, source, settings)}
    else:
        event = "serve.finished"
        values = {"tables": tables, "seconds": round(time.monotonic() - began, 3)}
    report(Progress(batch_id=batch_id, event=event, stage=STAGE, values={"source": source, **values}))


def serve_all(lake: Lake, settings: Settings, report: Report) -> None:
    """Shows the newest published batch of every source to readers. Never raises. The caller holds the lake's lock."""
    if not settings.serve_layers:
        return
    forget_snapshots()
    manifest = Manifest(lake)
    try:
        sources = manifest.sources()
    except Exception as error:  # noqa: BLE001 - the next batch meets the fault of the lake and reports it, too
        values = {"reason": _reason(error, "all sources", settings)}
        report(Progress(batch_id="", event="serve.failed", stage=STAGE, values=values))
        return
    for source in sources:
        serve(lake, manifest, settings, source, report)


def serve_from_outside(settings: Settings, source: str, wait_seconds: float = 5.0) -> str:
    """Shows the published tables of a source to readers after a command has changed them; no worker has to run.

    Returns the reason where that failed, else an empty text.
    """
    if not settings.serve_layers:
        return ""
    events: list[Progress] = []
    path = settings.lake
    # While a batch of this source runs, its end shows the tables.
    with suppress(LakeLocked), lake_lock(path, wait_seconds):
        lake = Lake(path, keep_days=settings.keep_days, work=settings.work)
        serve(lake, Manifest(lake), settings, source, events.append)
    return next((str(e.values["reason"]) for e in events if e.event == "serve.failed"), "")


def _serve(lake: Lake, settings: Settings, row: ManifestRow, batch: ManifestRow | None) -> int:
    """Shows the tables of a source as its newest row of the manifest names them; `batch` is its newest batch.

    Returns the number of tables with new content.
    """
    source = row.source
    layers = tuple(f"{source}.{layer}." for layer in settings.serve_layers)
    versions = {name: version for name, version in row.table_versions.items() if name.startswith(layers)}
    folder = as_folder(lake.path)
    generations = Generations(lake=folder, source=source)
    shown = generations.document()
    texts = _texts(settings, source)

    def open_table(name: str) -> ServedTable:
        return served_table(lake, name, versions[name], texts.get(name, TableText()))

    with ThreadPoolExecutor(THREADS) as pool:
        tables = list(pool.map(open_table, versions))
    document = {**_about(row, batch), "prefix": settings.serve_prefix}
    document["tables"] = {t.name: t.folder_name for t in tables}
    if not tables or all(shown.get(key) == document[key] for key in ("prefix", "batch_id", "tables")):
        generations.prune()
        return 0

    def database(file: Path) -> None:
        write_database(file, tables, folder, settings.serve_prefix)

    try:
        count = generations.show(document, tables, database, lake.sync)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        draft = folder / f".{source}.duckdb.draft"
        draft.unlink(missing_ok=True)
        database(draft)
        draft.rename(generations.database)
        raise LinksRefused(
            f"the file system of {folder / FOLDER} refuses links ({os.strerror(error.errno)}); read "
            f"{generations.database} or use `lakegate sql`, or put the lake on a file system with hard links"
        ) from None
    generations.prune()
    return count


def _texts(settings: Settings, source: str) -> Mapping[str, TableText]:
    try:
        declared = registry.source(source, settings.source_paths, settings.exclude)
        return descriptions(declared, setting_values(declared, settings))
    except Exception:  # noqa: BLE001 - a source that is declared no more, or wrongly, keeps its published tables
        return {}


def _about(row: ManifestRow, batch: ManifestRow | None) -> dict[str, Any]:
    return {
        "source": row.source,
        "batch_id": batch.batch_id if batch else "",
        "batch_date": batch.batch_date.isoformat() if batch and batch.batch_date else "",
        "batch_seq": row.batch_seq,
        "published_at": row.published_at.isoformat() if row.published_at else "",
    }


def _reason(error: Exception, source: str, settings: Settings) -> str:
    if isinstance(error, OSError) and error.strerror:
        error = OSError(f"{error.strerror} ({error.filename})" if error.filename else error.strerror)
    text = one_line(error, secrets_of(settings, environ=os.environ), LONGEST_REASON, with_type=False)
    if isinstance(error, LinksRefused):
        return text
    return (
        f"readers of {source} may still see an earlier batch: {text}; the next batch or start of the worker tries again"
    )

"""Shows the rejected rows of published batches: by file, row by row, or in files to correct."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli import output
from daemon.text import join_names

if TYPE_CHECKING:
    from daemon.batch import Batch
    from daemon.config.config import Config
    from pipeline.reader.quarantine import RejectedFile, RejectedRow

MOST_FILES = 30  # in the list for a person; --json prints all


def print_files(files: "Sequence[RejectedFile]", *, as_json: bool) -> None:
    """Prints a line for each file that has rejected rows, with the reasons."""
    if as_json:
        output.print_json([asdict(f) for f in files])
        return
    if not files:
        output.print_message("no row is in quarantine")
        return
    rows = [
        (f.batch_id.rpartition("-")[2], f.source, f.batch_date, f.source_file, f.rows, _reasons(f.reasons))
        for f in files[:MOST_FILES]
    ]
    output.print_table(("BATCH", "SOURCE", "DATE", "FILE", "ROWS", "REASONS"), rows, numbers=("ROWS",))
    hidden = len(files) - MOST_FILES
    if hidden > 0:
        output.print_message(f"{output.plural(hidden, 'older file')}: lakegate quarantine list SOURCE, or --json")


def print_rows(rows: "Sequence[RejectedRow]", total: int, *, as_json: bool) -> None:
    """Prints two lines for each row: its place with the reasons, and its text as it was delivered."""
    if as_json:
        output.print_json([asdict(r) for r in rows])
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for row in rows:
        print(output.cut(f"{output.escape_unprintable(row.source_file)}:{row.record}  {', '.join(row.reasons)}", width))
        print(output.cut(f"    {output.escape_unprintable(row.raw)}", width))
    if total > len(rows):
        output.print_message(f"{len(rows):,} of {total:,} rows; --limit {total} shows all")


def print_nothing(batch: "Batch | None", subject: str) -> None:
    """Prints why there is no row to show."""
    if batch is None or batch.state != "REJECTED":
        output.print_message(f"no row of {subject} is in quarantine")
        return
    cause = f"`lakegate batches {batch.batch_id.rpartition('-')[2]}` has the cause"
    output.print_message(f"batch {batch.batch_id} was rejected as a whole, so its rows are in no table; {cause}")


def export(rows: "Sequence[RejectedRow]", kind: str, out: Path, config: "Config", *, raw: bool) -> None:
    """Writes the rows to a folder of CSV files or to a workbook, and prints the next step. Raises ExportError."""
    from pipeline.reader.quarantine import Corrections

    batches = _batches(config, {r.batch_id for r in rows})
    paths = _archived_files(config, batches)
    corrections = Corrections(config.settings, lambda row: paths.get((row.batch_id, row.source_file)), is_raw=raw)
    if kind == "csv":
        corrections.write_folder(rows, out)
    else:
        corrections.write_workbook(rows, out)
    names = sorted({r.source_file for r in rows})
    place = f"{out}{'/' if kind == 'csv' else ''}"
    output.print_message(f"{output.plural(len(rows), 'row')} of {join_names(names)} are in {place}, with their reasons")
    if corrections.protected:
        values = output.plural(corrections.protected, "value")
        output.print_message(f"{values} that a spreadsheet would run got an apostrophe; --raw writes them as they are")
    snapshots = {(b.batch_id, feed) for b in batches for feed in b.snapshot}
    if whole := {*corrections.whole, *(r.source_file for r in rows if (r.batch_id, r.feed) in snapshots)}:
        names = sorted(whole)
        output.print_message(f"{join_names(names)}: a whole delivery; correct the whole file, not these rows alone")
    form = "" if kind == "csv" else "save each sheet as CSV, "
    output.print_message(f"next: correct the rows, {form}deliver each file under its name and date with a new trigger")


def _batches(config: "Config", batch_ids: set[str]) -> "list[Batch]":
    from daemon.ledger.ledger import Ledger

    ledger = Ledger.reading(config.ledger_path)
    found = [batch for batch in ledger.batches() if batch.batch_id in batch_ids]
    ledger.close()
    return found


def _archived_files(config: "Config", batches: "Sequence[Batch]") -> Mapping[tuple[str, str], Path]:
    """Returns the path in the archive of each file of these batches, by batch and name."""
    from daemon.finish.archive_moves import planned_names

    found: dict[tuple[str, str], Path] = {}
    for batch in batches:
        folder = config.landing.archive_path / batch.source / str(batch.batch_date) / batch.batch_id
        found |= {(batch.batch_id, f.name): folder / name for f, name in planned_names(batch.all_files)}
    return found


def _reasons(reasons: Mapping[str, int]) -> str:
    return join_names([reason if n == 1 else f"{reason} ({n:,})" for reason, n in reasons.items()])

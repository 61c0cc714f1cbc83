"""The verb for rejected rows: quarantine, with `list`, `show` and `export`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.arguments import complete_batch
from daemon.cli.verb import json_option, read_config, verb

if TYPE_CHECKING:
    from daemon.batch import Batch
    from daemon.config.config import Config
    from pipeline.reader import PublishedVersions

ACTIONS = ("list", "show", "export")


@verb("quarantine")
@click.argument("words", metavar="[list | show | export] [ID | SOURCE]", nargs=-1, shell_complete=complete_batch)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="show: most rows.")
@click.option("--to", "kind", type=click.Choice(["csv", "xlsx"]), default="csv", help="export: the format [csv].")
@click.option("--out", metavar="PATH", type=click.Path(path_type=Path), help="export: the folder (csv) or file (xlsx).")
@click.option("--raw", is_flag=True, help="export to csv: values as they are, also those that a spreadsheet would run.")
@json_option
def quarantine(words: tuple[str, ...], limit: int, kind: str, out: Path | None, *, raw: bool, as_json: bool) -> None:
    """Show the rejected rows of a batch or source, or export them.

    `list` has the files with rejected rows, `show` the rows with their reasons. `export` writes the rows as they were
    delivered, below the header of their file: correct them, and deliver the file again.
    """
    from daemon.cli import show_quarantine
    from pipeline import reader
    from pipeline.reader.quarantine import rejected_files, rejected_rows

    action, name = _action(words)
    config = read_config()
    state = reader.published(config.settings.lake)
    if action == "list" and not name:
        show_quarantine.print_files(rejected_files(state), as_json=as_json)
        return
    batch, where = _chosen(config, state, name)
    subject = f"batch {batch.batch_id}" if batch else f"source {name}"
    files = rejected_files(state, where)
    if as_json and action != "export":
        if action == "list":
            show_quarantine.print_files(files, as_json=True)
        else:
            show_quarantine.print_rows(rejected_rows(state, where), 0, as_json=True)
    elif not files:
        show_quarantine.print_nothing(batch, subject)
    elif action == "list":
        show_quarantine.print_files(files, as_json=False)
    elif action == "show":
        rows = rejected_rows(state, where, limit)
        show_quarantine.print_rows(rows, sum(f.rows for f in files), as_json=False)
    else:
        short = batch.batch_id.rpartition("-")[2] if batch else name
        target = out or Path(f"quarantine-{short}{'.xlsx' if kind == 'xlsx' else ''}")
        show_quarantine.export(rejected_rows(state, where), kind, target, config, raw=raw)


def _action(words: tuple[str, ...]) -> tuple[str, str]:
    """Returns the action and the batch or source; `lakegate quarantine ID` shows a batch."""
    if words and words[0] not in ACTIONS:
        words = ("show", *words)
    action, *names = words or ("list",)
    if len(names) > 1:
        raise click.UsageError(f"one batch or source, not {len(names)}: {' '.join(names)}")
    if not names and action != "list":
        raise click.UsageError(f"name a batch or a source: lakegate quarantine {action} ID")
    return action, names[0] if names else ""


def _chosen(config: "Config", state: "PublishedVersions", name: str) -> "tuple[Batch | None, str]":
    """Returns the batch of this id and the condition for its rows, or None and the condition for a source's rows."""
    from daemon.ledger.ledger import Ledger
    from pipeline import contract
    from pipeline.reader.quarantine import of_batch, of_source

    declared = {source.name for source in contract.catalog(config.settings.source_paths, config.settings.exclude)}
    if name in declared or any(table.startswith(f"{name}.") for table in state.versions):
        return None, of_source(name)
    batch = Ledger.reading(config.ledger_path).batch(name)
    return batch, of_batch(batch.batch_id)

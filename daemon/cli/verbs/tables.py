"""The verbs for published tables: tables, sql, adopt, restore."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.verb import confirm, dry_run_option, json_option, read_config, table_argument, verb, yes_option

if TYPE_CHECKING:
    from daemon.config.config import Config
    from pipeline.reader import PublishedVersions


@verb("tables")
@click.argument("table", metavar="[NAME]", required=False)
@click.option("--batch", metavar="ID", help="Read the versions that this batch published.")
@click.option("--limit", type=click.IntRange(min=0), default=5, show_default=True, help="Most rows of NAME to show.")
@json_option
def tables(table: str | None, batch: str | None, limit: int, *, as_json: bool) -> None:
    """List the published tables, or show the columns and some rows of one."""
    from daemon.cli import show_tables

    published = _published_versions(batch)
    if table:
        show_tables.print_table(published, table, limit, as_json=as_json)
    else:
        show_tables.print_tables(published, as_json=as_json)


@verb("sql")
@click.argument("query")
@click.option("--batch", metavar="ID", help="Read the versions that this batch published.")
@json_option
def sql(query: str, batch: str | None, *, as_json: bool) -> None:
    """Query the published tables, such as retail.gold.daily_sales and ops.batches (`-` reads the SQL from stdin)."""
    from daemon.cli import show_tables
    from pipeline import reader

    published = _published_versions(batch)
    text = sys.stdin.read() if query == "-" else query
    show_tables.print_result(reader.sql(published, text), as_json=as_json)


def _published_versions(batch: str | None) -> "PublishedVersions":
    from pipeline import reader

    config = read_config()
    batch_id = None
    if batch is not None:
        from daemon.ledger.ledger import Ledger

        batch_id = Ledger.reading(config.ledger_path).batch(batch).batch_id
    return reader.published(Path(config.settings.lake_path), batch_id)


@verb("adopt")
@table_argument
@dry_run_option
@yes_option
def adopt(table: str, *, dry_run: bool, yes: bool) -> None:
    """Publish a table as it is now, with the commits of other programs."""
    config = read_config()
    _require_table(config, table)
    effect = f"{table} is published as it is now, with the commits of other programs"
    if confirm(effect, dry_run=dry_run, yes=yes):
        from pipeline.commit.external_commits import adopt

        print(adopt(config.settings, table))
        _serve(config, table)


@verb("restore")
@table_argument
@dry_run_option
@yes_option
def restore(table: str, *, dry_run: bool, yes: bool) -> None:
    """Undo the commits of other programs: set a table back to its published version."""
    config = read_config()
    _require_table(config, table)
    effect = f"{table} goes back to its published version; the commits of other programs stay in its history"
    if confirm(effect, dry_run=dry_run, yes=yes):
        from pipeline.commit.external_commits import restore

        print(restore(config.settings, table))
        _serve(config, table)


def _serve(config: "Config", table: str) -> None:
    """Shows the table as it is published now to the readers of published/ and of the DuckDB file."""
    from pipeline.serve.serve import serve_from_outside

    if reason := serve_from_outside(config.settings, table.split(".", maxsplit=1)[0]):
        print(reason, file=sys.stderr)


def _require_table(config: "Config", table: str) -> None:
    """Raises UnknownTableError for a table that the lake does not have."""
    from pipeline import reader

    published = reader.published(Path(config.settings.lake_path))
    # A table that no batch has published yet can have commits of other programs, too.
    exists = (reader.location(published.lake, table) / "_delta_log").is_dir()
    if table not in published.versions and not exists:
        raise reader.UnknownTableError(reader.no_such_table(published, table))

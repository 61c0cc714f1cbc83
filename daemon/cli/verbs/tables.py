"""The verbs for published tables: tables, sql, export, catalog, adopt, restore."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.arguments import complete_batch, complete_table, table_argument
from daemon.cli.verb import confirm, dry_run_option, json_option, read_config, verb, yes_option

if TYPE_CHECKING:
    from daemon.config.config import Config
    from pipeline.reader import PublishedVersions


FORMATS = ("csv", "parquet", "xlsx", "json", "duckdb")
_batch_option = click.option(
    "--batch", metavar="ID", shell_complete=complete_batch, help="Read the versions that this batch published."
)
_internal_option = click.option("--internal", is_flag=True, help="Show the columns that begin with `_`, too.")


@verb("tables")
@click.argument("table", metavar="[NAME]", required=False, shell_complete=complete_table)
@_batch_option
@click.option("--limit", type=click.IntRange(min=0), default=5, show_default=True, help="Most rows of NAME to show.")
@_internal_option
@json_option
def tables(table: str | None, batch: str | None, limit: int, *, internal: bool, as_json: bool) -> None:
    """List the published tables, or show one.

    NAME is a table, the end of its name, or the beginning, such as retail.gold, for a list.
    """
    from daemon.cli import show_tables

    config = read_config()
    published = _published_versions(config, batch)
    name = show_tables.full_name(published, table or "")
    if table and not show_tables.is_beginning(published, name):
        from pipeline.reader.describe import describe_table

        described = describe_table(config.settings, name)
        show_tables.print_table(published, name, limit, described, internal=internal, as_json=as_json)
    else:
        show_tables.print_tables(published, name, as_json=as_json)


@verb("sql")
@click.argument("query")
@_batch_option
@_internal_option
@json_option
def sql(query: str, batch: str | None, *, internal: bool, as_json: bool) -> None:
    """Query the published tables with SQL.

    Tables have names such as retail.gold.daily_sales and ops.batches. `-` reads the SQL from stdin. Columns that begin
    with `_` are in the result where the query names them.
    """
    from daemon.cli import show_tables
    from pipeline import reader

    published = _published_versions(read_config(), batch)
    text = sys.stdin.read() if query == "-" else query
    show_tables.print_result(reader.sql(published, text, internal=internal), as_json=as_json)


@verb("export")
@table_argument
@click.option("--to", "kind", type=click.Choice(FORMATS), required=True, help="The format.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="The file [./TABLE.FORMAT].")
@_batch_option
@click.option("--raw", is_flag=True, help="csv: write texts as they are, also those that a spreadsheet would run.")
@_internal_option
def export(table: str, kind: str, out: Path | None, batch: str | None, *, raw: bool, internal: bool) -> None:
    """Write a published table to a file.

    The file is replaced at once when it is complete. In csv, a text that begins with = + - @, a tab or a carriage
    return gets an apostrophe, so that no spreadsheet runs it as a formula.
    """
    from daemon.cli import show_tables
    from daemon.cli.output import plural, print_message, size
    from pipeline.reader.export import export

    config = read_config()
    published = _published_versions(config, batch)
    name = show_tables.full_name(published, table)
    file = out or Path(f"{name}.{kind}")
    count = export(published, name, kind, file, order_by=_grain(config, name), internal=internal, raw=raw)
    print_message(f"{name}: {plural(count, 'row')} are in {file} ({size(file.stat().st_size)})")


@verb("catalog")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_table)
@click.option("--catalog", default="", metavar="CATALOG", help="The catalog of Unity, before the names of schemas.")
@_batch_option
def catalog(name: str | None, catalog: str, batch: str | None) -> None:
    """Print SQL that puts the tables into a catalog.

    The catalog is Unity Catalog, a Hive metastore or Spark's own. NAME is a table, the end of its name, or the
    beginning, such as retail.gold. The statements create external tables and views of the published versions. They
    change no file of the lake, and may run again after every batch.
    """
    from daemon.cli import show_tables
    from pipeline import reader
    from pipeline.reader.catalog_sql import catalog_statements
    from pipeline.reader.describe import describe_sources

    config = read_config()
    published = _published_versions(config, batch)
    wanted = show_tables.full_name(published, name or "")
    names = [t for t in published.versions if not wanted or t == wanted or t.startswith(f"{wanted}.")]
    if not names:
        raise reader.UnknownTableError(reader.no_such_table(published, wanted))
    described = {t["name"]: t for source in describe_sources(config.settings) for t in source.get("tables", ())}
    for statement in catalog_statements(published, names, described, catalog):
        print(f"{statement};")


def _published_versions(config: "Config", batch: str | None) -> "PublishedVersions":
    from pipeline import reader

    batch_id = None
    if batch is not None:
        from daemon.ledger.ledger import Ledger

        batch_id = Ledger.reading(config.ledger_path).batch(batch).batch_id
    return reader.published(config.settings.lake, batch_id)


def _grain(config: "Config", table: str) -> Sequence[str]:
    """Returns the columns that identify a row of a table; none for a table that no source declares."""
    from pipeline.reader.describe import describe_table

    return tuple(describe_table(config.settings, table).get("grain", ()))


@verb("adopt")
@table_argument
@dry_run_option
@yes_option
def adopt(table: str, *, dry_run: bool, yes: bool) -> None:
    """Publish a table as it is, with the commits of other programs."""
    config = read_config()
    effect = _effect(config, table, "it is published as it is now, with these commits")
    if confirm(effect, dry_run=dry_run, yes=yes):
        from pipeline.commit.external_commits import adopt

        print(adopt(config.settings, table))
        _end_trouble(config, table)
        _serve(config, table)


@verb("restore")
@table_argument
@dry_run_option
@yes_option
def restore(table: str, *, dry_run: bool, yes: bool) -> None:
    """Undo the commits of other programs to a table."""
    config = read_config()
    effect = _effect(config, table, "it goes back to its published version; these commits stay in its history")
    if confirm(effect, dry_run=dry_run, yes=yes):
        from pipeline.commit.external_commits import restore

        print(restore(config.settings, table))
        _end_trouble(config, table)
        _serve(config, table)


def _serve(config: "Config", table: str) -> None:
    """Shows the table as it is published now to the readers of published/ and of the DuckDB file."""
    from pipeline.serve.serve import serve_from_outside

    if reason := serve_from_outside(config.settings, table.split(".", maxsplit=1)[0]):
        print(reason, file=sys.stderr)


def _end_trouble(config: "Config", table: str) -> None:
    """Ends the trouble of a table whose commits of other programs are decided; a daemon that runs reports it."""
    from daemon.ledger.ledger import Ledger
    from daemon.ledger.live_state import TroubleKind

    if config.ledger_path.exists():
        ledger = Ledger.open(config.ledger_path)
        ledger.end_trouble(TroubleKind.EXTERNAL_COMMIT, table)
        ledger.close()


def _effect(config: "Config", table: str, effect: str) -> str:
    """Returns the commits since the published version of a table, and the effect of a decision about them.

    Raises UnknownTableError for a table that the lake does not have.
    """
    from daemon.cli import show_tables
    from pipeline import reader
    from pipeline.reader.foreign_commits import commits_since_published

    published = reader.published(config.settings.lake)
    # A table that no batch has published yet can have commits of other programs, too.
    exists = (reader.location(published.lake, table) / "_delta_log").is_dir()
    if table not in published.versions and not exists:
        raise reader.UnknownTableError(reader.no_such_table(published, table))
    commits = commits_since_published(published, table)
    return show_tables.effect_on_commits(table, published.versions.get(table, 0), commits, effect)

"""The verb that explains a figure: why."""

import click

from daemon.cli.arguments import table_argument
from daemon.cli.verb import json_option, read_config, verb


@verb("why")
@table_argument
@click.argument("key", default="")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Most rows and records to show."
)
@json_option
def why(table: str, key: str, limit: int, *, as_json: bool) -> None:
    """Explain a figure of a gold table.

    Shows the row with TABLE's KEY, its restatements, and the rows and records of files behind it.

    KEY has the values of the grain, such as 2026-03-12 or order_date=2026-03-12; several are separated by commas.
    """
    from daemon.cli import output, show_tables, show_why
    from pipeline import reader
    from pipeline.reader.why import why

    config = read_config()
    published = reader.published(config.settings.lake)
    explanation = why(config.settings, published, show_tables.full_name(published, table), key, limit)
    if as_json:
        output.print_json(show_why.as_record(explanation))
    else:
        print("\n".join(show_why.lines(explanation)))

"""The verb for the declarations of sources: sources, with `sources new`."""

from collections.abc import Sequence
from pathlib import Path

import click

from daemon.cli.arguments import complete_source
from daemon.cli.verb import config_path, json_option, read_config, verb


@verb("sources")
@click.argument("words", metavar="[NAME | new NAME --from FILE...]", nargs=-1, shell_complete=complete_source)
@click.option("--from", "samples", metavar="FILE...", multiple=True, help="new: draft the source from these files.")
@click.option("--into", metavar="FOLDER", default=".", help="new: the folder to create the source's folder in [.].")
@json_option
def sources(words: tuple[str, ...], samples: tuple[str, ...], into: str, *, as_json: bool) -> None:
    """Show the feeds, rules and tables of sources, or draft one.

    NAME shows all of one source. `new` drafts a source from samples of its files.
    """
    if words[:1] == ("new",):
        if len(words) < 2:
            raise click.UsageError("name the new source: lakegate sources new NAME --from FILE…")
        # For `--from days/*.csv` a shell passes the first file with the option, and the others after the name.
        _draft(words[1], [*samples, *words[2:]], into)
    elif samples or len(words) > 1:
        raise click.UsageError("one NAME to show, or: lakegate sources new NAME --from FILE…")
    else:
        from daemon.cli import show_sources
        from pipeline.reader.describe import describe_sources

        every = describe_sources(read_config().settings)
        if words:
            show_sources.print_source(every, words[0], as_json=as_json)
        else:
            show_sources.print_sources(every, as_json=as_json)


def _draft(name: str, samples: Sequence[str], into: str) -> None:
    from daemon.cli import show_sources
    from pipeline.scaffold.draft import draft

    path = config_path()
    config = read_config() if path.exists() else None  # a source may be drafted before there is a configuration
    drafted = draft(name, [Path(s) for s in samples], Path(into), config.settings if config else None)
    show_sources.print_draft(drafted, config.settings.source_paths if config else (), path.absolute())

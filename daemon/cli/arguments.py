"""Declares the arguments that name batches and tables, and completes these names and those of sources in shells."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from daemon.cli.verb import read_config

if TYPE_CHECKING:
    from daemon.config.config import Config

MOST_BATCHES = 50  # the newest ones

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completer(words: "Callable[[Config], Iterable[str]]") -> Complete:
    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            with context:  # the options before the verb may name the configuration
                return [word for word in words(read_config()) if word.startswith(incomplete)]
        except Exception:  # noqa: BLE001 - a message would be mixed into the line that a person types
            return []

    return complete


def _batches(config: "Config") -> Iterable[str]:
    from daemon.ledger.ledger import Ledger

    ids = [b.batch_id for b in Ledger.reading(config.ledger_path).batches()[:MOST_BATCHES]]
    return ["last", *(i.partition("-")[2] for i in ids), *ids]


def _tables(config: "Config") -> Iterable[str]:
    from pipeline import reader

    return reader.published(config.settings.lake).versions


def _sources(config: "Config") -> Iterable[str]:
    from pipeline import contract

    catalog = contract.catalog(config.settings.source_paths, config.settings.exclude)
    return ["new", *(source.name for source in catalog)]


complete_batch = _completer(_batches)
complete_table = _completer(_tables)
complete_source = _completer(_sources)

batch_argument = click.argument("batch", metavar="ID", shell_complete=complete_batch)
table_argument = click.argument("table", shell_complete=complete_table)

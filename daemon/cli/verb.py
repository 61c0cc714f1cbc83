"""Declares verbs of the command: the options that they share, their configuration, and the question before a change.

A verb imports its own modules within its function, so that `--help` and each other verb do not load them.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from daemon.config.config import Config
    from daemon.ledger.ledger import Ledger

Body = Callable[..., int | None]  # returns an exit code; None stands for 0
Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs to stdout.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the effect and change nothing.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask. Only a terminal is asked.")


def verb(name: str) -> Callable[[Body], click.Command]:
    """Declares a function as a verb. Its docstring is the help text."""

    def declare(body: Body) -> click.Command:
        return click.command(name)(common_options(body))

    return declare


def common_options(command: Command) -> Command:
    """Adds the options that the command takes before its verb and after it."""
    config = click.option(
        "--config",
        metavar="PATH",
        expose_value=False,
        callback=_remember,
        help="The configuration [./config.toml, or LAKEGATE_CONFIG].",
    )
    trace = click.option(
        "--trace", is_flag=True, expose_value=False, help="Show the stack trace of an unexpected error."
    )
    return config(trace(command))


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    # The option may stand before the verb and after it. The later value wins; a missing one does not clear the earlier.
    if value:
        context.find_root().meta[str(parameter.name)] = value


def config_path() -> Path:
    """Returns the path of the configuration: from --config, else from LAKEGATE_CONFIG, else ./config.toml."""
    given = click.get_current_context().find_root().meta.get("config")
    return Path(given or os.environ.get("LAKEGATE_CONFIG") or "config.toml")


def read_config() -> "Config":
    """Returns the configuration of this command. Raises ConfigError."""
    from daemon.config.load import load_config

    return load_config(config_path(), os.environ)


def open_for_reading() -> "tuple[Config, Ledger]":
    """Returns the configuration and its ledger, which cannot be changed. Raises ConfigError and SetupError."""
    from daemon.ledger.ledger import Ledger

    config = read_config()
    return config, Ledger.reading(config.ledger_path)


def confirm(effect: str, *, dry_run: bool, yes: bool) -> bool:
    """Prints the effect of a verb. Returns whether to go on; only a terminal is asked, since a program has decided."""
    from daemon.cli.output import print_message

    print_message(effect)
    if not dry_run and (yes or not sys.stdin.isatty() or click.confirm("Go on?", err=True)):
        return True
    print_message("dry run: nothing was changed" if dry_run else "nothing was changed")
    return False

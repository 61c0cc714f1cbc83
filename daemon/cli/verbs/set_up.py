"""The verbs that set up a site and a shell: init, completion."""

from pathlib import Path

import click

from daemon.cli.verb import config_path, verb


@verb("init")
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--engine", type=click.Choice(["spark", "sail"]), help="The engine [spark]; sail needs no Java.")
def init(folder: Path | None, engine: str | None) -> None:
    """Write a configuration and the folders of a new site.

    Every key is in the configuration with its meaning and its default. An existing one is never changed.
    """
    from daemon.cli import init
    from daemon.cli.output import print_message

    path = folder / "config.toml" if folder else config_path()
    print_message(init.next_steps(path, init.create(path, engine or "")))


@verb("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script with which a shell completes the command.

    It completes verbs, options, batches, tables and sources. For bash: eval "$(lakegate completion bash)"
    """
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    command = click.get_current_context().find_root().command
    if completer:
        print(completer(command, {}, "lakegate", "_LAKEGATE_COMPLETE").source())

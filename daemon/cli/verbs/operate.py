"""The verbs for the daemon as a whole: demo, run, check, status, tail, service."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon.cli.exit_codes import A_BATCH_FAILED, FINE
from daemon.cli.verb import confirm, dry_run_option, json_option, open_for_reading, read_config, verb, yes_option

if TYPE_CHECKING:
    from daemon.config.config import Config


@verb("demo")
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--engine", type=click.Choice(["spark", "sail"]), help="The engine [spark].")
def demo(folder: Path | None, engine: str | None) -> int:
    """Run three days of an example shop in a new FOLDER.

    It needs no configuration.
    """
    from daemon.cli import demo

    return demo.run(folder, engine=engine or "")


@verb("run")
@click.option(
    "--once",
    is_flag=True,
    help="Process the deliveries that are there, then exit: with 0 when every batch was archived, else with 1.",
)
@click.option(
    "--quiet",
    is_flag=True,
    help="Print nothing if the daemon can start; the exit code has the result, the log file every event.",
)
def run(*, once: bool, quiet: bool) -> int:
    """Watch the landing zone and process its batches."""
    from daemon.wakeup import WakeEvents, stop_on_signals

    wake_events = WakeEvents()
    # Before the slow imports below, so that a signal stops the daemon cleanly also while it starts.
    with stop_on_signals(wake_events):
        from daemon import service
        from daemon.cli.output import print_message

        config = read_config()
        before = _stories_of_failures(config) if once else {}
        # A terminal shows a readable line for each result; a journal gets the JSON.
        with _view(config, once=once) if sys.stderr.isatty() and not quiet else nullcontext() as on_event:
            code = service.run(config, once=once, quiet=quiet, on_event=on_event, wake_events=wake_events)
        if once and not quiet:
            for batch_id, (changes, story) in _stories_of_failures(config).items():
                if batch_id not in before or before[batch_id][0] != changes:
                    print_message(story)
        return code


@contextmanager
def _view(config: "Config", *, once: bool) -> "Iterator[Callable[[dict[str, Any]], None]]":
    """Yields the function that shows an event on this terminal."""
    from rich.console import Console

    from daemon.cli.live_view import LiveView
    from daemon.cli.output import short_path

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    view = LiveView(console, with_times=True)
    landing, trigger = (f"{short_path(p)}/" for p in (config.landing.path, config.landing.trigger_path))
    places = f"{landing} (trigger: {trigger}, engine {config.settings.engine})"

    def show(event: dict[str, Any]) -> None:
        match event["event"]:
            case "daemon.started" if once:
                console.print(f"Processing the deliveries in {places}.", markup=False)
            case "daemon.started":
                console.print(f"Watching {places}. Stop with Ctrl-C.", markup=False)
            case "daemon.stopped":
                view.close()
                console.print(str(event["reason"]), markup=False)
            case "daemon.start_failed":
                view.close()  # the command prints the sentence
            case _:
                view.show(event)

    try:
        yield show
    finally:
        view.close()


def _stories_of_failures(config: "Config") -> dict[str, tuple[int, str]]:
    """Returns, by the id of each rejected or failed batch, the number of its state changes and its story.

    The oldest batch comes first.
    """
    from daemon.batch import State
    from daemon.cli import show_batches
    from daemon.ledger.ledger import Ledger

    ledger = Ledger.reading(config.ledger_path)
    stories = {}
    for batch in reversed(ledger.batches(State.REJECTED, State.FAILED)):
        changes = len(ledger.history(batch.batch_id))
        stories[batch.batch_id] = (changes, "\n".join(show_batches.story(batch, ledger, config)))
    ledger.close()
    return stories


@verb("check")
@click.option("--no-engine", is_flag=True, help="Start no engine and try no declaration; takes less than a second.")
@click.option("--alerts", "alerts_only", is_flag=True, help="Only send a trial message to each address of [alerts].")
@json_option
def check(*, no_engine: bool, alerts_only: bool, as_json: bool) -> int:
    """Check the configuration, the machine, the engine, the sources."""
    from daemon.cli import check, output

    if alerts_only:
        diagnostics = check.send_trials(read_config(), os.environ)
    else:
        diagnostics = check.check(read_config(), os.environ, with_engine=not no_engine)
    if as_json:
        output.print_json([d.as_record() for d in diagnostics])
    else:
        print("\n".join(d.as_line() for d in diagnostics))
    return A_BATCH_FAILED if any(d.is_bad for d in diagnostics) else FINE


@verb("status")
@json_option
def status(*, as_json: bool) -> None:
    """Show what needs you, what runs, and what gold shows."""
    from daemon.cli import output, show_status, status

    config, ledger = open_for_reading()
    current = status.status(config, ledger)
    if as_json:
        output.print_json(current)
    else:
        print("\n".join(show_status.lines(current)))


@verb("tail")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Number of earlier lines to start with.",
)
@click.option("--no-follow", is_flag=True, help="Stop at the end; do not wait for new lines.")
@click.option("--json", "as_json", is_flag=True, help="Print the lines of the log unchanged.")
def tail(lines: int, *, no_follow: bool, as_json: bool) -> None:
    """Follow the log, one readable line for each event."""
    from daemon.cli import output, tail

    path = read_config().log.path
    if not path.exists():
        output.print_message(f"no log yet at {output.short_path(path)}; the daemon writes it: lakegate run")
    for line in tail.follow(path, lines, forever=not no_follow):
        print(line if as_json else tail.format_line(line), flush=True)


@verb("service")
@click.argument("action", type=click.Choice(["print", "install"]))
@dry_run_option
@yes_option
def service(action: str, *, dry_run: bool, yes: bool) -> None:
    """Print or install the systemd unit."""
    from daemon.cli import systemd_unit

    text = systemd_unit.text(read_config())
    if action == "print":
        print(text, end="")
        return
    then = "systemctl daemon-reload && systemctl enable --now lakegate"
    if systemd_unit.user_is_missing():
        then = f"useradd --system --home-dir {systemd_unit.STATE} {systemd_unit.USER} && {then}"
    if confirm(f"{systemd_unit.TARGET} will be written; then run: {then}", dry_run=dry_run, yes=yes):
        systemd_unit.install(text)

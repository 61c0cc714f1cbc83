"""The verbs for the pages: report, ui."""

from pathlib import Path

import click

from daemon.cli.exit_codes import FINE
from daemon.cli.verb import read_config, verb


@verb("report")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("lakegate-report.html"),
    show_default=True,
    help="The file to write.",
)
@click.option("--batches", type=click.IntRange(1, 500), default=60, show_default=True, help="Newest batches to show.")
@click.option("--no-samples", is_flag=True, help="Show no rejected rows and no lines of the log.")
def report(out: Path, batches: int, *, no_samples: bool) -> None:
    """Write all pages as one HTML file, which needs no server."""
    from daemon.cli.output import short_path, size
    from daemon.pages import report
    from daemon.pages.gather import gather

    facts = gather(read_config(), batches=batches, samples=not no_samples)
    written = report.write(facts, out.absolute())
    shown = len(facts.ledger.batches)
    of_all = f" of {facts.ledger.total:,}" if facts.ledger.total > shown else ""
    print(f"{short_path(out.absolute())}: {size(written)}, the newest {shown}{of_all} batches")


@verb("ui")
@click.option("--listen", metavar="HOST:PORT", help="The address to serve at [127.0.0.1:8765, or [ui] listen].")
def ui(listen: str | None) -> int:
    """Serve the pages and the tables over HTTP, live and read-only."""
    from dataclasses import replace

    from daemon.cli.output import print_message
    from daemon.config.consistency import ui_problem
    from daemon.config.value_types import ADDRESS, InvalidValueError

    config = read_config()
    if listen is not None:
        try:
            config = replace(config, ui=replace(config.ui, listen=ADDRESS.parse(listen)))
        except InvalidValueError:
            raise click.BadParameter(f"{listen} is not {ADDRESS.phrase}", param_hint="--listen") from None
    if problem := ui_problem(config.ui):
        raise click.UsageError(problem)
    try:
        from daemon.pages import server
    except ModuleNotFoundError as error:
        raise click.UsageError(f"the pages need {error.name}; install it: pip install 'lakegate[ui]'") from None
    print_message(f"http://{config.ui.listen}/ shows {config.path.parent}. Stop with Ctrl-C.")
    try:
        server.run(config)
    except OSError as error:
        reason = f"{config.ui.listen} cannot be served: {error.strerror or error}"
        raise click.UsageError(f"{reason}; name another address with --listen") from None
    return FINE

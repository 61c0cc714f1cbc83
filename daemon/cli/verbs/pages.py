"""The verbs for the pages: report, ui."""

from pathlib import Path

import click

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
    """Write the pages as one HTML file, which needs no server and no network."""
    from daemon.cli.output import short_path, size
    from daemon.pages import report
    from daemon.pages.gather import gather

    facts = gather(read_config(), batches=batches, samples=not no_samples)
    written = report.write(facts, out.absolute())
    shown = len(facts.ledger.batches)
    of_all = f" of {facts.ledger.total:,}" if facts.ledger.total > shown else ""
    print(f"{short_path(out.absolute())}: {size(written)}, the newest {shown}{of_all} batches")

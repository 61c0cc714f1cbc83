"""The verb for other programs' monitoring: metrics."""

import sys

from daemon.cli.verb import read_config, verb


@verb("metrics")
def metrics() -> None:
    """Print the metrics for Prometheus, as text."""
    from daemon.metrics import render

    sys.stdout.write(render(read_config()).decode())

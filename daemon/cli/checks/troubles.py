"""Checks the troubles that the ledger has on record, each with its cure."""

from daemon.cli.checks.diagnostic import Diagnostics, bad, note, ok
from daemon.cli.output import format_time, plural
from daemon.config.config import Config
from daemon.files.lock_holder import lock_holder
from daemon.ledger.ledger import Ledger


def troubles(config: Config) -> Diagnostics:
    """Checks whether a trouble is open. Without a daemon, its troubles are those of the last run, which may be over."""
    is_running = lock_holder(config.landing.path) is not None
    ledger = Ledger.reading(config.ledger_path)
    found = ledger.troubles()
    ledger.close()
    if not found:
        yield ok("troubles", "none is open")
    for trouble in found:
        met = f"since {format_time(trouble.since)}, {plural(trouble.tries, 'try', 'tries')}"
        subject = (
            "" if trouble.subject in trouble.reason or trouble.kind.startswith("worker") else f"{trouble.subject}: "
        )
        sentence = f"{subject}{trouble.reason} ({met}); {trouble.cure}"
        yield bad("troubles", sentence) if is_running else note("troubles", f"when the daemon ran last: {sentence}")

"""Checks whether this machine can do the work that the configuration asks for. Changes nothing."""

from collections.abc import Mapping
from dataclasses import replace

from daemon.cli.checks import engine, folders, installation, lake, readers, troubles
from daemon.cli.checks.diagnostic import Diagnostic, Diagnostics, bad, ok
from daemon.config.config import Config
from daemon.text import one_line
from pipeline import contract

ALERT_SECONDS = 60.0  # a slow mail server answers within a minute


def check(config: Config, environ: Mapping[str, str], *, with_engine: bool = False) -> list[Diagnostic]:
    """Returns the diagnostics of all checks, without secrets.

    `with_engine` also starts the engine and tries the declarations, on a scratch lake.
    """
    checks: dict[str, Diagnostics] = {
        "python": installation.python(),
        "sources": installation.sources(config),
        "engine": engine.engine(config, environ),
        "folders": folders.folders(config),
        "moves": folders.moves(config),
        "space": folders.space(config),
        "store": lake.store(config),
        "lease": folders.lease(config),
        "ledger": folders.file_systems(config),
        "commands": installation.commands(config, environ),
        "daemon": lake.writers(config),
        "troubles": troubles.troubles(config),
        "tables": lake.tables(config),
        "readers": readers.readers(config),
    }
    found: list[Diagnostic] = []
    for subject, diagnostics in checks.items():
        found += _safely(subject, diagnostics, "looked at")
    # Without a Java or a package the engine cannot start, and the sentence that names the missing part is clearer.
    is_ready = not any(d.is_bad and d.subject in ("python", "engine", "java", "jars") for d in found)
    if with_engine and is_ready:
        found += _safely("engine", engine.trials(config), "tried")
    secrets = config.secrets(environ)
    return [replace(d, sentence=contract.hide_secrets(d.sentence, secrets)) for d in found]


def send_trials(config: Config, environ: Mapping[str, str]) -> list[Diagnostic]:
    """Sends a trial message to each address of [alerts]. Returns for each whether it was taken, without secrets."""
    from daemon.alerts.direct import send_to_all
    from daemon.alerts.trouble_alerts import trial_alert

    urls = config.alerts.every_url
    if not urls:
        return [bad("alerts", 'there is no address; add one: [alerts] urls = ["mailto://…"]')]
    secrets = config.secrets(environ)
    tried = send_to_all(urls, trial_alert(config), ALERT_SECONDS)
    return [
        bad("alerts", contract.hide_secrets(f"{name} did not take the trial message: {reason}", secrets))
        if reason
        else ok("alerts", contract.hide_secrets(f"{name} took the trial message", secrets))
        for name, reason in tried
    ]


def _safely(subject: str, diagnostics: Diagnostics, attempt: str) -> Diagnostics:
    try:
        yield from diagnostics
    except Exception as error:  # noqa: BLE001 - a check that fails is a diagnostic, and the other checks still run
        yield bad(subject, f"cannot be {attempt}: {one_line(error, most=None)}")

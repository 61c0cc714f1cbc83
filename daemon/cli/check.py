"""Checks whether this machine can do the work that the configuration asks for. Changes nothing."""

from collections.abc import Mapping
from dataclasses import replace

from daemon.cli.checks import engine, folders, installation, lake, readers, troubles
from daemon.cli.checks.diagnostic import Diagnostic, Diagnostics, bad
from daemon.config.config import Config
from daemon.text import one_line
from pipeline import contract


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


def _safely(subject: str, diagnostics: Diagnostics, attempt: str) -> Diagnostics:
    try:
        yield from diagnostics
    except Exception as error:  # noqa: BLE001 - a check that fails is a diagnostic, and the other checks still run
        yield bad(subject, f"cannot be {attempt}: {one_line(error, most=None)}")

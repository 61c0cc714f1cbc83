"""Checks Python, the declarations of the sources, the command after publishing, and the alert addresses."""

import shutil
import sys
from collections.abc import Mapping

from daemon.cli.checks.diagnostic import Diagnostics, bad, ok
from daemon.cli.output import plural
from daemon.config.config import Config
from daemon.text import join_names
from pipeline import contract

OLDEST_PYTHON = (3, 11)


def python() -> Diagnostics:
    """Checks the version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        yield bad("python", f"Python {version} is too old; install with Python {oldest} or newer")
    else:
        yield ok("python", f"{version}, {sys.executable}")


def sources(config: Config) -> Diagnostics:
    """Checks whether the declarations of each source can be loaded."""
    every = contract.catalog(config.settings.source_paths, config.settings.exclude)
    usable = [s for s in every if not s.broken]
    broken = [s for s in every if s.broken]
    if usable:
        yield ok("sources", ", ".join(f"{s.name} ({plural(len(s.feeds), 'feed')})" for s in usable))
    for source in broken:
        yield bad("sources", f"{source.name} is left out: {source.broken}")
    if not usable:
        cause = "" if broken else ": the configuration excludes the shipped ones, and [sources] paths names no other"
        yield bad("sources", f"no source is left, so no file can be processed{cause}")


def commands(config: Config, environ: Mapping[str, str]) -> Diagnostics:
    """Checks the program of `on_published` and the addresses of alerts."""
    if config.dispatch.on_published:
        yield from _on_published(config.dispatch.on_published, environ)
    if config.alerts.every_url:
        yield from _alerts(config)


def _on_published(command: tuple[str, ...], environ: Mapping[str, str]) -> Diagnostics:
    # Imports the daemon's log too, which most checks do not need.
    from daemon.finish.on_published import program

    if shutil.which(command[0], path=environ.get("PATH")):
        yield ok("command", f"on_published: {program(command)}")
        return
    is_one_text = program(command) != command[0]
    hint = "each argument is a text of its own" if is_one_text else "correct [dispatch] on_published"
    yield bad("command", f"on_published: there is no program {program(command)}; {hint}")


def _alerts(config: Config) -> Diagnostics:
    from daemon.alerts.address import Address

    addresses = [Address(url, number) for number, url in enumerate(config.alerts.every_url, start=1)]
    if wrong := [a.name for a in addresses if not a.is_understood]:
        yield bad("alerts", f"{join_names(wrong)}: not understood by apprise; correct it in [alerts]")
    else:
        yield ok("alerts", join_names([a.name for a in addresses], most=5))
    known = {s.name for s in contract.catalog(config.settings.source_paths, config.settings.exclude)}
    if unknown := sorted(config.alerts.routes.keys() - known):
        yield bad(
            "alerts", f"[alerts] routes names {join_names(unknown)}; there are {join_names(sorted(known), most=9)}"
        )
    if silent := sorted(name for name in known if not config.alerts.urls_of(name)):
        yield bad("alerts", f"alerts about {join_names(silent)} have no address; add one to [alerts] urls or routes")

"""Checks the lake: which processes write to it, commits of other programs, and rows of older definitions."""

from typing import TYPE_CHECKING

from daemon.cli.checks.diagnostic import Diagnostics, bad, note, ok
from daemon.cli.output import plural
from daemon.cli.status import find_writers
from daemon.config.config import Config
from daemon.files.lock_holder import lock_holder
from pipeline import contract

if TYPE_CHECKING:
    from pipeline.reader import PublishedVersions


def writers(config: Config) -> Diagnostics:
    """Checks whether the daemon runs, and whether a process writes to the lake."""
    daemon = lock_holder(config.landing.path)
    yield ok("daemon", f"running, process {daemon.pid}" if daemon else "not running")
    worker, other = find_writers(daemon, config.settings.lake)
    # Without a daemon, its worker is a survivor that ends by itself.
    writer = other if daemon else worker
    if writer is not None:
        sentence = f"process {writer}, or a program that it started, still writes to the lake"
        yield note("lake", f"{sentence}; {'the' if daemon else 'a new'} worker waits for its end")


def store(config: Config) -> Diagnostics:
    """Checks whether an object store answers and keeps the conditions that a lake needs; it writes small objects."""
    place = config.settings.lake
    if not isinstance(place, contract.StorePath):
        return
    if refusal := contract.probe_store(place):
        yield bad("store", refusal)
    else:
        yield ok("store", f"{place.root} answers, and keeps the conditions of writes")


def tables(config: Config) -> Diagnostics:
    """Checks the versions of the published tables and the definitions that their rows follow."""
    lake = config.settings.lake
    if not (lake / "ops" / "batches").is_dir():
        yield ok("tables", "nothing is published yet")
        return
    from pipeline import reader

    published = reader.published(lake)
    yield ok("tables", f"{len(published.versions)} published")
    if find_writers(None, lake) == (None, None):  # a batch at work makes newer versions, too
        yield from _unpublished_versions(published)
    yield from _outdated(config)


def _unpublished_versions(published: "PublishedVersions") -> Diagnostics:
    from pipeline import reader

    journals = list((published.lake / "_journal").glob("*.json"))
    if journals:
        attempts = plural(len(journals), "unfinished attempt")
        yield note("tables", f"{attempts}: undone when the daemon starts its next worker")
        return
    for table, newest in reader.newer_versions(published).items():
        problem = f"{table} has version {newest}, published is {published.versions[table]}: another program's commit"
        effect = "batches of its source fail until you adopt it or undo it: docs/how-to/commits-of-others.md"
        yield bad("tables", f"{problem}; {effect}")


def _outdated(config: Config) -> Diagnostics:
    from pipeline.reader import outdated

    for source, tables in outdated.outdated_by_source(config.settings).items():
        if tables is None:
            yield note("tables", f"{source} is published, and no source of this name is declared any more")
            continue
        for sentence in outdated.sentences(tables):
            yield note("tables", sentence)

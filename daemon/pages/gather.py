"""Gathers all facts for the pages at one moment. It writes nothing."""

import datetime as dt

from daemon.clock import Clock
from daemon.config.config import Config
from daemon.files.lock_holder import lock_holder
from daemon.ledger.ledger_reader import LedgerReader
from daemon.pages import ledger_facts
from daemon.pages.facts import Facts, LakeFacts, LedgerFacts
from pipeline.contract import catalog

NEWEST = 60  # batches that the pages show


def gather(config: Config, *, batches: int = NEWEST, samples: bool = True, clock: Clock | None = None) -> Facts:
    """Returns the facts about the newest batches and all published tables, read in this process."""
    from daemon.pages import lake_facts  # loads DuckDB and the Delta library, which a server leaves to another process

    ledger = read_ledger(config, batches, (clock or Clock()).now())
    ids = [b.batch_id for b in ledger.batches]
    return with_lake(config, ledger, lake_facts.gather(config.settings, ids, samples=samples), clock, samples=samples)


def read_ledger(config: Config, batches: int, now: dt.datetime) -> LedgerFacts:
    """Returns the facts that the ledger holds. Raises SetupError, and LedgerOutOfReach."""
    sources = [s.name for s in catalog(config.settings.source_paths, config.settings.exclude)]
    daemon = lock_holder(config.landing.path)
    reader = LedgerReader.reading(config.ledger_path)
    try:
        return ledger_facts.gather(
            reader,
            batches,
            sources,
            now,
            missing_file_timeout_seconds=config.landing.missing_file_timeout_seconds,
            daemon_since=daemon.since if daemon else None,
        )
    finally:
        reader.close()


def with_lake(
    config: Config,
    ledger: LedgerFacts,
    lake: LakeFacts,
    clock: Clock | None = None,
    *,
    samples: bool = True,
    is_lake_behind: bool = False,
) -> Facts:
    """Returns the facts of ledger and lake together, with the lines of the log and the state of the daemon."""
    daemon = lock_holder(config.landing.path)
    return Facts(
        at=(clock or Clock()).now(),
        config=config,
        ledger=ledger,
        lake=lake,
        daemon_runs=daemon is not None,
        daemon_since=daemon.since if daemon else None,
        samples=samples,
        is_lake_behind=is_lake_behind,
        logs=ledger_facts.log_lines(config.log.path, [b.batch_id for b in ledger.batches]) if samples else {},
    )

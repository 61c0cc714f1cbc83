"""Finds data files in the landing folder that no batch names: which a touch file may take, and which nothing can."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from daemon.batch import State
from daemon.files.entry_errors import is_of_one_entry, unforeseen_reason
from daemon.intake.feed_match import feeds_of, set_aside
from daemon.landing.scan import Listing
from daemon.ledger.ledger import Ledger
from daemon.text import escape
from pipeline.contract import CatalogSource

MOST_REPORTED = 50


def files_set_aside(
    listing: Listing,
    catalogue: Sequence[CatalogSource],
    *,
    quiet_seconds: float,
    on_failure: Callable[[str], None],
    folder: Path,
) -> Mapping[str, str]:
    """Returns the data files that look like deliveries and that no trigger can take, by name and each with the reason.

    Files that do not change any more are reported.
    """
    aside = {name: reason for name in listing.data if (reason := _reason(name, catalogue))}
    settled = [name for name in aside if all(s.unchanged_seconds >= quiet_seconds for s in listing.data[name])]
    for name in settled[:MOST_REPORTED]:
        on_failure(f"{escape(name)} in {folder} is set aside: it {aside[name]}")
    return aside


def unclaimed_files(
    listing: Listing, aside: Mapping[str, str], ledger: Ledger, catalogue: Sequence[CatalogSource]
) -> list[str]:
    """Returns the data files of exactly one feed that no waiting batch names, sorted."""
    named = {f.name for b in ledger.batches(State.WAITING) for f in b.data_files}
    free = (n for n in listing.data if n not in named and n not in aside)
    return sorted(n for n in free if len(feeds_of(n, catalogue)) == 1)


def _reason(name: str, catalogue: Sequence[CatalogSource]) -> str:
    try:
        return set_aside(name, catalogue)
    except Exception as error:
        if not is_of_one_entry(error):
            raise
        return unforeseen_reason(error)

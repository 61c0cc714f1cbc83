"""Matches file names with the feeds of the declared sources. Pure: names are compared as text, no file is opened."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from daemon.intake.admission import name_error, spelling_difference
from daemon.intake.request import TriggerError
from daemon.text import escape, join_names
from pipeline.contract import CatalogSource, named_revision, plain_name


def match_feeds(names: Sequence[str], catalogue: Sequence[CatalogSource]) -> tuple[str, dict[str, str]]:
    """Returns the source of these files, and the feed of each.

    Raises TriggerError where a name has no feed or two, or where the files have two sources.
    """
    feeds: dict[str, str] = {}
    sources: dict[str, str] = {}  # source -> its first file
    for name in names:
        found = feeds_of(name, catalogue)
        if not found:
            raise TriggerError(f"{escape(name)} matches no feed{_no_feed(name, catalogue)}")
        if len(found) > 1:
            several = ", ".join(f"{source}.{feed}" for source, feed in found)
            raise TriggerError(f"{escape(name)} matches more than one feed: {several}")
        source, feeds[name] = found[0]
        sources.setdefault(source, name)
    if len(sources) > 1:
        files = " and ".join(f"{escape(name)} of {source}" for source, name in list(sources.items())[:2])
        rule = "one batch is of one source, land a trigger for each"
        raise TriggerError(f"the files belong to {len(sources)} sources: {files}; {rule}")
    return next(iter(sources), ""), feeds


def feeds_of(name: str, catalogue: Sequence[CatalogSource]) -> list[tuple[str, str]]:
    """Returns every (source, feed) whose pattern the name matches, of a packed file also without its ending."""
    spellings = {name, plain_name(name)}
    return [(s.name, f.name) for s in catalogue for f in s.feeds if any(fnmatchcase(n, f.files) for n in spellings)]


def misspelling_of(name: str, catalogue: Sequence[CatalogSource]) -> str:
    """Returns the difference where only its spelling keeps a name from matching a feed, and the remedy; else ''."""
    for pattern in (f.files for s in catalogue for f in s.feeds):
        for spelled in dict.fromkeys((name, plain_name(name))):
            if apart := spelling_difference(spelled, pattern, fnmatchcase):
                return f"{apart}: {pattern}; call the file so, and in its trigger, or declare the feed's files so"
    return ""


def set_aside(name: str, catalogue: Sequence[CatalogSource]) -> str:
    """Returns why no trigger can take a file that looks like a delivery; '' for all other files."""
    found = feeds_of(name, catalogue)
    spelled = "" if found else misspelling_of(name, catalogue)
    if (found or spelled) and (wrong := name_error(name)):
        return f"{wrong}; rename the file"
    return f"matches no feed: {spelled}" if spelled else ""


def revision_in(names: Sequence[str]) -> int:
    """Returns the highest `_v2` or `_r2` in the names, else 0."""
    return max((named_revision(name)[1] for name in names), default=0)


def _no_feed(name: str, catalogue: Sequence[CatalogSource]) -> str:
    if spelled := misspelling_of(name, catalogue):
        return f": {spelled}"
    patterns = join_names((f.files for s in catalogue for f in s.feeds), most=6)
    packed = "; a packed file has its ending behind that" if plain_name(name) != name else ""
    broken = [s.name for s in catalogue if s.broken]
    left_out = f"; what {join_names(broken)} would take is not known, `lakegate check` says why" if broken else ""
    return f"; feeds take {patterns}{packed}{left_out}"

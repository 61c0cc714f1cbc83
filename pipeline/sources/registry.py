"""The list of sources: the shipped ones and those in folders outside of the package.

It loads declarations only, never a transformation or an engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.model import Source
from pipeline.sources import globs
from pipeline.sources.clickstream.feeds import CLICKSTREAM
from pipeline.sources.crm_erp.feeds import CRM_ERP
from pipeline.sources.external import SourceLoadError, line_of, load
from pipeline.sources.retail.feeds import RETAIL

SOURCES: tuple[Source, ...] = (RETAIL, CRM_ERP, CLICKSTREAM)  # a new source in the package is one entry here


class NoSuchSource(LookupError):
    """No source of this name can be used; the message gives the reason."""


@dataclass(frozen=True, kw_only=True)
class LoadedSources:
    """The sources that can be used, and for each folder that cannot be loaded its name and a sentence."""

    sources: tuple[Source, ...]
    broken: tuple[tuple[str, str], ...] = ()


@cache
def load_sources(paths: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> LoadedSources:
    """Returns the shipped sources except those `exclude`, then those of the folders `paths`.

    A process loads each folder once.
    """
    sources = [s for s in SOURCES if s.name not in exclude]
    broken = list[tuple[str, str]]()
    for folder in map(Path, paths):
        try:
            sources.append(_load_beside(folder, sources))
        except SourceLoadError as error:
            broken.append((folder.name, str(error)))
    return LoadedSources(sources=tuple(sources), broken=tuple(broken))


def all_sources(paths: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> tuple[Source, ...]:
    """Returns every source that can be used."""
    return load_sources(paths, exclude).sources


def source(name: str, paths: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Source:
    """Returns the source of this name. Raises NoSuchSource."""
    loaded = load_sources(paths, exclude)
    for one in loaded.sources:
        if one.name == name:
            return one
    why = next(
        (sentence for broken, sentence in loaded.broken if broken == name),
        "config.toml names no folder for it under [sources] paths",
    )
    raise NoSuchSource(f"there is no source {name}: {why}")


def _load_beside(folder: Path, others: Sequence[Source]) -> Source:
    """Returns the source of a folder. Raises SourceLoadError if its name or a file glob is that of another source."""
    if any(other.name == folder.name for other in others):
        is_shipped = any(s.name == folder.name for s in others if s in SOURCES)
        hint = f"; `exclude = ['{folder.name}']` leaves out the one that ships" if is_shipped else ""
        raise SourceLoadError(f"{folder}: there is another source of the name {folder.name}{hint}")
    loaded = load(folder)
    for feed in loaded.feeds:
        for other in others:
            for other_feed in other.feeds:
                if globs.overlap(feed.files, other_feed.files):
                    raise SourceLoadError(
                        f"{line_of(folder, feed.files)}: {feed.files} meets {other_feed.files}, "
                        f"the files of {other.name}'s feed {other_feed.name}; a name may match one feed only. "
                        f"Narrow it, or leave {other.name} out ([sources] exclude)"
                    )
    return loaded

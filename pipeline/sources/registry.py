"""The sources of this lake: those that ship, a line each, and those of folders elsewhere. Loads declarations only, never transformations or Spark."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.model import Source
from pipeline.sources.checks import meeting
from pipeline.sources.clickstream.feeds import CLICKSTREAM
from pipeline.sources.crm_erp.feeds import CRM_ERP
from pipeline.sources.external import SourceLoadError, load, place_of
from pipeline.sources.retail.feeds import RETAIL

SOURCES: tuple[Source, ...] = (RETAIL, CRM_ERP, CLICKSTREAM)


class NoSuchSource(LookupError):
    """No source of this name can be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class LoadedSources:
    """What was found: the sources that can be used, and, as (name, sentence), the folders that cannot."""

    sources: tuple[Source, ...]
    broken: tuple[tuple[str, str], ...] = ()


@cache
def found(paths: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> LoadedSources:
    """Finds the sources that ship, but for those to `exclude`, then those of the folders `paths`. Each folder is read once a process."""
    sources, broken = [s for s in SOURCES if s.name not in exclude], list[tuple[str, str]]()
    for folder in map(Path, paths):
        try:
            sources.append(_beside(folder, sources))
        except SourceLoadError as error:
            broken.append((folder.name, str(error)))
    return LoadedSources(sources=tuple(sources), broken=tuple(broken))


def all_sources(paths: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> tuple[Source, ...]:
    """Tells every source that can be used."""
    return found(paths, exclude).sources


def source(name: str, paths: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Source:
    """Tells the source of this name. Raises NoSuchSource."""
    every = found(paths, exclude)
    for one in every.sources:
        if one.name == name:
            return one
    why = next(
        (sentence for broken, sentence in every.broken if broken == name),
        "config.toml names no folder for it under [sources] paths",
    )
    raise NoSuchSource(f"there is no source {name}: {why}")


def _beside(folder: Path, others: Sequence[Source]) -> Source:
    if any(other.name == folder.name for other in others):
        shipped = any(s.name == folder.name for s in others if s in SOURCES)
        hint = f"; `exclude = ['{folder.name}']` leaves out the one that ships" if shipped else ""
        raise SourceLoadError(f"{folder}: there is another source of the name {folder.name}{hint}")
    one = load(folder)
    for feed in one.feeds:
        for other in others:
            for theirs in (f for f in other.feeds if meeting(feed.files, f.files)):
                place, taken = (
                    place_of(folder, feed.files),
                    f"{theirs.files}, the files of {other.name}'s feed {theirs.name}",
                )
                raise SourceLoadError(
                    f"{place}: {feed.files} meets {taken}; a name may match one feed only. Narrow it, or leave {other.name} out ([sources] exclude)"
                )
    return one

"""The catalog: the sources with their feeds, file globs and configuration keys, read from the declarations alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.contract.settings import Settings
from pipeline.model import Setting, Source


@dataclass(frozen=True, kw_only=True)
class CatalogFeed:
    """A feed as the daemon needs it to match files."""

    name: str
    files: str  # glob, compared as text
    is_streamed: bool = False  # its files need no trigger while the stream of the source is on


@dataclass(frozen=True, kw_only=True)
class CatalogSource:
    """A source. One that cannot be loaded has no feeds, and `broken` is a sentence with the place and the cause."""

    name: str
    feeds: tuple[CatalogFeed, ...]
    settings: tuple[Setting, ...] = ()
    stream: str = ""  # the configuration key that turns the stream on; empty for a source without a stream
    broken: str = ""


def catalog(paths: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> tuple[CatalogSource, ...]:
    """Returns every source, shipped or in a folder of `paths`, except those `exclude`; the broken ones come last.

    The parameters are `Settings.source_paths` and `Settings.exclude`.
    """
    from pipeline.sources import registry  # loads all declarations, which not every user of the contract needs

    loaded = registry.load_sources(paths, exclude)
    usable = tuple(_catalog_source(source) for source in loaded.sources)
    return (*usable, *(CatalogSource(name=name, feeds=(), broken=sentence) for name, sentence in loaded.broken))


def streaming(sources: Iterable[CatalogSource], settings: Settings) -> tuple[CatalogSource, ...]:
    """Returns the sources whose stream is turned on."""
    return tuple(s for s in sources if s.stream and settings.sources.get(s.name, {}).get(s.stream) is True)


def setting_values(source: Source, settings: Settings) -> dict[str, Any]:
    """Returns the values of a source's settings, with the declared default for each key that config.toml lacks."""
    return {s.name: settings.sources.get(source.name, {}).get(s.name, s.default) for s in source.settings}


def _catalog_source(source: Source) -> CatalogSource:
    streamed = source.stream.feed if source.stream else ""
    return CatalogSource(
        name=source.name,
        feeds=tuple(CatalogFeed(name=f.name, files=f.files, is_streamed=f.name == streamed) for f in source.feeds),
        settings=source.settings,
        stream=source.stream.setting.name if source.stream else "",
    )

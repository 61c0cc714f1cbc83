"""Writes the folder of a new source with the declarations that its samples suggest. It never changes existing files."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.contract import Settings
from pipeline.scaffold.infer_schema import ProposedFeed, SampleError, propose, read_sample
from pipeline.sources import globs, registry
from pipeline.sources.checks import RESERVED_NAMES
from pipeline.sources.external import SOURCE_NAME, SourceLoadError, load


@dataclass(frozen=True, kw_only=True)
class Draft:
    """The folder and feeds that were written, and notes about the samples for a person."""

    folder: Path
    feeds: tuple[str, ...]
    columns: int
    notes: tuple[str, ...]


def draft(name: str, files: Sequence[Path], into: Path, settings: Settings | None) -> Draft:
    """Writes a draft of the source `name` into a new folder of that name in `into`.

    `settings` name the existing sources; without settings these are the shipped ones. Raises SampleError. If a name or
    a sample is the cause, nothing was written.
    """
    folder = into.absolute() / name
    _check_name(name, folder)
    if not files:
        raise SampleError("name a sample at least: --from FILE…")
    samples = [read_sample(path) for path in files]
    feeds = propose(samples)
    existing = registry.load_sources(settings.source_paths, settings.exclude) if settings else registry.load_sources()
    _check_unused(name, feeds, existing)
    folder.mkdir(parents=True)
    (folder / "feeds.py").write_text(module_text(name, feeds))
    try:
        load(folder)
    except SourceLoadError as error:
        raise SampleError(f"{error}; correct it there") from error
    notes = [s.left_out for s in samples if s.left_out]
    notes += [
        f"{f.name}: {', '.join(map(repr, f.undeclared))} cannot be declared and will be kept in _extra"
        for f in feeds
        if f.undeclared
    ]
    return Draft(
        folder=folder,
        feeds=tuple(f.name for f in feeds),
        columns=sum(len(f.columns) for f in feeds),
        notes=tuple(notes),
    )


def module_text(name: str, feeds: Sequence[ProposedFeed]) -> str:
    """Returns the text of the module that declares these feeds."""
    imports = sorted({"Feed", "Source", *(_stored_as(f)[0].partition("(")[0] for f in feeds)})
    blocks = ["\n".join(_feed(f)) for f in feeds]
    feed_names = ", ".join(f.name for f in feeds) + ("," if len(feeds) == 1 else "")
    return "\n".join((
        f'"""The feeds of {name}, drafted from samples. Check each value marked `proposed`. Declarations only."""',
        "",
        f"from pipeline.model import {', '.join(imports)}",
        "",
        "\n\n".join(blocks),
        "",
        f'{name.upper()} = Source(name="{name}", feeds=({feed_names}))',
        "",
    ))  # fmt: skip


def _feed(feed: ProposedFeed) -> Iterator[str]:
    stored_as, why = _stored_as(feed)
    yield f"{feed.name} = Feed("
    yield f'    name="{feed.name}",'
    yield f"    files={json.dumps(feed.files.value, ensure_ascii=False)},  # proposed: {feed.files.why}"
    yield "    columns=("
    for column in feed.columns:
        declared = f"{column.name} {column.type}{' NOT NULL' if column.is_required else ''}, "
        yield f'        "{declared}"  # proposed: {column.why}'
    yield "    ),"
    yield f"    key={_names(feed.key or _all_columns(feed))},  # proposed: {feed.key_why or 'no columns are unique'}"
    yield f"    stored_as={stored_as},  # proposed: {why}"
    if optional := [c.name for c in feed.columns if c.is_optional]:
        yield f"    optional={_names(optional)},  # proposed: a sample lacks it"
    yield ")"


def _stored_as(feed: ProposedFeed) -> tuple[str, str]:
    if not feed.key:
        return "Append()", "without a key, every distinct row is stored"
    if feed.event_time:
        return (
            f'Scd2(sequence_by="{feed.event_time}")',
            f"{feed.event_time} looks like the time from which a row is valid; Append() if rows are events that stay",
        )
    return "Scd1()", "no column looks like an event time, so the newest delivery has the row of a key"


def _all_columns(feed: ProposedFeed) -> Sequence[str]:
    return [c.name for c in feed.columns if c.is_required] or [feed.columns[0].name]


def _names(names: Sequence[str]) -> str:
    return f"({', '.join(map(json.dumps, names))}{',' if len(names) == 1 else ''})"


def _check_name(name: str, folder: Path) -> None:
    if not SOURCE_NAME.fullmatch(name) or name in RESERVED_NAMES:
        raise SampleError(
            f"{name} cannot be the name of a source: small letters, digits and _, and no section of config.toml"
        )
    if folder.exists():
        raise SampleError(
            f"{folder} is there already; nothing was touched. Choose another name, or another folder with --into"
        )


def _check_unused(name: str, feeds: Sequence[ProposedFeed], existing: registry.LoadedSources) -> None:
    for source in existing.sources:
        if source.name == name:
            raise SampleError(f"there is a source {name} already; choose another name")
        for taken in source.feeds:
            for feed in feeds:
                if globs.overlap(taken.files, feed.files.value):
                    raise SampleError(
                        f"{feed.files.value} ({feed.files.why}) meets {taken.files}, "
                        f"the files of {source.name}'s feed {taken.name}; rename the samples as their files shall be "
                        f"called, or leave {source.name} out ([sources] exclude)"
                    )

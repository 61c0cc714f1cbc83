"""Writes the folder of a new source as its samples suggest it. Never touches what is there."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.contract import Settings
from pipeline.scaffold.infer_schema import ProposedFeed, SampleError, propose, read_sample
from pipeline.sources import registry
from pipeline.sources.checks import TAKEN, meeting
from pipeline.sources.external import NAME, SourceLoadError, load


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What was written, and what is worth knowing of the samples."""

    folder: Path
    feeds: tuple[str, ...]
    columns: int
    notes: tuple[str, ...]


def draft(name: str, files: Sequence[Path], into: Path, settings: Settings | None) -> Draft:
    """Drafts a source into the new folder `into`/`name`. Raises SampleError, having written nothing, where that cannot be done.

    `settings` tell which sources there are already; without any, those that ship.
    """
    folder = into.absolute() / name
    if not NAME.fullmatch(name) or name in TAKEN:
        raise SampleError(
            f"{name} cannot be the name of a source: small letters, digits and _, and no section of config.toml"
        )
    if folder.exists():
        raise SampleError(
            f"{folder} is there already; nothing was touched. Choose another name, or another folder with --into"
        )
    if not files:
        raise SampleError("name a sample at least: --from FILE…")
    samples = [read_sample(path) for path in files]
    feeds = propose(samples)
    _check_free(name, feeds, registry.found(settings.source_paths, settings.exclude) if settings else registry.found())
    folder.mkdir(parents=True)
    (folder / "feeds.py").write_text(text(name, feeds))
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


def text(name: str, feeds: Sequence[ProposedFeed]) -> str:
    """Writes the module that declares these feeds."""
    keeps = sorted({"Feed", "Source", *(_keep(f)[0].partition("(")[0] for f in feeds)})
    blocks = ["\n".join(_feed(f)) for f in feeds]
    listed = ", ".join(f.name for f in feeds) + ("," if len(feeds) == 1 else "")
    return "\n".join((
        f'"""What {name} delivers, as its samples suggest. What is marked `proposed` was guessed: look at it once. Declarations only."""',
        "",
        f"from pipeline.model import {', '.join(keeps)}",
        "",
        "\n\n".join(blocks),
        "",
        f'{name.upper()} = Source(name="{name}", feeds=({listed}))',
        "",
    ))  # fmt: skip


def _feed(feed: ProposedFeed) -> Iterator[str]:
    keep, why = _keep(feed)
    yield f"{feed.name} = Feed("
    yield f'    name="{feed.name}",'
    yield f"    files={json.dumps(feed.files.value, ensure_ascii=False)},  # proposed: {feed.files.why}"
    yield "    columns=("
    for column in feed.columns:
        declared = f"{column.name} {column.type}{' NOT NULL' if column.is_required else ''}, "
        yield f'        "{declared}"  # proposed: {column.why}'
    yield "    ),"
    yield f"    key={_names(feed.key or _everything(feed))},  # proposed: {feed.key_why or 'nothing tells the rows apart'}"
    yield f"    stored_as={keep},  # proposed: {why}"
    if optional := [c.name for c in feed.columns if c.is_optional]:
        yield f"    optional={_names(optional)},  # proposed: not every sample has it"
    yield ")"


def _keep(feed: ProposedFeed) -> tuple[str, str]:
    if not feed.key:
        return "Append()", "every distinct row is kept, for want of a key"
    if feed.event_time:
        return (
            f'Scd2(sequence_by="{feed.event_time}")',
            f"{feed.event_time} looks like the time at which a row began to hold",
        )
    return "Scd1()", "no column looks like the time of an event: of each key, the row of the newest delivery"


def _everything(feed: ProposedFeed) -> Sequence[str]:
    return [c.name for c in feed.columns if c.is_required] or [feed.columns[0].name]


def _names(names: Sequence[str]) -> str:
    return f"({', '.join(map(json.dumps, names))}{',' if len(names) == 1 else ''})"


def _check_free(name: str, feeds: Sequence[ProposedFeed], found: registry.LoadedSources) -> None:
    for source in found.sources:
        if source.name == name:
            raise SampleError(f"there is a source {name} already; choose another name")
        for theirs in source.feeds:
            for feed in feeds:
                if meeting(theirs.files, feed.files.value):
                    raise SampleError(
                        f"{feed.files.value} ({feed.files.why}) meets {theirs.files}, the files of {source.name}'s feed {theirs.name};"
                        f" rename the samples as their files shall be called, or leave {source.name} out ([sources] exclude)"
                    )

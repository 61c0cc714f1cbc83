"""Turns bare touch files into requests: which data files each stands for, and when they are due. Pure."""

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from daemon.intake.admission import judge_file, spelling
from daemon.intake.feed_match import feeds_of, match_feeds, misspelling_of, revision_in
from daemon.intake.request import BatchRequest, TriggerError
from daemon.landing.scan import SeenFile
from daemon.text import escape, join_names
from pipeline.contract import CatalogSource, plain_name

_Key = tuple[str, dt.date]  # source, batch date


class _DataFile(NamedTuple):
    name: str
    feed: str
    key: _Key  # that of its batch
    remark: str  # where its date comes from, if not from its name


@dataclass(frozen=True, kw_only=True)
class TouchFile:
    """A touch file with the data files that it stands for. A streamed data file is its own touch file."""

    seen_file: SeenFile
    data_files: tuple[_DataFile, ...] = ()
    refused: tuple[str, ...] = ()  # sentences about data files that cannot be taken
    left_out: str = ""  # a sentence about data files that no trigger can take
    is_streamed: bool = False


def files_for_touch(
    touch: str, present: Collection[str], unclaimed: Sequence[str], catalogue: Sequence[CatalogSource]
) -> tuple[str, ...]:
    """Returns the data files that a touch file of this name stands for: the one in its name, else all unclaimed."""
    stem = touch.rpartition(".")[0]
    # A touch file that is named like a packed file, orders.csv.gz, is about that file and not about orders.csv.
    for candidate in (stem, touch) if plain_name(touch) == touch else (touch, stem):
        if candidate and (candidate in present or _is_like_data(candidate, catalogue)):
            return (candidate,)
    return tuple(unclaimed)


def to_touch_file(
    seen_file: SeenFile,
    names: Sequence[str],
    catalogue: Sequence[CatalogSource],
    today: dt.date,
    *,
    in_name: bool = False,
    left_out: str = "",
    is_streamed: bool = False,
) -> TouchFile:
    """Returns a touch file with the batch of each data file that it stands for, or with the reason against it."""
    data_files = list[_DataFile]()
    refused = list[str]()
    for name in names:
        try:
            source, feeds = match_feeds([name], catalogue)
        except TriggerError as error:
            refused.append(str(error))
            continue
        verdict = judge_file(name, seen_file.name, seen_file.mtime, today, in_name=in_name)
        if verdict.batch_date:
            data_files.append(_DataFile(name, feeds[name], (source, verdict.batch_date), verdict.remark))
        else:
            refused.append(f"{escape(name)} {verdict.wrong}")
    return TouchFile(
        seen_file=seen_file,
        data_files=tuple(data_files),
        refused=tuple(refused),
        left_out=left_out,
        is_streamed=is_streamed,
    )


def due_requests(
    touch_files: Sequence[TouchFile], *, quiet_seconds: float, max_wait_seconds: float
) -> tuple[BatchRequest, ...]:
    """Returns the requests whose touch files have not changed for long enough, or have waited the longest time allowed.

    Touch files that share a source and date form one batch. Batches that share a touch file are due together, because
    the file can move only once.
    """
    requests = list[BatchRequest]()
    for together in _group_connected(touch_files):
        members = [touch for group in together.values() for touch in group]
        is_quiet = all(t.seen_file.unchanged_seconds >= quiet_seconds for t in members)
        if is_quiet or any(t.seen_file.age_seconds >= max_wait_seconds for t in members):
            requests += _requests(together)
    return tuple(requests)


def _is_like_data(name: str, catalogue: Sequence[CatalogSource]) -> bool:
    if feeds_of(name, catalogue) or misspelling_of(name, catalogue):
        return True
    # invoices_1.csv.done means invoices_1.csv, also where no feed takes that: it is a mistake of the sender, and not a
    # general signal
    endings = {spelling(PurePosixPath(f.files).suffix) for s in catalogue for f in s.feeds}
    return spelling(PurePosixPath(plain_name(name)).suffix) in endings - {""}


def _group_connected(touch_files: Sequence[TouchFile]) -> list[dict[_Key, list[TouchFile]]]:
    parts: list[dict[_Key, list[TouchFile]]] = []
    for touch in touch_files:
        joined: dict[_Key, list[TouchFile]] = {f.key: [touch] for f in touch.data_files}
        apart = []
        for part in parts:
            if part.keys() & joined.keys():
                joined = {k: [*part.get(k, []), *joined.get(k, [])] for k in {**part, **joined}}
            else:
                apart.append(part)
        parts = [*apart, joined] if joined else parts
    return parts


def _requests(together: Mapping[_Key, Sequence[TouchFile]]) -> Iterator[BatchRequest]:
    moved = set[str]()
    for key, touch_files in sorted(together.items()):
        eldest_first = sorted(touch_files, key=lambda t: -t.seen_file.age_seconds)
        moving = tuple(t.seen_file for t in eldest_first if not t.is_streamed and t.seen_file.name not in moved)
        moved |= {seen_file.name for seen_file in moving}
        feeds = {f.name: f.feed for t in touch_files for f in t.data_files if f.key == key}
        yield BatchRequest(
            source=key[0],
            batch_date=key[1],
            feeds=feeds,
            trigger=eldest_first[0].seen_file.name,
            trigger_files=moving,
            revision=revision_in(list(feeds)),
            notes=tuple(dict.fromkeys(note for t in touch_files for note in _notes(t, key))),
        )


def _notes(touch: TouchFile, key: _Key) -> Iterator[str]:
    files = [f for f in touch.data_files if f.key == key]
    for remark in dict.fromkeys(f.remark for f in files if f.remark):
        yield f"{join_names(f.name for f in files if f.remark == remark)} {remark}"
    for feed in dict.fromkeys(f.feed for f in files):
        names = [f.name for f in files if f.feed == feed]
        if len(names) > 1:
            several = f"{len(names)} files of {feed} of {key[1]}: {join_names(names, most=8)}"
            yield f"{escape(touch.seen_file.name)} stands for {several}"
    if touch.left_out:
        yield touch.left_out

"""Gathers bare touch files: which files each stands for, and which quiet periods are over. Pure: the ages come with the spots."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from daemon.landing import Spot
from daemon.trigger import date_in, feeds_of
from pipeline.contract import CatalogueSource, plain_name

GroupKey = tuple[str, dt.date]  # source, batch date


@dataclass(frozen=True, kw_only=True)
class Touch:
    """A bare touch file and the data files that it stands for. `is_file` is false for a data file that is its own touch."""

    spot: Spot
    names: tuple[str, ...]
    is_file: bool = True


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """One bare batch: the data files that it stands for, and the touch files that move with it."""

    source: str
    batch_date: dt.date
    trigger: str  # its first touch file
    touches: tuple[Touch, ...]  # without those that move with another batch, and those that are no files
    names: tuple[str, ...]


def names_meant(touch: str, present: Collection[str], unclaimed: Sequence[str], catalogue: Sequence[CatalogueSource]) -> tuple[str, ...]:
    """The data files that a touch file of this name stands for: the one it names, else every unclaimed one."""
    stem = touch.rpartition(".")[0]
    # A touch file named like a packed file, orders.csv.gz, is about that file and not about orders.csv.
    for candidate in (stem, touch) if plain_name(touch) == touch else (touch, stem):
        if candidate and (candidate in present or feeds_of(candidate, catalogue) or _ends_like_data(candidate, catalogue)):
            return (candidate,)
    return tuple(unclaimed)


def released(touches: Sequence[Touch], catalogue: Sequence[CatalogueSource], *, quiet_seconds: float, max_wait_seconds: float) -> tuple[Gathered, ...]:
    """The batches whose touch files have been quiet long enough, or have waited the most that they may.

    Touch files that share a source and date form one batch; batches that share a touch file are released together, since
    it can move only once.
    """
    batches = []
    for together in _connected(touches, catalogue):
        members = [touch for group in together.values() for touch in group]
        is_quiet = all(t.spot.quiet_for >= quiet_seconds for t in members)
        if is_quiet or any(t.spot.seen_for >= max_wait_seconds for t in members):
            batches += _gathered(together, catalogue)
    return tuple(batches)


def key_of(name: str, touch: Spot, catalogue: Sequence[CatalogueSource]) -> GroupKey:
    """Source and date of one data file: the date from its name, else the touch file's name, else the touch file's time."""
    feeds = feeds_of(name, catalogue)
    touched = dt.datetime.fromtimestamp(touch.mtime, dt.UTC).date()
    return feeds[0][0] if feeds else "", date_in(name) or date_in(touch.name) or touched


def _ends_like_data(name: str, catalogue: Sequence[CatalogueSource]) -> bool:
    # invoices_1.csv.done means invoices_1.csv, also where no feed takes it: that is the sender's mistake, not a general signal
    endings = {PurePosixPath(f.files).suffix for s in catalogue for f in s.feeds}
    return PurePosixPath(plain_name(name)).suffix in endings - {""}


def _connected(touches: Sequence[Touch], catalogue: Sequence[CatalogueSource]) -> list[dict[GroupKey, list[Touch]]]:
    parts: list[dict[GroupKey, list[Touch]]] = []
    for touch in touches:
        mine: dict[GroupKey, list[Touch]] = {key_of(n, touch.spot, catalogue): [touch] for n in touch.names}
        apart = []
        for part in parts:
            if part.keys() & mine.keys():
                mine = {k: [*part.get(k, []), *mine.get(k, [])] for k in {**part, **mine}}
            else:
                apart.append(part)
        parts = [*apart, mine] if mine else parts
    return parts


def _gathered(together: Mapping[GroupKey, Sequence[Touch]], catalogue: Sequence[CatalogueSource]) -> list[Gathered]:
    batches, moved = [], set[str]()
    for key, touches in sorted(together.items()):
        eldest_first = sorted(touches, key=lambda t: -t.spot.seen_for)
        mine = tuple(t for t in eldest_first if t.is_file and t.spot.name not in moved)
        moved |= {t.spot.name for t in mine}
        names = dict.fromkeys(n for t in touches for n in t.names if key_of(n, t.spot, catalogue) == key)
        trigger = eldest_first[0].spot.name
        batches.append(Gathered(source=key[0], batch_date=key[1], trigger=trigger, touches=mine, names=tuple(names)))
    return batches

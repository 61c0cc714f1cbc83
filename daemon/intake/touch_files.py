"""Gathers bare touch files: which files each stands for, and which quiet periods are over. Pure: the ages come with the spots."""

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from daemon.intake.admission import Touched, judged, spelling
from daemon.intake.trigger import TriggerError, feeds_of, kinship, spelled_apart
from daemon.landing.scan import Spot
from daemon.text import listed, printable
from pipeline.contract import CatalogSource, plain_name

GroupKey = tuple[str, dt.date]  # source, batch date


class Meant(NamedTuple):
    """A data file that a touch file stands for, with what decides about its batch. `remark` says whence its date is."""

    name: str
    source: str
    feed: str
    batch_date: dt.date
    remark: str = ""

    @property
    def key(self) -> GroupKey:
        return self.source, self.batch_date


@dataclass(frozen=True, kw_only=True)
class Touch:
    """A bare touch file and the data files that it stands for. `is_file` is false where a data file is its own touch.

    `refused` are sentences about files that it stands for as well and that cannot be taken, `passed_by` one about files
    that no trigger can take.
    """

    spot: Spot
    meant: tuple[Meant, ...] = ()
    refused: tuple[str, ...] = ()
    passed_by: str = ""
    is_file: bool = True


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """One bare batch: the data files that it stands for, and the touch files that move with it."""

    source: str
    batch_date: dt.date
    trigger: str  # its first touch file
    touches: tuple[Touch, ...]  # without those that move with another batch, and those that are no files
    feeds: Mapping[str, str]  # of each data file by name
    notes: tuple[str, ...] = ()  # sentences for the batch's story


def names_meant(
    touch: str, present: Collection[str], unclaimed: Sequence[str], catalogue: Sequence[CatalogSource]
) -> tuple[str, ...]:
    """The data files that a touch file of this name stands for: the one it names, else every unclaimed one."""
    stem = touch.rpartition(".")[0]
    # A touch file named like a packed file, orders.csv.gz, is about that file and not about orders.csv.
    for candidate in (stem, touch) if plain_name(touch) == touch else (touch, stem):
        if candidate and (candidate in present or _is_like_data(candidate, catalogue)):
            return (candidate,)
    return tuple(unclaimed)


def touch_for(
    spot: Spot,
    names: Sequence[str],
    catalogue: Sequence[CatalogSource],
    today: dt.date,
    *,
    in_name: bool = False,
    is_file: bool = True,
) -> Touch:
    """Judges each data file that a touch file stands for."""
    meant, refused = list[Meant](), list[str]()
    for name in names:
        try:
            kin = kinship([name], catalogue)
        except TriggerError as error:
            refused.append(str(error))
            continue
        verdict = judged(name, Touched(spot.name, spot.mtime), today, in_name=in_name)
        if verdict.batch_date:
            meant.append(Meant(name, kin.source, kin.feeds[name], verdict.batch_date, verdict.remark))
        else:
            refused.append(f"{printable(name)} {verdict.wrong}")
    return Touch(spot=spot, meant=tuple(meant), refused=tuple(refused), is_file=is_file)


def released(touches: Sequence[Touch], *, quiet_seconds: float, max_wait_seconds: float) -> tuple[Gathered, ...]:
    """The batches whose touch files have been quiet long enough, or have waited the most that they may.

    Touch files that share a source and date form one batch; batches that share a touch file are released together, since
    it can move only once.
    """
    batches = []
    for together in _connected(touches):
        members = [touch for group in together.values() for touch in group]
        is_quiet = all(t.spot.quiet_for >= quiet_seconds for t in members)
        if is_quiet or any(t.spot.seen_for >= max_wait_seconds for t in members):
            batches += _gathered(together)
    return tuple(batches)


def _is_like_data(name: str, catalogue: Sequence[CatalogSource]) -> bool:
    if feeds_of(name, catalogue) or spelled_apart(name, catalogue):
        return True
    # invoices_1.csv.done means invoices_1.csv, also where no feed takes it: that is the sender's mistake, not a general signal
    endings = {spelling(PurePosixPath(f.files).suffix) for s in catalogue for f in s.feeds}
    return spelling(PurePosixPath(plain_name(name)).suffix) in endings - {""}


def _connected(touches: Sequence[Touch]) -> list[dict[GroupKey, list[Touch]]]:
    parts: list[dict[GroupKey, list[Touch]]] = []
    for touch in touches:
        mine: dict[GroupKey, list[Touch]] = {m.key: [touch] for m in touch.meant}
        apart = []
        for part in parts:
            if part.keys() & mine.keys():
                mine = {k: [*part.get(k, []), *mine.get(k, [])] for k in {**part, **mine}}
            else:
                apart.append(part)
        parts = [*apart, mine] if mine else parts
    return parts


def _gathered(together: Mapping[GroupKey, Sequence[Touch]]) -> list[Gathered]:
    batches, moved = [], set[str]()
    for key, touches in sorted(together.items()):
        eldest_first = sorted(touches, key=lambda t: -t.spot.seen_for)
        mine = tuple(t for t in eldest_first if t.is_file and t.spot.name not in moved)
        moved |= {t.spot.name for t in mine}
        feeds = {m.name: m.feed for t in touches for m in t.meant if m.key == key}
        notes = tuple(dict.fromkeys(note for t in touches for note in _notes(t, key)))
        trigger = eldest_first[0].spot.name
        batch = Gathered(source=key[0], batch_date=key[1], trigger=trigger, touches=mine, feeds=feeds, notes=notes)
        batches.append(batch)
    return batches


def _notes(touch: Touch, key: GroupKey) -> Iterator[str]:
    mine = [m for m in touch.meant if m.key == key]
    for remark in dict.fromkeys(m.remark for m in mine if m.remark):
        yield f"{listed(m.name for m in mine if m.remark == remark)} {remark}"
    for feed in dict.fromkeys(m.feed for m in mine):
        names = [m.name for m in mine if m.feed == feed]
        if len(names) > 1:
            several = f"{len(names)} files of {feed} of {key[1]}: {listed(names, most=8)}"
            yield f"{printable(touch.spot.name)} stands for {several}"
    if touch.passed_by:
        yield touch.passed_by

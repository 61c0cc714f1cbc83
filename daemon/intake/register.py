"""Turns settled triggers into batches in the ledger. A trigger that can never become one is a rejected batch with its sentence."""

import datetime as dt
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from daemon.batch import Batch, BatchFile, FileState, State
from daemon.clock import Clock
from daemon.config.config import Config
from daemon.config.options import REQUIRED
from daemon.files.entry_errors import is_of_one_entry, unforeseen
from daemon.files.safe_files import Pulse, UnsafeError, opened_safely
from daemon.intake.admission import LARGEST_DOCUMENT_BYTES, wrong_time
from daemon.intake.claim import Claim, opaque_name
from daemon.intake.touch_files import Gathered, Touch, names_meant, released, touch_for
from daemon.intake.trigger import (
    Document,
    TriggerError,
    feeds_of,
    kinship,
    parsed,
    revision_in,
    set_aside,
    snapshot_feeds,
)
from daemon.landing.scan import REGULAR, Landing, OnTrouble, Sight, Spot
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.text import amount, printable
from pipeline.contract import CatalogSource, streaming

MOST_A_TICK = 50


class Release:
    """Looks at the trigger folder's part of a sight. Remembers which triggers it has mentioned in the log, and left."""

    def __init__(
        self,
        *,
        config: Config,
        catalogue: Sequence[CatalogSource],
        ledger: Ledger,
        landing: Landing,
        claim: Claim,
        log: Log,
        clock: Clock,
        pulse: Pulse,
        on_trouble: OnTrouble,
    ) -> None:
        self._config, self._catalogue, self._clock = config, catalogue, clock
        self._in_name = config.landing.bare_date == REQUIRED
        self._on_trouble = on_trouble
        self._ledger, self._landing, self._claim, self._log = ledger, landing, claim, log
        self._quiet, self._timeout = config.debounce.quiet_seconds, config.landing.missing_file_timeout_seconds
        self._pulse = pulse
        self.is_behind = False  # there are more triggers than one tick takes
        self._mentioned: set[tuple[str, int]] = set()
        self._left: set[tuple[str, int]] = set()  # by an unforeseen error; judged again after a restart

    def step(self, sight: Sight) -> int:
        """Receives every trigger that is due; says how many are still on their way."""
        passed = self._ledger.triggers_on_their_way() | self._left
        fresh = [s for s in sight.triggers if (s.name, s.inode) not in passed]
        self._mention(fresh)
        aside = self._set_aside(sight)
        received = decided = 0
        for spot in fresh:
            # so many a tick, and no more: the worker must not wait until a whole backlog is written down
            if received < MOST_A_TICK and _is_json(spot) and self._apart(spot.name, [spot], partial(self._json, spot)):
                received += 1
                self._pulse()
        self.is_behind = received == MOST_A_TICK
        touches = self._streamed(sight, aside)
        on_their_way = len(fresh) + len(touches)
        unclaimed = self._unclaimed(sight, aside)
        for spot in fresh:
            if not _is_json(spot):
                judge = partial(self._bare, spot, sight, unclaimed, aside, touches)
                decided += self._apart(spot.name, [spot], judge)
        return on_their_way - received - decided - self._release(touches)

    def _apart(self, name: str, spots: Sequence[Spot], judge: Callable[[], bool]) -> bool:
        """Whether these triggers are decided. What is wrong with them refuses or leaves them, and stops no other."""
        try:
            return judge()
        except TriggerError as error:
            self._refuse(spots, f"{printable(name)}: {error}")
        except Exception as error:
            if not is_of_one_entry(error):
                raise
            self._left |= {(s.name, s.inode) for s in spots}
            reason = f"{printable(name)} {unforeseen(error)}"
            self._log.error("trigger.left", trigger=printable(name), reason=reason)
        return True

    # ---- JSON triggers

    def _json(self, spot: Spot) -> bool:
        if spot.quiet_for < self._quiet:
            return False
        try:
            _check_time(spot)
            document = parsed(self._content(spot), self._today())
        except UnsafeError as error:
            self._refuse([spot], f"{printable(spot.name)} {error}; land it as a plain file")
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if spot.seen_for < self._timeout:
                return False
            self._refuse([spot], f"{printable(spot.name)} cannot be read ({error.strerror})")
            return True
        if not document.is_ready:
            if spot.seen_for < self._timeout:
                return False
            why = f"data_files_ready stayed false for {amount(self._timeout)}"
            raise TriggerError(f"{why}; land the trigger again when the files are ready")
        self._receive_document(spot, document)
        return True

    def _content(self, spot: Spot) -> bytes:
        with opened_safely(self._landing.trigger_fd, spot.name) as descriptor:
            return os.pread(descriptor, LARGEST_DOCUMENT_BYTES + 1, 0)

    def _receive_document(self, spot: Spot, document: Document) -> None:
        for name in document.expected_files:
            if pattern := self._landing.ignored_by(name):
                why = f"which [landing] ignore passes by ({pattern})"
                what = f"expected_files names {printable(name)}, {why}"
                raise TriggerError(f"{what}; rename the file, or change that list")
        kin = kinship(document.expected_files, self._catalogue)
        snapshot = snapshot_feeds(document, kin, self._catalogue)
        batch_id = self._ledger.new_id()
        self._receive(
            batch_id,
            [spot],
            trigger=printable(spot.name),
            source=kin.source,
            names=[(n, kin.feeds[n]) for n in document.expected_files],
            batch_date=document.batch_date,
            revision=document.revision,
            snapshot=snapshot,
            checksums=dict(document.checksums),
            rows=dict(document.rows),
        )

    # ---- bare touch files

    def _bare(
        self,
        spot: Spot,
        sight: Sight,
        unclaimed: Sequence[str],
        aside: Mapping[str, str],
        touches: list[Touch],
    ) -> bool:
        if spot.kind != REGULAR:
            if spot.quiet_for < self._quiet:
                return False
            raise TriggerError(f"it is {spot.kind}, not a plain touch file")
        names = names_meant(spot.name, sight.data, unclaimed, self._catalogue)
        is_settled = spot.quiet_for >= self._quiet
        if is_settled:
            _check_time(spot)
        if not names and spot.seen_for >= self._timeout:
            others = f"; {_sentences(aside)}" if aside else ""
            raise TriggerError(f"no data file that a feed takes came within {amount(self._timeout)}{others}")
        touch = touch_for(spot, names, self._catalogue, self._today(), in_name=self._in_name)
        if aside and not {spot.name, spot.name.rpartition(".")[0]} & set(names):
            touch = replace(touch, passed_by=f"left out: {_sentences(aside)}")
        if touch.refused and not touch.meant and is_settled:
            raise TriggerError("; ".join(touch.refused[:2]))
        touches.append(touch)
        return False

    def _release(self, touches: Sequence[Touch]) -> int:
        """Receives what has been quiet long enough; says how many touches that decided."""
        decided, most = 0, self._config.debounce.max_wait_seconds
        for gathered in released(touches, quiet_seconds=self._quiet, max_wait_seconds=most):
            mine = [t for t in touches if t in gathered.touches or (not t.is_file and t.spot.name in gathered.feeds)]
            if self._apart(gathered.trigger, [t.spot for t in mine], partial(self._receive_gathered, gathered)):
                decided += len(mine)
        return decided

    def _receive_gathered(self, gathered: Gathered) -> bool:
        spots = [t.spot for t in gathered.touches]
        batch = self._receive(
            self._ledger.new_id(),
            spots,
            trigger=printable(gathered.trigger),
            source=gathered.source,
            names=list(gathered.feeds.items()),
            batch_date=gathered.batch_date,
            revision=revision_in(list(gathered.feeds)),
            notes=gathered.notes,
        )
        for note in gathered.notes:
            about = {"batch_id": batch.batch_id, "source": batch.source, "trigger": batch.trigger}
            self._log.warning("batch.noted", **about, reason=note)
        for touch in gathered.touches:
            if touch.refused:
                name = touch.spot.name
                self._refuse([], f"{printable(name)}: {'; '.join(touch.refused[:2])}", trigger=name)
        return True

    def _set_aside(self, sight: Sight) -> Mapping[str, str]:
        """By name: the data files that look like deliveries and that no trigger can take, and why."""
        aside = {name: why for name in sight.data if (why := self._why_aside(name))}
        settled = [n for n in aside if all(s.quiet_for >= self._quiet for s in sight.data[n])]
        for name in settled[:MOST_A_TICK]:
            self._on_trouble(f"{printable(name)} in {self._config.landing.path} is set aside: it {aside[name]}")
        return aside

    def _why_aside(self, name: str) -> str:
        try:
            return set_aside(name, self._catalogue)
        except Exception as error:
            if not is_of_one_entry(error):
                raise
            return unforeseen(error)

    def _unclaimed(self, sight: Sight, aside: Mapping[str, str]) -> list[str]:
        named = {f.name for b in self._ledger.batches(State.WAITING) for f in b.data_files}
        free = (n for n in sight.data if n not in named and n not in aside)
        return sorted(n for n in free if len(feeds_of(n, self._catalogue)) == 1)

    def _streamed(self, sight: Sight, aside: Mapping[str, str]) -> list[Touch]:
        # a source that streams has feeds whose files need no touch file: each is its own
        feeds = {
            (s.name, f.name)
            for s in streaming(self._catalogue, self._config.settings)
            for f in s.feeds
            if f.is_streamed
        }
        names = [n for n in self._unclaimed(sight, aside) if feeds & set(feeds_of(n, self._catalogue))] if feeds else []
        found: list[Touch] = []
        for spot in (sight.data[n][0] for n in names):
            if (spot.name, spot.inode) not in self._left:
                self._apart(spot.name, [spot], partial(self._stream, spot, found))
        return found

    def _stream(self, spot: Spot, touches: list[Touch]) -> bool:
        today = self._today()
        touch = touch_for(spot, [spot.name], self._catalogue, today, in_name=self._in_name, is_file=False)
        if touch.refused and spot.quiet_for >= self._quiet:
            self._on_trouble(f"{touch.refused[0]}; it is not taken")
        else:
            touches.append(touch)
        return False

    # ---- both

    def _today(self) -> dt.date:
        return self._clock.now().astimezone(dt.UTC).date()

    def _mention(self, spots: Iterable[Spot]) -> None:
        seen = {(s.name, s.inode) for s in spots}
        for name, _ in sorted(seen - self._mentioned):
            self._log.info("trigger.seen", trigger=printable(name))
        self._mentioned = seen

    def _receive(
        self,
        batch_id: str,
        spots: Sequence[Spot],
        *,
        names: Sequence[tuple[str, str]],
        **columns: object,
    ) -> Batch:
        triggers = _triggers(batch_id, spots)
        data = [
            BatchFile(number=n, kind="data", name=name, feed=feed)
            for n, (name, feed) in enumerate(names, start=len(triggers))
        ]
        batch = self._ledger.receive(batch_id, files=[*triggers, *data], **columns)  # type: ignore[arg-type]
        self._claim.take_triggers(batch)
        return batch

    def _refuse(self, spots: Sequence[Spot], reason: str, trigger: str = "") -> None:
        batch_id = self._ledger.new_id()
        files = _triggers(batch_id, spots)
        batch = self._ledger.refuse(batch_id, trigger=printable(trigger or spots[0].name), files=files, reason=reason)
        self._claim.take_triggers(batch)


def _triggers(batch_id: str, spots: Sequence[Spot]) -> list[BatchFile]:
    return [
        BatchFile(
            number=n,
            kind="trigger",
            name=s.name,
            state=FileState.MOVING,
            opaque=opaque_name(batch_id, n, s.name),
            inode=s.inode,
        )
        for n, s in enumerate(spots)
    ]


def _check_time(spot: Spot) -> None:
    if wrong := wrong_time(spot.mtime):
        raise TriggerError(f"it {wrong}")


def _sentences(aside: Mapping[str, str]) -> str:
    more = f"; and {len(aside) - 2} more" if len(aside) > 2 else ""
    return "; ".join(f"{printable(name)} {why}" for name, why in list(aside.items())[:2]) + more


def _is_json(spot: Spot) -> bool:
    return spot.name.lower().endswith(".json")

"""Turns settled triggers into batches in the ledger. A trigger that can never become one is a rejected batch with its sentence."""

import os
from collections.abc import Iterable, Sequence

from daemon.batch import BatchFile, FileState, State
from daemon.claim import Claim, opaque_name
from daemon.clock import Clock
from daemon.config import Config
from daemon.debounce import Gathered, Touch, names_meant, released
from daemon.landing import REGULAR, Landing, Sight, Spot
from daemon.ledger import Ledger
from daemon.logs import Log
from daemon.moves import Pulse, UnsafeError, opened_safely
from daemon.trigger import LARGEST_BYTES, Document, TriggerError, feeds_of, kinship, parsed, revision_in, snapshot_feeds
from daemon.wording import amount, printable
from pipeline.contract import CatalogueSource, streaming

MOST_A_TICK = 50


class Release:
    """Looks at the trigger folder's part of a sight. Remembers only which triggers it has mentioned in the log."""

    def __init__(
        self,
        *,
        config: Config,
        catalogue: Sequence[CatalogueSource],
        ledger: Ledger,
        landing: Landing,
        claim: Claim,
        log: Log,
        clock: Clock,
        pulse: Pulse,
    ) -> None:
        self._config, self._catalogue, self._clock = config, catalogue, clock
        self._ledger, self._landing, self._claim, self._log = ledger, landing, claim, log
        self._quiet, self._timeout = config.debounce.quiet_seconds, config.landing.missing_file_timeout_seconds
        self._pulse = pulse
        self.is_behind = False  # there are more triggers than one tick takes
        self._mentioned: set[tuple[str, int]] = set()

    def step(self, sight: Sight) -> int:
        """Receives every trigger that is due; says how many are still on their way."""
        stuck = self._ledger.triggers_on_their_way()
        fresh = [s for s in sight.triggers if (s.name, s.inode) not in stuck]
        self._mention(fresh)
        received = 0
        for spot in fresh:
            # so many a tick, and no more: the worker must not wait until a whole backlog is written down
            if received < MOST_A_TICK and _is_json(spot) and self._json(spot):
                received += 1
                self._pulse()
        self.is_behind = received == MOST_A_TICK
        touches = [s for s in fresh if not _is_json(s)]
        streamed = self._streamed(sight)
        return len(fresh) + len(streamed) - received - self._bare(sight, touches, streamed)

    # ---- JSON triggers

    def _json(self, spot: Spot) -> bool:
        if spot.quiet_for < self._quiet:
            return False
        try:
            document = parsed(self._content(spot), self._clock.now().date())
            if not document.is_ready:
                if spot.seen_for < self._timeout:
                    return False
                raise TriggerError(f"data_files_ready stayed false for {amount(self._timeout)}; land the trigger again when the files are ready")
            self._receive_document(spot, document)
        except TriggerError as error:
            self._refuse([spot], f"{printable(spot.name)}: {error}")
        except UnsafeError as error:
            self._refuse([spot], f"{printable(spot.name)} {error}; land it as a plain file")
        except FileNotFoundError:
            return False
        except OSError as error:
            if spot.seen_for < self._timeout:
                return False
            self._refuse([spot], f"{printable(spot.name)} cannot be read ({error.strerror})")
        return True

    def _content(self, spot: Spot) -> bytes:
        with opened_safely(self._landing.trigger_fd, spot.name) as descriptor:
            return os.pread(descriptor, LARGEST_BYTES + 1, 0)

    def _receive_document(self, spot: Spot, document: Document) -> None:
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

    def _bare(self, sight: Sight, spots: Sequence[Spot], streamed: Sequence[Touch]) -> int:
        count = 0
        touches = list(streamed)
        unclaimed = self._unclaimed(sight)
        for spot in spots:
            names = names_meant(spot.name, sight.data, unclaimed, self._catalogue)
            if spot.kind != REGULAR and spot.quiet_for >= self._quiet:
                self._refuse([spot], f"{printable(spot.name)} is {spot.kind}, not a plain touch file")
                count += 1
            elif not names and spot.seen_for >= self._timeout:
                self._refuse([spot], f"{printable(spot.name)}: no data file that a feed takes came within {amount(self._timeout)}")
                count += 1
            elif spot.kind == REGULAR:
                touches.append(Touch(spot=spot, names=names))
        for gathered in released(touches, self._catalogue, quiet_seconds=self._quiet, max_wait_seconds=self._config.debounce.max_wait_seconds):
            self._receive_gathered(gathered)
            count += len(gathered.touches) + sum(1 for t in streamed if set(t.names) & set(gathered.names))
        return count

    def _receive_gathered(self, gathered: Gathered) -> None:
        spots = [t.spot for t in gathered.touches]
        try:
            kin = kinship(gathered.names, self._catalogue)
        except TriggerError as error:
            self._refuse(spots, f"{printable(gathered.trigger)}: {error}", trigger=gathered.trigger)
            return
        self._receive(
            self._ledger.new_id(),
            spots,
            trigger=printable(gathered.trigger),
            source=kin.source,
            names=[(n, kin.feeds[n]) for n in gathered.names],
            batch_date=gathered.batch_date,
            revision=revision_in(gathered.names),
        )

    def _unclaimed(self, sight: Sight) -> list[str]:
        named = {f.name for b in self._ledger.batches(State.WAITING) for f in b.data_files}
        return sorted(n for n in sight.data if n not in named and len(feeds_of(n, self._catalogue)) == 1)

    def _streamed(self, sight: Sight) -> list[Touch]:
        # a source that streams has feeds whose files need no touch file: each is its own
        feeds = {(s.name, f.name) for s in streaming(self._catalogue, self._config.settings) for f in s.feeds if f.is_streamed}
        names = [n for n in self._unclaimed(sight) if feeds & set(feeds_of(n, self._catalogue))] if feeds else []
        return [Touch(spot=sight.data[n][0], names=(n,), is_file=False) for n in names]

    # ---- both

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
    ) -> None:
        triggers = _triggers(batch_id, spots)
        data = [BatchFile(number=n, kind="data", name=name, feed=feed) for n, (name, feed) in enumerate(names, start=len(triggers))]
        batch = self._ledger.receive(batch_id, files=[*triggers, *data], **columns)  # type: ignore[arg-type]
        self._claim.take_triggers(batch)

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


def _is_json(spot: Spot) -> bool:
    return spot.name.lower().endswith(".json")

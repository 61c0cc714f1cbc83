"""Completes waiting batches: claims their files when all have settled, rejects them when they never can be."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace

from daemon.batch import Batch, BatchFile, FileState, State
from daemon.clock import Clock
from daemon.config.config import Config
from daemon.files.entry_errors import is_of_one_entry, unforeseen
from daemon.files.safe_files import Pulse
from daemon.intake.admission import difference, spelling
from daemon.intake.claim import Claim
from daemon.landing.scan import LINK, REGULAR, OnTrouble, Sight, Spot
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.text import escape, format_seconds, join_names, one_line
from pipeline import contract


class RefusedError(Exception):
    """The batch can never be completed; the message is the reason."""


class Collect:
    """Remembers since when each waiting batch has been waiting; a restart gives it that time anew."""

    def __init__(
        self,
        *,
        config: Config,
        ledger: Ledger,
        claim: Claim,
        log: Log,
        clock: Clock,
        pulse: Pulse,
        on_trouble: OnTrouble,
    ) -> None:
        self._quiet, self._timeout = config.debounce.quiet_seconds, config.landing.missing_file_timeout_seconds
        self._ledger, self._claim, self._log, self._clock = ledger, claim, log, clock
        self._pulse, self._on_trouble = pulse, on_trouble
        self._lying: dict[str, str] = {}  # by spelling: the files of this look
        self._waiting_since: dict[str, float] = {}

    def step(self, sight: Sight) -> None:
        """Looks at every waiting batch, oldest first: the first one that names a file gets it."""
        if not sight.is_whole:
            self._waiting_since.clear()  # nothing is missing from a folder that is not there
            return
        waiting = self._ledger.batches(State.WAITING)
        self._waiting_since = {
            b.batch_id: self._waiting_since.get(b.batch_id, self._clock.monotonic()) for b in waiting
        }
        self._lying = {spelling(name): name for name in sight.data} if waiting else {}
        taken: set[str] = set()
        for batch in reversed(waiting):
            self._pulse()
            try:
                if self._claim.take_triggers(batch):
                    taken |= self._complete(batch, sight, taken)
                elif self._clock.monotonic() - self._waiting_since[batch.batch_id] >= self._timeout:
                    raise RefusedError(
                        f"{batch.trigger} cannot be moved out of the trigger folder; see to the folder's permissions, then land a new trigger"
                    )
            except RefusedError as error:
                self._ledger.move(batch.batch_id, State.REJECTED, "batch.rejected", str(error), waiting_for=())
            except Exception as error:
                if not is_of_one_entry(error):
                    raise
                self._unforeseen(batch, error)

    def _unforeseen(self, batch: Batch, error: Exception) -> None:
        reason = f"{batch.trigger} {unforeseen(error)}"
        self._on_trouble(reason)
        if self._clock.monotonic() - self._waiting_since[batch.batch_id] >= self._timeout:
            self._ledger.move(batch.batch_id, State.REJECTED, "batch.rejected", reason, waiting_for=())

    def _complete(self, batch: Batch, sight: Sight, taken: set[str]) -> set[str]:
        coming = [f for f in batch.data_files if f.state != FileState.CLAIMED]
        here = self._claim.present(coming)
        wanted = [f for f in coming if f not in here]
        spots = {
            f.name: self._spot(f.name, sight.data.get(f.name, ()))
            for f in wanted
            if f.name in sight.data and f.name not in taken
        }
        missing = [f.name for f in wanted if f.name not in spots]
        unsettled = [name for name, spot in spots.items() if spot.quiet_for < self._quiet]
        if missing or unsettled:
            self._wait(batch, missing, unsettled, newest=min((spots[n].quiet_for for n in unsettled), default=0.0))
            return set()
        result = self._claim.take(batch, spots)
        if result.unsafe:
            raise RefusedError(
                "; ".join(f"{escape(n)} {why}" for n, why in list(result.unsafe.items())[:2])
                + "; deliver a plain file of its own"
            )
        if result.spoiled:
            raise RefusedError("; ".join(list(result.spoiled.values())[:2]))
        if result.later:
            told = [f"{escape(n)} {why}" for n, why in list(result.later.items())[:2]]
            self._wait(batch, [], list(result.later), newest=self._unchanged(batch, spots), reason="; ".join(told))
        else:
            self._ready(self._ledger.batch(batch.batch_id))
        return set(spots)

    def _spot(self, name: str, spots: Sequence[Spot]) -> Spot:
        newest = min(spots, key=lambda s: s.quiet_for)
        if newest.quiet_for < self._quiet:  # a move or link of the sender's may be half done
            return newest
        if len(spots) > 1:
            places = " and ".join(f"{escape(s.folder)}/" if s.folder else "the landing folder" for s in spots[:3])
            raise RefusedError(
                f"there are {len(spots)} files named {escape(name)}, in {places}; leave one and land a new trigger"
            )
        if newest.kind != REGULAR:
            raise RefusedError(
                f"{escape(name)} is {'a symbolic link' if newest.kind == LINK else 'not a regular file'}; deliver the file itself"
            )
        if newest.links > 1:
            what = f"{escape(name)} has {newest.links} hard links, so that somebody else could change it later"
            raise RefusedError(f"{what}; deliver a copy and land a new trigger")
        return newest

    def _ready(self, batch: Batch) -> None:
        self._check_sums(batch)
        if batch.batch_date:
            self._ledger.update_files(batch.batch_id, self._with_revisions(batch, batch.batch_date))
        identity = (
            contract.identity(batch.source, batch.batch_date, [(f.feed, f.sha256) for f in batch.data_files])
            if batch.batch_date
            else ""
        )
        self._ledger.move(batch.batch_id, State.READY, "batch.ready", identity=identity, waiting_for=())

    def _with_revisions(self, batch: Batch, date: dt.date) -> Iterator[BatchFile]:
        """Gives each file its revision by what the ledger knows: of a batch that has yet to be published the lake knows nothing."""
        brought = self._ledger.batches_of_date(batch.source, date, other_than=batch.batch_id)
        names = [f.name for f in batch.data_files]
        for f in batch.data_files:
            same = [
                (
                    o.sha256,
                    o.revision,
                    contract.stated_revision(o.name, other.revision, (x.name for x in other.data_files)),
                )
                for other in brought
                for o in other.files
                if o.feed == f.feed and contract.plain_name(o.name) == contract.plain_name(f.name)
            ]
            stated = contract.stated_revision(f.name, batch.revision, names)
            yield replace(f, revision=contract.next_revision(stated, f.sha256, same))

    @staticmethod
    def _check_sums(batch: Batch) -> None:
        wrong = [f for f in batch.data_files if batch.checksums.get(f.name, f.delivered_sha256) != f.delivered_sha256]
        if wrong:
            raise RefusedError(
                f"the checksum of {join_names(f.name for f in wrong)} differs: the trigger says {batch.checksums[wrong[0].name][:12]}…, "
                f"the file has {wrong[0].delivered_sha256[:12]}…; deliver it again with a new trigger"
            )

    # ---- waiting

    def _wait(
        self, batch: Batch, missing: Sequence[str], unsettled: Sequence[str], newest: float, reason: str = ""
    ) -> None:
        is_late = self._clock.monotonic() - self._waiting_since[batch.batch_id] >= self._timeout
        reason = reason or "; ".join(filter(None, map(self._misspelled, missing)))
        if missing and is_late:
            self._give_up(batch, self._missing_sentence(batch, missing))
        elif not missing and is_late and newest >= self._timeout:
            unsettled_sentence = reason or f"{join_names(unsettled)} has not settled"
            advice = "land a new trigger when it is complete"
            self._give_up(batch, f"{unsettled_sentence}, for {format_seconds(self._timeout)}; {advice}")
        else:
            self._note_waiting(batch, missing, (*missing, *unsettled), reason)

    def _note_waiting(self, batch: Batch, missing: Sequence[str], names: tuple[str, ...], reason: str) -> None:
        if (batch.waiting_for, batch.reason) == (names, one_line(reason)):
            return
        self._ledger.update(batch.batch_id, waiting_for=names, reason=one_line(reason))
        if missing or reason:
            about = {"batch_id": batch.batch_id, "source": batch.source}
            shown = [escape(n) for n in missing[:20]]
            self._log.info("batch.waiting", **about, missing=shown, reason=reason)

    def _misspelled(self, name: str) -> str:
        """Which file lies there that is the missing one but for its spelling, and what to do; '' where none does."""
        other = self._lying.get(spelling(name), name)
        apart = difference(name, other)
        return f"{escape(other)} lies there for {escape(name)}: {apart}; rename it" if apart else ""

    @staticmethod
    def _unchanged(batch: Batch, spots: dict[str, Spot]) -> float:
        return min((spots[f.name].quiet_for for f in batch.data_files if f.name in spots), default=0.0)

    def _give_up(self, batch: Batch, reason: str) -> None:
        self._claim.give_back(batch)
        self._ledger.move(batch.batch_id, State.REJECTED, "batch.rejected", reason, waiting_for=())

    def _missing_sentence(self, batch: Batch, missing: Sequence[str]) -> str:
        takers = {n: self._ledger.batch_that_took(n, other_than=batch.batch_id) for n in missing[:3]}
        spelled = {n: self._misspelled(n).partition(";")[0] for n in takers}
        why = {n: f"taken by batch {t}" if t else spelled[n] for n, t in takers.items()}
        named = ", ".join(f"{escape(n)} ({w})" if w else escape(n) for n, w in why.items())
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        count, every = len(missing), len(batch.data_files)
        rest = "" if count == every else "; those that came are still in the landing folder"
        absent = (
            f"{count} of {every} file{'' if every == 1 else 's'} did not come within {format_seconds(self._timeout)}"
        )
        return f"{absent}: {named}{more}{rest}; land a new trigger"

"""Completes waiting batches: claims their files when all have settled, rejects the batches that cannot be completed."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from daemon.batch import Batch, BatchFile, FileState, State
from daemon.clock import Clock
from daemon.files.entry_errors import is_of_one_entry, unforeseen_reason
from daemon.files.safe_files import Heartbeat
from daemon.intake.admission import spelling, spelling_difference
from daemon.intake.claim import Claim, ClaimResult
from daemon.landing.scan import LINK, REGULAR, Listing, SeenFile
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.text import escape, format_seconds, join_names, one_line
from pipeline import contract


class _RejectedError(Exception):
    """The batch can never be completed; the message is the reason."""


class BatchCompleter:
    """Knows since when each batch waits. After a restart the time begins again."""

    def __init__(
        self,
        *,
        quiet_seconds: float,
        timeout_seconds: float,
        ledger: Ledger,
        claim: Claim,
        log: Log,
        clock: Clock,
        heartbeat: Heartbeat,
        on_failure: Callable[[str], None],
    ) -> None:
        self._quiet_seconds = quiet_seconds
        self._timeout_seconds = timeout_seconds
        self._ledger = ledger
        self._claim = claim
        self._log = log
        self._clock = clock
        self._heartbeat = heartbeat
        self._on_failure = on_failure
        self._present: dict[str, str] = {}  # the data files of this listing, by spelling
        self._waiting_since: dict[str, float] = {}

    def step(self, listing: Listing) -> None:
        """Tries to complete every waiting batch, oldest first: the first one that names a file gets the file."""
        if not listing.is_complete:
            self._waiting_since.clear()  # no file is missing from a folder that cannot be listed
            return
        waiting = self._ledger.batches(State.WAITING)
        now = self._clock.monotonic()
        self._waiting_since = {b.batch_id: self._waiting_since.get(b.batch_id, now) for b in waiting}
        self._present = {spelling(name): name for name in listing.data} if waiting else {}
        taken: set[str] = set()
        for batch in reversed(waiting):
            self._heartbeat()
            try:
                if self._claim.take_triggers(batch):
                    taken |= self._complete(batch, listing, taken)
                elif self._is_late(batch):
                    what = f"{batch.trigger} cannot be moved out of the trigger folder"
                    raise _RejectedError(f"{what}; see to the folder's permissions, then land a new trigger")
            except _RejectedError as error:
                self._reject(batch, str(error))
            except Exception as error:
                if not is_of_one_entry(error):
                    raise
                reason = f"{batch.trigger} {unforeseen_reason(error)}"
                self._on_failure(reason)
                if self._is_late(batch):
                    self._reject(batch, reason)

    def _is_late(self, batch: Batch) -> bool:
        return self._clock.monotonic() - self._waiting_since[batch.batch_id] >= self._timeout_seconds

    def _reject(self, batch: Batch, reason: str, missing: Sequence[str] = ()) -> None:
        # The missing files stay on record: the reason file and the story name them.
        self._ledger.move(batch.batch_id, State.REJECTED, "batch.rejected", reason, waiting_for=tuple(missing))

    def _complete(self, batch: Batch, listing: Listing, taken: set[str]) -> set[str]:
        """Claims the files of the batch if all have settled. Returns the names that it took."""
        unclaimed = [f for f in batch.data_files if f.state != FileState.CLAIMED]
        here = self._claim.present(unclaimed)
        wanted = [f.name for f in unclaimed if f not in here]
        found = {
            name: self._only(name, listing.data[name]) for name in wanted if name in listing.data and name not in taken
        }
        missing = [name for name in wanted if name not in found]
        unsettled = {n: f.unchanged_seconds for n, f in found.items() if f.unchanged_seconds < self._quiet_seconds}
        if missing or unsettled:
            self._wait(batch, missing, list(unsettled), unchanged=min(unsettled.values(), default=0.0))
            return set()
        result = self._claim.take(batch, found)
        _check_result(result)
        if result.later:
            reasons = [f"{escape(name)} {why}" for name, why in list(result.later.items())[:2]]
            unchanged = min((f.unchanged_seconds for f in found.values()), default=0.0)
            self._wait(batch, [], list(result.later), unchanged=unchanged, reason="; ".join(reasons))
        else:
            self._make_ready(self._ledger.batch(batch.batch_id))
        return set(found)

    def _only(self, name: str, seen_files: Sequence[SeenFile]) -> SeenFile:
        """Returns the one file of this name; an unsettled one is not judged, as a move or link may be half done."""
        newest = min(seen_files, key=lambda f: f.unchanged_seconds)
        if newest.unchanged_seconds < self._quiet_seconds:
            return newest
        if len(seen_files) > 1:
            places = " and ".join(f"{escape(f.folder)}/" if f.folder else "the landing folder" for f in seen_files[:3])
            what = f"there are {len(seen_files)} files named {escape(name)}, in {places}"
            raise _RejectedError(f"{what}; leave one and land a new trigger")
        if newest.kind != REGULAR:
            kind = "a symbolic link" if newest.kind == LINK else "not a regular file"
            raise _RejectedError(f"{escape(name)} is {kind}; deliver the file itself")
        if newest.links > 1:
            what = f"{escape(name)} has {newest.links} hard links, so another user could change it later"
            raise _RejectedError(f"{what}; deliver a copy and land a new trigger")
        return newest

    def _make_ready(self, batch: Batch) -> None:
        _check_sums(batch)
        identity = ""
        if batch.batch_date:
            self._ledger.update_files(batch.batch_id, self._with_revisions(batch, batch.batch_date))
            content = [(f.feed, f.sha256) for f in batch.data_files]
            identity = contract.identity(batch.source, batch.batch_date, content)
        self._ledger.move(batch.batch_id, State.READY, "batch.ready", identity=identity, waiting_for=())

    def _with_revisions(self, batch: Batch, date: dt.date) -> Iterator[BatchFile]:
        """Yields each file with its revision as the ledger knows it: the lake knows nothing of unpublished batches."""
        others = self._ledger.batches_of_date(batch.source, date, other_than=batch.batch_id)
        names = [f.name for f in batch.data_files]
        for f in batch.data_files:
            same = [
                (
                    o.sha256,
                    o.revision,
                    contract.stated_revision(o.name, other.revision, (x.name for x in other.data_files)),
                )
                for other in others
                for o in other.files
                if o.feed == f.feed and contract.plain_name(o.name) == contract.plain_name(f.name)
            ]
            stated = contract.stated_revision(f.name, batch.revision, names)
            yield replace(f, revision=contract.next_revision(stated, f.sha256, same))

    # ---- waiting

    def _wait(
        self, batch: Batch, missing: Sequence[str], unsettled: Sequence[str], *, unchanged: float, reason: str = ""
    ) -> None:
        is_late = self._is_late(batch)
        reason = reason or "; ".join(filter(None, map(self._misspelling_of, missing)))
        if missing and is_late:
            self._give_up(batch, self._missing_sentence(batch, missing), missing)
        elif not missing and is_late and unchanged >= self._timeout_seconds:
            what = reason or f"{join_names(unsettled)} has not settled"
            advice = "land a new trigger when it is complete"
            self._give_up(batch, f"{what}, for {format_seconds(self._timeout_seconds)}; {advice}")
        else:
            self._note_waiting(batch, missing, (*missing, *unsettled), reason)

    def _note_waiting(self, batch: Batch, missing: Sequence[str], names: tuple[str, ...], reason: str) -> None:
        if (batch.waiting_for, batch.reason) == (names, one_line(reason)):
            return
        self._ledger.update(batch.batch_id, waiting_for=names, reason=one_line(reason))
        if missing or reason:
            about = {"batch_id": batch.batch_id, "source": batch.source}
            self._log.info("batch.waiting", **about, missing=[escape(n) for n in missing[:20]], reason=reason)

    def _misspelling_of(self, name: str) -> str:
        """Returns the present file that differs from the missing one in spelling only, and the remedy; else ''."""
        other = self._present.get(spelling(name), name)
        difference = spelling_difference(name, other)
        return f"{escape(other)} lies there for {escape(name)}: {difference}; rename it" if difference else ""

    def _give_up(self, batch: Batch, reason: str, missing: Sequence[str] = ()) -> None:
        self._claim.release_files(batch)
        self._reject(batch, reason, missing)

    def _missing_sentence(self, batch: Batch, missing: Sequence[str]) -> str:
        names = ", ".join(self._missing_name(batch, name) for name in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        expected = len(batch.data_files)
        rest = "" if len(missing) == expected else "; those that came are still in the landing folder"
        timeout = format_seconds(self._timeout_seconds)
        count = f"{len(missing)} of {expected} file{'' if expected == 1 else 's'}"
        return f"{count} did not come within {timeout}: {names}{more}{rest}; land a new trigger"

    def _missing_name(self, batch: Batch, name: str) -> str:
        taker = self._ledger.batch_that_took(name, other_than=batch.batch_id)
        why = f"taken by batch {taker}" if taker else self._misspelling_of(name).partition(";")[0]
        return f"{escape(name)} ({why})" if why else escape(name)


def _check_result(result: ClaimResult) -> None:
    if result.unsafe:
        raise _RejectedError(f"{_sentences(result.unsafe)}; deliver a plain file of its own")
    if result.spoiled:
        raise _RejectedError("; ".join(list(result.spoiled.values())[:2]))


def _sentences(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{escape(name)} {why}" for name, why in list(reasons.items())[:2])


def _check_sums(batch: Batch) -> None:
    wrong = [f for f in batch.data_files if batch.checksums.get(f.name, f.delivered_sha256) != f.delivered_sha256]
    if wrong:
        names = join_names(f.name for f in wrong)
        stated = batch.checksums[wrong[0].name][:12]
        found = wrong[0].delivered_sha256[:12]
        differs = f"the checksum of {names} differs: the trigger says {stated}…, the file has {found}…"
        raise _RejectedError(f"{differs}; deliver it again with a new trigger")

"""Records requests as batches in the ledger: the one way from a trigger to a batch, accepted or refused."""

from collections.abc import Sequence

from daemon.batch import BatchFile, FileState
from daemon.intake.claim import Claim
from daemon.intake.name_map import name_in_claim
from daemon.intake.request import BatchRequest
from daemon.landing.scan import SeenFile
from daemon.ledger.ledger import Ledger
from daemon.observe.log import Log
from daemon.text import escape


class Registrar:
    """Writes the ledger first, and then moves the trigger files into the claim folder."""

    def __init__(self, *, ledger: Ledger, claim: Claim, log: Log) -> None:
        self._ledger = ledger
        self._claim = claim
        self._log = log

    def register(self, request: BatchRequest) -> None:
        """Records a new batch that waits for its files."""
        batch_id = self._ledger.new_id()
        files = _trigger_files(batch_id, request.trigger_files)
        files += [
            BatchFile(number=number, kind="data", name=name, feed=feed)
            for number, (name, feed) in enumerate(request.feeds.items(), start=len(files))
        ]
        batch = self._ledger.receive(
            batch_id,
            trigger=escape(request.trigger),
            files=files,
            source=request.source,
            batch_date=request.batch_date,
            revision=request.revision,
            snapshot=request.snapshot,
            checksums=dict(request.checksums),
            rows=dict(request.rows),
            notes=request.notes,
        )
        self._claim.take_triggers(batch)
        for note in request.notes:
            about = {"batch_id": batch.batch_id, "source": batch.source, "trigger": batch.trigger}
            self._log.warning("batch.noted", **about, reason=note)

    def refuse(self, trigger: str, seen_files: Sequence[SeenFile], reason: str) -> None:
        """Records a rejected batch of these trigger files, none of which may be left to move."""
        batch_id = self._ledger.new_id()
        files = _trigger_files(batch_id, seen_files)
        batch = self._ledger.refuse(batch_id, trigger=escape(trigger), files=files, reason=reason)
        self._claim.take_triggers(batch)


def _trigger_files(batch_id: str, seen_files: Sequence[SeenFile]) -> list[BatchFile]:
    return [
        BatchFile(
            number=number,
            kind="trigger",
            name=seen_file.name,
            state=FileState.MOVING,
            claim_name=name_in_claim(batch_id, number, seen_file.name),
            inode=seen_file.inode,
        )
        for number, seen_file in enumerate(seen_files)
    ]

"""How a rejected batch came to need a person no more: later files corrected it, or a person decided so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemon.batch import Batch, State
from daemon.ledger.ledger_reader import LedgerReader

ABANDONED = "abandoned after:"  # the beginning of the reason of a batch that a person gave up


@dataclass(frozen=True, kw_only=True)
class RejectionEnd:
    """The end of a rejection."""

    how: str  # corrected, dismissed or abandoned
    at: str
    by: str  # the batch that published the corrected files; '' where a person decided


def rejection_ends(reader: LedgerReader, batches: Sequence[Batch]) -> Mapping[str, RejectionEnd]:
    """Returns, by batch id, the end of each rejection among these batches that is over."""
    rejected = [b for b in batches if b.state == State.REJECTED]
    still_open = {b.batch_id for b in reader.open_rejections()} if rejected else set()
    ends = ((b.batch_id, _end(reader, b)) for b in rejected if b.batch_id not in still_open)
    return {batch_id: end for batch_id, end in ends if end}


def _end(reader: LedgerReader, batch: Batch) -> RejectionEnd | None:
    if batch.dismissed_at:
        how = "abandoned" if batch.reason.startswith(ABANDONED) else "dismissed"
        return RejectionEnd(how=how, at=batch.dismissed_at, by="")
    last = reader.last_of_date(batch.source, batch.batch_date)
    return RejectionEnd(how="corrected", at=last.published_at or "", by=last.batch_id) if last else None

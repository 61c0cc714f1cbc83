"""Reads from the ledger the numbers that metrics are made of. Writes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from daemon.batch import OUTCOME_EVENTS, State
from daemon.ledger.ledger_reader import LedgerReader, marks


@dataclass(frozen=True, kw_only=True)
class BatchOutcome:
    """A change of the history that ended a batch, or an attempt at it."""

    number: int  # of the change; it grows
    event: str
    changed_at: str
    source: str
    batch_date: str
    received_at: str
    started_at: str  # of the attempt; '' without one
    published_at: str
    result: str  # files, score and seconds of a published batch (JSON); '' without them


class MetricsReader(LedgerReader):
    """A reader of outcomes and of open batches."""

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Lets every read within see the ledger of one instant."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def last_change(self) -> int:
        """Returns the number of the newest change in the history; 0 without any."""
        return int(self._db.execute("SELECT coalesce(max(rowid), 0) FROM history").fetchone()[0])

    def outcomes_after(self, number: int) -> Iterator[BatchOutcome]:
        """Yields the outcomes of batches since the change of this number, oldest first."""
        query = f"""
            SELECT ended.rowid AS number, event, changed_at, source, received_at,
                coalesce(batch_date, '') AS batch_date,
                coalesce((
                    SELECT max(changed_at) FROM history AS earlier
                    WHERE earlier.batch_id = ended.batch_id AND earlier.event = 'batch.started'
                        AND earlier.rowid < ended.rowid
                ), '') AS started_at,
                coalesce(published_at, '') AS published_at,
                iif(
                    event = 'batch.published' AND json_valid(result),
                    json_extract(result, '$.files', '$.score', '$.seconds'), ''
                ) AS result
            FROM history AS ended
            JOIN batch USING (batch_id)
            WHERE ended.rowid > ? AND event IN ({marks(list(OUTCOME_EVENTS))})
            ORDER BY ended.rowid
        """
        for row in self._db.execute(query, (number, *OUTCOME_EVENTS)):
            yield BatchOutcome(**dict(row))

    def open_batches(self, states: Sequence[State]) -> dict[tuple[str, State], tuple[int, str]]:
        """Returns, by source and state, the number of batches and the arrival of the oldest one."""
        query = f"""
            SELECT source, state, count(*) AS n, min(received_at) AS received_at
            FROM batch INDEXED BY batch_state WHERE state IN ({marks(states)}) GROUP BY source, state
        """
        return {(r["source"], State(r["state"])): (r["n"], r["received_at"]) for r in self._db.execute(query, states)}

"""Decides which troubles and batches need a person now. Changes nothing."""

import datetime as dt
from dataclasses import dataclass

from daemon.batch import Batch, State
from daemon.clock import as_text, from_text
from daemon.ledger.ledger_reader import LedgerReader
from daemon.ledger.live_state import Trouble, TroubleKind
from daemon.text import join_names

SHORT_WAIT = dt.timedelta(seconds=10)  # the files of one delivery come and settle within some seconds


@dataclass(frozen=True, kw_only=True)
class Need:
    """One thing that a person should look at, with the command that says more."""

    kind: str  # the kind of a trouble, or the state of a batch: FAILED, REJECTED, WAITING
    source: str
    subject: str  # of a trouble its subject, of a batch its date, or its trigger where it has no date
    batch_id: str
    reason: str
    command: str
    since: str
    until: str | None = None  # when a waiting batch will be rejected

    @property
    def is_trouble(self) -> bool:
        return self.kind.islower()


def needs(
    reader: LedgerReader,
    now: dt.datetime,
    *,
    missing_file_timeout_seconds: float,
    daemon_since: dt.datetime | None = None,
) -> list[Need]:
    """Returns every need, worst first: open troubles, failed, rejected, and waiting batches with missing files.

    A rejected batch is left out when it was dismissed or resolved. A daemon counts the time of a waiting batch from its
    own start. A commit of another program is left out where the batch that failed because of it is there.
    """
    failed = reader.batches(State.FAILED)
    failed_ids = {b.batch_id for b in failed}
    troubles = [t for t in reader.troubles() if t.batch_id not in failed_ids or t.kind != TroubleKind.EXTERNAL_COMMIT]
    rejected = reader.open_rejections()[::-1]
    waiting = [b for b in reversed(reader.batches(State.WAITING)) if b.waiting_for and _waits_long(b, now)]
    timeout = missing_file_timeout_seconds
    return [
        *map(_trouble_need, troubles),
        *(_batch_need(b, _decided_at(reader, b)) for b in (*failed, *rejected)),
        *(_waiting_need(b, end_of_wait(b, timeout, now, daemon_since)) for b in waiting),
    ]


def status_line(reader: LedgerReader, now: dt.datetime, *, missing_file_timeout_seconds: float) -> str:
    """Returns one line for systemd: the stage of the running batch or `idle`, and the number of needs."""
    activity = reader.activity()
    work = "idle"
    if activity is not None:
        batch = reader.batch(activity.batch_id)
        seconds = (now - from_text(activity.stage_since or activity.since)).total_seconds()
        work = f"{batch.source} {batch.batch_date}: {activity.stage or 'between two stages'}, {max(0, seconds):.0f} s"
    found = needs(reader, now, missing_file_timeout_seconds=missing_file_timeout_seconds)
    return f"{work}; needs you {len(found)} (lakegate status)" if found else work


def missing_files(batch: Batch) -> str:
    """Returns `4 of 5 files came; waits for shipping_2026_03_04.csv`."""
    expected = len(batch.data_files)
    came = max(0, expected - len(batch.waiting_for))
    return f"{came} of {expected} files came; waits for {join_names(batch.waiting_for)}"


def end_of_wait(
    batch: Batch, timeout_seconds: float, now: dt.datetime, daemon_since: dt.datetime | None
) -> dt.datetime:
    """Returns when a waiting batch is rejected. The daemon counts from its own start."""
    received = from_text(batch.received_at)
    began = received if daemon_since is None else max(received, daemon_since)
    return max(began + dt.timedelta(seconds=timeout_seconds), now)  # a daemon that does not run rejects no batch


def short_id(batch_id: str) -> str:
    """Returns the last six letters of a batch id, which the commands accept."""
    return batch_id[-6:]


# ---- details


def _trouble_need(trouble: Trouble) -> Need:
    tries = f" ({trouble.tries} times)" if trouble.tries > 1 else ""
    return Need(
        kind=trouble.kind,
        source=trouble.source,
        subject=trouble.subject,
        batch_id=trouble.batch_id,
        reason=f"{trouble.reason}{tries}",
        command="lakegate check",
        since=trouble.since,
    )


def _batch_need(batch: Batch, since: str) -> Need:
    return Need(
        kind=str(batch.state),
        source=batch.source,
        subject=str(batch.batch_date or batch.trigger),
        batch_id=batch.batch_id,
        reason=batch.reason,
        command=f"lakegate batches {short_id(batch.batch_id)}",
        since=since,
    )


def _decided_at(reader: LedgerReader, batch: Batch) -> str:
    return next((h["changed_at"] for h in reversed(reader.history(batch.batch_id)) if h["state"] == batch.state), "")


def _waits_long(batch: Batch, now: dt.datetime) -> bool:
    return now - from_text(batch.received_at) >= SHORT_WAIT


def _waiting_need(batch: Batch, until: dt.datetime) -> Need:
    return Need(
        kind=str(batch.state),
        source=batch.source,
        subject=str(batch.batch_date or batch.trigger),
        batch_id=batch.batch_id,
        reason=batch.reason or missing_files(batch),
        command=f"lakegate batches {short_id(batch.batch_id)}",
        since=batch.received_at,
        until=as_text(until),
    )

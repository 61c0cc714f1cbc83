"""Names the state of a batch for a reader: a word, a colour and a sign for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daemon.batch import Batch, State

GOOD, PART, BAD, WAIT, BUSY, CALM = "good", "part", "bad", "wait", "busy", "calm"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A word for a state, with the class of its colour and the name of its sign: no colour stands alone."""

    word: str
    tone: str
    sign: str


_BY_STATE: Mapping[State, Outcome] = {
    State.WAITING: Outcome(word="waiting", tone=WAIT, sign="clock"),
    State.READY: Outcome(word="queued", tone=BUSY, sign="queue"),
    State.RUNNING: Outcome(word="running", tone=BUSY, sign="play"),
    State.PUBLISHED: Outcome(word="published", tone=GOOD, sign="check"),
    State.ARCHIVED: Outcome(word="published", tone=GOOD, sign="check"),
    State.DUPLICATE: Outcome(word="duplicate", tone=CALM, sign="equal"),
    State.REJECTED: Outcome(word="rejected", tone=BAD, sign="cross"),
    State.FAILED: Outcome(word="failed", tone=BAD, sign="bang"),
}
_WITH_REJECTED_ROWS = Outcome(word="published", tone=PART, sign="part")


def outcome(batch: Batch) -> Outcome:
    """Returns the outcome of a batch; a published batch with rejected rows has a sign of its own."""
    if batch.duplicate_of:
        return _BY_STATE[State.DUPLICATE]
    if batch.state in (State.PUBLISHED, State.ARCHIVED) and (batch.result or {}).get("rows_rejected"):
        return _WITH_REJECTED_ROWS
    return _BY_STATE[batch.state]


def result(batch: Batch) -> dict[str, Any]:
    """Returns the counts and the score of a batch; None for each that is not known."""
    known = batch.result or {}
    return {name: known.get(name) for name in ("rows_read", "rows_accepted", "rows_rejected", "score")}


def of_state(kind: str) -> Outcome:
    """Returns the outcome of the name of a state; of any other word, such as the kind of a trouble, a bad one."""
    if kind in State.__members__:
        return _BY_STATE[State(kind)]
    return Outcome(word=kind.replace("_", " "), tone=BAD, sign="bang")


def sentence(batch: Batch) -> str:
    """Returns a batch in one line: `retail 2026-03-02: published, 77 of 86 rows`."""
    counts = result(batch)
    rows = f", {counts['rows_accepted']:,} of {counts['rows_read']:,} rows" if counts["rows_read"] else ""
    subject = " ".join(filter(None, (batch.source, str(batch.batch_date or "")))) or batch.trigger
    return f"{subject}: {outcome(batch).word}{rows}"

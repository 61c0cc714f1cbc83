"""Shows batches: as JSON, as a list, and as the story of one batch. Changes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon.batch import Batch, State
from daemon.cli import open_batch, output
from daemon.config.config import Config
from daemon.finish.archive_documents import can_be_corrected, next_step_of_rejected
from daemon.ledger.ledger import Ledger
from daemon.ledger.rejection_end import RejectionEnd, rejection_ends
from daemon.text import escape, join_names

LONGEST_STORY = 12  # lines
MOST_RULES = 3  # lines for rules that need no decision
MOST_CHANGES = 8  # state changes in the history line

Line = tuple[str, str]  # a label and a text


def as_record(batch: Batch, end: RejectionEnd | None = None) -> dict[str, Any]:
    """Returns a batch in the shape of `batches --json`; `end` is that of its rejection, where that is over."""
    return {
        "batch_id": batch.batch_id,
        "source": batch.source,
        "batch_date": batch.batch_date.isoformat() if batch.batch_date else None,
        "state": str(batch.state),
        "reason": batch.explanation,
        "trigger": batch.trigger,
        "files": [{"name": f.name, "feed": f.feed, "sha256": f.sha256, "bytes": f.bytes} for f in batch.files],
        "attempts": batch.attempts,
        "received_at": batch.received_at,
        "published_at": batch.published_at,
        "archived_at": batch.archived_at,
        "over": asdict(end) if end else None,
    }


def as_full_record(batch: Batch, ledger: Ledger) -> dict[str, Any]:
    """Returns a batch in the shape of `batches ID --json`: also its history, its missing files, its last result."""
    return {
        **as_record(batch, rejection_ends(ledger, [batch]).get(batch.batch_id)),
        "revision": batch.revision,
        "identity": batch.identity,
        "duplicate_of": batch.duplicate_of,
        "waiting_for": list(batch.waiting_for),
        "notes": list(batch.notes),
        "next_attempt_at": batch.next_attempt_at,
        "history": ledger.history(batch.batch_id),
        "result": batch.result,
    }


def print_list(batches: Sequence[Batch], most: int, ledger: Ledger) -> None:
    """Prints the first batches, at most `most`: a line for each, and the reason of its state below it."""
    shown = batches[:most]
    ends = rejection_ends(ledger, shown)
    columns = ("BATCH", "SOURCE", "DATE", "STATE", "ROWS", "REJ", "SCORE", "RECEIVED UTC")
    rows = [
        (
            short_id(batch),
            batch.source,
            batch.batch_date,
            batch.state,
            _result(batch).get("rows_read"),
            _result(batch).get("rows_rejected"),
            _score(_result(batch)),
            batch.received_at[:16].replace("T", " "),
        )
        for batch in shown
    ]
    output.print_table(columns, rows, numbers=("ROWS", "REJ", "SCORE"), below=[_reason(b, ends) for b in shown])
    if len(shown) < len(batches):
        hidden = len(batches) - len(shown)
        output.print_message(f"{hidden} older ones: lakegate batches --limit {len(batches)}")


def short_id(batch: Batch) -> str:
    """Returns the last part of the id, which is enough to name the batch in a command."""
    return batch.batch_id.rpartition("-")[2]


def _reason(batch: Batch, ends: Mapping[str, RejectionEnd]) -> str:
    is_named = batch.source or batch.trigger in batch.reason
    reason = batch.reason if is_named or not batch.reason else f"{batch.trigger}: {batch.reason}"
    return f"{_over(ends[batch.batch_id])} · {reason}" if batch.batch_id in ends else reason


def _over(end: RejectionEnd) -> str:
    by = f" by {end.by[-6:]}" if end.by else ""
    return f"{end.how}{by} at {output.format_time(end.at)}"


def _result(batch: Batch) -> Mapping[str, Any]:
    """Returns the counts of a batch; none where no row of it was counted, since 0 would be a count."""
    result = batch.result or {}
    return result if batch.published_at or result.get("rows_read") else {}


def _score(result: Mapping[str, Any]) -> str:
    return f"{result['score']:.2f}" if result.get("score") is not None else ""


def story(batch: Batch, ledger: Ledger, config: Config) -> list[str]:
    """Returns at most twelve lines: state, cause, effect, files and next step of a batch, broken rules, history."""
    lines = [line for line in (*_outcome(batch, ledger, config), *_corrections(batch)) if line[1]]
    end = [line for line in (("history", _history(batch, ledger)), ("look", _look(batch))) if line[1]]
    rules = _broken_rules(batch, LONGEST_STORY - len(lines) - len(end) - 1)  # one: the headline
    lines += [*rules, *end]
    return [_headline(batch, config), *(f"  {label:<8}{text}" for label, text in lines)]


def _headline(batch: Batch, config: Config) -> str:
    subject = " ".join(filter(None, (batch.source, str(batch.batch_date or "")))) or escape(batch.trigger)
    stage = (batch.result or {}).get("stage", "")
    is_open = batch.state in (State.READY, State.RUNNING, State.FAILED)
    most = f" of {config.retry.attempts}" if is_open else ""
    attempt = f"attempt {batch.attempts}{most}" if batch.attempts else ""
    state = output.coloured(batch.state, batch.state)
    return " · ".join(filter(None, (f"{state}  {subject}", f"batch {batch.batch_id}", stage, attempt)))


def _history(batch: Batch, ledger: Ledger) -> str:
    changes = ledger.history(batch.batch_id)[-MOST_CHANGES:]
    times = output.format_times([c["changed_at"] for c in changes])
    names = (c["event"].removeprefix("batch.") for c in changes)
    return " · ".join(f"{name} {time}" for name, time in zip(names, times, strict=True))


def _outcome(batch: Batch, ledger: Ledger, config: Config) -> Iterator[Line]:
    result = batch.result or {}
    is_unsuccessful = batch.state in (State.REJECTED, State.FAILED)
    yield "trigger", f"{escape(batch.trigger)}, received {output.format_time(batch.received_at)}"
    yield "cause" if is_unsuccessful else "reason", batch.reason
    for note in (*batch.notes[:1], "; ".join(batch.notes[1:])):
        yield "note", note
    if is_unsuccessful:
        yield "effect", f"no table changed; {_state_of_gold(batch, ledger)}"
    elif batch.published_at and "rows_read" in result:
        yield "rows", _counts(result)
    yield from open_batch.lines(batch, ledger, config)
    yield "files", _files(batch, config)
    if end := rejection_ends(ledger, [batch]).get(batch.batch_id):
        yield "over", _over(end)
    else:
        yield "next", open_batch.next_step(batch, config) or next_step(batch)


def _state_of_gold(batch: Batch, ledger: Ledger) -> str:
    if dates := [shown["batch_date"] for shown in ledger.gold_shows() if shown["source"] == batch.source]:
        return f"gold shows {dates[0]}"
    return "gold is empty" if batch.source else "gold is as it was"


def _counts(result: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{result.get(f'rows_{name}', 0):,} {name}" for name in ("read", "accepted", "rejected"))
    return f"{counts} · score {_score(result)}" if _score(result) else counts


def _look(batch: Batch) -> str:
    """Returns the command that shows the rejected rows of a published batch; "" where it has none."""
    rejected = _result(batch).get("rows_rejected", 0) if batch.published_at else 0
    return f"lakegate quarantine {short_id(batch)} ({output.plural(rejected, 'row')})" if rejected else ""


def _files(batch: Batch, config: Config) -> str:
    files = batch.data_files
    text = "no data files"
    if batch.state == State.REJECTED and batch.waiting_for:
        came = len(files) - len(batch.waiting_for)
        text = f"{came} of {output.plural(len(files), 'file')} came"
    elif files:
        bytes_ = sum(f.bytes for f in files)
        size = f", {output.size(bytes_)}" if bytes_ else ""  # of files that were not claimed the size is unknown
        text = f"{output.plural(len(files), 'file')}{size}: {join_names(f.name for f in files)}"
    folder = _folder(batch, config)
    return f"{text} · {folder}" if folder else text


def _folder(batch: Batch, config: Config) -> str:
    landing = config.landing
    match batch.state:
        case State.ARCHIVED:
            return _relative(landing.archive_path / batch.source / str(batch.batch_date) / batch.batch_id, config)
        case State.REJECTED:
            return _relative(landing.rejected_path / batch.batch_id, config) + " (reason.json has more)"
        case State.READY | State.RUNNING | State.PUBLISHED | State.DUPLICATE | State.FAILED:
            return "claimed"
        case _:
            return ""


def _relative(path: Path, config: Config) -> str:
    folder = config.path.parent
    return f"{path.relative_to(folder) if path.is_relative_to(folder) else path}/"


def next_step(batch: Batch) -> str:
    """Returns what a person can do about the batch, or when the daemon goes on; "" when there is no next step."""
    match batch.state:
        case State.REJECTED:
            dismiss = (
                "" if can_be_corrected(batch) else f"; or `lakegate dismiss {short_id(batch)}`, if none is to come"
            )
            return f"{next_step_of_rejected(batch)}{dismiss}"
        case State.FAILED:
            retry = f"`lakegate retry {batch.batch_id}` tries again"
            abandon = f"`lakegate abandon {batch.batch_id}` moves its files to the rejected ones"
            return f"nothing, until the cause is removed; then {retry}, {abandon}"
        case State.WAITING:
            return "it starts by itself when its files have come and settled"
        case State.READY if batch.next_attempt_at:
            return f"attempt {batch.attempts + 1} begins at {output.format_time(batch.next_attempt_at)}"
        case _:
            return ""


def _corrections(batch: Batch) -> Iterator[Line]:
    """Yields one line when files of the batch were sent before with other content."""
    corrections = (batch.result or {}).get("corrections", ())
    if corrections:
        first = corrections[0]
        earlier = f"batch {first['of']}" if first["of"] else "an earlier batch"
        names = join_names(c["name"] for c in corrections)
        effect = f"so taken for a correction, revision {first['revision']}: its rows win"
        yield "again", f"{names}: came before with other content ({earlier}), {effect}"


def _broken_rules(batch: Batch, most: int) -> list[Line]:
    """Returns the rules that rows broke, worst first.

    A rule that needs a person's decision comes before all others, with an example and with its advice.
    """
    by_weight = sorted(
        (r for r in (batch.result or {}).get("findings", ()) if r["broken"]),
        key=lambda r: (r["severity"] != "HIGH", r["severity"] != "MEDIUM", -r["broken"]),
    )
    lines = list[Line]()
    for rule in by_weight:
        if rule.get("advice"):
            example = f": {escape(rule['examples'][0])}" if rule["examples"] else ""
            lines += [("action", _count_line(rule) + example), ("", rule["advice"])]
    decided = [rule for rule in by_weight if not rule.get("advice")]
    high = [r for r in by_weight if r["severity"] == "HIGH" and r["action"] == "WARN"] if batch.published_at else []
    is_new = any(rule in decided for rule in high)  # else the lines above name them all
    others = [_published_although(high) if is_new else "", *(_count_line(r) for r in decided if r not in high)]
    others = [text for text in others if text]
    limit = max(1, min(most - len(lines), MOST_RULES))
    if len(others) > limit:
        others = [*others[: limit - 1], f"{others[limit - 1]}, and {output.plural(len(others) - limit, 'more rule')}"]
    return [*lines, *(("rules", text) for text in others)]


def _published_although(high: Sequence[Mapping[str, Any]]) -> str:
    """Returns one sentence about HIGH rules that accepted rows break: their batch is published, and its status FAIL."""
    counts = [f"{r['rule']} ({r['broken']:,} of {r['checked']:,})" for r in high]
    count = output.plural(len(high), "HIGH rule")
    return f"published, with {count} broken by accepted rows: {join_names(counts)}" if high else ""


def _count_line(rule: Mapping[str, Any]) -> str:
    counts = f"{rule['broken']:,} of {rule['checked']:,}"
    return f"{counts} break {rule['feed']}.{rule['rule']} ({rule['severity']} {rule['action']})"

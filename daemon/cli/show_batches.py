"""Shows batches: as JSON, as a list, and as the story of one batch. Changes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.batch import Batch, State
from daemon.cli import open_batch, output
from daemon.config.config import Config
from daemon.ledger.ledger import Ledger
from daemon.text import escape, join_names

LONGEST_STORY = 12  # lines
MOST_RULES = 3  # lines for rules that need no decision
MOST_CHANGES = 8  # state changes in the history line

Line = tuple[str, str]  # a label and a text


def as_record(batch: Batch) -> dict[str, Any]:
    """Returns a batch in the shape of `batches --json`."""
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
    }


def as_full_record(batch: Batch, ledger: Ledger) -> dict[str, Any]:
    """Returns a batch in the shape of `batches ID --json`: also its history, its missing files, its last result."""
    return {
        **as_record(batch),
        "revision": batch.revision,
        "identity": batch.identity,
        "duplicate_of": batch.duplicate_of,
        "waiting_for": list(batch.waiting_for),
        "notes": list(batch.notes),
        "next_attempt_at": batch.next_attempt_at,
        "history": ledger.history(batch.batch_id),
        "result": batch.result,
    }


def print_list(batches: Sequence[Batch], most: int) -> None:
    """Prints a table of the first batches, at most `most`."""
    shown = batches[:most]
    columns = ("BATCH", "SOURCE", "DATE", "STATE", "FILES", "RECEIVED", "TRIGGER", "REASON")
    rows = [
        (
            batch.batch_id,
            batch.source,
            batch.batch_date,
            batch.state,
            len(batch.data_files),
            output.format_time(batch.received_at),
            batch.trigger,
            batch.explanation,
        )
        for batch in shown
    ]
    output.print_table(columns, rows, numbers=("FILES",))
    if len(shown) < len(batches):
        hidden = len(batches) - len(shown)
        output.print_message(f"{hidden} older ones: lakegate batches --limit {len(batches)}")


def story(batch: Batch, ledger: Ledger, config: Config) -> list[str]:
    """Returns at most twelve lines: state, cause, effect, files and next step of a batch, broken rules, history."""
    lines = [*_outcome(batch, ledger, config), *_corrections(batch)]
    history = ("history", _history(batch, ledger))
    rules = _broken_rules(batch, LONGEST_STORY - len(lines) - 2)  # two: the headline and the history
    lines += [*rules, history]
    return [_headline(batch, config), *(f"  {label:<8}{text}" for label, text in lines if text)]


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
    yield "trigger", f"{escape(batch.trigger)} at {output.format_time(batch.received_at)}"
    yield "cause" if is_unsuccessful else "reason", batch.reason
    for note in (*batch.notes[:1], "; ".join(batch.notes[1:])):
        yield "note", note
    if is_unsuccessful:
        yield "effect", f"no table changed; {_state_of_gold(batch, ledger)}"
    elif batch.published_at and "rows_read" in result:
        yield "rows", _counts(result)
    yield from open_batch.lines(batch, ledger, config)
    yield "files", _files(batch, config)
    yield "next", open_batch.next_step(batch, config) or next_step(batch)


def _state_of_gold(batch: Batch, ledger: Ledger) -> str:
    dates = [
        b.batch_date
        for b in ledger.batches(State.PUBLISHED, State.ARCHIVED)
        if b.source == batch.source and b.published_at and b.batch_date
    ]
    if dates:
        return f"gold shows {max(dates)}"
    return "gold is empty" if batch.source else "gold is as it was"


def _counts(result: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{result.get(f'rows_{name}', 0):,} {name}" for name in ("read", "accepted", "rejected"))
    score = f" · score {result['score']:.2f}" if result.get("score") is not None else ""
    return f"{counts}{score} · {result.get('validation_status') or 'PASS'}"


def _files(batch: Batch, config: Config) -> str:
    files = batch.data_files
    text = "no data files"
    if files:
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
    count = len(batch.data_files)
    match batch.state:
        case State.REJECTED if batch.waiting_for:
            received = "the files that did come are still in the landing folder"
            return f"{received}: deliver the missing ones, and a new trigger"
        case State.REJECTED:
            files = "the file" if count == 1 else f"the {count} files" if count else "the files"
            return f"correct what the cause names, deliver {files} and a new trigger"
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
    others = [_count_line(rule) for rule in by_weight if not rule.get("advice")]
    limit = max(1, min(most - len(lines), MOST_RULES))
    if len(others) > limit:
        others = [*others[: limit - 1], f"{others[limit - 1]}, and {output.plural(len(others) - limit, 'more rule')}"]
    return [*lines, *(("rows", text) for text in others)]


def _count_line(rule: Mapping[str, Any]) -> str:
    counts = f"{rule['broken']:,} of {rule['checked']:,}"
    return f"{counts} break {rule['feed']}.{rule['rule']} ({rule['severity']} {rule['action']})"

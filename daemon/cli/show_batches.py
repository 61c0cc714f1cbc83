"""Shows batches: the shape that programs rely on, the list for people, and one batch's story. Changes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.batch import Batch, State
from daemon.cli import output
from daemon.config.config import Config
from daemon.ledger.ledger import Ledger
from daemon.text import escape, join_names

LONGEST_STORY = 12  # lines
MOST_FINDINGS = 3


def as_record(batch: Batch) -> dict[str, Any]:
    """One batch in the shape of `batches --json`."""
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
    """One batch with everything that is known of it: history, what it waits for, the worker's last answer."""
    more = {"revision": batch.revision, "identity": batch.identity, "duplicate_of": batch.duplicate_of}
    lists = {"waiting_for": list(batch.waiting_for), "notes": list(batch.notes)}
    rest = {"next_attempt_at": batch.next_attempt_at, "history": ledger.history(batch.batch_id), "result": batch.result}
    return {**as_record(batch), **more, **lists, **rest}


def print_list(batches: Sequence[Batch], most: int | None) -> None:
    """A table, newest first."""
    shown = batches if most is None else batches[:most]
    columns = ("BATCH", "SOURCE", "DATE", "STATE", "FILES", "RECEIVED", "TRIGGER", "REASON")
    rows = [
        (
            b.batch_id,
            b.source,
            b.batch_date,
            b.state,
            len(b.data_files),
            output.moment(b.received_at),
            b.trigger,
            b.explanation,
        )
        for b in shown
    ]
    output.print_table(columns, rows, numbers=("FILES",))
    if len(shown) < len(batches):
        output.say(f"{len(batches) - len(shown)} older ones: lakegate batches --limit {len(batches)}")


def story(batch: Batch, ledger: Ledger, config: Config) -> list[str]:
    """At most twelve lines: what became of the batch, why, what it changed, where its files are, what to do next."""
    tail = [
        (
            "history",
            " · ".join(
                f"{h['event'].removeprefix('batch.')} {h['changed_at'][11:19]}"
                for h in ledger.history(batch.batch_id)[-8:]
            ),
        )
    ]
    lines = [*_told(batch, ledger, config), *_corrections(batch), *tail]
    findings = _findings(batch, LONGEST_STORY - len(lines) - 1)
    lines[-1:-1] = findings
    return [_headline(batch, config), *(f"  {label:<8}{text}" for label, text in lines if text)]


def _headline(batch: Batch, config: Config) -> str:
    what = " ".join(filter(None, (batch.source, str(batch.batch_date or "")))) or escape(batch.trigger)
    stage = (batch.result or {}).get("stage", "")
    of = f" of {config.retry.attempts}" if batch.state in (State.READY, State.RUNNING, State.FAILED) else ""
    begun = f"attempt {batch.attempts}{of}" if batch.attempts else ""
    return " · ".join(
        filter(None, (f"{output.coloured(batch.state, batch.state)}  {what}", f"batch {batch.batch_id}", stage, begun))
    )


def _told(batch: Batch, ledger: Ledger, config: Config) -> Iterator[tuple[str, str]]:
    result = batch.result or {}
    is_verdict = batch.state in (State.REJECTED, State.FAILED)
    yield "trigger", f"{escape(batch.trigger)} at {output.moment(batch.received_at)}"
    yield ("cause" if is_verdict else "reason"), batch.reason
    yield from (("note", note) for note in (*batch.notes[:1], "; ".join(batch.notes[1:])))
    if is_verdict:
        yield "effect", f"no table changed; {_gold_shows(batch, ledger)}"
    elif batch.published_at and "rows_read" in result:
        yield "rows", _counts(result)
    elif batch.waiting_for:
        yield "missing", join_names(batch.waiting_for)
    yield "files", _files(batch, config)
    yield "next", next_step(batch)


def _gold_shows(batch: Batch, ledger: Ledger) -> str:
    dates = [
        b.batch_date
        for b in ledger.batches(State.PUBLISHED, State.ARCHIVED)
        if b.source == batch.source and b.published_at and b.batch_date
    ]
    return f"gold shows {max(dates)}" if dates else "gold is empty" if batch.source else "gold is as it was"


def _counts(result: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{result.get(f'rows_{name}', 0):,} {name}" for name in ("read", "accepted", "rejected"))
    score = f" · score {result['score']:.2f}" if result.get("score") is not None else ""
    return f"{counts}{score} · {result.get('validation_status') or 'PASS'}"


def _files(batch: Batch, config: Config) -> str:
    count, bytes_ = len(batch.data_files), sum(f.bytes for f in batch.data_files)
    what = (
        f"{output.plural(count, 'file')}, {output.size(bytes_)}: {join_names(f.name for f in batch.data_files)}"
        if count
        else "no data files"
    )
    return f"{what} · {folder}" if (folder := _folder(batch, config)) else what


def _folder(batch: Batch, config: Config) -> str:
    landing = config.landing
    match batch.state:
        case State.ARCHIVED:
            return _short(landing.archive_path / batch.source / str(batch.batch_date) / batch.batch_id, config)
        case State.REJECTED:
            return _short(landing.rejected_path / batch.batch_id, config) + " (reason.json says more)"
        case State.READY | State.RUNNING | State.PUBLISHED | State.DUPLICATE | State.FAILED:
            return "claimed"
        case _:
            return ""


def _short(path: Path, config: Config) -> str:
    folder = config.path.parent
    return f"{path.relative_to(folder) if path.is_relative_to(folder) else path}/"


def next_step(batch: Batch) -> str:
    """What the person can do about the batch, or what happens by itself."""
    count = len(batch.data_files)
    match batch.state:
        case State.REJECTED if batch.waiting_for:
            return (
                "the files that did come are still in the landing folder: deliver the missing ones, and a new trigger"
            )
        case State.REJECTED:
            return f"correct what the cause names, deliver {'the file' if count == 1 else f'the {count} files' if count else 'the files'} and a new trigger"
        case State.FAILED:
            again, never = f"`lakegate retry {batch.batch_id}`", f"`lakegate abandon {batch.batch_id}`"
            ways = f"{again} tries again, {never} puts its files into the rejected ones"
            return f"nothing, until the cause is mended; then {ways}"
        case State.WAITING:
            return "it starts by itself when its files have come and settled"
        case State.READY if batch.next_attempt_at:
            return f"attempt {batch.attempts + 1} begins at {output.moment(batch.next_attempt_at)}"
        case _:
            return ""


def _corrections(batch: Batch) -> Iterator[tuple[str, str]]:
    """Yields one line for the files that were sent again with other content."""
    corrections = (batch.result or {}).get("corrections", ())
    if corrections:
        first = corrections[0]
        earlier = f"batch {first['of']}" if first["of"] else "an earlier batch"
        names = join_names(c["name"] for c in corrections)
        yield (
            "again",
            f"{names}: came before with other content ({earlier}), so taken for a correction, revision {first['revision']}: its rows win",
        )


def _findings(batch: Batch, most: int) -> list[tuple[str, str]]:
    """Returns the rules that rows broke: first those that a person has to see to, each with an example and what to do."""
    by_weight = sorted(
        (batch.result or {}).get("findings", ()),
        key=lambda f: (f["severity"] != "HIGH", f["severity"] != "MEDIUM", -f["broken"]),
    )
    found = [f for f in by_weight if f["broken"]]
    lines = list[tuple[str, str]]()
    for f in (f for f in found if f.get("advice")):
        lines += [
            ("see to", _broken(f) + (f": {escape(f['examples'][0])}" if f["examples"] else "")),
            ("", f["advice"]),
        ]
    plain = [_broken(f) for f in found if not f.get("advice")]
    room = max(1, min(most - len(lines), MOST_FINDINGS))
    if len(plain) > room:
        plain = [*plain[: room - 1], f"{plain[room - 1]}, and {len(plain) - room} more rules"]
    return [*lines, *(("rows", text) for text in plain)]


def _broken(finding: Mapping[str, Any]) -> str:
    return f"{finding['broken']:,} of {finding['checked']:,} break {finding['feed']}.{finding['rule']} ({finding['severity']} {finding['action']})"

"""Writes the alerts about batches: one that needs a person, and one that needs a person no more."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.alerts.alert import Alert, Block, Severity, thread_of
from daemon.alerts.wording import short_cause, short_time
from daemon.batch import Batch, State
from daemon.config.config import Config
from daemon.finish.archive_documents import can_be_corrected, next_step_of_rejected
from daemon.ledger.ledger_reader import LedgerReader
from daemon.text import escape, join_names, one_line

MOST_RULES = 5
MOST_EXAMPLES = 3
LONGEST_EXAMPLE = 400
MOST_CHANGES = 8


def batch_alert(batch: Batch, ledger: LedgerReader, config: Config) -> Alert:
    """Returns the alert about a rejected or failed batch."""
    short_id = batch.batch_id[-6:]
    facts = {
        "Effect": f"no table changed; {_gold(batch, ledger)}",
        "Next": _next_step(batch, short_id),
        "Files": _files(batch),
        "Folder": f"{_folder(batch, config)}/",
        "History": _history(batch, ledger),
        "More": f"lakegate batches {short_id}",
    }
    return Alert(
        severity=Severity.FAILURE,
        title=f"{batch.state} {_subject(batch)}: {short_cause(batch.reason.removeprefix(f'{_subject(batch)}: '))}",
        summary=one_line(batch.reason),
        facts=tuple(facts.items()),
        blocks=tuple(_rules(batch, with_rows=config.alerts.example_rows)),
        link=page(config, f"/batch/{batch.batch_id}"),
        end=_end(batch, short_id),
        thread=thread_of("batch", batch.batch_id),
    )


def batch_over_alert(batch: Batch, ledger: LedgerReader, config: Config) -> Alert:
    """Returns the alert that a rejected or failed batch needs a person no more."""
    is_itself = batch.state != State.REJECTED
    newest = batch if is_itself else ledger.last_of_date(batch.source, batch.batch_date)
    published = newest or batch
    how = f"published by batch {published.batch_id[-6:]}"
    if batch.duplicate_of:
        how = f"its content was published before, by batch {batch.duplicate_of[-6:]}"
    earlier = next((c for c in reversed(ledger.history(batch.batch_id)) if c["event"] in _DECISIONS), None)
    facts = {
        "Effect": _gold(batch, ledger),
        "Rows": _rows(published.result or {}),
        "Was": f"{_DECISIONS[earlier['event']]} {short_time(earlier['changed_at'])}: {earlier['reason']}"
        if earlier
        else "",
        "More": f"lakegate batches {published.batch_id[-6:]}",
    }
    return Alert(
        severity=Severity.SUCCESS,
        title=f"RESOLVED {_subject(batch)}: {how}",
        summary=f"{_subject(batch)} needs nothing more: {how}.",
        facts=tuple((label, fact) for label, fact in facts.items() if fact),
        link=page(config, f"/batch/{published.batch_id}"),
        thread=thread_of("batch", batch.batch_id),
    )


def changed_file_alert(batch: Batch, reason: str, config: Config) -> Alert:
    """Returns the alert about files that changed after they were claimed."""
    short_id = batch.batch_id[-6:]
    facts = {
        "Effect": "the tables hold the content as it was claimed; the changed files are not in the archive",
        "Next": "find out which program writes to the claim folder; Lakegate alone may do so",
        "More": f"lakegate batches {short_id}",
    }
    return Alert(
        severity=Severity.WARNING,
        title=f"CHANGED {_subject(batch)}: a claimed file was changed",
        summary=one_line(reason),
        facts=tuple(facts.items()),
        link=page(config, f"/batch/{batch.batch_id}"),
        thread=thread_of("changed", batch.batch_id),
    )


def page(config: Config, path: str) -> str:
    """Returns the address of a page; '' where no page is known."""
    return config.alerts.page_url.rstrip("/") + path if config.alerts.page_url else ""


# ---- details

_DECISIONS = {"batch.rejected": "REJECTED", "batch.failed": "FAILED"}


def _subject(batch: Batch) -> str:
    return " ".join(filter(None, (batch.source, str(batch.batch_date or "")))) or escape(batch.trigger)


def _gold(batch: Batch, ledger: LedgerReader) -> str:
    if not batch.source:
        return "gold is as it was"
    shown = next((g for g in ledger.gold_shows() if g["source"] == batch.source), None)
    return (
        f"gold shows {shown['batch_date']}, published {short_time(shown['published_at'])}" if shown else "gold is empty"
    )


def _next_step(batch: Batch, short_id: str) -> str:
    if batch.state == State.FAILED:
        return f"remove the cause, then `lakegate retry {short_id}`; or give it up with `lakegate abandon {short_id}`"
    return next_step_of_rejected(batch)


def _files(batch: Batch) -> str:
    files = batch.data_files
    if not files:
        return "no data files"
    if batch.waiting_for:
        came = len(files) - len(batch.waiting_for)
        return f"{came} of {len(files)} came; missing: {join_names(batch.waiting_for)}"
    size = sum(f.bytes for f in files)
    return join_names(f.name for f in files) + (f" ({size:,} bytes)" if size else "")


def _folder(batch: Batch, config: Config) -> Path:
    if batch.state == State.REJECTED:
        return config.landing.rejected_path / batch.batch_id
    return config.landing.claim_path


def _history(batch: Batch, ledger: LedgerReader) -> str:
    changes = ledger.history(batch.batch_id)[-MOST_CHANGES:]
    times = " · ".join(f"{c['event'].removeprefix('batch.')} {c['changed_at'][11:19]}" for c in changes)
    return f"{changes[0]['changed_at'][:10]} UTC: {times}" if changes else ""


def _rows(result: Mapping[str, Any]) -> str:
    if "rows_read" not in result:
        return ""
    return ", ".join(f"{result.get(f'rows_{name}', 0):,} {name}" for name in ("read", "accepted", "rejected"))


def _end(batch: Batch, short_id: str) -> str:
    if batch.state == State.FAILED:
        return "You get one more message when this batch is published."
    if can_be_corrected(batch):
        return "You get one more message when files of this date that correct it are published."
    return f"`lakegate dismiss {short_id}` takes it from the list of batches that need a person."


def _rules(batch: Batch, *, with_rows: bool) -> Iterator[Block]:
    """Yields the rules that rows broke, worst first, each with the first rows that break it."""
    by_weight = sorted((r for r in (batch.result or {}).get("findings", ()) if r["broken"]), key=_weight)
    yield from (_rule(r, with_rows=with_rows) for r in by_weight[:MOST_RULES])
    if more := len(by_weight) - MOST_RULES:
        yield from [Block(heading=f"and {more} more rules", lines=())] if more > 0 else []


def _weight(rule: Mapping[str, Any]) -> tuple[bool, bool, bool, bool, int]:
    is_high, is_medium = rule["severity"] == "HIGH", rule["severity"] == "MEDIUM"
    return rule["action"] != "REJECT", not rule.get("advice"), not is_high, not is_medium, -rule["broken"]


def _rule(rule: Mapping[str, Any], *, with_rows: bool) -> Block:
    counts = f"{rule['broken']:,} of {rule['checked']:,} rows break {rule['feed']}.{rule['rule']}"
    about = f": {rule['description']}" if rule.get("description") else ""
    advice = (f"→ {one_line(rule['advice'])}",) if rule.get("advice") else ()
    return Block(
        heading=one_line(f"{counts} ({rule['severity']} {rule['action']}){about}"),
        lines=(*advice, *(_examples(rule.get("examples", ())) if with_rows else ())),
    )


def _examples(rows: Sequence[str]) -> Iterator[str]:
    for row in rows[:MOST_EXAMPLES]:
        text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in row)
        yield text if len(text) <= LONGEST_EXAMPLE else f"{text[: LONGEST_EXAMPLE - 1]}…"

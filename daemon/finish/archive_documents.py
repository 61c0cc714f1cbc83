"""Writes receipt.json of an archived batch and reason.json of a rejected one. Pure: returns texts."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from daemon.batch import Batch, BatchFile, State
from daemon.text import join_names

RECEIPT = "receipt.json"
REASON = "reason.json"

Change = Mapping[str, str]  # claimed_sha256, found_sha256 ('' of an entry that is no file any more), found_in
Changes = Mapping[str, Change]  # by the sender's file name: the files that changed after they were claimed


def receipt_text(batch: Batch, archived_at: str, changes: Changes) -> str:
    """Returns the text of receipt.json: counts, hashes, seconds, table versions."""
    result = _result(batch)
    columns = ("batch_seq", "rows_read", "rows_accepted", "rows_rejected", "score", "validation_status")
    return _as_text(
        {
            **_head(batch),
            "duplicate_of": batch.duplicate_of or None,
            "published_at": batch.published_at,
            "archived_at": archived_at,
            **{name: result.get(name) for name in columns},
            "files": _files(batch, result, changes),
            "seconds": result.get("seconds", {}),
            "table_versions": result.get("table_versions", {}),
            "task_values": result.get("task_values", {}),
        }
    )


def reason_text(batch: Batch, rejected_at: str, changes: Changes) -> str:
    """Returns the text of reason.json: the reason, the effect, the next step, the counts per rule, examples."""
    result = _result(batch)
    columns = ("rows_read", "rows_accepted", "rows_rejected", "score", "validation_status")
    return _as_text(
        {
            **_head(batch),
            "reason": batch.reason,
            **(_outcome(batch) if batch.state == State.REJECTED else {}),
            "rejected_at": rejected_at,
            **{name: result.get(name) for name in columns},
            "rules": [finding for finding in result.get("findings", ()) if finding.get("broken")],
            "files": _files(batch, result, changes),
        }
    )


def can_be_corrected(batch: Batch) -> bool:
    """Whether later files can end a rejection; one without source, date or feeds stays until it is dismissed."""
    return bool(batch.source and batch.batch_date and any(f.feed for f in batch.data_files))


def next_step_of_rejected(batch: Batch) -> str:
    """Returns the next step of a person after a rejection."""
    count = len(batch.data_files)
    if missing := len(batch.waiting_for):
        return f"deliver the missing {'file' if missing == 1 else f'{missing} files'} and a new trigger"
    if not count:
        return "see to the cause, then deliver the files with a new trigger"
    files = "the file" if count == 1 else f"the {count} files"
    return f"correct what the cause names, deliver {files} and a new trigger"


def _result(batch: Batch) -> Mapping[str, Any]:
    """Returns the result of a batch, with its score to four places."""
    result = batch.result or {}
    return result if result.get("score") is None else {**result, "score": round(result["score"], 4)}


def change_reason(changes: Changes) -> str:
    """Returns one sentence about files that changed after they were claimed; '' where there is none."""
    if not changes:
        return ""
    places = join_names(change["found_in"] for change in changes.values())
    names = join_names(changes)
    return f"{names}: changed after it was claimed, and not archived; what it holds now is in {places}"


def _outcome(batch: Batch) -> dict[str, Any]:
    missing = list(batch.waiting_for)
    return {"effect": "no table changed", "next": next_step_of_rejected(batch), "missing": missing}


def _head(batch: Batch) -> dict[str, Any]:
    return {
        "batch_id": batch.batch_id,
        "source": batch.source or None,
        "batch_date": batch.batch_date.isoformat() if batch.batch_date else None,
        "revision": batch.revision,
        "trigger": batch.trigger,
        "received_at": batch.received_at,
        "attempts": batch.attempts,
        "notes": list(batch.notes),
    }


def _files(batch: Batch, result: Mapping[str, Any], changes: Changes) -> list[dict[str, Any]]:
    counts = {c["name"]: c for c in result.get("files", ())}
    columns = ("rows_read", "rows_accepted", "rows_rejected")
    return [
        {**_file(f, changes.get(f.name)), **{name: counts.get(f.name, {}).get(name) for name in columns}}
        for f in batch.files
    ]


def _file(f: BatchFile, change: Change | None) -> dict[str, Any]:
    if change:  # no file has the hash that was claimed
        return {"name": f.name, "feed": f.feed, "sha256": None, "bytes": None, "changed": change}
    packed = ("packed_sha256", "packed_bytes") if f.packed_sha256 else ()
    return {k: v for k, v in asdict(f).items() if k in ("name", "feed", "sha256", "bytes", *packed)}


def _as_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, default=str) + "\n"

"""The registry of log events: for each its level, its fields and its meaning. Every event of the log is in it."""

from collections.abc import Mapping
from dataclasses import dataclass

DEBUG = "debug"
INFO = "info"
WARNING = "warning"
ERROR = "error"
LEVELS = (DEBUG, INFO, WARNING, ERROR)
COMMON_FIELDS = ("timestamp", "level", "event")


@dataclass(frozen=True)
class Event:
    """One kind of log line. Beside its own fields it has the common ones; a field without a value may be absent."""

    level: str
    meaning: str
    fields: tuple[str, ...]


def _event(level: str, meaning: str, fields: str = "") -> Event:
    return Event(level, meaning, tuple(fields.split()))


_BATCH = "batch_id source trigger state batch_date reason attempt"
_COUNTS = "rows_read rows_accepted rows_rejected score validation_status"
_WORK = "batch_id source stage"
_TROUBLE = "kind subject source batch_id reason cure since tries"

EVENTS: Mapping[str, Event] = {
    "alert.failed": _event(
        ERROR,
        "An address did not take an alert; it is sent again after retry_in_seconds, or at the next start.",
        "title address reason retry_in_seconds",
    ),
    "alert.sent": _event(INFO, "An address took an alert.", "title address"),
    "archive.blocked": _event(
        ERROR, "A trigger file is no regular file and stays in the claim folder.", "batch_id file reason"
    ),
    "archive.changed": _event(
        ERROR, "A file changed after it was claimed; it is in the rejected folder.", "batch_id source reason"
    ),
    "archive.failed": _event(
        ERROR,
        "The files of a batch could not be archived; the daemon tries again.",
        "batch_id folder reason attempt retry_in_seconds",
    ),
    "attempt.error": _event(
        ERROR, "An attempt ended with an unforeseen error.", "batch_id source attempt reason trace"
    ),
    "attempt.rolled_back": _event(
        INFO, "The commits of an attempt that did not publish were undone.", f"{_WORK} tables foreign"
    ),
    "batch.archived": _event(INFO, "The files of the batch are in the archive folder.", _BATCH),
    "batch.dismissed": _event(INFO, "An operator wants no reminder of a rejected batch any more.", _BATCH),
    "batch.duplicate": _event(INFO, "The same content was published before; no table changes.", _BATCH),
    "batch.failed": _event(ERROR, "No attempt is left; an operator must decide.", f"{_BATCH} {_COUNTS}"),
    "batch.noted": _event(
        WARNING, "A decision about a bare batch may surprise, such as its date.", "batch_id source trigger reason"
    ),
    "batch.published": _event(INFO, "The tables and the manifest hold the batch.", f"{_BATCH} {_COUNTS}"),
    "batch.ready": _event(INFO, "All files of the batch are claimed.", f"{_BATCH} files"),
    "batch.received": _event(INFO, "A trigger became a batch of the ledger.", f"{_BATCH} files"),
    "batch.rejected": _event(ERROR, "The batch can never be published; reason says why.", f"{_BATCH} {_COUNTS}"),
    "batch.requeued": _event(WARNING, "An attempt was interrupted and is not counted.", _BATCH),
    "batch.retried": _event(INFO, "An operator gave a failed batch all its attempts again.", _BATCH),
    "batch.retry_scheduled": _event(
        WARNING, "An attempt failed; the next one begins at next_attempt_at.", f"{_BATCH} next_attempt_at"
    ),
    "batch.started": _event(INFO, "The worker received the batch.", _BATCH),
    "batch.waiting": _event(INFO, "Files of the batch have not arrived.", "batch_id source missing reason"),
    "claim.missing": _event(
        ERROR, "Claimed files are not in the claim folder; the batch waits for them.", "batch_id source reason"
    ),
    "claim.orphaned": _event(
        WARNING, "Files in the claim folder belong to no batch of the ledger.", "files count folder"
    ),
    "claim.released": _event(
        WARNING, "A claimed file of no known batch went back to its folder.", "file is_back reason"
    ),
    "claim.unreadable": _event(ERROR, "A list of names in the claim folder cannot be used.", "file reason"),
    "daemon.crashed": _event(ERROR, "An unforeseen error ended the daemon.", "reason error"),
    "daemon.start_failed": _event(ERROR, "The daemon cannot work here; reason says what to do.", "reason"),
    "daemon.started": _event(INFO, "The daemon works on the landing zone.", "pid config landing once"),
    "daemon.stopped": _event(INFO, "The daemon ended.", "pid reason"),
    "definition.changed": _event(
        INFO, "Declarations changed; tables hold older rows or lack rows.", f"{_WORK} tables reason"
    ),
    "environment.failed": _event(ERROR, "A folder, disk or file prevents work; logged once while it lasts.", "reason"),
    "environment.recovered": _event(INFO, "An earlier environment.failed was not met for ten seconds.", "reason"),
    "file.corrected": _event(
        INFO, "A file came again with other content and counts as a correction.", f"{_WORK} file revision of"
    ),
    "file.read": _event(DEBUG, "A delivered file was read and typed.", f"{_WORK} feed rows"),
    "journal.removed": _event(DEBUG, "An attempt is over; its undo information is no longer needed.", _WORK),
    "journal.written": _event(DEBUG, "The undo information of an attempt is durable.", f"{_WORK} tables"),
    "landing.exposed": _event(WARNING, "Every user of the machine may write to the landing zone.", "reason"),
    "log.reopened": _event(INFO, "The log was opened again after SIGHUP.", "path"),
    "manifest.written": _event(DEBUG, "The batch has its row in ops.batches.", f"{_WORK} batch_seq"),
    "observer.failed": _event(WARNING, "The landing zone cannot be watched by events.", "reason"),
    "observer.restarted": _event(
        WARNING, "The events of the landing zone had stopped and are watched again.", "reason is_polling folders"
    ),
    "observer.started": _event(INFO, "The landing zone is watched.", "reason is_polling folders"),
    "on_published.failed": _event(
        ERROR, "The on_published command failed.", "batch_id source command exit_code reason"
    ),
    "on_published.finished": _event(INFO, "The on_published command ended well.", "batch_id source command"),
    "openlineage.failed": _event(
        ERROR, "OpenLineage events cannot be delivered; logged once while it lasts.", "reason lost"
    ),
    "openlineage.recovered": _event(INFO, "OpenLineage events are delivered again.", "lost"),
    "serve.failed": _event(
        ERROR, "Readers of published/ and of the DuckDB file may still see an earlier batch.", f"{_WORK} reason"
    ),
    "serve.finished": _event(
        INFO, "Readers of published/ and of the DuckDB file see the batch.", f"{_WORK} tables seconds"
    ),
    "source.load_failed": _event(ERROR, "A folder of declarations cannot be used.", "source reason"),
    "stage.finished": _event(
        INFO,
        "A stage of a batch ended.",
        f"{_WORK} rows_in accepted rejected extra_columns versions_changed rows_restated rows_changed seconds",
    ),
    "stage.started": _event(INFO, "A stage of a batch began.", _WORK),
    "table.committed": _event(DEBUG, "A table has a new version, not published yet.", f"{_WORK} table version"),
    "table.created": _event(DEBUG, "A table was created.", f"{_WORK} table"),
    "table.restored": _event(INFO, "A table went back to its published version.", f"{_WORK} table version"),
    "task.finished": _event(
        DEBUG, "A task of the plan ended; its seconds are its own.", f"{_WORK} task table status rows seconds"
    ),
    "task.started": _event(DEBUG, "A task of the plan began.", f"{_WORK} task table"),
    "trigger.blocked": _event(DEBUG, "A trigger file could not be moved yet.", "batch_id trigger error"),
    "trigger.left": _event(ERROR, "A trigger is ignored after an unforeseen error.", "trigger reason"),
    "trigger.seen": _event(INFO, "A trigger file is in the trigger folder.", "trigger"),
    "trouble.ended": _event(INFO, "A trouble is over.", _TROUBLE),
    "trouble.opened": _event(ERROR, "A trouble began; `lakegate check` lists those that last.", _TROUBLE),
    "value.rejected": _event(
        INFO,
        "A rule cannot be computed for a value; its rows are rejected.",
        f"{_WORK} feed rule rows file record reason",
    ),
    "worker.died": _event(ERROR, "The worker process ended; the daemon starts another one.", "pid reason"),
    "worker.ready": _event(INFO, "The worker has an engine and takes batches.", "pid engine seconds undone"),
    "worker.recycled": _event(INFO, "A worker that had grown too large was replaced.", "pid"),
    "worker.start_failed": _event(
        ERROR,
        "The worker could not be started; the daemon tries again, also where only a person can remove the cause.",
        "reason is_retryable attempt retry_in_seconds",
    ),
    "worker.started": _event(INFO, "A worker process was started.", "pid output"),
    "worker.unexpected_result": _event(
        WARNING, "The worker answered for a batch that is not running.", "batch_id reason"
    ),
    "worker.waiting": _event(WARNING, "Another process writes to the lake; the worker waits.", "reason"),
}

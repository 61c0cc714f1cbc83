"""Gives batches to the worker, one at a time and oldest first, and passes its results on to the ledger."""

import threading
from collections import deque

from daemon.batch import Batch, State
from daemon.clock import Clock, from_text
from daemon.config.config import Config
from daemon.dispatch.activity_recorder import ActivityRecorder
from daemon.dispatch.process import WorkerExited
from daemon.dispatch.result_recorder import ResultRecorder
from daemon.dispatch.worker import SUBJECT, WorkerSupervisor
from daemon.files.lock import AlreadyRunningError
from daemon.intake.claim import Claim
from daemon.ledger.ledger import Ledger
from daemon.ledger.live_state import TroubleKind
from daemon.observe.log import Log
from daemon.observe.troubles import Troubles
from daemon.retry import is_final
from daemon.text import format_seconds, join_names
from pipeline.contract import OrderFile, Outcome, Progress, Result, WorkOrder

ALL_SOURCES = "all sources"  # the subject where no source can be read from the lake
# States that a run without a worker can still end.
WITHOUT_WORKER = {State.WAITING, State.PUBLISHED, State.DUPLICATE}


class WorkerUnavailable(Exception):
    """The worker cannot start. The message says why, and how many batches wait for it."""


class Dispatch:
    """Knows the batch that the worker has. After a restart the ledger says which batch was running."""

    def __init__(
        self,
        *,
        config: Config,
        ledger: Ledger,
        claim: Claim,
        log: Log,
        clock: Clock,
        worker: WorkerSupervisor,
        troubles: Troubles,
    ) -> None:
        self._settings = config.dispatch
        self._retry = config.retry
        self._ledger = ledger
        self._claim = claim
        self._log = log
        self._clock = clock
        self._worker = worker
        self._troubles = troubles
        self._activity = ActivityRecorder(ledger, clock)
        self._recorder = ResultRecorder(
            ledger=ledger, clock=clock, retry=config.retry, poison_after=config.dispatch.poison_after
        )
        self._running = ""  # batch id
        self._served = ""  # id of the batch that the worker shows to readers after its answer
        self._messages: deque[Progress | Result | WorkerExited] = deque()  # received, and not yet in the ledger
        self._why_orphaned = "the daemon ended"
        self._is_recycling = False
        self._missing: dict[str, list[str]] = {}  # by batch id: claimed files that were missing at the last look

    @property
    def is_busy(self) -> bool:
        """Whether the worker has a batch, or shows one to readers."""
        return bool(self._running or self._served)

    @property
    def is_serving(self) -> bool:
        """Whether the worker shows a published batch to readers."""
        return bool(self._served)

    def step(self, *, is_wanted: bool) -> None:
        """Handles the worker's messages, replaces it when it stalls, starts it when wanted, gives it the next batch."""
        self._receive()
        self._worker.note_long_start()
        if stalled_reason := self._worker.stalled_reason(is_busy=self.is_busy):
            self._messages.append(self._worker.replace(stalled_reason))
            self._handle_messages()
        if not self._running:
            self._requeue_orphans()
        if self._is_recycling and not self.is_busy:
            self._worker.recycle()
            self._is_recycling = False
        if is_wanted:
            self._worker.start_when_due()
        for batch_id, published_id in self._ledger.ready_duplicates():
            self._recorder.record_duplicate(batch_id, published_id)
        if self._worker.is_ready and not self.is_busy:
            if batch := self._next():
                self._send(batch)
            elif not self._ledger.next_ready():  # the batch over which it died is decided
                self._troubles.end(TroubleKind.WORKER_DIED, SUBJECT)
        self._activity.flush()

    def recycle_worker(self) -> None:
        """Replaces the worker as soon as it has no batch, so that it and its engine open their log files again."""
        self._is_recycling = True

    def next_due_in(self) -> float:
        """Returns the seconds until there is work that no message announces."""
        waits = [self._back_off(b) for b in self._ledger.next_ready()]
        return max(0.0, min(self._worker.next_due_in(is_busy=self.is_busy), *waits, 60.0))

    def fail_unrunnable(self) -> None:
        """Fails, in a run that must end, the batches without their files; `retry` brings them back."""
        for batch in self._ledger.next_ready():
            if missing := join_names(self._claim.missing_files(batch)):
                reason = f"{missing}: not in {self._claim.path}; bring the folder back, then retry"
                self._ledger.move(batch.batch_id, State.FAILED, "batch.failed", reason)

    def stop_without_worker(self) -> None:
        """Raises WorkerUnavailable, in a run that must end, when only a worker is missing, which cannot start."""
        if self._worker.start_error and self._ledger.counts().keys().isdisjoint(WITHOUT_WORKER):
            ready = len(self._ledger.batches(State.READY))
            batches = "1 batch waits" if ready == 1 else f"{ready} batches wait"
            advice = f"{batches} as READY, with all attempts: run it again when the cause is removed"
            raise WorkerUnavailable(f"{self._worker.start_error}; {advice}")

    def stop_at_busy_lake(self) -> None:
        """Raises AlreadyRunningError, in a run that must end, when another process writes to the lake for too long."""
        if writer := self._worker.lake_writer:
            limit = format_seconds(self._settings.timeout_seconds)
            advice = "nothing is lost and no attempt is counted; run it again when that has ended"
            raise AlreadyRunningError(f"{writer}, for more than {limit}; {advice}")

    def stop(self, wake: threading.Event) -> None:
        """Lets the worker finish its current write, within half of stop_seconds, then requeues its batch."""
        patience = self._settings.stop_seconds / 2
        try:
            self._finish_write(wake, patience)
        finally:
            self._messages.extend(self._worker.end(patience_seconds=min(2.0, patience / 5)))
        self._handle_messages()
        if self._running:
            self._recorder.requeue(self._ledger.batch(self._running), "the daemon was stopped")
            self._running = ""
        self._activity.end()
        if not self._ledger.has_open():  # the batch over which the worker died is decided, and no worker follows
            self._troubles.end(TroubleKind.WORKER_DIED, SUBJECT)

    def _finish_write(self, wake: threading.Event, patience: float) -> None:
        until = self._clock.monotonic() + patience
        sign = self._worker.last_sign
        while self.is_busy and self._worker.last_sign == sign and self._clock.monotonic() < until:
            wake.clear()
            self._receive()
            if self.is_busy and self._worker.last_sign == sign:
                wake.wait(min(0.2, patience))

    # ---- giving work

    def _requeue_orphans(self) -> None:
        # The ledger calls these batches running, and no worker has one. If a batch was published, the worker finds out.
        for batch in self._ledger.batches(State.RUNNING):
            self._recorder.requeue(batch, self._why_orphaned)
        self._why_orphaned = "the worker never got it"

    def _next(self) -> Batch | None:
        return next((b for b in self._ledger.next_ready() if self._back_off(b) <= 0 and self._is_complete(b)), None)

    def _back_off(self, batch: Batch) -> float:
        if not batch.next_attempt_at:
            return 0.0
        seconds = (from_text(batch.next_attempt_at) - self._clock.now()).total_seconds()
        # a wall clock that was set back must not hold a batch for longer than any back-off lasts
        return seconds if seconds <= self._retry.max_seconds else 0.0

    def _is_complete(self, batch: Batch) -> bool:
        missing = self._claim.missing_files(batch)
        if missing and self._missing.get(batch.batch_id) != missing:
            reason = f"{join_names(missing)}: not in {self._claim.path}; the batch waits until the folder is back"
            self._log.error("claim.missing", batch_id=batch.batch_id, source=batch.source, reason=reason)
        self._missing[batch.batch_id] = missing
        return not missing

    def _send(self, batch: Batch) -> None:
        batch = self._ledger.move(
            batch.batch_id, State.RUNNING, "batch.started", attempts=batch.attempts + 1, next_attempt_at=None
        )
        self._running = batch.batch_id
        self._activity.start(batch)
        if not self._worker.send(self._order(batch)):
            self._messages.append(self._worker.replace("it took no work"))
            self._handle_messages()

    def _order(self, batch: Batch) -> WorkOrder:
        assert batch.batch_date is not None
        return WorkOrder(
            batch_id=batch.batch_id,
            source=batch.source,
            batch_date=batch.batch_date,
            files=tuple(
                OrderFile(
                    name=f.name,
                    feed=f.feed,
                    path=str(self._claim.path / f.claim_name),
                    sha256=f.sha256,
                    bytes=f.bytes,
                    revision=f.revision,
                )
                for f in batch.data_files
            ),
            attempt=batch.attempts,
            final=is_final(batch.attempts, batch.worker_crashes, self._retry),
            revision=batch.revision,
            snapshot=batch.snapshot,
            rows=batch.rows,
            trigger=batch.trigger,
            received_at=batch.received_at,
        )

    # ---- the worker's messages

    def _receive(self) -> None:
        self._messages.extend(self._worker.receive())
        self._handle_messages()

    def _handle_messages(self) -> None:
        # a ledger that cannot be written raises an error, and the message is handled again at the next tick
        while self._messages:
            match self._messages[0]:
                case Progress() as progress:
                    self._handle_progress(progress)
                case Result() as result:
                    self._handle_result(result)
                case WorkerExited() as exited:
                    self._handle_exit(exited)
            self._messages.popleft()

    def _handle_progress(self, message: Progress) -> None:
        self._activity.note(message)
        source = str(message.values.get("source", ""))  # a lost ledger does not know the batch
        if not source and self._ledger.has(message.batch_id):
            source = self._ledger.batch(message.batch_id).source
        about = {"batch_id": message.batch_id, "source": source, "stage": message.stage}
        self._log.write(message.event, **{**message.values, **{k: v for k, v in about.items() if v}})
        if message.event in ("serve.failed", "serve.finished"):
            self._served = ""
        if message.event == "serve.failed":
            reason = str(message.values.get("reason", ""))
            about = {"source": source, "batch_id": message.batch_id}
            self._troubles.open(TroubleKind.SERVE, source or ALL_SOURCES, reason, **about)
        elif message.event == "serve.finished":
            for subject in (source, ALL_SOURCES):
                self._troubles.end(TroubleKind.SERVE, subject)

    def _handle_result(self, result: Result) -> None:
        if result.batch_id != self._running:
            reason = f"an answer for a batch that is not running: {result.outcome}"
            self._log.warning("worker.unexpected_result", batch_id=result.batch_id, reason=reason)
            return
        batch = self._ledger.batch(result.batch_id)
        if batch.state == State.RUNNING:  # or the ledger has the result, from a write that only seemed to fail
            self._recorder.record(batch, result)
        self._running = ""
        self._served = result.batch_id if result.serves else ""
        self._activity.end()
        self._note_troubles(batch, result)
        if result.error:
            about = {"batch_id": batch.batch_id, "source": batch.source, "attempt": batch.attempts}
            self._log.error("attempt.error", **about, reason=result.reason, trace=result.error)
        if result.retiring:
            self._is_recycling = True

    def _note_troubles(self, batch: Batch, result: Result) -> None:
        self._troubles.end(TroubleKind.WORKER_DIED, SUBJECT)
        for table in result.external_commits:
            about = {"source": batch.source, "batch_id": batch.batch_id}
            self._troubles.open(TroubleKind.EXTERNAL_COMMIT, table, result.reason, **about)
        if result.outcome == Outcome.PUBLISHED:  # it found every table of the source at its published version
            self._troubles.end_all(TroubleKind.EXTERNAL_COMMIT, batch.source)

    def _handle_exit(self, exited: WorkerExited) -> None:
        if self._served:
            batch = self._ledger.batch(self._served)
            reason = f"the worker died while it showed the batch to readers: {exited.reason}; it is published"
            self._troubles.open(TroubleKind.SERVE, batch.source, reason, source=batch.source, batch_id=batch.batch_id)
            self._served = ""
        if not self._running:
            return
        batch = self._ledger.batch(self._running)
        if batch.state == State.RUNNING:  # or the ledger has the crash, from a write that only seemed to fail
            stages = ", ".join(self._activity.open_stages)
            stage = f" in stage {stages}" if stages else ""
            self._recorder.record_crash(batch, f"the worker died{stage}: {exited.reason}")
        self._running = ""
        self._activity.end()

"""Runs the plan of a batch and records every task and stage with its true start and end."""

import datetime as dt
from collections.abc import Iterable, Sequence

from pipeline.lake.materialized_rows import MaterializedRows
from pipeline.stages.context import BatchContext, TaskRecord, status_of
from pipeline.stages.gold_tasks import findings_of, task_values
from pipeline.stages.plan import BUILD, ENRICH, MERGE, SUMMARISE
from pipeline.stages.task_graph import Task, TaskRun, run_tasks
from pipeline.transform.change import TableChange

THREADS = 5  # more threads than cores: one waits for the disk while another computes; with 8 they take turns in vain
# Per stage, in this order: its task in `ops.processing_log`, and the log's field for the rows that it changed.
STAGES = {
    MERGE: ("merge", "versions_changed"),
    ENRICH: ("enrichment", "rows_restated"),
    SUMMARISE: ("summary", "rows_changed"),
}


def run_plan(batch: BatchContext, tasks: Sequence[Task]) -> None:
    """Runs the tasks and records each one that ended. Raises the first error when the running tasks have ended."""
    log = _TaskLog(batch, tasks)
    try:
        log.finish_stages()
        results = run_tasks(tasks, THREADS, log.started, log.ended)
    finally:
        log.record()
    batch.task_values |= task_values(batch, results)


class _TaskLog:
    """The runs of a batch's tasks. A stage starts with its first task and ends with its last one."""

    def __init__(self, batch: BatchContext, tasks: Sequence[Task]) -> None:
        self._batch = batch
        self._tasks = tasks
        self._runs = dict[str, TaskRun]()
        self._started = set[str]()
        self._unfinished = list(STAGES)

    def started(self, task: Task) -> None:
        if task.stage:
            self._start_stage(task.stage)
        self._batch.report_event("task.started", task.stage, task=task.name, table=task.table)

    def ended(self, run: TaskRun) -> None:
        self._runs[run.task.name] = run
        task, rows = run.task, _rows(run.result)
        about = {"task": task.name, "table": task.table, "status": status_of(run.error), "rows": rows}
        self._batch.report_event("task.finished", task.stage, **about, seconds=round(run.seconds, 3))
        if run.error is None:
            self.finish_stages()

    def finish_stages(self) -> None:
        """Reports the stages all of whose tasks have ended. Without tasks the last stage ends with the plan."""
        while self._unfinished and all(t.name in self._runs for t in self._awaited()):
            stage = self._unfinished.pop(0)
            self._start_stage(stage)
            runs = self._runs_of(stage)
            self._batch.seconds[stage] = round(_seconds(runs), 3)
            values = {STAGES[stage][1]: _changed_rows(runs)}
            self._batch.report_event("stage.finished", stage, **values, seconds=self._batch.seconds[stage])

    def record(self) -> None:
        """Adds the runs to the batch: per stage its own row, then its tasks; the findings in the plan's order."""
        for stage in (*STAGES, ""):
            runs = self._runs_of(stage)
            if stage in self._started:
                self._batch.tasks.append(self._stage_record(stage, runs))
            self._batch.tasks += [_task_record(r) for r in runs]
        ended = (self._runs[t.name] for t in self._tasks if t.name in self._runs)
        self._batch.findings += [f for run in ended for f in findings_of(run.result)]

    def _awaited(self) -> Sequence[Task]:
        return self._of(self._unfinished[0]) or (self._tasks if len(self._unfinished) == 1 else ())

    def _start_stage(self, stage: str) -> None:
        if stage not in self._started:
            self._started.add(stage)
            self._batch.report_event("stage.started", stage)

    def _of(self, stage: str) -> list[Task]:
        return [t for t in self._tasks if t.stage == stage]

    def _runs_of(self, stage: str) -> list[TaskRun]:
        runs = (self._runs[t.name] for t in self._of(stage) if t.name in self._runs)
        return sorted(runs, key=lambda r: r.started_at)

    def _stage_record(self, stage: str, runs: Sequence[TaskRun]) -> TaskRecord:
        now = dt.datetime.now(dt.UTC)
        error = next((r.error for r in sorted(runs, key=lambda r: r.finished_at) if r.error), None)
        is_cancelled = error is None and stage in self._unfinished
        rows = _changed_rows(runs) if stage == ENRICH else 0
        return TaskRecord(
            task=STAGES[stage][0],
            status="CANCELLED" if is_cancelled else status_of(error),
            started_at=min((r.started_at for r in runs), default=now),
            finished_at=max((r.finished_at for r in runs), default=now),
            **(self._batch.row_counts() if stage == MERGE else {"total_records": rows, "valid_records": rows}),
        )


def _task_record(run: TaskRun) -> TaskRecord:
    rows = _rows(run.result)
    return TaskRecord(
        task=run.task.name,
        status=status_of(run.error),
        started_at=run.started_at,
        finished_at=run.finished_at,
        total_records=rows,
        valid_records=rows,
    )


def _rows(result: object) -> int:
    """Returns the rows that a task computed, wrote or found."""
    match result:
        case TableChange(rows=rows):
            return rows.rows
        case MaterializedRows():
            return result.rows
        case int():
            return result
    return 0


def _changed_rows(runs: Iterable[TaskRun]) -> int:
    # A hierarchy has rows, but no versions, and its stage counts versions.
    counted = (r.result for r in runs if not r.task.name.startswith(f"{BUILD} "))
    return sum(result.rows.rows for result in counted if isinstance(result, TableChange))


def _seconds(runs: Sequence[TaskRun]) -> float:
    if not runs:
        return 0.0
    return (max(r.finished_at for r in runs) - min(r.started_at for r in runs)).total_seconds()

"""Runs tasks in an order that their needs allow, several at a time. Knows no table, no batch and no engine."""

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]  # by the name of the task


@dataclass(frozen=True, kw_only=True)
class Task:
    """One step. `run` receives the results of the tasks in `needs`, and no others, by their names."""

    name: str
    run: Callable[[Results], Any]
    needs: tuple[str, ...] = ()
    stage: str = ""  # the group of tasks to which it belongs
    table: str = ""  # the table that it is about


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """A task that has ended, with its own start and end."""

    task: Task
    started_at: dt.datetime
    finished_at: dt.datetime
    seconds: float
    result: Any = None
    error: BaseException | None = None


def run_tasks(
    tasks: Sequence[Task],
    threads: int,
    on_start: Callable[[Task], None] = lambda task: None,  # noqa: ARG005 - the name is for readers
    on_end: Callable[[TaskRun], None] = lambda run: None,  # noqa: ARG005
) -> dict[str, Any]:
    """Runs every task when its needs have ended, and returns all results.

    Of the ready tasks the first in the list starts first. An error cancels the tasks that stand behind the failed one
    in the list. The error of the first failed task of the list is raised when the others have ended: it is the error
    that a run of one task after another would have raised.
    `on_start` and `on_end` are called by the calling thread. Raises ValueError for a plan that cannot be run.
    """
    check(tasks)
    place = {task.name: number for number, task in enumerate(tasks)}
    waiting, results, failed = list(tasks), dict[str, Any](), list[TaskRun]()
    running = set[Future[TaskRun]]()
    with ThreadPoolExecutor(threads) as pool:
        while running or waiting:
            ready = [t for t in waiting if results.keys() >= set(t.needs)][: threads - len(running)]
            for task in ready:
                waiting.remove(task)
                on_start(task)
                running.add(pool.submit(_run, task, {name: results[name] for name in task.needs}))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for run in sorted((future.result() for future in ended), key=lambda r: r.finished_at):
                on_end(run)
                if run.error is None:
                    results[run.task.name] = run.result
                else:
                    failed.append(run)
                    waiting = [t for t in waiting if place[t.name] < place[run.task.name]]
    if failed:
        first = min(failed, key=lambda run: place[run.task.name])
        raise first.error or RuntimeError(first.task.name)
    return results


def check(tasks: Sequence[Task]) -> None:
    """Raises ValueError for two tasks of one name, and for a need that is no task before its own in the list."""
    known = set[str]()
    for task in tasks:
        if task.name in known:
            raise ValueError(f"two tasks are named {task.name}")
        if missing := [name for name in task.needs if name not in known]:
            raise ValueError(f"{task.name} needs {', '.join(missing)}, which is no task before it")
        known.add(task.name)


def _run(task: Task, needed: Results) -> TaskRun:
    started_at, began = dt.datetime.now(dt.UTC), time.monotonic()
    result, failed = None, None
    try:
        result = task.run(needed)
    except BaseException as error:  # noqa: BLE001 - the calling thread raises it
        failed = error
    seconds = time.monotonic() - began
    finished_at = started_at + dt.timedelta(seconds=seconds)  # the clock of the day may be set back meanwhile
    return TaskRun(
        task=task, started_at=started_at, finished_at=finished_at, seconds=seconds, result=result, error=failed
    )

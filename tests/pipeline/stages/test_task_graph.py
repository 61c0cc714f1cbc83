"""The task graph: order, what is handed on, and what an error stops. Needs no engine."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.stages.task_graph import Results, Task, TaskRun, run_tasks


def task(name: str, *needs: str, run: Callable[[Results], Any] = lambda results: None) -> Task:  # noqa: ARG005
    return Task(name=name, needs=needs, run=run)


def test_a_task_starts_when_all_that_it_needs_has_ended() -> None:
    ended: list[TaskRun] = []
    tasks = [task("root"), task("left", "root"), task("right", "root"), task("gold", "left", "right")]
    run_tasks(tasks, 2, on_end=ended.append)
    times = {run.task.name: run for run in ended}
    assert times.keys() == {"root", "left", "right", "gold"}
    for one in tasks:
        for need in one.needs:
            assert times[need].finished_at <= times[one.name].started_at


def test_of_ready_tasks_the_first_in_the_list_starts_first() -> None:
    started: list[str] = []
    run_tasks([task("b"), task("d", "b"), task("a"), task("c")], 1, on_start=lambda t: started.append(t.name))
    assert started == ["b", "d", "a", "c"]


def test_a_task_receives_the_results_that_it_needs_and_no_others() -> None:
    seen: dict[str, Results] = {}

    def total(results: Results) -> int:
        seen["sum"] = results
        return sum(results.values())

    tasks = [task("one", run=lambda _: 1), task("two", run=lambda _: 2), task("three", run=lambda _: 3)]
    results = run_tasks([*tasks, task("sum", "one", "three", run=total)], 3)
    assert seen["sum"] == {"one": 1, "three": 3}
    assert results == {"one": 1, "two": 2, "three": 3, "sum": 4}


def test_independent_tasks_run_at_the_same_time_and_no_more_than_threads_allow() -> None:
    both, most, now, lock = threading.Barrier(2, timeout=10), [0], [0], threading.Lock()

    def meet(_: Results) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        both.wait()
        with lock:
            now[0] -= 1

    run_tasks([task(str(n), run=meet) for n in range(6)], 2)
    assert most == [2]


def test_an_error_cancels_what_has_not_begun_and_waits_for_what_runs() -> None:
    ran: list[str] = []
    may_end = threading.Event()

    def fail(_: Results) -> None:
        may_end.set()
        raise KeyError("mine")

    def slow(_: Results) -> None:
        assert may_end.wait(10)
        time.sleep(0.05)
        ran.append("slow")

    tasks = [task("fail", run=fail), task("slow", run=slow)]
    tasks += [
        task(name, *needs, run=lambda _: ran.append("late")) for name, needs in (("free", ()), ("after", ("slow",)))
    ]
    ended: list[TaskRun] = []
    with pytest.raises(KeyError, match="mine"):
        run_tasks(tasks, 2, on_end=ended.append)
    assert ran == ["slow"]
    assert {r.task.name: type(r.error) for r in ended} == {"fail": KeyError, "slow": type(None)}


def test_of_several_errors_that_of_the_first_task_in_the_list_is_raised() -> None:
    first = threading.Event()

    def early(_: Results) -> None:
        first.set()
        raise ValueError("early")

    def late(_: Results) -> None:
        assert first.wait(10)
        time.sleep(0.05)
        raise LookupError("late")

    ended: list[TaskRun] = []
    with pytest.raises(LookupError, match="late"):
        run_tasks([task("late", run=late), task("early", run=early)], 2, on_end=ended.append)
    assert [str(r.error) for r in ended] == ["early", "late"]


def test_the_error_is_that_of_a_run_of_one_task_after_another() -> None:
    def fail(_: Results) -> None:
        raise LookupError("the second check")

    def refuse(_: Results) -> None:
        raise ValueError("the first check")

    slow = task("slow", run=lambda _: time.sleep(0.05))
    ended: list[TaskRun] = []
    with pytest.raises(ValueError, match="the first check"):
        run_tasks(
            [slow, task("first", "slow", run=refuse), task("second", run=fail), task("after")], 2, on_end=ended.append
        )
    assert [r.task.name for r in ended] == ["second", "slow", "first"]


def test_an_error_of_an_observer_ends_the_run_when_running_tasks_have_ended() -> None:
    ran: list[str] = []

    def slow(_: Results) -> None:
        time.sleep(0.05)
        ran.append("slow")

    def refuse(one: Task) -> None:
        if one.name == "second":
            raise OSError("the log is full")

    with pytest.raises(OSError, match="the log is full"):
        run_tasks([task("first", run=slow), task("second", run=slow)], 2, on_start=refuse)
    assert ran == ["slow"]


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ([task("a", "c"), task("b", "a"), task("c", "b")], "a needs c, which is no task before it"),
        ([task("a", "a")], "a needs a, which is no task before it"),
        ([task("a", "b")], "a needs b, which is no task before it"),
        ([task("a"), task("a")], "two tasks are named a"),
    ],
    ids=["a cycle", "itself", "an unknown need", "one name twice"],
)
def test_a_plan_that_cannot_be_run_is_refused_before_a_task_starts(tasks: list[Task], says: str) -> None:
    ran: list[str] = []
    with pytest.raises(ValueError, match=says):
        run_tasks([*tasks, task("free", run=lambda _: ran.append("free"))], 2)
    assert ran == []


def test_no_tasks_have_no_results() -> None:
    assert run_tasks([], 2) == {}

"""Decides what follows a failed attempt, and how long a retry waits. Pure but for the jitter."""

from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_exponential, wait_random

from daemon.batch import State


@dataclass(frozen=True, kw_only=True)
class Policy:
    attempts: int
    initial_seconds: float
    max_seconds: float
    poison_after: int = 3


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An attempt that did not publish. `attempts` counts this one, `worker_crashes` those among them that killed the worker."""

    attempts: int
    worker_crashes: int
    is_death: bool
    is_retryable: bool


def decide(failure: Failure, policy: Policy) -> State:
    """READY: try again; REJECTED: it kills workers; FAILED: a person has to look."""
    if failure.is_death:
        return State.REJECTED if failure.worker_crashes >= policy.poison_after else State.READY
    if not failure.is_retryable or is_final(failure.attempts, failure.worker_crashes, policy):
        return State.FAILED
    return State.READY


def is_final(attempts: int, worker_crashes: int, policy: Policy) -> bool:
    """Whether no retry follows this attempt. Deaths of the worker are counted apart."""
    return bool(stop_after_attempt(policy.attempts)(_after(attempts - worker_crashes)))


def wait_seconds(failures: int, policy: Policy) -> float:
    """Exponential with jitter: never shorter than the initial wait, never longer than the longest."""
    wait = wait_exponential(multiplier=policy.initial_seconds, max=policy.max_seconds) + wait_random(
        0, policy.initial_seconds
    )
    return min(policy.max_seconds, wait(_after(min(failures, 60))))


def _after(failures: int) -> RetryCallState:
    state = RetryCallState(retry_object=Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = max(1, failures)
    return state

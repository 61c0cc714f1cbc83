"""Decides the state of a batch after a failed attempt, and the wait before a retry. Pure but for the random part."""

from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_exponential, wait_random

from daemon.batch import State
from daemon.config.config import RetryConfig


def state_after_failure(
    *, attempts: int, worker_crashes: int, is_crash: bool, is_retryable: bool, retry: RetryConfig, poison_after: int
) -> State:
    """Returns READY to try again, REJECTED for a batch that crashes workers, FAILED where an operator must decide.

    `attempts` counts the failed attempt, and `worker_crashes` the attempts among them in which the worker crashed.
    """
    if is_crash:
        return State.REJECTED if worker_crashes >= poison_after else State.READY
    if not is_retryable or is_final(attempts, worker_crashes, retry):
        return State.FAILED
    return State.READY


def is_final(attempts: int, worker_crashes: int, retry: RetryConfig) -> bool:
    """Whether no retry follows this attempt. Crashes of the worker have a limit of their own."""
    return bool(stop_after_attempt(retry.attempts)(_call_state(attempts - worker_crashes)))


def wait_seconds(failures: int, retry: RetryConfig) -> float:
    """Returns an exponential wait with a random part, between the initial and the longest wait."""
    wait = wait_exponential(multiplier=retry.initial_seconds, max=retry.max_seconds)
    wait_with_random = wait + wait_random(0, retry.initial_seconds)
    return min(retry.max_seconds, wait_with_random(_call_state(min(failures, 60))))


def _call_state(failures: int) -> RetryCallState:
    state = RetryCallState(retry_object=Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = max(1, failures)
    return state

"""Retries after a failed attempt."""

import pytest

from daemon.batch import State
from daemon.config.config import RetryConfig
from daemon.retry import is_final, state_after_failure, wait_seconds

RETRY = RetryConfig(attempts=3, initial_seconds=2, max_seconds=60)


@pytest.mark.parametrize(
    ("attempts", "worker_crashes", "is_crash", "is_retryable", "verdict"),
    [
        (1, 0, False, True, State.READY),
        (2, 0, False, True, State.READY),
        (3, 0, False, True, State.FAILED),
        (4, 0, False, True, State.FAILED),
        (1, 0, False, False, State.FAILED),
        (1, 1, True, True, State.READY),
        (2, 2, True, True, State.REJECTED),
        (5, 2, True, True, State.REJECTED),
        (3, 1, False, True, State.READY),  # a crash uses up no attempt
        (4, 1, False, True, State.FAILED),
        (9, 1, True, True, State.READY),
    ],
)
def test_the_decision_table(
    attempts: int, worker_crashes: int, is_crash: bool, is_retryable: bool, verdict: State
) -> None:
    state = state_after_failure(
        attempts=attempts,
        worker_crashes=worker_crashes,
        is_crash=is_crash,
        is_retryable=is_retryable,
        retry=RETRY,
        poison_after=2,
    )
    assert state == verdict


@pytest.mark.parametrize(
    ("attempts", "worker_crashes", "final"), [(1, 0, False), (2, 0, False), (3, 0, True), (3, 1, False), (4, 1, True)]
)
def test_the_last_attempt_is_known_before_it_begins(attempts: int, worker_crashes: int, final: bool) -> None:
    assert is_final(attempts, worker_crashes, RETRY) is final


@pytest.mark.parametrize(
    ("failures", "least", "most"), [(1, 2, 4), (2, 4, 6), (3, 8, 10), (5, 32, 34), (6, 60, 60), (5000, 60, 60)]
)
def test_waits_grow_exponentially_with_jitter_up_to_the_longest(failures: int, least: float, most: float) -> None:
    waits = {wait_seconds(failures, RETRY) for _ in range(50)}
    assert least <= min(waits) <= max(waits) <= most
    assert len(waits) > 1 or least == most

"""The number of cases that a run draws: `make test` some, `make test-all` more."""

from hypothesis import settings


def tries(*, quick: int, every: int) -> int:
    """Returns how many cases to draw in this run."""
    return every if settings.get_current_profile_name() == "all" else quick

"""How much a run tries: `make test` some cases of a kind, `make test-all` all of them."""

import pytest
from hypothesis import settings

# A test or a case that `make test` leaves to `make test-all`; a quicker one keeps the same promise (see README.md).
slow = pytest.mark.slow


def tries(*, quick: int, every: int) -> int:
    """Returns how many cases to draw in this run."""
    return every if settings.get_current_profile_name() == "all" else quick

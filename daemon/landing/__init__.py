"""Lists the landing zone and wakes the daemon when something changes there."""

"""Short forms of causes, times and periods for titles and facts."""

LONGEST_CAUSE = 110


def short_cause(reason: str) -> str:
    """Returns as many whole clauses from the beginning of a reason as fit in 110 characters, at least a part of one.

    No clause ends within brackets.
    """
    if len(reason) <= LONGEST_CAUSE:
        return reason.rstrip(".")
    clauses = (reason[:n] for n in range(LONGEST_CAUSE - 2, 0, -1) if reason[n : n + 2] in ("; ", ". "))
    whole = next((c for c in clauses if c.count("(") == c.count(")")), "")
    return whole or f"{reason[: LONGEST_CAUSE - 1].rstrip()}…"


def short_time(time: str | None) -> str:
    """Returns an RFC 3339 time to the minute, as `2026-03-04 10:00 UTC`."""
    return f"{time[:16].replace('T', ' ')} UTC" if time else ""


def period(seconds: float) -> str:
    """Returns a period as `34 s`, `12 min`, `3 h 5 min` or `2 days`."""
    hours, minutes = divmod(int(seconds / 60), 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if hours < 48 else f"{round(hours / 24)} days"

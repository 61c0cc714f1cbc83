"""Turns names and messages from other parties into text that is safe in one line of a log, a ledger or a terminal."""

from collections.abc import Iterable

LONGEST_NAME = 120
LONGEST_LINE = 380


def escape(name: str) -> str:
    """Returns the name with every character escaped that could break a line or a terminal, at most 120 characters."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def one_line(text: object, most: int | None = LONGEST_LINE) -> str:
    """Returns a message, or the message of an exception, as one line of at most `most` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if most is None or len(line) <= most else line[: most - 1] + "…"


def error_line(error: BaseException) -> str:
    """Returns the type and the message of an exception as one line, uncut: secrets in it are replaced later."""
    return f"{type(error).__name__}: {one_line(error, most=None)}"


def join_names(names: Iterable[str], most: int = 3) -> str:
    """Returns `a, b, c and 4 more`."""
    escaped = [escape(n) for n in names]
    more = f" and {len(escaped) - most} more" if len(escaped) > most else ""
    return ", ".join(escaped[:most]) + more


def format_seconds(seconds: float) -> str:
    """Returns `1 second` or `2.5 seconds`."""
    return f"{seconds:g} second{'' if seconds == 1 else 's'}"

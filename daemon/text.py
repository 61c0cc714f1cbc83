"""Turns names and lists from strangers into text that is safe in one line of a log, a ledger or a terminal."""

from collections.abc import Iterable

LONGEST_NAME = 120
LONGEST_SENTENCE = 380


def printable(name: str) -> str:
    """Escapes whatever could break a line or a terminal, and shortens what is too long to read."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def sentence(text: str) -> str:
    """One line of at most 380 characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= LONGEST_SENTENCE else line[: LONGEST_SENTENCE - 1] + "…"


def listed(names: Iterable[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    every = [printable(n) for n in names]
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def amount(seconds: float) -> str:
    """`1 second`, `2.5 seconds`."""
    return f"{seconds:g} second{'' if seconds == 1 else 's'}"

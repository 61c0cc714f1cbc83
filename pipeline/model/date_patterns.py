"""Date and time patterns of fixed width, in the letters of SQL: `dd.MM.yyyy`, `yyyy-MM-dd'T'HH:mm:ss.SSS`."""

import re
from dataclasses import dataclass
from functools import cache

DATE_LETTERS = "yMd"
TIME_LETTERS = "HmsS"

_WIDTHS = {"y": (4,), "M": (2,), "d": (2,), "H": (2,), "m": (2,), "s": (2,), "S": (1, 2, 3, 4, 5, 6)}
_PART = re.compile(r"(?P<letters>([A-Za-z])\2*)|'(?P<quoted>[^']+)'|(?P<sign>[^A-Za-z'])")


@dataclass(frozen=True, kw_only=True)
class DatePattern:
    """The layout of a text of `width` bytes: positions of each letter's digits, and the byte at each other position."""

    width: int
    digits: dict[str, tuple[int, ...]]
    signs: dict[int, int]

    @property
    def has_time(self) -> bool:
        """Whether the pattern has an hour."""
        return "H" in self.digits


@cache
def date_pattern(pattern: str) -> DatePattern:
    """Returns the layout of a pattern. Raises ValueError if its width varies or if year, month or day is missing."""
    digits: dict[str, tuple[int, ...]] = {}
    signs: dict[int, int] = {}
    at = read = 0
    while read < len(pattern):
        part = _PART.match(pattern, read)
        if not part:
            raise ValueError(f"{pattern!r}: a quote that opens must close")
        read = part.end()
        letters = part["letters"]
        text = (letters or part["quoted"] or part["sign"]).encode()
        if letters:
            _check_letters(pattern, letters, digits)
            digits[letters[0]] = tuple(range(at, at + len(text)))
        else:
            signs |= dict(enumerate(text, at))
        at += len(text)
    _check_complete(pattern, digits)
    return DatePattern(width=at, digits=digits, signs=signs)


def _check_letters(pattern: str, letters: str, before: dict[str, tuple[int, ...]]) -> None:
    if len(letters) not in _WIDTHS.get(letters[0], ()):
        raise ValueError(
            f"{pattern!r}: {letters} is not one of yyyy MM dd HH mm ss S to SSSSSS; "
            "other letters stand in single quotes"
        )
    if letters[0] in before:
        raise ValueError(f"{pattern!r}: {letters} occurs twice")


def _check_complete(pattern: str, digits: dict[str, tuple[int, ...]]) -> None:
    missing = [letter * _WIDTHS[letter][0] for letter in DATE_LETTERS if letter not in digits]
    if missing:
        raise ValueError(f"{pattern!r}: {' and '.join(missing)} missing; a date has yyyy, MM and dd")
    times = "".join(letter for letter in TIME_LETTERS if letter in digits)
    if not TIME_LETTERS.startswith(times):
        raise ValueError(f"{pattern!r}: of a time HH comes before mm, mm before ss, ss before S; none can be left out")

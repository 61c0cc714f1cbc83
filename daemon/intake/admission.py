"""The rules for delivered files, the same for JSON triggers, bare touch files and streamed files.

Checks names, dates, sizes and times. Pure: reads nothing from disk. Every sentence here follows the name of its file.
"""

import datetime as dt
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from daemon.text import escape, join_names

LONGEST_NAME_BYTES = 255
LARGEST_DOCUMENT_BYTES = 1 << 20
EARLIEST_DATE = dt.date(1990, 1, 1)
DAYS_AHEAD = 1  # for a sender east of UTC the next day has begun

# The year is first. A date without separators may be followed by a time to the minute or finer.
DATE = re.compile(
    r"(?<!\d)(?:"
    r"(?P<y>\d{4})(?P<separator>[-_.])(?P<m>\d\d)(?P=separator)(?P<d>\d\d)"
    r"|(?P<compact>\d{8})(?:(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d(?:\d{3}|\d{6})?)?)?"
    r")(?!\d)"
)


class Verdict(NamedTuple):
    """The batch date of a data file, or what is `wrong`; `remark` says where a date is from."""

    batch_date: dt.date | None
    wrong: str = ""
    remark: str = ""


def judge_file(name: str, touch: str, mtime: float, today: dt.date, *, in_name: bool = False) -> Verdict:
    """Returns the batch date of a data file without a JSON trigger.

    `touch` is the name of its touch file, or its own if it is streamed; `mtime` is the time of change of that file.
    It is the date in the file's name, else in the touch file's name, else that of the touch file's time in UTC. With
    `in_name` it is never that of the time.
    """
    if wrong := name_error(name) or time_error(mtime):
        return Verdict(None, wrong)
    own = plausible_dates(name, today)
    if len(own) == 1:
        return Verdict(own[0])
    if not own and (implausible := dates_in(name)):
        return _within_range(implausible[0], "has in its name the date", today)
    why = "has no date in its name" if not own else f"has several dates in its name ({join_names(map(str, own))})"
    return _by_touch(touch, mtime, why, today, in_name=in_name, is_own=touch == name)


def name_error(name: str) -> str:
    """Returns why a name cannot be the name of a delivered file; '' if it can."""
    if not name or name in {".", ".."}:
        return "is no file name"
    if "/" in name or "\\" in name:
        return "is a path, not a bare file name; files are looked for in the landing folder and one sub-folder down"
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "contains a control character"
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return f"is longer than {LONGEST_NAME_BYTES} bytes" if len(encoded) > LONGEST_NAME_BYTES else ""


def date_error(date: dt.date, today: dt.date) -> str:
    """Returns why a date cannot be a batch date; '' if it can."""
    if date < EARLIEST_DATE:
        return f"is before {EARLIEST_DATE}"
    latest = today + dt.timedelta(days=DAYS_AHEAD)
    return f"is later than tomorrow ({latest})" if date > latest else ""


def size_error(document_bytes: int) -> str:
    """Returns why a JSON trigger of this size is not read; '' if it is."""
    too_large = document_bytes > LARGEST_DOCUMENT_BYTES
    return f"is larger than {LARGEST_DOCUMENT_BYTES >> 20} MiB; split it into several" if too_large else ""


def time_error(mtime: float) -> str:
    """Returns why a trigger's time of change is in no calendar; '' if it is in one."""
    if _date_of(mtime):
        return ""
    return f"has a time of change that is in no calendar ({mtime:.0f} seconds after 1970); write it anew"


def dates_in(name: str) -> tuple[dt.date, ...]:
    """Returns the dates in a name, each once: 2026_03_02, 2026-03-02, 2026.03.02 or 20260302, also before a time."""
    found: dict[dt.date, None] = {}
    for match in DATE.finditer(name):
        digits = match["compact"] or match["y"] + match["m"] + match["d"]
        try:
            found[dt.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))] = None
        except ValueError:
            continue
    return tuple(found)


def plausible_dates(name: str, today: dt.date) -> tuple[dt.date, ...]:
    """Returns the dates in a name that can be a batch date: 1001_10_12 is a shop and an article."""
    return tuple(d for d in dates_in(name) if not date_error(d, today))


def spelling_difference(one: str, other: str, matches: Callable[[str, str], bool] = str.__eq__) -> str:
    """Returns how two names, or a name and a pattern, differ in spelling only; '' if they match or differ in more."""
    if matches(one, other) or not matches(spelling(one), spelling(other)):
        return ""
    if matches(one.casefold(), other.casefold()):
        return "only capitals differ"
    if matches(_normal(one), _normal(other)):
        return "only the Unicode normal form differs"
    return "only capitals and the Unicode normal form differ"


def spelling(name: str) -> str:
    """Returns one text for all names that differ only in case or Unicode normal form."""
    return _normal(_normal(name).casefold())


def _by_touch(touch: str, mtime: float, why: str, today: dt.date, *, in_name: bool, is_own: bool) -> Verdict:
    named = plausible_dates(touch, today)
    if len(named) == 1:
        origin = f"the batch date {named[0]} is that in the name of {escape(touch)}"
        return Verdict(named[0], remark=f"{why}: {origin}")
    if not named and (implausible := dates_in(touch)):
        return _within_range(implausible[0], f"{why}, and {escape(touch)} has in its name the date", today)
    if in_name:
        form = "write the date as 2026_03_02 into its name, or the touch file's"
        return Verdict(None, f'{why}, and [landing] bare_date is "required"; {form}')
    date = _date_of(mtime)
    assert date is not None, "a time in no calendar was refused before"
    whose = "its own time of change" if is_own else f"the time of {escape(touch)}"
    verdict = _within_range(date, f"{why}, and {whose} has the date", today)
    return verdict if verdict.wrong else Verdict(date, remark=f"{why}: the batch date {date} is that of {whose} (UTC)")


def _within_range(date: dt.date, what: str, today: dt.date) -> Verdict:
    wrong = date_error(date, today)
    return Verdict(None, f"{what} {date}, which {wrong}") if wrong else Verdict(date)


def _date_of(mtime: float) -> dt.date | None:
    try:
        return dt.datetime.fromtimestamp(mtime, dt.UTC).date()
    except (ValueError, OverflowError, OSError):
        return None


def _normal(name: str) -> str:
    return unicodedata.normalize("NFKC", name)

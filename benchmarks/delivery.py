"""The files of one delivery, and the batch date of each day."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FIRST_DATE = dt.date(2026, 3, 2)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The files of one day by feed, and the number of records in each."""

    date: dt.date
    files: Mapping[str, Path]
    rows: Mapping[str, int]
    source: str = "retail"

    @property
    def row_count(self) -> int:
        """The number of records in all files."""
        return sum(self.rows.values())


def date_of(day: int) -> dt.date:
    """Returns the batch date of a day, where 0 is the first delivery."""
    return FIRST_DATE + dt.timedelta(days=day)

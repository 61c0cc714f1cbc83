"""The files of one delivery, the batch date of each day, and the work order that the daemon makes of a delivery."""

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.contract import OrderFile, WorkOrder

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

    def work_order(self) -> WorkOrder:
        """Returns the work order, as the daemon sends it."""
        files = tuple(
            OrderFile(name=path.name, feed=feed, path=str(path), sha256=_sha256(path), bytes=path.stat().st_size)
            for feed, path in self.files.items()
        )
        return WorkOrder(
            batch_id=f"{self.date:%Y%m%d}T060000-bench0", source=self.source, batch_date=self.date, files=files
        )


def date_of(day: int) -> dt.date:
    """Returns the batch date of a day, where 0 is the first delivery."""
    return FIRST_DATE + dt.timedelta(days=day)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

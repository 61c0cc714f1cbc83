"""The request for a batch: JSON triggers, bare touch files and streamed files all become one. Plain values."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.landing.scan import SeenFile


class TriggerError(Exception):
    """The trigger can never become a batch; the message is one sentence with the reason and the remedy."""


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """One batch as its triggers ask for it."""

    source: str
    batch_date: dt.date
    feeds: Mapping[str, str]  # by data file name, in the order of the trigger
    trigger: str  # the name of the first trigger file
    trigger_files: tuple[SeenFile, ...]  # they move into the claim folder with the batch; none for a streamed file
    revision: int = 0
    snapshot: tuple[str, ...] = ()  # feeds that are delivered whole
    checksums: Mapping[str, str] = field(default_factory=dict)  # file name -> SHA-256
    rows: Mapping[str, int] = field(default_factory=dict)  # file name -> number of records
    notes: tuple[str, ...] = ()  # sentences about decisions that may surprise

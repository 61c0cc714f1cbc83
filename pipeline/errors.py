"""The two kinds of failure: a DataError is the sender's to mend, everything else may be tried again."""

from pathlib import Path


class DataError(Exception):
    """No retry can help: the delivery itself is wrong. The message says what, where and what to do."""


class ForeignCommit(Exception):
    """Somebody else committed to a table of the lake; batches of its source wait for `adopt` or `restore`."""


class ClaimChanged(Exception):
    """A claimed file is no longer what was claimed: the attempt is void and may be tried again."""


class LostWrite(OSError):
    """Rows that the engine has written do not lie where they are read; trying again may help."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"{folder}: {what}; see that the engine writes to the same folder that this process reads")

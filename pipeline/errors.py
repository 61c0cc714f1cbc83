"""Whose fault a failure is: the sender's (DataError), the declarer's (WrongDeclaration); else a retry may help."""

from collections.abc import Mapping
from pathlib import Path


class DataError(Exception):
    """No retry can help: the delivery itself is wrong. The message says what, where and what to do."""


class InvalidValue(Exception):
    """SQL of a declaration cannot be computed of a value. The message is the engine's sentence.

    `column` is the one that is computed, `row` the row of which it cannot be, where these are known.
    """

    def __init__(self, message: str, column: str = "", row: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.column, self.row = column, row


class DeclarationError(Exception):
    """A declaration can be computed of no rows: a batch fails at once, for no retry helps before it is corrected."""


class ExternalCommit(Exception):
    """Somebody else committed to a table of the lake; batches of its source wait for `adopt` or `restore`."""


class ClaimChanged(Exception):
    """A claimed file is no longer what was claimed: the attempt is void and may be tried again."""


class LostWrite(OSError):
    """Rows that the engine has written do not lie where they are read; trying again may help."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"{folder}: {what}; see that the engine writes to the same folder that this process reads")

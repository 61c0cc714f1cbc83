"""Decides whether an error is about one entry, of a folder or of the ledger, so that the others can go on."""

import sqlite3

from daemon.files.safe_files import StoppingError
from daemon.text import escape
from pipeline.contract import SetupError

_OF_ALL = (OSError, sqlite3.Error, StoppingError, SetupError)
# Errors of SQLite about a value. Every other one is about the ledger as a whole.
_OF_VALUES = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


def is_of_one_entry(error: Exception) -> bool:
    """Whether the others can go on: not where a disk, a folder or the ledger fails, nor where the daemon is to stop."""
    return isinstance(error, _OF_VALUES) or not isinstance(error, _OF_ALL)


def unforeseen_reason(error: Exception) -> str:
    """Returns the reason for an entry with an unforeseen error, to follow its name."""
    why = f"{type(error).__name__}: {escape(str(error))}"
    return f"cannot be judged ({why}); it stays where it lies, and the others go on"

"""Says by which layout a lake was written, in a small file of the lake: an older Lakegate leaves a newer lake alone."""

import os
from pathlib import Path

# Raise it when an older Lakegate would misread, or spoil, what this one writes. A lake without the file has version 1.
VERSION = 1
MARK = "_version"


class NewerLake(Exception):
    """A newer Lakegate has written to the lake; the message names the lake and says what to do."""


def check(lake: Path) -> None:
    """Raises NewerLake unless this Lakegate knows the layout of the lake; a lake that is not there yet is fine."""
    found = _found(lake)
    if found > VERSION:
        sentence = f"the lake {lake} was written by a newer Lakegate (version {found}, this one knows {VERSION})"
        raise NewerLake(f"{sentence}; install that version again")


def mark(lake: Path) -> None:
    """Writes this Lakegate's version to a lake that holds none or an older one, durably. Raises NewerLake."""
    check(lake)
    if (lake / MARK).exists() and _found(lake) == VERSION:
        return
    draft = lake / f"{MARK}.draft"
    with draft.open("w") as file:
        file.write(f"{VERSION}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(lake / MARK)


def _found(lake: Path) -> int:
    try:
        text = (lake / MARK).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return 1
    try:
        return int(text)
    except ValueError:
        sentence = f"{lake / MARK} holds no version; write {VERSION} into it if this Lakegate made the lake"
        raise NewerLake(sentence) from None

"""The layout version of a lake, in a small file of the lake: an older Lakegate leaves a newer lake alone."""

import os
from pathlib import Path

from pipeline.errors import SetupError

# Raise this number when an older Lakegate would misread or damage the files that this one writes.
# A lake without the file has version 1.
VERSION = 1
FILE_NAME = "_version"


def check(lake: Path) -> None:
    """Raises SetupError unless this Lakegate knows the layout of the lake. A lake that does not exist yet is fine."""
    version = _read(lake)
    if version > VERSION:
        sentence = f"the lake {lake} was written by a newer Lakegate (version {version}, this one knows {VERSION})"
        raise SetupError(f"{sentence}; install that version again")


def write(lake: Path) -> None:
    """Writes this Lakegate's version durably to a lake with an older version or none. Raises SetupError."""
    check(lake)
    if (lake / FILE_NAME).exists() and _read(lake) == VERSION:
        return
    draft = lake / f"{FILE_NAME}.draft"
    with draft.open("w") as file:
        file.write(f"{VERSION}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(lake / FILE_NAME)


def _read(lake: Path) -> int:
    try:
        text = (lake / FILE_NAME).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return 1
    try:
        return int(text)
    except ValueError:
        sentence = f"{lake / FILE_NAME} holds no version; write {VERSION} into it if this Lakegate made the lake"
        raise SetupError(sentence) from None

"""The layout version of a lake, in a small file of the lake: an older Lakegate leaves a newer lake alone."""

from pipeline.errors import SetupError
from pipeline.place import Place, write_whole

# Raise this number when an older Lakegate would misread or damage the files that this one writes.
# A lake without the file has version 1.
VERSION = 1
FILE_NAME = "_version"


def check(lake: Place) -> None:
    """Raises SetupError unless this Lakegate knows the layout of the lake. A lake that does not exist yet is fine."""
    version = _read(lake)
    if version > VERSION:
        sentence = f"the lake {lake} was written by a newer Lakegate (version {version}, this one knows {VERSION})"
        raise SetupError(f"{sentence}; install that version again")


def write(lake: Place) -> None:
    """Writes this Lakegate's version durably to a lake with an older version or none. Raises SetupError."""
    check(lake)
    if _read(lake, missing=0) != VERSION:
        write_whole(lake / FILE_NAME, f"{VERSION}\n".encode())


def _read(lake: Place, missing: int = 1) -> int:
    try:
        text = (lake / FILE_NAME).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return missing
    try:
        return int(text)
    except ValueError:
        sentence = f"{lake / FILE_NAME} holds no version; write {VERSION} into it if this Lakegate made the lake"
        raise SetupError(sentence) from None

"""Names the files whose rows the revisions of a feed replace."""

from dataclasses import dataclass

FileId = tuple[str, str]  # batch id, file name


@dataclass(frozen=True, kw_only=True)
class SupersededFiles:
    """Files of a feed whose rows a stated revision replaces: all of them, and those that this batch adds or removes."""

    every: frozenset[FileId]
    moved: frozenset[FileId]

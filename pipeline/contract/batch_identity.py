"""The identity of a batch, which finds duplicates, and the revision of a file, which finds corrections."""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterable

from pipeline.contract.packed_files import plain_name

_REVISION = re.compile(r"_[vr](\d{1,6})(?=[_.\-]|$)")


def identity(source: str, batch_date: dt.date, files: Iterable[tuple[str, str]]) -> str:
    """Returns the hash of a batch's content: source, batch date and the multiset of (feed, SHA-256) without names."""
    content = json.dumps([source, batch_date.isoformat(), sorted(files)], ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()


def named_revision(name: str) -> tuple[str, int]:
    """Returns a file's name without its `_v2` or `_r2`, and that number; 0 for a name without one."""
    numbers = [int(n) for n in _REVISION.findall(name)]
    return _REVISION.sub("", plain_name(name)), max(numbers, default=0)


def stated_revision(name: str, revision: int, names: Iterable[str]) -> int:
    """Returns the revision that is stated for one file of a batch with this revision and these file names.

    A trigger states one revision for all its files. A revision that comes from names belongs to the files with it.
    """
    from_names = max((named_revision(n)[1] for n in names), default=0)
    return named_revision(name)[1] if revision == from_names else revision


def next_revision(stated: int, sha256: str, known: Iterable[tuple[str, int, int]]) -> int:
    """Returns the revision of a file. `known` are the earlier files of its name and date: (SHA-256, revision, stated).

    Other content under a known name is a correction and gets the next revision. Known content keeps its revision.
    A file with a higher stated revision does not count as earlier than a file with a stated revision.
    """
    files = list(known)
    equal = [revision for content, revision, _ in files if content == sha256]
    earlier = [] if equal else [revision + 1 for _, revision, of in files if not stated or of <= stated]
    return max(stated, *equal, *earlier, 0)

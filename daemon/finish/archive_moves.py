"""Moves claimed files into the archive or rejected folder, each under a free name, and hashes them once more before."""

import errno
import os
from collections.abc import Iterator, Sequence
from itertools import takewhile

from daemon.batch import BatchFile, FileState
from daemon.files.safe_files import DirEntry, Heartbeat, UnsafeError, exists, move, open_safely, sha256
from daemon.finish.archive_documents import REASON, RECEIPT

LONGEST_NAME_BYTES = 255


class MissingFileError(OSError):
    """A claimed file is in no folder, perhaps because a volume is not mounted; its batch waits for it."""


def planned_names(files: Sequence[BatchFile]) -> Iterator[tuple[BatchFile, str]]:
    """Yields each file with its name in the archive: its own, unless another file or a document has that name."""
    used = {RECEIPT, REASON}
    for f in sorted(files, key=lambda f: (f.kind != "data", f.number)):
        name = next(n for n in _free_names(f.name) if n.casefold() not in used)
        used.add(name.casefold())
        yield f, name


def put_file(f: BatchFile, source: DirEntry, target: DirEntry, heartbeat: Heartbeat) -> bool:
    """Moves a claimed file to the target, or to the next free name. Returns whether the file is there.

    A file that was never claimed may be nowhere. Raises MissingFileError for a claimed file that is nowhere.
    """
    if not exists(*source):
        if f.state == FileState.CLAIMED and not _was_moved(f, target, heartbeat):
            raise MissingFileError(f"{f.claim_name}")
        return f.state == FileState.CLAIMED
    for name in _free_names(target.name):
        place = DirEntry(target.folder_fd, name)
        try:
            move(source, place, heartbeat)
            break
        except FileExistsError:
            if _is_same(source, place, heartbeat):
                # a kill interrupted a copy before its original was removed
                os.unlink(source.name, dir_fd=source.folder_fd)
                break
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            move(source, DirEntry(target.folder_fd, f.claim_name), heartbeat)
            break
    return True


def hash_of(entry: DirEntry, heartbeat: Heartbeat) -> str:
    """Returns the SHA-256 of a file; '' for an entry that is no regular file."""
    try:
        with open_safely(*entry, may_be_linked=True) as descriptor:
            return sha256(descriptor, heartbeat)
    except UnsafeError:
        return ""


def _was_moved(f: BatchFile, target: DirEntry, heartbeat: Heartbeat) -> bool:
    # A kill may have come between the move and the ledger, and another file of the name may have been there before.
    names = takewhile(lambda n: _fits(n) and exists(target.folder_fd, n), _free_names(target.name))
    places = [DirEntry(target.folder_fd, n) for n in (*names, f.claim_name) if exists(target.folder_fd, n)]
    return any(not f.sha256 or hash_of(place, heartbeat) == f.delivered_sha256 for place in places)


def _is_same(one: DirEntry, other: DirEntry, heartbeat: Heartbeat) -> bool:
    one_stat = exists(*one)
    other_stat = exists(*other)
    if one_stat and other_stat and os.path.samestat(one_stat, other_stat):
        return True
    try:
        with open_safely(*one) as a, open_safely(*other) as b:
            return os.fstat(a).st_size == os.fstat(b).st_size and sha256(a, heartbeat) == sha256(b, heartbeat)
    except UnsafeError:
        return False


def _fits(name: str) -> bool:
    return len(os.fsencode(name)) <= LONGEST_NAME_BYTES


def _free_names(name: str) -> Iterator[str]:
    """Yields the name itself, then `name.2`, `name.3`, …"""
    yield name
    for n in range(2, 1_000_000):
        yield f"{name}.{n}"

"""Opens folders that lie where producers may write, and checks their owner, mode and inode.

Below the landing folder no link is followed. A path to the landing folder, or elsewhere, is the operator's choice.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from daemon.config.config import LandingConfig
from daemon.files.safe_files import FOLDER, exists, make_folder
from daemon.text import escape
from pipeline.contract import SetupError

PRIVATE = 0o700
OTHERS = 0o077
ELSEWHERE = "set [landing] claim_path to a folder on a local disk"


class FolderAccessError(OSError):
    """A folder or file cannot be used as it is; the message says which one, why, and what to do."""


def exposed_reason(landing: LandingConfig) -> str:
    """Returns the sentence about a landing or trigger folder that every user may write to, '' where there is none."""
    for path in (landing.path, landing.trigger_path):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & stat.S_IWOTH:
            return world_writable_reason(path, mode, is_allowed=landing.allow_world_writable)
    return ""


def world_writable_reason(path: Path, mode: int, *, is_allowed: bool) -> str:
    """Returns what is wrong with a folder that every user may write to, and what to do."""
    what = f"{path} may be written to by every user of this machine (mode {stat.S_IMODE(mode):04o})"
    if is_allowed:
        return f"{what}, as [landing] allow_world_writable allows"
    return f"{what}; chmod o-w {path}, or set [landing] allow_world_writable = true"


def modeless_reason(claim: Path) -> str:
    """Returns what is wrong with a claim folder that cannot be closed to other users, and what to do."""
    return f"{claim} stays open to other users: this file system keeps no modes; {ELSEWHERE}"


@contextmanager
def open_below(top_fd: int, top: Path, path: Path, *, make: bool = False) -> Iterator[int]:
    """Opens a folder below the open folder `top`, where the owner of each folder is this user, root or that of `top`.

    Raises FolderAccessError for a link and for a folder of another user.
    """
    descriptor = os.open(".", FOLDER, dir_fd=top_fd)
    try:
        owners = {0, os.geteuid(), os.fstat(top_fd).st_uid}
        here = top
        for part in path.relative_to(top).parts:
            here /= part
            above = descriptor
            descriptor = _enter(descriptor, part, here, make=make)
            os.close(above)
            if (owner := os.fstat(descriptor).st_uid) not in owners:
                mine = f"this user ({os.geteuid()}) or the owner of {top}"
                raise FolderAccessError(f"{here} belongs to user {owner}, not to {mine}; correct its owner")
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(above: int, name: str, path: Path, *, make: bool) -> int:
    if make and exists(above, name) is None:
        os.mkdir(name, 0o755, dir_fd=above)
        os.fsync(above)
    try:
        return os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=above)
    except OSError as error:
        raise _explain(error, path) from None


def _explain(error: OSError, path: Path) -> OSError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return FolderAccessError(f"{escape(str(path))} is a symbolic link or no folder; put a folder of its own there")
    return OSError(error.errno, error.strerror, str(path))


class PrivateFolder:
    """A private folder. Each time it is opened, it is a real folder of this user and closed to all others.

    Below the landing folder, where producers may rename it, it is also the same folder each time.
    """

    def __init__(self, path: Path, top: Path, top_fd: Callable[[], int]) -> None:
        self._path = path
        self._top = top
        self._top_fd = top_fd
        self._is_below = path != top and path.is_relative_to(top)
        self._under: tuple[int, int] | None = None  # the landing folder in which it was opened last
        self._known: set[tuple[int, int]] = set()

    @contextmanager
    def open(self, *, make: bool = False) -> Iterator[int]:
        """Opens the folder; with `make` it is made where it is missing.

        Raises FolderAccessError or another OSError, and the first time SetupError.
        """
        with self._parent(make=make) as parent_fd:
            if make and exists(parent_fd, self._path.name) is None:
                self._made(parent_fd)
            try:
                descriptor = os.open(self._path.name, FOLDER | os.O_NOFOLLOW, dir_fd=parent_fd)
            except OSError as error:
                raise _explain(error, self._path) from None
        try:
            self._check(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _parent(self, *, make: bool) -> Iterator[int]:
        if self._is_below:
            top_fd = self._top_fd()
            if self._under != (under := _identity(os.fstat(top_fd))):  # the landing folder was mounted again
                self._under = under
                self._known = set()
            with open_below(top_fd, self._top, self._path.parent, make=make) as parent_fd:
                yield parent_fd
            return
        if make:
            make_folder(self._path.parent)
        parent_fd = os.open(self._path.parent, FOLDER)
        try:
            yield parent_fd
        finally:
            os.close(parent_fd)

    def _made(self, parent_fd: int) -> None:
        os.mkdir(self._path.name, PRIVATE, dir_fd=parent_fd)
        os.fsync(parent_fd)
        if self._known:
            self._known.add(_identity(os.stat(self._path.name, dir_fd=parent_fd, follow_symlinks=False)))

    def _check(self, descriptor: int) -> None:
        seen = os.fstat(descriptor)
        again = "nothing is taken or archived until"
        if seen.st_uid != os.geteuid():
            what = f"{self._path} belongs to user {seen.st_uid}, and the daemon runs as user {os.geteuid()}"
            raise FolderAccessError(f"{what}; {again} its owner is corrected")
        if not self._known:
            with suppress(PermissionError):  # for an own folder only a file system without modes refuses
                os.fchmod(descriptor, PRIVATE)  # the first time: an operator may have made it, with the usual mode
            if os.fstat(descriptor).st_mode & OTHERS:
                raise SetupError(  # no OSError: the daemon waits for the end of an OSError
                    modeless_reason(self._path)
                )
            self._known.add(_identity(seen))
        elif seen.st_mode & OTHERS:
            what = f"{self._path} was opened to other users (mode {stat.S_IMODE(seen.st_mode):04o})"
            raise FolderAccessError(f"{what}; {again} `chmod 700` closes it")
        elif self._is_below and _identity(seen) not in self._known:
            what = f"{self._path} is another folder than the one that the daemon found there"
            raise FolderAccessError(f"{what}; {again} that one is back or the daemon is restarted")


def _identity(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino

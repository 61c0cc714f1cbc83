"""Opens folders that lie where producers may write, and judges what was opened: its owner, its mode, its inode.

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
from daemon.text import printable

PRIVATE = 0o700
OTHERS = 0o077
ELSEWHERE = "set [landing] claim_path to a folder on a local disk"


class GroundError(OSError):
    """A folder or file is not what it must be; the message is one sentence: which one, what is wrong, what to do."""


class UnfitGroundError(Exception):
    """A folder of the daemon's own can never be closed where it lies; the message says what to do.

    No OSError: those may pass, and are waited for.
    """


class ExposedError(Exception):
    """The landing zone may be written to by every user of the machine, and the configuration does not allow that."""


def exposed(landing: LandingConfig) -> str:
    """Returns the sentence about a landing or trigger folder that every user may write to, '' where there is none."""
    for path in (landing.path, landing.trigger_path):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & stat.S_IWOTH:
            return exposed_sentence(path, mode, is_allowed=landing.allow_world_writable)
    return ""


def exposed_sentence(path: Path, mode: int, *, is_allowed: bool) -> str:
    """Returns what is wrong with a folder that every user may write to, and what to do."""
    what = f"{path} may be written to by every user of this machine (mode {stat.S_IMODE(mode):04o})"
    if is_allowed:
        return f"{what}, as [landing] allow_world_writable allows"
    return f"{what}; chmod o-w {path}, or set [landing] allow_world_writable = true"


def modeless_sentence(claim: Path) -> str:
    """Returns what is wrong with a claim folder that cannot be closed to other users, and what to do."""
    return f"{claim} stays open to other users: this file system keeps no modes; {ELSEWHERE}"


@contextmanager
def opened_below(top_fd: int, top: Path, path: Path, *, make: bool = False) -> Iterator[int]:
    """Opens a folder below the open folder `top`. Raises GroundError where there is a link or a stranger's folder.

    Its owner, and that of every folder between, is this user, root or the owner of `top`.
    """
    descriptor = os.open(".", FOLDER, dir_fd=top_fd)
    try:
        owners = {0, os.geteuid(), os.fstat(top_fd).st_uid}
        here = top
        for part in path.relative_to(top).parts:
            here /= part
            above, descriptor = descriptor, _entered(descriptor, part, here, make=make)
            os.close(above)
            if (owner := os.fstat(descriptor).st_uid) not in owners:
                mine = f"this user ({os.geteuid()}) or the owner of {top}"
                raise GroundError(f"{here} belongs to user {owner}, not to {mine}; correct its owner")
        yield descriptor
    finally:
        os.close(descriptor)


def _entered(above: int, name: str, path: Path, *, make: bool) -> int:
    if make and exists(above, name) is None:
        os.mkdir(name, 0o755, dir_fd=above)
        os.fsync(above)
    try:
        return os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=above)
    except OSError as error:
        raise _explained(error, path) from None


def _explained(error: OSError, path: Path) -> OSError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return GroundError(f"{printable(str(path))} is a symbolic link or no folder; put a folder of its own there")
    return OSError(error.errno, error.strerror, str(path))


class PrivateFolder:
    """A folder of the daemon's own. Each time it is opened it is a real folder of this user, closed to all others.

    Below the landing folder it is also the one that stood there at first, or that was made here: others may rename it.
    """

    def __init__(self, path: Path, top: Path, top_fd: Callable[[], int]) -> None:
        self._path, self._top, self._top_fd = path, top, top_fd
        self._is_below = path != top and path.is_relative_to(top)
        self._under: tuple[int, int] | None = None  # the landing folder that it was last seen in
        self._known: set[tuple[int, int]] = set()

    @contextmanager
    def opened(self, *, make: bool = False) -> Iterator[int]:
        """Opens the folder; with `make` it is made where it is missing.

        Raises GroundError or another OSError, and at first sight UnfitGroundError.
        """
        with self._parent(make=make) as parent_fd:
            if make and exists(parent_fd, self._path.name) is None:
                self._made(parent_fd)
            try:
                descriptor = os.open(self._path.name, FOLDER | os.O_NOFOLLOW, dir_fd=parent_fd)
            except OSError as error:
                raise _explained(error, self._path) from None
        try:
            self._check(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _parent(self, *, make: bool) -> Iterator[int]:
        if self._is_below:
            top_fd = self._top_fd()
            if self._under != (under := _identity(os.fstat(top_fd))):  # a landing folder that was mounted anew
                self._under, self._known = under, set()
            with opened_below(top_fd, self._top, self._path.parent, make=make) as parent_fd:
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
        seen, again = os.fstat(descriptor), "nothing is taken or archived until"
        if seen.st_uid != os.geteuid():
            what = f"{self._path} belongs to user {seen.st_uid}, and the daemon runs as user {os.geteuid()}"
            raise GroundError(f"{what}; {again} its owner is corrected")
        if not self._known:
            with suppress(PermissionError):  # of our own folder only a file system without modes says so
                os.fchmod(descriptor, PRIVATE)  # at first sight: it may be an operator's, made with the usual mode
            if os.fstat(descriptor).st_mode & OTHERS:
                raise UnfitGroundError(modeless_sentence(self._path))
            self._known.add(_identity(seen))
        elif seen.st_mode & OTHERS:
            what = f"{self._path} was opened to other users (mode {stat.S_IMODE(seen.st_mode):04o})"
            raise GroundError(f"{what}; {again} `chmod 700` closes it")
        elif self._is_below and _identity(seen) not in self._known:
            what = f"{self._path} is another folder than the one that the daemon found there"
            raise GroundError(f"{what}; {again} that one is back or the daemon is restarted")


def _identity(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino

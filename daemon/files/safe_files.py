"""Opens files of other users safely, and moves files without a loss. All calls use directory descriptors."""

import ctypes
import errno
import fcntl
import hashlib
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

Heartbeat = Callable[[], None]  # called every few megabytes of a long read; may raise StoppingError

RENAME_NOREPLACE = 1
CHUNK_BYTES = 4 << 20
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
NO_SUCH_RENAME = (errno.EINVAL, errno.ENOSYS)
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)

_libc = ctypes.CDLL(None, use_errno=True)


class DirEntry(NamedTuple):
    """A name in a directory that is kept open."""

    folder_fd: int
    name: str


class StoppingError(Exception):
    """A heartbeat raises it during a long read: the daemon must stop. After the next start the work goes on."""


class UnsafeError(Exception):
    """The file must not be taken; the message follows the name of the file."""


class _CopyDiffersError(OSError):
    """A copy differs from the original; the original stays."""


@contextmanager
def folder(path: Path | str, within: int | None = None) -> Iterator[int]:
    """Opens a directory; within another directory no link is followed."""
    descriptor = os.open(path, FOLDER if within is None else FOLDER | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_safely(folder_fd: int, name: str, *, may_be_linked: bool = False) -> Iterator[int]:
    """Opens a regular file for reading: one with a single hard link, never a link or a pipe.

    Raises UnsafeError or OSError.
    """
    # checked before it is opened: to open a device can have effects of its own
    check_safe(os.stat(name, dir_fd=folder_fd, follow_symlinks=False), may_be_linked=may_be_linked)
    try:
        descriptor = os.open(name, READ, dir_fd=folder_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnsafeError("is a symbolic link") from None
        raise
    try:
        check_safe(os.fstat(descriptor), may_be_linked=may_be_linked)
        yield descriptor
    finally:
        os.close(descriptor)


def check_safe(seen: os.stat_result, *, may_be_linked: bool = False) -> None:
    """Raises UnsafeError unless it is a regular file, under a single name unless it `may_be_linked`."""
    if stat.S_ISLNK(seen.st_mode):
        raise UnsafeError("is a symbolic link")
    if not stat.S_ISREG(seen.st_mode):
        raise UnsafeError("is not a regular file")
    if seen.st_nlink > 1 and not may_be_linked:
        raise UnsafeError(f"has {seen.st_nlink} hard links, so another user could change it later")


def is_being_written(descriptor: int) -> bool | None:
    """Whether a process has the file open for writing; None where the kernel does not say (no own file, a network)."""
    # If a process opens the file for writing while this one holds the lease, the kernel sends a signal: by default
    # one that ends a process, so another one is chosen that is ignored by default.
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    return False


def sha256(descriptor: int, heartbeat: Heartbeat) -> str:
    """Returns the SHA-256 of the whole file, from its start."""
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(descriptor, CHUNK_BYTES, offset):
        digest.update(chunk)
        offset += len(chunk)
        heartbeat()
    return digest.hexdigest()


def exists(folder_fd: int, name: str) -> os.stat_result | None:
    """Returns the status of the entry of that name, of a link its own; None where there is none."""
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def move(source: DirEntry, target: DirEntry, heartbeat: Heartbeat) -> None:
    """Moves a file, durably. A kill at any instant leaves at least one copy.

    Raises FileExistsError where the target exists.
    """
    try:
        _rename(source, target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            _copy(source, target, heartbeat)
        elif error.errno in NO_SUCH_RENAME:
            _link(source, target, heartbeat)
        else:
            raise
    os.fsync(target.folder_fd)
    os.fsync(source.folder_fd)


def finish_move(source: DirEntry, inode: int, target: DirEntry, heartbeat: Heartbeat) -> None:
    """Ends, durably, a move that a kill interrupted before the removal of the original, which had this inode."""
    os.fsync(target.folder_fd)
    original = exists(*source)
    copy = exists(*target)
    if original is None or copy is None or original.st_ino != inode or not stat.S_ISREG(original.st_mode):
        return
    if os.path.samestat(original, copy) or _same_content(source, target, heartbeat):
        os.unlink(source.name, dir_fd=source.folder_fd)
        os.fsync(source.folder_fd)


def write_durably(folder_fd: int, name: str, text: str) -> None:
    """Writes a file of the daemon; a reader sees all of it or none."""
    part = f".{name}.part"
    if exists(folder_fd, part):
        os.unlink(part, dir_fd=folder_fd)  # of a kill, or another entry
    descriptor = os.open(part, NEW_FILE, 0o644, dir_fd=folder_fd)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(part, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    os.fsync(folder_fd)


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Makes a folder and its parents, each one durable in its parent."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for p in reversed(missing):
        p.mkdir(mode=mode if p == path else 0o755, exist_ok=True)
        with folder(p.parent) as parent_fd:
            os.fsync(parent_fd)


def _rename(source: DirEntry, target: DirEntry) -> None:
    try:
        renameat2 = _libc.renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if (
        renameat2(
            source.folder_fd, os.fsencode(source.name), target.folder_fd, os.fsencode(target.name), RENAME_NOREPLACE
        )
        != 0
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source.name)


def _link(source: DirEntry, target: DirEntry, heartbeat: Heartbeat) -> None:
    try:
        os.link(
            source.name, target.name, src_dir_fd=source.folder_fd, dst_dir_fd=target.folder_fd, follow_symlinks=False
        )
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _copy(source, target, heartbeat)
        return
    os.fsync(target.folder_fd)
    os.unlink(source.name, dir_fd=source.folder_fd)


def _copy(source: DirEntry, target: DirEntry, heartbeat: Heartbeat) -> None:
    if exists(*target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target.name)
    part = DirEntry(target.folder_fd, f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.part")
    with open_safely(*source) as original:
        before = os.fstat(original)
        _write_copy(original, part, heartbeat)
        with open_safely(*part) as written:
            differs = sha256(written, heartbeat) != sha256(original, heartbeat)
        after = os.fstat(original)
        if differs or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            os.unlink(part.name, dir_fd=part.folder_fd)
            raise _CopyDiffersError(errno.EIO, "the copy differs from the original", source.name)
        _settle(part, target)
        os.unlink(source.name, dir_fd=source.folder_fd)


def _settle(part: DirEntry, target: DirEntry) -> None:
    try:
        _rename(part, target)
    except OSError as error:
        if error.errno not in NO_SUCH_RENAME:
            raise
        os.link(part.name, target.name, src_dir_fd=part.folder_fd, dst_dir_fd=target.folder_fd)
        os.unlink(part.name, dir_fd=part.folder_fd)
    os.fsync(target.folder_fd)


def _write_copy(original: int, part: DirEntry, heartbeat: Heartbeat) -> None:
    if exists(*part):
        os.unlink(part.name, dir_fd=part.folder_fd)  # of a kill; the original is still there
    target = os.open(part.name, NEW_FILE, 0o600, dir_fd=part.folder_fd)
    with os.fdopen(target, "wb") as stream:
        offset = 0
        while chunk := os.pread(original, CHUNK_BYTES, offset):
            stream.write(chunk)
            offset += len(chunk)
            heartbeat()
        stream.flush()
        times = os.fstat(original)
        os.utime(stream.fileno(), ns=(times.st_atime_ns, times.st_mtime_ns))
        os.fsync(stream.fileno())


def _same_content(one: DirEntry, other: DirEntry, heartbeat: Heartbeat) -> bool:
    try:
        with open_safely(*one) as a, open_safely(*other) as b:
            return sha256(a, heartbeat) == sha256(b, heartbeat)
    except UnsafeError:
        return False

"""A place is a `pathlib.Path` or a `StorePath`. What the two do in different ways stands here as functions."""

import ctypes
import io
import math
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pipeline.place.store_path import StorePath

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Place = Path | StorePath
Identity = tuple[int, int, int] | None

# An object up to this size is read whole, in one request: all files that this process writes are smaller. Of a larger
# one, which an engine wrote, come parts.
WHOLE_BYTES = 32 << 20
PART_BYTES = 4 << 20

# Files of a lake never change, and the next batch reads a small one again: so many of the last ones stay in memory.
SMALL_BYTES = 256 << 10
SMALL_FILES = 256

SCRATCH = "_work"  # the folder of a lake for files that live as long as an attempt

KNOWN_SECONDS = 3600.0  # a log is cleaned up after a day at the earliest; until then a commit that was seen is there

_logged = dict[StorePath, float]()  # the commits that were seen in stores, and when
_small = OrderedDict[StorePath, "pa.Buffer"]()
_small_lock = threading.Lock()


def place_of(address: str) -> Place:
    """Returns the place of an address of the configuration: a path, or `s3://bucket/prefix`, `gs://…`, `az://…`."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return Path(address)
    root, _, key = rest.partition("/")
    return StorePath(f"{scheme}://{root}", key.strip("/"))


def is_store(place: Place | str) -> bool:
    """Returns whether a place or its address is in an object store."""
    return "://" in place if isinstance(place, str) else isinstance(place, StorePath)


def as_folder(place: Place) -> Path:
    """Returns a place that has to be a folder or file of this machine. Raises TypeError for one in a store."""
    if isinstance(place, StorePath):
        raise TypeError(f"{place} is no folder of this machine")
    return place


def is_logged(log: Place, commit: str) -> bool:
    """Returns whether a table's log holds a commit.

    A batch asks hundreds of times: of a folder by the quickest call, of a store once an hour for each commit that
    is there, because no commit is taken back there. A folder may come back from a backup.
    """
    if isinstance(log, Path):
        return os.path.exists(f"{log}/{commit}")  # noqa: PTH110 - `Path.exists` takes longer
    path = log / commit
    is_known = time.monotonic() - _logged.get(path, -math.inf) < KNOWN_SECONDS
    if not is_known and (is_known := path.exists()):
        _logged[path] = time.monotonic()
    return is_known


def identity(path: Place) -> Identity:
    """Returns the difference between a file and another one of its name; None for no file, and for each object.

    A folder may come back from a backup, and then get other files of the same names.
    """
    if isinstance(path, StorePath):
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - `Path.stat` takes longer
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def note_logged(log: Place, commit: str) -> None:
    """Notes a commit that this process has just made, so that `is_logged` need not ask for it."""
    if isinstance(log, StorePath):
        _logged[log / commit] = time.monotonic()


def write_whole(path: Place, content: bytes) -> None:
    """Writes a small file so that it is there whole or not at all, also after a loss of power."""
    if isinstance(path, StorePath):
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    _sync_folder(path.parent)


def write_new(path: Place, content: bytes) -> None:
    """Writes a small file where there is none, whole or not at all. Raises FileExistsError where there is one.

    `sync` makes also its name survive a loss of power.
    """
    if isinstance(path, StorePath):
        try:
            path.create(content)
        except FileExistsError:
            if path.read_bytes() != content:  # the store took an earlier try of the same write, and its answer was lost
                raise
        return
    draft = path.with_name(f"_{uuid4().hex}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave the name without the content: no reader could go on
        os.link(draft, path)  # fails where there is a file; a rename would replace it
    except FileExistsError:
        if not path.samefile(draft):  # a file server took an earlier try of the same link, and its answer was lost
            raise
    finally:
        draft.unlink(missing_ok=True)


def remove(path: Place) -> None:
    """Removes a file for good; one that is gone already is no error."""
    path.unlink(missing_ok=True)
    if isinstance(path, Path):
        _sync_folder(path.parent)


def write_file(path: Place, write: Callable[[Any], None]) -> "pa.Buffer | None":
    """Lets `write` fill a new file, given its path or a sink. Returns the content that went to a store, in one put.

    A file never changes afterwards.
    """
    if isinstance(path, Path):
        write(path)
        return None
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    write(sink)
    content = sink.getvalue()
    path.write_bytes(content.to_pybytes())
    _remember(path, content)
    return content


def open_file(path: Place, size: int | None = None, *, whole_bytes: int = WHOLE_BYTES) -> "Path | pa.NativeFile":
    """Returns a path or an open file, as Arrow's readers take both. Without a size an object comes whole.

    With a size, an object of at most `whole_bytes` comes whole; of a larger one come the parts that are read.
    """
    if isinstance(path, Path):
        return path
    import pyarrow as pa

    if size is None or size <= whole_bytes:
        content = _small.get(path)
        if content is None:
            content = pa.py_buffer(path.read_bytes())
        _remember(path, content)
        return pa.BufferReader(content)
    return pa.PythonFile(io.BufferedReader(_Parts(path, size), PART_BYTES), mode="r")


def _remember(path: StorePath, content: "pa.Buffer") -> None:
    if content.size > SMALL_BYTES or f"/{SCRATCH}/" in path.key:  # scratch files would push out those of tables
        return
    with _small_lock:
        _small[path] = content
        _small.move_to_end(path)
        while len(_small) > SMALL_FILES:
            _small.popitem(last=False)


class _Parts(io.RawIOBase):
    """A large object as a file that is read in parts, one request each."""

    def __init__(self, path: StorePath, size: int) -> None:
        self._path = path
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def readinto(self, target: Any) -> int:
        length = min(len(target), self._size - self._at)
        if length > 0:
            target[:length] = self._path.read_part(self._at, length)
            self._at += length
        return max(length, 0)


def move_in(file: Place, target: Place) -> None:
    """Moves a file to a place. Between folders a rename of the file system does that at once."""
    if isinstance(file, StorePath):
        assert isinstance(target, StorePath), "only files of a lake in a store lie in a store"
        file.rename(target)
    elif isinstance(target, Path):
        file.rename(target)
    else:
        target.put_file(file)
        file.unlink()


def sizes(folder: Place, suffix: str) -> dict[Place, int]:
    """Returns the files of a folder whose names end so, in the order of their names, with their bytes."""
    if isinstance(folder, StorePath):
        return {path: size for path, size in folder.sizes().items() if path.name.endswith(suffix)}
    return {path: path.stat().st_size for path in sorted(folder.glob(f"*{suffix}"))}


def remove_tree(folder: Place) -> None:
    """Removes a folder with all that lies below it; a folder of this machine as far as its files may be removed."""
    if isinstance(folder, StorePath):
        folder.remove_tree()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def sync(folder: Place) -> None:
    """Makes all that was written to the file system of a folder survive a loss of power. What a store has, it keeps."""
    if isinstance(folder, StorePath):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)


def connect(place: Place, spill: Path | None = None) -> "duckdb.DuckDBPyConnection":
    """Opens an empty database of DuckDB that reads the files of a place by their names.

    With `spill` it takes 1 GB of memory, two threads, and a new folder below that one for rows that the memory does not
    hold. Two databases in one folder would overwrite each other's rows: DuckDB's files have fixed names.
    """
    import duckdb

    limits: dict[str, Any] = {}
    if spill:
        spill.mkdir(parents=True, exist_ok=True)
        limits = {"memory_limit": "1GB", "temp_directory": str(spill / uuid4().hex), "threads": 2}
    connection = duckdb.connect(config=limits)
    if isinstance(place, StorePath):
        from obstore.fsspec import FsspecStore

        scheme: Any = place.root.partition("://")[0]
        connection.register_filesystem(FsspecStore(scheme))
    return connection


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

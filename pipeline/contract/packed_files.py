"""Reads files that are delivered packed: `.gz`, `.zst` or a `.zip` of one member. It needs no engine.

The name alone decides whether and how a file is packed. The size limits are checked while a file is unpacked, and
unpacked data is never written to disk.
"""

import errno
import gzip
import hashlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import DataError

CHUNK_BYTES = 1 << 20
MAX_BYTES = 50 << 30  # of one unpacked file
# A packed table has a fifth to a twentieth of its size. A small file with many repetitions may have much less.
MAX_RATIO = 200
RATIO_FREE_BYTES = 64 << 20  # up to this unpacked size every ratio is allowed
# Zstandard unpacks one byte to at most 32,768 bytes at once. This number of packed bytes needs at most 128 MB.
ZSTD_READ_BYTES = 4096

_DELIVER_AGAIN = "deliver it again with a new trigger"

_ENDINGS = {".gz": "gzip", ".zst": "zstd", ".zip": "zip"}
_FIRST_BYTES = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"PK\x03\x04": ".zip"}
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


class UnpackError(DataError):
    """The content of the file does not fit its name, is incomplete, or exceeds the limits."""


class _DamagedError(Exception):
    """The packed data breaks the rules of its format."""


@dataclass(frozen=True, kw_only=True)
class Digest:
    """SHA-256 and size of the content of a file and, for a packed file, of the file as it was delivered."""

    sha256: str = ""
    bytes: int = 0
    packed_sha256: str = ""
    packed_bytes: int = 0


def plain_name(name: str) -> str:
    """Returns a file name without the ending of its packing; feeds, dates and revisions are read from this name."""
    return name.rpartition(".")[0] if _packed_ending(name) else name


@contextmanager
def open_unpacked(path: Path, name: str) -> Iterator[BinaryIO]:
    """Opens the unpacked content of a file with the sender's `name`. Raises UnpackError, here or on reading."""
    with path.open("rb") as file, closing(unpack(file, name)) as content:
        yield content


def unpack(file: BinaryIO, name: str) -> BinaryIO:
    """Returns a stream of the unpacked content; `file` itself, if it is not packed.

    Raises UnpackError, here or on reading.
    """
    ending = _packed_ending(name)
    if not ending:
        _refuse_packed_content(file, name)
        return file
    return io.BufferedReader(_PieceStream(_unpack_within_limits(file, name, ending)), CHUNK_BYTES)


def digest(file: BinaryIO, name: str, heartbeat: Callable[[], None] = lambda: None) -> Digest:
    """Returns the hashes of an open file and of its content; calls `heartbeat` every megabyte. Raises UnpackError."""
    delivered, size = _hash(file, heartbeat)
    file.seek(0)
    content = unpack(file, name)
    if content is file:
        return Digest(sha256=delivered, bytes=size)
    with closing(content):
        sha256, unpacked_size = _hash(content, heartbeat)
    return Digest(sha256=sha256, bytes=unpacked_size, packed_sha256=delivered, packed_bytes=size)


def _hash(stream: BinaryIO, heartbeat: Callable[[], None]) -> tuple[str, int]:
    sha256 = hashlib.sha256()
    size = 0
    while chunk := stream.read(CHUNK_BYTES):
        sha256.update(chunk)
        size += len(chunk)
        heartbeat()
    return sha256.hexdigest(), size


def _packed_ending(name: str) -> str:
    stem, dot, last = name.rpartition(".")
    ending = (dot + last).lower()
    return ending if stem and ending in _ENDINGS else ""


def _refuse_packed_content(file: BinaryIO, name: str) -> None:
    first = file.read(4)
    file.seek(0)
    for magic, ending in _FIRST_BYTES.items():
        if first.startswith(magic):
            workbook = ", or a workbook: save it as CSV" if ending == ".zip" else ""
            kind = f"{_ENDINGS[ending]}{workbook}"
            raise UnpackError(f"{name}: the file is packed ({kind}); name it {name}{ending} and land a new trigger")


class _PieceStream(io.RawIOBase):
    """A readable stream over an iterator of non-empty pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _unpack_within_limits(file: BinaryIO, name: str, ending: str) -> Iterator[bytes]:
    kind = _ENDINGS[ending]
    total = 0
    packed_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    read_pieces = {"gzip": _gzip, "zstd": _zstd, "zip": _zip}[kind]
    try:
        for piece in read_pieces(file, name):
            total += len(piece)
            _check_size(name, total, packed_bytes)
            if piece:
                yield piece
    except EOFError:
        raise UnpackError(
            f"{name}: the {kind} data ends too early, so the file is truncated; {_DELIVER_AGAIN}"
        ) from None
    except _DamagedError as error:
        raise UnpackError(f"{name}: the {kind} data is damaged ({error}); {_DELIVER_AGAIN}") from None


def _check_size(name: str, total: int, packed_bytes: int) -> None:
    if total > MAX_BYTES:
        raise UnpackError(f"{name}: unpacked it is larger than {MAX_BYTES >> 30} GB; split it and land a new trigger")
    if total > max(RATIO_FREE_BYTES, MAX_RATIO * packed_bytes):
        raise UnpackError(
            f"{name}: unpacked it is more than {MAX_RATIO} times as large, as a table hardly is; "
            "deliver it unpacked with a new trigger"
        )


def _gzip(file: BinaryIO, _name: str) -> Iterator[bytes]:
    if not file.read(1):
        raise EOFError  # Python accepts a file without any data as a complete gzip file
    file.seek(0)
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            while piece := stream.read(CHUNK_BYTES):
                yield piece
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _DamagedError(_error_text(error)) from None


def _zstd(file: BinaryIO, _name: str) -> Iterator[bytes]:
    import zstandard  # rarely needed, and without it the daemon starts faster

    # The library's stream reader takes the end of the file for the end of the data. A frame knows better.
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        while packed := file.read(ZSTD_READ_BYTES):
            while packed:
                frame = zstandard.ZstdDecompressor().decompressobj() if frame.eof else frame
                yield frame.decompress(packed)
                packed = frame.unused_data
    except zstandard.ZstdError as error:
        raise _DamagedError(_error_text(error)) from None
    if not frame.eof:
        raise EOFError


def _zip(file: BinaryIO, name: str) -> Iterator[bytes]:
    # Wrong numbers inside of an archive cause many kinds of errors.
    try:
        with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive, name)) as stream:
            while piece := stream.read(CHUNK_BYTES):
                yield piece
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, LookupError, NotImplementedError) as error:
        raise _DamagedError(_error_text(error)) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to a position before the start of the file
            raise
        raise _DamagedError("it points to outside of itself") from None


def _only_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    # macOS adds the folder __MACOSX to every archive.
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        raise UnpackError(
            f"{name}: the zip archive holds {len(members) or 'no'} files; pack one file alone and land a new trigger"
        )
    [member] = members
    if member.flag_bits & _ENCRYPTED:
        raise UnpackError(f"{name}: the zip archive is encrypted; deliver it without a password, with a new trigger")
    if member.compress_type not in _ZIP_METHODS:
        raise UnpackError(
            f"{name}: the zip archive is packed by a method that is not read here; "
            "pack it with deflate and land a new trigger"
        )
    return member


def _error_text(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:1].lower() + text[1:])[:100]

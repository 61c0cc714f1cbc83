"""Files that are delivered packed, `.gz`, `.zst` or a `.zip` of one member: what counts is what is in them. No engine.

The name alone says whether and how a file is packed. Limits hold while it is unpacked, and nothing is ever written.
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
MOST_BYTES = 50 << 30
# Tables pack to a fifth or a twentieth; a small file that repeats itself may do better.
MOST_TIMES, FREE_BYTES = 200, 64 << 20
# Zstandard makes up to 32,768 bytes of one and hands out what it has made: this much, and it takes 128 MB at the worst.
ZSTD_FEED_BYTES = 4096

AGAIN = "deliver it again with a new trigger"

_ENDINGS = {".gz": "gzip", ".zst": "zstd", ".zip": "zip"}
_FIRST_BYTES = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"PK\x03\x04": ".zip"}
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


class UnpackError(DataError):
    """The file does not hold what its name says, whole and within the limits."""


class _DamagedError(Exception):
    """The packed data breaks its own rules."""


@dataclass(frozen=True, kw_only=True)
class Digest:
    """SHA-256 and size of what a file holds and, where it is packed, of the file as it was delivered."""

    sha256: str = ""
    bytes: int = 0
    packed_sha256: str = ""
    packed_bytes: int = 0


def plain_name(name: str) -> str:
    """Tells a name without the ending that says how the file is packed: feeds, dates and revisions are read from the rest."""
    return name.rpartition(".")[0] if _packed_as(name) else name


@contextmanager
def opened(path: Path, name: str) -> Iterator[BinaryIO]:
    """Opens a file for reading what it holds; `name` is the sender's. Raises UnpackError, here or while it is read."""
    with path.open("rb") as file, closing(unpacked(file, name)) as content:
        yield content


def unpacked(file: BinaryIO, name: str) -> BinaryIO:
    """Reads what an open file holds; a file that is not packed is told as it is. Raises UnpackError, here or while it is read."""
    ending = _packed_as(name)
    if not ending:
        _refuse_hidden(file, name)
        return file
    return io.BufferedReader(_Pieces(_checked(file, name, ending)), CHUNK_BYTES)


def digest(file: BinaryIO, name: str, pulse: Callable[[], None] = lambda: None) -> Digest:
    """Hashes an open file and what it holds; `pulse` is called every megabyte. Raises UnpackError."""
    delivered, size = _hashed(file, pulse)
    file.seek(0)
    content = unpacked(file, name)
    if content is file:
        return Digest(sha256=delivered, bytes=size)
    with closing(content):
        sha256, unpacked_size = _hashed(content, pulse)
    return Digest(sha256=sha256, bytes=unpacked_size, packed_sha256=delivered, packed_bytes=size)


def _hashed(stream: BinaryIO, pulse: Callable[[], None]) -> tuple[str, int]:
    sha256, size = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK_BYTES):
        sha256.update(chunk)
        size += len(chunk)
        pulse()
    return sha256.hexdigest(), size


def _packed_as(name: str) -> str:
    stem, dot, last = name.rpartition(".")
    ending = (dot + last).lower()
    return ending if stem and ending in _ENDINGS else ""


def _refuse_hidden(file: BinaryIO, name: str) -> None:
    first = file.read(4)
    file.seek(0)
    for magic, ending in _FIRST_BYTES.items():
        if first.startswith(magic):
            workbook = ", or a workbook: save it as CSV" if ending == ".zip" else ""
            raise UnpackError(
                f"{name}: the file is packed ({_ENDINGS[ending]}{workbook}); name it {name}{ending} and land a new trigger"
            )


class _Pieces(io.RawIOBase):
    """A stream of pieces, none of them empty."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _checked(file: BinaryIO, name: str, ending: str) -> Iterator[bytes]:
    kind, packed_bytes, total = _ENDINGS[ending], file.seek(0, os.SEEK_END), 0
    file.seek(0)
    unpack = {"gzip": _gzip, "zstd": _zstd, "zip": _zip}[kind]
    try:
        for piece in unpack(file, name):
            total += len(piece)
            _check_size(name, total, packed_bytes)
            if piece:
                yield piece
    except EOFError:
        raise UnpackError(f"{name}: the {kind} data ends too early, so the file is truncated; {AGAIN}") from None
    except _DamagedError as error:
        raise UnpackError(f"{name}: the {kind} data is damaged ({error}); {AGAIN}") from None


def _check_size(name: str, total: int, packed_bytes: int) -> None:
    if total > MOST_BYTES:
        raise UnpackError(f"{name}: unpacked it is larger than {MOST_BYTES >> 30} GB; split it and land a new trigger")
    if total > max(FREE_BYTES, MOST_TIMES * packed_bytes):
        raise UnpackError(
            f"{name}: unpacked it is more than {MOST_TIMES} times as large, as a table hardly is; deliver it unpacked with a new trigger"
        )


def _gzip(file: BinaryIO, _name: str) -> Iterator[bytes]:
    if not file.read(1):
        raise EOFError  # to Python no data at all is a whole gzip file
    file.seek(0)
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            while piece := stream.read(CHUNK_BYTES):
                yield piece
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _DamagedError(_told(error)) from None


def _zstd(file: BinaryIO, _name: str) -> Iterator[bytes]:
    import zstandard  # seldom needed, and the daemon starts sooner without it

    # Its own stream reader takes the end of the file for the end of the data, wherever that is: frames know better.
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        while packed := file.read(ZSTD_FEED_BYTES):
            while packed:
                frame = zstandard.ZstdDecompressor().decompressobj() if frame.eof else frame
                yield frame.decompress(packed)
                packed = frame.unused_data
    except zstandard.ZstdError as error:
        raise _DamagedError(_told(error)) from None
    if not frame.eof:
        raise EOFError


def _zip(file: BinaryIO, name: str) -> Iterator[bytes]:
    # What is wrong with an archive's own numbers shows in many ways.
    try:
        with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive, name)) as stream:
            while piece := stream.read(CHUNK_BYTES):
                yield piece
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, LookupError, NotImplementedError) as error:
        raise _DamagedError(_told(error)) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to before the file
            raise
        raise _DamagedError("it points to outside of itself") from None


def _only_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    # A Mac puts a folder of its own beside what it packs.
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
            f"{name}: the zip archive is packed by a method that is not read here; pack it with deflate and land a new trigger"
        )
    return member


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:1].lower() + text[1:])[:100]

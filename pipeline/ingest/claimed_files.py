"""Reads claimed files, and proves that the bytes that were read are the bytes that were claimed.

A file is opened by its path. A user who may write to the folder above the claim could exchange the file for a while,
and checks before and after would not notice. So the bytes that become rows are hashed while they are read.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.contract import OrderFile
from pipeline.contract.packed_files import CHUNK_BYTES, UnpackError, open_unpacked
from pipeline.errors import ClaimChanged, DataError


@contextmanager
def open_claimed(file: OrderFile) -> Iterator[BinaryIO]:
    """Opens the content of a claimed file for one reading from its start, within a `with` block.

    Raises ClaimChanged at the end of the block where the content is not the claimed one. ClaimChanged then replaces a
    DataError, because the sender cannot correct a file that another user exchanged.
    """
    with open_unpacked(Path(file.path), file.name) as content:
        hashing = _HashingReader(content)
        try:
            yield hashing  # type: ignore[misc]  # the reader of records calls `read` only
        except UnpackError:
            raise  # the rest cannot be read for a hash, and no row of the file reaches a table
        except DataError as error:
            if hashing.digest_of_all() != file.sha256:
                raise _change_error(file) from error
            raise
        if hashing.digest_of_all() != file.sha256:
            raise _change_error(file)


class _HashingReader(io.RawIOBase):
    """Reads from a file and hashes every byte that it returns."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content
        self._sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._content.read(size)
        self._sha256.update(data)
        return data

    def digest_of_all(self) -> str:
        """Reads the rest of the file, and returns the SHA-256 of the whole file."""
        while self.read(CHUNK_BYTES):
            pass
        return self._sha256.hexdigest()


def _change_error(file: OrderFile) -> ClaimChanged:
    return ClaimChanged(f"{file.name}: what was read is not what was claimed; the attempt is void")

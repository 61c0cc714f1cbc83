"""Reads claimed files, and proves that what was read is what was claimed.

A file is reached by its path, and a user who may write to the folder above the claim could have it lead elsewhere for
a while. That the file is right before and after is not enough: the bytes that become rows are hashed as they are read.
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
def claimed(file: OrderFile) -> Iterator[BinaryIO]:
    """Opens what a claimed file holds, to be read once from its start.

    Raises ClaimChanged in the end where what was read is not what was claimed, and then also instead of a DataError:
    what is wrong with a forgery is not for the sender to mend.
    """
    with open_unpacked(Path(file.path), file.name) as content:
        reading = _Hashing(content)
        try:
            yield reading  # type: ignore[misc]  # records are read by `read` alone
        except UnpackError:
            raise  # its rest cannot be read; nothing of it reaches a table
        except DataError as error:
            if reading.whole() != file.sha256:
                raise _changed(file) from error
            raise
        if reading.whole() != file.sha256:
            raise _changed(file)


class _Hashing(io.RawIOBase):
    """Hashes all that is read."""

    def __init__(self, content: BinaryIO) -> None:
        self._content, self._sha256 = content, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._content.read(size)
        self._sha256.update(data)
        return data

    def whole(self) -> str:
        """The hash of all there is, read or not."""
        while self.read(CHUNK_BYTES):
            pass
        return self._sha256.hexdigest()


def _changed(file: OrderFile) -> ClaimChanged:
    return ClaimChanged(f"{file.name}: what was read is not what was claimed; the attempt is void")

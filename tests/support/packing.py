"""Packs content as senders do: gzip, Zstandard, zip."""

import gzip
import io
import zipfile
from collections.abc import Mapping

import zstandard

ENDINGS = ("", ".gz", ".zst", ".zip")


def packed(content: bytes, ending: str) -> bytes:
    """Returns the bytes of a file with this ending and content."""
    match ending:
        case ".gz":
            return gzip.compress(content)
        case ".zst":
            return zstandard.ZstdCompressor().compress(content)
        case ".zip":
            return zipped({"inside.csv": content})
        case _:
            return content


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns a zip archive of these members; a name with a final slash is a folder."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return written.getvalue()

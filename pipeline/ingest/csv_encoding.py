"""Reads the bytes of a delivered CSV file as UTF-8 blocks, and refuses a file of another encoding than declared."""

import codecs
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from pipeline.errors import DataError

SAMPLE_BYTES = 4096  # of a file's start: enough to see whether its characters have one or two bytes
ADVICE = "correct the file and land a new trigger"

_BOM = b"\xef\xbb\xbf"


def read_utf_8(file: BinaryIO, name: str, block_bytes: int, encoding: str) -> Iterator[bytes]:
    """Yields a file's blocks in UTF-8, without a byte order mark. Raises DataError for another encoding.

    Where the declared encoding is UTF-8 itself, the blocks are not checked yet: `check_utf_8` does that line by line.
    """
    start = file.read(SAMPLE_BYTES)
    is_utf_8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    if start.startswith(_BOM) and not is_utf_8:
        raise DataError(f"{name}: the file is marked as UTF-8, not {encoding}; set encoding, or {ADVICE}")
    _check_width(start, name, encoding)
    blocks = _read_blocks(start.removeprefix(_BOM), file, block_bytes)
    yield from blocks if is_utf_8 else _decode(blocks, name, encoding)


def _read_blocks(start: bytes, file: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    for at in range(0, len(start), block_bytes):
        yield start[at : at + block_bytes]
    while block := file.read(block_bytes):
        yield block


def _check_width(start: bytes, name: str, encoding: str) -> None:
    """Raises DataError where the file has characters of two bytes and the encoding has not, or the reverse.

    A zero byte is valid in UTF-8 and in most other encodings. Without this check the message would name a wrong header.
    """
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        if b"\0" not in start and b"\n" in start and _is_utf_8(start):
            raise DataError(
                f"{name}: the file is UTF-8, not {encoding}: it has no zero byte; set encoding, or {ADVICE}"
            )
        return
    header = start.partition(b"\n")[0]
    # In UTF-16 a Latin letter is one byte of its own and one zero byte.
    little = header[1::2].count(0)
    big = header[::2].count(0)
    if little != big and not start.startswith((b"\xff\xfe", b"\xfe\xff")):
        likely = "utf-16-le" if little > big else "utf-16-be"
        unlike = f"the file is UTF-16 without a byte order mark, not {encoding}"
        raise DataError(f"{name}: {unlike}; set encoding to {likely}, or {ADVICE}")


def _is_utf_8(start: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def _decode(blocks: Iterator[bytes], name: str, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    detector = _Utf8Detector(encoding)
    at_start = True
    lines_before = 0
    for block in chain(blocks, (b"",)):  # an empty one is the end
        detector.add(block)
        state = decoder.getstate()
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as wrong:
            decoder.setstate(state)
            before = decoder.decode(block[: max(0, wrong.start + len(block) - len(wrong.object))])
            line = lines_before + before.count("\n") + 1
            raise DataError(
                f"{name}: line {line} is not {encoding} (byte 0x{wrong.object[wrong.start]:02x}); "
                f"set encoding, or {ADVICE}"
            ) from None
        # Half a surrogate pair passes here. `check_utf_8` reports it like any other wrong byte.
        yield (text.removeprefix("\ufeff") if at_start else text).encode(errors="surrogatepass")
        at_start = at_start and not text
        lines_before += text.count("\n")
    if detector.is_utf_8:
        raise DataError(
            f"{name}: every letter beyond ASCII is UTF-8, and none would make sense in {encoding}; "
            f"set encoding, or {ADVICE}"
        )


class _Utf8Detector:
    """Finds out whether a file is UTF-8 although its feed declares an encoding in which every byte is valid.

    Without this check each umlaut would silently become two characters.
    """

    def __init__(self, encoding: str) -> None:
        takes_any_byte = len(bytes(range(256)).decode(encoding, "replace")) == 256
        self._decoder = codecs.getincrementaldecoder("utf-8")() if takes_any_byte else None
        self._beyond_ascii = False

    def add(self, block: bytes) -> None:
        """Looks at the next block. An empty block ends the file."""
        if self._decoder and not (block and block.isascii() and self._decoder.getstate() == (b"", 0)):
            try:
                self._beyond_ascii |= not self._decoder.decode(block, final=not block).isascii()
            except UnicodeDecodeError:
                self._decoder = None

    @property
    def is_utf_8(self) -> bool:
        return self._decoder is not None and self._beyond_ascii


def check_utf_8(data: bytes, name: str, lines_before: int) -> None:
    """Raises DataError where a block of whole lines is not UTF-8; the message names the line."""
    if data.isascii():
        return
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as wrong:
        line = lines_before + data.count(b"\n", 0, wrong.start) + 1
        byte = data[wrong.start : wrong.start + 1]
        likely = byte.decode("cp1252", "replace")
        hint = f"; in cp1252 it is {likely}: set encoding, or " if likely.isalpha() else "; "
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            hint = ", it looks like UTF-16: set encoding, or "
        raise DataError(f"{name}: line {line} is not UTF-8 (byte 0x{byte.hex()}){hint}{ADVICE}") from None

"""Finds, in keys, signs that nobody sees: with them two keys look alike and are two. Shows them in texts."""

import re
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NOT_NFC, BLANK = "not_NFC", "U+0020"

# Control and format signs, fillers, and every space but the plain one and, within a text, the ideographic one.
UNSEEN = (
    "\x00-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_BLANKS = " \u3000"
_NOT_PLAIN = r"\A | \z|[^ -~]"
_UNSEEN = re.compile(f"[{UNSEEN}]")
_AROUND = re.compile(rf"\A[{_BLANKS}]|[{_BLANKS}]\Z")


def odd_keys(text: Any, *, blanks_around: bool) -> Any:
    """Names, for each value of a string array, its first odd sign as `U+200B`, or `not_NFC`; null where there is none.

    A normal form other than NFC is odd, and so are blanks at the ends with `blanks_around`.
    """
    if _is_plain(text):
        return pa.nulls(len(text), pa.string())
    matched = pc.fill_null(pc.match_substring_regex(text, _NOT_PLAIN), fill_value=False)
    rows = np.flatnonzero(matched.to_numpy(zero_copy_only=False))
    some = text.take(pa.array(rows))
    is_odd = pc.or_(
        pc.match_substring_regex(some, rf"[{UNSEEN}]|\A[{_BLANKS}]|[{_BLANKS}]\z"),
        pc.not_equal(pc.utf8_normalize(some, "NFC"), some),
    ).to_numpy(zero_copy_only=False)
    found = np.full(len(text), None, dtype=object)
    odd = some.filter(pa.array(is_odd)).to_pylist()
    found[rows[is_odd]] = [_odd_sign(value, blanks_around=blanks_around) for value in odd]
    return pa.array(found, pa.string())


def _is_plain(text: Any) -> bool:
    # As a rule keys are letters, digits and dashes: one look at the bytes of all of them.
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    signs = np.frombuffer(data or b"", np.uint8)[bounds[0] : bounds[-1]]
    return not bool(((signs <= ord(" ")) | (signs > ord("~"))).any())


def _odd_sign(value: str, *, blanks_around: bool) -> str | None:
    if sign := _UNSEEN.search(value) or (blanks_around and _AROUND.search(value)):
        return f"U+{ord(sign[0]):04X}"
    return None if unicodedata.is_normalized("NFC", value) else NOT_NFC


def describe_sign(sign: str) -> str:
    """Describes, for the person who looks for it, what `odd_keys` named."""
    if sign == NOT_NFC:
        return "a key is in the Unicode normal form NFC"
    name = unicodedata.name(chr(int(sign.removeprefix("U+"), 16)), "CONTROL SIGN")
    return f"a key holds no {name.lower()} ({sign}){' at its ends' if sign in (BLANK, 'U+3000') else ''}"


def shown(text: str) -> str:
    """Writes a text with invisible signs, and with marks that NFC melts into the letter before them, as `\\u200b`."""
    is_nfc = unicodedata.is_normalized("NFC", text)
    return "".join(_shown(sign, marks=not is_nfc) for sign in text)


def _shown(sign: str, *, marks: bool) -> str:
    is_unseen = _UNSEEN.match(sign) or (marks and unicodedata.combining(sign))
    return sign.encode("unicode_escape").decode() if is_unseen else sign
